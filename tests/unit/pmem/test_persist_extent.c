/* SPDX-License-Identifier: Apache-2.0 */
/* The extent table against a plain array of granules: the same are free after any sequence. */
#include "persist_fixture.h"

#define GRANULE 4096
#define GRANULES 64
#define STEPS 20000

static uint64_t random_state = 42;

static unsigned draw(unsigned below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(random_state >> 33) % below;
}

static void expect_same(const struct berth_extent_table *table, const bool *spare)
{
    bool seen[GRANULES] = {false};

    for (size_t i = 0; i < table->count; i++) {
        const struct berth_persist_extent *range = &table->free[i];

        assert_true(range->size > 0);
        if (i > 0)
            assert_true(table->free[i - 1].offset + table->free[i - 1].size < range->offset);
        for (uint64_t k = 0; k < range->size / GRANULE; k++)
            seen[range->offset / GRANULE + k] = true;
    }
    assert_memory_equal(seen, spare, sizeof(seen));
}

static bool all(const bool *spare, unsigned first, unsigned count, bool what)
{
    for (unsigned i = first; i < first + count; i++)
        if (spare[i] != what)
            return false;
    return true;
}

static void set(bool *spare, uint64_t offset, uint64_t size, bool what)
{
    for (uint64_t i = 0; i < size / GRANULE; i++) {
        assert_true(spare[offset / GRANULE + i] != what);
        spare[offset / GRANULE + i] = what;
    }
}

static void random_use_agrees_with_an_array(void **state)
{
    struct berth_extent_table table;
    bool spare[GRANULES] = {false};

    (void)state;
    berth__extent_table_init(&table, GRANULE);
    for (int step = 0; step < STEPS; step++) {
        unsigned first = draw(GRANULES), count = 1 + draw(8);
        uint64_t offset = (uint64_t)first * GRANULE, size;

        if (first + count > GRANULES)
            count = GRANULES - first;
        size = (uint64_t)count * GRANULE;
        if (draw(2)) {
            int r = berth__extent_table_give(&table, offset, size);

            assert_int_equal(r, all(spare, first, count, false) ? 0 : -EINVAL);
            if (r == 0)
                set(spare, offset, size, true);
        } else {
            int r = berth__extent_table_take(&table, offset, size);

            assert_int_equal(r, all(spare, first, count, true) ? 0 : -EINVAL);
            if (r == 0)
                set(spare, offset, size, false);
        }
        expect_same(&table, spare);
    }
    berth__extent_table_done(&table);
}

static void a_block_is_in_pieces_only_where_it_must(void **state)
{
    struct berth_persist_extent *extents = NULL;
    struct berth_extent_table table;
    size_t count = 0;

    (void)state;
    berth__extent_table_init(&table, GRANULE);
    berth__extent_table_give(&table, 0, 2 * GRANULE);
    berth__extent_table_give(&table, 4 * GRANULE, 3 * GRANULE);
    berth__extent_table_give(&table, 10 * GRANULE, GRANULE);
    assert_int_equal(berth__extent_table_take_any(&table, 2 * GRANULE, &extents, &count), 0);
    assert_int_equal(count, 1);
    assert_int_equal(extents[0].offset, 0); /* the smallest that holds it */
    free(extents);
    assert_int_equal(berth__extent_table_take_any(&table, 5 * GRANULE, &extents, &count), -ENOSPC);
    assert_int_equal(berth__extent_table_free_bytes(&table), 4 * GRANULE);
    assert_int_equal(berth__extent_table_take_any(&table, 4 * GRANULE, &extents, &count), 0);
    assert_int_equal(count, 2);
    assert_int_equal(extents[0].size + extents[1].size, 4 * GRANULE);
    assert_int_equal(berth__extent_table_free_bytes(&table), 0);
    free(extents);
    berth__extent_table_done(&table);
}

static void an_alignment_is_kept(void **state)
{
    struct berth_extent_table table;
    uint64_t offset = 0;

    (void)state;
    berth__extent_table_init(&table, GRANULE);
    berth__extent_table_give(&table, GRANULE, 12 * GRANULE);
    assert_int_equal(berth__extent_table_take_one(&table, 4 * GRANULE, 8 * GRANULE, &offset), 0);
    assert_int_equal(offset, 8 * GRANULE);
    assert_int_equal(berth__extent_table_take_one(&table, 4 * GRANULE, 8 * GRANULE, &offset),
                     -ENOSPC);
    berth__extent_table_done(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_use_agrees_with_an_array),
        cmocka_unit_test(a_block_is_in_pieces_only_where_it_must),
        cmocka_unit_test(an_alignment_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
