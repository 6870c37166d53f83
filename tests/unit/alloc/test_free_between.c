/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what is freed while the driver is recording a point, or is synchronising, is not taken for
 * idle by that point or synchronisation. Method: the driver's call is replaced by one that, when it
 * has done its work, has another thread queue work that does not end and free a block behind it;
 * that block must go on waiting, while what was freed before comes free. Likewise a capture that
 * begins once a stream was found idle is not broken by what then goes back.
 */
#include "order_fixture.h"

#include "alloc/order.h"
#include "alloc/page_map.h"
#include "alloc/pool.h"
#include "alloc/pool_lazy.h"
#include "alloc/pool_parts.h"
#include "alloc/pool_stream.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static CUstream busy;
static uintptr_t block; /* what the other thread frees */

/* The other thread; ran once, by the first call that was replaced. */
static void *(*between)(void *);

static void run_between(void)
{
    void *(*run)(void *) = between;
    pthread_t thread;

    between = NULL;
    if (!run)
        return;
    assert_int_equal(pthread_create(&thread, NULL, run, NULL), 0);
    pthread_join(thread, NULL);
}

static berth_cu_result (*record_event)(berth_cu_context, berth_cu_event);
static berth_cu_result (*synchronize)(void);

static berth_cu_result record_then(berth_cu_context of, berth_cu_event event)
{
    berth_cu_result result = record_event(of, event);

    run_between();
    return result;
}

static berth_cu_result synchronize_then(void)
{
    berth_cu_result result = synchronize();

    run_between();
    return result;
}

static void replace(void *(*run)(void *))
{
    between = run;
    record_event = berth__driver.cuCtxRecordEvent;
    synchronize = berth__driver.cuCtxSynchronize;
    berth__driver.cuCtxRecordEvent = record_then;
    berth__driver.cuCtxSynchronize = synchronize_then;
}

/* The block waits, and nothing else; then it comes free, too. */
static void assert_it_waits(void)
{
    assert_null(between);
    assert_int_equal(waiting(), SIZE);
    go_on();
    stream_delete(busy);
}

static void *free_lazily(void *argument)
{
    use_context(context);
    busy = busy_stream();
    assert_int_equal(berth__pool_free(block), 0);
    return NULL;
}

/* An allocation closes what is open. */
static void a_point_is_behind_what_its_batch_has(void **state)
{
    uintptr_t own = alloc(SIZE);

    block = alloc(SIZE);
    assert_int_equal(berth__pool_free(own), 0);
    replace(free_lazily);
    assert_true(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_CLOSE));
    assert_it_waits();
}

static uintptr_t earlier;

static void *free_earlier(void *argument)
{
    use_context(context);
    assert_int_equal(berth__pool_free(earlier), 0);
    return NULL;
}

/* As berth__pool_free(), of a block that was marked for synchronous copies while it is freed. */
static void free_as_it_is_marked(uintptr_t address)
{
    struct berth_segment *segment = berth__page_map_find(address);
    struct berth_block *marked = berth__segment_block(segment, address);

    assert_true(berth__pool_set_sync_memops(address, true));
    berth__pool_lock(segment->pool);
    berth__block_set_state(marked, BERTH_BLOCK_LEAVING);
    berth__pool_unlock(segment->pool);
    assert_int_equal(berth__lazy_free(marked, true), 0);
}

/* A free does, for all threads: of a block that no batch of its thread's takes. */
static void a_point_is_behind_what_a_free_closes(void **state)
{
    uintptr_t own = alloc(SIZE);

    earlier = alloc(SIZE);
    block = alloc(SIZE);
    between = free_earlier;
    run_between();
    replace(free_lazily);
    free_as_it_is_marked(own);
    assert_true(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_LOOK));
    assert_it_waits();
}

/* A block that shares a segment then waits for the next synchronisation. */
static void free_in_capture(uintptr_t address)
{
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    CUstream stream = stream_new();
    CUgraph graph = NULL;

    berth__order_shut();
    assert_int_equal(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), 0);
    atomic_fetch_add(&berth__device_captures, 1);
    berth__order_open();
    assert_int_equal(cuThreadExchangeStreamCaptureMode(&mode), 0);
    assert_int_equal(berth__pool_free(address), 0);
    assert_int_equal(cuThreadExchangeStreamCaptureMode(&mode), 0);
    assert_int_equal(cuStreamEndCapture(stream, &graph), 0);
    atomic_fetch_sub(&berth__device_captures, 1);
    assert_int_equal(cuGraphDestroy(graph), 0);
    stream_delete(stream);
}

static void *free_beside_capture(void *argument)
{
    use_context(context);
    busy = busy_stream();
    free_in_capture(block);
    return NULL;
}

static void a_synchronisation_ends_no_later_wait(void **state)
{
    uintptr_t before = alloc(SIZE), own = alloc(SIZE);

    block = alloc(SIZE);
    set_option("free", "sync");
    free_in_capture(before);
    replace(free_beside_capture);
    assert_int_equal(berth__pool_free(own), 0);
    assert_it_waits();
    berth__pool_settle_waiting(pool_of_test());
}

/* The same where memory is short, and the pool itself synchronises: with an older driver. */
static void the_pools_synchronisation_ends_no_later_wait(void **state)
{
    uintptr_t before = alloc(SIZE);

    block = alloc(SIZE);
    set_option("free", "sync");
    free_in_capture(before);
    replace(free_beside_capture);
    berth__driver.cuCtxRecordEvent = NULL;
    assert_true(berth__pool_settle_waiting(pool_of_test()));
    assert_it_waits();
    berth__pool_settle_waiting(pool_of_test());
}

static CUstream captured;
static berth_cu_result (*query_stream)(berth_cu_stream);

static berth_cu_result query_then_capture(berth_cu_stream stream)
{
    berth_cu_result result = query_stream(stream);

    berth__driver.cuStreamQuery = query_stream;
    assert_int_equal(cuStreamBeginCapture_v2(captured, CU_STREAM_CAPTURE_MODE_GLOBAL), 0);
    return result;
}

/* A free is "potentially unsafe" beside a capture: the thread that gives back says that it is not.
 */
static void a_capture_begins_while_a_stream_gives_back(void **state)
{
    const uint64_t size = (uint64_t)200 << 20, less = (uint64_t)150 << 20;
    CUstream stream = stream_new();
    struct berth_stream_audit audit;
    CUgraph graph = NULL;
    uintptr_t address;

    captured = stream_new();
    free_in(stream, alloc_in(stream, size));
    query_stream = berth__driver.cuStreamQuery;
    berth__driver.cuStreamQuery = query_then_capture;
    address = alloc_in(stream, less);
    assert_ptr_equal(berth__driver.cuStreamQuery, query_stream);
    assert_int_equal(cuStreamEndCapture(captured, &graph), 0);
    assert_int_equal(cuGraphDestroy(graph), 0);
    berth__stream_audit(&audit);
    assert_int_equal(audit.reserved, less);
    free_in(stream, address);
    stream_delete(captured);
    stream_delete(stream);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, before_each, after_each)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_point_is_behind_what_its_batch_has),
        CASE(a_point_is_behind_what_a_free_closes),
        CASE(a_synchronisation_ends_no_later_wait),
        CASE(the_pools_synchronisation_ends_no_later_wait),
        CASE(a_capture_begins_while_a_stream_gives_back),
    };

    return cmocka_run_group_tests(tests, up, NULL);
}
