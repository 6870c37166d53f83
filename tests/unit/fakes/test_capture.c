/* SPDX-License-Identifier: Apache-2.0 */
/* Stream capture and graphs: what is recorded, what is refused while a
 * capture is open, and that a replay does the work again. */
#include "fixture.h"

#include "tests/fakes/cuda/simk.h"

#include <string.h>

static CUstream stream, other;

simk_function simk__Z9incrementPi;

void simk__Z9incrementPi(struct simk_dim grid, struct simk_dim block, unsigned shared_bytes,
                         void **args)
{
    ++**(int **)args[0];
}

static int streams_new(void **state)
{
    use_device(0);
    assert_ok(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    assert_ok(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    return 0;
}

static void begin(CUstreamCaptureMode mode)
{
    assert_ok(cuStreamBeginCapture_v2(stream, mode));
}

static CUgraphExec end(void)
{
    CUgraph graph;
    CUgraphExec exec;

    assert_ok(cuStreamEndCapture(stream, &graph));
    assert_ok(cuGraphInstantiateWithFlags(&exec, graph, 0));
    assert_ok(cuGraphDestroy(graph));
    return exec;
}

static void count(void *pointer)
{
    ++*(int *)pointer;
}

static void a_replay_does_all_kinds_of_work_again(void **state)
{
    static char image[64];
    CUdeviceptr pointer, copy;
    CUfunction kernel;
    CUmodule module;
    CUgraphExec exec;
    int calls = 0, value = 0;
    void *args[] = {&pointer};

    assert_ok(cuModuleLoadData(&module, image));
    assert_ok(cuModuleGetFunction(&kernel, module, "_Z9incrementPi"));
    assert_ok(cuMemAlloc_v2(&pointer, sizeof(int)));
    assert_ok(cuMemAlloc_v2(&copy, sizeof(int)));
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    assert_ok(cuMemsetD32Async(pointer, 6, 1, stream));
    assert_ok(cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, args, NULL));
    assert_ok(cuMemcpyDtoDAsync_v2(copy, pointer, sizeof(int), stream));
    assert_ok(cuLaunchHostFunc(stream, count, &calls));
    exec = end();
    assert_ok(cuStreamSynchronize(stream));
    assert_int_equal(calls, 0);
    assert_ok(cuGraphLaunch(exec, stream));
    assert_ok(cuGraphLaunch(exec, other));
    assert_ok(cuCtxSynchronize());
    assert_int_equal(calls, 2);
    assert_ok(cuMemcpyDtoH_v2(&value, copy, sizeof(int)));
    assert_int_equal(value, 7);
    assert_ok(cuGraphExecDestroy(exec));
    assert_ok(cuModuleUnload(module));
    assert_ok(cuMemFree_v2(pointer));
    assert_ok(cuMemFree_v2(copy));
}

static void unsafe_calls_fail_and_spoil_a_global_capture(void **state)
{
    CUstreamCaptureStatus status;
    CUdeviceptr pointer;
    CUgraph graph = (CUgraph)1;

    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    assert_int_equal(cuMemAlloc_v2(&pointer, 64), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_ok(cuStreamIsCapturing(stream, &status));
    assert_int_equal(status, CU_STREAM_CAPTURE_STATUS_INVALIDATED);
    assert_int_equal(cuLaunchHostFunc(stream, count, &status),
                     CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert_int_equal(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert_null(graph);
    assert_ok(cuStreamIsCapturing(stream, &status));
    assert_int_equal(status, CU_STREAM_CAPTURE_STATUS_NONE);
    assert_ok(cuMemAlloc_v2(&pointer, 64));
    assert_ok(cuMemFree_v2(pointer));
}

static void a_relaxed_thread_may_allocate(void **state)
{
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    CUdeviceptr pointer;

    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    assert_ok(cuThreadExchangeStreamCaptureMode(&mode));
    assert_int_equal(mode, CU_STREAM_CAPTURE_MODE_GLOBAL);
    assert_ok(cuMemAlloc_v2(&pointer, 64));
    assert_ok(cuMemFree_v2(pointer));
    assert_ok(cuThreadExchangeStreamCaptureMode(&mode));
    assert_ok(cuGraphExecDestroy(end()));
}

static void *alloc_main(void *pointer)
{
    CUdeviceptr memory;

    use_device(0);
    *(CUresult *)pointer = cuMemAlloc_v2(&memory, 64);
    if (*(CUresult *)pointer == CUDA_SUCCESS)
        cuMemFree_v2(memory);
    return NULL;
}

static CUresult alloc_in_thread(void)
{
    CUresult result;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, alloc_main, &result), 0);
    pthread_join(thread, NULL);
    return result;
}

static void a_thread_local_capture_leaves_other_threads_alone(void **state)
{
    CUgraph graph;

    begin(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    assert_ok(alloc_in_thread());
    assert_ok(cuGraphExecDestroy(end()));
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    assert_int_equal(alloc_in_thread(), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_int_equal(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

static void a_second_stream_joins_through_an_event(void **state)
{
    CUevent fork_event, join_event;
    int calls = 0;
    CUgraph graph;
    CUgraphExec exec;

    assert_ok(cuEventCreate(&fork_event, CU_EVENT_DISABLE_TIMING));
    assert_ok(cuEventCreate(&join_event, CU_EVENT_DISABLE_TIMING));
    begin(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    assert_ok(cuLaunchHostFunc(stream, count, &calls));
    assert_ok(cuEventRecord(fork_event, stream));
    assert_ok(cuStreamWaitEvent(other, fork_event, 0));
    assert_ok(cuLaunchHostFunc(other, count, &calls));
    assert_int_equal(cuStreamEndCapture(other, &graph), CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    assert_int_equal(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);

    begin(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    assert_ok(cuEventRecord(fork_event, stream));
    assert_ok(cuStreamWaitEvent(other, fork_event, 0));
    assert_ok(cuLaunchHostFunc(other, count, &calls));
    assert_int_equal(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_UNJOINED);

    begin(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    assert_ok(cuEventRecord(fork_event, stream));
    assert_ok(cuStreamWaitEvent(other, fork_event, 0));
    assert_ok(cuLaunchHostFunc(other, count, &calls));
    assert_ok(cuEventRecord(join_event, other));
    assert_ok(cuStreamWaitEvent(stream, join_event, 0));
    exec = end();
    assert_ok(cuGraphLaunch(exec, stream));
    assert_ok(cuStreamSynchronize(stream));
    assert_int_equal(calls, 1);
    assert_ok(cuGraphExecDestroy(exec));
    assert_ok(cuEventDestroy_v2(fork_event));
    assert_ok(cuEventDestroy_v2(join_event));
}

static void queries_of_captured_work_are_refused(void **state)
{
    CUcontext context;
    CUevent event, whole;
    CUgraph graph;

    assert_ok(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    assert_ok(cuEventCreate(&whole, CU_EVENT_DISABLE_TIMING));
    assert_ok(cuCtxGetCurrent(&context));
    begin(CU_STREAM_CAPTURE_MODE_RELAXED);
    assert_ok(cuEventRecord(event, stream));
    assert_int_equal(cuEventQuery(event), CUDA_ERROR_CAPTURED_EVENT);
    assert_int_equal(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    begin(CU_STREAM_CAPTURE_MODE_RELAXED);
    assert_int_equal(cuStreamSynchronize(stream), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_int_equal(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    begin(CU_STREAM_CAPTURE_MODE_RELAXED);
    assert_int_equal(cuCtxRecordEvent(context, whole), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_int_equal(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert_int_equal(cuStreamBeginCapture_v2(NULL, CU_STREAM_CAPTURE_MODE_RELAXED),
                     CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_ok(cuEventDestroy_v2(event));
    assert_ok(cuEventDestroy_v2(whole));
}

static void the_legacy_stream_must_not_follow_a_captured_blocking_one(void **state)
{
    CUstream blocking;
    CUdeviceptr pointer;
    CUgraph graph;

    assert_ok(cuStreamCreate(&blocking, CU_STREAM_DEFAULT));
    assert_ok(cuMemAlloc_v2(&pointer, 64));
    assert_ok(cuStreamBeginCapture_v2(blocking, CU_STREAM_CAPTURE_MODE_RELAXED));
    assert_int_equal(cuMemsetD8Async(pointer, 0, 64, NULL), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    assert_int_equal(cuStreamEndCapture(blocking, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert_ok(cuMemFree_v2(pointer));
    assert_ok(cuStreamDestroy_v2(blocking));
}

static void memory_allocated_in_a_capture_belongs_to_the_graph(void **state)
{
    CUdeviceptr pointer, result;
    CUgraphExec exec;
    unsigned char value = 0;

    assert_ok(cuMemAlloc_v2(&result, 1));
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    assert_ok(cuMemAllocAsync(&pointer, 4096, stream));
    assert_ok(cuMemsetD8Async(pointer, 9, 4096, stream));
    assert_ok(cuMemcpyDtoDAsync_v2(result, pointer + 4095, 1, stream));
    assert_ok(cuMemFreeAsync(pointer, stream));
    exec = end();
    for (int i = 0; i < 2; i++) {
        assert_ok(cuMemsetD8_v2(result, 0, 1));
        assert_ok(cuCtxSynchronize());
        assert_ok(cuGraphLaunch(exec, stream));
        assert_ok(cuStreamSynchronize(stream));
        assert_ok(cuMemcpyDtoH_v2(&value, result, 1));
        assert_int_equal(value, 9);
    }
    assert_ok(cuGraphExecDestroy(exec));
    assert_ok(cuMemFree_v2(result));
}

static void capture_info_names_the_capture(void **state)
{
    CUstreamCaptureStatus status;
    const CUgraphNode *nodes;
    CUgraphNodeType type;
    cuuint64_t id = 0;
    CUgraph graph;
    size_t nodes_count;
    int calls = 0;

    begin(CU_STREAM_CAPTURE_MODE_RELAXED);
    assert_ok(cuLaunchHostFunc(stream, count, &calls));
    assert_ok(cuStreamGetCaptureInfo_v2(stream, &status, &id, &graph, &nodes, &nodes_count));
    assert_int_equal(status, CU_STREAM_CAPTURE_STATUS_ACTIVE);
    assert_int_not_equal(id, 0);
    assert_int_equal(nodes_count, 1);
    assert_ok(cuGraphNodeGetType(nodes[0], &type));
    assert_int_equal(type, CU_GRAPH_NODE_TYPE_HOST);
    assert_ok(cuGraphExecDestroy(end()));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replay_does_all_kinds_of_work_again),
        cmocka_unit_test(unsafe_calls_fail_and_spoil_a_global_capture),
        cmocka_unit_test(a_relaxed_thread_may_allocate),
        cmocka_unit_test(a_thread_local_capture_leaves_other_threads_alone),
        cmocka_unit_test(a_second_stream_joins_through_an_event),
        cmocka_unit_test(queries_of_captured_work_are_refused),
        cmocka_unit_test(the_legacy_stream_must_not_follow_a_captured_blocking_one),
        cmocka_unit_test(memory_allocated_in_a_capture_belongs_to_the_graph),
        cmocka_unit_test(capture_info_names_the_capture),
    };

    return cmocka_run_group_tests(tests, streams_new, NULL);
}
