/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a program that frees lazily and then captures a graph is refused no memory that the driver
 * would have had for it. Method: most of a small device was freed, and waits in each way there is;
 * then it is asked for again while a capture is open, in global mode, that no call may spoil.
 */
#include "order_fixture.h"

#include "alloc/order.h"
#include "alloc/pool.h"
#include "alloc/pool_lazy.h"
#include "alloc/pool_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static uint64_t most_of_the_device(void)
{
    size_t free_bytes = 0, total = 0;

    assert_int_equal(cuMemGetInfo_v2(&free_bytes, &total), 0);
    return total / 4 * 3;
}

/* As the hooks do it, but that nothing is reclaimed before: another thread may free just then. */
static void begin_capture(CUstream stream)
{
    berth__order_shut();
    assert_int_equal(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), 0);
    atomic_fetch_add(&berth__device_captures, 1);
    berth__order_open();
}

static void end_capture(CUstream stream)
{
    CUgraph graph = NULL;

    /* It is still good. */
    assert_int_equal(cuStreamEndCapture(stream, &graph), 0);
    atomic_fetch_sub(&berth__device_captures, 1);
    assert_int_equal(cuGraphDestroy(graph), 0);
}

/* In relaxed mode, in which a program may allocate beside a capture. */
static uintptr_t alloc_relaxed(uint64_t size)
{
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    uintptr_t address;

    assert_int_equal(cuThreadExchangeStreamCaptureMode(&mode), 0);
    address = alloc(size);
    assert_int_equal(cuThreadExchangeStreamCaptureMode(&mode), 0);
    assert_int_equal(mode, CU_STREAM_CAPTURE_MODE_RELAXED);
    return address;
}

static void what_has_a_point_is_had_in_a_capture(void **state)
{
    CUstream stream = stream_new(), busy = busy_stream();
    uint64_t most = most_of_the_device();
    uintptr_t block = alloc(most);

    assert_int_equal(berth__pool_free(block), 0);
    assert_false(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_CLOSE));
    go_on();
    assert_int_equal(waiting(), most);
    begin_capture(stream);
    block = alloc_relaxed(most);
    end_capture(stream);
    assert_int_equal(berth__pool_free(block), 0);
    stream_delete(busy);
    stream_delete(stream);
}

/* Lets the stream go on once somebody asks the driver. */
static atomic_uint queries;

static berth_cu_result (*event_query)(berth_cu_event event);

static berth_cu_result count_query(berth_cu_event event)
{
    if (atomic_fetch_add(&queries, 1) > 2)
        atomic_store(&may_go_on, true);
    return event_query(event);
}

/* The point has not passed when the memory is asked for, but soon. */
static void a_point_is_waited_for_in_a_capture(void **state)
{
    CUstream stream = stream_new(), busy = busy_stream();
    uint64_t most = most_of_the_device();
    uintptr_t block = alloc(most);

    assert_int_equal(berth__pool_free(block), 0);
    assert_false(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_CLOSE));
    begin_capture(stream);
    event_query = berth__driver.cuEventQuery;
    berth__driver.cuEventQuery = count_query;
    block = alloc_relaxed(most);
    berth__driver.cuEventQuery = event_query;
    assert_true(atomic_load(&may_go_on));
    end_capture(stream);
    assert_int_equal(berth__pool_free(block), 0);
    stream_delete(busy);
    stream_delete(stream);
}

/* Freed before the capture, and among few others, so that no point was recorded. */
static void what_has_no_point_is_had_in_a_capture(void **state)
{
    CUstream stream = stream_new();
    uint64_t most = most_of_the_device();
    uintptr_t block = alloc(most);

    assert_int_equal(berth__pool_free(block), 0);
    assert_int_equal(waiting(), most);
    begin_capture(stream);
    block = alloc_relaxed(most);
    end_capture(stream);
    assert_int_equal(berth__pool_free(block), 0);
    stream_delete(stream);
}

/* In relaxed mode: small blocks that fill most of the device. */
static uintptr_t small[256];

static void fill_and_free_in_capture(CUstream stream, uint64_t most)
{
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    unsigned count = 0;

    for (; count < most / BERTH_MIB; count++)
        small[count] = alloc(BERTH_MIB);
    begin_capture(stream);
    assert_int_equal(cuThreadExchangeStreamCaptureMode(&mode), 0);
    while (count-- > 0)
        assert_int_equal(berth__pool_free(small[count]), 0);
    assert_int_equal(cuThreadExchangeStreamCaptureMode(&mode), 0);
}

static void what_was_freed_in_a_capture_is_had_in_it(void **state)
{
    const char *const modes[] = {"sync", "lazy"};

    for (unsigned i = 0; i < 2; i++) {
        CUstream stream = stream_new();
        uint64_t most = most_of_the_device() / 4 * 3;
        uintptr_t block;

        set_option("free", modes[i]);
        fill_and_free_in_capture(stream, most);
        block = alloc_relaxed(most);
        end_capture(stream);
        assert_int_equal(berth__pool_free(block), 0);
        berth__pool_release_cached(BERTH_POOL_ALL_DEVICES);
        stream_delete(stream);
    }
}

static berth_cu_result refuse_free(berth_cu_address address)
{
    return 719;
}

/* What the driver keeps waits on, and is had after the capture. */
static void what_the_driver_keeps_in_a_capture_is_not_lost(void **state)
{
    berth_cu_result (*free_really)(berth_cu_address) = berth__driver.cuMemFree_v2;
    const struct berth_pool_request request = {.size = most_of_the_device(),
                                               .tier = BERTH_TIER_DEVICE};
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    struct berth_pool_audit audit;
    CUstream stream = stream_new();
    uintptr_t block = 0;

    fill_and_free_in_capture(stream, request.size);
    berth__pool_audit(&audit);
    berth__driver.cuMemFree_v2 = refuse_free;
    assert_int_equal(cuThreadExchangeStreamCaptureMode(&mode), 0);
    assert_int_not_equal(berth__pool_alloc(&request, &block), 0);
    assert_int_equal(cuThreadExchangeStreamCaptureMode(&mode), 0);
    berth__driver.cuMemFree_v2 = free_really;
    assert_true(berth__pools_are_valid());
    assert_int_equal(waiting(), audit.waiting);
    end_capture(stream);
    block = alloc(request.size);
    assert_int_equal(berth__pool_free(block), 0);
    stream_delete(stream);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, before_each, after_each)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_has_a_point_is_had_in_a_capture),
        CASE(a_point_is_waited_for_in_a_capture),
        CASE(what_has_no_point_is_had_in_a_capture),
        CASE(what_was_freed_in_a_capture_is_had_in_it),
        CASE(what_the_driver_keeps_in_a_capture_is_not_lost),
    };

    return cmocka_run_group_tests(tests, up, NULL);
}
