/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Claims: pieces of a pool's range that one thread owns, in state MOVING, while it calls the driver
 * for their pages. Under the pool's lock, but for what is said otherwise.
 *
 *  place    where a block will be: free blocks and holes side by side
 *  victim   whole pages of a free block that lend or give back their memory
 */
#ifndef BERTH_ALLOC_POOL_CLAIM_H
#define BERTH_ALLOC_POOL_CLAIM_H

#include "alloc/pool_parts.h"
#include "alloc/range.h"

struct berth_place {
    uintptr_t start; /* the block's */
    uint64_t size;
    uint64_t empty_pages;      /* that need memory */
    struct berth_block *block; /* that contains `start`; once claimed, the first of the pieces... */
    uint64_t claimed;          /* ...whose bytes these are */
};

/*
 * The free block that is the best fit when holes count as free: gaps are kept as few and as large
 * as can be, whether they have memory at the moment or not. NULL: there is none, or it is better to
 * put memory into a hole. By simulation of growing caches a pool so needs 1.02 times what lives,
 * and 1.05 times where free blocks come first.
 */
struct berth_block *berth__place_fit(struct berth_pool *pool, uint64_t size);
/*
 * The place for `size` bytes in the smallest run of free blocks and holes; `is_tight`: with the
 * fewest empty pages. -ENOMEM: no addresses are left.
 */
int berth__place_find(struct berth_pool *pool, uint64_t size, bool is_tight,
                      struct berth_place *ret);
/* Takes it. -ENOBUFS without host memory; nothing is changed then. */
int berth__place_claim(struct berth_pool *pool, struct berth_place *place);
/*
 * Ends the claim. `is_filled`: all its pages are OPEN; returns the block, which counts as free and
 * is in no free set; the rest is free. Else everything is as it was, and NULL is returned.
 */
struct berth_block *berth__place_settle(struct berth_pool *pool, const struct berth_place *place,
                                        bool is_filled);

/* Up to `pages` pages of free blocks, the largest first, closed; a list through `waiting`. */
struct berth_block *berth__victims_claim(struct berth_pool *pool, uint64_t pages);
/* Holes with pages that the driver did not take back, put before the victims. */
struct berth_block *berth__kept_claim(struct berth_pool *pool, struct berth_block *victims);
/* Without the lock: takes their memory away from its addresses, where the driver does it. */
void berth__victims_take_away(struct berth_range *range, struct berth_block *victims);
/* Without the lock: gives what was taken away and not lent back to the driver; the bytes. */
uint64_t berth__victims_release(struct berth_range *range, struct berth_block *victims);
/* Ends the claim: they are holes. */
void berth__victims_settle(struct berth_pool *pool, struct berth_block *victims);

/* The range is forsaken, and nothing but the claims' records is left of its blocks: returns them.
 */
void berth__place_abandon(struct berth_pool *pool, const struct berth_place *place);
void berth__victims_abandon(struct berth_pool *pool, struct berth_block *victims);

/* A block that is nobody's becomes a hole, with its neighbours. */
void berth__hole_put(struct berth_pool *pool, struct berth_block *block);
/* Takes a hole out of the pool's list. */
void berth__hole_remove(struct berth_pool *pool, struct berth_block *block);

#endif
