/* SPDX-License-Identifier: Apache-2.0 */
/* Questions about stream captures and graphs. See question.h. */
#include "question.h"

#include <pthread.h>
#include <string.h>

#define DELAY_MS 300

static CUdeviceptr captured_block;
static CUdeviceptr wrong_address;

static void be_relaxed(void)
{
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;

    EXPECT(cuThreadExchangeStreamCaptureMode(&mode) == 0);
}

static CUresult try_alloc(void)
{
    CUdeviceptr p = 0;

    return cuMemAlloc_v2(&p, KIB(4));
}

static CUresult try_free(void)
{
    return cuMemFree_v2(captured_block);
}

static CUresult try_wrong_free(void)
{
    return cuMemFree_v2(wrong_address);
}

static CUresult try_managed(void)
{
    CUdeviceptr p = 0;

    return cuMemAllocManaged(&p, KIB(4), CU_MEM_ATTACH_GLOBAL);
}

static CUresult try_host(void)
{
    void *p = NULL;

    return cuMemAllocHost_v2(&p, KIB(4));
}

static CUresult try_create(void)
{
    CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                      .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
    CUmemGenericAllocationHandle handle = 0;

    return cuMemCreate(&handle, MIB(2), &properties, 0);
}

static CUresult try_reserve(void)
{
    CUdeviceptr p = 0;

    return cuMemAddressReserve(&p, MIB(2), 0, 0, 0);
}

static CUresult try_copy(void)
{
    char bytes[16];

    return cuMemcpyDtoH_v2(bytes, captured_block, sizeof(bytes));
}

static CUresult try_fill(void)
{
    return cuMemsetD8_v2(captured_block, 1, 16);
}

static CUresult try_range(void)
{
    CUdeviceptr base = 0;

    return cuMemGetAddressRange_v2(&base, NULL, captured_block);
}

static CUresult try_info(void)
{
    size_t a, b;

    return cuMemGetInfo_v2(&a, &b);
}

static CUresult try_event(void)
{
    CUevent event = NULL;
    CUresult result = cuEventCreate(&event, CU_EVENT_DISABLE_TIMING);

    return result ? result : cuEventQuery(event);
}

static CUresult try_context_event(void)
{
    CUevent event = NULL;

    EXPECT(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING) == 0);
    return cuCtxRecordEvent(check_context, event);
}

static CUresult try_idle(void)
{
    return cuCtxSynchronize();
}

static CUresult try_trim(void)
{
    CUmemoryPool pool = NULL;

    EXPECT(cuDeviceGetDefaultMemPool(&pool, 0) == 0);
    return cuMemPoolTrimTo(pool, 0);
}

static CUresult try_destroy_graph(void)
{
    CUgraph graph = NULL;

    EXPECT(cuGraphCreate(&graph, 0) == 0);
    return cuGraphDestroy(graph);
}

static void *in_thread(void *user)
{
    CUresult (*const *call)(void) = user;

    EXPECT(cuCtxSetCurrent(check_context) == 0);
    return (void *)(uintptr_t)(*call)();
}

static void in_capture(const char *name, CUresult (*call)(void))
{
    CUstreamCaptureStatus status = 9;
    CUgraph graph = NULL;

    SEEN("%s:", name);
    for (int other = 0; other < 2; other++) {
        CUstream stream = check_stream();
        pthread_t thread;
        void *result = NULL;

        captured_block = check_alloc(KIB(4));
        EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL) == 0);
        if (other) {
            EXPECT(pthread_create(&thread, NULL, in_thread, &call) == 0);
            pthread_join(thread, &result);
        }
        printf(" %s %d", other ? "other thread" : "own thread",
               other ? (int)(uintptr_t)result : (int)call());
        EXPECT(cuStreamIsCapturing(stream, &status) == 0);
        printf(" status %d", (int)status);
        cuStreamEndCapture(stream, &graph);
    }
    printf("\n");
}

void question_12_unsafe_in_capture(void)
{
    static const struct {
        const char *name;
        CUresult (*call)(void);
    } calls[] = {
        {"cuMemAlloc", try_alloc},           {"cuMemFree", try_free},
        {"cuMemAllocManaged", try_managed},  {"cuMemAllocHost", try_host},
        {"cuMemCreate", try_create},         {"cuMemAddressReserve", try_reserve},
        {"cuMemcpyDtoH", try_copy},          {"cuMemsetD8", try_fill},
        {"cuMemGetAddressRange", try_range}, {"cuMemGetInfo", try_info},
        {"cuEventQuery", try_event},         {"cuCtxRecordEvent", try_context_event},
        {"cuMemPoolTrimTo", try_trim},       {"cuGraphDestroy", try_destroy_graph},
        {"cuCtxSynchronize", try_idle},
    };

    check_up();
    for (size_t i = 0; i < COUNT(calls); i++)
        in_capture(calls[i].name, calls[i].call);
}

void question_13_destroy_captured_stream(void)
{
    CUstream origin, joined;
    CUevent event = NULL;
    CUgraph graph = NULL;
    CUstreamCaptureStatus status = 9;
    CUdeviceptr p = 0;

    check_up();
    origin = check_stream();
    EXPECT(cuStreamBeginCapture_v2(origin, CU_STREAM_CAPTURE_MODE_GLOBAL) == 0);
    SEEN("destroy the origin: %d", cuStreamDestroy_v2(origin));
    printf(" alloc then %d\n", cuMemAlloc_v2(&p, KIB(4)));
    for (int which = 0; which < 2; which++) {
        origin = check_stream();
        joined = check_stream();
        EXPECT(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING) == 0);
        EXPECT(cuStreamBeginCapture_v2(origin, CU_STREAM_CAPTURE_MODE_RELAXED) == 0);
        EXPECT(cuEventRecord(event, origin) == 0 && cuStreamWaitEvent(joined, event, 0) == 0);
        SEEN("destroy the %s: %d", which ? "joined one" : "origin of two",
             cuStreamDestroy_v2(which ? joined : origin));
        status = 9;
        printf(" the other %d", cuStreamIsCapturing(which ? origin : joined, &status));
        printf(" status %d", (int)status);
        printf(" end %d\n", cuStreamEndCapture(which ? origin : joined, &graph));
    }
}

void question_14_free_outside_memory_in_capture(void)
{
    CUstream stream;
    CUgraph graph = NULL;
    CUstreamCaptureStatus status = 9;
    CUdeviceptr p = 0, q;

    check_up();
    stream = check_stream();
    EXPECT(cuMemAllocAsync(&p, KIB(4), stream) == 0 && cuStreamSynchronize(stream) == 0);
    q = check_alloc(KIB(4));
    EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL) == 0);
    SEEN("cuMemAllocAsync's: %d", cuMemFreeAsync(p, stream));
    printf(" cuMemAlloc's: %d", cuMemFreeAsync(q, stream));
    EXPECT(cuStreamIsCapturing(stream, &status) == 0);
    printf(" status %d end %d\n", (int)status, cuStreamEndCapture(stream, &graph));
    SEEN("afterwards: %d %d\n", cuMemFreeAsync(p, stream), cuMemFree_v2(q));
}

void question_15_graph_memory_backed(void)
{
    CUstream stream;
    CUgraph graph = NULL;
    CUgraphExec exec = NULL;
    CUdeviceptr p = 0;
    size_t before;

    check_up();
    stream = check_stream();
    before = check_free_memory();
    EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL) == 0);
    EXPECT(cuMemAllocAsync(&p, MIB(64), stream) == 0 && cuMemFreeAsync(p, stream) == 0);
    SEEN("taken in the capture: %d\n", before - check_free_memory() >= MIB(64));
    EXPECT(cuStreamEndCapture(stream, &graph) == 0);
    EXPECT(cuGraphInstantiateWithFlags(&exec, graph, 0) == 0);
    SEEN("after the instantiation: %d\n", before - check_free_memory() >= MIB(64));
    EXPECT(cuGraphLaunch(exec, stream) == 0 && cuStreamSynchronize(stream) == 0);
    SEEN("after the launch: %d\n", before - check_free_memory() >= MIB(64));
    EXPECT(cuGraphExecDestroy(exec) == 0 && cuGraphDestroy(graph) == 0);
    SEEN("after the destruction: %d\n", before - check_free_memory() >= MIB(64));
}

static void free_while_captured(const char *what, CUdeviceptr p)
{
    CUstream stream = check_stream(), busy = check_stream();
    CUstreamCaptureStatus status = 9;
    CUgraph graph = NULL;

    question_delay(busy, DELAY_MS);
    EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED) == 0);
    question_start_clock();
    SEEN("%s: free %d", what, cuMemFree_v2(p));
    printf(" waited %d", question_waited(DELAY_MS));
    EXPECT(cuStreamIsCapturing(stream, &status) == 0);
    printf(" status %d end %d\n", (int)status, cuStreamEndCapture(stream, &graph));
}

void question_27_free_waits_in_capture(void)
{
    check_up();
    be_relaxed();
    free_while_captured("small", check_alloc(KIB(4)));
    free_while_captured("large", check_alloc(MIB(4)));
}

void question_32_give_back_in_capture(void)
{
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    CUstreamCaptureStatus status = 9;
    CUstream stream;
    CUgraph graph = NULL;
    CUdeviceptr p, q = 0;

    check_up();
    stream = check_stream();
    p = check_alloc(MIB(4));
    EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL) == 0);
    EXPECT(cuThreadExchangeStreamCaptureMode(&mode) == 0);
    SEEN("free in relaxed mode: %d", cuMemFree_v2(p));
    printf(" alloc %d", cuMemAlloc_v2(&q, MIB(4)));
    EXPECT(cuThreadExchangeStreamCaptureMode(&mode) == 0);
    EXPECT(cuStreamIsCapturing(stream, &status) == 0);
    printf(" status %d end %d\n", (int)status, cuStreamEndCapture(stream, &graph));
}

void question_33_async_free_beside_capture(void)
{
    static const CUstreamCaptureMode modes[] = {CU_STREAM_CAPTURE_MODE_GLOBAL,
                                                CU_STREAM_CAPTURE_MODE_RELAXED};

    check_up();
    for (size_t i = 0; i < COUNT(modes); i++) {
        CUstream stream = check_stream(), other = check_stream();
        CUstreamCaptureStatus status = 9;
        CUgraph graph = NULL;
        CUdeviceptr p = check_alloc(KIB(4)), q = 0;

        EXPECT(cuMemAllocAsync(&q, KIB(4), other) == 0 && cuStreamSynchronize(other) == 0);
        EXPECT(cuStreamBeginCapture_v2(stream, modes[i]) == 0);
        SEEN("mode %zu: cuMemAlloc's %d", i, cuMemFreeAsync(p, other));
        printf(" cuMemAllocAsync's %d", cuMemFreeAsync(q, other));
        printf(" alloc %d", cuMemAllocAsync(&q, KIB(4), other));
        EXPECT(cuStreamIsCapturing(stream, &status) == 0);
        printf(" status %d end %d\n", (int)status, cuStreamEndCapture(stream, &graph));
    }
}

void question_39_wrong_free_in_capture(void)
{
    static const char *const names[] = {"null", "address 1", "interior", "freed before"};
    CUdeviceptr list[] = {0, 1, 0, 0};

    check_up();
    list[2] = check_alloc(KIB(4)) + 512;
    list[3] = check_alloc(MIB(4));
    EXPECT(cuMemFree_v2(list[3]) == 0);
    for (size_t i = 0; i < COUNT(list); i++) {
        wrong_address = list[i];
        in_capture(names[i], try_wrong_free);
    }
}
