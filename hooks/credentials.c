/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that a program of one thread makes without a thought, and that Berth's two threads would be
 * in the way of; they end for the call (ipc/control.h).
 *
 * setuid() and its relatives: the C library has each thread do them, and aborts where the answers
 * differ, as they do where the program's own thread alone has kept rights
 * (capset(2), PR_SET_KEEPCAPS). unshare() and setns(): the kernel refuses some kinds of namespaces
 * to a process of several threads.
 */
#include "alloc/device.h"
#include "alloc/options.h"
#include "hooks/real_module.h"
#include "ipc/control.h"

#include <errno.h>
#include <grp.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What unshare() refuses to several threads, and what setns() does not. */
#define ALONE_IN_UNSHARE (CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM)
#define SHARED_IN_SETNS                                                                            \
    (CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWCGROUP)

/* Where nothing else would: a process that uses CUDA, or was told always to have a socket. */
static void start_again(bool was_there)
{
    int saved_errno = errno;

    if (was_there && (atomic_load(&berth__device_is_initialised) ||
                      berth__option(BERTH_OPTION_CONTROL) == BERTH_CONTROL_ALWAYS))
        berth__control_start();
    errno = saved_errno;
}

static void *find(_Atomic(void *) *found, const char *name)
{
    void *next = atomic_load_explicit(found, memory_order_relaxed);

    if (!next) {
        next = berth__real_module_next_own(name);
        atomic_store_explicit(found, next, memory_order_relaxed);
    }
    return next;
}

/* The C library's, or those of another library that comes after this one. */
#define CREDENTIAL(name, parameters, arguments)                                                    \
    BERTH_EXPORT int name parameters                                                               \
    {                                                                                              \
        static _Atomic(void *) found;                                                              \
        int(*next) parameters;                                                                     \
        bool was_there;                                                                            \
        int r;                                                                                     \
                                                                                                   \
        *(void **)&next = find(&found, #name);                                                     \
        if (!next) {                                                                               \
            errno = ENOSYS;                                                                        \
            return -1;                                                                             \
        }                                                                                          \
        was_there = berth__control_pause();                                                        \
        r = next arguments;                                                                        \
        start_again(was_there);                                                                    \
        return r;                                                                                  \
    }

CREDENTIAL(setuid, (uid_t user), (user))
CREDENTIAL(setgid, (gid_t group), (group))
CREDENTIAL(seteuid, (uid_t effective), (effective))
CREDENTIAL(setegid, (gid_t effective), (effective))
CREDENTIAL(setreuid, (uid_t real, uid_t effective), (real, effective))
CREDENTIAL(setregid, (gid_t real, gid_t effective), (real, effective))
CREDENTIAL(setresuid, (uid_t real, uid_t effective, uid_t saved), (real, effective, saved))
CREDENTIAL(setresgid, (gid_t real, gid_t effective, gid_t saved), (real, effective, saved))
CREDENTIAL(setgroups, (size_t count, const gid_t *groups), (count, groups))
CREDENTIAL(initgroups, (const char *user, gid_t group), (user, group))

BERTH_EXPORT int unshare(int flags)
{
    bool was_there = (flags & ALONE_IN_UNSHARE) && berth__control_pause();
    int r = (int)syscall(SYS_unshare, flags);

    start_again(was_there);
    return r;
}

BERTH_EXPORT int setns(int fd, int type)
{
    bool was_there = (type == 0 || (type & ~SHARED_IN_SETNS)) && berth__control_pause();
    int r = (int)syscall(SYS_setns, fd, type);

    start_again(was_there);
    return r;
}
