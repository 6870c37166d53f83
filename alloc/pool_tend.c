/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_tend.h"

#include "alloc/limit.h"
#include "alloc/options.h"
#include "alloc/pool_parts.h"
#include "alloc/pool_stream.h"
#include "alloc/tier_ops.h"

/* How often it is looked whether a limit was lowered below what the process has. */
#define LIMIT_INTERVAL_MS 1000
/* A query of the driver keeps the pool's context from being destroyed, like bytes on their way. */
#define QUERY_BYTES 1

uint64_t berth__pool_reclaimable(int device)
{
    uint64_t bytes;

    if (berth__pool_disabled())
        return 0;
    bytes = berth__pool_cached(device) + berth__lazy_waiting(device) + berth__stream_cached(device);
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next) {
        if ((device != BERTH_POOL_ALL_DEVICES && pool->device != device) ||
            berth__tier(pool->tier)->kind == BERTH_KIND_SHARED)
            continue;
        if (!atomic_load_explicit(&pool->waiting, memory_order_relaxed))
            continue;
        berth__pool_lock(pool);
        for (const struct berth_block *block = pool->waiting; block; block = block->waiting)
            bytes += block->size;
        berth__pool_unlock(pool);
    }
    return bytes;
}

/* What waits since a capture, on the device: ready once the context was synchronised. */
static void settle(int device)
{
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next)
        if (atomic_load(&pool->context) &&
            (device == BERTH_POOL_ALL_DEVICES || pool->device == device))
            berth__pool_settle_waiting(pool);
}

uint64_t berth__pool_trim(int device, uint64_t keep)
{
    uint64_t bytes, released;

    if (berth__pool_disabled())
        return 0;
    berth__lazy_reclaim_pools();
    settle(device);
    bytes = berth__pool_reclaimable(device);
    if (bytes <= keep)
        return 0;
    released = berth__pool_release_some(device, keep == 0 ? UINT64_MAX : bytes - keep);
    if (released < bytes - keep)
        released += berth__stream_release(device);
    return released;
}

int berth__pool_tend_interval(void)
{
    if (berth__option(BERTH_OPTION_DEVICE_FLOOR) != 0)
        return (int)berth__option(BERTH_OPTION_DEVICE_FLOOR_INTERVAL);
    return berth__limit(BERTH_LIMIT_PROCESS) != 0 ? LIMIT_INTERVAL_MS : -1;
}

/* The free memory of the pool's device, as the driver sees it in the pool's context. */
static bool query_free(struct berth_pool *pool, uint64_t *ret, uint64_t *ret_total)
{
    size_t free_size = 0, total_size = 0;
    berth_cu_context context;
    bool is_pushed = false, is_known = false;

    berth__pool_lock(pool);
    context = berth__pool_may_end(pool)
                  ? NULL
                  : atomic_load_explicit(&pool->context, memory_order_relaxed);
    if (context)
        atomic_fetch_add_explicit(&pool->releasing, QUERY_BYTES, memory_order_relaxed);
    berth__pool_unlock(pool);
    if (!context)
        return false;
    if (berth__driver.cuMemGetInfo_v2 && berth__device_enter(context, &is_pushed) == 0) {
        is_known = berth__driver.cuMemGetInfo_v2(&free_size, &total_size) == BERTH_CU_SUCCESS;
        berth__device_leave(is_pushed);
    }
    berth__pool_count_released(pool, QUERY_BYTES);
    *ret = free_size;
    *ret_total = total_size;
    return is_known;
}

bool berth__pool_room(uint64_t *ret_free, uint64_t *ret_total)
{
    uint64_t seen = 0; /* devices, one bit each */

    *ret_free = *ret_total = 0;
    if (berth__pool_disabled())
        return false;
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next) {
        int device = atomic_load(&pool->device);
        uint64_t bit = (uint64_t)1 << (device & 63), free_size, total_size;

        if (!atomic_load(&pool->context) || (seen & bit) ||
            !query_free(pool, &free_size, &total_size))
            continue;
        seen |= bit;
        *ret_free += free_size;
        *ret_total += total_size;
    }
    return seen != 0;
}

static void keep_floor(uint64_t floor)
{
    uint64_t seen = 0; /* devices, one bit each */

    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next) {
        int device = atomic_load(&pool->device);
        uint64_t bit = (uint64_t)1 << (device & 63), free_size = 0, total_size;

        if (!atomic_load(&pool->context) || (device < 64 && (seen & bit)) ||
            berth__pool_reclaimable(device) == 0 || berth__device_capturing() ||
            !query_free(pool, &free_size, &total_size))
            continue;
        seen |= bit;
        if (free_size < floor && berth__pool_release_some(device, floor - free_size) == 0)
            berth__stream_release(device);
    }
}

void berth__pool_tend(void)
{
    uint64_t floor = berth__option(BERTH_OPTION_DEVICE_FLOOR), excess = berth__limit_excess();

    if (berth__pool_disabled() || berth__device_capturing())
        return;
    if (excess > 0 && berth__pool_release_some(BERTH_POOL_ALL_DEVICES, excess) < excess)
        berth__stream_release(BERTH_POOL_ALL_DEVICES);
    if (floor > 0)
        keep_floor(floor);
}
