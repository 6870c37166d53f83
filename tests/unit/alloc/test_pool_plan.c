/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: with a plan, planned calls lie at their places in one segment and cost no call of the
 * driver, everything else is served as without, and a plan that is wrong or cannot be had harms
 * nothing. Method: plans made by hand, sensible and hostile, over the driver of device_mock.h.
 */
#include "alloc/plan_file.h"
#include "alloc/pool_parts.h"
#include "alloc/pool_plan.h"
#include "device_mock.h"
#include "pool_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ENTRIES 64

struct plan_file {
    struct berth_plan_header header;
    struct berth_plan_lane lane;
    struct berth_plan_entry entries[ENTRIES];
};

static struct plan_file file;
static uint64_t random_state = 1;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(random_state >> 33) % limit;
}

/* A plan of `count` entries, one beside the other, of 100 KiB, 101 KiB, ... */
static void plan_begin(uint32_t count)
{
    uint64_t at = 0;

    file = (struct plan_file){
        {BERTH_PLAN_MAGIC, 0, 0, 1, count, 0, 0}, {0, count, 0, count}, {{0, 0}}};
    for (uint32_t i = 0; i < count; i++) {
        file.entries[i] = (struct berth_plan_entry){KIB(100 + i), at};
        at += KIB(100 + i);
    }
    file.header.peak = at;
}

static int plan_load(void)
{
    size_t size =
        offsetof(struct plan_file, entries) + file.header.entry_count * sizeof(file.entries[0]);
    char why[BERTH_PLAN_WHY_MAX];

    file.header.checksum = berth__plan_file_checksum(&file, size);
    atomic_store(&berth__pool_plan, NULL);
    return berth__pool_plan_load(&file, size, why, sizeof(why));
}

static void plan_end(void)
{
    atomic_store(&berth__pool_plan, NULL);
}

static struct berth_pool_plan_reading reading(void)
{
    struct berth_pool_plan_reading reading;

    assert_true(berth__pool_plan_read(&reading));
    return reading;
}

static void a_planned_run_lies_at_its_places(void **state)
{
    uintptr_t blocks[ENTRIES], base = 0;

    plan_begin(ENTRIES);
    assert_int_equal(plan_load(), 0);
    for (int step = 0; step < 5; step++) {
        for (uint32_t i = 0; i < ENTRIES; i++) {
            blocks[i] = pool_get(KIB(100 + i));
            if (i == 0 && step == 0)
                base = blocks[0];
            assert_int_equal(blocks[i], base + file.entries[i].offset);
            memset((void *)blocks[i], 7, KIB(100 + i));
        }
        for (uint32_t i = 0; i < ENTRIES; i++)
            pool_put(blocks[i]);
    }
    assert_int_equal(mock_calls(MOCK_ALLOC), 1);
    assert_int_equal(mock_bytes(), berth__pool_driver_size(file.header.peak));
    assert_int_equal(reading().hits, 5 * ENTRIES);
    assert_int_equal(reading().unknown + reading().occupied, 0);
    plan_end();
}

static void what_is_not_planned_lies_elsewhere(void **state)
{
    uintptr_t planned, other, large;

    plan_end();
    pool_put(pool_get(KIB(50))); /* The ordinary pool has 2 MiB from now on. */
    plan_begin(4);
    assert_int_equal(plan_load(), 0);
    planned = pool_get(KIB(100));
    other = pool_get(KIB(50));
    large = pool_get(MIB(8));
    assert_false(other >= planned && other < planned + file.header.peak);
    assert_int_equal(mock_calls(MOCK_ALLOC), 3);
    assert_int_equal(pool_get(KIB(101)), planned + KIB(100));
    assert_int_equal(reading().hits, 2);
    assert_int_equal(reading().unknown, 2);
    pool_put(other);
    pool_put(large);
    pool_put(planned);
    pool_put(planned + KIB(100));
    plan_end();
}

static void a_place_that_is_taken_is_not_given_twice(void **state)
{
    uintptr_t first, second, third;

    plan_end();
    pool_put(pool_get(KIB(50))); /* The ordinary pool has 2 MiB from now on. */
    /* The second entry lies over half of the first. */
    plan_begin(3);
    file.entries[1].offset = KIB(50);
    assert_int_equal(plan_load(), 0);
    first = pool_get(KIB(100));
    second = pool_get(KIB(101));
    third = pool_get(KIB(102));
    assert_true(second >= first + KIB(100) || second + KIB(101) <= first);
    assert_int_equal(third, first + KIB(201));
    assert_int_equal(reading().occupied, 1);
    pool_put(first);
    pool_put(second);
    pool_put(third);
    plan_end();
}

static uintptr_t leaving_first, seen_during;

static void alloc_during(enum mock_call call)
{
    mock_during = NULL;
    if (call == MOCK_SYNC)
        assert_int_equal(pool_try_alloc(KIB(100), &seen_during), 0);
}

static void a_leaving_block_is_no_free_place(void **state)
{
    /* One entry, so that the same place is wanted again while it is being freed. */
    plan_begin(1);
    assert_int_equal(plan_load(), 0);
    leaving_first = pool_get(KIB(100));
    mock_during = alloc_during;
    pool_put(leaving_first);
    assert_int_not_equal(seen_during, leaving_first);
    assert_int_equal(reading().occupied, 1);
    assert_int_equal(pool_get(KIB(100)), leaving_first);
    pool_put(leaving_first);
    pool_put(seen_during);
    plan_end();
}

static void the_planned_segment_is_lent_when_the_driver_has_no_more(void **state)
{
    uintptr_t planned, lent, address = 0;

    plan_begin(60); /* 7.7 MiB */
    assert_int_equal(plan_load(), 0);
    planned = pool_get(KIB(100));
    mock_set_capacity(MIB(9));
    lent = pool_get(MIB(3));
    assert_int_equal(mock_bytes(), MIB(8));
    assert_true(lent > planned && lent + MIB(3) <= planned + MIB(8));
    assert_int_equal(reading().lent, 1);
    assert_int_equal(pool_try_alloc(MIB(6), &address), -ENOMEM);
    /* The lent block is in the way of its planned neighbours only. */
    pool_put(lent);
    assert_int_equal(pool_get(KIB(101)), planned + KIB(100));
    pool_put(planned);
    pool_put(planned + KIB(100));
    plan_end();
}

/* Of what it is none of, nothing is kept free. */
static void the_planned_segment_is_lent_to_another_program_at_once(void **state)
{
    uintptr_t first, second;

    plan_begin(60);
    assert_int_equal(plan_load(), 0);
    first = pool_get(MIB(3));
    second = pool_get(MIB(4));
    assert_int_equal(mock_calls(MOCK_ALLOC), 1);
    assert_int_equal(mock_bytes(), MIB(8));
    assert_int_equal(reading().lent, 2);
    pool_put(first);
    pool_put(second);
    plan_end();
}

/* The same of a plan that is not of steps, after which the program goes on. */
static void the_planned_segment_is_the_programs_when_the_plan_is_over(void **state)
{
    uintptr_t blocks[20], first, second, small;

    plan_end();
    pool_put(pool_get(KIB(50))); /* The ordinary pool has 2 MiB from now on. */
    plan_begin(20);              /* 2.1 MiB */
    file.lane.loop_end = 0;
    assert_int_equal(plan_load(), 0);
    for (uint32_t i = 0; i < 20; i++)
        blocks[i] = pool_get(KIB(100 + i));
    for (uint32_t i = 1; i < 20; i++)
        pool_put(blocks[i]);
    /* As low as can be, also what has the size of an entry. */
    first = pool_get(KIB(300));
    assert_int_equal(first, blocks[0] + KIB(100));
    second = pool_get(KIB(119));
    assert_int_equal(second, first + KIB(300));
    assert_int_equal(mock_calls(MOCK_ALLOC), 2);
    assert_int_equal(reading().lent, 2);
    /* What threads keep lies elsewhere. */
    small = pool_get(KIB(4));
    assert_true(small < blocks[0] || small >= blocks[0] + MIB(4));
    pool_put(small);
    pool_put(second);
    pool_put(first);
    pool_put(blocks[0]);
    /* With nothing that lives, the run may begin again, and is followed. */
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(pool_get(KIB(100 + i)), blocks[i]);
    for (uint32_t i = 0; i < 20; i++)
        pool_put(blocks[i]);
    assert_int_equal(pool_get(KIB(100)), blocks[0]);
    assert_int_equal(reading().hits, 41);
    pool_put(blocks[0]);
    plan_end();
}

/*
 * The same where threads follow lanes of their own, and one had come to a place that was taken:
 * what is lent to it then is its own, and not to be lost while that place is looked for.
 */
static void what_is_lent_in_the_end_is_not_asked_for_twice(void **state)
{
    static struct {
        struct berth_plan_header header;
        struct berth_plan_lane lanes[2];
        struct berth_plan_entry entries[3];
    } apart = {{BERTH_PLAN_MAGIC, 0, 0, 2, 3, MIB(1), 0},
               {{0, 2, 0, 0}, {2, 1, 0, 0}},
               {{KIB(100), 0}, {KIB(103), 0}, {KIB(105), KIB(300)}}};
    char why[BERTH_PLAN_WHY_MAX];
    uintptr_t planned, beside, own, lent, again;

    apart.header.checksum = berth__plan_file_checksum(&apart, sizeof(apart));
    plan_end();
    pool_put(pool_get(KIB(50)));
    assert_int_equal(berth__pool_plan_load(&apart, sizeof(apart), why, sizeof(why)), 0);
    /* After 512 calls of which most were not planned, the lanes are parted. */
    for (int i = 0; i < 510; i++)
        pool_put(pool_get(KIB(50)));
    planned = pool_get(KIB(100));
    beside = pool_get(KIB(103));
    assert_int_equal(reading().occupied, 1);
    own = pool_get(KIB(105));
    assert_int_equal(own, planned + KIB(300));
    lent = pool_get(KIB(110));
    assert_int_equal(lent, planned + KIB(100));
    /* And joined again after twice as many. */
    for (int i = 0; i < 1024; i++)
        pool_put(pool_get(KIB(50)));
    again = pool_get(KIB(80));
    assert_int_equal(again, planned + KIB(210));
    pool_put(again);
    pool_put(lent);
    pool_put(own);
    pool_put(beside);
    pool_put(planned);
    assert_int_equal(pool_audit().live_blocks, 0);
    plan_end();
}

/* A plan of some calls that are repeated, in KiB. */
static void plan_steps(uint32_t count, const uint64_t (*steps)[2], uint64_t peak)
{
    plan_begin(count);
    for (uint32_t i = 0; i < count; i++)
        file.entries[i] = (struct berth_plan_entry){KIB(steps[i][0]), KIB(steps[i][1])};
    file.header.peak = KIB(peak);
    assert_int_equal(plan_load(), 0);
}

/* The second call is over when the fourth is made, which has its place; not so the third. */
static void a_larger_call_gets_what_the_plan_has_no_use_for_meanwhile(void **state)
{
    static const uint64_t steps[][2] = {{1024, 0}, {1020, 1024}, {1016, 2048}, {1012, 1024}};
    uintptr_t first, second, third;

    plan_steps(4, steps, 8192);
    first = pool_get(KIB(1024));
    second = pool_get(KIB(2000));
    assert_int_equal(reading().lent, 1);
    /* After the third's place, as near to it as the parts let it be. */
    assert_in_range(second, first + KIB(2048 + 1016), first + KIB(2048 + 1016 + 3));
    third = pool_get(KIB(1016));
    assert_int_equal(third, first + KIB(2048));
    pool_put(second);
    assert_int_equal(pool_get(KIB(1012)), first + KIB(1024));
    assert_int_equal(mock_calls(MOCK_ALLOC), 1);
    pool_put(first + KIB(1024));
    pool_put(third);
    pool_put(first);
    plan_end();
}

static void a_larger_call_is_not_in_the_way_of_more_than_itself(void **state)
{
    static const uint64_t steps[][2] = {{100, 5120}, {1024, 0}, {4096, 1024}};
    uintptr_t first, larger, planned;

    plan_steps(3, steps, 6144);
    first = pool_get(KIB(100));
    larger = pool_get(KIB(1500));
    assert_int_equal(reading().lent, 0);
    planned = pool_get(KIB(4096));
    assert_int_equal(planned, first - KIB(4096));
    assert_true(larger >= first + KIB(1024) || larger < first - KIB(5120));
    pool_put(larger);
    pool_put(planned);
    pool_put(first);
    plan_end();
}

static void a_larger_call_may_be_in_the_way_of_less_than_itself(void **state)
{
    static const uint64_t steps[][2] = {{100, 4096}, {2048, 0}, {1024, 2048}};
    uintptr_t first, larger, planned;

    plan_steps(3, steps, 6144);
    first = pool_get(KIB(100));
    larger = pool_get(KIB(3500));
    assert_int_equal(reading().lent, 1);
    assert_in_range(larger, first - KIB(4096), first - KIB(3500));
    planned = pool_get(KIB(1024));
    assert_int_equal(reading().occupied, 1);
    assert_true(planned >= larger + KIB(3500) || planned + KIB(1024) <= larger);
    pool_put(planned);
    pool_put(larger);
    pool_put(first);
    plan_end();
}

/* It is less than a part of the segment, and lies elsewhere, with others of its kind. */
static void a_small_call_is_in_nobodys_way(void **state)
{
    static const uint64_t steps[][2] = {{1024, 0}, {2, 2048}, {12288, 4096}};
    uintptr_t first, small;

    plan_steps(3, steps, 16384);
    first = pool_get(KIB(1024));
    small = pool_get(KIB(4));
    assert_true(small < first || small >= first + KIB(16384));
    assert_int_equal(reading().lent, 0);
    pool_put(small);
    pool_put(first);
    plan_end();
}

static void without_memory_no_plan_is_followed(void **state)
{
    uintptr_t block;

    plan_begin(60);
    assert_int_equal(plan_load(), 0);
    mock_set_capacity(MIB(4));
    block = pool_get(KIB(100));
    assert_false(reading().is_followed);
    assert_int_equal(pool_get(KIB(101)), block + KIB(100));
    pool_put(block);
    pool_put(block + KIB(100));
    plan_end();
}

static void any_failure_of_the_driver_leaves_the_program_unharmed(void **state)
{
    for (unsigned call = 0; call < MOCK_CALL_COUNT; call++)
        for (unsigned nth = 1; nth < 4; nth++) {
            uintptr_t address[3] = {0, 0, 0};

            plan_begin(3);
            assert_int_equal(plan_load(), 0);
            mock_fail((enum mock_call)call, nth, BERTH_CU_OUT_OF_MEMORY);
            for (int i = 0; i < 3; i++)
                if (pool_try_alloc(KIB(100 + i), &address[i]) != 0)
                    address[i] = 0;
            mock_fail_none();
            for (int i = 0; i < 3; i++)
                if (address[i])
                    pool_put(address[i]);
            pool_assert_adds_up();
            mock_destroy(mock_context(0));
            berth__pool_drop(mock_context(0));
            mock_create(mock_context(0));
            mock_set_current(mock_context(0));
        }
    plan_end();
}

static void a_new_context_follows_the_plan_again(void **state)
{
    uintptr_t block;

    plan_begin(3);
    assert_int_equal(plan_load(), 0);
    pool_get(KIB(100));
    pool_get(KIB(101));
    mock_destroy(mock_context(0));
    berth__pool_drop(mock_context(0));
    mock_set_current(mock_context(1));
    block = pool_get(KIB(100));
    assert_int_equal(pool_get(KIB(101)), block + KIB(100));
    assert_int_equal(reading().hits, 4);
    pool_put(block);
    pool_put(block + KIB(100));
    plan_end();
}

static void a_second_context_and_another_device_do_without(void **state)
{
    uintptr_t planned, other, third;

    plan_begin(3);
    assert_int_equal(plan_load(), 0);
    mock_set_current(mock_context(2));
    third = pool_get(KIB(100));
    assert_false(reading().is_followed);
    mock_set_current(mock_context(0));
    planned = pool_get(KIB(100));
    mock_set_current(mock_context(1));
    other = pool_get(KIB(101));
    assert_int_equal(reading().hits, 1);
    pool_put(other);
    mock_set_current(mock_context(0));
    pool_put(planned);
    mock_set_current(mock_context(2));
    pool_put(third);
    plan_end();
}

static void the_segment_goes_back_and_is_had_again(void **state)
{
    uintptr_t block;

    plan_begin(1);
    assert_int_equal(plan_load(), 0);
    pool_put(pool_get(KIB(100)));
    assert_true(berth__pool_release_cached(0) > 0);
    assert_int_equal(mock_bytes(), 0);
    for (int i = 0; i < 300; i++)
        pool_put(pool_get(KIB(100)));
    assert_in_range(reading().occupied, 200, 299);
    block = pool_get(KIB(100));
    assert_int_equal(reading().hits, 1 + 301 - reading().occupied);
    pool_put(block);
    plan_end();
}

static void nothing_is_planned_in_a_capture(void **state)
{
    uintptr_t planned, captured;

    plan_begin(2);
    assert_int_equal(plan_load(), 0);
    planned = pool_get(KIB(100));
    atomic_fetch_add(&berth__device_captures, 1);
    captured = pool_get(KIB(101));
    atomic_fetch_sub(&berth__device_captures, 1);
    assert_int_not_equal(captured, planned + KIB(100));
    assert_int_equal(reading().hits, 1);
    pool_put(planned);
    pool_put(captured);
    plan_end();
}

/* Plans whose entries lie anywhere, and programs that do anything. */
static void no_plan_gives_memory_twice(void **state)
{
    uint64_t hits = 0;

    for (int round = 0; round < 60; round++) {
        uintptr_t blocks[40] = {0};
        uint64_t sizes[40] = {0};

        plan_begin(ENTRIES);
        file.lane.loop_begin = random_below(ENTRIES);
        for (uint32_t i = 0; i < ENTRIES; i++) {
            uint64_t size = (1 + random_below(40)) * BERTH_GRANULE;

            file.entries[i] = (struct berth_plan_entry){size, random_below(300) * BERTH_GRANULE %
                                                                  (MIB(1) - size)};
        }
        file.header.peak = MIB(1);
        assert_int_equal(plan_load(), 0);
        for (int i = 0; i < 400; i++) {
            uint32_t k = random_below(40);

            if (blocks[k]) {
                for (uint64_t b = 0; b < sizes[k]; b += 512)
                    assert_int_equal(*(unsigned char *)(blocks[k] + b), k);
                pool_put(blocks[k]);
                blocks[k] = 0;
                continue;
            }
            sizes[k] = (1 + random_below(40)) * BERTH_GRANULE;
            blocks[k] = pool_get(sizes[k]);
            memset((void *)blocks[k], (int)k, sizes[k]);
        }
        for (uint32_t k = 0; k < 40; k++)
            if (blocks[k])
                pool_put(blocks[k]);
        hits += reading().hits;
        mock_destroy(mock_context(0));
        berth__pool_drop(mock_context(0));
        mock_create(mock_context(0));
        mock_set_current(mock_context(0));
    }
    assert_true(hits > 60);
    plan_end();
}

static void a_bad_plan_is_refused(void **state)
{
    plan_begin(3);
    file.header.peak = 0;
    assert_int_equal(plan_load(), -EINVAL);
    assert_false(berth__pool_plan_exists());
    pool_put(pool_get(KIB(100)));
    plan_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_planned_run_lies_at_its_places),
        TEST(what_is_not_planned_lies_elsewhere),
        TEST(a_place_that_is_taken_is_not_given_twice),
        TEST(a_leaving_block_is_no_free_place),
        TEST(the_planned_segment_is_lent_when_the_driver_has_no_more),
        TEST(the_planned_segment_is_lent_to_another_program_at_once),
        TEST(the_planned_segment_is_the_programs_when_the_plan_is_over),
        TEST(what_is_lent_in_the_end_is_not_asked_for_twice),
        TEST(a_larger_call_gets_what_the_plan_has_no_use_for_meanwhile),
        TEST(a_larger_call_is_not_in_the_way_of_more_than_itself),
        TEST(a_larger_call_may_be_in_the_way_of_less_than_itself),
        TEST(a_small_call_is_in_nobodys_way),
        TEST(without_memory_no_plan_is_followed),
        TEST(any_failure_of_the_driver_leaves_the_program_unharmed),
        TEST(a_new_context_follows_the_plan_again),
        TEST(a_second_context_and_another_device_do_without),
        TEST(the_segment_goes_back_and_is_had_again),
        TEST(nothing_is_planned_in_a_capture),
        TEST(no_plan_gives_memory_twice),
        TEST(a_bad_plan_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
