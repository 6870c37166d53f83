/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of OS pages of one window: those that a tier has put memory behind. One bit each, in memory
 * that is touched only where pages were added. A fork copies exactly these pages of a shared tier.
 * Of the bits only those from the first to the last that were needed so far can be touched: limits
 * of memory count the others as none, and mlockall() puts no memory behind them.
 *
 * Synchronisation: atomic words. Ranges that are added or removed at the same time do not overlap,
 * because jemalloc owns each extent on one thread at a time; they may share a word.
 */
#ifndef BERTH_PMEM_PAGE_SET_H
#define BERTH_PMEM_PAGE_SET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct berth_page_set {
    _Atomic uint64_t *words;
    size_t page_count;
    _Atomic size_t mapped;  /* bytes */
    _Atomic size_t reached; /* pages, from the first, whose bits can be touched; only grows */
};

/* For windows of `size` bytes. 0 or -ENOMEM. */
int berth__page_set_init(struct berth_page_set *set, size_t size);
void berth__page_set_done(struct berth_page_set *set);

/* Nothing beyond `size` bytes will ever be added: what stands for that is unmapped. */
void berth__page_set_fit(struct berth_page_set *set, size_t size);

/* Offsets and sizes in bytes, multiples of the OS page, within the window. What is added or removed
 * was reached before: 0, or -ENOMEM. */
int berth__page_set_reach(struct berth_page_set *set, size_t offset, size_t size);
void berth__page_set_add(struct berth_page_set *set, size_t offset, size_t size);
void berth__page_set_remove(struct berth_page_set *set, size_t offset, size_t size);

/*
 * The first run of pages at or after `*offset` and below `limit`: sets `*offset` and `*ret_size`,
 * or returns false when there is none.
 */
bool berth__page_set_next(const struct berth_page_set *set, size_t limit, size_t *offset,
                          size_t *ret_size);

#endif
