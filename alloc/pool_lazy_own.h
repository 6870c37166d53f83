/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a thread does about its own lazy frees (alloc/pool_lazy.h) without the pool's lock: how much
 * may wait in its open batch, and when it closes that by itself, with a point that has passed when
 * it is asked about the first time.
 *
 * Where large blocks have segments of their own, that is done for many blocks at once, as memory
 * is asked for until there are many. Where blocks of all sizes share segments, it is done for a run
 * (alloc/pool_run.h), which may be a single block: then each pair of calls has a point, and nothing
 * else.
 */
#ifndef BERTH_ALLOC_POOL_LAZY_OWN_H
#define BERTH_ALLOC_POOL_LAZY_OWN_H

#include "alloc/pool_lazy_cell.h"
#include "alloc/pool_parts.h"

/*
 * Of what may wait, open batches may have all, less what closed ones have, where the device is
 * quick. Else half, so that a point is halfway done when there is to be another.
 */
#define BERTH_LAZY_BATCHES_SHARE 2

/*
 * Where blocks of all sizes share segments, what waits keeps those beside it apart: open batches
 * may have a part of what is reserved, or so much of a small pool.
 */
#define BERTH_LAZY_TIGHT_LEAST (4 * BERTH_MIB)

/* Whether memory is to be tight, as blocks of all sizes are neighbours. */
static inline bool berth__lazy_is_tight(void)
{
    return berth__option(BERTH_OPTION_SEGMENTS) != BERTH_SEGMENTS_OWN;
}

static inline uint64_t berth__lazy_left(uint64_t of, uint64_t taken)
{
    return of > taken ? of - taken : 0;
}

static inline uint64_t berth__lazy_cell_bytes(const struct berth_lazy_cell *cell)
{
    return atomic_load_explicit(&cell->bytes, memory_order_relaxed);
}

/* Bytes of closed batches; and what open ones may have by now. */
static inline uint64_t berth__lazy_batch_bytes(const struct berth_pool *pool)
{
    return atomic_load_explicit(&pool->lazy.batch_bytes, memory_order_relaxed);
}

static inline uint64_t berth__lazy_open_bytes(const struct berth_pool *pool)
{
    return atomic_load_explicit(&pool->lazy.granted, memory_order_relaxed);
}

/* Whether what was closed last had passed when it was asked about at once. */
static inline void berth__lazy_set_prompt(struct berth_pool *pool, bool is_prompt)
{
    if (atomic_load_explicit(&pool->lazy.is_prompt, memory_order_relaxed) != is_prompt)
        atomic_store_explicit(&pool->lazy.is_prompt, is_prompt, memory_order_relaxed);
}

static inline bool berth__lazy_is_prompt(const struct berth_pool *pool)
{
    return atomic_load_explicit(&pool->lazy.is_prompt, memory_order_relaxed);
}

/* What all open batches may have, where `most` may wait. */
static inline uint64_t berth__lazy_open_most(const struct berth_pool *pool, uint64_t most)
{
    uint64_t left = berth__lazy_left(most, berth__lazy_batch_bytes(pool)), tight;

    if (BERTH_UNLIKELY(!berth__lazy_is_prompt(pool)))
        most /= BERTH_LAZY_BATCHES_SHARE;
    most = left < most ? left : most;
    if (BERTH_LIKELY(!berth__lazy_is_tight()))
        return most;
    tight = atomic_load_explicit(&pool->lazy.open_most, memory_order_relaxed);
    if (tight < BERTH_LAZY_TIGHT_LEAST)
        tight = BERTH_LAZY_TIGHT_LEAST;
    return tight < most ? tight : most;
}

/*
 * Whether the cache's own thread may close what it has freed itself: where that is many blocks, or
 * the driver was asked for as much as may be for the sake of few points; or else where it is a run.
 */
bool berth__lazy_may_close_own(const struct berth_cache *cache);

bool berth__lazy_push_more(struct berth_cache *cache, struct berth_block *block, uint64_t most);

/*
 * A block that the caller holds LEAVING waits in the calling thread's cell, which is closed for it
 * if it is full, where that is good. False: it does not. `most` is what may wait in the process.
 */
static inline bool berth__lazy_push(struct berth_cache *cache, struct berth_block *block,
                                    uint64_t most)
{
    return BERTH_LIKELY(
               berth__lazy_cell_push(cache, block, berth__lazy_open_most(cache->pool, most))) ||
           berth__lazy_push_more(cache, block, most);
}

#endif
