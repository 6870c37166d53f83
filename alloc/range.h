/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A range: one reservation of device addresses, and which of its GPU pages have memory behind them.
 *
 * The addresses are many times what the device has memory for, so that there is always room for one
 * more block in one piece; memory is put behind them page by page, and a page whose addresses are
 * free can lend its memory to other addresses.
 *
 * Life of a page:
 *
 *     empty   addresses alone
 *     backed  memory exists for it, but cannot be used: on its way, or left over from a failure
 *     OPEN    the device and its peers can use it
 *
 * Synchronization: a page belongs to the thread whose block, in state MOVING, covers it: that one
 * alone calls the driver for it, without any lock. All other fields, and the pages of other blocks,
 * by the lock of the pool. Who looks for pages that are OPEN passes over those of moving blocks,
 * too: that bit changes under the lock, but the others beside it do not, so that the states are
 * atomic.
 */
#ifndef BERTH_ALLOC_RANGE_H
#define BERTH_ALLOC_RANGE_H

#include "alloc/types.h"

#include <stdatomic.h>
#include <stdbool.h>

enum berth_page_state {
    BERTH_PAGE_MAPPED = 1, /* the driver has memory at the page's addresses */
    BERTH_PAGE_OPEN = 2,   /* and lets the device and its peers use it */
};

struct berth_range {
    uintptr_t base;
    uint64_t size;
    unsigned page_shift;
    int device;
    berth_tier_id tier;      /* whose account has the memory */
    uint64_t *handle;        /* by page: the driver's handle of its memory; 0: none */
    atomic_uchar *state;     /* by page: enum berth_page_state bits */
    _Atomic uint64_t backed; /* pages that have a handle */
    /* Devices besides its own that may use the memory, one bit each; see alloc/peer.h. */
    uint64_t peers;
    atomic_bool has_kept;     /* the driver once did not take a page back: look for such in holes */
    unsigned pinned;          /* threads that open pages for a peer: none is taken away meanwhile */
    unsigned movers;          /* threads that own pages */
    bool is_forsaken;         /* its segment is gone: the last mover deletes it */
    struct berth_range *next; /* while forsaken */
};

/*
 * Reserves addresses for `device`, whose memory is accounted in `tier`. -ENOSYS where the driver or
 * the device cannot do it; -ENOBUFS without host memory; or the driver's error.
 */
int berth__range_new(int device, berth_tier_id tier, struct berth_range **ret);
/*
 * Takes all memory away and gives it and the addresses back to the driver. What the driver keeps
 * stays its own; the account forgets it. Nobody uses the range any more.
 */
void berth__range_delete(struct berth_range *range);

static inline uint64_t berth__range_page_size(const struct berth_range *range)
{
    return (uint64_t)1 << range->page_shift;
}

static inline uint64_t berth__range_page(const struct berth_range *range, uintptr_t address)
{
    return (uint64_t)(address - range->base) >> range->page_shift;
}

/* The whole pages in [address, address + size): the first one, and how many. */
static inline uint64_t berth__range_pages(const struct berth_range *range, uintptr_t address,
                                          uint64_t size, uint64_t *ret_first)
{
    uint64_t mask = berth__range_page_size(range) - 1;
    uint64_t first = (address - range->base + mask) >> range->page_shift;
    uint64_t end = (address - range->base + size) >> range->page_shift;

    *ret_first = first;
    return end > first ? end - first : 0;
}

/*
 * The calling thread owns all pages that these functions are given; no lock is held.
 *
 * berth__range_fill() puts memory behind those pages of [first, first + count) that are not OPEN,
 * for the range's device and `peers`. It comes from `lender`, a cursor over pages that were taken
 * away before, as long as it has some (NULL: none), and is else asked of the driver, after the
 * tier's capacity. On failure none is OPEN that was not before; what the driver does not take back
 * stays backed. Once it has worked, berth__range_confirm() makes the pages OPEN, under the lock, if
 * the peers are still the same; else it is called again.
 */
struct berth_page_lender {
    uint64_t next, end; /* pages that may be taken from, in this piece */
    /* Puts another piece into `next` and `end`, or returns false. */
    bool (*more)(struct berth_page_lender *lender);
    void *context;
};
int berth__range_fill(struct berth_range *range, uint64_t first, uint64_t count, uint64_t peers,
                      struct berth_page_lender *lender);
void berth__range_confirm(struct berth_range *range, uint64_t first, uint64_t count);

/* Lets `device` use pages that are OPEN already, or not any more. */
int berth__range_open(struct berth_range *range, uint64_t first, uint64_t count, int device,
                      bool is_open);

/* The pages are nobody's to use any more; under the lock. */
void berth__range_close(struct berth_range *range, uint64_t first, uint64_t count);
/*
 * Takes the memory of pages that were closed away from its addresses; what the driver does not do
 * stays as it is. 0, or the last error.
 */
int berth__range_take_away(struct berth_range *range, uint64_t first, uint64_t count);
/* Gives the memory of pages that it was taken away from back to the driver; returns the bytes. */
uint64_t berth__range_release(struct berth_range *range, uint64_t first, uint64_t count);

/* The next run of pages from *page on that are OPEN, or not; its length, 0 at the end. */
uint64_t berth__range_next(const struct berth_range *range, bool is_open, uint64_t *page,
                           uint64_t end);
/* Whether any of the pages has memory; how many have and are not OPEN, which is slow. */
bool berth__range_has_memory(const struct berth_range *range, uint64_t first, uint64_t count);
uint64_t berth__range_kept(const struct berth_range *range);

#endif
