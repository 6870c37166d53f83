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

/* With the lock held. What is too little now is looked at again when a segment becomes idle. */
static bool gather_is_due(struct berth_pool *pool)
{
    uint64_t reserved = berth__pool_reserved(pool);
    uint64_t rest = pool->live_max - (pool->live_max >> REST_SHIFT);

    if (reserved - pool->cached > rest)
        return false;
    atomic_store_explicit(&pool->is_scattered, false, memory_order_relaxed);
    return !berth__alone_is_on(pool) && pool->idle_segments > 1 &&
           pool->idle_bytes >= reserved >> WORTH_SHIFT;
}

/*
 * While memory is between the driver and the pool, it counts as on its way: a thread that is
 * refused meanwhile waits for it, and the pool's context is not destroyed.
 */
#define HOLD_BYTES 1

/* None of it is the program's call: another thread may begin a capture meanwhile. */
static void gather(struct berth_pool *pool)
{
    struct berth_device_mode mode = berth__device_relax();
    uint64_t bytes = berth__pool_release_idle(pool, false) + berth__pool_release_idle(pool, true);

    if (bytes > 0)
        berth__pool_add_segment(pool, bytes, false);
    berth__device_restore(mode);
}

void berth__pool_gather(struct berth_pool *pool)
{
    bool is_due;

    if (berth__option(BERTH_OPTION_SEGMENTS) != BERTH_SEGMENTS_SHARED || berth__device_capturing())
        return;
    berth__pool_lock(pool);
    is_due = !atomic_load_explicit(&pool->is_ending, memory_order_relaxed) && gather_is_due(pool);
    if (is_due)
        atomic_fetch_add_explicit(&pool->releasing, HOLD_BYTES, memory_order_relaxed);
    berth__pool_unlock(pool);
    if (!is_due)
        return;
    gather(pool);
    berth__pool_count_released(pool, HOLD_BYTES);
}
