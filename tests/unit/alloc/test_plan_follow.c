/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Following a plan: a program that does as planned gets every place; one that leaves calls out,
 * adds some, swaps some or begins again finds back. The taking of places is replaced by one that
 * takes all, or none of some, and writes down what was asked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc/plan_follow.h"

#include <stdlib.h>

#define COUNT 400
#define LOOP_BEGIN 40
#define LOOP_END 340

static struct berth_plan_header header = {.lane_count = 2, .entry_count = COUNT};
static struct berth_plan_lane lanes[2] = {{0, COUNT - 20, LOOP_BEGIN, LOOP_END},
                                          {COUNT - 20, 20, 0, 20}};
static struct berth_plan_entry entries[COUNT];
static struct berth_plan_follow follow;
static uint64_t taken_offset, busy_offset;
static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(random_state >> 33) % limit;
}

static bool take(void *context, uint64_t offset, uint64_t size)
{
    if (offset == busy_offset)
        return false;
    taken_offset = offset;
    return true;
}

static int set_up(void **state)
{
    struct berth_plan_view view = {&header, lanes, entries};

    random_state = 1;
    busy_offset = 1;
    for (uint32_t i = 0; i < COUNT; i++)
        entries[i] = (struct berth_plan_entry){(1 + random_below(40)) * 512ull, i * 65536ull};
    berth__plan_follow_init(&follow, &view);
    return 0;
}

/* Makes the call of entry `i`; whether it got just that entry's place. */
static bool call(uint32_t i)
{
    return berth__plan_follow_call(&follow, i >= lanes[1].first, entries[i].size, take, NULL) &&
           taken_offset == entries[i].offset;
}

static bool call_other(void)
{
    return berth__plan_follow_call(&follow, 0, 123 * 512, take, NULL);
}

static void the_planned_run_gets_every_place(void **state)
{
    for (uint32_t i = 0; i < LOOP_BEGIN; i++)
        assert_true(call(i));
    for (int step = 0; step < 10; step++)
        for (uint32_t i = LOOP_BEGIN; i < LOOP_END; i++)
            assert_true(call(i));
    for (uint32_t i = LOOP_END; i < lanes[0].count; i++)
        assert_true(call(i));
    for (uint32_t i = 0; i < LOOP_END; i++)
        assert_true(call(i));
    /* The run may begin again after any step. */
    for (uint32_t i = 0; i < LOOP_END; i++)
        assert_true(call(i));
    assert_int_equal(follow.occupied + follow.unknown, 0);
}

static void lanes_do_not_disturb_each_other(void **state)
{
    for (uint32_t i = 0; i < 300; i++) {
        assert_true(call(i));
        assert_true(call(lanes[1].first + i % 20));
    }
    assert_false(berth__plan_follow_call(&follow, 2, 512, take, NULL));
    assert_int_equal(follow.unknown, 1);
}

static void one_call_more_costs_only_itself(void **state)
{
    for (uint32_t i = 0; i < 300; i++) {
        if (i % 10 == 5)
            assert_false(call_other());
        assert_true(call(i));
    }
    assert_int_equal(follow.unknown, 30);
}

static void a_call_less_costs_little(void **state)
{
    uint32_t missed = 0, made = 0;

    for (int step = 0; step < 20; step++)
        for (uint32_t i = step ? LOOP_BEGIN : 0; i < LOOP_END; i++) {
            if (random_below(20) == 0)
                continue;
            made++;
            missed += !call(i);
        }
    /* One in twenty was left out; of those that were made few did not get their own place. */
    assert_true(missed * 20 < made);
}

static void many_calls_less_are_found_by_two(void **state)
{
    for (uint32_t i = 0; i < 100; i++)
        assert_true(call(i));
    call(150);
    for (uint32_t i = 151; i < 300; i++)
        assert_true(call(i));
}

static void a_program_that_jumps_is_found_anywhere(void **state)
{
    uint32_t found = 0;

    for (uint32_t i = 0; i < 50; i++)
        assert_true(call(i));
    for (uint32_t i = 250; i < 330; i++)
        found += call(i);
    assert_true(found >= 80 - 8);
    assert_int_equal(follow.resyncs, 1);
}

static void a_step_that_ends_early_begins_again(void **state)
{
    for (uint32_t i = 0; i < 200; i++)
        assert_true(call(i));
    call(LOOP_BEGIN);
    call(LOOP_BEGIN + 1);
    for (uint32_t i = LOOP_BEGIN + 2; i < LOOP_END; i++)
        assert_true(call(i));
}

static void begin_if_first(uint64_t size)
{
    if (berth__plan_follow_may_begin(&follow, 0, size))
        berth__plan_follow_rewind(&follow, 0);
}

/* All that lived is gone: what comes is the run's first call, though steps have that size, too. */
static void a_run_that_begins_with_nothing_is_followed_from_its_begin(void **state)
{
    entries[LOOP_BEGIN + 32].size = entries[0].size;
    for (uint32_t i = 0; i < LOOP_BEGIN + 30; i++)
        assert_true(call(i));
    entries[LOOP_BEGIN + 30].size = entries[0].size + 512;
    begin_if_first(entries[0].size);
    for (uint32_t i = 0; i < LOOP_BEGIN + 30; i++)
        assert_true(call(i));
    /* Not where the call is just the one that is expected, or not the first one. */
    begin_if_first(123 * 512);
    entries[LOOP_BEGIN + 30].size = entries[0].size;
    begin_if_first(entries[0].size);
    assert_true(call(LOOP_BEGIN + 30));
    /* Nor where the thread has no lane. */
    assert_false(berth__plan_follow_may_begin(&follow, UINT32_MAX, entries[0].size));
}

/* Another thread's run begins with that of the first, which has got memory by then. */
static void a_run_begins_again_in_all_lanes(void **state)
{
    uint32_t other = lanes[1].first;

    for (uint32_t i = 0; i < LOOP_BEGIN + 30; i++)
        assert_true(call(i));
    for (uint32_t i = 0; i < 10; i++)
        assert_true(call(other + i));
    entries[LOOP_BEGIN + 30].size = entries[0].size + 512;
    entries[other + 10].size = entries[other].size + 512;
    begin_if_first(entries[0].size);
    for (uint32_t i = 0; i < 10; i++)
        assert_true(call(other + i));
    for (uint32_t i = 0; i < 10; i++)
        assert_true(call(i));
    /* Not at a call later than the next one. */
    entries[other + 12].size = entries[other].size + 512;
    begin_if_first(entries[0].size);
    follow.cursors[0].next = LOOP_BEGIN + 30;
    berth__plan_follow_rewind(&follow, 0);
    assert_true(call(other + 10));
    assert_true(call(other + 11));
    call(other);
    assert_true(follow.cursors[1].next != 1);
}

static void make_all_calls(void)
{
    for (uint32_t i = 0; i < lanes[0].count; i++)
        assert_true(call(i));
}

static void a_plan_is_over_when_calls_come_after_its_last(void **state)
{
    make_all_calls();
    assert_true(berth__plan_follow_is_at_end(&follow, 0));
    /* Steps that go on, whose places lie where they did. */
    for (uint32_t i = LOOP_BEGIN; i < LOOP_END; i++)
        assert_false(call(i));
    assert_true(follow.is_over);
    assert_int_equal(follow.unknown, LOOP_END - LOOP_BEGIN);
    assert_false(berth__plan_follow_is_alike(&follow));
    /* Not even for what the first entry is like. */
    assert_false(call(0));
    berth__plan_follow_rewind(&follow, 0);
    make_all_calls();
}

/* The first place is still taken: what has its size is another block. */
static void a_plan_is_over_though_a_call_is_like_its_first(void **state)
{
    make_all_calls();
    busy_offset = entries[0].offset;
    assert_false(call(0));
    assert_true(follow.is_over);
}

static void a_plan_whose_steps_go_on_is_never_over(void **state)
{
    const struct berth_plan_lane lane = lanes[0];

    lanes[0] = (struct berth_plan_lane){0, LOOP_END, LOOP_BEGIN, LOOP_END};
    for (uint32_t i = 0; i < LOOP_END; i++)
        assert_true(call(i));
    assert_false(call_other());
    lanes[0].loop_begin = 0;
    for (uint32_t i = LOOP_BEGIN; i < LOOP_END; i++)
        assert_true(call(i));
    assert_false(call_other());
    assert_false(follow.is_over);
    lanes[0] = lane;
}

static void who_is_lost_is_not_at_the_end(void **state)
{
    uint32_t found = 0;

    for (uint32_t i = lanes[0].count - 10; i < lanes[0].count; i++)
        found += call(i);
    assert_in_range(found, 1, 9);
    assert_true(berth__plan_follow_is_at_end(&follow, 0));
    assert_false(call_other());
    assert_false(follow.is_over);
    for (uint32_t i = 0; i < LOOP_END; i++)
        found += call(i);
    assert_true(found > LOOP_END - 10);
}

static void a_thread_that_did_its_little_ends_nothing(void **state)
{
    const struct berth_plan_lane lane = lanes[1];

    lanes[1].loop_end = 0;
    for (uint32_t i = 0; i < lanes[1].count; i++)
        assert_true(call(lanes[1].first + i));
    assert_false(berth__plan_follow_call(&follow, 1, 123 * 512, take, NULL));
    assert_false(follow.is_over);
    lanes[1] = lane;
}

static void swapped_calls_get_their_places(void **state)
{
    for (uint32_t i = 0; i < 200; i += 2) {
        if (entries[i].size == entries[i + 1].size)
            continue;
        call(i + 1);
        call(i);
    }
    assert_true(follow.hits >= 180);
}

static void a_place_that_is_taken_is_passed_over(void **state)
{
    busy_offset = entries[7].offset;
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(call(i), i != 7);
    assert_int_equal(follow.occupied, 1);
    assert_false(berth__plan_follow_was_occupied(&follow, 0));
    entries[120].offset = BERTH_PLAN_NOWHERE;
    for (uint32_t i = 100; i < 200; i++)
        assert_int_equal(call(i), i != 120);
    assert_int_equal(follow.occupied, 2);
}

static void a_place_that_came_free_is_had_again(void **state)
{
    busy_offset = entries[3].offset;
    for (uint32_t i = 0; i < 4; i++)
        call(i);
    assert_true(berth__plan_follow_was_occupied(&follow, 0));
    assert_false(berth__plan_follow_again(&follow, 0, entries[3].size, take, NULL));
    busy_offset = 1;
    /* Another thread's call. */
    assert_false(berth__plan_follow_again(&follow, 0, entries[3].size * 2, take, NULL));
    assert_true(berth__plan_follow_again(&follow, 0, entries[3].size, take, NULL));
    assert_int_equal(taken_offset, entries[3].offset);
    assert_int_equal(follow.occupied, 0);
    assert_int_equal(follow.hits, 4);
    assert_false(berth__plan_follow_again(&follow, 0, entries[3].size, take, NULL));
    assert_true(call(4));
}

/* The same sizes as here follow each other elsewhere, too; that place would be had. */
static void a_call_whose_place_is_taken_stays_where_it_is(void **state)
{
    entries[49].size = entries[80].size = 123 * 512;
    entries[50].size = 124 * 512;
    entries[51].size = entries[81].size = 125 * 512;
    for (uint32_t i = 0; i < 50; i++)
        assert_true(call(i));
    busy_offset = entries[51].offset;
    entries[81].size = 125 * 512;
    /* Entry 50 is left out. */
    assert_false(call(51));
    assert_true(berth__plan_follow_was_occupied(&follow, 0));
    for (uint32_t i = 52; i < 100; i++)
        assert_true(call(i));
    assert_int_equal(follow.occupied, 1);
}

/* Until the first call is planned, and from when on half of them are not. */
static void a_program_is_the_plans_while_half_of_its_calls_are(void **state)
{
    assert_false(call_other());
    assert_false(berth__plan_follow_is_alike(&follow));
    for (uint32_t i = 0; i < 100; i++) {
        call(i);
        assert_true(berth__plan_follow_is_alike(&follow));
    }
    /* That places are taken says nothing. */
    for (uint32_t i = 100; i < 300; i++) {
        busy_offset = entries[i].offset;
        call(i);
        assert_true(berth__plan_follow_is_alike(&follow));
    }
    for (uint32_t i = 0; i < 30; i++) {
        assert_true(berth__plan_follow_is_alike(&follow));
        assert_false(call_other());
    }
    for (uint32_t i = 0; i < 100; i++)
        assert_false(call_other());
    assert_false(berth__plan_follow_is_alike(&follow));
}

static void another_program_gets_nothing_and_nothing_breaks(void **state)
{
    for (int i = 0; i < 20000; i++)
        assert_false(call_other());
    assert_int_equal(follow.unknown, 20000);
    for (uint32_t i = 0; i < 5; i++)
        call(i);
    assert_true(call(5));
}

/* Two threads: lane 0 has their calls in turns, lanes 1 and 2 those of each. */
static struct berth_plan_entry pair_entries[2 * COUNT];
static struct berth_plan_lane pair_lanes[3] = {{0, COUNT, 0, COUNT},
                                               {COUNT, COUNT / 2, 0, COUNT / 2},
                                               {COUNT * 3 / 2, COUNT / 2, 0, COUNT / 2}};
static struct berth_plan_header pair_header = {.lane_count = 3, .entry_count = 2 * COUNT};

/* Makes 40000 calls, by the thread that `choose` names; how many of the last half got no place. */
static uint32_t run_pair(uint32_t (*choose)(uint32_t call))
{
    struct berth_plan_view view = {&pair_header, pair_lanes, pair_entries};
    uint32_t next[2] = {0, 0}, missed = 0;

    for (uint32_t i = 0; i < COUNT; i++) {
        pair_entries[i] = entries[i];
        pair_entries[COUNT + i % 2 * COUNT / 2 + i / 2] = entries[i];
    }
    berth__plan_follow_init(&follow, &view);
    for (uint32_t i = 0; i < 40000; i++) {
        uint32_t thread = choose(i), call = next[thread]++ % (COUNT / 2) * 2 + thread;
        uint32_t lane = berth__plan_follow_lane(&follow, thread);
        bool is_hit = berth__plan_follow_call(&follow, lane, entries[call].size, take, NULL);

        missed += i >= 20000 && (!is_hit || taken_offset != entries[call].offset);
    }
    return missed;
}

static uint32_t in_turns(uint32_t call)
{
    return call % 2;
}

static uint32_t in_any_order(uint32_t call)
{
    return random_below(2);
}

static void threads_in_turns_are_followed_together(void **state)
{
    assert_int_equal(run_pair(in_turns), 0);
    assert_false(follow.is_apart);
}

static void threads_in_any_order_are_followed_apart(void **state)
{
    assert_int_equal(run_pair(in_any_order), 0);
    assert_true(follow.is_apart);
}

/* Forged plans have lanes of any form; no call may leave the lane. */
static void any_lane_can_be_walked(void **state)
{
    for (int round = 0; round < 2000; round++) {
        struct berth_plan_view view = {&header, lanes, entries};

        lanes[0].count = random_below(COUNT - 20) + (round % 3 > 0);
        lanes[0].loop_end = random_below(lanes[0].count + 1);
        lanes[0].loop_begin = random_below(lanes[0].loop_end + 1);
        berth__plan_follow_init(&follow, &view);
        for (int i = 0; i < 200; i++) {
            berth__plan_follow_call(&follow, 0, (1 + random_below(40)) * 512ull, take, NULL);
            assert_true(follow.cursors[0].next == 0 || follow.cursors[0].next < lanes[0].count);
        }
    }
    lanes[0] = (struct berth_plan_lane){0, COUNT - 20, LOOP_BEGIN, LOOP_END};
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_planned_run_gets_every_place, set_up),
        cmocka_unit_test_setup(lanes_do_not_disturb_each_other, set_up),
        cmocka_unit_test_setup(one_call_more_costs_only_itself, set_up),
        cmocka_unit_test_setup(a_call_less_costs_little, set_up),
        cmocka_unit_test_setup(many_calls_less_are_found_by_two, set_up),
        cmocka_unit_test_setup(a_program_that_jumps_is_found_anywhere, set_up),
        cmocka_unit_test_setup(a_step_that_ends_early_begins_again, set_up),
        cmocka_unit_test_setup(a_run_that_begins_with_nothing_is_followed_from_its_begin, set_up),
        cmocka_unit_test_setup(a_run_begins_again_in_all_lanes, set_up),
        cmocka_unit_test_setup(a_plan_is_over_when_calls_come_after_its_last, set_up),
        cmocka_unit_test_setup(a_plan_is_over_though_a_call_is_like_its_first, set_up),
        cmocka_unit_test_setup(a_plan_whose_steps_go_on_is_never_over, set_up),
        cmocka_unit_test_setup(who_is_lost_is_not_at_the_end, set_up),
        cmocka_unit_test_setup(a_thread_that_did_its_little_ends_nothing, set_up),
        cmocka_unit_test_setup(swapped_calls_get_their_places, set_up),
        cmocka_unit_test_setup(a_place_that_is_taken_is_passed_over, set_up),
        cmocka_unit_test_setup(a_place_that_came_free_is_had_again, set_up),
        cmocka_unit_test_setup(a_call_whose_place_is_taken_stays_where_it_is, set_up),
        cmocka_unit_test_setup(a_program_is_the_plans_while_half_of_its_calls_are, set_up),
        cmocka_unit_test_setup(another_program_gets_nothing_and_nothing_breaks, set_up),
        cmocka_unit_test_setup(threads_in_turns_are_followed_together, set_up),
        cmocka_unit_test_setup(threads_in_any_order_are_followed_apart, set_up),
        cmocka_unit_test_setup(any_lane_can_be_walked, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
