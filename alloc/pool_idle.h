/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Idle segments: those of kind SHARED that are one free block, and those of kind WHOLE that are
 * free.
 *
 * Where blocks of all sizes share segments, each border is in somebody's way: a pool that grew
 * block by block has as many as it has segments. When it comes to rest, because a step of the
 * program is over, most of them are idle; they are then given back, and one segment is asked for
 * that is as large as they were together; cuMemFree waits for the device then. So a program's next
 * steps find a heap of one piece, and one that repeats itself soon has no segments left to gather,
 * and asks the driver for nothing.
 *
 * Where large blocks have segments alone, nothing is gathered. When the pool has settled
 * (alloc/pool_settle.h), it is when it is low, idle segments of either kind together; the first
 * time, as large a segment is asked for as was found to be needed.
 */
#ifndef BERTH_ALLOC_POOL_IDLE_H
#define BERTH_ALLOC_POOL_IDLE_H

#include "alloc/pool_parts.h"

static inline bool berth__idle_is(const struct berth_block *block)
{
    return block->size == block->segment->size && block->segment->kind == BERTH_SEGMENT_SHARED;
}

/* With the lock held: an idle segment of so many bytes counts; wraps to subtract. */
static inline void berth__idle_count(struct berth_pool *pool, uint64_t size, uint64_t sign)
{
    if (size <= BERTH_DRIVER_PIECE / 2)
        pool->idle_small += sign * size;
    else
        pool->idle_pieces += sign * berth__pool_driver_size(size);
}

/* With the lock held: a block has come into a free set, or has left it. */
static inline void berth__idle_enter(struct berth_pool *pool, const struct berth_block *block)
{
    if (block->is_whole) {
        pool->idle_alone += block->size;
        berth__idle_count(pool, block->size, 1);
        /* No block will look for it. */
        if (pool->settling.is_settled)
            atomic_store_explicit(&pool->is_scattered, true, memory_order_relaxed);
    }
    if (BERTH_LIKELY(!berth__idle_is(block)))
        return;
    berth__idle_count(pool, block->size, 1);
    pool->idle_segments++;
    pool->idle_bytes += block->size;
    if (pool->idle_segments > 1)
        atomic_store_explicit(&pool->is_scattered, true, memory_order_relaxed);
}

static inline void berth__idle_leave(struct berth_pool *pool, const struct berth_block *block)
{
    if (block->is_whole) {
        pool->idle_alone -= block->size;
        berth__idle_count(pool, block->size, UINT64_MAX);
    }
    if (BERTH_LIKELY(!berth__idle_is(block)))
        return;
    berth__idle_count(pool, block->size, UINT64_MAX);
    pool->idle_segments--;
    pool->idle_bytes -= block->size;
}

/*
 * Called without the lock, in the pool's context, while nothing is captured: makes one of the idle
 * segments if the pool is at rest and it is worth it. A driver that refuses leaves the pool with
 * less in reserve.
 */
void berth__pool_gather(struct berth_pool *pool);

#endif
