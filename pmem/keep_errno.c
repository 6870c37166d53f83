/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory calls that jemalloc makes while it frees a block. They may fail without harm (a page
 * that cannot be purged is simply kept), but free() must leave errno alone (glibc 2.33 promises
 * it), and saving errno in free() itself would cost every call. jemalloc's calls arrive here
 * because pmem/embed_jemalloc.sh renames them; jemalloc looks only at their results.
 */
#include "pmem/jemalloc.h"

#include <errno.h>
#include <sys/mman.h>

BERTH_HIDDEN int berth_je_madvise(void *address, size_t size, int advice);
BERTH_HIDDEN int berth_je_munmap(void *address, size_t size);
BERTH_HIDDEN int berth_je_mprotect(void *address, size_t size, int protection);

int berth_je_madvise(void *address, size_t size, int advice)
{
    int saved_errno = errno;
    int r = madvise(address, size, advice);

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
