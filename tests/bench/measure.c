/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For interleave.py: runs a command and tells what it cost.
 *
 * usage: measure FILE COMMAND [ARGUMENT]...
 *
 * Writes to FILE: user and system seconds, the peak of resident memory in KiB, and page faults that
 * read no disk. A process that Python starts counts the interpreter's own peak as its own, because
 * the kernel keeps the peak across exec; a child of this small one does not.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static double seconds(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
    struct rusage usage;
    FILE *file;
    pid_t child;
    int status;

    if (argc < 3) {
        fprintf(stderr, "usage: measure FILE COMMAND [ARGUMENT]...\n");
        return 2;
    }
    child = fork();
    if (child == 0) {
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &usage) != child) {
        perror("measure");
        return 2;
    }
    file = fopen(argv[1], "w");
    if (!file ||
        fprintf(file, "%.6f %.6f %ld %ld\n", seconds(usage.ru_utime), seconds(usage.ru_stime),
                usage.ru_maxrss, usage.ru_minflt) < 0 ||
        fclose(file) != 0) {
        perror(argv[1]);
        return 2;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
