/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the program could have of a device: for cuMemGetInfo.
 *
 * The driver tells what is left in whole pieces, and natively a block of any size can have all of
 * it. So no byte counts that only some sizes could have. What does is segments in which nothing
 * lives, as the driver has them back before it refuses anybody, and whole pages of a range that
 * nobody uses, as they can move together. What is free between live blocks is not told, like what
 * the driver has free in a piece that it shares out; but a single gap is, where it is larger than
 * all of that together: a block can have that much.
 *
 * Small segments share the driver's pieces: one counts whole if nothing that is known lives in it.
 *
 * A question changes nothing of what is cached, and asks the driver for no more than it would be
 * asked for without it: programs that write down each step what is free are to find all as they
 * left it. It does not look at what lives either: what is free is known by the sets of the pool,
 * and what threads keep and what waits is counted segment by segment. Of more of that than is worth
 * looking at, only a part is told.
 */
#ifndef BERTH_ALLOC_POOL_OBTAIN_H
#define BERTH_ALLOC_POOL_OBTAIN_H

#include "alloc/pool_parts.h"

struct berth_pool;

struct berth_obtainable {
    uint64_t pieces;   /* bytes that the device would have more of, stream-ordered ones included */
    uint64_t gap;      /* the largest for any block of the calling thread's; 0: none */
    uint64_t reserved; /* bytes that limits would: not rounded to pieces, without those in order; */
    uint64_t of_tier;  /* of all devices, and those of a tier */
};

/*
 * Of the device, with `of_tier` for the tier. What waits for the device counts: who needs memory
 * waits for it. Any thread.
 */
void berth__pool_obtainable(int device, berth_tier_id tier, struct berth_obtainable *ret);

/*
 * The program was told that it can have so much of the device: until it has had that, or frees a
 * block that has a segment of its own, no block takes an idle allocation that is larger than it
 * needs.
 */
void berth__pool_promise(int device, uint64_t bytes);

/*
 * What was told of pages in a range of which a part waits and a part is free: they are had in one
 * piece if what waits is settled before anybody has the other part. So the first request after the
 * answer does that, and where nothing else lived waits for it, for a short time.
 */
enum berth_pledge { BERTH_PLEDGE_NONE, BERTH_PLEDGE_SETTLE, BERTH_PLEDGE_WAIT };

/* Called without the lock while nothing is captured, before the pool serves a request. */
void berth__pool_redeem_slowly(struct berth_pool *pool);

static inline void berth__pool_redeem(struct berth_pool *pool)
{
    if (BERTH_UNLIKELY(atomic_load_explicit(&pool->pledge, memory_order_relaxed) !=
                       BERTH_PLEDGE_NONE))
        berth__pool_redeem_slowly(pool);
}

#endif
