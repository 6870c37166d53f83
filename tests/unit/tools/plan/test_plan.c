/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans of runs: what repeats is found, and whoever makes the calls of the run again, entry by
 * entry, meets no block that lives. Programs of random steps, with blocks that live from step to
 * step, before and after them; the offsets are then tried on every call of the whole run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tools/plan/plan_make.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(random_state >> 33) % limit;
}

static const struct berth_packing_limits limits = {.effort = 20000000, .seconds = 60, .seed = 1};

/* Appends `count` calls that live for `life` calls each, or as long as said. */
static void add_calls(struct berth_plan_run *run, const struct berth_plan_call *calls,
                      uint32_t count)
{
    run->calls = realloc(run->calls, (run->count + count) * sizeof(*calls));
    assert_non_null(run->calls);
    for (uint32_t i = 0; i < count; i++) {
        run->calls[run->count + i] = calls[i];
        run->calls[run->count + i].upper += run->count + i;
    }
    run->count += count;
}

static void end_run(struct berth_plan_run *run)
{
    run->threads = 1;
    for (uint32_t i = 0; i < run->count; i++)
        if (run->calls[i].upper > run->count)
            run->calls[i].upper = run->count;
}

/* Random calls; `upper` is their life. */
static void random_calls(struct berth_plan_call *calls, uint32_t count, uint32_t life)
{
    for (uint32_t i = 0; i < count; i++)
        calls[i] = (struct berth_plan_call){(uint64_t)(1 + random_below(200)) * 512,
                                            1 + random_below(random_below(4) ? 10 : life), 0};
}

/* Follows the one lane of a plan through the whole run. */
static void check_plan(const struct berth_plan_run *run, const struct berth_plan_repeat *repeat,
                       const struct berth_plan_made *made)
{
    struct berth_packing_buffer *buffers = calloc(run->count, sizeof(*buffers));
    uint64_t *offsets = calloc(run->count, sizeof(*offsets));
    uint64_t left = repeat->times, peak = 0;
    char why[BERTH_PLAN_WHY_MAX] = "";
    struct berth_plan_view view;
    size_t planned = 0, pair[2] = {0, 0};
    uint32_t cursor = 0;

    assert_int_equal(berth__plan_file_open(made->bytes, made->size, &view, why, sizeof(why)), 0);
    for (uint32_t i = 0; i < run->count; i++) {
        if (left > 1 && cursor == view.lanes[0].loop_end) {
            cursor = view.lanes[0].loop_begin;
            left--;
        }
        assert_int_equal(view.entries[cursor].size, run->calls[i].size);
        if (view.entries[cursor].offset != BERTH_PLAN_NOWHERE) {
            buffers[planned] =
                (struct berth_packing_buffer){i, run->calls[i].upper, run->calls[i].size};
            offsets[planned++] = view.entries[cursor].offset;
        }
        cursor++;
    }
    assert_int_equal(cursor, view.lanes[0].count);
    assert_int_equal(berth__packing_check(buffers, planned, offsets, &peak, pair), 0);
    assert_true(peak <= view.header->peak);
    free(buffers);
    free(offsets);
}

static struct berth_plan_repeat plan_and_check(const struct berth_plan_run *run)
{
    struct berth_plan_repeat repeat = berth__plan_repeat_find(run);
    struct berth_plan_made made;

    assert_int_equal(berth__plan_make(run, &repeat, &limits, &made), 0);
    check_plan(run, &repeat, &made);
    free(made.bytes);
    return repeat;
}

static void steps_are_found_and_folded(void **state)
{
    for (int round = 0; round < 60; round++) {
        struct berth_plan_call weights[20], step[80], tail[30];
        struct berth_plan_run run = {.calls = NULL};
        uint32_t period = 20 + random_below(60), times = 3 + random_below(5);
        struct berth_plan_repeat repeat;

        random_calls(weights, 20, 4000);
        random_calls(step, period, period - 1);
        random_calls(tail, 30, 40);
        add_calls(&run, weights, 20);
        for (uint32_t i = 0; i < times; i++)
            add_calls(&run, step, period);
        add_calls(&run, tail, 30);
        end_run(&run);
        repeat = plan_and_check(&run);
        assert_int_equal(repeat.period, period);
        assert_in_range(repeat.times, times - 1, times);
        free(run.calls);
    }
}

static void a_run_without_steps_is_planned_whole(void **state)
{
    struct berth_plan_call calls[500];
    struct berth_plan_run run = {.calls = NULL};
    struct berth_plan_repeat repeat;

    random_calls(calls, 500, 300);
    add_calls(&run, calls, 500);
    end_run(&run);
    repeat = plan_and_check(&run);
    assert_int_equal(repeat.times, 0);
    free(run.calls);
}

/* What comes after some calls that came twice is not them a third time, if most is yet to come. */
static void calls_that_come_again_by_chance_are_no_steps(void **state)
{
    for (int round = 0; round < 60; round++) {
        struct berth_plan_call calls[500], again[40];
        struct berth_plan_run run = {.calls = NULL};
        uint32_t period = 20 + random_below(20), before = 100 + random_below(150);
        struct berth_plan_repeat repeat;

        random_calls(calls, 500, 300);
        random_calls(again, period, period - 1);
        add_calls(&run, calls, before);
        add_calls(&run, again, period);
        add_calls(&run, again, period);
        add_calls(&run, calls + before, 500 - before);
        end_run(&run);
        repeat = plan_and_check(&run);
        assert_int_equal(repeat.times, 0);
        free(run.calls);
    }
}

static void few_steps_after_a_long_begin_are_found(void **state)
{
    struct berth_plan_call calls[500], step[40];
    struct berth_plan_run run = {.calls = NULL};
    struct berth_plan_repeat repeat;

    random_calls(calls, 500, 900);
    random_calls(step, 40, 39);
    add_calls(&run, calls, 500);
    for (int i = 0; i < 3; i++)
        add_calls(&run, step, 40);
    add_calls(&run, calls, 20);
    end_run(&run);
    repeat = plan_and_check(&run);
    assert_int_equal(repeat.period, 40);
    assert_in_range(repeat.times, 2, 3);
    free(run.calls);
}

static void equal_sizes_are_no_step_of_one(void **state)
{
    struct berth_plan_run run = {.calls = NULL};
    struct berth_plan_call step[64];
    struct berth_plan_repeat repeat;

    /* 64 blocks of one size, all freed at the end of each step. */
    for (uint32_t i = 0; i < 64; i++)
        step[i] = (struct berth_plan_call){4096, 64 - i, 0};
    for (int i = 0; i < 6; i++)
        add_calls(&run, step, 64);
    end_run(&run);
    repeat = plan_and_check(&run);
    assert_int_equal(repeat.period, 64);
    assert_int_equal(repeat.times, 6);
    free(run.calls);
}

/* `times` steps of 40 calls; block `at` of each lives for `life` calls. */
static void steps_with(struct berth_plan_run *run, uint32_t times, uint32_t at, uint32_t life)
{
    struct berth_plan_call step[40];

    for (uint32_t i = 0; i < 40; i++)
        step[i] = (struct berth_plan_call){(uint64_t)(i + 1) * 512, 2, 0};
    step[at].upper = life;
    for (uint32_t i = 0; i < times; i++)
        add_calls(run, step, 40);
}

static void what_outlives_a_step_makes_two_of_it_one(void **state)
{
    struct berth_plan_call tail = {1 << 20, 1, 0};
    struct berth_plan_run run = {.calls = NULL};
    struct berth_plan_repeat repeat;
    struct berth_plan_made made;

    steps_with(&run, 9, 7, 45);
    add_calls(&run, &tail, 1);
    end_run(&run);
    repeat = berth__plan_repeat_choose(&run);
    assert_int_equal(repeat.period, 80);
    assert_int_equal(repeat.times, 4);
    /* The odd one comes first. */
    assert_int_equal(repeat.begin, 40);
    assert_int_equal(berth__plan_make(&run, &repeat, &limits, &made), 0);
    assert_int_equal(made.left_out, 0);
    check_plan(&run, &repeat, &made);
    free(made.bytes);
    free(run.calls);
}

static void what_outlives_many_steps_is_planned_whole(void **state)
{
    struct berth_plan_call tail = {1 << 20, 1, 0};
    struct berth_plan_run run = {.calls = NULL};

    steps_with(&run, 30, 7, 40 * 10);
    add_calls(&run, &tail, 1);
    end_run(&run);
    assert_true(berth__plan_repeat_find(&run).times > 20);
    assert_int_equal(berth__plan_repeat_choose(&run).times, 0);
    free(run.calls);
}

/* In the midst of step 8: the run goes on, and what lives longer is served without a place. */
static void steps_that_were_cut_short_are_folded_all_the_same(void **state)
{
    const struct berth_plan_call weights = {1 << 24, 1000, 0};
    struct berth_plan_run run = {.calls = NULL};
    struct berth_plan_repeat repeat;

    add_calls(&run, &weights, 1);
    steps_with(&run, 8, 0, 400);
    run.count -= 15;
    end_run(&run);
    repeat = berth__plan_repeat_choose(&run);
    assert_true(repeat.times >= 2);
    assert_int_equal(repeat.period % 40, 0);
    free(run.calls);
}

/* A block that lives through the end of each step would keep its place all step long. */
static void steps_that_cost_more_than_the_run_are_not_folded(void **state)
{
    struct berth_plan_call tail = {1 << 20, 1, 0};
    struct berth_plan_run run = {.calls = NULL};

    steps_with(&run, 8, 39, 5);
    for (uint32_t i = 0; i < run.count; i++)
        if (i % 40 == 39 || i % 40 == 20)
            run.calls[i].size = 1 << 24;
    add_calls(&run, &tail, 1);
    end_run(&run);
    assert_true(berth__plan_repeat_find(&run).times >= 6);
    assert_int_equal(berth__plan_repeat_choose(&run).times, 0);
    free(run.calls);
}

static void what_outlives_a_step_has_no_place(void **state)
{
    struct berth_plan_run run = {.calls = NULL};
    struct berth_plan_call step[40];
    struct berth_plan_repeat repeat = {0, 40, 8};
    struct berth_plan_made made;

    for (uint32_t i = 0; i < 40; i++)
        step[i] = (struct berth_plan_call){(uint64_t)(i + 1) * 512, 2, 0};
    step[7].upper = 55;
    for (int i = 0; i < 8; i++)
        add_calls(&run, step, 40);
    end_run(&run);
    assert_int_equal(berth__plan_make(&run, &repeat, &limits, &made), 0);
    assert_int_equal(made.left_out, 1);
    check_plan(&run, &repeat, &made);
    free(made.bytes);
    free(run.calls);
}

static void each_thread_has_a_lane(void **state)
{
    struct berth_trace_log log;
    struct berth_plan_run run;
    struct berth_plan_made made;
    const struct berth_plan_repeat none = {0, 0, 0};
    struct berth_plan_view view;
    char why[BERTH_PLAN_WHY_MAX];

    berth__trace_log_init(&log);
    for (uint32_t i = 0; i < 100; i++) {
        struct berth_trace_event *event = berth__trace_log_add(&log);

        event->action = i % 2 ? BERTH_TRACE_FREE : BERTH_TRACE_ALLOCATE;
        event->address = 0x1000;
        event->size = 1000;
        event->thread = i / 2 % 3;
        event->kind = i >= 90 ? BERTH_TRACE_HOST : BERTH_TRACE_DEVICE;
    }
    berth__trace_log_match(&log);
    berth__plan_run_init(&log, -1, 0, &run);
    assert_int_equal(run.count, 45);
    assert_int_equal(run.others, 5);
    assert_int_equal(run.threads, 3);
    assert_int_equal(run.calls[0].size, 1024);
    assert_int_equal(run.calls[7].upper, 8);
    assert_int_equal(berth__plan_make(&run, &none, &limits, &made), 0);
    assert_int_equal(berth__plan_file_open(made.bytes, made.size, &view, why, sizeof(why)), 0);
    assert_int_equal(view.header->lane_count, 4);
    assert_int_equal(view.header->peak, 1024);
    assert_int_equal(view.lanes[0].count, 45);
    assert_int_equal(view.lanes[3].first, 75);
    assert_int_equal(view.lanes[3].count, 15);
    free(made.bytes);
    berth__plan_run_done(&run);
    berth__trace_log_done(&log);
}

static void an_empty_run_has_no_plan(void **state)
{
    struct berth_plan_run run = {.count = 0};
    const struct berth_plan_repeat none = {0, 0, 0};
    struct berth_plan_made made;

    assert_int_equal(berth__plan_make(&run, &none, &limits, &made), -ERANGE);
}

static void a_damaged_file_is_refused(void **state)
{
    struct berth_plan_call calls[100];
    struct berth_plan_run run = {.calls = NULL};
    const struct berth_plan_repeat none = {0, 0, 0};
    struct berth_plan_made made;
    struct berth_plan_view view = {.header = NULL};
    char why[BERTH_PLAN_WHY_MAX];
    unsigned char *bytes;

    random_calls(calls, 100, 50);
    add_calls(&run, calls, 100);
    end_run(&run);
    assert_int_equal(berth__plan_make(&run, &none, &limits, &made), 0);
    bytes = made.bytes;
    for (size_t size = 0; size < made.size; size++)
        assert_int_equal(berth__plan_file_open(bytes, size, &view, why, sizeof(why)), -EINVAL);
    for (size_t i = 0; i < made.size; i++) {
        bytes[i] ^= 0x10;
        assert_int_equal(berth__plan_file_open(bytes, made.size, &view, why, sizeof(why)), -EINVAL);
        bytes[i] ^= 0x10;
    }
    assert_null(view.header);
    free(bytes);
    free(run.calls);
}

/* What a forger writes has the right checksum. */
static void a_forged_file_is_refused(void **state)
{
    struct {
        struct berth_plan_header header;
        struct berth_plan_lane lanes[2];
        struct berth_plan_entry entries[3];
    } good = {{BERTH_PLAN_MAGIC, 0, 0, 2, 3, 4096, 0},
              {{0, 2, 0, 2}, {2, 1, 0, 0}},
              {{512, 0}, {1024, 512}, {512, BERTH_PLAN_NOWHERE}}};
    struct berth_plan_view view = {.header = NULL};
    char why[BERTH_PLAN_WHY_MAX];

#define FORGE(change, expected)                                                                    \
    do {                                                                                           \
        __auto_type copy = good;                                                                   \
        change;                                                                                    \
        copy.header.checksum = berth__plan_file_checksum(&copy, sizeof(copy));                     \
        assert_int_equal(berth__plan_file_open(&copy, sizeof(copy), &view, why, sizeof(why)),      \
                         expected);                                                                \
    } while (0)
    FORGE((void)0, 0);
    FORGE(copy.header.peak = 0, -EINVAL);
    FORGE(copy.header.peak = 1000, -EINVAL);
    FORGE(copy.header.peak = BERTH_PLAN_PEAK_MAX + 512, -EINVAL);
    FORGE(copy.header.entry_count = UINT64_MAX / 16 + 4, -EINVAL);
    FORGE(copy.header.lane_count = 0, -EINVAL);
    FORGE(copy.lanes[0].count = 3, -EINVAL);
    FORGE(copy.lanes[0].count = 1, -EINVAL);
    FORGE(copy.lanes[1].count = 0, -EINVAL);
    FORGE(copy.lanes[1].first = 1, -EINVAL);
    FORGE(copy.lanes[0].loop_end = 3, -EINVAL);
    FORGE(copy.lanes[1].loop_begin = 1, -EINVAL);
    FORGE(copy.entries[0].size = 0, -EINVAL);
    FORGE(copy.entries[0].size = 513, -EINVAL);
    FORGE(copy.entries[1].size = UINT64_MAX - 511, -EINVAL);
    FORGE(copy.entries[1].offset = 4096 - 512, -EINVAL);
    FORGE(copy.entries[1].offset = 100, -EINVAL);
    FORGE(copy.entries[1].offset = 0 - (uint64_t)512, -EINVAL);
#undef FORGE
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_found_and_folded),
        cmocka_unit_test(a_run_without_steps_is_planned_whole),
        cmocka_unit_test(calls_that_come_again_by_chance_are_no_steps),
        cmocka_unit_test(few_steps_after_a_long_begin_are_found),
        cmocka_unit_test(equal_sizes_are_no_step_of_one),
        cmocka_unit_test(what_outlives_a_step_makes_two_of_it_one),
        cmocka_unit_test(what_outlives_many_steps_is_planned_whole),
        cmocka_unit_test(steps_that_were_cut_short_are_folded_all_the_same),
        cmocka_unit_test(steps_that_cost_more_than_the_run_are_not_folded),
        cmocka_unit_test(what_outlives_a_step_has_no_place),
        cmocka_unit_test(each_thread_has_a_lane),
        cmocka_unit_test(an_empty_run_has_no_plan),
        cmocka_unit_test(a_damaged_file_is_refused),
        cmocka_unit_test(a_forged_file_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
