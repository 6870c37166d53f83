/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/file_full.h"

#include "alloc/types.h"
#include "pmem/window.h"

#include <errno.h>
#include <sys/vfs.h>
#include <time.h>

/*
 * From the top: 24 bits of what was asked for and 32 of what was free, in OS pages, and 8 of the
 * second. In one word, because the parts of two refusals together would be a third that never was.
 * What does not fit is not remembered.
 */
#define ASKED_SHIFT 40
#define ASKED_MAX (((uint64_t)1 << 24) - 1)
#define FREE_SHIFT 8
#define FREE_MAX (((uint64_t)1 << 32) - 1)
#define SECOND_MAX ((uint64_t)0xff)

/* After so many seconds the same number would come again: by then free space has changed, or what
 * is refused once more is asked for a second later. */
static uint64_t this_second(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec & SECOND_MAX;
}

/*
 * Free OS pages, those that are kept for root among them; false where the filesystem does not tell
 * (ramfs). `*ret_slack`: of a request, so much may be in blocks that the file has already, where
 * they are larger than an OS page.
 */
static bool find_free(int fd, uint64_t *ret_pages, uint64_t *ret_slack)
{
    int saved_errno = errno;
    struct statfs fs;
    bool told = fstatfs(fd, &fs) == 0 && fs.f_blocks > 0 && fs.f_bsize > 0;

    errno = saved_errno;
    if (!told)
        return false;
    *ret_pages = (uint64_t)fs.f_bfree * (uint64_t)fs.f_bsize >> BERTH_OS_PAGE_SHIFT;
    *ret_slack = (uint64_t)fs.f_bsize > BERTH_OS_PAGE
                     ? 2 * ((uint64_t)fs.f_bsize >> BERTH_OS_PAGE_SHIFT)
                     : 0;
    return true;
}

bool berth__file_full_for(const struct berth_file_full *full, int fd, size_t size)
{
    uint64_t refused = atomic_load_explicit(&full->refused, memory_order_relaxed);
    uint64_t asked = refused >> ASKED_SHIFT;
    uint64_t pages, slack;

    if (BERTH_LIKELY(refused == 0) || size >> BERTH_OS_PAGE_SHIFT < asked ||
        (refused & SECOND_MAX) != this_second() || !find_free(fd, &pages, &slack))
        return false;
    return size >> BERTH_OS_PAGE_SHIFT >= asked + slack &&
           pages <= ((refused >> FREE_SHIFT) & FREE_MAX);
}

void berth__file_full_note(struct berth_file_full *full, int fd, size_t size)
{
    uint64_t asked = (uint64_t)size >> BERTH_OS_PAGE_SHIFT;
    uint64_t pages, slack;

    if (asked == 0 || asked > ASKED_MAX || !find_free(fd, &pages, &slack) || pages > FREE_MAX)
        return;
    atomic_store_explicit(&full->refused,
                          asked << ASKED_SHIFT | pages << FREE_SHIFT | this_second(),
                          memory_order_relaxed);
}

void berth__file_full_forget(struct berth_file_full *full)
{
    atomic_store_explicit(&full->refused, 0, memory_order_relaxed);
}
