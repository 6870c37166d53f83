/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: with segments = shared, a pool has hardly more than lived in it at once, whatever sizes
 * come and go; and a program whose steps are all alike asks the driver for nothing.
 *
 * Expectations follow from alloc/pool_alone.h and alloc/pool_step.h.
 */
#include "device_mock.h"
#include "pool_fixture.h"

#include "alloc/block_slab.h"
#include "alloc/pool.h"
#include "alloc/pool_alone.h"
#include "alloc/pool_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define OUT_OF_MEMORY 2

static int set_up(void **state)
{
    pool_set_up(state);
    pool_calls_to_a_check = 64;
    pool_set_thread_cache("0");
    pool_set_option("segments", "shared");
    return 0;
}

static int tear_down(void **state)
{
    pool_set_option("segments", "own");
    return pool_tear_down(state);
}

#define ALONE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* A small block that comes into a large one's place keeps it from the next. */
static uint64_t reserved_for_large_small_large(uint64_t size)
{
    uintptr_t large = pool_get(size), small;
    uint64_t reserved;

    pool_put(large);
    small = pool_get(KIB(64));
    large = pool_get(size + MIB(2));
    reserved = pool_audit().reserved;
    pool_put(large);
    pool_put(small);
    return reserved;
}

static void a_small_block_is_in_no_large_ones_way(void **state)
{
    assert_in_range(reserved_for_large_small_large(MIB(400)), MIB(402), MIB(402) + MIB(8));
}

#define HOLES 512
#define MISSES 400 /* more than those after which a pool may have most */

/* How many segments go back to the driver for a block that fits in none of the free ones. */
static uint64_t given_back_for_another(void)
{
    uint64_t frees;
    uintptr_t block;

    pool_put(pool_get(MIB(2)));
    frees = mock_calls(MOCK_FREE);
    block = pool_get(MIB(4));
    frees = mock_calls(MOCK_FREE) - frees;
    pool_put(block);
    berth__pool_release_cached(0);
    return frees;
}

/*
 * A pool that is as large as what once lived in it gives back what is idle before it grows. After
 * many such moments it may have a 64th more, and does not.
 */
static void a_pool_that_misses_often_may_have_more(void **state)
{
    uintptr_t block[HOLES];

    for (unsigned i = 0; i < HOLES; i++)
        block[i] = pool_get(MIB(1));
    for (unsigned i = 0; i < HOLES; i += 2)
        pool_put(block[i]);
    assert_int_equal(given_back_for_another(), 1);
    for (unsigned i = 0; i < MISSES; i++) {
        pool_put(pool_get(MIB(3) + i * 7919 % 40000 * KIB(1)));
        berth__pool_release_cached(0);
    }
    assert_int_equal(given_back_for_another(), 0);
    for (unsigned i = 1; i < HOLES; i += 2)
        pool_put(block[i]);
}

static bool is_whole(uintptr_t address)
{
    struct berth_block_view view;

    assert_int_equal(berth__pool_find(address, &view), 0);
    return view.is_whole;
}

static void a_little_rounding_is_no_reason_to_share(void **state)
{
    uintptr_t block[4];

    for (unsigned i = 0; i < 4; i++)
        block[i] = pool_get(MIB(100) + KIB(4));
    for (unsigned i = 0; i < 4; i++) {
        assert_true(is_whole(block[i]));
        pool_put(block[i]);
    }
}

#define SCATTERED 8

/*
 * Blocks of which the driver would round up a 16th share a segment. As some go and larger ones
 * come, that are not alone because nobody could know, a heap needs half as much again: from then on
 * it is less to round up.
 */
static void what_sharing_would_cost_is_seen_in_a_sketch(void **state)
{
    uintptr_t block[SCATTERED], larger[SCATTERED / 2];

    /* What has gone is no part of the sketch. */
    for (unsigned i = 0; i < 4 * SCATTERED; i++)
        pool_put(pool_get(MIB(46) + KIB(4)));
    for (unsigned i = 0; i < SCATTERED; i++)
        block[i] = pool_get(MIB(46) + KIB(4));
    assert_false(is_whole(block[SCATTERED - 1]));
    for (unsigned i = 0; i < SCATTERED; i += 2)
        pool_put(block[i]);
    for (unsigned i = 0; i < SCATTERED / 2; i++)
        larger[i] = pool_get(MIB(48) + KIB(4));
    assert_true(is_whole(larger[SCATTERED / 2 - 1]));
    for (unsigned i = 0; i < SCATTERED / 2; i++) {
        pool_put(block[2 * i + 1]);
        pool_put(larger[i]);
    }
}

/* Before the pool gets too large no more of it goes back to the driver than that takes. */
static void what_is_not_in_the_way_stays(void **state)
{
    uintptr_t block[3], larger;
    uint64_t calls;

    for (unsigned i = 0; i < 3; i++)
        block[i] = pool_get(MIB(100));
    for (unsigned i = 0; i < 3; i++)
        pool_put(block[i]);
    calls = mock_calls(MOCK_FREE);
    larger = pool_get(MIB(140));
    assert_int_equal(mock_calls(MOCK_FREE), calls + 2);
    assert_int_equal(pool_audit().reserved, MIB(240));
    pool_put(larger);
}

/* Steps that are all alike come to rest: the driver is asked no more. */
static void what_costs_nothing_asks_for_nothing(void **state)
{
    uint64_t calls;

    for (unsigned i = 0; i < 40; i++) {
        uintptr_t large = pool_get(MIB(60)), small = pool_get(KIB(64)), work = pool_get(MIB(30));

        pool_put(work);
        pool_put(small);
        pool_put(large);
        if (i == 20)
            calls = pool_driver_calls();
    }
    assert_int_equal(pool_driver_calls(), calls);
    assert_in_range(pool_audit().reserved, MIB(90), MIB(96));
}

static void what_is_alone_can_be_exported(void **state)
{
    uintptr_t large;
    uint64_t calls;

    large = pool_get(MIB(40));
    assert_true(is_whole(large));
    berth__pool_set_exported(large);
    calls = mock_calls(MOCK_FREE);
    pool_put(large);
    assert_int_equal(mock_calls(MOCK_FREE), calls + 1);
}

/* Hardly larger than what it is for: the same segment, and no more of the driver. */
static void what_is_alone_serves_the_like(void **state)
{
    uintptr_t large;
    uint64_t calls;

    large = pool_get(MIB(90));
    pool_put(large);
    calls = pool_driver_calls();
    assert_int_equal(pool_get(MIB(84)), large);
    assert_int_equal(pool_driver_calls(), calls);
    pool_put(large);
}

#define BLOCKS 200

/*
 * Where rounding costs more than sharing would, and than a 33rd of what lives, blocks share
 * segments. Each alone, these would need 700 MiB: 1.31 of what lives.
 */
static void rounding_has_its_limit(void **state)
{
    uint64_t live = MIB(300) + BLOCKS * KIB(1200);
    uintptr_t large, block[BLOCKS];

    large = pool_get(MIB(300));
    for (unsigned i = 0; i < BLOCKS; i++)
        block[i] = pool_get(KIB(1200));
    assert_in_range(pool_audit().reserved, live, live * 108 / 100);
    for (unsigned i = 0; i < BLOCKS; i++)
        pool_put(block[i]);
    pool_put(large);
}

#define WEIGHTS 300

/*
 * Where rounding costs too much, and the borders of what is shared do, too, the largest are alone,
 * and those of which most would be rounded up still share.
 */
static void the_largest_are_alone_where_others_share(void **state)
{
    uintptr_t weight[WEIGHTS], large;

    for (unsigned i = 0; i < WEIGHTS; i++)
        weight[i] = pool_get(KIB(1200));
    large = pool_get(MIB(100));
    assert_true(is_whole(large));
    assert_false(is_whole(weight[WEIGHTS - 1]));
    pool_assert_adds_up();
    pool_put(large);
    for (unsigned i = 0; i < WEIGHTS; i++)
        pool_put(weight[i]);
}

#define LOADED 160

/* Weights that come one after the other lie side by side, though two of them fill no piece. */
static void what_is_loaded_leaves_little_between(void **state)
{
    uint64_t live = LOADED * KIB(4608);
    uintptr_t block[LOADED];

    for (unsigned i = 0; i < LOADED; i++)
        block[i] = pool_get(KIB(4608));
    assert_in_range(pool_audit().reserved, live, live * 109 / 100);
    for (unsigned i = 0; i < LOADED; i++)
        pool_put(block[i]);
}

/* Everything comes and goes in sizes of its own, and no order. */
static void a_program_that_never_repeats_itself_has_little_more_than_lives(void **state)
{
    uintptr_t block[24] = {0};
    uint64_t size[24] = {0}, live = 0, most = 0, reserved = 0;

    srandom(7);
    for (unsigned i = 0; i < 800; i++) {
        unsigned at = (unsigned)random() % 24;

        if (block[at]) {
            pool_put(block[at]);
            live -= size[at];
            block[at] = 0;
            continue;
        }
        size[at] = KIB(4) << random() % 13;
        size[at] += (uint64_t)random() % size[at];
        block[at] = pool_get(size[at]);
        live += size[at];
        most = most < live ? live : most;
        reserved = reserved < pool_audit().reserved ? pool_audit().reserved : reserved;
    }
    assert_in_range(reserved, most, most * 110 / 100 + MIB(8));
    for (unsigned at = 0; at < 24; at++)
        if (block[at])
            pool_put(block[at]);
}

#define LAYERS 12

static uint64_t layer_size(uint64_t unit, unsigned i)
{
    return unit * (2 + i * 7 % 5);
}

/* One step: what works between the layers fits nowhere where layers were in the last step. */
static void step(uint64_t unit)
{
    uintptr_t layer[LAYERS];

    for (unsigned i = 0; i < LAYERS; i++) {
        layer[i] = pool_get(layer_size(unit, i));
        pool_put(pool_get(unit * (2 + i) / 2));
    }
    for (unsigned i = LAYERS; i-- > 0;)
        pool_put(layer[i]);
}

/* The most that lives of it at once, at its last layer. */
static uint64_t need_of_step(uint64_t unit)
{
    uint64_t need = unit * (1 + LAYERS) / 2;

    for (unsigned i = 0; i < LAYERS; i++)
        need += layer_size(unit, i);
    return need;
}

static void repeat(unsigned count, uint64_t unit)
{
    while (count-- > 0)
        step(unit);
}

static void steps_that_are_alike_need_no_driver(void **state)
{
    uint64_t calls, most = MIB(60) + need_of_step(MIB(4));
    uintptr_t weight;

    weight = pool_get(MIB(60));
    calls = pool_driver_calls();
    step(MIB(4));
    assert_true(pool_driver_calls() > calls);
    repeat(20, MIB(4));
    calls = pool_driver_calls();
    repeat(3, MIB(4));
    assert_int_equal(pool_driver_calls(), calls);
    assert_in_range(pool_audit().reserved, most - MIB(4), most * 104 / 100);
    pool_assert_adds_up();
    pool_put(weight);
}

/* The joint segment goes when the program does something else, and comes again for that. */
static void the_joint_segment_is_for_what_is_done_now(void **state)
{
    uint64_t calls, most = 0;

    repeat(20, MIB(2));
    for (unsigned i = 0; i < 14; i++) {
        uint64_t unit = MIB(2) + KIB(512) * (i % 7);

        step(unit);
        most = most < need_of_step(unit) ? need_of_step(unit) : most;
        assert_in_range(pool_audit().reserved, 0, most * 115 / 100);
        pool_assert_adds_up();
    }
    repeat(20, MIB(3));
    calls = pool_driver_calls();
    repeat(3, MIB(3));
    assert_int_equal(pool_driver_calls(), calls);
}

/* There is one with a context here. */
static const struct berth_pool *the_pool(void)
{
    const struct berth_pool *pool = berth__pool_first;

    while (!pool->context)
        pool = pool->next;
    return pool;
}

static bool is_at_work, was_busy;

/* Memory is to go back for the joint segment: nothing else is held then. */
static bool is_busy_when_due(void)
{
    bool is_busy = is_at_work && the_pool()->releasing > 0;

    was_busy |= is_busy;
    return is_busy;
}

/* What is idle stays as long as the driver would wait: until then the joint segment is too much. */
static void the_joint_segment_comes_when_the_device_is_done(void **state)
{
    uint64_t most = need_of_step(MIB(4));

    is_at_work = true;
    pool_set_busy(is_busy_when_due);
    for (unsigned i = 0; i < 40 && !was_busy; i++)
        step(MIB(4));
    assert_true(was_busy);
    assert_int_equal(the_pool()->joint_reserved, 0);
    is_at_work = false;
    repeat(20, MIB(4));
    assert_true(the_pool()->joint_reserved > 0);
    assert_in_range(pool_audit().reserved, most - MIB(4), most * 104 / 100);
}

/* Wherever the driver refuses, the pool serves on and the account adds up. */
static void a_driver_that_refuses_costs_only_calls(void **state)
{
    static const enum mock_call calls[] = {MOCK_ALLOC, MOCK_FREE};

    for (unsigned which = 0; which < 2; which++) {
        for (unsigned nth = 1; nth < 8; nth += 3) {
            uintptr_t block;

            repeat(14, MIB(1));
            mock_fail(calls[which], nth, OUT_OF_MEMORY);
            for (unsigned i = 0; i < 24; i++)
                if (pool_try_alloc(MIB(3 + i), &block) == 0)
                    pool_put(block);
            mock_fail_none();
            pool_assert_adds_up();
            repeat(2, MIB(1));
        }
    }
    berth__pool_release_cached(0);
    assert_int_equal(pool_audit().segments, 0);
}

static void *(*map_before)(size_t);
static unsigned maps_left;

static void *map_some(size_t size)
{
    return maps_left > 0 ? maps_left--, map_before(size) : NULL;
}

/* As high as what is placed in it at once, if nothing is in the way; given up without memory. */
static void a_sketch_is_as_high_as_it_must_be(void **state)
{
    static struct berth_sketch sketch;
    struct berth_block *a, *b, *c;
    unsigned placed = 0;

    assert_int_equal(berth__sketch_begin(&sketch), 0);
    a = berth__sketch_add(&sketch, MIB(3));
    b = berth__sketch_add(&sketch, MIB(2));
    berth__sketch_remove(&sketch, a);
    c = berth__sketch_add(&sketch, MIB(1));
    a = berth__sketch_add(&sketch, MIB(2));
    assert_int_equal(sketch.height, MIB(5));
    berth__sketch_remove(&sketch, c);
    berth__sketch_remove(&sketch, b);
    berth__sketch_remove(&sketch, a);
    assert_non_null(berth__sketch_add(&sketch, MIB(6)));
    assert_int_equal(sketch.height, MIB(6));
    map_before = berth__slab_map;
    maps_left = 1;
    berth__slab_map = map_some;
    while (placed < 100000 && berth__sketch_add(&sketch, MIB(1)))
        placed++;
    berth__slab_map = map_before;
    assert_in_range(placed, 1, 99999);
    assert_false(berth__sketch_is_on(&sketch));
    assert_int_equal(berth__sketch_begin(&sketch), 0);
    assert_non_null(berth__sketch_add(&sketch, MIB(1)));
    berth__sketch_end(&sketch);
}

/* Places of any names, of which some are in one chain, and none is another's. */
static void places_have_names(void **state)
{
    static struct berth_sketch sketch;
    const unsigned names = 4 * BERTH_SKETCH_NAMES;

    assert_int_equal(berth__sketch_begin(&sketch), 0);
    for (unsigned i = 0; i < names; i++)
        berth__sketch_enter(&sketch, MIB(i), MIB(1 + i % 2));
    assert_int_equal(sketch.height, MIB(names / 2 * 3));
    berth__sketch_leave(&sketch, MIB(names));
    for (unsigned i = 0; i < names; i += 2)
        berth__sketch_leave(&sketch, MIB(i));
    for (unsigned i = 0; i < names; i += 2)
        berth__sketch_enter(&sketch, MIB(i), MIB(1));
    assert_int_equal(sketch.height, MIB(names / 2 * 3));
    for (unsigned i = 0; i < names; i++)
        berth__sketch_leave(&sketch, MIB(i));
    berth__sketch_enter(&sketch, 1, MIB(names / 2 * 3));
    assert_int_equal(sketch.height, MIB(names / 2 * 3));
    berth__sketch_end(&sketch);
}

/* A context's end takes what was learned of it along. */
static void a_new_context_starts_afresh(void **state)
{
    uintptr_t block[8];

    repeat(16, MIB(2));
    for (unsigned i = 0; i < 8; i++)
        block[i] = pool_get(MIB(10 + i));
    mock_destroy(mock_context(0));
    berth__pool_drop(mock_context(0));
    assert_true(berth__pools_are_valid());
    (void)block;
    mock_set_current(mock_context(1));
    repeat(16, MIB(2));
    pool_assert_adds_up();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALONE(a_small_block_is_in_no_large_ones_way),
        ALONE(what_costs_nothing_asks_for_nothing),
        ALONE(a_pool_that_misses_often_may_have_more),
        ALONE(a_little_rounding_is_no_reason_to_share),
        ALONE(what_sharing_would_cost_is_seen_in_a_sketch),
        ALONE(what_is_not_in_the_way_stays),
        ALONE(places_have_names),
        ALONE(what_is_alone_can_be_exported),
        ALONE(what_is_alone_serves_the_like),
        ALONE(rounding_has_its_limit),
        ALONE(the_largest_are_alone_where_others_share),
        ALONE(what_is_loaded_leaves_little_between),
        ALONE(a_program_that_never_repeats_itself_has_little_more_than_lives),
        ALONE(steps_that_are_alike_need_no_driver),
        ALONE(the_joint_segment_is_for_what_is_done_now),
        ALONE(the_joint_segment_comes_when_the_device_is_done),
        ALONE(a_driver_that_refuses_costs_only_calls),
        ALONE(a_new_context_starts_afresh),
        ALONE(a_sketch_is_as_high_as_it_must_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
