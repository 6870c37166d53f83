/* SPDX-License-Identifier: Apache-2.0 */
/* A library that allocates and forks in its constructor, before those of the preload libraries have
 * run. */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

void *early_block[4];
size_t early_size(int i);
int early_child = -1; /* the wait status of a child that _Fork() made */

size_t early_size(int i)
{
    static const size_t sizes[] = {24, 3000, 70000, 1 << 20};

    return sizes[i];
}

__attribute__((constructor)) static void allocate(void)
{
    pid_t pid;

    for (unsigned k = 0; k < 4; k++) {
        unsigned char *bytes = malloc(early_size((int)k));

        early_block[k] = bytes;
        for (size_t i = 0; bytes && i < early_size((int)k); i++)
            bytes[i] = (unsigned char)(k * 31 + i * 7 + (i >> 12));
    }
    pid = _Fork();
    if (pid == 0)
        _exit(3);
    if (pid > 0)
        waitpid(pid, &early_child, 0);
}
