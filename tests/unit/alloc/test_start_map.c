/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the start before a granule is found in maps of every depth. Method: against an array. */
#include "alloc/start_map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_MAX 300000 /* four levels */

static uint64_t seed = 0x57a7;

static uint64_t draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static uint64_t linear_before(const bool *starts, uint64_t at)
{
    for (;; at--) {
        if (starts[at])
            return at;
        if (at == 0)
            return BERTH_START_NONE;
    }
}

static void check_map(uint64_t count, unsigned rounds)
{
    uint64_t *map = calloc(1, berth__start_map_size(count));
    bool *starts = calloc(1, count);
    uint64_t present = 0;

    assert_non_null(map);
    assert_non_null(starts);
    assert_true(berth__start_map_before(map, count, count - 1) == BERTH_START_NONE);
    for (unsigned round = 0; round < rounds; round++) {
        uint64_t at = draw() % count, asked = draw() % count;

        /* Few at a time, so that searches go far. */
        if (starts[at] || present > 8) {
            at = linear_before(starts, at);
            if (at == BERTH_START_NONE)
                continue;
            berth__start_map_clear(map, count, at);
            present--;
            starts[at] = false;
        } else {
            berth__start_map_set(map, count, at);
            present++;
            starts[at] = true;
        }
        assert_true(berth__start_map_before(map, count, asked) == linear_before(starts, asked));
        assert_int_equal(berth__start_map_count(map, count), present);
    }
    free(map);
    free(starts);
}

static void maps_of_all_depths_agree_with_an_array(void **state)
{
    check_map(1, 20);
    check_map(63, 2000);
    check_map(64, 2000);
    check_map(65, 2000);
    check_map(4096, 4000);
    check_map(4097, 4000);
    check_map(262145, 1000);
    check_map(COUNT_MAX, 1000);
}

static void a_map_takes_little_more_than_a_bit_per_granule(void **state)
{
    assert_int_equal(berth__start_map_size(1), 8);
    assert_int_equal(berth__start_map_size(4096), 65 * 8);
    assert_true(berth__start_map_size((uint64_t)1 << 27) < ((uint64_t)1 << 24) / 63 * 64 + 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_of_all_depths_agree_with_an_array),
        cmocka_unit_test(a_map_takes_little_more_than_a_bit_per_granule),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
