/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/clock.h"
#include "alloc/log.h"
#include "alloc/options.h"
#include "alloc/order.h"
#include "alloc/page_map.h"
#include "alloc/pool_alone.h"
#include "alloc/pool_claim.h"
#include "alloc/pool_class.h"
#include "alloc/pool_expand.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_idle.h"
#include "alloc/pool_own.h"
#include "alloc/pool_plan.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"
#include "alloc/unseen.h"

#include <errno.h>
#include <string.h>

/* A smaller segment would waste device memory: the driver takes that much for it. */
#define SEGMENT_SIZE_MIN BERTH_DRIVER_PIECE

void berth__growth_undo(struct berth_pool *pool, struct berth_growth *growth)
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

int berth__growth_prepare(struct berth_pool *pool, uint64_t size, enum berth_segment_kind kind,
                          struct berth_growth *growth)
{
    struct berth_cache *cache = berth__cache_peek(pool);
    struct berth_segment *segment;

    berth__pool_lock(pool);
    /* Its context was destroyed since it was found: what it got now would be left to the next. */
    if (!atomic_load_explicit(&pool->context, memory_order_relaxed)) {
        berth__pool_unlock(pool);
        return -ESTALE;
    }
    *growth = (struct berth_growth){
        .segment = berth__segment_new(&pool->segment_slab, pool),
        .block = berth__block_new_near(&pool->block_slab, pool, cache ? &cache->records : NULL),
        .size = size,
        .generation = pool->generation,
    };
    segment = growth->segment;
    if (segment && kind != BERTH_SEGMENT_WHOLE)
        segment->starts = berth__segment_starts_new(&pool->starts_slab, size);
    berth__pool_unlock(pool);
    if (!segment || !growth->block || (kind != BERTH_SEGMENT_WHOLE && !segment->starts))
        goto undo;
    segment->size = size;
    segment->kind = kind;
    return 0;
undo:
    berth__growth_undo(pool, growth);
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
    if (segment->is_joint)
        pool->joint_reserved += segment->size;
    if (berth__pool_is_for_large(segment))
        pool->large_reserved += segment->size;
    if (segment->kind != BERTH_SEGMENT_RANGE)
        pool->reserved += segment->size;
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
    if (segment->is_joint)
        pool->joint_reserved -= segment->size;
    if (berth__pool_is_for_large(segment))
        pool->large_reserved -= segment->size;
    if (segment->kind != BERTH_SEGMENT_RANGE)
        pool->reserved -= segment->size;
}

/*
 * Whether the record may go. A block that a thread is freeing is left to that thread, which learns
 * from the state that there is nothing left to free; one whose pages it moves, likewise, which
 * learns it from the range.
 */
static bool block_retire(struct berth_block *block)
{
    for (;;) {
        uintptr_t address = berth__block_address(block);
        enum berth_block_state state = berth__block_state(block);

        if (state == BERTH_BLOCK_MOVING)
            return false;
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

/* No block of it is in a thread's cache: those are shut. */
void berth__pool_forget_segment(struct berth_pool *pool, struct berth_segment *segment)
{
    struct berth_free_set *set = berth__pool_set(pool, segment);

    if (segment->is_mapped)
        berth__segment_unmap(segment);
    for (struct berth_block *block = segment->first; block; block = block->next) {
        switch (berth__block_state(block)) {
        case BERTH_BLOCK_FREE:
            berth__free_set_remove(set, block);
            berth__idle_leave(pool, block);
            berth__pool_count_cached(pool, -block->size);
            break;
        case BERTH_BLOCK_WAITING:
            berth__alone_leave(pool, block);
            berth__lazy_remove(pool, block);
            break;
        case BERTH_BLOCK_HOLE:
            berth__hole_remove(pool, block);
            break;
        case BERTH_BLOCK_MOVING:
            break;
        default:
            berth__alone_leave(pool, block);
            berth__pool_class_leave(block);
            berth__stats_free(pool->tier, (enum berth_tag)block->tag, block->requested,
                              block->size);
            berth__pool_site_leave(block);
            break;
        }
    }
    berth__pool_list_remove(pool, segment);
    if (segment->kind == BERTH_SEGMENT_BORROWED)
        berth__pool_unborrow(segment);
    else if (segment->kind == BERTH_SEGMENT_RANGE)
        berth__pool_forsake_range(pool, segment);
    else
        berth__tier_release(pool->tier, segment->size);
    berth__pool_delete_segment(pool, segment);
}

static _Atomic int doubts; /* calls under way, see berth__pool_doubt_begin() */

void berth__pool_doubt_begin(void)
{
    atomic_fetch_add(&doubts, 1);
}

void berth__pool_doubt_end(void)
{
    atomic_fetch_sub(&doubts, 1);
}

/*
 * The segment, or its context, was freed in a way that no hook saw, or just now. The record may be
 * another segment's by the time that the lock is had, somewhere else: that one has nothing to do
 * with it.
 */
void berth__pool_forget_stale(struct berth_segment *segment, uintptr_t base, uint64_t size)
{
    struct berth_pool *pool = segment->pool;
    bool has_live = false;

    if (!pool) {
        berth__foreign_forget(segment);
        return;
    }
    berth__pool_lock(pool);
    berth__cache_shut(pool);
    if (segment->is_mapped && segment->base < base + size && base < segment->base + segment->size &&
        berth__page_map_find(segment->base) == segment) {
        /* A context that another thread is destroying has been seen. */
        has_live = segment->used_blocks > 0 && atomic_load(&doubts) == 0 &&
                   !atomic_load_explicit(&pool->is_ending, memory_order_relaxed);
        berth__pool_forget_segment(pool, segment);
    }
    berth__cache_open(pool);
    berth__pool_unlock(pool);
    berth__pool_bury_ranges(pool);
    if (has_live)
        berth__unseen_add(BERTH_UNSEEN_FREE, "device memory was freed by a way that Berth does "
                                             "not see");
}

void berth__pool_forget_at(uintptr_t base, uint64_t size)
{
    struct berth_segment *segment;

    while (!berth__pool_disabled() && (segment = berth__page_map_find(base)))
        berth__pool_forget_stale(segment, base, size);
}

int berth__growth_enter(struct berth_pool *pool, struct berth_growth *growth, uintptr_t base)
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
        berth__pool_forget_stale(other, base, segment->size);
    }
}

/* Called with the lock held: what was entered becomes a segment of the pool, all free. */
static void segment_add(struct berth_pool *pool, const struct berth_growth *growth, uintptr_t base)
{
    berth__segment_place(growth->segment, growth->block, NULL, base, growth->size);
    berth__pool_list_add(pool, growth->segment);
    growth->segment->used_blocks++;
    berth__pool_put(pool, growth->block);
}

/* Called with the lock held: cuts the request from a segment that is one free block. */
static void segment_cut(struct berth_pool *pool, struct berth_block *block, uint64_t size,
                        bool is_whole)
{
    struct berth_block *rest;

    berth__free_set_remove(is_whole ? &pool->whole : &pool->shared, block);
    berth__idle_leave(pool, block);
    if (block->size <= size || is_whole)
        return;
    rest = berth__block_new(&pool->block_slab, pool);
    if (!rest)
        return;
    berth__segment_split(block, size, rest);
    berth__free_set_insert(&pool->shared, rest);
}

/* Adds a segment of `size` bytes and hands its first block out. -ENOMEM, -ENOSPC, -ENOBUFS, ... */
static int grow_by(struct berth_pool *pool, const struct berth_pool_request *request,
                   uint64_t block_size, uint64_t size, bool is_whole, bool is_captured,
                   uintptr_t *ret_address)
{
    struct berth_growth growth;
    uintptr_t base = 0;
    int r = berth__growth_prepare(pool, size, is_whole ? BERTH_SEGMENT_WHOLE : BERTH_SEGMENT_SHARED,
                                  &growth);

    if (r < 0)
        return r;
    r = berth__tier_reserve(pool->tier, size);
    if (r < 0)
        goto undo_prepare;
    r = berth__device_alloc(size, &base);
    if (r < 0)
        goto undo_reserve;
    if ((base & (BERTH_GRANULE - 1)) != 0 || berth__growth_enter(pool, &growth, base) < 0) {
        /* The memory is good, only the records are not: it is the program's, without an account. */
        berth__tier_release(pool->tier, size);
        berth__growth_undo(pool, &growth);
        *ret_address = base;
        return 0;
    }
    segment_add(pool, &growth, base);
    segment_cut(pool, growth.block, block_size, is_whole);
    berth__pool_hand_out(pool, growth.block, request);
    if (is_captured)
        growth.block->flags = BERTH_BLOCK_CAPTURED;
    *ret_address = berth__block_address(growth.block);
    berth__pool_unlock(pool);
    return 0;

undo_reserve:
    berth__tier_release(pool->tier, size);
undo_prepare:
    berth__growth_undo(pool, &growth);
    return r;
}

int berth__pool_add_segment(struct berth_pool *pool, uint64_t size, bool is_joint)
{
    struct berth_growth growth;
    uintptr_t base = 0;
    int r = berth__growth_prepare(pool, size, BERTH_SEGMENT_SHARED, &growth);

    if (r < 0)
        return r;
    growth.segment->is_joint = is_joint;
    r = berth__tier_reserve(pool->tier, size);
    if (r < 0)
        goto undo_prepare;
    r = berth__device_alloc(size, &base);
    if (r < 0)
        goto undo_reserve;
    r = (base & (BERTH_GRANULE - 1)) == 0 ? berth__growth_enter(pool, &growth, base) : -ENOTSUP;
    if (r < 0)
        goto undo_alloc;
    segment_add(pool, &growth, base);
    berth__pool_unlock(pool);
    return 0;

undo_alloc:
    /* What a context had is gone with it. */
    if (r != -ESTALE)
        berth__device_free(atomic_load_explicit(&pool->context, memory_order_relaxed), base);
undo_reserve:
    berth__tier_release(pool->tier, size);
undo_prepare:
    berth__growth_undo(pool, &growth);
    return r;
}

uint64_t berth__pool_reserved(const struct berth_pool *pool)
{
    const struct berth_range *range = pool->range ? pool->range->range : NULL;

    if (!range)
        return pool->reserved;
    return pool->reserved +
           (atomic_load_explicit(&range->backed, memory_order_relaxed) << range->page_shift);
}

uint64_t berth__pool_live_max(struct berth_pool *pool, uint64_t size)
{
    uint64_t live = berth__pool_reserved(pool) - pool->cached - pool->overhead + size;

    if (pool->live_max < live)
        pool->live_max = live;
    return pool->live_max;
}

/* What is asked for, and how. */
struct request {
    struct berth_pool *pool;
    const struct berth_pool_request *request;
    uint64_t size;
    uint64_t least;  /* the smallest segment that is worth having for it */
    uint64_t target; /* the one that is tried first */
    bool is_whole;
    bool is_captured;
    bool is_expandable;
    uint64_t live_max;                          /* the pool's, before the request */
    uint64_t misses;                            /* likewise */
    uint64_t rounding_max[BERTH_ALONE_OCTAVES]; /* likewise */
    uintptr_t *ret_address;
};

/*
 * Segments that small blocks share double from 2 MiB to the option segment-size, so that a small
 * program takes little and a large one asks seldom.
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

/*
 * Where blocks of all sizes share segments, the pool is to have hardly more than was ever live in
 * it. While it has less, a segment is a 64th of that, so that blocks do not meet a border at every
 * turn; from there on, just large enough for the request, or for some like it: see tile().
 */
#define PART_SHIFT 6
#define PART_SHIFT_SMALL 7 /* where all large blocks have segments alone, those of all others */

/*
 * As more comes to live than ever, what comes may stay, as weights do and what an optimizer keeps
 * of them: then a segment may be so large, and no more than an 8th of what lives, if less of it is
 * left over.
 */
#define RISING_MAX ((uint64_t)16 << 20)
#define RISING_SHIFT 3

/*
 * How much more it may have, a plan's segment counted in: a 10240th for each time that it had to
 * grow although less lived than once before, up to a 64th, so that a program that never repeats
 * itself asks a little more seldom.
 */
#define MISSES_MAX 160
#define MISSES_SHIFT 6 /* the share at MISSES_MAX */

/*
 * The smallest segment for some blocks of `size` bytes that leaves nearly nothing over, with as few
 * of them as can be, and no larger than `most` but for one block; the driver takes whole pieces.
 */
static uint64_t tile(uint64_t size, uint64_t most)
{
    uint64_t count = size < SEGMENT_SIZE_MIN ? SEGMENT_SIZE_MIN / size : 1, best = 0, best_rest = 0;

    do {
        uint64_t bytes = count * size;
        uint64_t segment =
            berth__pool_driver_size(bytes < SEGMENT_SIZE_MIN ? SEGMENT_SIZE_MIN : bytes);
        uint64_t rest = segment - bytes;

        if (best == 0 ||
            rest * (best >> BERTH_GRANULE_SHIFT) < best_rest * (segment >> BERTH_GRANULE_SHIFT)) {
            best = segment;
            best_rest = rest;
        }
        count++;
    } while (best_rest > best >> PART_SHIFT && count <= most / size);
    return best;
}

static bool is_out_of_memory(int r)
{
    return r == -ENOMEM || r == -ENOSPC || r == -EDQUOT;
}

bool berth__pool_settle_waiting(struct berth_pool *pool)
{
    berth_cu_context context = atomic_load_explicit(&pool->context, memory_order_relaxed);
    uint64_t lost = berth__order_lost(context), epoch;
    bool is_waiting;
    int r;

    berth__pool_lock(pool);
    is_waiting = pool->waiting != NULL;
    epoch = pool->wait_epoch++;
    berth__pool_unlock(pool);
    if (!is_waiting || berth__device_capturing())
        return false;
    r = berth__pool_await_quiet(pool, BERTH_PATIENCE_LONG);
    if (r == 0 || (r < 0 && berth__order_sync(context) < 0))
        return false;
    if (r < 0)
        berth__order_synced(context, lost);
    berth__pool_lock(pool);
    berth__pool_settle(pool, epoch);
    berth__pool_unlock(pool);
    return true;
}

static bool take_cached(const struct request *request)
{
    struct berth_pool *pool = request->pool;
    struct berth_block *block;

    berth__pool_lock(pool);
    block = berth__pool_take(pool, request->size, request->is_whole);
    if (!block && berth__cache_flush(pool))
        block = berth__pool_take(pool, request->size, request->is_whole);
    if (block) {
        berth__pool_hand_out(pool, block, request->request);
        *request->ret_address = berth__block_address(block);
    }
    berth__pool_unlock(pool);
    return block != NULL;
}

/* With the lock held: what a pool where blocks of all sizes share segments may have. */
static uint64_t shared_cap(struct berth_pool *pool, uint64_t size)
{
    uint64_t before = pool->live_max, live_max = berth__pool_live_max(pool, size), most;

    if (live_max > before) {
        pool->misses = 0;
        berth__alone_note_peak(pool, size);
    } else if (pool->misses < MISSES_MAX) {
        pool->misses++;
    }
    most = live_max;
    if (berth__pool_plan_exists())
        most += berth__pool_plan_size(atomic_load_explicit(&pool->context, memory_order_relaxed));
    return live_max + (most >> MISSES_SHIFT) / MISSES_MAX * pool->misses;
}

/* With the lock held: the usual segment in a pool that may have `cap` bytes. */
static uint64_t part_size(const struct berth_pool *pool, uint64_t cap)
{
    bool is_for_small = berth__alone_is_on(pool) && !pool->is_alone_in_part;

    return cap >> (is_for_small ? PART_SHIFT_SMALL : PART_SHIFT);
}

static uint64_t rising_size(uint64_t live_max, uint64_t part)
{
    uint64_t most = live_max >> RISING_SHIFT;

    if (most > RISING_MAX)
        most = RISING_MAX;
    return most > part ? most : part;
}

static bool take_passed(struct berth_pool *pool, void *argument)
{
    const struct request *request = argument;

    return berth__pool_alloc_passed(pool, request->request, request->size, request->is_whole,
                                    request->ret_address);
}

/* What was asked for in vain was never live: a program may ask for more than there is, to see. */
static void forget_live_max(const struct request *request)
{
    berth__pool_lock(request->pool);
    request->pool->live_max = request->live_max;
    berth__pool_unlock(request->pool);
}

/*
 * What waits was enough: the pool never had to grow. What other threads grew by meanwhile stays,
 * who had longer than usual for that: `live_max` and `misses` are forgotten if they are still as
 * noted.
 */
static void forget_growth(const struct request *request, uint64_t live_max, uint64_t misses)
{
    struct berth_pool *pool = request->pool;

    berth__pool_lock(pool);
    if (pool->live_max == live_max && pool->misses == misses) {
        pool->live_max = request->live_max;
        pool->misses = request->misses;
        /* With the peak that was noted goes what rounding would have cost then. */
        if (live_max > request->live_max) {
            memcpy(pool->rounding_max, request->rounding_max, sizeof(pool->rounding_max));
            berth__alone_decide(pool);
        }
    }
    berth__pool_unlock(pool);
}

/* The pool would have `bytes` more than it may: what is idle goes back, and `live_max` is noted. */
static uint64_t give_back(const struct request *request, uint64_t bytes, uint64_t live_max)
{
    struct berth_pool *pool = request->pool;
    uint64_t reserved;

    /* What is alone goes by itself, and may be asked for again soon: no more of it than must. */
    if (berth__alone_is_on(pool))
        berth__pool_release_part(pool, bytes);
    else
        berth__pool_release_all(pool);
    berth__pool_lock(pool);
    reserved = berth__pool_reserved(pool);
    if (!request->is_whole && reserved + request->target > live_max)
        berth__alone_note_excess(pool, request->size, reserved + request->target - live_max);
    berth__pool_unlock(pool);
    return reserved;
}

/*
 * Where blocks of all sizes share segments: before the pool has more than it may, all segments that
 * are idle are given back, which were made for other sizes. Sets the size of the new one, or else
 * the request is served: of what waits, which would have gone back, too.
 */
static bool make_room(struct request *request)
{
    struct berth_pool *pool = request->pool;
    uint64_t before, cap, live_max, misses, reserved, part, room;

    berth__pool_lock(pool);
    if (request->is_whole) {
        berth__step_ask(pool);
        berth__settle_ask(pool);
    }
    before = pool->live_max;
    cap = shared_cap(pool, request->size);
    live_max = pool->live_max;
    misses = pool->misses;
    part = part_size(pool, cap);
    reserved = berth__pool_reserved(pool);
    berth__pool_unlock(pool);
    if (!request->is_whole)
        request->target =
            tile(request->size, live_max > before ? rising_size(live_max, part) : part);
    if (reserved + request->target > cap) {
        if (!request->is_whole &&
            berth__lazy_take(pool, request->size, BERTH_LAZY_DEAR, take_passed, request)) {
            forget_growth(request, live_max, misses);
            return true;
        }
        reserved = give_back(request, reserved + request->target - cap, live_max);
    }
    if (request->is_whole)
        return false;
    room = cap > reserved ? cap - reserved : 0;
    if (part > room)
        part = room;
    part &= ~(BERTH_DRIVER_PIECE - 1);
    if (request->target < part)
        request->target = part;
    return false;
}

static int grow(const struct request *request, uint64_t segment_size, bool is_tight)
{
    if (request->is_expandable)
        return berth__pool_expand(request->pool, request->request, request->size, is_tight,
                                  request->ret_address);
    return grow_by(request->pool, request->request, request->size, segment_size, request->is_whole,
                   request->is_captured, request->ret_address);
}

static void set_sizes(struct request *request)
{
    uint64_t size = request->size;

    request->least = berth__pool_driver_size(
        request->is_whole || size > SEGMENT_SIZE_MIN ? size : SEGMENT_SIZE_MIN);
    request->target = request->is_whole ? request->least : shared_segment_size(request->pool, size);
}

/*
 * A thread that waited so long gave up a wait, and waits again, so often: the driver's own free
 * would have waited for the work for ever, but what was queued since may wait for this very thread.
 */
#define RECLAIM_LONG_NS 900000000
#define RECLAIMS_MAX 8

static bool reclaim_all(const struct request *request)
{
    for (unsigned i = 0; i < RECLAIMS_MAX; i++) {
        int64_t begin = berth__clock_ns();

        if (berth__lazy_reclaim_all(request->pool, BERTH_PATIENCE_LONG) && take_cached(request))
            return true;
        if (berth__clock_ns() - begin < RECLAIM_LONG_NS)
            break;
    }
    return false;
}

/* Whether what waits, some of it or all, was enough. */
static bool reclaim(const struct request *request)
{
    return reclaim_all(request) ||
           (berth__lazy_await_others(request->pool) && take_cached(request)) ||
           (berth__lazy_settle(request->pool) && take_cached(request));
}

/* Better than to be refused is to be in the way of what the plan has for later. */
static bool take_lent(const struct request *request)
{
    return berth__pool_plan_exists() &&
           berth__pool_plan_lend(request->request, request->size, true, request->ret_address);
}

static int climb(const struct request *request)
{
    int r = grow(request, request->target, false);

    if (is_out_of_memory(r) && !request->is_captured && berth__pool_settle_waiting(request->pool) &&
        take_cached(request))
        return 0;
    /* Where no memory moves now, any free block will do. */
    if (r < 0 && r != -EAGAIN && request->is_expandable && take_cached(request))
        return 0;
    if (is_out_of_memory(r) && (request->is_expandable || request->least < request->target))
        r = grow(request, request->least, true);
    if (is_out_of_memory(r) && !request->is_captured && take_lent(request))
        return 0;
    /* What other threads keep was let alone as long as the driver had something. */
    if (is_out_of_memory(r) && !request->is_captured && (take_cached(request) || reclaim(request)))
        return 0;
    while (is_out_of_memory(r) &&
           berth__pool_release_for(request->pool, r, request->size, request->least) > 0)
        r = grow(request, request->least, true);
    /* What came free in the pool or the plan's since, and what another thread has gathered. */
    if (is_out_of_memory(r) && !request->is_captured &&
        (take_cached(request) || take_lent(request)))
        return 0;
    /* At the very end the block alone may still find room. */
    if (is_out_of_memory(r) && !request->is_expandable && request->size < request->least)
        r = grow(request, request->size, true);
    return r;
}

/* What cannot be done in a range is done as without one, which is said once if it can. */
static int climb_without_range(struct request *request, int error)
{
    static _Atomic int said;
    int r;

    request->is_expandable = false;
    request->is_whole = request->request->size >= berth__option(BERTH_OPTION_IPC_MIN);
    set_sizes(request);
    r = climb(request);
    if (r < 0)
        return r;
    if (error == -ENOSYS)
        berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_POOL,
                        "segments = expandable: the driver or device has no virtual memory "
                        "management; segments = own is in force instead");
    /* Nor is it a matter of ranges that the context, or the process, ends at the moment. */
    else if (error != -ESTALE && error != -ENOBUFS &&
             berth__device_result(error) != BERTH_CU_DEINITIALIZED)
        berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_POOL,
                        "segments = expandable: the driver answered %d; such blocks are served as "
                        "with segments = own",
                        berth__device_result(error));
    return r;
}

int berth__pool_grow(struct berth_pool *pool, const struct berth_pool_request *pool_request,
                     uint64_t size, bool is_whole, bool is_captured, uintptr_t *ret_address)
{
    uint64_t segments = berth__option(BERTH_OPTION_SEGMENTS);
    struct request request = {
        .pool = pool,
        .request = pool_request,
        .size = size,
        .is_whole = is_whole,
        .is_captured = is_captured,
        .is_expandable = segments == BERTH_SEGMENTS_EXPANDABLE && !is_captured,
        .ret_address = ret_address,
    };
    int r;

    /* A capture is open, or was until now: as if it had been from the beginning on. */
    if (!is_captured && !is_whole && !berth__lazy_point_waiting(pool)) {
        r = berth__pool_grow(pool, pool_request, size, true, true, ret_address);
        if (!is_out_of_memory(r))
            return r;
    }
    /* What the plan has no use for now is there already. */
    if (berth__pool_plan_exists() && !is_captured &&
        berth__pool_plan_lend(pool_request, size, false, ret_address))
        return 0;
    /* What waits may have passed. */
    if (!is_captured && berth__lazy_take(pool, size, is_whole ? BERTH_LAZY_DEAR : BERTH_LAZY_CHEAP,
                                         take_passed, &request))
        return 0;
    set_sizes(&request);
    berth__pool_lock(pool);
    request.live_max = pool->live_max;
    request.misses = pool->misses;
    memcpy(request.rounding_max, pool->rounding_max, sizeof(request.rounding_max));
    berth__pool_unlock(pool);
    if (segments == BERTH_SEGMENTS_SHARED && !is_captured && make_room(&request))
        return 0;
    if (segments == BERTH_SEGMENTS_OWN && !is_captured)
        berth__own_make_room(pool, is_whole ? request.least : request.target, is_whole);
    r = climb(&request);
    if (request.is_expandable && r < 0 && r != -EAGAIN && !is_out_of_memory(r))
        r = climb_without_range(&request, r);
    if (r < 0)
        forget_live_max(&request);
    return r == -ENOBUFS || r == -ESTALE || r == -EAGAIN ? BERTH_POOL_FORWARD : r;
}
