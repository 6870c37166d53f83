/* SPDX-License-Identifier: Apache-2.0 */
/* A context is destroyed, and its pools with it. */
#include "alloc/pool_expand.h"
#include "alloc/pool_parts.h"
#include "alloc/stats.h"

static void drop_pool(struct berth_pool *pool)
{
    bool was_ending;

    berth__pool_lock(pool);
    berth__cache_shut(pool);
    berth__lazy_drop(pool);
    berth__pool_count_dropped(pool);
    berth__stats_look(pool->tier);
    while (pool->segments)
        berth__pool_forget_segment(pool, pool->segments);
    berth__cache_open(pool);
    pool->generation++;
    was_ending = atomic_exchange(&pool->is_ending, false);
    atomic_store_explicit(&pool->context, NULL, memory_order_release);
    berth__pool_unlock(pool);
    if (was_ending)
        berth__pool_ending_end(pool);
    berth__pool_bury_ranges(pool);
}

void berth__pool_drop_begin(berth_cu_context context)
{
    if (context && !berth__pool_disabled())
        berth__pool_ending_begin(context);
}

void berth__pool_drop_end(berth_cu_context context, bool is_destroyed)
{
    if (!context || berth__pool_disabled())
        return;
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next) {
        if (atomic_load(&pool->context) != context || !atomic_load(&pool->is_ending))
            continue;
        if (is_destroyed)
            drop_pool(pool);
        else if (atomic_exchange(&pool->is_ending, false))
            berth__pool_ending_end(pool);
    }
}

void berth__pool_drop(berth_cu_context context)
{
    if (!context || berth__pool_disabled())
        return;
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next)
        if (atomic_load(&pool->context) == context)
            drop_pool(pool);
}
