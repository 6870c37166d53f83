/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs every check, or those that are named, each in a child; prints "ok NAME" or "FAILED NAME",
 * and "N checks ran" at the end; exits 1 if one failed.
 *
 * It may be copied elsewhere together with what lies in its folder.
 */
#include "check.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

/* A check that takes longer hangs. */
#define CHECK_SECONDS 120

static bool wanted(const char *name, int count, char **names)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return count == 0;
}

static bool run(const struct check *check)
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        alarm(CHECK_SECONDS);
        check->run();
        _exit(0);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        dprintf(1, "ok %s\n", check->name);
        return true;
    }
    dprintf(1, "FAILED %s (status 0x%x)\n", check->name, (unsigned)status);
    return false;
}

int main(int argc, char **argv)
{
    const struct check *const lists[] = {
        basic_checks, family_checks, align_checks,   fork_checks,    thread_checks,
        load_checks,  je_checks,     finding_checks, hostile_checks, process_checks};
    int failed = 0, ran = 0;

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        for (const struct check *check = lists[i]; check->name; check++) {
            if (!wanted(check->name, argc - 1, argv + 1))
                continue;
            ran++;
            failed += !run(check);
        }
    dprintf(1, "%d checks ran\n", ran);
    return failed ? 1 : 0;
}
