/* SPDX-License-Identifier: Apache-2.0 */
/* Which kinds of namespaces the kernel refuses to a process of several threads. */
#ifndef BERTH_HOOKS_ALONE_H
#define BERTH_HOOKS_ALONE_H

#include <sched.h>
#include <stdbool.h>

/* What unshare() refuses to several threads, and what setns() does not. */
#define BERTH_ALONE_IN_UNSHARE (CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM)
#define BERTH_SHARED_IN_SETNS                                                                      \
    (CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWCGROUP)

static inline bool berth__alone_in_unshare(int flags)
{
    return (flags & BERTH_ALONE_IN_UNSHARE) != 0;
}

static inline bool berth__alone_in_setns(int type)
{
    return type == 0 || (type & ~BERTH_SHARED_IN_SETNS) != 0;
}

#endif
