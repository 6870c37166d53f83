/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/page_set.h"

#include "pmem/window.h"

#include <errno.h>
#include <sys/mman.h>

#define WORD_BITS 64

/* Of so many pages, as whole OS pages. */
static size_t bytes_of(size_t page_count)
{
    size_t bytes = (page_count + WORD_BITS - 1) / WORD_BITS * sizeof(uint64_t);

    return (bytes + BERTH_OS_PAGE - 1) & ~(size_t)(BERTH_OS_PAGE - 1);
}

int berth__page_set_init(struct berth_page_set *set, size_t size)
{
    void *p;

    set->page_count = size >> BERTH_OS_PAGE_SHIFT;
    p = mmap(NULL, bytes_of(set->page_count), PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return -ENOMEM;
    set->words = p;
    set->reached = 0;
    set->mapped = bytes_of(set->page_count);
    return 0;
}

int berth__page_set_reach(struct berth_page_set *set, size_t offset, size_t size)
{
    size_t pages = (offset + size) >> BERTH_OS_PAGE_SHIFT;
    size_t reached = atomic_load_explicit(&set->reached, memory_order_acquire);
    size_t bytes;

    if (pages <= reached)
        return 0;
    bytes = bytes_of(pages);
    if (mprotect((void *)set->words, bytes, PROT_READ | PROT_WRITE) < 0)
        return -ENOMEM;
    pages = bytes / sizeof(uint64_t) * WORD_BITS;
    while (reached < pages &&
           !atomic_compare_exchange_weak_explicit(&set->reached, &reached, pages,
                                                  memory_order_acq_rel, memory_order_acquire))
        ;
    return 0;
}

void berth__page_set_done(struct berth_page_set *set)
{
    munmap((void *)set->words, set->mapped);
    set->words = NULL;
}

void berth__page_set_fit(struct berth_page_set *set, size_t size)
{
    size_t bytes = bytes_of(size >> BERTH_OS_PAGE_SHIFT);
    size_t reached = bytes_of(atomic_load_explicit(&set->reached, memory_order_acquire));
    size_t mapped = atomic_load(&set->mapped);

    if (bytes < reached)
        bytes = reached;
    if (bytes < mapped && atomic_compare_exchange_strong(&set->mapped, &mapped, bytes))
        munmap((char *)set->words + bytes, mapped - bytes);
}

/* The bits of word `index` that stand for pages [first, end). */
static uint64_t word_mask(size_t index, size_t first, size_t end)
{
    size_t low = index * WORD_BITS;
    uint64_t mask = UINT64_MAX;

    if (first > low)
        mask &= UINT64_MAX << (first - low);
    if (end < low + WORD_BITS)
        mask &= UINT64_MAX >> (low + WORD_BITS - end);
    return mask;
}

void berth__page_set_add(struct berth_page_set *set, size_t offset, size_t size)
{
    size_t first = offset >> BERTH_OS_PAGE_SHIFT;
    size_t end = first + (size >> BERTH_OS_PAGE_SHIFT);

    for (size_t i = first / WORD_BITS; i * WORD_BITS < end; i++)
        atomic_fetch_or_explicit(&set->words[i], word_mask(i, first, end), memory_order_relaxed);
}

void berth__page_set_remove(struct berth_page_set *set, size_t offset, size_t size)
{
    size_t first = offset >> BERTH_OS_PAGE_SHIFT;
    size_t end = first + (size >> BERTH_OS_PAGE_SHIFT);

    for (size_t i = first / WORD_BITS; i * WORD_BITS < end; i++)
        atomic_fetch_and_explicit(&set->words[i], ~word_mask(i, first, end), memory_order_relaxed);
}

/* The first page at or after `page` and below `end` whose bit is `value`; `end` if there is none.
 */
static size_t find_page(const struct berth_page_set *set, size_t page, size_t end, bool value)
{
    while (page < end) {
        size_t index = page / WORD_BITS;
        uint64_t word = atomic_load_explicit(&set->words[index], memory_order_relaxed);

        if (!value)
            word = ~word;
        word &= UINT64_MAX << (page % WORD_BITS);
        if (word) {
            page = index * WORD_BITS + (size_t)__builtin_ctzll(word);
            return page < end ? page : end;
        }
        page = (index + 1) * WORD_BITS;
    }
    return end;
}

bool berth__page_set_next(const struct berth_page_set *set, size_t limit, size_t *offset,
                          size_t *ret_size)
{
    size_t reached = atomic_load_explicit(&set->reached, memory_order_acquire);
    size_t end = limit >> BERTH_OS_PAGE_SHIFT;
    size_t first, last;

    if (end > set->page_count)
        end = set->page_count;
    if (end > reached)
        end = reached;
    first = find_page(set, *offset >> BERTH_OS_PAGE_SHIFT, end, true);
    if (first >= end)
        return false;
    last = find_page(set, first, end, false);
    *offset = first << BERTH_OS_PAGE_SHIFT;
    *ret_size = (last - first) << BERTH_OS_PAGE_SHIFT;
    return true;
}
