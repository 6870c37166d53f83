/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_own.h"

#include "alloc/clock.h"
#include "alloc/limit.h"
#include "alloc/pool_parts.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"

#include <string.h>

/* A pool may have so much more in any case, unless the option is 0. */
#define SPARE_LEAST (128 * BERTH_MIB)
/*
 * What it earns each time: a quarter of what it has to ask for again, but a 50th of what ever lived
 * at least, so that a program of small blocks is left alone soon. Replayed: with a half and a 25th
 * it has a 50th more in the end, and asks as often.
 */
#define EARN_DIVISOR 4
#define EARN_LEAST_DIVISOR 50
/*
 * A block holds at most so many times what it needs, and all in use together so much, of what ever
 * lived, more than they need. Replayed: with twice at most the driver is asked for a tenth more;
 * without a bound, large blocks so often find small ones in their places that the pool gets larger.
 */
#define TIMES_MAX 4
#define LARGER_DIVISOR 2
/*
 * But only so much of what can still be had: it is lost to a program that comes to need all of
 * it.
 */
#define DEVICE_DIVISOR 16

uint64_t berth__own_overhead(const struct berth_block *block)
{
    uint64_t held = berth__pool_held_for(block->requested, true);

    return block->size > held ? block->size - held : 0;
}

void berth__own_begin(struct berth_pool *pool)
{
    memset(&pool->own, 0, sizeof(pool->own));
}

void berth__own_note_gone(struct berth_pool *pool, uint64_t size)
{
    struct berth_own *own = &pool->own;

    own->gone[own->gone_count++ % BERTH_OWN_GONE_MAX] = size;
}

/* With the lock held: what the process has of all devices, but for the pool. */
static uint64_t others(const struct berth_pool *pool)
{
    uint64_t used = berth__limit_used(BERTH_LIMIT_PROCESS), own = berth__pool_reserved(pool);

    return used > own ? used - own : 0;
}

/* With the lock held: what blocks in use may hold beyond what they need. */
static uint64_t larger_max(const struct berth_pool *pool)
{
    const struct berth_own *own = &pool->own;
    uint64_t now = others(pool), taken = now > own->others ? now - own->others : 0;
    uint64_t room = own->room > taken ? (own->room - taken) / DEVICE_DIVISOR : 0;

    return room < pool->live_max / LARGER_DIVISOR ? room : pool->live_max / LARGER_DIVISOR;
}

bool berth__own_may_hold(const struct berth_pool *pool, const struct berth_block *block,
                         uint64_t size)
{
    return berth__option(BERTH_OPTION_SEGMENTS) == BERTH_SEGMENTS_OWN &&
           block->size / TIMES_MAX <= size &&
           pool->overhead + block->size - berth__pool_driver_size(size) <= larger_max(pool);
}

/* Whether one that would have served was given back; it is forgotten, as another comes for it. */
static bool was_there(struct berth_own *own, uint64_t size)
{
    for (unsigned i = 0; i < BERTH_OWN_GONE_MAX; i++) {
        if (own->gone[i] >= size && own->gone[i] / 2 <= size) {
            own->gone[i] = 0;
            return true;
        }
    }
    return false;
}

static void earn(struct berth_pool *pool, uint64_t size)
{
    uint64_t bytes = size / EARN_DIVISOR, least = pool->live_max / EARN_LEAST_DIVISOR;

    if (was_there(&pool->own, size))
        pool->own.earned += bytes > least ? bytes : least;
}

/* With the lock held: what the pool may have with `need` bytes more. */
static uint64_t reserved_most(struct berth_pool *pool, uint64_t need, bool is_whole)
{
    uint64_t before = pool->live_max, live_max = berth__pool_live_max(pool, need);
    uint64_t most = live_max / 100 * berth__option(BERTH_OPTION_SPARE), spare;

    if (live_max == before && is_whole)
        earn(pool, need);
    if (pool->own.earned > most)
        pool->own.earned = most;
    spare = pool->own.earned;
    if (most > 0 && spare < SPARE_LEAST)
        spare = SPARE_LEAST;
    return live_max + spare;
}

/* With the lock held: whether what the driver answered last tells enough of `need` bytes. */
static bool knows_left(const struct berth_own *own, uint64_t used, uint64_t need, int64_t now,
                       uint64_t *ret)
{
    uint64_t taken = used > own->used ? used - own->used : 0;
    uint64_t given = own->used > used ? own->used - used : 0;

    /* Where little is left, others may have had it; and it may be what the driver has refused. */
    if (own->asked == 0 || now - own->asked >= BERTH_OWN_ASK_NS || own->left < taken ||
        own->left - taken < need)
        return false;
    *ret = own->left - taken + given;
    return true;
}

/*
 * Without the lock, in the pool's context: what the device has left. Others have of it, too: other
 * processes, and the program by other calls.
 */
static uint64_t left_of_device(struct berth_pool *pool, uint64_t need)
{
    uint64_t used = berth__limit_used(BERTH_LIMIT_PROCESS), bytes;
    int64_t now = berth__clock_ns();
    bool is_known;

    berth__pool_lock(pool);
    is_known = knows_left(&pool->own, used, need, now, &bytes);
    berth__pool_unlock(pool);
    if (is_known)
        return bytes;
    if (berth__device_left(&bytes) < 0)
        bytes = UINT64_MAX / 2;
    berth__pool_lock(pool);
    pool->own.left = bytes;
    pool->own.used = used;
    pool->own.asked = now;
    berth__pool_unlock(pool);
    return bytes;
}

/* Without the lock, in the pool's context: what may still be had of the driver. */
static uint64_t left_in(struct berth_pool *pool, uint64_t need)
{
    berth_tier_id tier = atomic_load_explicit(&pool->tier, memory_order_relaxed);
    uint64_t capacity = atomic_load_explicit(&berth__tier(tier)->capacity, memory_order_relaxed);
    uint64_t reserved =
        atomic_load_explicit(&berth__tier_stats[tier].reserved, memory_order_relaxed);
    uint64_t bytes = left_of_device(pool, need);

    if (capacity == 0)
        return bytes;
    capacity = reserved < capacity ? capacity - reserved : 0;
    return bytes < capacity ? bytes : capacity;
}

void berth__own_make_room(struct berth_pool *pool, uint64_t need, bool is_whole)
{
    uint64_t most, with_need, room;

    room = left_in(pool, need);
    berth__pool_lock(pool);
    most = reserved_most(pool, need, is_whole);
    with_need = berth__pool_reserved(pool) + need;
    room += pool->cached;
    pool->own.room = room > need ? room - need : 0;
    pool->own.others = others(pool);
    berth__pool_unlock(pool);
    if (with_need > most)
        berth__pool_replace(pool, is_whole ? need : 0, with_need - most);
}
