/* SPDX-License-Identifier: Apache-2.0 */
/* What a thread keeps of the large blocks that it frees: for whom, how much, and never twice. */
#include "pmem/keep.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define KIB ((size_t)1 << 10)

static size_t dropped;

static void drop(void *p, size_t held)
{
    assert_non_null(p);
    dropped += held;
}

/* Addresses that nobody reads. */
static void *at(uintptr_t number)
{
    return (void *)(number << 30);
}

/* Blocks are kept that were asked for twice. */
static bool put(struct berth_keep *keep, void *p, size_t held)
{
    size_t found;

    for (int i = 0; i < 2; i++)
        if (berth__keep_take(keep, held, (size_t)1 << 60, &found))
            fail();
    return berth__keep_put(keep, p, held, drop);
}

static int start(void **state)
{
    (void)state;
    dropped = 0;
    return 0;
}

static void a_kept_block_serves_its_class_alone(void **state)
{
    struct berth_keep keep = {.total = 0};
    size_t held = 0;

    (void)state;
    assert_true(put(&keep, at(1), 80 * KIB));
    assert_null(berth__keep_take(&keep, 64 * KIB, 1, &held));
    assert_null(berth__keep_take(&keep, 80 * KIB + 1, 1, &held));
    assert_ptr_equal(berth__keep_take(&keep, 64 * KIB + 1, 1, &held), at(1));
    assert_int_equal(held, 80 * KIB);
    assert_null(berth__keep_take(&keep, 80 * KIB, 1, &held));
    assert_int_equal(keep.total, 0);
    berth__keep_empty(&keep, true, drop);
    assert_int_equal(dropped, 0);
}

static void a_kept_block_serves_its_alignment(void **state)
{
    struct berth_keep keep = {.total = 0};
    char *p = (char *)at(1) + 64;
    size_t held;

    (void)state;
    assert_true(put(&keep, p, 80 * KIB));
    assert_null(berth__keep_take(&keep, 80 * KIB, 128, &held));
    assert_ptr_equal(berth__keep_take(&keep, 80 * KIB, 64, &held), p);
    berth__keep_empty(&keep, true, drop);
}

static void what_is_asked_for_once_is_not_kept(void **state)
{
    struct berth_keep keep = {.total = 0};
    size_t held;

    (void)state;
    assert_null(berth__keep_take(&keep, 80 * KIB, 1, &held));
    assert_false(berth__keep_put(&keep, at(1), 80 * KIB, drop));
    for (size_t i = 1; i < 8; i++)
        assert_null(berth__keep_take(&keep, 80 * KIB << i, 1, &held));
    assert_false(berth__keep_put(&keep, at(1), 80 * KIB, drop));
    assert_null(berth__keep_take(&keep, 80 * KIB << 1, 1, &held));
    assert_null(berth__keep_take(&keep, 80 * KIB, 1, &held));
    assert_false(berth__keep_put(&keep, at(1), 80 * KIB, drop));
    assert_null(berth__keep_take(&keep, 80 * KIB << 1, 1, &held));
    assert_true(berth__keep_put(&keep, at(1), 80 * KIB << 1, drop));
    berth__keep_empty(&keep, true, drop);
}

static void the_oldest_leaves_first(void **state)
{
    struct berth_keep keep = {.total = 0};
    static const size_t sizes[BERTH_KEEP_SLOTS + 1] = {40, 80, 48, 56, 64};
    size_t held;

    (void)state;
    for (unsigned i = 1; i <= BERTH_KEEP_SLOTS + 1; i++)
        assert_true(put(&keep, at(i), sizes[i - 1] * KIB));
    assert_int_equal(dropped, 40 * KIB);
    assert_null(berth__keep_take(&keep, 40 * KIB, 1, &held));
    assert_ptr_equal(berth__keep_take(&keep, 80 * KIB, 1, &held), at(2));
    berth__keep_empty(&keep, true, drop);
}

static void no_more_is_kept_than_may_be(void **state)
{
    struct berth_keep keep = {.total = 0};

    (void)state;
    assert_false(put(&keep, at(1), BERTH_KEEP_BYTES_MAX + 1));
    for (unsigned i = 1; i < 20; i++) {
        assert_true(put(&keep, at(i), 448 * KIB));
        assert_true(keep.total <= BERTH_KEEP_BYTES_MAX);
    }
    assert_true(put(&keep, at(20), BERTH_KEEP_BYTES_MAX));
    assert_int_equal(keep.total, BERTH_KEEP_BYTES_MAX);
    berth__keep_empty(&keep, true, drop);
    assert_int_equal(dropped, 19 * 448 * KIB + BERTH_KEEP_BYTES_MAX);
}

static void a_block_is_kept_once(void **state)
{
    struct berth_keep keep = {.total = 0};
    size_t held;

    (void)state;
    assert_true(put(&keep, at(1), 80 * KIB));
    assert_true(put(&keep, at(1), 80 * KIB));
    assert_int_equal(keep.total, 80 * KIB);
    assert_ptr_equal(berth__keep_take(&keep, 80 * KIB, 1, &held), at(1));
    assert_null(berth__keep_take(&keep, 80 * KIB, 1, &held));
    berth__keep_empty(&keep, true, drop);
}

static void many_threads_keep_little_each(void **state)
{
    static struct berth_keep keeps[64];
    size_t all = 0;

    (void)state;
    for (unsigned i = 0; i < 64; i++)
        for (unsigned j = 1; j < 40; j++)
            put(&keeps[i], at(100 * i + j), 40 * KIB);
    for (unsigned i = 0; i < 64; i++)
        all += keeps[i].total;
    assert_true(all <= BERTH_KEEP_SHARED_MAX);
    /* Who comes again leaves the others their share. */
    for (unsigned j = 1; j < 40; j++)
        for (unsigned i = 0; i < 8; i++)
            put(&keeps[i], at(100000 * j + i + 1), 40 * KIB);
    assert_true(keeps[0].total <= BERTH_KEEP_SHARED_MAX / 64);
    for (unsigned i = 0; i < 64; i++)
        berth__keep_empty(&keeps[i], true, drop);
    assert_true(put(&keeps[0], at(1), BERTH_KEEP_BYTES_MAX));
    berth__keep_empty(&keeps[0], true, drop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_kept_block_serves_its_class_alone, start),
        cmocka_unit_test_setup(a_kept_block_serves_its_alignment, start),
        cmocka_unit_test_setup(what_is_asked_for_once_is_not_kept, start),
        cmocka_unit_test_setup(the_oldest_leaves_first, start),
        cmocka_unit_test_setup(no_more_is_kept_than_may_be, start),
        cmocka_unit_test_setup(a_block_is_kept_once, start),
        cmocka_unit_test_setup(many_threads_keep_little_each, start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
