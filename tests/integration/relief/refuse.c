/* SPDX-License-Identifier: Apache-2.0 */
#include "refuse.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What is to go back; end 0: nothing is refused. */
static _Atomic uintptr_t awaited, awaited_end;
static atomic_bool has_come, was_taken;
static atomic_uint refusals;
/* Whoever else has some of it go back was given it, as zeros: a thread of Berth's that begins. */
static __thread bool awaits;

void refuse_until(const void *p, size_t size)
{
    atomic_store(&refusals, 0);
    atomic_store(&has_come, false);
    atomic_store(&was_taken, false);
    awaits = true;
    atomic_store(&awaited, (uintptr_t)p);
    atomic_store(&awaited_end, (uintptr_t)p + size);
}

struct refuse_outcome refuse_end(void)
{
    atomic_store(&awaited_end, 0);
    awaits = false;
    return (struct refuse_outcome){.refusals = atomic_load(&refusals),
                                   .has_come = atomic_load(&has_come),
                                   .was_taken = atomic_load(&was_taken)};
}

bool refuse_has_come(void)
{
    return atomic_load(&has_come);
}

bool refuse_this(void)
{
    if (atomic_load(&awaited_end) == 0 || atomic_load(&has_come))
        return false;
    atomic_fetch_add(&refusals, 1);
    errno = ENOMEM;
    return true;
}

static void see_back(const void *p, size_t size)
{
    uintptr_t start = (uintptr_t)p;

    if (start < atomic_load(&awaited_end) && start + size > atomic_load(&awaited))
        atomic_store(awaits ? &has_come : &was_taken, true);
}

void *mmap(void *p, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (flags & MAP_FIXED)
        see_back(p, size);
    else if (refuse_this())
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, p, size, protection, flags, fd, offset);
}

/* Where jemalloc looks when mmap() has nothing. */
void *sbrk(intptr_t more)
{
    uintptr_t now = (uintptr_t)syscall(SYS_brk, 0);

    if (more != 0 && refuse_this())
        return (void *)-1;
    if (more != 0 && (uintptr_t)syscall(SYS_brk, now + (uintptr_t)more) != now + (uintptr_t)more) {
        errno = ENOMEM;
        return (void *)-1;
    }
    return (void *)now;
}

int munmap(void *p, size_t size)
{
    see_back(p, size);
    return (int)syscall(SYS_munmap, p, size);
}

int madvise(void *p, size_t size, int advice)
{
    if (advice == MADV_DONTNEED || advice == MADV_REMOVE)
        see_back(p, size);
    return (int)syscall(SYS_madvise, p, size, advice);
}

int mprotect(void *p, size_t size, int protection)
{
    if ((protection & PROT_WRITE) && refuse_this())
        return -1;
    return (int)syscall(SYS_mprotect, p, size, protection);
}
