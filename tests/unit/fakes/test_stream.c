/* SPDX-License-Identifier: Apache-2.0 */
/* Order in time: what runs beside what, and who waits for whom. A gate (a host
 * function that the test holds) makes each order certain without sleeping. */
#include "fixture.h"

#include <sched.h>
#include <string.h>

static CUstream stream_new(unsigned flags)
{
    CUstream stream;

    assert_ok(cuStreamCreate(&stream, flags));
    return stream;
}

/* Never done while its gate is closed: polled, so that a stream that does not
 * wait has the time to show it. */
static void expect_held(CUstream stream)
{
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(cuStreamQuery(stream), CUDA_ERROR_NOT_READY);
        sched_yield();
    }
}

static void a_held_stream_does_not_hold_another(void **state)
{
    CUstream a = stream_new(CU_STREAM_NON_BLOCKING), b = stream_new(CU_STREAM_NON_BLOCKING);
    struct gate gate = GATE_INIT;

    assert_ok(cuLaunchHostFunc(a, gate_pass, &gate));
    gate_wait_entered(&gate);
    assert_int_equal(cuStreamQuery(a), CUDA_ERROR_NOT_READY);
    assert_ok(cuStreamSynchronize(b));
    gate_open(&gate);
    assert_ok(cuStreamSynchronize(a));
    assert_ok(cuStreamQuery(a));
    assert_ok(cuStreamDestroy_v2(a));
    assert_ok(cuStreamDestroy_v2(b));
}

struct copy_request {
    CUdeviceptr pointer;
    atomic_int done;
};

static void *free_main(void *argument)
{
    struct copy_request *request = argument;

    use_device(0);
    assert_ok(cuMemFree_v2(request->pointer));
    request->done = 1;
    return NULL;
}

static void free_waits_for_work_in_every_stream(void **state)
{
    CUstream stream = stream_new(CU_STREAM_NON_BLOCKING);
    struct copy_request request = {0};
    struct gate gate = GATE_INIT;
    pthread_t thread;

    assert_ok(cuMemAlloc_v2(&request.pointer, 4096));
    assert_ok(cuLaunchHostFunc(stream, gate_pass, &gate));
    assert_ok(cuMemsetD8Async(request.pointer, 1, 4096, stream));
    assert_int_equal(pthread_create(&thread, NULL, free_main, &request), 0);
    gate_wait_entered(&gate);
    assert_int_equal(request.done, 0);
    gate_open(&gate);
    pthread_join(thread, NULL);
    assert_int_equal(request.done, 1);
    assert_ok(cuStreamQuery(stream));
    assert_ok(cuStreamDestroy_v2(stream));
}

static void the_legacy_stream_waits_for_blocking_streams_only(void **state)
{
    CUstream blocking = stream_new(0), free_stream = stream_new(CU_STREAM_NON_BLOCKING);
    struct gate gate = GATE_INIT, other = GATE_INIT;
    CUdeviceptr pointer;

    assert_ok(cuMemAlloc_v2(&pointer, 64));
    assert_ok(cuLaunchHostFunc(free_stream, gate_pass, &other));
    assert_ok(cuMemsetD8_v2(pointer, 1, 64));
    assert_ok(cuStreamSynchronize(NULL));
    assert_ok(cuLaunchHostFunc(blocking, gate_pass, &gate));
    assert_ok(cuMemsetD8_v2(pointer, 2, 64));
    expect_held(CU_STREAM_LEGACY);
    gate_open(&gate);
    assert_ok(cuStreamSynchronize(CU_STREAM_LEGACY));
    assert_int_equal(*(volatile char *)pointer, 2);
    gate_open(&other);
    assert_ok(cuMemFree_v2(pointer));
    assert_ok(cuStreamDestroy_v2(blocking));
    assert_ok(cuStreamDestroy_v2(free_stream));
}

static void blocking_streams_wait_for_the_legacy_stream(void **state)
{
    CUstream blocking = stream_new(0), free_stream = stream_new(CU_STREAM_NON_BLOCKING);
    struct gate gate = GATE_INIT;
    CUdeviceptr pointer;

    assert_ok(cuMemAlloc_v2(&pointer, 1));
    assert_ok(cuLaunchHostFunc(NULL, gate_pass, &gate));
    assert_ok(cuMemsetD8Async(pointer, 1, 1, blocking));
    gate_wait_entered(&gate);
    expect_held(blocking);
    assert_ok(cuStreamSynchronize(free_stream));
    gate_open(&gate);
    assert_ok(cuStreamSynchronize(blocking));
    assert_ok(cuMemFree_v2(pointer));
    assert_ok(cuStreamDestroy_v2(blocking));
    assert_ok(cuStreamDestroy_v2(free_stream));
}

static void an_event_orders_two_streams(void **state)
{
    CUstream a = stream_new(CU_STREAM_NON_BLOCKING), b = stream_new(CU_STREAM_NON_BLOCKING);
    struct gate gate = GATE_INIT;
    CUdeviceptr pointer;
    CUevent event;
    unsigned char value;

    assert_ok(cuMemAlloc_v2(&pointer, 1));
    assert_ok(cuEventCreate(&event, 0));
    assert_ok(cuEventQuery(event));
    assert_ok(cuLaunchHostFunc(a, gate_pass, &gate));
    assert_ok(cuMemsetD8Async(pointer, 5, 1, a));
    assert_ok(cuEventRecord(event, a));
    assert_ok(cuStreamWaitEvent(b, event, 0));
    assert_ok(cuMemsetD8Async(pointer, 6, 1, b));
    assert_int_equal(cuEventQuery(event), CUDA_ERROR_NOT_READY);
    gate_open(&gate);
    assert_ok(cuEventSynchronize(event));
    assert_ok(cuStreamSynchronize(b));
    assert_ok(cuMemcpyDtoH_v2(&value, pointer, 1));
    assert_int_equal(value, 6);
    assert_ok(cuEventDestroy_v2(event));
    assert_int_equal(cuEventQuery(event), CUDA_ERROR_INVALID_HANDLE);
    assert_ok(cuMemFree_v2(pointer));
    assert_ok(cuStreamDestroy_v2(a));
    assert_ok(cuStreamDestroy_v2(b));
}

static void a_context_event_stands_behind_every_stream(void **state)
{
    CUstream a = stream_new(CU_STREAM_NON_BLOCKING), b = stream_new(0);
    struct gate gate = GATE_INIT;
    CUdeviceptr pointer;
    CUcontext context;
    CUevent event;

    assert_ok(cuMemAlloc_v2(&pointer, 1));
    assert_ok(cuCtxGetCurrent(&context));
    assert_ok(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    assert_ok(cuLaunchHostFunc(a, gate_pass, &gate));
    assert_ok(cuCtxRecordEvent(context, event));
    assert_int_equal(cuEventQuery(event), CUDA_ERROR_NOT_READY);
    /* The record itself holds nobody up. */
    assert_ok(cuStreamSynchronize(b));
    assert_ok(cuCtxWaitEvent(context, event));
    assert_ok(cuMemsetD8Async(pointer, 1, 1, b));
    expect_held(b);
    gate_open(&gate);
    assert_ok(cuEventSynchronize(event));
    assert_ok(cuStreamSynchronize(b));
    assert_ok(cuMemFree_v2(pointer));
    assert_ok(cuEventDestroy_v2(event));
    assert_ok(cuStreamDestroy_v2(a));
    assert_ok(cuStreamDestroy_v2(b));
}

static void elapsed_time_is_the_distance_of_two_records(void **state)
{
    CUstream stream = stream_new(0);
    CUevent start, end, untimed;
    float ms = -1;

    assert_ok(cuEventCreate(&start, 0));
    assert_ok(cuEventCreate(&end, 0));
    assert_ok(cuEventCreate(&untimed, CU_EVENT_DISABLE_TIMING));
    assert_int_equal(cuEventElapsedTime(&ms, start, end), CUDA_ERROR_INVALID_HANDLE);
    assert_ok(cuEventRecord(start, stream));
    assert_ok(cuEventRecord(end, stream));
    assert_ok(cuEventRecord(untimed, stream));
    assert_ok(cuStreamSynchronize(stream));
    assert_ok(cuEventElapsedTime(&ms, start, end));
    assert_true(ms >= 0);
    assert_int_equal(cuEventElapsedTime(&ms, start, untimed), CUDA_ERROR_INVALID_HANDLE);
    assert_ok(cuEventDestroy_v2(start));
    assert_ok(cuEventDestroy_v2(end));
    assert_ok(cuEventDestroy_v2(untimed));
    assert_ok(cuStreamDestroy_v2(stream));
}

static void call_in_callback(void *pointer)
{
    CUdeviceptr memory;

    *(CUresult *)pointer = cuMemAlloc_v2(&memory, 16);
}

static void calls_inside_a_host_function_are_refused(void **state)
{
    CUresult result = CUDA_SUCCESS;
    CUstream stream = stream_new(0);

    assert_ok(cuLaunchHostFunc(stream, call_in_callback, &result));
    assert_ok(cuStreamSynchronize(stream));
    assert_int_equal(result, CUDA_ERROR_NOT_PERMITTED);
    assert_ok(cuStreamDestroy_v2(stream));
}

static void stream_ids_are_never_reused(void **state)
{
    unsigned long long first, second;
    CUstream stream = stream_new(0);

    assert_ok(cuStreamGetId(stream, &first));
    assert_ok(cuStreamDestroy_v2(stream));
    assert_int_equal(cuStreamDestroy_v2(stream), CUDA_ERROR_INVALID_HANDLE);
    stream = stream_new(0);
    assert_ok(cuStreamGetId(stream, &second));
    assert_int_not_equal(first, second);
    assert_ok(cuStreamDestroy_v2(stream));
}

static void *default_stream_id(void *pointer)
{
    use_device(0);
    assert_ok(cuStreamGetId_ptsz(NULL, pointer));
    return NULL;
}

static void each_thread_has_its_own_default_stream(void **state)
{
    unsigned long long legacy, mine, again, theirs;
    pthread_t thread;

    assert_ok(cuStreamGetId(NULL, &legacy));
    assert_ok(cuStreamGetId_ptsz(NULL, &mine));
    assert_ok(cuStreamGetId(CU_STREAM_PER_THREAD, &again));
    pthread_create(&thread, NULL, default_stream_id, &theirs);
    pthread_join(thread, NULL);
    assert_int_equal(mine, again);
    assert_int_not_equal(mine, legacy);
    assert_int_not_equal(mine, theirs);
}

static void a_pageable_source_may_change_after_the_call(void **state)
{
    CUstream stream = stream_new(CU_STREAM_NON_BLOCKING);
    struct gate gate = GATE_INIT;
    CUdeviceptr pointer;
    char source[16] = "before", back[16];

    assert_ok(cuMemAlloc_v2(&pointer, sizeof(source)));
    assert_ok(cuLaunchHostFunc(stream, gate_pass, &gate));
    assert_ok(cuMemcpyHtoDAsync_v2(pointer, source, sizeof(source), stream));
    strcpy(source, "after");
    gate_open(&gate);
    assert_ok(cuMemcpyDtoHAsync_v2(back, pointer, sizeof(back), stream));
    assert_string_equal(back, "before");
    assert_ok(cuMemFree_v2(pointer));
    assert_ok(cuStreamDestroy_v2(stream));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_held_stream_does_not_hold_another),
        cmocka_unit_test(free_waits_for_work_in_every_stream),
        cmocka_unit_test(the_legacy_stream_waits_for_blocking_streams_only),
        cmocka_unit_test(blocking_streams_wait_for_the_legacy_stream),
        cmocka_unit_test(an_event_orders_two_streams),
        cmocka_unit_test(a_context_event_stands_behind_every_stream),
        cmocka_unit_test(elapsed_time_is_the_distance_of_two_records),
        cmocka_unit_test(calls_inside_a_host_function_are_refused),
        cmocka_unit_test(stream_ids_are_never_reused),
        cmocka_unit_test(each_thread_has_its_own_default_stream),
        cmocka_unit_test(a_pageable_source_may_change_after_the_call),
    };

    return cmocka_run_group_tests(tests, use_device_0, NULL);
}
