/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prctl(), and syscall() as syscall_x86_64.S sends it here: from the moment that the program limits
 * its system calls, Berth makes none but those of any malloc (alloc/sandbox.h). All else is done as
 * the C library does it.
 *
 * Before that Berth's own threads end: a filter for all threads would kill the program for what
 * they do, and one for the program's thread alone would leave a thread in its sandbox that nothing
 * limits.
 */
#include "alloc/sandbox.h"
#include "alloc/thread.h"
#include "hooks/alone.h"
#include "ipc/control.h"
#include "pmem/overcommit.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* libberth.so's, when that is preloaded. */
#pragma weak berth__control_wanted
#pragma weak berth__control_unwanted

/* Not by syscall(), which comes here. */
static long kernel_call(long number, const unsigned long a[5])
{
#ifdef __x86_64__
    register unsigned long fourth __asm__("r10") = a[3];
    register unsigned long fifth __asm__("r8") = a[4];
    long r;

    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(fourth), "r"(fifth)
                     : "rcx", "r11", "memory");
    if (r < 0 && r >= -4095) {
        errno = (int)-r;
        r = -1;
    }
    return r;
#else
    return syscall(number, a[0], a[1], a[2], a[3], a[4]);
#endif
}

/* Ends Berth's threads; whether there were any. */
static bool end_threads(void)
{
    return &berth__control_unwanted && berth__control_unwanted && berth__control_unwanted();
}

static void start_threads(bool were_there)
{
    int saved_errno = errno;

    if (were_there)
        berth__control_wanted();
    errno = saved_errno;
}

/* Programs find out by a filter at no address whether the kernel knows filters. */
static bool is_question(long number, const unsigned long a[5])
{
    return number == SYS_prctl ? a[1] == SECCOMP_MODE_FILTER && a[2] == 0
                               : a[0] == SECCOMP_SET_MODE_FILTER && a[2] == 0;
}

/* The thread may do nothing any more but read, write and end. */
static bool is_strict(long number, const unsigned long a[5])
{
    return number == SYS_prctl ? a[1] == SECCOMP_MODE_STRICT : a[0] == SECCOMP_SET_MODE_STRICT;
}

/* What is decided and noted of a block needs memory now and then, of which there is no more. */
static void stay_plain(void)
{
    berth__thread.inside++;
}

static long limit_calls(long number, const unsigned long a[5])
{
    bool was_there = !is_question(number, a) && end_threads();
    long r;

    /* It cannot be asked in the sandbox (pmem/keep_errno.c). */
    berth__overcommit_is_strict();
    berth__sandbox_enter();
    r = kernel_call(number, a);
    if (r == 0 && is_strict(number, a))
        stay_plain();
    /* Otherwise what the answer means is the kernel's matter: 0, or a descriptor to listen on. */
    if (r < 0) {
        berth__sandbox_leave();
        start_threads(was_there);
    }
    return r;
}

/* For unshare() and setns(), which the C library's functions of these names are in credentials.c.
 */
static bool is_for_one(long number, const unsigned long a[5])
{
    return (number == SYS_unshare && berth__alone_in_unshare((int)a[0])) ||
           (number == SYS_setns && berth__alone_in_setns((int)a[1]));
}

static long call_alone(long number, const unsigned long a[5])
{
    bool was_there = end_threads();
    long r = kernel_call(number, a);

    start_threads(was_there);
    return r;
}

static bool is_limit(long number, const unsigned long a[5])
{
    if (number == SYS_prctl)
        return a[0] == PR_SET_SECCOMP;
    return number == SYS_seccomp &&
           (a[0] == SECCOMP_SET_MODE_FILTER || a[0] == SECCOMP_SET_MODE_STRICT);
}

__attribute__((visibility("hidden"))) long
berth__seccomp_syscall(long number, unsigned long a0, unsigned long a1, unsigned long a2,
                       unsigned long a3, unsigned long a4);

long berth__seccomp_syscall(long number, unsigned long a0, unsigned long a1, unsigned long a2,
                            unsigned long a3, unsigned long a4)
{
    const unsigned long a[5] = {a0, a1, a2, a3, a4};

    if (is_for_one(number, a))
        return call_alone(number, a);
    return is_limit(number, a) ? limit_calls(number, a) : kernel_call(number, a);
}

BERTH_EXPORT int prctl(int option, ...)
{
    unsigned long a[5] = {(unsigned long)option};
    va_list list;

    va_start(list, option);
    for (int i = 1; i < 5; i++)
        a[i] = va_arg(list, unsigned long);
    va_end(list);
    return (int)(is_limit(SYS_prctl, a) ? limit_calls(SYS_prctl, a) : kernel_call(SYS_prctl, a));
}
