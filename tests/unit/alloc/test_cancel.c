/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that is cancelled while it waits for another one, or for a door, ends later: it would
 * take with it what it holds. Method: each waits for what comes only after it was cancelled.
 */
#include "alloc/cache.h"
#include "alloc/order.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

static struct berth_cache cache;
static atomic_bool is_waiting;

/* Whatever it was told meanwhile. */
static void *wait_for_cache(void *unused)
{
    (void)unused;
    atomic_store(&is_waiting, true);
    berth__cache_wait(&cache);
    return &cache;
}

static void *wait_for_door(void *unused)
{
    (void)unused;
    atomic_store(&is_waiting, true);
    return berth__order_await_door(INT64_MAX / 2) ? &cache : NULL;
}

static pthread_t begin_cancelled(void *(*wait)(void *))
{
    pthread_t thread;

    atomic_store(&is_waiting, false);
    assert_int_equal(pthread_create(&thread, NULL, wait, NULL), 0);
    while (!atomic_load(&is_waiting))
        sched_yield();
    assert_int_equal(pthread_cancel(thread), 0);
    return thread;
}

static void expect_end(pthread_t thread)
{
    void *result;

    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, &cache);
}

static void a_cache_is_waited_for_by_who_was_cancelled(void **state)
{
    struct timespec a_while = {.tv_nsec = 5000000};
    pthread_t thread;

    (void)state;
    atomic_store(&cache.lock, 1);
    thread = begin_cancelled(wait_for_cache);
    /* Nothing depends on it but how surely a wrong end is seen. */
    nanosleep(&a_while, NULL);
    atomic_store(&cache.lock, 0);
    expect_end(thread);
    assert_int_equal(atomic_load(&cache.lock), 1);
}

static void a_door_is_waited_for_by_who_was_cancelled(void **state)
{
    struct timespec a_while = {.tv_nsec = 5000000};
    pthread_t thread;

    (void)state;
    berth__order_shut();
    thread = begin_cancelled(wait_for_door);
    nanosleep(&a_while, NULL);
    berth__order_open();
    expect_end(thread);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cache_is_waited_for_by_who_was_cancelled),
        cmocka_unit_test(a_door_is_waited_for_by_who_was_cancelled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
