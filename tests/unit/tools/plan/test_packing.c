/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packings: each result is checked by a pass that does not know how it was found, and by a second
 * check of all pairs here; peaks are compared with bounds that hold for any packing, and, on
 * problems that were cut out of a full rectangle, with the peak that is known to be possible.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tools/plan/packing.h"

#include <errno.h>
#include <stdlib.h>

#define GRANULE 512

static uint64_t random_state = 1;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(random_state >> 33) % limit;
}

static bool pairs_are_apart(const struct berth_packing_buffer *buffers, size_t count,
                            const uint64_t *offsets)
{
    for (size_t i = 0; i < count; i++)
        for (size_t k = i + 1; k < count; k++)
            if (buffers[i].lower < buffers[k].upper && buffers[k].lower < buffers[i].upper &&
                offsets[i] < offsets[k] + buffers[k].size &&
                offsets[k] < offsets[i] + buffers[i].size)
                return false;
    return true;
}

static struct berth_packing_result solve(const struct berth_packing_buffer *buffers, size_t count,
                                         double seconds, uint64_t *offsets)
{
    const struct berth_packing_limits limits = {
        .effort = UINT64_MAX, .seconds = seconds, .seed = 1};
    struct berth_packing_result result;
    uint64_t peak = 0;
    size_t pair[2] = {0, 0};

    assert_int_equal(berth__packing_solve(buffers, count, &limits, offsets, &result), 0);
    assert_int_equal(berth__packing_check(buffers, count, offsets, &peak, pair), 0);
    assert_int_equal(peak, result.peak);
    assert_true(result.peak >= result.max_live);
    if (count <= 2000)
        assert_true(pairs_are_apart(buffers, count, offsets));
    return result;
}

static void random_buffers(struct berth_packing_buffer *buffers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t life = random_below(8) == 0 ? (uint32_t)count : 40;

        buffers[i].lower = (uint32_t)i;
        buffers[i].upper = buffers[i].lower + 1 + random_below(life);
        buffers[i].size = (uint64_t)(1 + random_below(1 << random_below(12))) * GRANULE;
    }
}

/* Cuts a rectangle of time x addresses into pieces, down to `depth`: its height is possible. */
static size_t cut(struct berth_packing_buffer *buffers, uint32_t lower, uint32_t upper,
                  uint64_t size, int depth)
{
    uint32_t time = upper - lower, units = (uint32_t)(size / GRANULE);
    size_t count;

    if (depth == 0 || (time < 2 && units < 2)) {
        buffers[0] = (struct berth_packing_buffer){lower, upper, size};
        return 1;
    }
    if (units < 2 || (time >= 2 && random_below(2))) {
        uint32_t at = lower + 1 + random_below(time - 1);

        count = cut(buffers, lower, at, size, depth - 1);
        return count + cut(buffers + count, at, upper, size, depth - 1);
    }
    size = (uint64_t)(1 + random_below(units - 1)) * GRANULE;
    count = cut(buffers, lower, upper, size, depth - 1);
    return count + cut(buffers + count, lower, upper, units * (uint64_t)GRANULE - size, depth - 1);
}

static void random_problems_are_packed_without_overlap(void **state)
{
    static struct berth_packing_buffer buffers[400];
    static uint64_t offsets[400];

    for (int round = 0; round < 40; round++) {
        size_t count = 1 + random_below(400);

        random_buffers(buffers, count);
        solve(buffers, count, 0.01, offsets);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(offsets[i] % GRANULE, 0);
    }
}

/* However long it takes: so that a plan is the same on a machine that is busy. */
static void the_same_effort_finds_the_same_packing(void **state)
{
    static const uint64_t efforts[] = {0, 300000, 3000000, 30000000};
    static struct berth_packing_buffer buffers[400];
    static uint64_t offsets[400], again[400];
    struct berth_packing_result result, before = {.peak = UINT64_MAX};

    random_buffers(buffers, 400);
    for (size_t i = 0; i < sizeof(efforts) / sizeof(efforts[0]); i++) {
        struct berth_packing_limits limits = {.effort = efforts[i], .seconds = 10, .seed = 7};

        assert_int_equal(berth__packing_solve(buffers, 400, &limits, offsets, &result), 0);
        assert_int_equal(berth__packing_solve(buffers, 400, &limits, again, &result), 0);
        assert_memory_equal(offsets, again, sizeof(offsets));
        assert_true(result.peak <= before.peak);
        before = result;
        if (efforts[i] == 0)
            assert_string_equal(result.method, "sweep");
    }
}

static void pieces_of_a_rectangle_nearly_fill_it(void **state)
{
    static struct berth_packing_buffer buffers[256];
    static uint64_t offsets[256];
    const uint64_t height = 4096 * GRANULE;

    for (int round = 0; round < 8; round++) {
        size_t count = cut(buffers, 0, 1000, height, 5);
        struct berth_packing_result result = solve(buffers, count, 2, offsets);

        assert_int_equal(result.max_live, height);
        assert_true((double)result.peak <= 1.05 * (double)height);
    }
}

static void the_peak_is_never_above_the_sum_and_stacks_are_exact(void **state)
{
    struct berth_packing_buffer buffers[64];
    uint64_t offsets[64];
    struct berth_packing_result result;

    /* All at once: the sum. One after the other: the largest. */
    for (uint32_t i = 0; i < 64; i++)
        buffers[i] = (struct berth_packing_buffer){0, 1, (uint64_t)(i + 1) * GRANULE};
    result = solve(buffers, 64, 1, offsets);
    assert_int_equal(result.peak, 64 * 65 / 2 * GRANULE);
    for (uint32_t i = 0; i < 64; i++)
        buffers[i] = (struct berth_packing_buffer){i, i + 1, (uint64_t)(i + 1) * GRANULE};
    result = solve(buffers, 64, 1, offsets);
    assert_int_equal(result.peak, 64 * GRANULE);
}

static void a_seed_decides_the_result(void **state)
{
    struct berth_packing_buffer buffers[100];
    uint64_t one[100], two[100];

    random_buffers(buffers, 100);
    solve(buffers, 100, 0, one);
    solve(buffers, 100, 0, two);
    assert_memory_equal(one, two, sizeof(one));
}

static void large_problems_take_bounded_time(void **state)
{
    const size_t count = 100000;
    struct berth_packing_buffer *buffers = calloc(count, sizeof(*buffers));
    uint64_t *offsets = calloc(count, sizeof(*offsets));
    struct berth_packing_result result;

    for (size_t i = 0; i < count; i++) {
        buffers[i].lower = (uint32_t)i;
        buffers[i].upper = buffers[i].lower + 1 + random_below(random_below(50) ? 100 : 20000);
        buffers[i].size = (uint64_t)(1 + random_below(1 << random_below(12))) * GRANULE;
    }
    result = solve(buffers, count, 0, offsets);
    assert_string_equal(result.method, "sweep");
    free(buffers);
    free(offsets);
}

/*
 * A run that rises to one fullest moment and falls again, too large for the search: stacked there,
 * it needs not a byte more than what lives. Passes from the begin to the end never get there.
 */
/* Of so many that always live that the pairs are too many for first fit, which would do as well. */
static void a_rise_and_fall_is_packed_around_its_top(void **state)
{
    const uint32_t count = 12000, top = count / 2, always = 5700;
    struct berth_packing_buffer *buffers = calloc(count + always, sizeof(*buffers));
    uint64_t *offsets = calloc(count + always, sizeof(*offsets));
    struct berth_packing_result result, swept;

    for (uint32_t i = 0; i < count; i++) {
        bool is_in_stack = i < top && (i > top / 4 * 3 || random_below(16) == 0);

        /* There is a lull around the top, in which nothing is taken but what goes on the stack. */
        buffers[i].lower = i < top ? i : i + top / 4;
        buffers[i].upper = is_in_stack ? top + 1 + random_below(count - top)
                                       : buffers[i].lower + 1 + random_below(20);
        buffers[i].size = (uint64_t)(1 + random_below(1 << 10)) * GRANULE;
    }
    for (uint32_t i = 0; i < always; i++)
        buffers[count + i] = (struct berth_packing_buffer){0, 2 * count, GRANULE};
    swept = solve(buffers, count + always, 0, offsets);
    result = solve(buffers, count + always, 60, offsets);
    assert_string_equal(swept.method, "sweep");
    assert_true(swept.peak > result.max_live);
    assert_string_equal(result.method, "cut");
    assert_int_equal(result.peak, result.max_live);
    free(buffers);
    free(offsets);
}

/*
 * Rectangles one after the other, of too many pieces for the search, which are an eighth smaller
 * than what they were cut into: no order of first fit gets all of them into the height of one, but
 * in each there is room to move pieces.
 */
static void pieces_make_way_for_each_other(void **state)
{
    const uint32_t rectangles = 290, time = 100;
    const uint64_t height = 4096 * GRANULE;
    struct berth_packing_buffer *buffers = calloc((size_t)rectangles << 5, sizeof(*buffers));
    uint64_t *offsets = calloc((size_t)rectangles << 5, sizeof(*offsets));
    struct berth_packing_result result;
    size_t count = 1;

    buffers[0] = (struct berth_packing_buffer){0, 1, height};
    for (uint32_t k = 0; k < rectangles; k++)
        count += cut(buffers + count, 1 + k * time, 1 + (k + 1) * time, height, 5);
    for (size_t i = 1; i < count; i++)
        buffers[i].size -= buffers[i].size / GRANULE / 8 * GRANULE;
    result = solve(buffers, count, 60, offsets);
    assert_string_equal(result.method, "ejection");
    assert_int_equal(result.peak, result.max_live);
    free(buffers);
    free(offsets);
}

static void what_cannot_be_packed_is_refused(void **state)
{
    const struct berth_packing_limits limits = {.effort = 0};
    struct berth_packing_buffer buffers[2] = {{0, 1, 512}, {3, 3, 512}};
    struct berth_packing_result result = {.peak = 7};
    uint64_t offsets[2] = {1, 2};

    assert_int_equal(berth__packing_solve(buffers, 2, &limits, offsets, &result), -EINVAL);
    buffers[1] = (struct berth_packing_buffer){3, 4, 0};
    assert_int_equal(berth__packing_solve(buffers, 2, &limits, offsets, &result), -EINVAL);
    buffers[1].size = UINT64_MAX / 2;
    assert_int_equal(berth__packing_solve(buffers, 2, &limits, offsets, &result), -EOVERFLOW);
    assert_int_equal(offsets[0], 1);
    assert_int_equal(result.peak, 7);
    assert_int_equal(berth__packing_solve(buffers, 0, &limits, offsets, &result), 0);
    assert_int_equal(result.peak, 0);
}

static void the_check_finds_an_overlap(void **state)
{
    const struct berth_packing_buffer buffers[3] = {{0, 10, 1024}, {5, 15, 1024}, {10, 20, 1024}};
    const uint64_t apart[3] = {0, 1024, 0}, over[3] = {0, 1024, 512};
    uint64_t peak = 0;
    size_t pair[2] = {9, 9};

    assert_int_equal(berth__packing_check(buffers, 3, apart, &peak, pair), 0);
    assert_int_equal(peak, 2048);
    assert_int_equal(berth__packing_check(buffers, 3, over, &peak, pair), -EBADMSG);
    assert_int_equal(pair[0], 2);
    assert_int_equal(pair[1], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_problems_are_packed_without_overlap),
        cmocka_unit_test(the_same_effort_finds_the_same_packing),
        cmocka_unit_test(pieces_of_a_rectangle_nearly_fill_it),
        cmocka_unit_test(the_peak_is_never_above_the_sum_and_stacks_are_exact),
        cmocka_unit_test(a_seed_decides_the_result),
        cmocka_unit_test(large_problems_take_bounded_time),
        cmocka_unit_test(a_rise_and_fall_is_packed_around_its_top),
        cmocka_unit_test(pieces_make_way_for_each_other),
        cmocka_unit_test(what_cannot_be_packed_is_refused),
        cmocka_unit_test(the_check_finds_an_overlap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
