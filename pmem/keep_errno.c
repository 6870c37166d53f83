/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory calls that jemalloc makes while it frees a block. They may fail without harm (a page
 * that cannot be purged is simply kept), but free() must leave errno alone (glibc 2.33 promises
 * it), and saving errno in free() itself would cost every call. jemalloc's calls arrive here
 * because pmem/embed_jemalloc.sh renames them; jemalloc looks only at their results.
 */
#include "alloc/sandbox.h"
#include "pmem/jemalloc.h"
#include "pmem/overcommit.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>

BERTH_HIDDEN int berth_je_madvise(void *address, size_t size, int advice);
BERTH_HIDDEN int berth_je_munmap(void *address, size_t size);
BERTH_HIDDEN int berth_je_mprotect(void *address, size_t size, int protection);

/*
 * Mapped as jemalloc maps it, so that the kernel joins it with what lies beside it; over what is
 * there, or anywhere.
 */
static void *map_fresh(void *address, size_t size, int fixed)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

    return mmap(address, size, PROT_READ | PROT_WRITE, flags | fixed, -1, 0);
}

/*
 * Where the kernel counts what it promises it may refuse a mapping after it has taken away what
 * was there (before Linux 6.12), because other processes have had the promise meanwhile: the heap
 * would have a hole, and the program would end in it. So as much is promised elsewhere first. The
 * last means alone is mremap(), which a program may have forbidden itself, and which asks for no
 * promise.
 */
static bool map_by_promise(void *address, size_t size)
{
    void *promised = map_fresh(NULL, size, 0);

    if (promised == MAP_FAILED)
        return false;
    if (map_fresh(address, size, MAP_FIXED) == address) {
        munmap(promised, size);
        return true;
    }
    if (mremap(promised, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, address) == address)
        return true;
    munmap(promised, size);
    return false;
}

/* Gives memory back by the call that maps it. */
static int map_anew(void *address, size_t size)
{
    bool is_new = berth__overcommit_is_strict() ? map_by_promise(address, size)
                                                : map_fresh(address, size, MAP_FIXED) == address;

    return is_new ? 0 : -1;
}

/*
 * The C library's allocator calls this neither in a program of one thread nor for small blocks: who
 * has limited its system calls to those that it saw may not allow it, and would be killed.
 */
static int advise_in_sandbox(void *address, size_t size, int advice)
{
    return advice == MADV_DONTNEED ? map_anew(address, size) : -1;
}

int berth_je_madvise(void *address, size_t size, int advice)
{
    int saved_errno = errno;
    int r = BERTH_UNLIKELY(berth__sandbox_is_on()) ? advise_in_sandbox(address, size, advice)
                                                   : madvise(address, size, advice);

    errno = saved_errno;
    return r;
}

int berth_je_munmap(void *address, size_t size)
{
    int saved_errno = errno;
    int r = munmap(address, size);

    errno = saved_errno;
    return r;
}

int berth_je_mprotect(void *address, size_t size, int protection)
{
    int saved_errno = errno;
    int r = mprotect(address, size, protection);

    errno = saved_errno;
    return r;
}
