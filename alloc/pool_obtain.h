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
 */
#ifndef BERTH_ALLOC_POOL_OBTAIN_H
#define BERTH_ALLOC_POOL_OBTAIN_H

#include "alloc/types.h"

#include <stdbool.h>

struct berth_obtainable {
    uint64_t pieces;   /* bytes that the device would have more of, stream-ordered ones included */
    uint64_t reserved; /* bytes that limits would: not rounded to pieces, without those in order */
    uint64_t gap;      /* the largest for any block, if it has more than was asked about, else 0 */
};

/*
 * Before: what the threads of the calling thread's context keep, and what has waited and is ready,
 * joins what is free beside it. What is cached in the order of streams and known to be done goes
 * back to the driver, if it lies beside live blocks: then only the driver knows what the device has
 * of it; whether anything did. Records a point for what waits; waits for nobody.
 */
bool berth__pool_obtain_begin(int device);

/*
 * Of a device or BERTH_POOL_ALL_DEVICES, and of a tier or BERTH_TIER_NONE: any. What waits for the
 * device counts: who needs memory waits for it. Any thread.
 */
void berth__pool_obtainable(int device, berth_tier_id tier, uint64_t least_gap,
                            struct berth_obtainable *ret);

/*
 * The program was told that it can have so much of the device: until it has had that, no block
 * takes an idle allocation that is larger than it needs.
 */
void berth__pool_promise(int device, uint64_t bytes);

#endif
