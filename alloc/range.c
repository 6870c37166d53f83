/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/range.h"

#include "alloc/block_slab.h"
#include "alloc/device_pages.h"
#include "alloc/tier_ops.h"

#include <errno.h>

/*
 * Addresses per byte of device memory. Memory moves into gaps where it can, so that twice would
 * mostly do; addresses cost nothing, and where they are scarce it is tried with less.
 */
#define ADDRESS_FACTOR 8

static uint64_t page_count(const struct berth_range *range)
{
    return range->size >> range->page_shift;
}

static uintptr_t page_address(const struct berth_range *range, uint64_t page)
{
    return range->base + (uintptr_t)(page << range->page_shift);
}

static int reserve_addresses(struct berth_range *range)
{
    uint64_t page_size = berth__range_page_size(range), total = 0;
    int r = berth__device_total(range->device, &total);

    if (r < 0)
        return r;
    total = (total + page_size - 1) & ~(page_size - 1);
    r = -ENOMEM;
    for (unsigned factor = ADDRESS_FACTOR; factor > 0 && r < 0; factor /= 2) {
        if (__builtin_mul_overflow(total, factor, &range->size))
            continue;
        r = berth__device_reserve(range->size, &range->base);
    }
    if (r == 0 && (range->base & (page_size - 1)) != 0) {
        berth__device_unreserve(range->base, range->size);
        r = -ENOSYS;
    }
    return r;
}

int berth__range_new(int device, berth_tier_id tier, struct berth_range **ret)
{
    uint64_t page_size;
    struct berth_range *range;
    int r = berth__device_page_size(device, &page_size);

    if (r < 0)
        return r;
    range = berth__slab_map(sizeof(*range));
    if (!range)
        return -ENOBUFS;
    range->device = device;
    range->tier = tier;
    range->page_shift = (unsigned)__builtin_ctzll(page_size);
    r = reserve_addresses(range);
    if (r < 0)
        goto err_range;
    r = -ENOBUFS;
    range->handle = berth__slab_map(page_count(range) * sizeof(range->handle[0]));
    if (!range->handle)
        goto err_addresses;
    range->state = berth__slab_map(page_count(range));
    if (!range->state)
        goto err_handle;
    *ret = range;
    return 0;

err_handle:
    berth__slab_unmap(range->handle, page_count(range) * sizeof(range->handle[0]));
err_addresses:
    berth__device_unreserve(range->base, range->size);
err_range:
    berth__slab_unmap(range, sizeof(*range));
    return r;
}

/* The next run of pages from *page on of which `bit` is as said; its length, 0 at the end. */
static uint64_t next_run(const struct berth_range *range, unsigned bit, bool is_set, uint64_t *page,
                         uint64_t end)
{
    uint64_t first = *page, last;

    while (first < end && !(range->state[first] & bit) == is_set)
        first++;
    for (last = first; last < end && !(range->state[last] & bit) != is_set; last++)
        ;
    *page = first;
    return last - first;
}

uint64_t berth__range_next(const struct berth_range *range, bool is_open, uint64_t *page,
                           uint64_t end)
{
    return next_run(range, BERTH_PAGE_OPEN, is_open, page, end);
}

uint64_t berth__range_kept(const struct berth_range *range)
{
    uint64_t kept = 0;

    for (uint64_t page = 0; page < page_count(range); page++)
        kept += range->handle[page] != 0 && !(range->state[page] & BERTH_PAGE_OPEN);
    return kept;
}

/* What fails may have told of something else, twice in turn, and there is no later chance. */
#define LAST_TRIES 3

/* Forgets a page's memory; the driver has it back, or keeps it for good. */
static void page_forget(struct berth_range *range, uint64_t page)
{
    range->handle[page] = 0;
    range->state[page] = 0;
    atomic_fetch_sub_explicit(&range->backed, 1, memory_order_relaxed);
    berth__tier_release(range->tier, berth__range_page_size(range));
}

void berth__range_delete(struct berth_range *range)
{
    uint64_t count = page_count(range), left = atomic_load(&range->backed);
    bool is_clear = false;

    for (unsigned i = 0; i < LAST_TRIES && !is_clear; i++)
        is_clear = berth__range_take_away(range, 0, count) == 0;
    for (uint64_t page = 0; page < count && left > 0; page++) {
        if (range->handle[page] == 0)
            continue;
        for (unsigned i = 0; i < LAST_TRIES; i++)
            if (berth__device_page_release(range->handle[page]) >= 0)
                break;
        page_forget(range, page);
        left--;
    }
    if (is_clear)
        berth__device_unreserve(range->base, range->size);
    berth__slab_unmap(range->handle, count * sizeof(range->handle[0]));
    berth__slab_unmap(range->state, count);
    berth__slab_unmap(range, sizeof(*range));
}

/* A handle that a page was taken away from, or 0. */
static uint64_t borrow_handle(struct berth_range *range, struct berth_page_lender *lender)
{
    while (lender) {
        for (; lender->next < lender->end; lender->next++) {
            uint64_t page = lender->next, handle = range->handle[page];

            if (handle == 0 || (range->state[page] & BERTH_PAGE_MAPPED))
                continue;
            range->handle[page] = 0;
            lender->next++;
            return handle;
        }
        if (!lender->more(lender))
            lender = NULL;
    }
    return 0;
}

static int page_back(struct berth_range *range, uint64_t page, struct berth_page_lender *lender)
{
    uint64_t page_size = berth__range_page_size(range);
    int r;

    if (range->handle[page] != 0)
        return 0;
    range->handle[page] = borrow_handle(range, lender);
    if (range->handle[page] != 0)
        return 0;
    r = berth__tier_reserve(range->tier, page_size);
    if (r < 0)
        return r;
    r = berth__device_page_make(range->device, page_size, &range->handle[page]);
    if (r < 0) {
        berth__tier_release(range->tier, page_size);
        return r;
    }
    atomic_fetch_add_explicit(&range->backed, 1, memory_order_relaxed);
    return 0;
}

/* Opens [first, first + count), which are mapped, for the range's device and the peers. */
static int pages_open(struct berth_range *range, uint64_t first, uint64_t count, uint64_t peers)
{
    int r = berth__range_open(range, first, count, range->device, true);

    for (int device = 0; r == 0 && peers != 0; device++, peers >>= 1)
        if (peers & 1)
            r = berth__range_open(range, first, count, device, true);
    return r;
}

/* Makes those pages usable that are not, from their handles on. */
static int pages_fill(struct berth_range *range, uint64_t first, uint64_t end, uint64_t peers,
                      struct berth_page_lender *lender)
{
    uint64_t run;

    for (uint64_t page = first; page < end; page++) {
        int r;

        if (range->state[page] & BERTH_PAGE_MAPPED)
            continue;
        r = page_back(range, page, lender);
        if (r == 0)
            r = berth__device_page_map(page_address(range, page), berth__range_page_size(range),
                                       range->handle[page]);
        if (r < 0)
            return r;
        range->state[page] = BERTH_PAGE_MAPPED;
    }
    for (uint64_t page = first; (run = next_run(range, BERTH_PAGE_OPEN, false, &page, end)) > 0;
         page += run) {
        int r = pages_open(range, page, run, peers);

        if (r < 0)
            return r;
    }
    return 0;
}

int berth__range_fill(struct berth_range *range, uint64_t first, uint64_t count, uint64_t peers,
                      struct berth_page_lender *lender)
{
    uint64_t end = first + count;
    int r = pages_fill(range, first, end, peers, lender);

    if (r == 0)
        return 0;
    /* Those that were open before are so still; nobody has used the others. */
    for (uint64_t page = first, run;
         (run = next_run(range, BERTH_PAGE_OPEN, false, &page, end)) > 0; page += run)
        berth__range_take_away(range, page, run);
    berth__range_release(range, first, count);
    return r;
}

void berth__range_confirm(struct berth_range *range, uint64_t first, uint64_t count)
{
    for (uint64_t page = first; page < first + count; page++)
        range->state[page] |= BERTH_PAGE_OPEN;
}

void berth__range_close(struct berth_range *range, uint64_t first, uint64_t count)
{
    for (uint64_t page = first; page < first + count; page++)
        range->state[page] &= (unsigned char)~BERTH_PAGE_OPEN;
}

int berth__range_open(struct berth_range *range, uint64_t first, uint64_t count, int device,
                      bool is_open)
{
    return berth__device_pages_open(page_address(range, first), count << range->page_shift, device,
                                    is_open);
}

int berth__range_take_away(struct berth_range *range, uint64_t first, uint64_t count)
{
    uint64_t end = first + count, run;
    int result = 0;

    for (uint64_t page = first; (run = next_run(range, BERTH_PAGE_MAPPED, true, &page, end)) > 0;
         page += run) {
        int r = berth__device_pages_unmap(page_address(range, page), run << range->page_shift);

        if (r < 0) {
            atomic_store_explicit(&range->has_kept, true, memory_order_relaxed);
            result = r;
            continue;
        }
        for (uint64_t at = page; at < page + run; at++)
            range->state[at] = 0;
    }
    return result;
}

uint64_t berth__range_release(struct berth_range *range, uint64_t first, uint64_t count)
{
    uint64_t released = 0;

    for (uint64_t page = first; page < first + count; page++) {
        if (range->handle[page] == 0 || range->state[page] != 0)
            continue;
        if (berth__device_page_release(range->handle[page]) < 0) {
            atomic_store_explicit(&range->has_kept, true, memory_order_relaxed);
            continue;
        }
        page_forget(range, page);
        released += berth__range_page_size(range);
    }
    return released;
}

bool berth__range_has_memory(const struct berth_range *range, uint64_t first, uint64_t count)
{
    for (uint64_t page = first; page < first + count; page++)
        if (range->handle[page] != 0)
            return true;
    return false;
}
