/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_alone.h"

/*
 * Rounding may cost a 20th of what lives. Replayed: at a 30th and at a 16th one trace in twenty
 * more is beyond 1.05 of what lives.
 */
#define ROUNDING_DIVISOR 20
/*
 * Sharing may cost as much before any block is alone. Replayed: at a 28th, two traces more go on
 * asking the driver in each repetition.
 */
#define SHARING_DIVISOR 20
/* Large is a 1024th of what lives at most; at a 256th, one trace in seven more is beyond it. */
#define LARGE_SHIFT 10
/* What a block of less than a 32nd had to have beyond is no sign: others like it will use it. */
#define SIGN_SHIFT 5

bool berth__alone_is_allowed = true;

static void decide(struct berth_pool *pool)
{
    uint64_t worth = pool->live_max / ROUNDING_DIVISOR, least = pool->live_max >> LARGE_SHIFT;
    bool is_cheap = pool->excess_max <= pool->live_max / SHARING_DIVISOR;

    if (worth < pool->excess_max)
        worth = pool->excess_max;
    if (least < BERTH_ALONE_LEAST)
        least = BERTH_ALONE_LEAST;
    if (is_cheap || pool->rounding_max > worth || !berth__alone_is_allowed)
        least = UINT64_MAX;
    atomic_store_explicit(&pool->alone_min, least, memory_order_relaxed);
}

void berth__alone_begin(struct berth_pool *pool)
{
    pool->rounding_max = 0;
    pool->excess_max = 0;
    decide(pool);
}

void berth__alone_note_peak(struct berth_pool *pool, uint64_t size)
{
    pool->rounding_max =
        (pool->rounding << BERTH_GRANULE_SHIFT) + berth__pool_driver_size(size) - size;
    decide(pool);
}

void berth__alone_note_excess(struct berth_pool *pool, uint64_t size, uint64_t excess)
{
    if (size < pool->live_max >> SIGN_SHIFT || excess <= pool->excess_max)
        return;
    pool->excess_max = excess;
    decide(pool);
}

void berth__alone_enter_slowly(struct berth_pool *pool, struct berth_block *block)
{
    uint64_t size = berth__size_round(block->requested);
    uint64_t rounding = (berth__pool_driver_size(size) - size) >> BERTH_GRANULE_SHIFT;

    if (!berth__alone_is_large(block->size)) {
        block->rounding = BERTH_OWN_LARGER;
        pool->overhead += berth__own_overhead(block);
        return;
    }
    block->rounding = (uint16_t)(rounding | BERTH_ALONE_COUNTED);
    pool->rounding += rounding;
    pool->overhead += berth__alone_overhead(block);
    berth__step_enter(pool, block);
}

void berth__alone_leave_slowly(struct berth_pool *pool, struct berth_block *block)
{
    if (block->rounding == BERTH_OWN_LARGER) {
        pool->overhead -= berth__own_overhead(block);
        block->rounding = 0;
        return;
    }
    pool->rounding -= block->rounding & ~BERTH_ALONE_COUNTED;
    pool->overhead -= berth__alone_overhead(block);
    berth__step_leave(pool, block);
    block->rounding = 0;
}
