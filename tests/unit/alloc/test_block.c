/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: size classes order like sizes; the free set gives the best fit, and of equal fits the
 * lowest address. Method: seeded random sets against a linear search.
 */
#include "alloc/block.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define BLOCKS 300

static uint64_t seed = 0xb10c;

static uint64_t draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void rounding_reaches_the_next_granule(void **state)
{
    assert_int_equal(berth__size_round(1), 512);
    assert_int_equal(berth__size_round(512), 512);
    assert_int_equal(berth__size_round(513), 1024);
    assert_int_equal(berth__size_round(UINT64_MAX), 0);
    assert_int_equal(berth__size_round(UINT64_MAX - 511), UINT64_MAX - 511);
}

static void classes_order_like_sizes(void **state)
{
    unsigned last = 0;

    for (uint64_t size = 512; size < (uint64_t)1 << 24; size += 512) {
        unsigned class = berth__size_class(size);

        assert_true(class == last || class == last + 1);
        last = class;
    }
    for (int shift = 24; shift < 64; shift++)
        for (int step = 0; step < 8; step++) {
            uint64_t size = ((uint64_t)1 << shift) + ((uint64_t)step << (shift - 3));

            assert_true(berth__size_class(size - 512) < berth__size_class(size));
        }
    assert_true(berth__size_class(UINT64_MAX - 511) < BERTH_SIZE_CLASS_COUNT);
}

static struct berth_block *linear_fit(struct berth_block *blocks, const bool *present,
                                      uint64_t size)
{
    struct berth_block *best = NULL;

    for (int i = 0; i < BLOCKS; i++) {
        struct berth_block *block = &blocks[i];

        if (present[i] && block->size >= size &&
            (!best || block->size < best->size ||
             (block->size == best->size &&
              berth__block_address(block) < berth__block_address(best))))
            best = block;
    }
    return best;
}

static struct berth_block *linear_below(struct berth_block *blocks, const bool *present,
                                        uint64_t size)
{
    struct berth_block *best = NULL;

    for (int i = 0; i < BLOCKS; i++) {
        struct berth_block *block = &blocks[i];

        if (present[i] && block->size < size &&
            (!best || block->size > best->size ||
             (block->size == best->size &&
              berth__block_address(block) > berth__block_address(best))))
            best = block;
    }
    return best;
}

static void best_fit_agrees_with_a_linear_search(void **state)
{
    static struct berth_free_set set;
    static struct berth_block blocks[BLOCKS];
    static bool present[BLOCKS];

    for (int round = 0; round < 30000; round++) {
        unsigned i = (unsigned)(draw() % BLOCKS);
        uint64_t size = (1 + draw() % 40) << (9 + draw() % 20);

        if (present[i]) {
            berth__free_set_remove(&set, &blocks[i]);
        } else {
            berth__block_set(&blocks[i], (uintptr_t)(i + 1) << 30, BERTH_BLOCK_FREE);
            blocks[i].size = size;
            berth__free_set_insert(&set, &blocks[i]);
        }
        present[i] = !present[i];
        assert_ptr_equal(berth__free_set_fit(&set, size), linear_fit(blocks, present, size));
        assert_ptr_equal(berth__free_set_below(&set, size), linear_below(blocks, present, size));
        if (round % 100 == 0)
            assert_true(berth__free_set_is_valid(&set));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounding_reaches_the_next_granule),
        cmocka_unit_test(classes_order_like_sizes),
        cmocka_unit_test(best_fit_agrees_with_a_linear_search),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
