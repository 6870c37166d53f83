/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_expand.h"

#include "alloc/log.h"
#include "alloc/peer.h"
#include "alloc/pool_claim.h"
#include "alloc/range.h"
#include "alloc/stats.h"

#include <errno.h>

/*
 * How much more than the largest sum of live blocks a pool may have before memory moves: a 64th.
 * Replayed: with a 50th, the edges of pages put one trace in three above 1.02 of what lives; with a
 * 100th a training trace moves a third more pages in each repetition, and ends up with as much.
 */
#define SLACK_DIVISOR 64

/* One expansion, from the claim to the end. */
struct expansion {
    struct berth_pool *pool;
    struct berth_range *range;
    struct berth_place place;
    struct berth_block *victims; /* whose pages lend their memory */
    struct berth_page_lender lender;
    struct berth_block *lending; /* the victim that the lender is at */
    uint64_t first, count;       /* the place's pages */
    uint64_t peers;
};

/* The last mover of a forsaken range leaves it to berth__pool_bury_ranges(). With the lock held. */
static void mover_leave(struct berth_pool *pool, struct berth_range *range)
{
    if (--range->movers == 0 && range->is_forsaken) {
        range->next = pool->forsaken;
        pool->forsaken = range;
    }
}

void berth__pool_forsake_range(struct berth_pool *pool, struct berth_segment *segment)
{
    struct berth_range *range = segment->range;

    segment->range = NULL;
    pool->range = NULL;
    range->is_forsaken = true;
    range->movers++;
    mover_leave(pool, range);
}

void berth__pool_bury_ranges(struct berth_pool *pool)
{
    struct berth_range *range, *next;

    berth__pool_lock(pool);
    range = pool->forsaken;
    pool->forsaken = NULL;
    berth__pool_unlock(pool);
    for (; range; range = next) {
        next = range->next;
        berth__range_delete(range);
    }
}

/* Enters a range as one hole. 0 also when another thread was faster. */
static int range_enter(struct berth_pool *pool, struct berth_range *range)
{
    struct berth_growth growth;
    struct berth_segment *segment;
    int r = berth__growth_prepare(pool, range->size, BERTH_SEGMENT_RANGE, &growth);

    if (r < 0)
        return r;
    segment = growth.segment;
    r = berth__growth_enter(pool, &growth, range->base);
    if (r < 0)
        goto undo;
    berth__segment_place(segment, growth.block, NULL, range->base, range->size);
    if (pool->range) {
        berth__segment_unmap(segment);
        berth__pool_unlock(pool);
        r = -EEXIST;
        goto undo;
    }
    segment->range = range;
    range->peers = berth__peer_devices(atomic_load(&pool->context));
    pool->range = segment;
    berth__pool_list_add(pool, segment);
    segment->used_blocks++;
    berth__hole_put(pool, growth.block);
    berth__pool_unlock(pool);
    return 0;
undo:
    berth__growth_undo(pool, &growth);
    return r;
}

static int range_make(struct berth_pool *pool)
{
    struct berth_range *range;
    int r = berth__range_new(atomic_load_explicit(&pool->device, memory_order_relaxed),
                             atomic_load_explicit(&pool->tier, memory_order_relaxed), &range);

    if (r < 0)
        return r;
    r = range_enter(pool, range);
    if (r < 0)
        berth__range_delete(range);
    return r == -EEXIST ? 0 : r;
}

/* Pages that are to be asked of the driver of `need` for a request of `size`; the lock is held. */
static uint64_t fresh_pages(struct berth_pool *pool, uint64_t size, uint64_t need)
{
    const struct berth_range *range = pool->range->range;
    uint64_t reserved = berth__pool_reserved(pool);
    uint64_t live_max = berth__pool_live_max(pool, size);
    uint64_t cap = live_max + live_max / SLACK_DIVISOR;
    uint64_t room = cap > reserved ? (cap - reserved) >> range->page_shift : 0;

    return room < need ? room : need;
}

static bool next_victim(struct berth_page_lender *lender)
{
    struct expansion *expansion = lender->context;
    struct berth_block *victim = expansion->lending;

    if (!victim)
        return false;
    lender->next = berth__range_page(expansion->range, berth__block_address(victim));
    lender->end = lender->next + (victim->size >> expansion->range->page_shift);
    expansion->lending = victim->waiting;
    return true;
}

/* With the lock held: takes the place and the pages that will lend, out of all free sets. */
static int expansion_begin(struct berth_pool *pool, uint64_t size, bool is_tight,
                           struct expansion *ret)
{
    struct berth_segment *segment = pool->range;
    uint64_t need, fresh;
    int r;

    if (!segment)
        return -EAGAIN;
    *ret = (struct expansion){.pool = pool, .range = segment->range};
    r = berth__place_find(pool, size, is_tight, &ret->place);
    if (r < 0)
        return r;
    fresh = is_tight ? 0 : fresh_pages(pool, size, ret->place.empty_pages);
    r = berth__place_claim(pool, &ret->place);
    if (r < 0)
        return r;
    ret->count = berth__range_pages(ret->range, berth__block_address(ret->place.block),
                                    ret->place.claimed, &ret->first);
    need = ret->place.empty_pages - fresh;
    if (need > 0 && ret->range->pinned == 0)
        ret->victims = berth__victims_claim(pool, need);
    ret->lending = ret->victims;
    ret->lender = (struct berth_page_lender){.more = next_victim, .context = ret};
    ret->peers = ret->range->peers;
    ret->range->movers++;
    return 0;
}

/* Calls the driver, without any lock. */
static int expansion_run(struct expansion *expansion)
{
    int r;

    berth__victims_take_away(expansion->range, expansion->victims);
    r = berth__range_fill(expansion->range, expansion->first, expansion->count, expansion->peers,
                          &expansion->lender);
    berth__victims_release(expansion->range, expansion->victims);
    return r;
}

/* Lets those devices of `devices` use pages, or not any more; who keeps its access does no harm. */
static int open_to(struct berth_range *range, uint64_t first, uint64_t count, uint64_t devices,
                   bool is_open)
{
    int r = 0;

    for (int device = 0; r == 0 && device < BERTH_PEER_DEVICES_MAX; device++) {
        if (!(devices >> device & 1))
            continue;
        r = berth__range_open(range, first, count, device, is_open);
        r = is_open ? r : 0;
    }
    return r;
}

/* Peers that came meanwhile are let in too, and others out. Leaves with the lock held. */
static int expansion_confirm(struct expansion *expansion, int r)
{
    struct berth_range *range = expansion->range;
    uint64_t gone;

    berth__pool_lock(expansion->pool);
    while (r == 0 && range->peers != expansion->peers && !range->is_forsaken) {
        gone = expansion->peers & ~range->peers;
        expansion->peers = range->peers;
        berth__pool_unlock(expansion->pool);
        open_to(range, expansion->first, expansion->count, gone, false);
        r = berth__range_fill(range, expansion->first, expansion->count, expansion->peers, NULL);
        berth__pool_lock(expansion->pool);
    }
    if (r == 0)
        berth__range_confirm(range, expansion->first, expansion->count);
    return r;
}

int berth__pool_expand(struct berth_pool *pool, const struct berth_pool_request *request,
                       uint64_t size, bool is_tight, uintptr_t *ret_address)
{
    struct expansion expansion;
    struct berth_block *block;
    bool has_range;
    int r;

    berth__pool_lock(pool);
    has_range = pool->range != NULL;
    berth__pool_unlock(pool);
    r = has_range ? 0 : range_make(pool);
    if (r < 0)
        return r;
    berth__pool_lock(pool);
    r = expansion_begin(pool, size, is_tight, &expansion);
    berth__pool_unlock(pool);
    if (r < 0)
        return r;
    r = expansion_confirm(&expansion, expansion_run(&expansion));
    if (expansion.range->is_forsaken) {
        berth__victims_abandon(pool, expansion.victims);
        berth__place_abandon(pool, &expansion.place);
        r = -EAGAIN;
    } else {
        berth__victims_settle(pool, expansion.victims);
        block = berth__place_settle(pool, &expansion.place, r == 0);
        if (block) {
            berth__pool_hand_out(pool, block, request);
            *ret_address = berth__block_address(block);
        }
    }
    mover_leave(pool, expansion.range);
    berth__pool_unlock(pool);
    berth__pool_bury_ranges(pool);
    return r;
}

uint64_t berth__pool_shrink(struct berth_pool *pool, uint64_t need)
{
    struct berth_block *victims = NULL;
    struct berth_range *range = NULL;
    uint64_t bytes = 0, released = 0, pages;

    berth__pool_lock(pool);
    if (pool->range && pool->range->range->pinned == 0 && !berth__pool_may_end(pool)) {
        range = pool->range->range;
        pages = need >> range->page_shift;
        if (pages << range->page_shift < need)
            pages++;
        victims = berth__victims_claim(pool, pages);
        for (const struct berth_block *victim = victims; victim; victim = victim->waiting)
            bytes += victim->size;
        victims = berth__kept_claim(pool, victims);
    }
    if (victims) {
        range->movers++;
        atomic_fetch_add_explicit(&pool->releasing, bytes, memory_order_relaxed);
    }
    berth__pool_unlock(pool);
    if (!victims)
        return 0;
    berth__victims_take_away(range, victims);
    released = berth__victims_release(range, victims);
    berth__pool_lock(pool);
    if (range->is_forsaken)
        berth__victims_abandon(pool, victims);
    else
        berth__victims_settle(pool, victims);
    mover_leave(pool, range);
    berth__pool_unlock(pool);
    berth__pool_count_released(pool, bytes);
    berth__pool_bury_ranges(pool);
    return released;
}

/* Lets the peers that came use all pages of the range that are OPEN, and those that went no more.
 */
static int range_open(struct berth_pool *pool, struct berth_range *range, uint64_t before)
{
    uint64_t page = 0, end = range->size >> range->page_shift, run;
    uint64_t peers = range->peers;
    int r = 0;

    while (r == 0 && !range->is_forsaken &&
           (run = berth__range_next(range, true, &page, end)) > 0) {
        berth__pool_unlock(pool);
        open_to(range, page, run, before & ~peers, false);
        r = open_to(range, page, run, peers & ~before, true);
        page += run;
        berth__pool_lock(pool);
    }
    return r;
}

int berth__pool_open_to_peers(berth_cu_context context)
{
    int r = 0;

    if (!context || berth__pool_disabled())
        return 0;
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool && r == 0;
         pool = pool->next) {
        struct berth_range *range;
        uint64_t before;

        berth__pool_lock(pool);
        if (atomic_load(&pool->context) != context || !pool->range) {
            berth__pool_unlock(pool);
            continue;
        }
        range = pool->range->range;
        before = range->peers;
        range->peers = berth__peer_devices(context);
        range->pinned++;
        range->movers++;
        r = range_open(pool, range, before);
        range->pinned--;
        mover_leave(pool, range);
        berth__pool_unlock(pool);
        berth__pool_bury_ranges(pool);
    }
    return r;
}
