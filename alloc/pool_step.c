/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_step.h"

#include "alloc/pool_alone.h"
#include "alloc/pool_parts.h"

/* A fall is one of an 8th of what ever lived; what is left may be a 64th more than last time. */
#define FALL_SHIFT 3
#define NEAR_SHIFT 6
/* With the joint segment the pool may have a 21st more than ever lived. */
#define JOINT_DIVISOR 21

void berth__step_begin(struct berth_pool *pool)
{
    struct berth_steps *steps = &pool->steps;

    for (unsigned level = 0; level < BERTH_STEP_LEVELS; level++) {
        struct berth_rhythm *rhythm = &steps->rhythms[level];

        berth__sketch_end(&rhythm->sketch);
        rhythm->hash = rhythm->asked = rhythm->count = rhythm->quiet = 0;
        rhythm->has_ended = true;
        rhythm->tries = 0;
    }
    steps->live = steps->most = steps->high = steps->low = steps->low_before = 0;
    steps->is_falling = true;
    steps->is_due = false;
}

/*
 * Short steps come again so often before they are believed: a program may do the same a few times,
 * and then something else, for which the joint segment is in the way.
 */
#define BELIEF 12

/* Whether `count` steps came again, as often as is wanted, just before now. */
static bool came_again(const struct berth_rhythm *rhythm, uint64_t count, uint64_t times)
{
    uint64_t steps = count * times;

    if (steps + count > BERTH_STEPS_MAX || steps + count > rhythm->count)
        return false;
    for (uint64_t i = rhythm->count - steps; i < rhythm->count; i++)
        if (rhythm->hashes[i % BERTH_STEPS_MAX] != rhythm->hashes[(i - count) % BERTH_STEPS_MAX])
            return false;
    return true;
}

static void act_later(struct berth_pool *pool, unsigned level, uint64_t joint_size)
{
    pool->steps.level = level;
    pool->steps.joint_size = joint_size;
    pool->steps.is_due = true;
    atomic_store_explicit(&pool->is_scattered, true, memory_order_relaxed);
}

/* The driver was asked for memory in one of the last steps, and there is no joint segment. */
static void look_at_step(struct berth_pool *pool, unsigned level)
{
    struct berth_rhythm *rhythm = &pool->steps.rhythms[level];
    uint64_t sketched = rhythm->count - rhythm->first;

    if (!berth__sketch_is_on(&rhythm->sketch)) {
        rhythm->sketch_max = 1;
    } else if (came_again(rhythm, sketched, level == 0 ? BELIEF : 1)) {
        rhythm->period = rhythm->tries = sketched;
        rhythm->height = berth__pool_driver_size(rhythm->sketch.height);
    } else if (sketched < rhythm->sketch_max) {
        return;
    } else if (rhythm->sketch_max < BERTH_STEPS_MAX / 4) {
        rhythm->sketch_max *= 2;
    }
    rhythm->first = rhythm->count;
    rhythm->turn++;
    rhythm->in_gaps = NULL;
    rhythm->others_max = 0;
    berth__sketch_begin(&rhythm->sketch);
}

static void step_end(struct berth_pool *pool, unsigned level)
{
    struct berth_rhythm *rhythm = &pool->steps.rhythms[level];
    uint64_t asked = rhythm->asked;

    rhythm->hashes[rhythm->count++ % BERTH_STEPS_MAX] = rhythm->hash;
    rhythm->hash = 0;
    rhythm->asked = 0;
    rhythm->has_ended = true;
    rhythm->quiet = asked == 0 ? rhythm->quiet + 1 : 0;
    if (!berth__alone_is_on(pool) || rhythm->quiet >= BELIEF || pool->joint_reserved > 0) {
        berth__sketch_end(&rhythm->sketch);
        rhythm->tries = 0;
    } else {
        look_at_step(pool, level);
    }
    /* At one of its ends least lives, and there is room. */
    if (rhythm->tries > 0 && came_again(rhythm, rhythm->period, 1)) {
        rhythm->tries--;
        act_later(pool, level, rhythm->height);
    } else {
        rhythm->tries = 0;
    }
    if (pool->joint_reserved == 0)
        return;
    rhythm->tries = 0;
    if (asked > 0 && pool->steps.level == level)
        act_later(pool, level, 0);
}

/* Order counts. */
static void note(struct berth_rhythm *rhythm, uint64_t what)
{
    uint64_t hash = (rhythm->hash ^ what) * 0x9e3779b97f4a7c15u;

    rhythm->hash = hash ^ hash >> 29;
}

void berth__step_ask(struct berth_pool *pool)
{
    for (unsigned level = 0; level < BERTH_STEP_LEVELS; level++)
        pool->steps.rhythms[level].asked++;
}

/* Blocks that lie in gaps are found by their address: there are few. */
static void sketch_enter(struct berth_rhythm *rhythm, const struct berth_block *block,
                         struct berth_step_place *place)
{
    struct berth_block *sketched;

    if (!berth__sketch_is_on(&rhythm->sketch))
        return;
    sketched = berth__sketch_add(&rhythm->sketch, berth__size_round(block->requested));
    if (!sketched)
        return;
    if (block->is_whole) {
        *place = (struct berth_step_place){sketched, rhythm->turn};
        return;
    }
    sketched->id = berth__block_address(block);
    sketched->waiting = rhythm->in_gaps;
    rhythm->in_gaps = sketched;
}

static struct berth_block *sketched_in_gap(struct berth_rhythm *rhythm, uintptr_t address)
{
    struct berth_block **link = &rhythm->in_gaps, *sketched;

    while (*link && (*link)->id != address)
        link = &(*link)->waiting;
    sketched = *link;
    if (sketched)
        *link = sketched->waiting;
    return sketched;
}

static void sketch_leave(struct berth_rhythm *rhythm, const struct berth_block *block,
                         struct berth_step_place *place)
{
    struct berth_block *sketched = NULL;

    if (!berth__sketch_is_on(&rhythm->sketch))
        return;
    if (!block->is_whole)
        sketched = sketched_in_gap(rhythm, berth__block_address(block));
    else if (place->block && place->turn == rhythm->turn)
        sketched = place->block;
    if (sketched)
        berth__sketch_remove(&rhythm->sketch, sketched);
    place->block = NULL;
}

static bool is_alone(const struct berth_pool *pool, const struct berth_block *block)
{
    return berth__alone_is(pool, berth__size_round(block->requested));
}

/* Bytes of memory that no large block has alone. */
static uint64_t others(const struct berth_pool *pool)
{
    return pool->reserved - pool->large_reserved;
}

void berth__step_enter(struct berth_pool *pool, struct berth_block *block)
{
    struct berth_steps *steps = &pool->steps;
    uint64_t size = berth__size_round(block->requested);

    steps->live += size;
    if (steps->most < steps->live)
        steps->most = steps->live;
    if (steps->is_falling && steps->live >= steps->low + (steps->most >> FALL_SHIFT)) {
        steps->is_falling = false;
        steps->rhythms[0].has_ended = steps->rhythms[1].has_ended = false;
        steps->low_before = steps->low;
        steps->high = steps->live;
    }
    if (steps->high < steps->live)
        steps->high = steps->live;
    for (unsigned level = 0; level < BERTH_STEP_LEVELS; level++) {
        struct berth_rhythm *rhythm = &steps->rhythms[level];

        note(rhythm, size);
        if (rhythm->others_max < others(pool))
            rhythm->others_max = others(pool);
        if (is_alone(pool, block))
            sketch_enter(rhythm, block, &block->segment->places[level]);
    }
}

/* What lives has become less. */
static void fall(struct berth_pool *pool)
{
    struct berth_steps *steps = &pool->steps;
    uint64_t near = steps->most >> NEAR_SHIFT;

    if (!steps->is_falling && steps->high - steps->live >= steps->most >> FALL_SHIFT) {
        steps->is_falling = true;
        steps->low = steps->live;
    }
    if (!steps->is_falling)
        return;
    if (steps->low > steps->live)
        steps->low = steps->live;
    if (!steps->rhythms[0].has_ended && steps->live <= steps->low_before + near)
        step_end(pool, 0);
    if (!steps->rhythms[1].has_ended && steps->live <= near)
        step_end(pool, 1);
}

void berth__step_leave(struct berth_pool *pool, struct berth_block *block)
{
    struct berth_steps *steps = &pool->steps;
    uint64_t size = berth__size_round(block->requested);

    for (unsigned level = 0; level < BERTH_STEP_LEVELS; level++) {
        struct berth_rhythm *rhythm = &steps->rhythms[level];

        /* What is left of a step that has ended is no part of the next. */
        if (!rhythm->has_ended)
            note(rhythm, size + 1);
        sketch_leave(rhythm, block, &block->segment->places[level]);
    }
    steps->live -= size;
    fall(pool);
}

/*
 * With the lock held: whether there is, beside the most that all others had, once what is idle has
 * gone, or as it is.
 */
static bool has_room(const struct berth_pool *pool, uint64_t size, bool is_idle_gone)
{
    uint64_t others_max = pool->steps.rhythms[pool->steps.level].others_max;
    uint64_t busy = pool->reserved - others(pool) +
                    (others_max > others(pool) ? others_max : others(pool)),
             cap = pool->live_max + pool->live_max / JOINT_DIVISOR;

    for (const struct berth_segment *segment = pool->segments; is_idle_gone && segment;
         segment = segment->next)
        if (segment->used_blocks == 0 && berth__pool_is_for_large(segment))
            busy -= segment->size;
    return berth__alone_is_on(pool) && size <= cap && busy <= cap - size;
}

static bool still_has_room(struct berth_pool *pool, uint64_t size)
{
    bool has;

    berth__pool_lock(pool);
    has = has_room(pool, size, false);
    berth__pool_unlock(pool);
    return has;
}

/* While memory is between the driver and the pool, it counts as on its way; see pool_idle.c. */
#define HOLD_BYTES 1

void berth__step_act(struct berth_pool *pool)
{
    struct berth_device_mode mode;
    uint64_t size = 0;
    bool is_due;

    berth__pool_lock(pool);
    is_due = pool->steps.is_due && !berth__pool_may_end(pool);
    pool->steps.is_due = false;
    if (is_due) {
        size = pool->steps.joint_size;
        is_due = size == 0 || has_room(pool, size, true);
    }
    if (is_due)
        atomic_fetch_add_explicit(&pool->releasing, HOLD_BYTES, memory_order_relaxed);
    berth__pool_unlock(pool);
    if (!is_due)
        return;
    mode = berth__device_relax();
    berth__pool_release_idle(pool, true);
    /* What is idle does not go while the driver would wait for it. */
    if (size > 0 && still_has_room(pool, size))
        berth__pool_add_segment(pool, size, true);
    berth__device_restore(mode);
    berth__pool_count_released(pool, HOLD_BYTES);
}
