/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_alone.h"

#include <string.h>

/*
 * Rounding may cost a 33rd of what lives in any case. Replayed: at a 20th, programs of many blocks
 * of a few MiB need more than where they share; from a 50th on, what sharing costs some others is
 * seen too late.
 */
#define ROUNDING_DIVISOR 33
/* Sharing is seen to cost something from a 20th of what lives on. */
#define SHARING_DIVISOR 20
/* Rounding may never cost more than this: excess is an estimate, and high while little lives. */
#define WORTH_DIVISOR 5
/* Large is a 1024th of what lives at most; at a 256th, one trace in seven more is beyond it. */
#define LARGE_SHIFT 10
/* What a block of less than a 32nd had to have beyond is no sign: others like it will use it. */
#define SIGN_SHIFT 5

bool berth__alone_is_allowed = true;

/* What one heap for all large blocks would have had to have beyond what ever lived of them. */
static uint64_t heap_excess(const struct berth_pool *pool)
{
    uint64_t most = pool->steps.most;

    return pool->heap.height > most ? pool->heap.height - most : 0;
}

bool berth__alone_is_for_good(const struct berth_pool *pool)
{
    return heap_excess(pool) > pool->live_max / SHARING_DIVISOR;
}

/* From which size on rounding costs no more than that; 0: it costs no more whatever the size. */
static uint64_t worthy_size(const struct berth_pool *pool, uint64_t worth)
{
    uint64_t rounding = 0;

    for (unsigned octave = BERTH_ALONE_OCTAVES; octave-- > 0;) {
        rounding += pool->rounding_max[octave];
        if (rounding > worth)
            return octave + 1 < BERTH_ALONE_OCTAVES ? BERTH_ALONE_LEAST << (octave + 1)
                                                    : UINT64_MAX;
    }
    return 0;
}

/* What rounding may cost. */
static uint64_t worth_of(const struct berth_pool *pool)
{
    uint64_t worth = pool->live_max / ROUNDING_DIVISOR, excess = heap_excess(pool);

    /* Once there are borders, sharing costs more than in one heap. */
    if (excess > pool->live_max / SHARING_DIVISOR && worth < excess + excess / 2)
        worth = excess + excess / 2;
    if (worth > pool->live_max / WORTH_DIVISOR)
        worth = pool->live_max / WORTH_DIVISOR;
    return worth;
}

void berth__alone_decide(struct berth_pool *pool)
{
    uint64_t least = pool->live_max >> LARGE_SHIFT, worthy = worthy_size(pool, worth_of(pool));
    bool is_dear =
        pool->excess_max > pool->live_max / SHARING_DIVISOR || berth__alone_is_for_good(pool);

    if (is_dear)
        berth__settle_end(pool);
    if (least < BERTH_ALONE_LEAST)
        least = BERTH_ALONE_LEAST;
    pool->is_alone_in_part = worthy > least && is_dear;
    if (pool->is_alone_in_part)
        least = worthy;
    if ((worthy > 0 && !is_dear) || pool->settling.is_settled || !berth__alone_is_allowed)
        least = UINT64_MAX;
    atomic_store_explicit(&pool->alone_min, least, memory_order_relaxed);
}

void berth__alone_begin(struct berth_pool *pool)
{
    memset(pool->rounding_max, 0, sizeof(pool->rounding_max));
    pool->excess_max = 0;
    berth__sketch_end(&pool->heap);
    pool->heap.height = 0;
    berth__settle_begin(pool);
    berth__alone_decide(pool);
}

void berth__alone_note_peak(struct berth_pool *pool, uint64_t size)
{
    for (unsigned octave = 0; octave < BERTH_ALONE_OCTAVES; octave++)
        pool->rounding_max[octave] = pool->rounding[octave] << BERTH_GRANULE_SHIFT;
    pool->rounding_max[berth__alone_octave(size)] += berth__pool_driver_size(size) - size;
    berth__alone_decide(pool);
}

void berth__alone_note_excess(struct berth_pool *pool, uint64_t size, uint64_t excess)
{
    if (size < pool->live_max >> SIGN_SHIFT || excess <= pool->excess_max)
        return;
    pool->excess_max = excess;
    berth__alone_decide(pool);
}

void berth__alone_enter_slowly(struct berth_pool *pool, struct berth_block *block)
{
    uint64_t size = berth__size_round(block->requested);
    uint64_t rounding = (berth__pool_driver_size(size) - size) >> BERTH_GRANULE_SHIFT;

    if (!berth__alone_is_large(block->size) && !block->is_whole) {
        block->rounding = BERTH_ALONE_REHEARSED;
        berth__settle_enter_other(pool, berth__block_address(block), size);
        return;
    }
    if (!berth__alone_is_large(block->size)) {
        block->rounding = BERTH_OWN_LARGER;
        pool->overhead += berth__own_overhead(block);
        return;
    }
    block->rounding = (uint16_t)(rounding | BERTH_ALONE_COUNTED);
    pool->rounding[berth__alone_octave(size)] += rounding;
    pool->overhead += berth__alone_overhead(block);
    berth__step_enter(pool, block);
    if (!berth__sketch_is_on(&pool->heap))
        berth__sketch_begin(&pool->heap);
    berth__sketch_enter(&pool->heap, berth__block_address(block), size);
    berth__settle_enter(pool, berth__block_address(block), size);
    berth__alone_decide(pool);
}

void berth__alone_leave_slowly(struct berth_pool *pool, struct berth_block *block)
{
    if (block->rounding == BERTH_ALONE_REHEARSED) {
        berth__settle_leave_other(pool, berth__block_address(block));
        block->rounding = 0;
        return;
    }
    if (block->rounding == BERTH_OWN_LARGER) {
        pool->overhead -= berth__own_overhead(block);
        block->rounding = 0;
        return;
    }
    pool->rounding[berth__alone_octave(berth__size_round(block->requested))] -=
        block->rounding & ~BERTH_ALONE_COUNTED;
    pool->overhead -= berth__alone_overhead(block);
    berth__step_leave(pool, block);
    berth__sketch_leave(&pool->heap, berth__block_address(block));
    berth__settle_leave(pool, berth__block_address(block));
    block->rounding = 0;
}
