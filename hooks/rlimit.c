/* SPDX-License-Identifier: Apache-2.0 */
/*
 * setrlimit() and its relatives: a program that limits its own address space counts on what it has
 * mapped itself, and Berth's reservation would be over any limit. It makes room first. A limit that
 * comes from outside (prlimit(1) on a running process) is seen where memory cannot be had
 * (pmem/relief.h). Likewise mlockall() under a limit for locked memory, which the kernel compares
 * with all addresses, reserved ones too.
 */
/* Each name has the structure of its own width here, and is not renamed to the other. */
#undef _FILE_OFFSET_BITS
#include "pmem/overcommit.h"
#include "pmem/window.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

_Static_assert(sizeof(struct rlimit) == sizeof(struct rlimit64), "limits have 64 bits");

/* The system call sets errno as the C library's functions do. */
static int limit_change(pid_t pid, int resource, const struct rlimit64 *to, struct rlimit64 *before)
{
    int r = (int)syscall(SYS_prlimit64, pid, resource, to, before);

    /* A child that limits itself before its exec (vfork(2)) has nothing of its own to give up. */
    if (r != 0 || !to || (resource != RLIMIT_AS && resource != RLIMIT_DATA) ||
        (pid != 0 && pid != getpid()) || !berth__overcommit_is_owner())
        return r;
    if (resource == RLIMIT_AS && to->rlim_cur != RLIM64_INFINITY)
        berth__window_limit(to->rlim_cur);
    berth__overcommit_see_limits();
    return r;
}

BERTH_EXPORT int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
    return limit_change(0, (int)resource, (const struct rlimit64 *)limit, NULL);
}

BERTH_EXPORT int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit)
{
    return limit_change(0, (int)resource, limit, NULL);
}

BERTH_EXPORT int prlimit(pid_t pid, enum __rlimit_resource resource, const struct rlimit *limit,
                         struct rlimit *before)
{
    return limit_change(pid, (int)resource, (const struct rlimit64 *)limit,
                        (struct rlimit64 *)before);
}

BERTH_EXPORT int prlimit64(pid_t pid, enum __rlimit_resource resource, const struct rlimit64 *limit,
                           struct rlimit64 *before)
{
    return limit_change(pid, (int)resource, limit, before);
}

static int lock_all(int flags)
{
    int saved_errno, r;

    /* Nothing that nobody uses is to be locked. */
    berth__overcommit_release();
    r = (int)syscall(SYS_mlockall, flags);
    if (r == 0)
        berth__overcommit_see_lock((flags & MCL_FUTURE) != 0);
    saved_errno = errno;
    berth__overcommit_reserve();
    errno = saved_errno;
    return r;
}

BERTH_EXPORT int mlockall(int flags)
{
    int r = lock_all(flags);
    struct rlimit64 limit;

    if (r == 0 || errno != ENOMEM || syscall(SYS_prlimit64, 0, RLIMIT_MEMLOCK, NULL, &limit) != 0 ||
        limit.rlim_cur == RLIM64_INFINITY)
        return r;
    berth__window_limit(limit.rlim_cur);
    return lock_all(flags);
}
