/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_obtain.h"

#include "alloc/device_context.h"
#include "alloc/options.h"
#include "alloc/page_map.h"
#include "alloc/pool_lazy.h"
#include "alloc/pool_parts.h"
#include "alloc/pool_stream.h"
#include "alloc/range.h"
#include "alloc/tier_ops.h"

/*
 * So many blocks are looked at in a pool, that threads keep, that wait, or that are free: what
 * threads keep and what waits for a few points is less. The pool is locked for so long.
 */
#define LOOKS_MAX 8192

/* A look at a pool, whose lock is held. */
struct look {
    struct berth_pool *pool;
    uint64_t pieces, reserved;
    uint64_t pages;  /* bytes of the range's */
    uint64_t number; /* of the look, for what segments count */
    unsigned left;
    bool is_captured; /* a capture is open */
};

/* Whether a request that comes later could have the block, or its memory. */
static bool is_unused(const struct berth_block *block)
{
    enum berth_block_state state = berth__block_state(block);

    return state == BERTH_BLOCK_FREE || state == BERTH_BLOCK_CACHED || state == BERTH_BLOCK_WAITING;
}

static bool may_look(struct look *look)
{
    return look->left > 0 && look->left-- > 0;
}

/* Of a small one. */
static bool is_idle(const struct berth_segment *segment)
{
    const struct berth_block *block = segment->first;

    if (segment->kind != BERTH_SEGMENT_WHOLE && segment->kind != BERTH_SEGMENT_SHARED)
        return false;
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

/* What waits while a stream is captured is settled after that, and no page of it moves before. */
static bool is_told(const struct look *look, const struct berth_block *block)
{
    return is_unused(block) &&
           (!look->is_captured || berth__block_state(block) != BERTH_BLOCK_WAITING);
}

/* Pages of the unused blocks from `block` on beyond those that its free ones have by themselves. */
static uint64_t run_pages(const struct look *look, const struct berth_block *block)
{
    const struct berth_range *range = block->segment->range;
    uint64_t bytes = 0, apart = 0, first;
    uintptr_t base = berth__block_address(block);

    for (; block && is_told(look, block); block = block->next) {
        if (berth__block_state(block) == BERTH_BLOCK_FREE)
            apart += berth__range_pages(range, berth__block_address(block), block->size, &first);
        bytes += block->size;
    }
    return berth__range_pages(range, base, bytes, &first) - apart;
}

/* Who comes first keeps what was told, see berth__pool_redeem(). */
static void pledge(struct berth_pool *pool, enum berth_pledge pledge)
{
    if (atomic_load_explicit(&pool->pledge, memory_order_relaxed) < pledge)
        atomic_store_explicit(&pool->pledge, pledge, memory_order_relaxed);
}

/* A block of a range that is kept or waits: the first of its run counts for all of it. */
static void add_of_range(struct look *look, const struct berth_block *block)
{
    const struct berth_range *range = block->segment->range;
    const struct berth_block *before = block->prev;

    if (!is_told(look, block))
        return;
    if (berth__block_state(block) == BERTH_BLOCK_WAITING)
        pledge(look->pool, BERTH_PLEDGE_SETTLE);
    if (before && berth__block_state(before) == BERTH_BLOCK_FREE) {
        block = before;
        before = before->prev;
    }
    if (!before || !is_told(look, before))
        look->pages += run_pages(look, block) << range->page_shift;
}

/* Holes are in no free set, and nobody's: of a range's blocks they count as unused ones. */
static void count_holes(struct look *look, struct berth_segment *range)
{
    range->look = look->number;
    range->unused_blocks = 0;
    for (const struct berth_block *hole = look->pool->holes; hole; hole = hole->right)
        range->unused_blocks++;
}

/* Nothing lives in a segment when as many of its blocks are kept or wait as are not free. */
static bool is_last_of(const struct look *look, struct berth_segment *segment)
{
    if (segment->look != look->number) {
        segment->look = look->number;
        segment->unused_blocks = 0;
    }
    return ++segment->unused_blocks == segment->used_blocks;
}

/* Nothing lives in it: all of it can be had, if no part of a page is anybody's before. */
static void tell_whole_range(struct look *look, const struct berth_range *range)
{
    look->pages = atomic_load_explicit(&range->backed, memory_order_relaxed) << range->page_shift;
    pledge(look->pool, BERTH_PLEDGE_WAIT);
}

/* A block that a thread keeps or that waits. */
static void add_block(struct look *look, const struct berth_block *block)
{
    struct berth_segment *segment = block->segment;

    if (segment->kind == BERTH_SEGMENT_RANGE) {
        add_of_range(look, block);
        if (!look->is_captured && is_last_of(look, segment))
            tell_whole_range(look, segment->range);
    } else if (segment->kind == BERTH_SEGMENT_WHOLE ||
               (segment->kind == BERTH_SEGMENT_SHARED && is_last_of(look, segment))) {
        look->reserved += segment->size;
        look->pieces += segment->size <= BERTH_DRIVER_PIECE / 2
                            ? shared_piece(segment)
                            : berth__pool_driver_size(segment->size);
    }
}

static void add_waiting(struct look *look, const struct berth_block *list)
{
    for (; list && may_look(look); list = list->waiting)
        add_block(look, list);
}

/* What its thread is closing just now is not told: it works on that without a lock. */
static void add_cache(struct look *look, struct berth_cache *cache)
{
    berth__cache_lock(cache);
    for (unsigned i = 0; cache->bytes > 0 && i < BERTH_CACHE_BINS; i++)
        for (const struct berth_block *block = cache->bin[i].first; block && may_look(look);
             block = block->link)
            add_block(look, block);
    add_waiting(look, cache->lazy.blocks);
    berth__cache_unlock(cache);
}

/* Idle segments that are smaller than a piece: the largest of the blocks up to their size. */
static void add_small(struct look *look, const struct berth_free_set *set)
{
    const struct berth_block *block = berth__free_set_below(set, BERTH_DRIVER_PIECE / 2 + 1);

    for (; block && may_look(look); block = berth__free_set_before(set, block))
        if (block->size == block->segment->size)
            look->pieces += shared_piece(block->segment);
}

/* What is free: idle segments are counted already, small ones by their bytes alone. */
static void add_free(struct look *look)
{
    const struct berth_pool *pool = look->pool;
    const struct berth_block *block;
    uint64_t first;

    look->reserved += pool->idle_bytes + pool->idle_alone;
    look->pieces += pool->idle_pieces;
    if (pool->idle_small > 0) {
        add_small(look, &pool->whole);
        add_small(look, &pool->shared);
        add_small(look, &pool->joint);
    }
    block = pool->range ? berth__free_set_last(&pool->shared) : NULL;
    for (; block && may_look(look); block = berth__free_set_before(&pool->shared, block)) {
        const struct berth_range *range = block->segment->range;

        if (!range)
            continue;
        if (block->size < berth__range_page_size(range))
            break;
        look->pages += berth__range_pages(range, berth__block_address(block), block->size, &first)
                       << range->page_shift;
    }
}

/* With the lock held. */
static void look_at(struct look *look)
{
    struct berth_pool *pool = look->pool;

    look->number = ++pool->looks;
    if (pool->range)
        count_holes(look, pool->range);
    add_free(look);
    for (struct berth_cache *cache = pool->caches; cache; cache = cache->next)
        add_cache(look, cache);
    for (struct berth_lazy_batch *batch = pool->lazy.batches; batch; batch = batch->next)
        add_waiting(look, batch->blocks);
    add_waiting(look, pool->waiting);
    look->pieces += look->pages;
    look->reserved += look->pages;
    /* A block that one thread frees and another has may be seen with both. */
    if (look->reserved > berth__pool_reserved(pool))
        look->reserved = berth__pool_reserved(pool);
}

/*
 * With the lock held, where blocks of all sizes share segments. What is planned, or of another
 * context, not every block of the caller's can have; in the joint segment is room for large ones
 * alone.
 */
static uint64_t largest_gap(const struct berth_pool *pool, berth_cu_context current)
{
    const struct berth_block *block;

    if (berth__option(BERTH_OPTION_SEGMENTS) != BERTH_SEGMENTS_SHARED || pool->is_planned ||
        !current || current != atomic_load_explicit(&pool->context, memory_order_relaxed))
        return 0;
    block = berth__free_set_last(&pool->shared);
    return block ? block->size : 0;
}

static void add_pool(struct berth_pool *pool, int device, berth_tier_id tier,
                     berth_cu_context current, struct berth_obtainable *ret)
{
    struct look look = {.pool = pool, .left = LOOKS_MAX, .is_captured = berth__device_capturing()};
    uint64_t gap = 0;

    berth__pool_lock(pool);
    if (berth__tier(pool->tier)->kind != BERTH_KIND_SHARED) {
        look_at(&look);
        if (pool->device == device) {
            gap = largest_gap(pool, current);
            ret->pieces += look.pieces;
            ret->gap = gap > ret->gap ? gap : ret->gap;
        }
        ret->reserved += look.reserved;
        ret->of_tier += pool->tier == tier ? look.reserved : 0;
    }
    berth__pool_unlock(pool);
}

void berth__pool_obtainable(int device, berth_tier_id tier, struct berth_obtainable *ret)
{
    berth_cu_context current = NULL;

    *ret = (struct berth_obtainable){0};
    if (berth__pool_disabled())
        return;
    if (berth__context_current(&current) < 0)
        current = NULL;
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next)
        add_pool(pool, device, tier, current, ret);
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

/* cuMemFree would have waited for all of it; what a short wait does not help waits on. */
void berth__pool_redeem_slowly(struct berth_pool *pool)
{
    unsigned char pledged = atomic_exchange_explicit(&pool->pledge, 0, memory_order_relaxed);
    bool any = pledged == BERTH_PLEDGE_WAIT;

    if (pledged != BERTH_PLEDGE_NONE)
        berth__lazy_reclaim(pool, BERTH_LAZY_CLOSE);
    while (any)
        any = berth__lazy_reclaim(pool, BERTH_LAZY_WAIT);
}
