/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what is registered with the driver is known to be held, from before the driver looks at it
 * until after it has let go, and accounted as long as it is registered, whatever the driver answers
 * and other threads register and unregister at the same address meanwhile. Method: the wrappers
 * over a driver of the test's own, in whose calls another thread's calls are made, at the worst
 * moment.
 */
#include "alloc/held_range.h"
#include "alloc/pool_foreign.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"
#include "hooks/cuda_driver.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SMALL ((size_t)1 << 16)
#define LARGE ((size_t)4 << 20)
#define ROUNDS 20000

berth_cu_result berth__hook_cuMemHostRegister(void *pointer, size_t size, unsigned flags);
berth_cu_result berth__hook_cuMemHostRegister_v2(void *pointer, size_t size, unsigned flags);
berth_cu_result berth__hook_cuMemHostUnregister(void *pointer);

static _Alignas(4096) char memory[LARGE];
static char other[1];
static size_t registered;       /* what the driver has of `memory`; 0: nothing */
static size_t next_size;        /* what another thread registers once that is 0 again */
static berth_cu_result refusal; /* what the driver answers, and does nothing; 0: it does */
static unsigned asked;          /* how often it was asked */
static unsigned flags_seen;

static uint64_t reserved(void)
{
    return atomic_load(&berth__tier_stats[BERTH_TIER_PINNED].reserved);
}

static uint64_t held(void)
{
    struct berth_cell_reading reading;

    berth__stats_read(BERTH_TIER_PINNED, BERTH_TAG_WEIGHT, &reading);
    return reading.held;
}

/* Nobody exchanges the pages from the moment on at which the driver may look at them. */
static berth_cu_result driver_register(void *pointer, size_t size, unsigned flags)
{
    asked++;
    flags_seen = flags;
    assert_true(berth__held_range_overlaps((char *)pointer + size - 1, 1));
    assert_true(reserved() >= size);
    if (refusal)
        return refusal;
    if (registered != 0)
        return 712; /* CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED */
    registered = size;
    return BERTH_CU_SUCCESS;
}

static berth_cu_result driver_unregister(void *pointer)
{
    size_t size = next_size;

    asked++;
    if (refusal)
        return refusal;
    if (registered == 0)
        return 713; /* CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED */
    assert_true(berth__held_range_overlaps((char *)pointer + registered - 1, 1));
    registered = 0;
    next_size = 0;
    if (size > 0)
        assert_int_equal(berth__hook_cuMemHostRegister_v2(pointer, size, 0), 0);
    return BERTH_CU_SUCCESS;
}

static berth_cu_result no_context(berth_cu_context *ret)
{
    *ret = NULL;
    return BERTH_CU_SUCCESS;
}

static int up(void **state)
{
    berth__device_register();
    berth__driver.cuMemHostRegister = driver_register;
    berth__driver.cuMemHostRegister_v2 = driver_register;
    berth__driver.cuMemHostUnregister = driver_unregister;
    berth__driver.cuCtxGetCurrent = no_context;
    return 0;
}

static void check_end(void)
{
    assert_int_equal(berth__hook_cuMemHostUnregister(memory), 0);
    assert_false(berth__held_range_overlaps(memory, LARGE));
    assert_int_equal(reserved(), 0);
    assert_int_equal(held(), 0);
    assert_int_equal(berth__hook_cuMemHostUnregister(memory), 713);
    assert_int_equal(reserved(), 0);
}

static void what_another_thread_registers_at_once_is_held(void **state)
{
    const size_t sizes[][2] = {{SMALL, LARGE}, {LARGE, SMALL}, {SMALL, SMALL}};

    for (unsigned i = 0; i < 3; i++) {
        /* So that what comes later is found first. */
        berth__held_range_add(other, 1);
        assert_int_equal(berth__hook_cuMemHostRegister_v2(memory, sizes[i][0], 0), 0);
        berth__held_range_remove(other);
        next_size = sizes[i][1];
        assert_int_equal(berth__hook_cuMemHostUnregister(memory), 0);
        assert_int_equal(registered, sizes[i][1]);
        assert_int_equal(reserved(), sizes[i][1]);
        assert_true(berth__held_range_overlaps(memory + sizes[i][1] - 1, 1));
        if (sizes[i][1] < LARGE)
            assert_false(berth__held_range_overlaps(memory + sizes[i][1], 1));
        check_end();
    }
}

static void a_refused_registration_takes_nothing_away(void **state)
{
    assert_int_equal(berth__hook_cuMemHostRegister_v2(memory, SMALL, 0), 0);
    assert_int_equal(berth__hook_cuMemHostRegister_v2(memory, LARGE, 0), 712);
    assert_int_equal(reserved(), SMALL);
    assert_true(berth__held_range_overlaps(memory, SMALL));
    assert_false(berth__held_range_overlaps(memory + SMALL, LARGE - SMALL));
    check_end();
}

static void what_the_driver_refuses_is_neither_held_nor_counted(void **state)
{
    refusal = 719;
    assert_int_equal(berth__hook_cuMemHostRegister_v2(memory, SMALL, 0), 719);
    refusal = 0;
    assert_int_equal(reserved(), 0);
    assert_int_equal(held(), 0);
    assert_false(berth__held_range_overlaps(memory, SMALL));
}

static void what_the_driver_keeps_is_held_and_counted_on(void **state)
{
    assert_int_equal(berth__hook_cuMemHostRegister_v2(memory, SMALL, 0), 0);
    refusal = 719;
    assert_int_equal(berth__hook_cuMemHostUnregister(memory), 719);
    refusal = 0;
    assert_int_equal(reserved(), SMALL);
    assert_int_equal(held(), SMALL);
    assert_true(berth__held_range_overlaps(memory, SMALL));
    check_end();
}

/* By both names. The driver is given what the program gave. */
static void each_name_counts_and_holds(void **state)
{
    assert_int_equal(berth__hook_cuMemHostRegister(memory, SMALL, 5), 0);
    assert_int_equal(flags_seen, 5);
    assert_int_equal(reserved(), SMALL);
    assert_int_equal(held(), SMALL);
    check_end();
    assert_int_equal(berth__hook_cuMemHostRegister_v2(memory, LARGE, 6), 0);
    assert_int_equal(flags_seen, 6);
    assert_int_equal(reserved(), LARGE);
    assert_int_equal(held(), LARGE);
    check_end();
}

static void the_tier_is_asked_before_the_driver(void **state)
{
    _Atomic uint64_t *capacity = &berth__tier(BERTH_TIER_PINNED)->capacity;
    unsigned before = asked;

    atomic_store(capacity, SMALL);
    assert_int_equal(berth__hook_cuMemHostRegister_v2(memory, LARGE, 0), BERTH_CU_OUT_OF_MEMORY);
    assert_int_equal(asked, before);
    assert_false(berth__held_range_overlaps(memory, LARGE));
    assert_int_equal(reserved(), 0);
    assert_int_equal(berth__hook_cuMemHostRegister_v2(memory, SMALL, 0), 0);
    atomic_store(capacity, 0);
    check_end();
}

/* Where the account could not have it, the driver still can, and it is held all the same. */
static void what_is_not_in_the_account_is_let_go_as_well(void **state)
{
    struct berth_foreign foreign;

    assert_int_equal(berth__hook_cuMemHostRegister_v2(memory, SMALL, 0), 0);
    assert_int_equal(berth__foreign_remove((uintptr_t)memory, &foreign), 0);
    berth__foreign_cancel(foreign.tier, foreign.size);
    assert_true(berth__held_range_overlaps(memory, SMALL));
    check_end();
}

static char often[SMALL], seldom[SMALL];
static atomic_bool is_over;

static void *register_often(void *argument)
{
    while (!atomic_load(&is_over)) {
        berth__held_range_add(often, SMALL);
        berth__held_range_undo(often, SMALL);
    }
    return NULL;
}

/*
 * Threads that let go of the same range at once look at the same entry, which is another range's by
 * the time that the slower one of them takes it.
 */
static void a_range_that_comes_where_another_one_was_is_held(void **state)
{
    pthread_t threads[3];
    unsigned missed = 0, left = 0;

    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, register_often, NULL), 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        berth__held_range_add(seldom, SMALL);
        missed += !berth__held_range_overlaps(seldom, SMALL);
        berth__held_range_undo(seldom, SMALL);
        left += berth__held_range_overlaps(seldom, SMALL);
    }
    atomic_store(&is_over, true);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(missed, 0);
    assert_int_equal(left, 0);
    assert_false(berth__held_range_overlaps(often, SMALL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_that_comes_where_another_one_was_is_held),
        cmocka_unit_test(what_another_thread_registers_at_once_is_held),
        cmocka_unit_test(a_refused_registration_takes_nothing_away),
        cmocka_unit_test(what_the_driver_refuses_is_neither_held_nor_counted),
        cmocka_unit_test(what_the_driver_keeps_is_held_and_counted_on),
        cmocka_unit_test(each_name_counts_and_holds),
        cmocka_unit_test(the_tier_is_asked_before_the_driver),
        cmocka_unit_test(what_is_not_in_the_account_is_let_go_as_well),
    };

    return cmocka_run_group_tests(tests, up, NULL);
}
