/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_settle.h"

#include "alloc/pool_alone.h"
#include "alloc/pool_parts.h"

/* One segment for all may make the pool a 21st larger than what lives... */
#define SETTLED_DIVISOR 21
/* ...and with what has to be asked for beside it, a 20th. */
#define TOTAL_DIVISOR 20
/*
 * It is a 64th of that larger than the rehearsal is high, because the smallest blocks come in
 * between; and what did not fit into it in the second rehearsal may be as much.
 */
#define SPARE_SHIFT 6
/* More of others makes a rehearsal worthless. */
#define OTHERS_SHIFT 5
/* Growth by less is none. */
#define SHAPE_SHIFT 6
/* Low, and full, is what differs by less than so much of the most that ever lived. */
#define LOW_SHIFT 10
#define FULL_SHIFT 8
/* What fewer large blocks do is no rehearsal: many programs have yet to begin what they do. */
#define BLOCKS_MIN 2048
/* Asking more seldom is worth no change. */
#define ASKS_MIN 16

/* The most that ever lived. */
static uint64_t most_live(const struct berth_pool *pool)
{
    return pool->live_max > pool->steps.most ? pool->live_max : pool->steps.most;
}

/* What one heap for blocks of all sizes would have had to have so far. */
static uint64_t heap_need(const struct berth_pool *pool)
{
    return pool->heap.height + most_live(pool) - pool->steps.most;
}

/* The bytes of blocks in use that are not large. */
static uint64_t others_live(const struct berth_pool *pool)
{
    uint64_t all = pool->reserved - pool->cached - pool->overhead;

    return all > pool->steps.live ? all - pool->steps.live : 0;
}

static void rehearsal_end(struct berth_settling *settling)
{
    settling->is_rehearsing = false;
    settling->asks = 0;
    berth__sketch_end(&settling->rehearsal);
}

/* All begins anew, and takes as long as it took until now. */
static void shape_begin(struct berth_pool *pool)
{
    struct berth_settling *settling = &pool->settling;

    settling->shape = heap_need(pool);
    settling->shaped_at = settling->entered;
    settling->low = pool->steps.live;
    rehearsal_end(settling);
}

void berth__settle_begin(struct berth_pool *pool)
{
    pool->settling.is_settled = false;
    pool->settling.segment_size = 0;
    pool->settling.entered = 0;
    shape_begin(pool);
}

void berth__settle_end(struct berth_pool *pool)
{
    if (!pool->settling.is_settled)
        return;
    pool->settling.is_settled = false;
    pool->settling.segment_size = 0;
    shape_begin(pool);
}

static bool is_about_low(const struct berth_pool *pool, uint64_t live)
{
    return live <= pool->settling.low + (pool->steps.most >> LOW_SHIFT);
}

bool berth__settle_is_low(const struct berth_pool *pool)
{
    return is_about_low(pool, pool->steps.live);
}

/* Whether others than what is idle live in it, so that it does not go when the pool settles. */
static bool stays(const struct berth_segment *segment)
{
    return segment->kind == BERTH_SEGMENT_SHARED && segment->used_blocks > 0;
}

/* A place of the sketch's end, which is to be free later. False without host memory. */
static bool add_hole(struct berth_sketch *sketch, uint64_t size, struct berth_block **holes)
{
    struct berth_block *hole = berth__sketch_add(sketch, size);

    if (!hole)
        return false;
    hole->waiting = *holes;
    *holes = hole;
    return true;
}

/* Places as the segment has them, at the sketch's end; one more is the border to what follows. */
static bool copy_segment(struct berth_sketch *sketch, const struct berth_segment *segment,
                         struct berth_block **holes)
{
    uint64_t used = 0;

    for (const struct berth_block *block = segment->first; block; block = block->next) {
        if (berth__block_state(block) != BERTH_BLOCK_FREE) {
            used += block->size;
            continue;
        }
        if ((used > 0 && !berth__sketch_add(sketch, used)) || !add_hole(sketch, block->size, holes))
            return false;
        used = 0;
    }
    return berth__sketch_add(sketch, used + BERTH_GRANULE) != NULL;
}

/* What the pool would have for blocks that come from now on. */
static bool copy_pool(struct berth_pool *pool, uint64_t room)
{
    struct berth_sketch *sketch = &pool->settling.rehearsal;
    struct berth_block *holes = NULL, *next;

    for (const struct berth_segment *segment = pool->segments; segment; segment = segment->next)
        if (stays(segment) && !copy_segment(sketch, segment, &holes))
            return false;
    if (room > 0 && (!add_hole(sketch, room, &holes) || !berth__sketch_add(sketch, BERTH_GRANULE)))
        return false;
    pool->settling.begun_height = sketch->height;
    for (; holes; holes = next) {
        next = holes->waiting;
        berth__sketch_remove(sketch, holes);
    }
    return true;
}

/* With the pool low. Without host memory it goes on, and shows nothing. */
static void rehearse(struct berth_pool *pool, uint64_t room)
{
    struct berth_settling *settling = &pool->settling;

    rehearsal_end(settling);
    settling->is_rehearsing = true;
    settling->begun_at = settling->entered;
    settling->begun_low = settling->live_max = pool->steps.live;
    settling->others_max = 0;
    settling->room = room;
    if (berth__sketch_begin(&settling->rehearsal) == 0)
        copy_pool(pool, room);
}

/* As many blocks have come in it as gave the pool its shape, and as much lived as ever did. */
static bool is_rehearsed(const struct berth_pool *pool)
{
    const struct berth_settling *settling = &pool->settling;
    uint64_t blocks = settling->shaped_at > BLOCKS_MIN ? settling->shaped_at : BLOCKS_MIN;
    uint64_t most = pool->steps.most;

    return settling->entered - settling->begun_at >= blocks &&
           settling->live_max >= most - (most >> FULL_SHIFT);
}

static void settle(struct berth_pool *pool)
{
    pool->settling.is_settled = true;
    pool->settling.segment_size = pool->settling.room;
    rehearsal_end(&pool->settling);
    /* What was in the way was so before. */
    pool->excess_max = 0;
    berth__alone_decide(pool);
}

/* A rehearsal is over, and the pool is low. */
static void judge(struct berth_pool *pool)
{
    const struct berth_settling *settling = &pool->settling;
    uint64_t most = most_live(pool) + most_live(pool) / SETTLED_DIVISOR;
    uint64_t total = most_live(pool) + most_live(pool) / TOTAL_DIVISOR;
    uint64_t spare = most_live(pool) >> SPARE_SHIFT;
    uint64_t busy = pool->reserved - pool->idle_bytes - pool->idle_alone;
    uint64_t more = settling->rehearsal.height - settling->begun_height;
    uint64_t room = settling->room > 0 ? settling->room : berth__pool_driver_size(more);

    if (settling->asks < ASKS_MIN) {
        rehearsal_end(&pool->settling);
    } else if (!berth__sketch_is_on(&settling->rehearsal) ||
               settling->others_max > most_live(pool) >> OTHERS_SHIFT || busy + room > most ||
               (settling->room > 0 && (more > spare || busy + room + more > total))) {
        shape_begin(pool);
    } else if (settling->room > 0) {
        settle(pool);
    } else {
        if (room + spare > most - busy)
            spare = most - busy - room;
        rehearse(pool, (room + spare) & ~(BERTH_DRIVER_PIECE - 1));
    }
}

bool berth__settle_has_room(const struct berth_pool *pool, uint64_t size)
{
    uint64_t most = most_live(pool) + most_live(pool) / SETTLED_DIVISOR;

    return pool->idle_bytes + pool->idle_alone == 0 ||
           (size <= most && pool->reserved <= most - size);
}

static bool may_settle(const struct berth_pool *pool)
{
    return !pool->settling.is_settled && pool->joint_reserved == 0 && berth__alone_is_on(pool) &&
           !berth__alone_is_for_good(pool);
}

/* It is begun late, and anew where it did not begin as low as the pool is now. */
static bool is_to_rehearse(const struct berth_pool *pool)
{
    const struct berth_settling *settling = &pool->settling;

    return settling->is_rehearsing ? !is_about_low(pool, settling->begun_low)
                                   : settling->asks >= ASKS_MIN;
}

static bool is_due(const struct berth_pool *pool)
{
    return may_settle(pool) && berth__settle_is_low(pool) &&
           (is_to_rehearse(pool) || (pool->settling.is_rehearsing && is_rehearsed(pool)));
}

void berth__settle_look(struct berth_pool *pool)
{
    if (!is_due(pool))
        return;
    if (is_to_rehearse(pool))
        rehearse(pool, 0);
    else
        judge(pool);
}

void berth__settle_ask(struct berth_pool *pool)
{
    pool->settling.asks++;
}

void berth__settle_enter(struct berth_pool *pool, uint64_t name, uint64_t size)
{
    struct berth_settling *settling = &pool->settling;

    settling->entered++;
    if (settling->live_max < pool->steps.live)
        settling->live_max = pool->steps.live;
    if (settling->others_max < others_live(pool))
        settling->others_max = others_live(pool);
    if (heap_need(pool) > settling->shape + (settling->shape >> SHAPE_SHIFT))
        shape_begin(pool);
    if (settling->is_rehearsing && !may_settle(pool))
        rehearsal_end(settling);
    if (berth__sketch_is_on(&settling->rehearsal))
        berth__sketch_enter(&settling->rehearsal, name, size);
}

void berth__settle_enter_other(struct berth_pool *pool, uint64_t name, uint64_t size)
{
    struct berth_settling *settling = &pool->settling;

    /* What is worthless need not be dear: chains of names may be long. */
    if (berth__sketch_is_on(&settling->rehearsal) &&
        settling->others_max <= most_live(pool) >> OTHERS_SHIFT)
        berth__sketch_enter(&settling->rehearsal, name, size);
}

void berth__settle_leave_other(struct berth_pool *pool, uint64_t name)
{
    if (berth__sketch_is_on(&pool->settling.rehearsal))
        berth__sketch_leave(&pool->settling.rehearsal, name);
}

void berth__settle_leave(struct berth_pool *pool, uint64_t name)
{
    struct berth_settling *settling = &pool->settling;

    if (settling->low > pool->steps.live)
        settling->low = pool->steps.live;
    if (berth__sketch_is_on(&settling->rehearsal))
        berth__sketch_leave(&settling->rehearsal, name);
    /* The block is not free yet: it is looked at with the next allocation. */
    if (is_due(pool))
        atomic_store_explicit(&pool->is_scattered, true, memory_order_relaxed);
}
