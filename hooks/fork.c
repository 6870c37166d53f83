/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork(): the only place where a fork can still be refused. vfork(), posix_spawn(), clone() and
 * _Fork() run no handlers and are meant for an exec; they stay the C library's, and their children
 * share the file tiers.
 */
#include "pmem/fork.h"

#include <errno.h>
#include <unistd.h>

/* The C library's own name for fork(). */
extern pid_t __fork(void);

BERTH_EXPORT pid_t fork(void)
{
    struct berth_fork attempt;
    pid_t pid;

    if (berth__fork_begin(&attempt) < 0) {
        errno = ENOMEM;
        return -1;
    }
    pid = __fork();
    if (berth__fork_end(&attempt, pid) < 0) {
        errno = ENOMEM;
        return -1;
    }
    return pid;
}
