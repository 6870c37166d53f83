/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: on a driver before CUDA 12.5 a point in the work of a context is one for each of its
 * streams that is at work. Method: the simulated driver without cuCtxRecordEvent, of which events
 * are counted.
 */
#include "order_fixture.h"

#include "alloc/order.h"
#include "alloc/pool.h"
#include "alloc/pool_lazy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static unsigned stream_events;

static berth_cu_result count_event(berth_cu_event event, berth_cu_stream stream)
{
    stream_events++;
    return (berth_cu_result)cuEventRecord((CUevent)event, (CUstream)stream);
}

/* What no stream has work for has passed when it is asked about at once: no event need come by. */
static void an_older_driver_needs_no_event_of_an_idle_stream(void **state)
{
    berth_cu_result (*record)(berth_cu_context, berth_cu_event) = berth__driver.cuCtxRecordEvent;
    uintptr_t block = alloc(SIZE), held = alloc(SIZE);
    CUstream idle = stream_new(), busy;

    berth__driver.cuCtxRecordEvent = NULL;
    berth__driver.cuEventRecord = count_event;
    stream_events = 0;
    assert_int_equal(berth__pool_free(block), 0);
    assert_true(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_CLOSE));
    assert_int_equal(waiting(), 0);
    assert_int_equal(stream_events, 0);
    busy = busy_stream();
    assert_int_equal(berth__pool_free(held), 0);
    assert_false(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_CLOSE));
    assert_int_equal(stream_events, 1);
    go_on();
    assert_true(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_LOOK));
    /* One that is destroyed at work is waited for, too. */
    block = alloc(SIZE);
    atomic_store(&may_go_on, false);
    assert_int_equal(cuLaunchHostFunc(busy, hold, NULL), 0);
    stream_delete(busy);
    assert_int_equal(berth__pool_free(block), 0);
    assert_false(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_CLOSE));
    go_on();
    while (!berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_LOOK))
        ;
    berth__driver.cuCtxRecordEvent = record;
    stream_delete(idle);
}

/* The legacy stream is the context's own, whichever is current when it is asked. */
static void an_older_driver_asks_the_legacy_stream_of_the_context(void **state)
{
    berth_cu_result (*record)(berth_cu_context, berth_cu_event) = berth__driver.cuCtxRecordEvent;
    uintptr_t block = alloc(SIZE);
    CUcontext other = NULL;

    berth__driver.cuCtxRecordEvent = NULL;
    atomic_store(&may_go_on, false);
    assert_int_equal(cuLaunchHostFunc(CU_STREAM_LEGACY, hold, NULL), 0);
    assert_int_equal(berth__pool_free(block), 0);
    assert_int_equal(cuCtxCreate_v2(&other, 0, 0), 0);
    use_context(other);
    assert_false(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_CLOSE));
    go_on();
    while (!berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_LOOK))
        ;
    assert_int_equal(cuCtxDestroy_v2(other), 0);
    use_context(context);
    berth__driver.cuCtxRecordEvent = record;
}

static berth_cu_result (*synchronize)(void);
static unsigned synchronisations;

static berth_cu_result go_on_and_synchronize(void)
{
    synchronisations++;
    go_on();
    return synchronize();
}

/* A stream was used since that no point tells of: then all work is waited for. */
static void what_is_open_is_waited_for_where_no_point_tells(void **state)
{
    berth_cu_result (*record)(berth_cu_context, berth_cu_event) = berth__driver.cuCtxRecordEvent;
    uintptr_t block = alloc(SIZE);
    CUstream busy = busy_stream();

    berth__driver.cuCtxRecordEvent = NULL;
    synchronize = berth__driver.cuCtxSynchronize;
    berth__driver.cuCtxSynchronize = go_on_and_synchronize;
    assert_int_equal(berth__pool_free(block), 0);
    assert_int_equal(waiting(), SIZE);
    berth__order_set_unsure((berth_cu_context)context);
    synchronisations = 0;
    assert_true(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_CLOSE));
    assert_int_equal(synchronisations, 1);
    assert_int_equal(waiting(), 0);
    berth__driver.cuCtxSynchronize = synchronize;
    berth__driver.cuCtxRecordEvent = record;
    stream_delete(busy);
    berth__order_drop((berth_cu_context)context);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, before_each, after_each)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(an_older_driver_needs_no_event_of_an_idle_stream),
        CASE(an_older_driver_asks_the_legacy_stream_of_the_context),
        CASE(what_is_open_is_waited_for_where_no_point_tells),
    };

    return cmocka_run_group_tests(tests, up, NULL);
}
