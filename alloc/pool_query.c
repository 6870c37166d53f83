/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/birth.h"
#include "alloc/page_map.h"
#include "alloc/pool_alone.h"
#include "alloc/pool_parts.h"
#include "alloc/range.h"
#include "alloc/tier_ops.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

struct berth_block *berth__pool_find_and_lock(uintptr_t address, int *ret_error)
{
    struct berth_segment *segment = berth__page_map_find(address);
    struct berth_pool *pool = segment ? segment->pool : NULL;
    struct berth_block *block;

    *ret_error = -ENOENT;
    if (!pool || berth__pool_disabled())
        return NULL;
    berth__pool_lock(pool);
    if (berth__page_map_find(address) == segment) {
        block = berth__segment_block(segment, address);
        if (block && berth__block_state(block) == BERTH_BLOCK_LIVE &&
            address - berth__block_address(block) <
                __atomic_load_n(&block->requested, __ATOMIC_RELAXED))
            return block;
        *ret_error = -EFAULT;
    }
    berth__pool_unlock(pool);
    return NULL;
}

/*
 * Threads free and hand out blocks without the pool's lock: whether all that was read is of one
 * allocation, the block's key and number tell afterwards.
 */
static bool view_block(const struct berth_block *block, struct berth_block_view *ret)
{
    uint64_t id = __atomic_load_n(&block->id, __ATOMIC_ACQUIRE);

    *ret = (struct berth_block_view){
        .tier = block->pool->tier,
        .base = berth__block_address(block),
        .requested = __atomic_load_n(&block->requested, __ATOMIC_RELAXED),
        .held = block->size,
        .id = id,
        .context = atomic_load_explicit(&block->pool->context, memory_order_relaxed),
        .is_borrowed = block->segment->kind == BERTH_SEGMENT_BORROWED,
        .is_whole = block->is_whole,
        .page_size = block->segment->range ? berth__range_page_size(block->segment->range) : 0,
        .is_sync_memops = (block->flags & BERTH_BLOCK_SYNC_MEMOPS) != 0,
        .tag = (enum berth_tag)__atomic_load_n(&block->tag, __ATOMIC_RELAXED),
        .tagged_by = (enum berth_tag_source)__atomic_load_n(&block->tagged_by, __ATOMIC_RELAXED),
        .site = __atomic_load_n(&block->site, __ATOMIC_RELAXED),
        .table_version = __atomic_load_n(&block->table_version, __ATOMIC_RELAXED),
        .rule = __atomic_load_n(&block->rule, __ATOMIC_RELAXED),
        .age_ns = __atomic_load_n(&block->site, __ATOMIC_RELAXED) == 0
                      ? 0
                      : berth__birth_short_age(__atomic_load_n(&block->birth, __ATOMIC_RELAXED)),
        .class_number = atomic_load_explicit(&block->class_number, memory_order_relaxed),
    };
    return berth__block_state(block) == BERTH_BLOCK_LIVE &&
           __atomic_load_n(&block->id, __ATOMIC_RELAXED) == id;
}

int berth__pool_find(uintptr_t address, struct berth_block_view *ret)
{
    struct berth_block_view view;
    const struct berth_block *block;
    bool is_whole_truth;
    int r;

    do {
        block = berth__pool_find_and_lock(address, &r);
        if (!block)
            return r;
        is_whole_truth = view_block(block, &view);
        berth__pool_unlock(block->pool);
    } while (!is_whole_truth);
    *ret = view;
    return 0;
}

void berth__pool_set_exported(uintptr_t base)
{
    int r;
    struct berth_block *block = berth__pool_find_and_lock(base, &r);

    if (!block)
        return;
    atomic_fetch_or_explicit(&block->flags, BERTH_BLOCK_EXPORTED, memory_order_relaxed);
    berth__pool_unlock(block->pool);
}

uint64_t berth__pool_cached(int device)
{
    uint64_t cached = 0;

    if (berth__pool_disabled())
        return 0;
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next) {
        berth__pool_lock(pool);
        if ((device == BERTH_POOL_ALL_DEVICES || pool->device == device) &&
            berth__tier(pool->tier)->kind != BERTH_KIND_SHARED)
            cached += pool->cached + berth__cache_bytes(pool);
        berth__pool_unlock(pool);
    }
    return cached;
}

static void audit_segment(const struct berth_segment *segment, struct berth_pool_audit *audit)
{
    const struct berth_range *range = segment->range;

    audit->segments++;
    audit->reserved += range ? atomic_load(&range->backed) << range->page_shift : segment->size;
    if (range)
        audit->kept += berth__range_kept(range) << range->page_shift;
    for (const struct berth_block *block = segment->first; block; block = block->next) {
        switch (berth__block_state(block)) {
        case BERTH_BLOCK_FREE:
        case BERTH_BLOCK_CACHED:
            audit->cached += block->size;
            break;
        case BERTH_BLOCK_WAITING:
            audit->waiting += block->size;
            break;
        case BERTH_BLOCK_HOLE:
        case BERTH_BLOCK_MOVING:
            break;
        default:
            audit->held += block->size;
            audit->live_blocks++;
            break;
        }
    }
}

void berth__pool_audit(struct berth_pool_audit *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (berth__pool_disabled())
        return;
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next) {
        berth__pool_lock(pool);
        for (struct berth_segment *segment = pool->segments; segment; segment = segment->next)
            audit_segment(segment, ret);
        berth__pool_unlock(pool);
    }
}

static uint64_t waiting_bytes(const struct berth_pool *pool)
{
    uint64_t bytes = berth__lazy_bytes(pool);

    for (const struct berth_block *block = pool->waiting; block; block = block->waiting)
        bytes += block->size;
    return bytes;
}

/* Whether the holes of the range are whole pages and in the list, and all else has memory. */
static bool range_is_valid(const struct berth_pool *pool)
{
    const struct berth_segment *segment = pool->range;
    const struct berth_range *range = segment ? segment->range : NULL;
    uint64_t holes = 0;

    for (const struct berth_block *hole = pool->holes; hole; hole = hole->right)
        holes++;
    for (const struct berth_block *block = segment ? segment->first : NULL; block;
         block = block->next) {
        enum berth_block_state state = berth__block_state(block);
        uint64_t page = berth__range_page(range, berth__block_address(block));
        uint64_t end = berth__range_page(range, berth__block_address(block) + block->size - 1) + 1;
        uint64_t at = page, run = berth__range_next(range, state != BERTH_BLOCK_HOLE, &at, end);

        if (state == BERTH_BLOCK_MOVING)
            continue;
        if (at != page || run != end - page)
            return false;
        if (state == BERTH_BLOCK_HOLE && end - page != block->size >> range->page_shift)
            return false;
        holes -= state == BERTH_BLOCK_HOLE;
    }
    return holes == 0;
}

/* What is derived for large blocks; see pool_alone.h and pool_step.h. */
static bool large_is_valid(const struct berth_pool *pool)
{
    uint64_t rounding[BERTH_ALONE_OCTAVES] = {0};
    uint64_t overhead = 0, large = 0, joint = 0, live = 0;

    for (const struct berth_segment *segment = pool->segments; segment; segment = segment->next) {
        large += berth__pool_is_for_large(segment) ? segment->size : 0;
        joint += segment->is_joint ? segment->size : 0;
        for (const struct berth_block *block = segment->first; block; block = block->next) {
            if (block->rounding == 0)
                continue;
            if (berth__block_state(block) == BERTH_BLOCK_FREE)
                return false;
            if (block->rounding == BERTH_ALONE_REHEARSED)
                continue;
            if (block->rounding == BERTH_OWN_LARGER) {
                overhead += berth__own_overhead(block);
                continue;
            }
            rounding[berth__alone_octave(berth__size_round(block->requested))] +=
                block->rounding & ~BERTH_ALONE_COUNTED;
            overhead += berth__alone_overhead(block);
            live += berth__size_round(block->requested);
        }
    }
    return memcmp(rounding, pool->rounding, sizeof(rounding)) == 0 && overhead == pool->overhead &&
           large == pool->large_reserved && joint == pool->joint_reserved &&
           live == pool->steps.live;
}

static bool is_valid_frozen(const struct berth_pool *pool)
{
    struct berth_pool_audit audit = {0};
    uint64_t shared = 0, reserved = 0, idle = 0, idle_bytes = 0, idle_alone = 0, idle_small = 0;
    uint64_t idle_pieces = 0;

    if (!berth__free_set_is_valid(&pool->shared) || !berth__free_set_is_valid(&pool->whole) ||
        !berth__free_set_is_valid(&pool->joint))
        return false;
    for (const struct berth_segment *segment = pool->segments; segment; segment = segment->next) {
        if (segment->pool != pool || (segment->next && segment->next->prev != segment) ||
            !berth__segment_is_valid(segment))
            return false;
        if (segment->kind == BERTH_SEGMENT_SHARED)
            shared += segment->size;
        if (segment->kind == BERTH_SEGMENT_SHARED && segment->used_blocks == 0) {
            idle++;
            idle_bytes += segment->size;
        }
        if (segment->kind == BERTH_SEGMENT_WHOLE && segment->used_blocks == 0)
            idle_alone += segment->size;
        if (segment->kind <= BERTH_SEGMENT_WHOLE && segment->used_blocks == 0) {
            if (segment->size <= BERTH_DRIVER_PIECE / 2)
                idle_small += segment->size;
            else
                idle_pieces += berth__pool_driver_size(segment->size);
        }
        /* A range counts its pages by itself, and without the lock while they come and go. */
        if (!segment->range)
            reserved += segment->size;
        audit_segment(segment, &audit);
    }
    return audit.cached == pool->cached + berth__cache_bytes(pool) &&
           audit.waiting == waiting_bytes(pool) && shared == pool->shared_reserved &&
           reserved == pool->reserved && idle == pool->idle_segments &&
           idle_bytes == pool->idle_bytes && idle_alone == pool->idle_alone &&
           idle_small == pool->idle_small && idle_pieces == pool->idle_pieces &&
           large_is_valid(pool) && range_is_valid(pool);
}

bool berth__pool_is_valid(struct berth_pool *pool)
{
    bool is_valid;

    /* A free that waits changes the block and its cell together, one that is kept its cache. */
    for (struct berth_cache *cache = pool->caches; cache; cache = cache->next)
        berth__cache_lock(cache);
    is_valid = is_valid_frozen(pool);
    for (struct berth_cache *cache = pool->caches; cache; cache = cache->next)
        berth__cache_unlock(cache);
    return is_valid;
}

/* A look takes as long as the pool has bytes: of a large one it is taken more seldom. */
#define LOOKED_AT_BYTES ((uint64_t)64 << 20)

void berth__pool_look(struct berth_pool *pool)
{
    if (pool->unlocked++ % (pool->reserved / LOOKED_AT_BYTES + 1) == 0)
        assert(berth__pool_is_valid(pool));
}

bool berth__pools_are_valid(void)
{
    bool valid = true;

    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next) {
        pthread_mutex_lock(&pool->lock);
        valid = valid && berth__pool_is_valid(pool);
        pthread_mutex_unlock(&pool->lock);
    }
    return valid;
}

bool berth__pool_in_use(void)
{
    return atomic_load_explicit(&berth__pool_first, memory_order_relaxed) != NULL;
}

void berth__pool_disable(void)
{
    atomic_store(&berth__pool_is_disabled, true);
}

bool berth__pool_is_off(void)
{
    return berth__pool_disabled();
}
