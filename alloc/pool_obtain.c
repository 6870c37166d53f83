/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_obtain.h"

#include "alloc/device_context.h"
#include "alloc/options.h"
#include "alloc/page_map.h"
#include "alloc/pool_parts.h"
#include "alloc/pool_stream.h"
#include "alloc/range.h"
#include "alloc/tier_ops.h"

/* Whether a request that comes later could have the block, or its memory. */
static bool is_unused(const struct berth_block *block)
{
    enum berth_block_state state = berth__block_state(block);

    return state == BERTH_BLOCK_FREE || state == BERTH_BLOCK_CACHED || state == BERTH_BLOCK_WAITING;
}

/* Most segments have a live block at their begin. */
static bool is_idle(const struct berth_segment *segment)
{
    const struct berth_block *block = segment->used_blocks == 0 ? NULL : segment->first;

    while (block && is_unused(block))
        block = block->next;
    return !block;
}

/*
 * What the driver's piece gives that begins with this segment, which has less than one: all, if all
 * that is known to lie in it is idle. Who else has memory there is asked of the page map.
 */
static uint64_t shared_piece(const struct berth_segment *lowest)
{
    uintptr_t piece = lowest->base & ~(uintptr_t)(BERTH_DRIVER_PIECE - 1);
    const struct berth_segment *segment = berth__page_map_next(piece);

    if (segment != lowest)
        return 0;
    while (segment && segment->base < piece + BERTH_DRIVER_PIECE) {
        if (segment->pool != lowest->pool || !is_idle(segment))
            return 0;
        segment = berth__page_map_next(segment->base + segment->size);
    }
    return BERTH_DRIVER_PIECE;
}

static void add_segment(const struct berth_segment *segment, struct berth_obtainable *ret)
{
    if (!is_idle(segment))
        return;
    ret->reserved += segment->size;
    ret->pieces += segment->size <= BERTH_DRIVER_PIECE / 2 ? shared_piece(segment)
                                                           : berth__pool_driver_size(segment->size);
}

/* The unused blocks from `block` on, which is one; and the block behind them. */
static uint64_t run_of(const struct berth_block *block, const struct berth_block **ret_end)
{
    uint64_t bytes = 0;

    for (; block && is_unused(block); block = block->next)
        bytes += block->size;
    *ret_end = block;
    return bytes;
}

/*
 * What waits and is not ready yet is in the way of blocks that come until then: a page that it
 * shares with free memory may be theirs in part when it is.
 */
static uint64_t run_alike(const struct berth_block *block, const struct berth_block **ret_end)
{
    bool waits = berth__block_state(block) == BERTH_BLOCK_WAITING;
    uint64_t bytes = 0;

    for (; block && is_unused(block); block = block->next) {
        if ((berth__block_state(block) == BERTH_BLOCK_WAITING) != waits)
            break;
        bytes += block->size;
    }
    *ret_end = block;
    return bytes;
}

static void add_range(const struct berth_segment *segment, struct berth_obtainable *ret)
{
    const struct berth_range *range = segment->range;
    const struct berth_block *block = segment->first;
    uint64_t pages = 0, first;

    while (block) {
        uintptr_t base = berth__block_address(block);
        const struct berth_block *next = block->next;

        if (is_unused(block))
            pages += berth__range_pages(range, base, run_alike(block, &next), &first);
        block = next;
    }
    ret->pieces += pages << range->page_shift;
    ret->reserved += pages << range->page_shift;
}

/* Where blocks of all sizes share segments. */
static void add_gaps(const struct berth_segment *segment, struct berth_obtainable *ret)
{
    const struct berth_block *block = segment->first;

    while (block) {
        const struct berth_block *next = block->next;
        uint64_t bytes = is_unused(block) ? run_of(block, &next) : 0;

        if (ret->gap < bytes)
            ret->gap = bytes;
        block = next;
    }
}

/* Whether it serves the calling thread. */
static bool is_current(const struct berth_pool *pool)
{
    berth_cu_context context = NULL;

    return berth__context_current(&context) == 0 && context &&
           context == atomic_load_explicit(&pool->context, memory_order_relaxed);
}

/* What is planned, or of another context, not every block of the caller's can have. */
static bool has_gaps(const struct berth_pool *pool)
{
    return berth__option(BERTH_OPTION_SEGMENTS) == BERTH_SEGMENTS_SHARED && !pool->is_planned &&
           is_current(pool);
}

static void add_pool(const struct berth_pool *pool, struct berth_obtainable *ret)
{
    bool may_have_gaps = has_gaps(pool);

    for (const struct berth_segment *segment = pool->segments; segment; segment = segment->next) {
        if (segment->range) {
            add_range(segment, ret);
            continue;
        }
        add_segment(segment, ret);
        /* In the joint one is room for large blocks alone. */
        if (may_have_gaps && segment->kind == BERTH_SEGMENT_SHARED && !segment->is_joint &&
            segment->size > ret->gap)
            add_gaps(segment, ret);
    }
}

static bool concerns(const struct berth_pool *pool, int device, berth_tier_id tier)
{
    return berth__tier(pool->tier)->kind != BERTH_KIND_SHARED &&
           (device == BERTH_POOL_ALL_DEVICES || pool->device == device) &&
           (tier == BERTH_TIER_NONE || pool->tier == tier);
}

/*
 * Small blocks that threads keep, or that wait, lie between free ones: what is next asked for would
 * go between them, and keep segments in use that count as idle.
 */
static void join_pool(struct berth_pool *pool)
{
    if (!berth__device_capturing()) {
        berth__lazy_reclaim(pool, BERTH_LAZY_LOOK);
        berth__lazy_reclaim(pool, BERTH_LAZY_CLOSE);
    }
    berth__pool_lock(pool);
    berth__cache_flush(pool);
    berth__pool_unlock(pool);
}

bool berth__pool_obtain_begin(int device)
{
    if (berth__pool_disabled())
        return false;
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next)
        if (concerns(pool, device, BERTH_TIER_NONE) && is_current(pool))
            join_pool(pool);
    return berth__stream_obtainable(device) == 0 &&
           berth__stream_release_done(device, UINT64_MAX) > 0;
}

void berth__pool_obtainable(int device, berth_tier_id tier, uint64_t least_gap,
                            struct berth_obtainable *ret)
{
    *ret = (struct berth_obtainable){.gap = least_gap};
    if (!berth__pool_disabled()) {
        for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next) {
            berth__pool_lock(pool);
            if (concerns(pool, device, tier))
                add_pool(pool, ret);
            berth__pool_unlock(pool);
        }
    }
    if (ret->gap == least_gap)
        ret->gap = 0;
    if (device != BERTH_POOL_ALL_DEVICES)
        ret->pieces += berth__stream_obtainable(device);
}

void berth__pool_promise(int device, uint64_t bytes)
{
    if (berth__pool_disabled())
        return;
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next)
        if (atomic_load_explicit(&pool->device, memory_order_relaxed) == device)
            atomic_store_explicit(&pool->promised, bytes, memory_order_relaxed);
}
