/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One way in which stream captures begin and end, then allocations: capture.py counts how many of
 * them the driver saw. Every call's outcome is checked, so that natively the program shows that it
 * is right itself.
 *
 * Usage: capture_client WAY; without one, prints their names.
 */
#include "cuda_api.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAIRS 2000
#define SIZE ((size_t)1 << 16)

static CUcontext context;
static CUstream stream, joined;
static int calls;

static void must_be(int line, CUresult result, CUresult expected)
{
    if (result == expected)
        return;
    fprintf(stderr, "line %d: the driver answered %d, expected %d\n", line, (int)result,
            (int)expected);
    exit(1);
}

#define IS(result, call) must_be(__LINE__, call, result)
#define CALL(call) IS(CUDA_SUCCESS, call)

static void count(void *argument)
{
    calls++;
}

static void begin(CUstream where, CUstreamCaptureMode mode)
{
    CALL(cuStreamBeginCapture_v2(where, mode));
    CALL(cuLaunchHostFunc(where, count, NULL));
}

static CUgraph end(CUstream where)
{
    CUgraph graph;

    CALL(cuStreamEndCapture(where, &graph));
    return graph;
}

static void launch(CUgraph graph, int expected)
{
    CUgraphExec exec;

    CALL(cuGraphInstantiateWithFlags(&exec, graph, 0));
    CALL(cuGraphDestroy(graph));
    calls = 0;
    CALL(cuGraphLaunch(exec, stream));
    CALL(cuStreamSynchronize(stream));
    CALL(cuGraphExecDestroy(exec));
    if (calls != expected) {
        fprintf(stderr, "the graph did %d things instead of %d\n", calls, expected);
        exit(1);
    }
}

static void fork_to(CUstream other)
{
    CUevent event;

    CALL(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    CALL(cuEventRecord(event, stream));
    CALL(cuStreamWaitEvent(other, event, 0));
    CALL(cuLaunchHostFunc(other, count, NULL));
    CALL(cuEventDestroy_v2(event));
}

static void join_from(CUstream other)
{
    CUevent event;

    CALL(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    CALL(cuEventRecord(event, other));
    CALL(cuStreamWaitEvent(stream, event, 0));
    CALL(cuEventDestroy_v2(event));
}

static void ended(void)
{
    begin(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
    launch(end(stream), 1);
}

static void refused(void)
{
    CUgraph graph;

    IS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
       cuStreamBeginCapture_v2(CU_STREAM_LEGACY, CU_STREAM_CAPTURE_MODE_GLOBAL));
    IS(CUDA_ERROR_INVALID_VALUE, cuStreamBeginCaptureToGraph(stream, NULL, NULL, NULL, 0, 0));
    IS(CUDA_ERROR_ILLEGAL_STATE, cuStreamEndCapture(stream, &graph));
    begin(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
    IS(CUDA_ERROR_ILLEGAL_STATE, cuStreamBeginCapture_v2(stream, 0));
    launch(end(stream), 1);
}

static void forked(void)
{
    CUgraph graph;

    begin(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    fork_to(joined);
    join_from(joined);
    launch(end(stream), 2);
    begin(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    fork_to(joined);
    IS(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, cuStreamEndCapture(stream, &graph));
}

/* The stream that joined is ended instead, which spoils the capture and does not end it. */
static void unmatched(void)
{
    CUgraph graph;

    begin(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    fork_to(joined);
    IS(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, cuStreamEndCapture(joined, &graph));
    IS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));
}

static void merged(void)
{
    CUevent event;
    CUgraph graph;

    CALL(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    begin(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    begin(joined, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    CALL(cuEventRecord(event, stream));
    IS(CUDA_ERROR_STREAM_CAPTURE_MERGE, cuStreamWaitEvent(joined, event, 0));
    IS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));
    IS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(joined, &graph));
    CALL(cuEventDestroy_v2(event));
}

static void spoilt(void)
{
    CUdeviceptr pointer;
    CUgraph graph;

    begin(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
    IS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuMemAlloc_v2(&pointer, SIZE));
    IS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));
}

static void origin_destroyed(void)
{
    begin(stream, CU_STREAM_CAPTURE_MODE_RELAXED);
    fork_to(joined);
    CALL(cuStreamDestroy_v2(stream));
    CALL(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
}

static void joined_destroyed(void)
{
    CUgraph graph;

    begin(stream, CU_STREAM_CAPTURE_MODE_RELAXED);
    fork_to(joined);
    CALL(cuStreamDestroy_v2(joined));
    IS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));
    CALL(cuStreamCreate(&joined, CU_STREAM_NON_BLOCKING));
}

static void into_graph(void)
{
    CUgraph graph, child, same;
    CUgraphNode node;

    begin(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
    child = end(stream);
    CALL(cuGraphCreate(&graph, 0));
    CALL(cuGraphAddChildGraphNode(&node, graph, NULL, 0, child));
    CALL(cuGraphDestroy(child));
    CALL(cuGraphChildGraphNodeGetGraph(node, &child));
    /* Both into the graph, and into the one inside. */
    CALL(cuStreamBeginCaptureToGraph(stream, graph, &node, NULL, 1, 0));
    CALL(cuLaunchHostFunc(stream, count, NULL));
    CALL(cuStreamBeginCaptureToGraph(joined, child, NULL, NULL, 0, 0));
    CALL(cuLaunchHostFunc(joined, count, NULL));
    CALL(cuStreamEndCapture(joined, &same));
    CALL(cuStreamEndCapture(stream, &same));
    launch(graph, 3);
}

static void into_graph_spoilt(void)
{
    CUgraph graph, none;
    CUdeviceptr pointer;

    CALL(cuGraphCreate(&graph, 0));
    CALL(cuStreamBeginCaptureToGraph(stream, graph, NULL, NULL, 0, CU_STREAM_CAPTURE_MODE_GLOBAL));
    IS(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuMemAlloc_v2(&pointer, SIZE));
    IS(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &none));
    CALL(cuStreamBeginCaptureToGraph(stream, graph, NULL, NULL, 0, CU_STREAM_CAPTURE_MODE_RELAXED));
    CALL(cuGraphDestroy(graph));
    CALL(cuStreamDestroy_v2(stream));
    CALL(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
}

static void updated(void)
{
    CUgraphExecUpdateResultInfo info;
    CUgraphExec exec;
    CUgraph graph;

    begin(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
    graph = end(stream);
    CALL(cuGraphInstantiateWithFlags(&exec, graph, 0));
    begin(joined, CU_STREAM_CAPTURE_MODE_GLOBAL);
    /* Of another graph, so that no capture forbids it. */
    CALL(cuGraphExecUpdate_v2(exec, graph, &info));
    CALL(cuGraphDestroy(graph));
    CALL(cuGraphDestroy(end(joined)));
    CALL(cuGraphLaunch(exec, stream));
    CALL(cuStreamSynchronize(stream));
    CALL(cuGraphExecDestroy(exec));
}

static void *end_elsewhere(void *argument)
{
    CUgraph graph;

    CALL(cuCtxSetCurrent(context));
    IS(argument ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD,
       cuStreamEndCapture(stream, &graph));
    if (argument)
        CALL(cuGraphDestroy(graph));
    return NULL;
}

static void other_thread(void)
{
    pthread_t thread;

    begin(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    pthread_create(&thread, NULL, end_elsewhere, NULL);
    pthread_join(thread, NULL);
    launch(end(stream), 1);
    begin(stream, CU_STREAM_CAPTURE_MODE_RELAXED);
    pthread_create(&thread, NULL, end_elsewhere, &calls);
    pthread_join(thread, NULL);
}

static void mode_exchanged(void)
{
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    CUdeviceptr pointer;

    begin(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
    CALL(cuThreadExchangeStreamCaptureMode(&mode));
    CALL(cuMemAlloc_v2(&pointer, SIZE));
    CALL(cuMemFree_v2(pointer));
    CALL(cuThreadExchangeStreamCaptureMode(&mode));
    launch(end(stream), 1);
    if (mode != CU_STREAM_CAPTURE_MODE_RELAXED)
        exit(1);
}

static void default_stream(void)
{
    begin(CU_STREAM_PER_THREAD, CU_STREAM_CAPTURE_MODE_GLOBAL);
    launch(end(CU_STREAM_PER_THREAD), 1);
    CALL(cuStreamBeginCapture_v2_ptsz(NULL, CU_STREAM_CAPTURE_MODE_GLOBAL));
    CALL(cuGraphDestroy(end(CU_STREAM_PER_THREAD)));
}

/* With a capture open, in streams of its own and in the thread's. */
static void context_destroyed(void)
{
    CUcontext other;
    CUstream its;

    for (int is_default = 0; is_default < 2; is_default++) {
        CALL(cuCtxCreate_v2(&other, 0, 0));
        CALL(cuStreamCreate(&its, CU_STREAM_NON_BLOCKING));
        begin(is_default ? CU_STREAM_PER_THREAD : its, CU_STREAM_CAPTURE_MODE_RELAXED);
        CALL(cuCtxDestroy_v2(other));
        CALL(cuCtxSetCurrent(context));
    }
}

static pthread_key_t end_key;

/* Captures in the thread's own stream, and ends with that open. */
static void *capture_and_end(void *argument)
{
    CALL(cuCtxSetCurrent(context));
    begin(argument ? stream : CU_STREAM_PER_THREAD, CU_STREAM_CAPTURE_MODE_RELAXED);
    return NULL;
}

static void thread_ended(void)
{
    pthread_t thread;

    for (int i = 0; i < 3; i++) {
        pthread_create(&thread, NULL, capture_and_end, NULL);
        pthread_join(thread, NULL);
    }
    default_stream();
    /* One in another stream goes on, and can be ended by any thread. */
    pthread_create(&thread, NULL, capture_and_end, &calls);
    pthread_join(thread, NULL);
    launch(end(stream), 1);
}

/* In a destructor of the thread's, behind those of all keys made before: too late, or in time. */
static void end_in_destructor(void *argument)
{
    CUgraph graph;
    CUresult result;

    CALL(cuCtxSetCurrent(context));
    result = cuStreamEndCapture(CU_STREAM_PER_THREAD, &graph);
    if (result == CUDA_SUCCESS)
        CALL(cuGraphDestroy(graph));
    else
        IS(CUDA_ERROR_ILLEGAL_STATE, result);
}

static void *capture_then_destructor(void *argument)
{
    pthread_setspecific(end_key, &end_key);
    return capture_and_end(NULL);
}

static void ended_in_destructor(void)
{
    pthread_t thread;

    pthread_create(&thread, NULL, capture_and_end, NULL);
    pthread_join(thread, NULL);
    pthread_key_create(&end_key, end_in_destructor);
    for (int i = 0; i < 3; i++) {
        pthread_create(&thread, NULL, capture_then_destructor, NULL);
        pthread_join(thread, NULL);
    }
    ended();
}

static void pairs(void)
{
    CUdeviceptr pointer;

    for (unsigned i = 0; i < PAIRS; i++) {
        CALL(cuMemAlloc_v2(&pointer, SIZE));
        CALL(cuMemFree_v2(pointer));
    }
}

static const struct {
    const char *name;
    void (*run)(void);
} ways[] = {{"ended", ended},
            {"refused", refused},
            {"forked", forked},
            {"unmatched", unmatched},
            {"merged", merged},
            {"spoilt", spoilt},
            {"origin-destroyed", origin_destroyed},
            {"joined-destroyed", joined_destroyed},
            {"into-graph", into_graph},
            {"into-graph-spoilt", into_graph_spoilt},
            {"updated", updated},
            {"other-thread", other_thread},
            {"mode-exchanged", mode_exchanged},
            {"default-stream", default_stream},
            {"context-destroyed", context_destroyed},
            {"thread-ended", thread_ended},
            {"ended-in-destructor", ended_in_destructor}};

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        if (argc < 2) {
            printf("%s\n", ways[i].name);
            continue;
        }
        if (strcmp(argv[1], ways[i].name) != 0)
            continue;
        CALL(cuInit(0));
        CALL(cuDevicePrimaryCtxRetain(&context, 0));
        CALL(cuCtxSetCurrent(context));
        CALL(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        CALL(cuStreamCreate(&joined, CU_STREAM_NON_BLOCKING));
        ways[i].run();
        pairs();
        return 0;
    }
    return argc < 2 ? 0 : 1;
}
