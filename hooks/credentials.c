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
#include "hooks/alone.h"
#include "hooks/real_module.h"
#include "ipc/control.h"

#include <errno.h>
#include <grp.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Where nothing else would: a process that uses CUDA, or was told always to have a socket. */
static void start_again(bool was_there)
{
    int saved_errno = errno;

    if (was_there && (atomic_load(&berth__device_is_initialised) ||
                      berth__option(BERTH_OPTION_CONTROL) == BERTH_CONTROL_ALWAYS))
        berth__control_start();
    errno = saved_errno;
}

/* X(name, parameters, arguments): the C library's functions of unistd.h and grp.h. */
#define CREDENTIALS(X)                                                                             \
    X(setuid, (uid_t user), (user))                                                                \
    X(setgid, (gid_t group), (group))                                                              \
    X(seteuid, (uid_t effective), (effective))                                                     \
    X(setegid, (gid_t effective), (effective))                                                     \
    X(setreuid, (uid_t real, uid_t effective), (real, effective))                                  \
    X(setregid, (gid_t real, gid_t effective), (real, effective))                                  \
    X(setresuid, (uid_t real, uid_t effective, uid_t saved), (real, effective, saved))             \
    X(setresgid, (gid_t real, gid_t effective, gid_t saved), (real, effective, saved))             \
    X(setgroups, (size_t count, const gid_t *groups), (count, groups))                             \
    X(initgroups, (const char *user, gid_t group), (user, group))

/* The C library's, or those of another library that comes after this one. */
static struct {
#define X(name, parameters, arguments) _Atomic(void *) name;
    CREDENTIALS(X)
#undef X
} next;

static void *find(_Atomic(void *) *found, const char *name)
{
    void *function = atomic_load_explicit(found, memory_order_relaxed);

    if (!function) {
        function = berth__real_module_next_own(name);
        atomic_store_explicit(found, function, memory_order_relaxed);
    }
    return function;
}

/*
 * These calls are made in forked children, too, where the loader's list may be locked for ever, and
 * in signal handlers. Another library's constructor may call before this one has run.
 */
__attribute__((constructor)) static void find_all(void)
{
#define X(name, parameters, arguments) find(&next.name, #name);
    CREDENTIALS(X)
#undef X
}

#define X(name, parameters, arguments)                                                             \
    BERTH_EXPORT int name parameters                                                               \
    {                                                                                              \
        int(*function) parameters;                                                                 \
        bool was_there;                                                                            \
        int r;                                                                                     \
                                                                                                   \
        *(void **)&function = find(&next.name, #name);                                             \
        if (!function) {                                                                           \
            errno = ENOSYS;                                                                        \
            return -1;                                                                             \
        }                                                                                          \
        was_there = berth__control_pause();                                                        \
        r = function arguments;                                                                    \
        start_again(was_there);                                                                    \
        return r;                                                                                  \
    }
CREDENTIALS(X)
#undef X

BERTH_EXPORT int unshare(int flags)
{
    bool was_there = berth__alone_in_unshare(flags) && berth__control_pause();
    int r = (int)syscall(SYS_unshare, flags);

    start_again(was_there);
    return r;
}

BERTH_EXPORT int setns(int fd, int type)
{
    bool was_there = berth__alone_in_setns(type) && berth__control_pause();
    int r = (int)syscall(SYS_setns, fd, type);

    start_again(was_there);
    return r;
}
