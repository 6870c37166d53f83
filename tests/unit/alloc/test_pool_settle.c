/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: with segments = shared, a program that goes on for ever asks the driver for nothing in the
 * end, also where its weights stay and its steps come in no order, and the pool is hardly larger
 * for it.
 *
 * Expectations follow from alloc/pool_settle.h. A block that is alone is whole.
 */
#include "device_mock.h"
#include "pool_fixture.h"

#include "alloc/pool.h"
#include "alloc/pool_alone.h"
#include "alloc/pool_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static int set_up(void **state)
{
    pool_set_up(state);
    pool_calls_to_a_check = 8192;
    pool_set_thread_cache("0");
    pool_set_option("segments", "shared");
    srandom(11);
    return 0;
}

static int tear_down(void **state)
{
    pool_set_option("segments", "own");
    return pool_tear_down(state);
}

#define SETTLE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static bool is_whole(uintptr_t address)
{
    struct berth_block_view view;

    assert_int_equal(berth__pool_find(address, &view), 0);
    return view.is_whole;
}

/* There is one pool with a context here. */
static const struct berth_settling *settling(void)
{
    return &berth__pool_first->settling;
}

#define LAYERS 12
#define KINDS 9
#define UNIT MIB(2) /* what the driver rounds up to: nothing is rounded here */

static uint64_t layer_size(unsigned kind, unsigned i)
{
    return UNIT * (2 + (7 * i + kind) % KINDS);
}

static uint64_t work_size(unsigned kind, unsigned i)
{
    return UNIT * (1 + (i + kind) % 4);
}

/* One step: layers of sizes of their own, and what works between them. */
static void step(unsigned kind)
{
    uintptr_t layer[LAYERS];

    for (unsigned i = 0; i < LAYERS; i++) {
        layer[i] = pool_get(layer_size(kind, i));
        pool_put(pool_get(work_size(kind, i)));
    }
    for (unsigned i = LAYERS; i-- > 0;)
        pool_put(layer[i]);
}

/* The most that lives of any at once. */
static uint64_t need_of_steps(void)
{
    uint64_t most = 0;

    for (unsigned kind = 0; kind < KINDS; kind++) {
        uint64_t live = 0;

        for (unsigned i = 0; i < LAYERS; i++) {
            live += layer_size(kind, i);
            if (most < live + work_size(kind, i))
                most = live + work_size(kind, i);
        }
    }
    return most;
}

/* In no order. */
static void steps(unsigned count)
{
    while (count-- > 0)
        step((unsigned)random() % KINDS);
}

/* Far more than are needed. */
#define MANY 4000

static unsigned steps_until_settled(void)
{
    unsigned count = 0;

    do {
        steps(1);
        count++;
    } while (!settling()->is_settled && count < MANY);
    assert_true(settling()->is_settled);
    return count;
}

/* Steps come to need no driver, and little more than `most`. */
static void expect_settled(uint64_t most)
{
    uint64_t calls;

    steps_until_settled();
    steps(60);
    calls = pool_driver_calls();
    steps(60);
    assert_int_equal(pool_driver_calls(), calls);
    assert_in_range(pool_audit().reserved, most, most * 21 / 20);
}

static void steps_in_no_order_need_no_driver(void **state)
{
    uintptr_t weight = pool_get(MIB(60));
    uint64_t calls, most = MIB(60) + need_of_steps();

    steps(60);
    calls = pool_driver_calls();
    steps(60);
    assert_true(pool_driver_calls() > calls + 60);
    expect_settled(most);
    assert_true(is_whole(weight));
    pool_put(weight);
}

static bool is_at_work, was_busy;

static bool is_busy_once_settled(void)
{
    bool is_busy = is_at_work && settling()->is_settled;

    was_busy |= is_busy;
    return is_busy;
}

/* What is idle stays as long as the driver would wait: until then the segment is too much. */
static void the_segment_is_asked_for_when_the_device_is_done(void **state)
{
    uintptr_t weight = pool_get(MIB(60));
    uint64_t most = MIB(60) + need_of_steps();

    is_at_work = true;
    pool_set_busy(is_busy_once_settled);
    for (unsigned i = 0; i < MANY && !was_busy; i++)
        steps(1);
    assert_true(was_busy);
    assert_in_range(pool_audit().reserved, 0, most * 21 / 20);
    is_at_work = false;
    expect_settled(most);
    pool_put(weight);
}

#define SMALL_BLOCKS 62

/* What is small has room between. */
static void small_blocks_are_counted_in(void **state)
{
    uint64_t calls, most = need_of_steps() + MIB(16);
    uintptr_t small[SMALL_BLOCKS], kept = pool_get(MIB(16));

    for (unsigned turn = 0; turn < 400; turn++) {
        if (turn == 390)
            calls = pool_driver_calls();
        step(turn * 7 % KINDS);
        for (unsigned i = 0; i < SMALL_BLOCKS; i++)
            small[i] = pool_get(MIB(1));
        for (unsigned i = 0; i < SMALL_BLOCKS; i++)
            pool_put(small[i]);
    }
    assert_int_equal(pool_driver_calls(), calls);
    assert_in_range(pool_audit().reserved, most, most * 21 / 20);
    pool_put(kept);
}

/* A program that has hardly begun may do something else yet. */
static void nothing_settles_soon(void **state)
{
    assert_in_range(steps_until_settled(), 4096 / (2 * LAYERS), MANY);
}

/* Nothing would ever look for it where it is. */
static void what_was_alone_is_gathered_when_it_goes(void **state)
{
    uintptr_t weight = pool_get(MIB(60)), block;
    uint64_t reserved, calls;

    steps_until_settled();
    steps(20);
    assert_int_equal(pool_audit().segments, 2);
    reserved = pool_audit().reserved;
    pool_put(weight);
    /* With the next call, as nothing lives. */
    block = pool_get(MIB(2));
    assert_int_equal(pool_audit().segments, 1);
    assert_int_equal(pool_audit().reserved, reserved);
    calls = pool_driver_calls();
    weight = pool_get(reserved - MIB(4));
    assert_int_equal(pool_driver_calls(), calls);
    pool_put(weight);
    pool_put(block);
}

/* It is let lie while more lives than the least: one made of it would be in the way of the rest. */
static void nothing_is_gathered_amid_a_step(void **state)
{
    uintptr_t weight = pool_get(MIB(60)), block;
    uint64_t calls;

    steps_until_settled();
    steps(20);
    block = pool_get(MIB(80));
    pool_put(weight);
    calls = pool_driver_calls();
    pool_put(pool_get(MIB(2)));
    assert_int_equal(pool_driver_calls(), calls);
    pool_put(block);
    pool_put(pool_get(MIB(2)));
    assert_int_equal(pool_audit().segments, 1);
}

#define ISLANDS 64

/* Small blocks that stay here and there leave no room for large ones. */
static void scatter(void)
{
    uintptr_t island[ISLANDS], between[ISLANDS];

    for (unsigned i = 0; i < ISLANDS; i++) {
        island[i] = pool_get(KIB(512));
        between[i] = pool_get(MIB(1));
    }
    for (unsigned i = 0; i < ISLANDS; i++)
        pool_put(between[i]);
    pool_put(pool_get(need_of_steps() - MIB(40)));
    for (unsigned i = 0; i < ISLANDS; i++)
        pool_put(island[i]);
}

/* Each time that it was in vain, as much has to come again as came before. */
static void what_was_in_vain_is_tried_more_seldom(void **state)
{
    unsigned first, second, third;

    first = steps_until_settled();
    scatter();
    assert_false(settling()->is_settled);
    second = steps_until_settled();
    scatter();
    assert_false(settling()->is_settled);
    third = steps_until_settled();
    assert_in_range(second, first * 3 / 2, MANY);
    assert_in_range(third, (first + second) * 3 / 2, MANY);
}

#define WEIGHTS 10

/*
 * Weights for which the driver rounds up 2 %, and steps for which a heap has to be 5 % larger than
 * what lives: each may be, both together are too much.
 */
static void what_would_be_too_large_does_not_settle(void **state)
{
    uintptr_t weight[WEIGHTS], a, b;
    uint64_t calls;

    for (unsigned i = 0; i < WEIGHTS; i++)
        weight[i] = pool_get(MIB(35));
    for (unsigned i = 0; i < 4000; i++) {
        a = pool_get(MIB(20));
        b = pool_get(MIB(2));
        pool_put(a);
        /* Later it would be over already, because it is seen to cost too much. */
        assert_false(settling()->is_settled);
        calls = pool_driver_calls();
        a = pool_get(MIB(76));
        assert_true(pool_driver_calls() > calls);
        pool_put(b);
        pool_put(a);
    }
    for (unsigned i = 0; i < WEIGHTS; i++)
        pool_put(weight[i]);
}

/* As step(), with small blocks that live between the layers: more than is to spare for them. */
static void step_among_small(unsigned kind)
{
    uintptr_t layer[LAYERS], small[LAYERS];

    for (unsigned i = 0; i < LAYERS; i++) {
        layer[i] = pool_get(layer_size(kind, i));
        small[i] = pool_get(KIB(320));
        pool_put(pool_get(work_size(kind, i)));
    }
    for (unsigned i = LAYERS; i-- > 0;) {
        pool_put(layer[i]);
        pool_put(small[i]);
    }
}

/* They are rehearsed, too: what is asked for once is enough for them from the start. */
static void small_blocks_are_rehearsed(void **state)
{
    uintptr_t weight = pool_get(MIB(60));
    uint64_t calls;
    unsigned count = 0;

    while (!settling()->is_settled && count++ < MANY)
        step_among_small((unsigned)random() % KINDS);
    assert_true(settling()->is_settled);
    step_among_small(0);
    assert_int_equal(settling()->segment_size, 0);
    calls = pool_driver_calls();
    for (unsigned i = 0; i < 200; i++)
        step_among_small((unsigned)random() % KINDS);
    assert_int_equal(pool_driver_calls(), calls);
    pool_put(weight);
}

/*
 * Without an end, 8 MiB come to lie where 60 were, and 50 beside them; the other 50 are the end. In
 * a heap that is as high as that, 8 fit best into the 50 that are left at the end.
 */
static void step_that_is_worse_in_a_heap_that_ends(unsigned turn)
{
    uintptr_t before, border, a, b, c;

    /* So that no two are alike. */
    for (unsigned i = turn % 7; i > 0; i--)
        pool_put(pool_get(MIB(2) * (1 + (unsigned)random() % 8)));
    before = pool_get(MIB(60));
    border = pool_get(MIB(2));
    pool_put(before);
    a = pool_get(MIB(8));
    b = pool_get(MIB(50));
    /* Later it would be over already, because it is seen to cost too much. */
    assert_false(settling()->is_settled);
    c = pool_get(MIB(50));
    pool_put(c);
    pool_put(b);
    pool_put(a);
    pool_put(border);
}

static void a_heap_that_ends_is_rehearsed(void **state)
{
    bool was_second = false;

    for (unsigned i = 0; i < 1500; i++) {
        step_that_is_worse_in_a_heap_that_ends((unsigned)random());
        was_second |= settling()->is_rehearsing && settling()->room > 0;
    }
    assert_true(was_second);
    assert_in_range(pool_audit().reserved, 0, MIB(110) * 21 / 20);
}

/* Who asked, but does so no more, is let alone, however well a rehearsal goes. */
static void who_stops_asking_is_let_alone(void **state)
{
    uint64_t blocks;
    unsigned count = 0;

    /* In the second rehearsal, before the driver was asked often. */
    while (!(settling()->is_rehearsing && settling()->room > 0) && count++ < MANY)
        steps(1);
    assert_true(settling()->is_rehearsing);
    for (blocks = 6 * settling()->entered; blocks > 0; blocks--) {
        pool_put(pool_get(need_of_steps()));
        assert_false(settling()->is_settled);
    }
    assert_false(settling()->is_rehearsing);
}

/* Where the driver is not asked, nothing is changed. */
static void who_asks_for_nothing_is_let_alone(void **state)
{
    for (unsigned i = 0; i < 400; i++)
        step(1);
    assert_false(settling()->is_settled);
    assert_false(settling()->is_rehearsing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SETTLE(steps_in_no_order_need_no_driver),
        SETTLE(the_segment_is_asked_for_when_the_device_is_done),
        SETTLE(small_blocks_are_counted_in),
        SETTLE(nothing_settles_soon),
        SETTLE(what_was_alone_is_gathered_when_it_goes),
        SETTLE(nothing_is_gathered_amid_a_step),
        SETTLE(what_was_in_vain_is_tried_more_seldom),
        SETTLE(what_would_be_too_large_does_not_settle),
        SETTLE(small_blocks_are_rehearsed),
        SETTLE(a_heap_that_ends_is_rehearsed),
        SETTLE(who_stops_asking_is_let_alone),
        SETTLE(who_asks_for_nothing_is_let_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
