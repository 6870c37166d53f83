/* SPDX-License-Identifier: Apache-2.0 */
/* When a tier has more than is worth keeping: by what it has, had, and what is asked for. */
#include "pmem/tier_use.h"

#include "pmem/extent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)

static bool is_beyond(uint64_t held, uint64_t idle, uint64_t peak, uint64_t more)
{
    struct berth_tier_use use = {held, idle, peak};

    return berth__tier_use_is_beyond(&use, more);
}

static void for_a_piece_no_other_piece_is_kept(void **state)
{
    (void)state;
    assert_false(is_beyond(1024 * MIB, BERTH_EXTENT_PIECE, 2048 * MIB, BERTH_EXTENT_PIECE));
    assert_true(is_beyond(1024 * MIB, BERTH_EXTENT_PIECE + KIB, 2048 * MIB, BERTH_EXTENT_PIECE));
}

static void for_a_piece_a_little_is_kept_beyond_the_peak(void **state)
{
    (void)state;
    /* 2 MiB, and a 32nd of the peak. */
    assert_false(is_beyond(61 * MIB, 7 * MIB, 64 * MIB, BERTH_EXTENT_PIECE));
    assert_true(is_beyond(61 * MIB, 7 * MIB + KIB, 64 * MIB, BERTH_EXTENT_PIECE));
    assert_false(is_beyond(64 * MIB, 2 * MIB, 32 * MIB, BERTH_EXTENT_PIECE));
}

static void for_a_small_block_what_the_program_had_is_kept(void **state)
{
    (void)state;
    /* It had as much at once, and may have it again. */
    assert_false(is_beyond(0, 66 * MIB, 64 * MIB, 64 * KIB));
    assert_false(is_beyond(64 * KIB, 68 * MIB - 64 * KIB, 64 * MIB, 64 * KIB));
}

static void for_a_small_block_most_must_be_idle(void **state)
{
    (void)state;
    assert_true(is_beyond(10 * MIB, 60 * MIB, 64 * MIB, 64 * KIB));
    assert_false(is_beyond(32 * MIB, 64 * MIB, 64 * MIB, 64 * KIB));
    assert_true(is_beyond(32 * MIB, 64 * MIB + KIB, 64 * MIB, 64 * KIB));
    /* Just below a piece. */
    assert_true(is_beyond(10 * MIB, 60 * MIB, 64 * MIB, BERTH_EXTENT_PIECE - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(for_a_piece_no_other_piece_is_kept),
        cmocka_unit_test(for_a_piece_a_little_is_kept_beyond_the_peak),
        cmocka_unit_test(for_a_small_block_what_the_program_had_is_kept),
        cmocka_unit_test(for_a_small_block_most_must_be_idle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
