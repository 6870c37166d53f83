/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/readable.h"

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/*
 * Whether valgrind runs the program, which finds fault with signal sets of bytes that nobody wrote:
 * its client request RUNNING_ON_VALGRIND, rotations by 128 bits in all that change nothing
 * elsewhere (valgrind's manual, "The Client Request mechanism").
 */
static bool in_valgrind(void)
{
#ifdef __x86_64__
    const uint64_t request[6] = {0x1001};
    uint64_t answer = 0;

    __asm__ volatile("rolq $3, %%rdi; rolq $13, %%rdi; rolq $61, %%rdi; rolq $51, %%rdi\n\t"
                     "xchgq %%rbx, %%rbx"
                     : "+d"(answer)
                     : "a"(request)
                     : "cc", "memory");
    return answer != 0;
#else
    return false;
#endif
}

/* A copy within the process is slower, and a sandbox may refuse it, but valgrind lets it pass. */
static bool can_be_copied(uintptr_t address)
{
    uint64_t word;
    struct iovec here = {.iov_base = &word, .iov_len = sizeof(word)};
    struct iovec there = {.iov_base = (void *)address, .iov_len = sizeof(word)};

    return syscall(SYS_process_vm_readv, getpid(), &here, 1, &there, 1, 0) == sizeof(word);
}

/*
 * The kernel copies the signal set before it looks at the (impossible) request, and then answers
 * EFAULT or EINVAL; nothing is changed.
 */
bool berth__is_readable(const void *address)
{
    uintptr_t aligned = (uintptr_t)address & ~(uintptr_t)7;
    int saved_errno = errno;
    bool is;

    if (in_valgrind())
        is = can_be_copied(aligned);
    else
        is = syscall(SYS_rt_sigprocmask, ~0, aligned, NULL, 8) < 0 && errno != EFAULT;
    errno = saved_errno;
    return is;
}
