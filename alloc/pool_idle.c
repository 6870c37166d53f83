/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_idle.h"

#include "alloc/options.h"
#include "alloc/pool_alone.h"

/*
 * At rest: a 32nd less lives than did at most. Worth it: a 128th of what is reserved is idle.
 * Replayed: an eighth and a 32nd ask the driver no less often, and leave more borders.
 */
#define REST_SHIFT 5
#define WORTH_SHIFT 7

/* With the lock held: whether there are so many, and so large, that one would be better. */
static bool is_worth_it(const struct berth_pool *pool)
{
    uint64_t least = berth__pool_reserved(pool) >> WORTH_SHIFT;

    if (!pool->settling.is_settled)
        return pool->idle_segments > 1 && pool->idle_bytes >= least;
    return pool->settling.segment_size > 0 || ((pool->idle_segments > 1 || pool->idle_alone > 0) &&
                                               pool->idle_bytes + pool->idle_alone >= least);
}

/* Once settled, only when least lives: else what is made one then is in the way of the rest. */
static bool is_at_rest(const struct berth_pool *pool)
{
    uint64_t rest = pool->live_max - (pool->live_max >> REST_SHIFT);

    return pool->settling.is_settled ? berth__settle_is_low(pool)
                                     : berth__pool_reserved(pool) - pool->cached <= rest;
}

/* With the lock held. What is too little now is looked at again when a segment becomes idle. */
static bool gather_is_due(struct berth_pool *pool)
{
    berth__settle_look(pool);
    if (!is_at_rest(pool))
        return false;
    atomic_store_explicit(&pool->is_scattered, false, memory_order_relaxed);
    return !berth__alone_is_on(pool) && is_worth_it(pool);
}

/*
 * While memory is between the driver and the pool, it counts as on its way: a thread that is
 * refused meanwhile waits for it, and the pool's context is not destroyed.
 */
#define HOLD_BYTES 1

/* With the lock held; what was asked for once is not asked for again, whatever the answer. */
static uint64_t take_settled_size(struct berth_pool *pool)
{
    uint64_t size = pool->settling.segment_size;

    pool->settling.segment_size = 0;
    return size;
}

/*
 * What is idle does not go while the driver would wait for it: then the segment is too much beside
 * it, and is asked for another time, when something becomes idle.
 */
static bool has_room(struct berth_pool *pool, uint64_t settled_size)
{
    bool has;

    berth__pool_lock(pool);
    has = berth__settle_has_room(pool, settled_size);
    if (!has && pool->settling.is_settled)
        pool->settling.segment_size = settled_size;
    berth__pool_unlock(pool);
    return has;
}

/* None of it is the program's call: another thread may begin a capture meanwhile. */
static void gather(struct berth_pool *pool, uint64_t settled_size)
{
    struct berth_device_mode mode = berth__device_relax();
    uint64_t bytes = berth__pool_release_idle(pool, false) + berth__pool_release_idle(pool, true);

    if (settled_size > 0)
        bytes = has_room(pool, settled_size) ? settled_size : 0;
    if (bytes > 0)
        berth__pool_add_segment(pool, bytes, false);
    berth__device_restore(mode);
}

void berth__pool_gather(struct berth_pool *pool)
{
    uint64_t settled_size = 0;
    bool is_due;

    if (berth__option(BERTH_OPTION_SEGMENTS) != BERTH_SEGMENTS_SHARED || berth__device_capturing())
        return;
    berth__pool_lock(pool);
    is_due = !berth__pool_may_end(pool) && gather_is_due(pool);
    if (is_due) {
        settled_size = take_settled_size(pool);
        atomic_fetch_add_explicit(&pool->releasing, HOLD_BYTES, memory_order_relaxed);
    }
    berth__pool_unlock(pool);
    if (!is_due)
        return;
    gather(pool, settled_size);
    berth__pool_count_released(pool, HOLD_BYTES);
}
