/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: limits bound what the process reserves and what a tag holds, and may change at any time;
 * cached memory is given back on request, for a floor, and before a limit refuses anything. Method:
 * a driver of a few lines that knows its free memory.
 */
#include "alloc/limit.h"
#include "alloc/options.h"
#include "alloc/pool.h"
#include "alloc/pool_alone.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_tend.h"
#include "alloc/stats.h"
#include "device_mock.h"
#include "pool_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static uint64_t free_now; /* what cuMemGetInfo answers: the mock's own and another process's */
static uint64_t others;

static berth_cu_result get_info(size_t *free_size, size_t *total_size)
{
    *total_size = GIB(1);
    free_now = GIB(1) - mock_bytes() - others;
    *free_size = free_now;
    return 0;
}

static int set_up(void **state)
{
    pool_set_up(state);
    berth__driver.cuMemGetInfo_v2 = get_info;
    others = 0;
    return 0;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"device-floor",
                                        "device-limit",
                                        "device-limit-untagged",
                                        "device-limit-weight",
                                        "device-limit-activation",
                                        "device-limit-kv",
                                        "device-limit-workspace"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        pool_set_option(names[i], "0");
    pool_set_option("segments", "own");
    berth__alone_is_allowed = true;
    return pool_tear_down(state);
}

#define LIMIT(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static void options_say_which_limits_are_set(void **state)
{
    assert_false(berth__limit_is_set(BERTH_TAG_KV));
    pool_set_option("device-limit-kv", "4M");
    assert_true(berth__limit_is_set(BERTH_TAG_KV));
    assert_false(berth__limit_is_set(BERTH_TAG_WEIGHT));
    assert_int_equal(berth__limit(BERTH_TAG_KV), MIB(4));
    pool_set_option("device-limit", "4M");
    assert_true(berth__limit_is_set(BERTH_TAG_WEIGHT));
    assert_int_equal(berth__limit(BERTH_LIMIT_PROCESS), MIB(4));
    berth__option_unset(BERTH_OPTION_DEVICE_LIMIT, BERTH_ORIGIN_COMMAND);
    assert_false(berth__limit_is_set(BERTH_TAG_WEIGHT));
}

static void the_process_is_bounded_after_its_cache(void **state)
{
    uintptr_t a = pool_get(MIB(6)), b = 1;

    pool_put(a);
    pool_set_option("device-limit", "8M");
    a = pool_get(MIB(4));
    /* What is cached was given back before anything is refused. */
    b = pool_get(MIB(4));
    assert_int_equal(mock_bytes(), MIB(8));
    assert_int_equal(berth__limit_used(BERTH_LIMIT_PROCESS), MIB(8));
    pool_put(b);
    b = 1;
    assert_int_equal(pool_try_alloc(MIB(6), &b), -EDQUOT);
    assert_int_equal(b, 1);
    assert_int_equal(berth__device_result(-EDQUOT), BERTH_CU_OUT_OF_MEMORY);
    pool_set_option("device-limit", "0");
    b = pool_get(MIB(6));
    pool_put(a);
    pool_put(b);
}

static void memory_of_other_kinds_counts_too(void **state)
{
    uint64_t before = berth__limit_refused(BERTH_LIMIT_PROCESS).blocks;

    pool_set_option("device-limit", "8M");
    pool_put(pool_get(MIB(4)));
    assert_int_equal(pool_reserve_foreign(BERTH_TIER_DEVICE, MIB(6)), 0);
    assert_int_equal(mock_bytes(), 0);
    assert_int_equal(pool_reserve_foreign(BERTH_TIER_DEVICE, MIB(4)), -EDQUOT);
    assert_int_equal(berth__limit_refused(BERTH_LIMIT_PROCESS).blocks, before + 1);
    /* The thread has no tag. */
    pool_set_option("device-limit-untagged", "1M");
    assert_int_equal(pool_reserve_foreign(BERTH_TIER_DEVICE, MIB(1) + 1), -EDQUOT);
    assert_int_equal(berth__limit_refused(BERTH_TAG_UNTAGGED).bytes, MIB(1) + 1);
    assert_int_equal(pool_reserve_foreign(BERTH_TIER_DEVICE, MIB(1)), 0);
    berth__foreign_cancel(BERTH_TIER_DEVICE, MIB(1));
    /* Host memory is not limited. */
    assert_int_equal(pool_reserve_foreign(BERTH_TIER_PINNED, MIB(40)), 0);
    berth__foreign_cancel(BERTH_TIER_PINNED, MIB(40));
    berth__foreign_cancel(BERTH_TIER_DEVICE, MIB(6));
    assert_int_equal(berth__limit_used(BERTH_LIMIT_PROCESS), 0);
}

static void a_lowered_limit_says_what_is_over_it(void **state)
{
    uintptr_t a = pool_get(MIB(6)), b = pool_get(MIB(10));

    pool_put(b);
    assert_int_equal(berth__limit_excess(), 0);
    pool_set_option("device-limit", "8M");
    assert_int_equal(berth__limit_excess(), MIB(8));
    berth__pool_tend();
    assert_int_equal(berth__limit_excess(), 0);
    assert_int_equal(mock_bytes(), MIB(6));
    pool_set_option("device-limit", "4M");
    berth__pool_tend();
    assert_int_equal(berth__limit_excess(), MIB(2));
    pool_put(a);
}

static void a_tag_is_bounded_by_what_it_holds(void **state)
{
    uintptr_t a;

    pool_set_option("device-limit-weight", "8M");
    assert_int_equal(berth__limit_enter(BERTH_TAG_WEIGHT, MIB(6)), 0);
    a = pool_get(MIB(6));
    berth__limit_leave(BERTH_TAG_WEIGHT, MIB(6));
    assert_int_equal(berth__limit_used(BERTH_TAG_WEIGHT), MIB(6));
    assert_int_equal(berth__limit_enter(BERTH_TAG_WEIGHT, MIB(3)), -EDQUOT);
    assert_int_equal(berth__limit_enter(BERTH_TAG_WEIGHT, MIB(9)), -EDQUOT);
    assert_int_equal(berth__limit_enter(BERTH_TAG_WEIGHT, MIB(2)), 0);
    /* What is promised counts. */
    assert_int_equal(berth__limit_enter(BERTH_TAG_WEIGHT, 512), -EDQUOT);
    assert_int_equal(berth__limit_enter(BERTH_TAG_KV, GIB(2)), 0);
    berth__limit_leave(BERTH_TAG_KV, GIB(2));
    berth__limit_leave(BERTH_TAG_WEIGHT, MIB(2));
    pool_put(a);
    assert_int_equal(berth__limit_enter(BERTH_TAG_WEIGHT, MIB(8)), 0);
    berth__limit_leave(BERTH_TAG_WEIGHT, MIB(8));
}

/* A block of 7 MiB for which 6 were promised: whoever was let in meanwhile did not see the rest. */
static void a_block_that_holds_more_gives_way_to_promises(void **state)
{
    uintptr_t a;

    pool_set_option("device-limit-weight", "8M");
    assert_int_equal(berth__limit_enter(BERTH_TAG_WEIGHT, MIB(6)), 0);
    assert_int_equal(berth__limit_enter(BERTH_TAG_WEIGHT, MIB(2)), 0); /* another thread's */
    a = pool_get(MIB(7));
    berth__limit_leave(BERTH_TAG_WEIGHT, MIB(6));
    assert_false(berth__limit_holds(BERTH_TAG_WEIGHT, MIB(6), MIB(7)));
    berth__limit_leave(BERTH_TAG_WEIGHT, MIB(2));
    assert_true(berth__limit_holds(BERTH_TAG_WEIGHT, MIB(6), MIB(7)));
    pool_set_option("device-limit-weight", "6M");
    assert_false(berth__limit_holds(BERTH_TAG_WEIGHT, MIB(6), MIB(7)));
    pool_set_option("device-limit-weight", "0");
    assert_true(berth__limit_holds(BERTH_TAG_WEIGHT, MIB(6), MIB(7)));
    pool_put(a);
}

/* Whoever has no more than was promised keeps it, whatever others do meanwhile. */
static void a_block_that_was_promised_stays(void **state)
{
    uintptr_t a, b;

    pool_set_option("device-limit-weight", "8M");
    assert_int_equal(berth__limit_enter(BERTH_TAG_WEIGHT, MIB(4)), 0);
    assert_int_equal(berth__limit_enter(BERTH_TAG_WEIGHT, MIB(4)), 0); /* another thread's, */
    a = pool_get(MIB(4));
    b = pool_get(MIB(4)); /* which has its block, and the processor no more */
    berth__limit_leave(BERTH_TAG_WEIGHT, MIB(4));
    assert_true(berth__limit_holds(BERTH_TAG_WEIGHT, MIB(4), MIB(4)));
    berth__limit_leave(BERTH_TAG_WEIGHT, MIB(4));
    pool_put(a);
    pool_put(b);
}

/* One that holds more gives way, the other one does not. */
static void a_block_that_was_promised_gives_no_way(void **state)
{
    uintptr_t a, b;

    pool_set_option("device-limit-weight", "8M");
    assert_int_equal(berth__limit_enter(BERTH_TAG_WEIGHT, MIB(6)), 0);
    assert_int_equal(berth__limit_enter(BERTH_TAG_WEIGHT, MIB(2)), 0); /* another thread's, */
    b = pool_get(MIB(4)); /* which had a larger one, and gives it back soon */
    a = pool_get(MIB(6));
    berth__limit_leave(BERTH_TAG_WEIGHT, MIB(6));
    assert_true(berth__limit_holds(BERTH_TAG_WEIGHT, MIB(6), MIB(6)));
    berth__limit_leave(BERTH_TAG_WEIGHT, MIB(2));
    assert_false(berth__limit_holds(BERTH_TAG_WEIGHT, MIB(2), MIB(4)));
    pool_put(a);
    pool_put(b);
}

static _Atomic uint64_t inside, most;

static void *enter_and_leave(void *context)
{
    for (int i = 0; i < 2000; i++) {
        uint64_t now;

        if (berth__limit_enter(BERTH_TAG_KV, MIB(1)) < 0)
            continue;
        now = atomic_fetch_add(&inside, MIB(1)) + MIB(1);
        if (now > atomic_load(&most))
            atomic_store(&most, now);
        atomic_fetch_sub(&inside, MIB(1));
        berth__limit_leave(BERTH_TAG_KV, MIB(1));
    }
    return NULL;
}

static void threads_together_stay_within_it(void **state)
{
    pthread_t threads[4];

    pool_set_option("device-limit-kv", "2M");
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, enter_and_leave, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_true(atomic_load(&most) <= MIB(2));
    assert_int_equal(berth__limit_enter(BERTH_TAG_KV, MIB(2)), 0);
    berth__limit_leave(BERTH_TAG_KV, MIB(2));
}

static void trimming_keeps_what_it_is_told_to(void **state)
{
    uintptr_t a = pool_get(MIB(4)), b = pool_get(MIB(6)), c = pool_get(MIB(8)), d = pool_get(512);

    pool_put(a);
    pool_put(b);
    pool_put(c);
    assert_int_equal(berth__pool_reclaimable(0), MIB(20) - 512);
    assert_int_equal(berth__pool_reclaimable(1), 0);
    assert_int_equal(berth__pool_trim(1, 0), 0);
    assert_int_equal(berth__pool_trim(0, MIB(30)), 0);
    assert_true(berth__pool_trim(0, MIB(12)) >= MIB(8) - 512);
    pool_assert_adds_up();
    assert_true(berth__pool_reclaimable(0) <= MIB(12));
    berth__pool_trim(BERTH_POOL_ALL_DEVICES, 0);
    pool_assert_adds_up();
    assert_int_equal(mock_bytes(), MIB(2));
    pool_put(d);
    assert_int_equal(berth__pool_trim(0, 0), MIB(2));
    assert_int_equal(mock_depth(), 1);
}

static void the_floor_is_kept_for_others(void **state)
{
    uintptr_t a = pool_get(MIB(100)), b = pool_get(MIB(200));

    pool_put(a);
    pool_put(b);
    assert_int_equal(berth__pool_tend_interval(), -1);
    berth__pool_tend();
    assert_int_equal(mock_bytes(), MIB(300));
    pool_set_option("device-floor", "512M");
    assert_int_equal(berth__pool_tend_interval(), 1000);
    berth__pool_tend(); /* 724 MiB are free */
    assert_int_equal(mock_bytes(), MIB(300));
    others = MIB(250);
    atomic_store(&berth__device_captures, 1);
    berth__pool_tend(); /* not while a capture is open */
    assert_int_equal(mock_bytes(), MIB(300));
    atomic_store(&berth__device_captures, 0);
    berth__pool_tend();
    assert_int_equal(mock_bytes(), MIB(200));
    others = MIB(700);
    mock_fail(MOCK_PUSH, 1, 201);
    mock_set_current(NULL); /* as the control thread, which has no context */
    berth__pool_tend();
    assert_int_equal(mock_bytes(), MIB(200));
    berth__pool_tend();
    assert_int_equal(mock_bytes(), 0);
    assert_int_equal(mock_depth(), 0);
    mock_set_current(mock_context(0));
}

/* Blocks of all sizes are cut from the same segments, which go back before more is asked for. */
static void shared_segments_serve_all_sizes(void **state)
{
    uintptr_t a, b, c;
    struct berth_block_view view;

    berth__alone_is_allowed = false;
    pool_set_option("segments", "shared");
    a = pool_get(MIB(20));
    b = pool_get(MIB(5));
    assert_int_equal(mock_calls(MOCK_ALLOC), 2);
    assert_int_equal(berth__pool_find(a, &view), 0);
    assert_false(view.is_whole);
    assert_int_equal(view.held, MIB(20));
    pool_put(a);
    assert_int_equal(pool_get(MIB(15)), a);
    c = pool_get(MIB(4));
    assert_int_equal(c, a + MIB(15));
    assert_int_equal(mock_calls(MOCK_ALLOC), 2);
    pool_put(a);
    pool_put(c);
    /* 25 MiB were live at most: the free segment goes before another one comes. */
    a = pool_get(MIB(22));
    assert_int_equal(mock_bytes(), MIB(22) + MIB(6));
    assert_int_equal(mock_calls(MOCK_FREE), 1);
    pool_put(a);
    pool_put(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LIMIT(options_say_which_limits_are_set),
        LIMIT(the_process_is_bounded_after_its_cache),
        LIMIT(memory_of_other_kinds_counts_too),
        LIMIT(a_lowered_limit_says_what_is_over_it),
        LIMIT(a_tag_is_bounded_by_what_it_holds),
        LIMIT(threads_together_stay_within_it),
        LIMIT(trimming_keeps_what_it_is_told_to),
        LIMIT(the_floor_is_kept_for_others),
        LIMIT(shared_segments_serve_all_sizes),
        LIMIT(a_block_that_holds_more_gives_way_to_promises),
        LIMIT(a_block_that_was_promised_stays),
        LIMIT(a_block_that_was_promised_gives_no_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
