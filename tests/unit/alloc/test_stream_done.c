/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: stream-ordered memory of which the program has seen that its work is done goes to the
 * device at once, whatever was queued since, and nothing else does. Method: the simulated driver
 * with a stream that is held up after the wait; what the device has free tells where the memory is.
 */
#include "order_fixture.h"

#include "alloc/order.h"
#include "alloc/pool.h"
#include "alloc/pool_stream.h"
#include "alloc/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define LARGE ((uint64_t)64 << 20)
#define SMALL ((uint64_t)1 << 20) /* so little may be cached beyond what lives */

static uint64_t device_free(void)
{
    size_t free_size = 0, total = 0;

    assert_int_equal(cuMemGetInfo_v2(&free_size, &total), 0);
    return free_size;
}

static void wait_for_context(CUstream stream)
{
    uint64_t begin = berth__stream_wait_begin();

    assert_int_equal(cuCtxSynchronize(), 0);
    berth__stream_wait_end(begin, (berth_cu_context)context, NULL);
}

static void wait_for_stream(CUstream stream)
{
    uint64_t begin = berth__stream_wait_begin();

    assert_int_equal(cuStreamSynchronize(stream), 0);
    berth__stream_wait_end(begin, NULL, (berth_cu_stream)stream);
}

static void hold_up(CUstream stream)
{
    atomic_store(&may_go_on, false);
    assert_int_equal(cuLaunchHostFunc(stream, hold, NULL), 0);
}

/* What is released of a block that was freed before such a wait, beside work that came after it. */
static uint64_t released_after(void (*wait)(CUstream), CUstream stream)
{
    uint64_t before, released;

    free_in(stream, alloc_in(stream, LARGE));
    wait(stream);
    hold_up(stream);
    before = device_free();
    released = berth__stream_release_done(0, UINT64_MAX);
    assert_int_equal(device_free() - before, released);
    go_on();
    return released;
}

static void what_was_waited_for_goes_to_the_device(void **state)
{
    CUstream stream = stream_new();

    assert_int_equal(released_after(wait_for_context, stream), LARGE);
    assert_int_equal(released_after(wait_for_stream, stream), LARGE);
    stream_delete(stream);
}

/* It waits for what the legacy stream was given before, but only with what itself is given next. */
static void a_blocking_stream_is_done_with_its_context(void **state)
{
    CUstream stream = NULL;

    assert_int_equal(cuStreamCreate(&stream, CU_STREAM_DEFAULT), 0);
    berth__stream_made((berth_cu_stream)stream);
    assert_int_equal(released_after(wait_for_stream, stream), 0);
    assert_int_equal(released_after(wait_for_context, stream), LARGE);
    stream_delete(stream);
}

/* Likewise a thread's; the legacy one waits for the others, and each free has left a mark in it. */
static void default_streams_are_done_by_what_they_wait_for(void **state)
{
    assert_int_equal(released_after(wait_for_stream, CU_STREAM_PER_THREAD), 0);
    assert_int_equal(released_after(wait_for_context, CU_STREAM_PER_THREAD), LARGE);
    assert_int_equal(released_after(wait_for_stream, CU_STREAM_LEGACY), LARGE);
}

static void what_is_freed_since_is_not_done(void **state)
{
    CUstream stream = stream_new();
    uintptr_t block = alloc_in(stream, LARGE), other = alloc_in(stream, LARGE);
    uint64_t begin = berth__stream_wait_begin();

    free_in(stream, block);
    assert_int_equal(cuCtxSynchronize(), 0);
    berth__stream_wait_end(begin, (berth_cu_context)context, NULL);
    assert_int_equal(berth__stream_release_done(0, UINT64_MAX), 0);
    wait_for_context(stream);
    free_in(stream, other);
    assert_int_equal(berth__stream_release_done(0, UINT64_MAX), LARGE);
    assert_int_equal(berth__stream_cached(0), LARGE);
    stream_delete(stream);
}

/* Nor is what another context's streams had. */
static void another_context_is_not_done(void **state)
{
    CUstream stream = stream_new();
    CUcontext other = NULL;
    uint64_t begin;

    free_in(stream, alloc_in(stream, LARGE));
    assert_int_equal(cuCtxCreate_v2(&other, 0, 0), 0);
    begin = berth__stream_wait_begin();
    assert_int_equal(cuCtxSynchronize(), 0);
    berth__stream_wait_end(begin, (berth_cu_context)other, NULL);
    assert_int_equal(cuCtxDestroy_v2(other), 0);
    use_context(context);
    assert_int_equal(berth__stream_release_done(0, UINT64_MAX), 0);
    stream_delete(stream);
}

static void no_more_goes_than_is_needed(void **state)
{
    CUstream stream = stream_new();
    uintptr_t block = alloc_in(stream, LARGE), other = alloc_in(stream, LARGE);

    free_in(stream, block);
    free_in(stream, other);
    wait_for_context(stream);
    assert_int_equal(berth__stream_release_done(1, UINT64_MAX), 0);
    assert_int_equal(berth__stream_release_done(0, 1), LARGE);
    assert_int_equal(berth__stream_cached(0), LARGE);
    stream_delete(stream);
}

/* Another stream gets it at once, without asking about the stream that freed it. */
static void another_stream_has_what_is_done(void **state)
{
    CUstream stream = stream_new(), other = stream_new();
    uintptr_t block = alloc_in(stream, SMALL);

    free_in(stream, block);
    wait_for_stream(stream);
    hold_up(stream);
    assert_int_equal(alloc_in(other, SMALL), block);
    free_in(other, block);
    go_on();
    stream_delete(stream);
    stream_delete(other);
}

static berth_cu_result (*query_stream)(berth_cu_stream);
static CUstream asked;
static uintptr_t late; /* is freed beside work just after the driver was asked about the stream */

static berth_cu_result query_then_free(berth_cu_stream stream)
{
    berth_cu_result result = query_stream(stream);

    if (stream == (berth_cu_stream)asked && late != 0) {
        hold_up(asked);
        free_in(asked, late);
        late = 0;
    }
    return result;
}

/* Of a stream that is idle, only what was freed before that was known. */
static void what_is_freed_while_a_stream_is_asked_is_not_idle(void **state)
{
    CUstream other = stream_new();
    uintptr_t block;

    asked = stream_new();
    block = alloc_in(asked, SMALL);
    late = alloc_in(asked, SMALL);
    assert_int_equal(cuStreamSynchronize(asked), 0);
    free_in(asked, block);
    query_stream = berth__driver.cuStreamQuery;
    berth__driver.cuStreamQuery = query_then_free;
    assert_int_equal(alloc_in(other, SMALL), block);
    assert_int_equal(late, 0);
    berth__driver.cuStreamQuery = query_stream;
    free_in(other, block);
    go_on();
    stream_delete(asked);
    stream_delete(other);
}

/* A capture that is open is no wait's affair: nothing goes back beside it. */
static void nothing_goes_back_beside_a_capture(void **state)
{
    CUstream stream = stream_new();

    free_in(stream, alloc_in(stream, LARGE));
    wait_for_context(stream);
    atomic_fetch_add(&berth__device_captures, 1);
    assert_int_equal(berth__stream_release_done(0, UINT64_MAX), 0);
    atomic_fetch_sub(&berth__device_captures, 1);
    assert_int_equal(berth__stream_release_done(0, UINT64_MAX), LARGE);
    stream_delete(stream);
}

static void keep_in_pool(uint64_t threshold)
{
    CUmemoryPool pool = NULL;

    assert_int_equal(cuDeviceGetDefaultMemPool(&pool, 0), 0);
    assert_int_equal(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold), 0);
}

/* What the device has more when a cached block goes, while the driver's pool keeps as much again.
 */
static uint64_t freed_beside_kept(uint64_t (*release)(void))
{
    CUstream stream = stream_new();
    uintptr_t block = alloc_in(stream, LARGE);
    CUmemoryPool pool = NULL;
    CUdeviceptr kept = 0;
    uint64_t before;

    keep_in_pool(UINT64_MAX);
    assert_int_equal(cuDeviceGetDefaultMemPool(&pool, 0), 0);
    assert_int_equal(cuMemAllocFromPoolAsync(&kept, LARGE, pool, stream), 0);
    assert_int_equal(cuMemFreeAsync(kept, stream), 0);
    free_in(stream, block);
    wait_for_context(stream);
    before = device_free();
    assert_int_equal(release(), LARGE);
    before = device_free() - before;
    keep_in_pool(0);
    stream_delete(stream);
    return before;
}

static uint64_t release_for_want(void)
{
    return berth__stream_release_done(0, 1);
}

static uint64_t release_unasked(void)
{
    return berth__stream_release(0);
}

/* As the driver's own allocations do, where they would be refused. */
static void what_the_pool_keeps_goes_where_memory_is_short(void **state)
{
    assert_int_equal(freed_beside_kept(release_for_want), 2 * LARGE);
    assert_int_equal(freed_beside_kept(release_unasked), LARGE);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, before_each, after_each)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_was_waited_for_goes_to_the_device),
        CASE(a_blocking_stream_is_done_with_its_context),
        CASE(default_streams_are_done_by_what_they_wait_for),
        CASE(what_is_freed_since_is_not_done),
        CASE(another_context_is_not_done),
        CASE(no_more_goes_than_is_needed),
        CASE(another_stream_has_what_is_done),
        CASE(what_is_freed_while_a_stream_is_asked_is_not_idle),
        CASE(nothing_goes_back_beside_a_capture),
        CASE(what_the_pool_keeps_goes_where_memory_is_short),
    };

    return cmocka_run_group_tests(tests, up, NULL);
}
