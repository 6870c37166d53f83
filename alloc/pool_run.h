/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs: where blocks of all sizes share segments (the option segments), a thread may keep little,
 * because a free block that cannot join its neighbours costs memory. But a thread that frees a
 * block and allocates one of the same size again, over and over, would put it back into the pool
 * only to have it cut at the same place: as long as nothing else changes what is free, the pool
 * answers the same request by the same block.
 *
 * So the blocks of a run, which a thread has taken in turn while nothing else changed what is free,
 * go into the thread's cache when they are freed and the device is done with them, however large
 * they are. Whoever looks what the pool has free, be it the same thread for another size, has them
 * put back first: where blocks lie is the same as if there were no runs. And who asks what is
 * reserved, cached or idle sees them as he sees all that threads keep.
 *
 * What the pool learns of large blocks as they come and go (alloc/pool_alone.h) it learns of those
 * of a run, too, which are put back until it has come back some times. From then on a run is
 * blocks that live on, to the pool.
 *
 * Synchronization: a run by its thread; what is kept by the lock of its cache.
 */
#ifndef BERTH_ALLOC_POOL_RUN_H
#define BERTH_ALLOC_POOL_RUN_H

#include "alloc/pool_alone.h"
#include "alloc/pool_parts.h"

static inline uint64_t berth__pool_changes(const struct berth_pool *pool)
{
    return atomic_load_explicit(&pool->changes, memory_order_relaxed);
}

/* Where memory is to be tight: elsewhere threads keep large blocks anyway. */
static inline bool berth__run_is_possible(void)
{
    return berth__option(BERTH_OPTION_SEGMENTS) != BERTH_SEGMENTS_OWN &&
           berth__option(BERTH_OPTION_THREAD_CACHE) > 0;
}

/* By the cache's own thread: whether what is free is as its run has left it. */
static inline bool berth__run_is_on(const struct berth_cache *cache)
{
    return cache->run.size > 0 && cache->run.changes == berth__pool_changes(cache->pool) &&
           berth__run_is_possible();
}

/*
 * Until it has come back so often, its thread frees as any other does, by points at the same
 * moments: what comes back once or twice is part of something else, which has an order of its own.
 */
#define BERTH_RUN_BELIEF 8

static inline bool berth__run_is_believed(const struct berth_cache *cache)
{
    return cache->run.returns >= BERTH_RUN_BELIEF && berth__run_is_on(cache);
}

/* Whether the block is of that run. */
static inline bool berth__run_has(const struct berth_cache *cache, const struct berth_block *block)
{
    return block->size == cache->run.size && block->is_whole == cache->run.is_whole &&
           berth__block_time(block) >= cache->run.first_id;
}

/*
 * With the pool's lock held: the thread has taken a block out of what is free, which was the last
 * change there.
 */
static inline void berth__run_take(struct berth_cache *cache, const struct berth_block *block,
                                   uint64_t id)
{
    struct berth_run *run = &cache->run;
    uint64_t changes = berth__pool_changes(cache->pool);

    if (run->size != block->size || run->is_whole != block->is_whole ||
        run->changes + 1 != changes) {
        run->size = block->size;
        run->is_whole = block->is_whole;
        run->first_id = id;
        run->returns = 0;
    }
    run->changes = changes;
}

/* Whether the pool is to learn of blocks of this size that come and go. */
static inline bool berth__run_is_counted(uint64_t size)
{
    return berth__alone_is_large(size);
}

/* Whether the pool has found something to do; then who allocates such a block sees to that. */
static inline bool berth__run_is_scattered(const struct berth_pool *pool)
{
    return BERTH_UNLIKELY(atomic_load_explicit(&pool->is_scattered, memory_order_relaxed));
}

/*
 * All its blocks, so many, have come back. True if the pool is to have them nevertheless, at once:
 * the run goes on with what is free then. So it is with those larger than what a thread keeps of
 * others, until the run is believed: where pages move, the pool may have a better place for the
 * next one.
 */
static inline bool berth__run_return(struct berth_cache *cache, uint64_t count, uint64_t block_max)
{
    cache->run.returns++;
    if (cache->run.size <= block_max || berth__run_is_believed(cache))
        return false;
    cache->run.changes += count;
    return true;
}

/* With the cache's lock held: it keeps blocks of a run. */
static inline void berth__run_keep(struct berth_pool *pool)
{
    if (!atomic_load_explicit(&pool->has_runs, memory_order_relaxed))
        atomic_store_explicit(&pool->has_runs, true, memory_order_relaxed);
}

/* With the pool's lock held, before anybody looks what is free in it. */
static inline void berth__run_end_all(struct berth_pool *pool)
{
    if (BERTH_UNLIKELY(atomic_load_explicit(&pool->has_runs, memory_order_relaxed)))
        berth__cache_tighten_slowly(pool);
}

/* Likewise, without the lock: what is done with memory that is idle is done with all of it. */
static inline void berth__run_end(struct berth_pool *pool)
{
    if (BERTH_LIKELY(!atomic_load_explicit(&pool->has_runs, memory_order_relaxed)))
        return;
    berth__pool_lock(pool);
    berth__run_end_all(pool);
    berth__pool_unlock(pool);
}

#endif
