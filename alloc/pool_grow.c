/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/options.h"
#include "alloc/page_map.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_parts.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"

#include <errno.h>

/* A smaller segment would waste device memory: the driver takes that much for it. */
#define SEGMENT_SIZE_MIN BERTH_DRIVER_PIECE

/* A segment to be: everything that can fail for want of host memory is had before the driver. */
struct growth {
    struct berth_segment *segment;
    struct berth_block *block;
    uint64_t size;
    uint64_t generation; /* the pool's, when the driver was asked */
};

static void growth_undo(struct berth_pool *pool, struct growth *growth)
{
    berth__pool_lock(pool);
    if (growth->block)
        berth__block_delete(&pool->block_slab, growth->block);
    if (growth->segment) {
        berth__segment_starts_delete(&pool->starts_slab, growth->segment->starts, growth->size);
        berth__slab_delete(&pool->segment_slab, growth->segment);
    }
    berth__pool_unlock(pool);
}

static int growth_prepare(struct berth_pool *pool, uint64_t size, bool is_whole,
                          struct growth *growth)
{
    struct berth_segment *segment;

    berth__pool_lock(pool);
    *growth = (struct growth){
        .segment = berth__slab_new(&pool->segment_slab, sizeof(struct berth_segment)),
        .block = berth__block_new(&pool->block_slab, pool),
        .size = size,
        .generation = pool->generation,
    };
    segment = growth->segment;
    if (segment && !is_whole)
        segment->starts = berth__segment_starts_new(&pool->starts_slab, size);
    berth__pool_unlock(pool);
    if (!segment || !growth->block || (!is_whole && !segment->starts))
        goto undo;
    segment->size = size;
    segment->pool = pool;
    segment->kind = is_whole ? BERTH_SEGMENT_WHOLE : BERTH_SEGMENT_SHARED;
    return 0;
undo:
    growth_undo(pool, growth);
    return -ENOBUFS;
}

void berth__pool_list_add(struct berth_pool *pool, struct berth_segment *segment)
{
    segment->prev = NULL;
    segment->next = pool->segments;
    if (segment->next)
        segment->next->prev = segment;
    pool->segments = segment;
    if (segment->kind == BERTH_SEGMENT_SHARED)
        pool->shared_reserved += segment->size;
}

void berth__pool_list_remove(struct berth_pool *pool, struct berth_segment *segment)
{
    if (segment->prev)
        segment->prev->next = segment->next;
    else
        pool->segments = segment->next;
    if (segment->next)
        segment->next->prev = segment->prev;
    if (segment->kind == BERTH_SEGMENT_SHARED)
        pool->shared_reserved -= segment->size;
}

/*
 * Whether the record may go. A block that a thread is freeing is left to that thread, which learns
 * from the state that there is nothing left to free.
 */
static bool block_retire(struct berth_block *block)
{
    for (;;) {
        uintptr_t address = berth__block_address(block);
        enum berth_block_state state = berth__block_state(block);

        if (state == BERTH_BLOCK_LEAVING) {
            if (berth__block_move(block, address, state, BERTH_BLOCK_ORPHAN))
                return false;
        } else if (state != BERTH_BLOCK_LIVE ||
                   berth__block_move(block, address, state, BERTH_BLOCK_FREE)) {
            return true;
        }
    }
}

void berth__pool_delete_segment(struct berth_pool *pool, struct berth_segment *segment)
{
    struct berth_block *block = segment->first;

    while (block) {
        struct berth_block *next = block->next;

        if (block_retire(block))
            berth__block_delete(&pool->block_slab, block);
        block = next;
    }
    berth__segment_starts_delete(&pool->starts_slab, segment->starts, segment->size);
    berth__slab_delete(&pool->segment_slab, segment);
}

static void waiting_remove(struct berth_pool *pool, const struct berth_block *block)
{
    struct berth_block *at = pool->waiting;

    if (at == block) {
        pool->waiting = block->waiting;
        return;
    }
    while (at && at->waiting != block)
        at = at->waiting;
    if (at)
        at->waiting = block->waiting;
}

void berth__pool_forget_segment(struct berth_pool *pool, struct berth_segment *segment)
{
    struct berth_free_set *set =
        segment->kind == BERTH_SEGMENT_WHOLE ? &pool->whole : &pool->shared;

    if (segment->is_mapped)
        berth__segment_unmap(segment);
    for (struct berth_block *block = segment->first; block; block = block->next) {
        switch (berth__block_state(block)) {
        case BERTH_BLOCK_FREE:
            berth__free_set_remove(set, block);
            berth__pool_count_cached(pool, -block->size);
            break;
        case BERTH_BLOCK_WAITING:
            if (!berth__lazy_remove(pool, block))
                waiting_remove(pool, block);
            break;
        default:
            berth__stats_free(pool->tier, (enum berth_tag)block->tag, block->requested,
                              block->size);
            break;
        }
    }
    berth__pool_list_remove(pool, segment);
    if (segment->kind == BERTH_SEGMENT_BORROWED)
        berth__pool_unborrow(segment);
    else
        berth__tier_release(pool->tier, segment->size);
    berth__pool_delete_segment(pool, segment);
}

/*
 * The driver gave out an address that some segment still claims: that segment's context was
 * destroyed in a way that no hook saw.
 */
static void forget_stale(struct berth_segment *segment)
{
    struct berth_pool *pool = segment->pool;

    if (!pool) {
        berth__foreign_forget(segment);
        return;
    }
    berth__pool_lock(pool);
    if (segment->is_mapped && berth__page_map_find(segment->base) == segment)
        berth__pool_forget_segment(pool, segment);
    berth__pool_unlock(pool);
}

/* Enters the segment that the driver gave, and leaves with the lock held if that worked. */
static int growth_enter(struct berth_pool *pool, struct growth *growth, uintptr_t base)
{
    struct berth_segment *segment = growth->segment;

    segment->base = base;
    for (;;) {
        struct berth_segment *other = NULL;
        int r;

        berth__pool_lock(pool);
        if (pool->generation != growth->generation) {
            berth__pool_unlock(pool);
            return -ESTALE;
        }
        r = berth__segment_map(segment, &other);
        if (r == 0)
            return 0;
        berth__pool_unlock(pool);
        if (r != -EEXIST)
            return r;
        forget_stale(other);
    }
}

/* Adds a segment of `size` bytes and hands its first block out. -ENOMEM, -ENOSPC, -ENOBUFS, ... */
static int grow_by(struct berth_pool *pool, const struct berth_pool_request *request,
                   uint64_t block_size, uint64_t size, bool is_whole, bool is_captured,
                   uintptr_t *ret_address)
{
    struct growth growth;
    struct berth_block *block;
    uintptr_t base = 0;
    int r = growth_prepare(pool, size, is_whole, &growth);

    if (r < 0)
        return r;
    r = berth__tier_reserve(pool->tier, size);
    if (r < 0)
        goto undo_prepare;
    r = berth__device_alloc(size, &base);
    if (r < 0)
        goto undo_reserve;
    if ((base & (BERTH_GRANULE - 1)) != 0 || growth_enter(pool, &growth, base) < 0) {
        /* The memory is good, only the records are not: it is the program's, without an account. */
        berth__tier_release(pool->tier, size);
        growth_undo(pool, &growth);
        *ret_address = base;
        return 0;
    }
    /* The whole segment is one free block at first; the request is cut from it. */
    berth__segment_place(growth.segment, growth.block, NULL, base, size);
    berth__pool_list_add(pool, growth.segment);
    growth.segment->used_blocks++;
    berth__pool_put(pool, growth.block);
    block = growth.block;
    berth__free_set_remove(is_whole ? &pool->whole : &pool->shared, block);
    if (block->size > block_size && !is_whole) {
        struct berth_block *rest = berth__block_new(&pool->block_slab, pool);

        if (rest) {
            berth__segment_split(block, block_size, rest);
            berth__free_set_insert(&pool->shared, rest);
        }
    }
    berth__pool_hand_out(pool, block, request);
    if (is_captured)
        block->flags = BERTH_BLOCK_CAPTURED;
    *ret_address = berth__block_address(block);
    berth__pool_unlock(pool);
    return 0;

undo_reserve:
    berth__tier_release(pool->tier, size);
undo_prepare:
    growth_undo(pool, &growth);
    return r;
}

/*
 * Segments that are shared double from 2 MiB to the option segment-size, so that a small program
 * takes little and a large one asks seldom.
 */
static uint64_t shared_segment_size(struct berth_pool *pool, uint64_t block_size)
{
    uint64_t limit = berth__option(BERTH_OPTION_SEGMENT_SIZE);
    uint64_t size;

    berth__pool_lock(pool);
    size = pool->shared_reserved;
    berth__pool_unlock(pool);
    if (size > limit)
        size = limit;
    if (size < block_size)
        size = block_size;
    return berth__pool_driver_size(size < SEGMENT_SIZE_MIN ? SEGMENT_SIZE_MIN : size);
}

static bool is_out_of_memory(int r)
{
    return r == -ENOMEM || r == -ENOSPC;
}

/* Blocks that wait since a capture come free by a synchronisation, when no capture is open. */
static bool settle_waiting(struct berth_pool *pool)
{
    berth_cu_context context = atomic_load_explicit(&pool->context, memory_order_relaxed);
    uint64_t epoch;
    bool is_waiting;

    berth__pool_lock(pool);
    is_waiting = pool->waiting != NULL;
    epoch = pool->wait_epoch++;
    berth__pool_unlock(pool);
    if (!is_waiting || berth__device_capturing() || berth__device_sync(context) < 0)
        return false;
    berth__pool_lock(pool);
    berth__pool_settle(pool, epoch);
    berth__pool_unlock(pool);
    return true;
}

static bool take_cached(struct berth_pool *pool, const struct berth_pool_request *request,
                        uint64_t size, bool is_whole, uintptr_t *ret_address)
{
    struct berth_block *block;

    berth__pool_lock(pool);
    block = berth__pool_take(pool, size, is_whole);
    if (block) {
        berth__pool_hand_out(pool, block, request);
        *ret_address = berth__block_address(block);
    }
    berth__pool_unlock(pool);
    return block != NULL;
}

/* A request that looks for what waits. */
struct wish {
    const struct berth_pool_request *request;
    uint64_t size;
    bool is_whole;
    uintptr_t *ret_address;
};

static bool take_wish(struct berth_pool *pool, void *argument)
{
    const struct wish *wish = argument;

    return take_cached(pool, wish->request, wish->size, wish->is_whole, wish->ret_address);
}

int berth__pool_grow(struct berth_pool *pool, const struct berth_pool_request *request,
                     uint64_t size, bool is_whole, bool is_captured, uintptr_t *ret_address)
{
    uint64_t least =
        berth__pool_driver_size(is_whole || size > SEGMENT_SIZE_MIN ? size : SEGMENT_SIZE_MIN);
    uint64_t target = is_whole ? least : shared_segment_size(pool, size);
    struct wish wish = {request, size, is_whole, ret_address};
    int r;

    if (!is_captured && berth__lazy_take(pool, size, take_wish, &wish))
        return 0;
    r = grow_by(pool, request, size, target, is_whole, is_captured, ret_address);

    if (is_out_of_memory(r) && !is_captured && settle_waiting(pool) &&
        take_cached(pool, request, size, is_whole, ret_address))
        return 0;
    if (is_out_of_memory(r) && least < target)
        r = grow_by(pool, request, size, least, is_whole, is_captured, ret_address);
    while (is_out_of_memory(r) && berth__pool_release_for(pool, r, size, least) > 0)
        r = grow_by(pool, request, size, least, is_whole, is_captured, ret_address);
    /* At the very end the block alone may still find room. */
    if (is_out_of_memory(r) && size < least)
        r = grow_by(pool, request, size, size, is_whole, is_captured, ret_address);
    return r == -ENOBUFS ? BERTH_POOL_FORWARD : r;
}
