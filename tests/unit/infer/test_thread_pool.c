/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: every item of a range is worked on exactly once before a run returns, whatever
 * the sizes, also with more threads than CPUs and with runs in quick succession.
 * Method: counters per item, checked after each of many runs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "thread_pool.h"

#include <stdatomic.h>
#include <stdlib.h>

#define ITEMS_MAX 1000

static struct berth_failure failure;

struct tally {
    _Atomic uint32_t counts[ITEMS_MAX];
    _Atomic size_t longest;
};

static void items_count(void *arg, size_t begin, size_t end)
{
    struct tally *tally = arg;

    if (end - begin > atomic_load(&tally->longest))
        atomic_store(&tally->longest, end - begin);
    for (size_t i = begin; i < end; i++)
        atomic_fetch_add(&tally->counts[i], 1);
}

static void runs_check(size_t threads, size_t runs)
{
    struct berth_thread_pool *pool;
    struct tally *tally = calloc(1, sizeof(*tally));

    assert_int_equal(berth__thread_pool_new(threads, &failure, &pool), 0);
    assert_int_equal(berth__thread_pool_size(pool), threads);
    for (size_t run = 0; run < runs; run++) {
        size_t count = run * 37 % ITEMS_MAX, grain = 1 + run % 9;

        berth__thread_pool_run(pool, items_count, tally, count, grain);
        for (size_t i = 0; i < ITEMS_MAX; i++) {
            if (atomic_load(&tally->counts[i]) != (i < count))
                fail_msg("%zu threads, run %zu: item %zu of %zu has %u", threads, run, i, count,
                         atomic_load(&tally->counts[i]));
            atomic_store(&tally->counts[i], 0);
        }
    }
    berth__thread_pool_free(pool);
    free(tally);
}

static void every_item_is_done_once(void **state)
{
    runs_check(1, 100);
    runs_check(2, 3000);
    runs_check(3, 1000);
    runs_check(16, 300);
}

static void sums_add(void *arg, size_t begin, size_t end)
{
    atomic_fetch_add((_Atomic uint64_t *)arg, end - begin);
}

/* A worker that is late for a short round must not take a piece of it when the next, longer one
 * is being set up. */
static void short_and_long_rounds_do_not_mix(void **state)
{
    struct berth_thread_pool *pool;

    assert_int_equal(berth__thread_pool_new(4, &failure, &pool), 0);
    for (size_t run = 0; run < 400000; run++) {
        _Atomic uint64_t sum = 0;
        size_t count = run % 2 ? 3 : 40;

        berth__thread_pool_run(pool, sums_add, (void *)&sum, count, 1);
        if (atomic_load(&sum) != count)
            fail_msg("run %zu: %zu items; expected %zu", run, (size_t)atomic_load(&sum), count);
    }
    berth__thread_pool_free(pool);
}

static void a_pool_that_never_ran_can_be_freed(void **state)
{
    struct berth_thread_pool *pool;

    for (size_t threads = 1; threads < 6; threads++) {
        assert_int_equal(berth__thread_pool_new(threads, &failure, &pool), 0);
        berth__thread_pool_free(pool);
    }
    berth__thread_pool_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_is_done_once),
        cmocka_unit_test(short_and_long_rounds_do_not_mix),
        cmocka_unit_test(a_pool_that_never_ran_can_be_freed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
