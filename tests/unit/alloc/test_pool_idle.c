/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: with segments = shared, a pool soon has no more than lived in it at once, and what it has
 * is in few pieces; a program that repeats itself then asks the driver for nothing.
 *
 * Expectations follow from alloc/pool_idle.h, and from pool_grow.c for how large a segment is.
 */
#include "device_mock.h"
#include "pool_fixture.h"

#include "alloc/options.h"
#include "alloc/pool.h"
#include "alloc/pool_alone.h"
#include "alloc/tier_ops.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define OUT_OF_MEMORY 2

static int set_up(void **state)
{
    /* Else large blocks have segments alone: test_pool_alone.c. */
    berth__alone_is_allowed = false;
    pool_set_up(state);
    pool_set_thread_cache("0");
    pool_set_option("segments", "shared");
    return 0;
}

static int tear_down(void **state)
{
    pool_set_option("segments", "own");
    berth__alone_is_allowed = true;
    return pool_tear_down(state);
}

#define IDLE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#define LAYERS 12

/* One step: layers of sizes of their own come, and go in the reverse order. */
static void step(uint64_t unit)
{
    uintptr_t layer[LAYERS];

    for (unsigned i = 0; i < LAYERS; i++)
        layer[i] = pool_get(unit * (1 + i * 7 % 5));
    for (unsigned i = LAYERS; i-- > 0;)
        pool_put(layer[i]);
}

static void a_pool_at_rest_is_in_one_piece(void **state)
{
    uintptr_t weight = pool_get(MIB(30));
    uint64_t reserved, calls;

    step(MIB(3));
    assert_in_range(pool_audit().segments, 5, LAYERS + 1);
    reserved = pool_audit().reserved;
    /* The next one finds it so: the weight's segment, and one for all else. */
    pool_put(pool_get(MIB(3)));
    assert_int_equal(pool_audit().segments, 2);
    assert_int_equal(pool_audit().reserved, reserved);
    calls = pool_driver_calls();
    for (unsigned i = 0; i < 3; i++)
        step(MIB(3));
    assert_int_equal(pool_driver_calls(), calls);
    assert_int_equal(pool_audit().reserved, reserved);
    pool_put(weight);
}

#define BLOCKS 80

static void what_is_in_use_is_let_alone(void **state)
{
    uintptr_t block[BLOCKS];
    uint64_t calls;

    for (unsigned i = 0; i < BLOCKS; i++)
        block[i] = pool_get(MIB(2));
    /* Two of eighty: not at rest. */
    calls = mock_calls(MOCK_FREE);
    pool_put(block[2]);
    pool_put(block[3]);
    block[2] = pool_get(MIB(2));
    assert_int_equal(mock_calls(MOCK_FREE), calls);
    memset((void *)block[5], 5, 512);
    for (unsigned i = 10; i < BLOCKS; i++)
        pool_put(block[i]);
    block[3] = pool_get(MIB(2));
    assert_true(mock_calls(MOCK_FREE) > calls);
    assert_int_equal(*(unsigned char *)block[5], 5);
    for (unsigned i = 0; i < 10; i++)
        pool_put(block[i]);
}

/* As often as the driver refuses, at whichever call, the pool serves on and the account adds up. */
static void a_driver_that_refuses_costs_only_the_reserve(void **state)
{
    static const enum mock_call calls[] = {MOCK_ALLOC, MOCK_FREE};

    for (unsigned which = 0; which < 2; which++) {
        for (unsigned nth = 1; nth < LAYERS; nth++) {
            uintptr_t block;

            step(MIB(3));
            mock_fail(calls[which], nth, OUT_OF_MEMORY);
            block = pool_get(MIB(1));
            mock_fail_none();
            pool_assert_adds_up();
            pool_put(block);
            berth__pool_release_cached(0);
            assert_int_equal(pool_audit().segments, 0);
        }
    }
}

/* More than ever lived is not reserved where free segments could be given back instead. */
static void other_sizes_take_the_place_of_idle_segments(void **state)
{
    uintptr_t a = pool_get(MIB(40)), b = pool_get(MIB(60)), c;

    pool_put(a);
    pool_put(b);
    c = pool_get(MIB(90));
    assert_int_equal(pool_audit().segments, 1);
    assert_int_equal(pool_audit().reserved, MIB(100));
    pool_put(c);
    /* Where the pool may not have more, just what is needed comes instead. */
    c = pool_get(MIB(110));
    assert_int_equal(pool_audit().segments, 1);
    assert_int_equal(pool_audit().reserved, MIB(110));
    pool_put(c);
}

/* The driver gives multiples of 2 MiB: some blocks together leave less over than each alone. */
static void segments_hold_blocks_without_a_rest(void **state)
{
    uintptr_t large = pool_get(MIB(512)), block[64];
    uint64_t before = pool_audit().reserved;

    for (unsigned i = 0; i < 64; i++)
        block[i] = pool_get(KIB(1200));
    /* Each alone would take 2 MiB. */
    assert_in_range(pool_audit().reserved - before, KIB(1200) * 64,
                    KIB(1200) * 64 * 65 / 64 + MIB(8));
    for (unsigned i = 0; i < 64; i++)
        pool_put(block[i]);
    pool_put(large);
}

/* A program may ask for far too much, to see: no measure for what it needs. */
static void what_was_refused_is_no_measure(void **state)
{
    uintptr_t a = pool_get(MIB(20)), b = pool_get(MIB(20)), ignored;

    assert_true(pool_try_alloc((uint64_t)1 << 50, &ignored) < 0);
    pool_put(a);
    a = pool_get(MIB(10));
    pool_put(b);
    b = pool_get(MIB(24));
    /* 40 MiB lived at once. Were it 2^50, the idle segment would have stayed. */
    assert_int_equal(pool_audit().reserved, MIB(20) + MIB(24));
    pool_put(a);
    pool_put(b);
}

static int mode_now; /* of the calling thread, for captures */

static berth_cu_result exchange_mode(int *mode)
{
    int before = mode_now;

    mode_now = *mode;
    *mode = before;
    return BERTH_CU_SUCCESS;
}

static unsigned unsafe_calls; /* that would break a global capture */

static void count_unsafe(enum mock_call call)
{
    if (call == MOCK_FREE)
        unsafe_calls += mode_now != BERTH_CU_CAPTURE_RELAXED;
}

/* Another thread may begin a capture at any moment: no call of Berth's own is to break it. */
static void what_is_given_back_breaks_no_capture(void **state)
{
    uintptr_t block;
    uint64_t calls;

    berth__driver.cuThreadExchangeStreamCaptureMode = exchange_mode;
    unsafe_calls = 0;
    mock_during = count_unsafe;
    step(MIB(3));
    calls = mock_calls(MOCK_FREE);
    /* One is gathered, the other makes room. */
    pool_put(pool_get(MIB(3)));
    assert_true(mock_calls(MOCK_FREE) > calls);
    calls = mock_calls(MOCK_FREE);
    block = pool_get(MIB(600));
    assert_true(mock_calls(MOCK_FREE) > calls);
    assert_int_equal(unsafe_calls, 0);
    assert_int_equal(mode_now, 0);
    mock_during = NULL;
    pool_put(block);
    berth__driver.cuThreadExchangeStreamCaptureMode = NULL;
}

static atomic_bool other_is_over;
static int other_result;

static void *ask_for_all(void *argument)
{
    uintptr_t block = 0;

    mock_set_current(mock_context(0));
    other_result = pool_try_alloc_in(BERTH_TIER_DEVICE, *(uint64_t *)argument, &block);
    if (other_result == 0)
        assert_int_equal(berth__pool_free(block), 0);
    atomic_store(&other_is_over, true);
    return NULL;
}

static pthread_t other;
static uint64_t other_size;

/* The gathering's own allocation. The other thread gets the time to be refused, if it is. */
static void ask_meanwhile(enum mock_call call)
{
    struct timespec now, end;

    if (call != MOCK_ALLOC)
        return;
    mock_during = NULL;
    assert_int_equal(pthread_create(&other, NULL, ask_for_all, &other_size), 0);
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec++;
    do {
        sched_yield();
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (!atomic_load(&other_is_over) && now.tv_sec < end.tv_sec);
}

/* Nothing lives in what is being gathered: nobody is told that there is no memory. */
static void nobody_is_refused_for_what_is_gathered(void **state)
{
    uintptr_t block;

    step(MIB(3));
    /* No more than what is there already, which is enough for both. */
    berth__tier(BERTH_TIER_DEVICE)->capacity = pool_audit().reserved;
    other_size = pool_audit().reserved / 2;
    other_result = 1;
    mock_during = ask_meanwhile;
    block = pool_get(MIB(1));
    assert_int_equal(pthread_join(other, NULL), 0);
    assert_int_equal(other_result, 0);
    pool_put(block);
    berth__tier(BERTH_TIER_DEVICE)->capacity = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IDLE(a_pool_at_rest_is_in_one_piece),
        IDLE(what_is_in_use_is_let_alone),
        IDLE(a_driver_that_refuses_costs_only_the_reserve),
        IDLE(other_sizes_take_the_place_of_idle_segments),
        IDLE(segments_hold_blocks_without_a_rest),
        IDLE(what_was_refused_is_no_measure),
        IDLE(what_is_given_back_breaks_no_capture),
        IDLE(nobody_is_refused_for_what_is_gathered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
