/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the account adds up, exactly, whatever is counted at the same time. Method: many threads
 * count blocks that they made up; the sums are known.
 */
#include "alloc/stats.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TIER ((berth_tier_id)7)

static struct berth_cell_reading read_cell(enum berth_tag tag)
{
    struct berth_cell_reading reading;

    berth__stats_read(TIER, tag, &reading);
    return reading;
}

static void a_block_is_in_one_cell_until_it_is_freed(void **state)
{
    struct berth_cell_reading cell;

    (void)state;
    berth__stats_alloc(TIER, BERTH_TAG_KV, 100, 112);
    berth__stats_alloc(TIER, BERTH_TAG_KV, 1000, 1024);
    cell = read_cell(BERTH_TAG_KV);
    assert_int_equal(cell.requested, 1100);
    assert_int_equal(cell.held, 1136);
    assert_int_equal(cell.blocks, 2);
    assert_int_equal(cell.peak_held, 1136);
    berth__stats_free(TIER, BERTH_TAG_KV, 1000, 1024);
    cell = read_cell(BERTH_TAG_KV);
    assert_int_equal(cell.requested, 100);
    assert_int_equal(cell.held, 112);
    assert_int_equal(cell.blocks, 1);
    assert_int_equal(cell.peak_held, 1136);
    assert_int_equal(cell.allocs, 2);
    assert_int_equal(cell.frees, 1);
    cell = read_cell(BERTH_TAG_WEIGHT);
    assert_int_equal(cell.held + cell.blocks + cell.allocs, 0);
    berth__stats_free(TIER, BERTH_TAG_KV, 100, 112);
}

static void resizing_keeps_the_count_of_blocks(void **state)
{
    struct berth_cell_reading cell;

    (void)state;
    berth__stats_alloc(TIER, BERTH_TAG_WORKSPACE, 100, 128);
    berth__stats_resize(TIER, BERTH_TAG_WORKSPACE, 100, 128, 5000, 5120);
    cell = read_cell(BERTH_TAG_WORKSPACE);
    assert_int_equal(cell.requested, 5000);
    assert_int_equal(cell.held, 5120);
    assert_int_equal(cell.peak_held, 5120);
    berth__stats_resize(TIER, BERTH_TAG_WORKSPACE, 5000, 5120, 10, 16);
    cell = read_cell(BERTH_TAG_WORKSPACE);
    assert_int_equal(cell.requested, 10);
    assert_int_equal(cell.held, 16);
    assert_int_equal(cell.peak_held, 5120);
    assert_int_equal(cell.blocks, 1);
    assert_int_equal(cell.allocs, 1);
    berth__stats_free(TIER, BERTH_TAG_WORKSPACE, 10, 16);
}

static void a_spill_is_counted(void **state)
{
    (void)state;
    berth__stats_spill(TIER, 300);
    berth__stats_spill(TIER, 5);
    assert_int_equal(berth__tier_stats[TIER].spilled_blocks, 2);
    assert_int_equal(berth__tier_stats[TIER].spilled_bytes, 305);
}

#define THREADS 4
#define ROUNDS 20000

static void *count_blocks(void *context)
{
    enum berth_tag tag = BERTH_TAG_ACTIVATION;

    (void)context;
    for (unsigned i = 1; i <= ROUNDS; i++) {
        berth__stats_alloc(TIER, tag, i, i + 10);
        berth__stats_resize(TIER, tag, i, i + 10, i + 5, i + 20);
        if (i % 2)
            berth__stats_free(TIER, tag, i + 5, i + 20);
    }
    return NULL;
}

static void sums_are_exact_after_any_race(void **state)
{
    pthread_t threads[THREADS];
    struct berth_cell_reading cell;
    uint64_t kept = 0;

    (void)state;
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, count_blocks, NULL), 0);
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    for (unsigned i = 2; i <= ROUNDS; i += 2)
        kept += i;
    cell = read_cell(BERTH_TAG_ACTIVATION);
    assert_int_equal(cell.blocks, THREADS * ROUNDS / 2);
    assert_int_equal(cell.allocs, THREADS * ROUNDS);
    assert_int_equal(cell.frees, THREADS * ROUNDS / 2);
    assert_int_equal(cell.requested, THREADS * (kept + 5 * (uint64_t)ROUNDS / 2));
    assert_int_equal(cell.held, THREADS * (kept + 20 * (uint64_t)ROUNDS / 2));
    assert_true(cell.peak_held >= cell.held);
    assert_true(cell.peak_held <= cell.held + THREADS * (ROUNDS + 20));
}

#define PARTS 12
#define PART_TIER ((berth_tier_id)6)
#define MIB(n) ((uint64_t)(n)*BERTH_MIB)

static struct berth_stats_part parts[PARTS];

static uint64_t peak_of(enum berth_tag tag)
{
    struct berth_cell_reading cell;

    berth__stats_read(PART_TIER, tag, &cell);
    assert_int_equal(cell.held, 0);
    return cell.peak_held;
}

/* The parts' balances are all below 0 then, and none has told of it. */
static void what_parts_take_back_is_in_no_peak(void **state)
{
    (void)state;
    for (int i = 0; i < PARTS * 7; i++) {
        berth__stats_alloc(PART_TIER, BERTH_TAG_KV, MIB(1), MIB(1));
        berth__stats_part_free(&parts[i % PARTS], BERTH_TAG_KV, MIB(1), MIB(1));
    }
    berth__stats_part_alloc(&parts[0], BERTH_TAG_KV, MIB(16), MIB(16));
    berth__stats_free(PART_TIER, BERTH_TAG_KV, MIB(16), MIB(16));
    assert_int_equal(peak_of(BERTH_TAG_KV), MIB(16));
}

static void parts_that_were_large_in_turn_are_no_sum(void **state)
{
    (void)state;
    for (int i = 0; i < PARTS; i++) {
        berth__stats_part_alloc(&parts[i], BERTH_TAG_WORKSPACE, MIB(7), MIB(7));
        berth__stats_part_free(&parts[i], BERTH_TAG_WORKSPACE, MIB(7), MIB(7));
    }
    assert_int_equal(peak_of(BERTH_TAG_WORKSPACE), MIB(7));
}

#define GIB(n) ((uint64_t)(n) << 30)
#define READINGS 100000
#define LARGE 2 /* parts */

static atomic_bool has_read;

static void *hold_large_blocks(void *argument)
{
    struct berth_stats_part *part = argument;

    while (!atomic_load(&has_read)) {
        berth__stats_part_alloc(part, BERTH_TAG_ACTIVATION, GIB(4), GIB(4));
        berth__stats_part_free(part, BERTH_TAG_ACTIVATION, GIB(4), GIB(4));
    }
    return NULL;
}

/* However it comes between, nobody sees a block both in a part and in the cell. */
static void who_reads_meanwhile_sees_no_large_block_twice(void **state)
{
    struct berth_cell_reading cell = {0};
    pthread_t threads[LARGE];

    (void)state;
    for (int i = 0; i < LARGE; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hold_large_blocks, &parts[i]), 0);
    for (int i = 0; i < READINGS && cell.peak_held <= GIB(4) * LARGE; i++)
        berth__stats_read(PART_TIER, BERTH_TAG_ACTIVATION, &cell);
    atomic_store(&has_read, true);
    for (int i = 0; i < LARGE; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(peak_of(BERTH_TAG_ACTIVATION) <= GIB(4) * LARGE);
}

int main(void)
{
    for (int i = 0; i < PARTS; i++)
        berth__stats_part_add(&parts[i], PART_TIER);

    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_is_in_one_cell_until_it_is_freed),
        cmocka_unit_test(resizing_keeps_the_count_of_blocks),
        cmocka_unit_test(a_spill_is_counted),
        cmocka_unit_test(sums_are_exact_after_any_race),
        cmocka_unit_test(what_parts_take_back_is_in_no_peak),
        cmocka_unit_test(parts_that_were_large_in_turn_are_no_sum),
        cmocka_unit_test(who_reads_meanwhile_sees_no_large_block_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
