/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: bounds of waits that only a race reaches. Method: pauses and the clock are this file's, so
 * that another thread's turn comes just then, and time passes as fast as a case wants.
 */
#include "order_fixture.h"

#include "alloc/limit.h"
#include "alloc/order.h"
#include "alloc/pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#define MIB(n) ((uint64_t)(n) << 20)

static __thread bool is_watched; /* the calling thread's pauses count */
static unsigned yields;          /* of it */
static void (*at_yield)(void);   /* at each */
static int64_t yield_ns;         /* so long each takes, and nothing else */

int __real_sched_yield(void);
int __wrap_sched_yield(void);
int __real_clock_gettime(clockid_t clock, struct timespec *time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *time);

int __wrap_sched_yield(void)
{
    if (is_watched) {
        yields++;
        if (at_yield)
            at_yield();
    }
    return __real_sched_yield();
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *time)
{
    int64_t ns = yields * yield_ns;

    if (!is_watched)
        return __real_clock_gettime(clock, time);
    *time = (struct timespec){ns / 1000000000, ns % 1000000000};
    return 0;
}

static int set_up(void **state)
{
    yields = 0;
    yield_ns = 0;
    at_yield = NULL;
    return before_each(state);
}

static int tear_down(void **state)
{
    is_watched = false;
    set_option("device-limit-untagged", "0");
    return after_each(state);
}

static uintptr_t taken;

/* What was seen with two threads is another one's by now. */
static void free_at_third(void)
{
    if (yields == 3)
        assert_int_equal(berth__pool_free(taken), 0);
}

/* A block may be seen with two threads, a few times in a row; but not for ever. */
static void a_tag_that_is_full_is_looked_at_again(void **state)
{
    set_option("free", "sync");
    taken = alloc(MIB(4));
    set_option("device-limit-untagged", "4M");
    is_watched = true;
    assert_int_equal(berth__limit_enter(BERTH_TAG_UNTAGGED, MIB(1)), -EDQUOT);
    assert_in_range(yields, 3, 16);
    yields = 0;
    at_yield = free_at_third;
    assert_int_equal(berth__limit_enter(BERTH_TAG_UNTAGGED, MIB(1)), 0);
    berth__limit_leave(BERTH_TAG_UNTAGGED, MIB(1));
    /* The same where a block holds more than was promised. */
    at_yield = NULL;
    set_option("device-limit-untagged", "0");
    taken = alloc(MIB(8));
    set_option("device-limit-untagged", "4M");
    yields = 0;
    assert_false(berth__limit_holds(BERTH_TAG_UNTAGGED, MIB(1), MIB(2)));
    assert_in_range(yields, 3, 16);
    yields = 0;
    at_yield = free_at_third;
    assert_true(berth__limit_holds(BERTH_TAG_UNTAGGED, MIB(1), MIB(2)));
}

static berth_cu_result (*synchronise)(void);
static atomic_bool is_inside;

static berth_cu_result say_and_synchronise(void)
{
    atomic_store(&is_inside, true);
    return synchronise();
}

static void *wait_for_context(void *result)
{
    *(int *)result = berth__order_sync((berth_cu_context)context);
    return NULL;
}

/* Who begins a capture waits for calls that are about to begin, and has them begin, not end. */
static void who_begins_a_capture_waits_so_long(void **state)
{
    CUstream stream = busy_stream();
    pthread_t thread;
    int result = -1;

    synchronise = berth__driver.cuCtxSynchronize;
    berth__driver.cuCtxSynchronize = say_and_synchronise;
    atomic_store(&is_inside, false);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_context, &result), 0);
    while (!atomic_load(&is_inside))
        __real_sched_yield();
    is_watched = true;
    /* Other work has the processor: each turn takes a second. */
    yield_ns = 1000000000;
    berth__order_shut_to_waits();
    berth__order_open_to_waits();
    assert_int_equal(yields, 10);
    /* It has its turn soon, but others may not have had theirs. */
    yields = 0;
    yield_ns = 100000;
    berth__order_shut_to_waits();
    berth__order_open_to_waits();
    assert_int_equal(yields, 2000);
    is_watched = false;
    go_on();
    pthread_join(thread, NULL);
    assert_int_equal(result, 0);
    berth__driver.cuCtxSynchronize = synchronise;
    stream_delete(stream);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_tag_that_is_full_is_looked_at_again),
        CASE(who_begins_a_capture_waits_so_long),
    };

    return cmocka_run_group_tests(tests, up, NULL);
}
