/* SPDX-License-Identifier: Apache-2.0 */
/* Checklist items 31 to 36: captures, graphs, streams, threads. See item.h. */
#include "item.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const CUstreamCaptureMode modes[] = {CU_STREAM_CAPTURE_MODE_GLOBAL,
                                            CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
                                            CU_STREAM_CAPTURE_MODE_RELAXED};

static void be_in_mode(CUstreamCaptureMode mode)
{
    EXPECT(cuThreadExchangeStreamCaptureMode(&mode) == 0);
}

static void end_capture(CUstream stream)
{
    CUstreamCaptureStatus status = 9;
    CUgraph graph = NULL;

    EXPECT(cuStreamIsCapturing(stream, &status) == 0);
    printf(" status %d end %d", (int)status, cuStreamEndCapture(stream, &graph));
    printf(" graph %d\n", graph != NULL);
    if (graph)
        EXPECT(cuGraphDestroy(graph) == 0);
}

/* One call in a capture of each mode: its answer, and whether the capture survived. */
static void in_each_mode(const char *what, CUresult (*call)(void))
{
    for (size_t i = 0; i < COUNT(modes); i++) {
        CUstream stream = check_stream();

        be_in_mode(modes[i]);
        EXPECT(cuStreamBeginCapture_v2(stream, modes[i]) == 0);
        SEEN("mode %zu: %s %d", i, what, call());
        end_capture(stream);
        be_in_mode(CU_STREAM_CAPTURE_MODE_GLOBAL);
        EXPECT(cuStreamDestroy_v2(stream) == 0);
    }
}

static CUdeviceptr captured_with[6];

static CUresult allocate_small(void)
{
    CUdeviceptr p = 0;

    return cuMemAlloc_v2(&p, KIB(4));
}

static CUresult allocate_impossible(void)
{
    CUdeviceptr p = 0;

    return cuMemAlloc_v2(&p, SIZE_MAX - 511);
}

static CUresult allocate_large(void)
{
    CUdeviceptr p = 0;

    return cuMemAlloc_v2(&p, MIB(4));
}

static CUresult free_small(void)
{
    static int next;

    return cuMemFree_v2(captured_with[next++]);
}

static CUresult free_large(void)
{
    static int next = 3;

    return cuMemFree_v2(captured_with[next++]);
}

static CUresult free_inside(void)
{
    return cuMemFree_v2(captured_with[5] + 512);
}

static CUresult free_nothing(void)
{
    return cuMemFree_v2(0);
}

static CUresult ask_about_one(void)
{
    CUdeviceptr base = 0;

    return cuMemGetAddressRange_v2(&base, NULL, captured_with[5]);
}

static CUresult ask_for_room(void)
{
    size_t free_size, total;

    return cuMemGetInfo_v2(&free_size, &total);
}

/* A capture may end by the destruction of what it lives in. */
static void ends_with_its_stream(void)
{
    size_t before;
    CUcontext second;
    CUstream stream;
    CUdeviceptr p;

    be_in_mode(CU_STREAM_CAPTURE_MODE_RELAXED);
    EXPECT(cuMemFree_v2(check_alloc(KIB(64))) == 0);
    before = check_free_memory();
    p = check_alloc(KIB(64));
    stream = check_stream();
    EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED) == 0);
    SEEN("destroy stream: %d\n", cuStreamDestroy_v2(stream));
    EXPECT(cuCtxCreate_v2(&second, 0, 0) == 0);
    stream = check_stream();
    EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED) == 0);
    SEEN("destroy context: %d\n", cuCtxDestroy_v2(second));
    EXPECT(cuCtxSetCurrent(check_context) == 0);
    EXPECT(cuMemFree_v2(p) == 0);
    /* What was freed in a capture that is still open would not be there. */
    SEEN("given back: %d\n", check_free_memory() == before);
}

/* Refused frees in captures take nothing away. */
static void refusals_take_nothing(void)
{
    CUdeviceptr p = check_alloc(KIB(4));
    CUstream stream = check_stream();
    CUgraph graph = NULL;
    size_t before;

    check_fill(p, KIB(4), 0x31);
    before = check_free_memory();
    for (int i = 0; i < 100; i++) {
        EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL) == 0);
        EXPECT(cuMemFree_v2(p) != 0 && cuMemFree_v2(p + 8) != 0);
        cuStreamEndCapture(stream, &graph);
    }
    SEEN("after 100 refused frees: %d", check_free_memory() == before);
    printf(" contents %d", check_holds(p, KIB(4), 0x31));
    printf(" free %d\n", cuMemFree_v2(p));
}

void item_31_allocation_in_capture(void)
{
    CUdeviceptr probe;

    check_up();
    for (size_t i = 0; i < COUNT(captured_with); i++)
        captured_with[i] = check_alloc(i < 3 ? KIB(4) : MIB(3));
    EXPECT(cuMemFree_v2(check_alloc(MIB(4))) == 0 && cuMemFree_v2(check_alloc(KIB(4))) == 0);
    probe = check_alloc(KIB(4));
    check_fill(probe, KIB(4), 0x29);
    in_each_mode("small", allocate_small);
    in_each_mode("large", allocate_large);
    in_each_mode("far too large", allocate_impossible);
    in_each_mode("range", ask_about_one);
    in_each_mode("room", ask_for_room);
    in_each_mode("free of nothing", free_nothing);
    in_each_mode("free inside", free_inside);
    in_each_mode("free of small", free_small);
    in_each_mode("free of large", free_large);
    for (size_t i = 0; i < COUNT(captured_with); i++)
        SEEN("afterwards: %d\n", cuMemFree_v2(captured_with[i]));
    SEEN("contents: %d\n", check_holds(probe, KIB(4), 0x29));
    refusals_take_nothing();
    ends_with_its_stream();
}

static CUgraphExec capture_fill(CUstream stream, CUdeviceptr p, size_t size, unsigned char value)
{
    CUgraph graph = NULL;
    CUgraphExec exec = NULL;

    EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED) == 0);
    EXPECT(cuMemsetD8Async(p, value, size, stream) == 0);
    EXPECT(cuStreamEndCapture(stream, &graph) == 0);
    EXPECT(cuGraphInstantiateWithFlags(&exec, graph, 0) == 0 && cuGraphDestroy(graph) == 0);
    return exec;
}

static void take_all_memory(void)
{
    size_t most = check_free_memory() / 10 * 9;
    CUdeviceptr p = 0;

    EXPECT(cuMemFree_v2(check_alloc(most)) == 0);
    EXPECT(cuMemAlloc_v2(&p, most * 2) != 0);
}

/* A graph writes to the same addresses at each launch; whoever has them then must be the same. */
void item_32_replayed_memory_stays(void)
{
    static const size_t sizes[] = {KIB(4), KIB(600), MIB(3)};
    CUdeviceptr p[COUNT(sizes)], inner = 0, around[20];
    CUgraphExec execs[COUNT(sizes)];
    CUstream stream;
    CUgraph graph = NULL;
    CUgraphExec exec = NULL;

    check_up();
    stream = check_stream();
    be_in_mode(CU_STREAM_CAPTURE_MODE_RELAXED);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        p[i] = check_alloc(sizes[i]);
        execs[i] = capture_fill(stream, p[i], sizes[i], (unsigned char)(0x40 + i));
    }
    EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED) == 0);
    inner = check_alloc(KIB(300));
    EXPECT(cuMemsetD8Async(inner, 0x60, KIB(300), stream) == 0);
    EXPECT(cuStreamEndCapture(stream, &graph) == 0);
    EXPECT(cuGraphInstantiateWithFlags(&exec, graph, 0) == 0);
    for (int round = 0; round < 3; round++) {
        size_t wrong = 0;

        for (size_t i = 0; i < COUNT(around); i++) {
            around[i] = check_alloc(KIB(4) << (i % 10));
            check_fill(around[i], KIB(4) << (i % 10), 0x11);
        }
        take_all_memory();
        for (size_t i = 0; i < COUNT(sizes); i++)
            EXPECT(cuGraphLaunch(execs[i], stream) == 0);
        EXPECT(cuGraphLaunch(exec, stream) == 0 && cuStreamSynchronize(stream) == 0);
        for (size_t i = 0; i < COUNT(sizes); i++)
            SEEN("written: %d\n", check_holds(p[i], sizes[i], (unsigned char)(0x40 + i)));
        SEEN("allocated in the capture: %d\n", check_holds(inner, KIB(300), 0x60));
        for (size_t i = 0; i < COUNT(around); i++) {
            wrong += !check_holds(around[i], KIB(4) << (i % 10), 0x11);
            EXPECT(cuMemFree_v2(around[i]) == 0);
        }
        SEEN("others written: %zu\n", wrong);
    }
    SEEN("frees: %d", cuMemFree_v2(inner));
    for (size_t i = 0; i < COUNT(sizes); i++)
        printf(" %d %d", cuGraphExecDestroy(execs[i]), cuMemFree_v2(p[i]));
    printf("\n");
}

static void show_nodes(CUgraph graph)
{
    CUgraphNode nodes[16];
    size_t count = COUNT(nodes);

    EXPECT(cuGraphGetNodes(graph, nodes, &count) == 0);
    SEEN("nodes:");
    for (size_t i = 0; i < count; i++) {
        CUgraphNodeType type = 99;

        EXPECT(cuGraphNodeGetType(nodes[i], &type) == 0);
        printf(" %d", (int)type);
    }
    printf("\n");
}

static uint64_t graph_memory(CUgraphMem_attribute attribute)
{
    CUresult (*get)(CUdevice, CUgraphMem_attribute, void *);
    uint64_t bytes = 0;

    *(void **)&get = check_driver_function("cuDeviceGetGraphMemAttribute", 11040);
    EXPECT(get && get(0, attribute, &bytes) == 0);
    return bytes;
}

struct node_calls {
    CUresult (*alloc)(CUgraphNode *, CUgraph, const CUgraphNode *, size_t,
                      CUDA_MEM_ALLOC_NODE_PARAMS *);
    CUresult (*free)(CUgraphNode *, CUgraph, const CUgraphNode *, size_t, CUdeviceptr);
    CUresult (*trim)(CUdevice);
};

static struct node_calls node_calls(void)
{
    struct node_calls calls;

    *(void **)&calls.alloc = check_driver_function("cuGraphAddMemAllocNode", 11040);
    *(void **)&calls.free = check_driver_function("cuGraphAddMemFreeNode", 11040);
    *(void **)&calls.trim = check_driver_function("cuDeviceGraphMemTrim", 11040);
    EXPECT(calls.alloc && calls.free && calls.trim);
    return calls;
}

/* Which of the two frees ends memory that a graph's node made and that the graph does not free. */
static void nodes_that_are_freed_outside(const struct node_calls *calls, CUstream stream)
{
    for (int is_async = 0; is_async < 2; is_async++) {
        CUDA_MEM_ALLOC_NODE_PARAMS params = {
            .poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                          .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}},
            .bytesize = MIB(3)};
        CUgraph graph = NULL;
        CUgraphExec exec = NULL;
        CUgraphNode node = NULL;

        EXPECT(cuGraphCreate(&graph, 0) == 0);
        SEEN("alloc node: %d", calls->alloc(&node, graph, NULL, 0, &params));
        printf(" instantiate %d", cuGraphInstantiateWithFlags(&exec, graph, 0));
        printf(" launch %d\n", cuGraphLaunch(exec, stream));
        EXPECT(cuMemsetD8Async(params.dptr, 0x37, MIB(3), stream) == 0);
        EXPECT(cuStreamSynchronize(stream) == 0);
        SEEN("holds: %d", check_holds(params.dptr, MIB(3), 0x37));
        printf(" inside %d", cuMemFree_v2(params.dptr + 512));
        printf(" free %d",
               is_async ? cuMemFreeAsync(params.dptr, stream) : cuMemFree_v2(params.dptr));
        EXPECT(cuStreamSynchronize(stream) == 0);
        printf(" destroy %d %d\n", cuGraphExecDestroy(exec), cuGraphDestroy(graph));
    }
}

/* Nodes of memory that a program makes by hand, beside a pool that has cached what they need. */
static void nodes_by_hand(void)
{
    struct node_calls calls;
    CUDA_MEM_ALLOC_NODE_PARAMS params = {
        .poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                      .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}},
        .bytesize = KIB(20)};
    CUgraph graph = NULL;
    CUgraphNode first = NULL, last = NULL;
    CUstream stream;
    CUdeviceptr own, other = 0;

    check_up();
    calls = node_calls();
    stream = check_stream();
    own = check_alloc(KIB(20));
    EXPECT(cuGraphCreate(&graph, 0) == 0);
    SEEN("memory of graphs: %d\n", graph_memory(CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT) > 0);
    SEEN("nodes: %d", calls.alloc(&first, graph, NULL, 0, &params));
    other = params.dptr;
    printf(" %d", calls.free(&last, graph, &first, 1, other));
    printf(" again %d", calls.free(&last, graph, &first, 1, other));
    printf(" the pool's %d", calls.free(&last, graph, NULL, 0, own));
    printf(" inside it %d\n", calls.free(&last, graph, NULL, 0, own + 512));
    show_nodes(graph);
    SEEN("destroy: %d\n", cuGraphDestroy(graph));
    SEEN("trim: %d %d\n", calls.trim(0), calls.trim(99));
    params.bytesize = 0;
    EXPECT(cuGraphCreate(&graph, 0) == 0);
    SEEN("no bytes: %d\n", calls.alloc(&first, graph, NULL, 0, &params));
    EXPECT(cuGraphDestroy(graph) == 0);
    nodes_that_are_freed_outside(&calls, stream);
    SEEN("the pool's block: %d\n", cuMemFree_v2(own));
}

void item_33_graph_memory(void)
{
    CUdeviceptr p = 0, kept, ordered = 0;
    CUgraph graph = NULL;
    CUgraphExec exec = NULL;
    CUstream stream;
    CUmemoryPool pool = NULL;

    check_in_child("nodes made by hand", nodes_by_hand);
    check_up();
    stream = check_stream();
    kept = check_alloc(KIB(8));
    /* Freed just before, it would serve what is captured. */
    EXPECT(cuMemAllocAsync(&ordered, KIB(8), stream) == 0 && cuMemFreeAsync(ordered, stream) == 0);
    EXPECT(cuMemAllocAsync(&ordered, KIB(8), stream) == 0 &&
           cuMemAllocAsync(&p, KIB(8), stream) == 0);
    EXPECT(cuMemFreeAsync(p, stream) == 0);
    EXPECT(cuDeviceGetDefaultMemPool(&pool, 0) == 0 && cuStreamSynchronize(stream) == 0);
    EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL) == 0);
    SEEN("alloc: %d\n", cuMemAllocAsync(&p, KIB(8), stream));
    SEEN("fill: %d\n", cuMemsetD8Async(p, 0x21, KIB(8), stream));
    SEEN("copy: %d\n", cuMemcpyDtoDAsync_v2(kept, p, KIB(8), stream));
    SEEN("free of other memory: %d\n", cuMemFreeAsync(kept, stream));
    SEEN("free: %d\n", cuMemFreeAsync(p, stream));
    SEEN("again: %d\n", cuMemFreeAsync(p, stream));
    EXPECT(cuStreamEndCapture(stream, &graph) == 0);
    show_nodes(graph);
    SEEN("instantiate: %d\n", cuGraphInstantiateWithFlags(&exec, graph, 0));
    for (int i = 0; i < 3; i++) {
        check_fill(kept, KIB(8), 0);
        SEEN("launch: %d", cuGraphLaunch(exec, stream));
        EXPECT(cuStreamSynchronize(stream) == 0);
        printf(" holds %d\n", check_holds(kept, KIB(8), 0x21));
    }
    SEEN("destroy: %d %d\n", cuGraphExecDestroy(exec), cuGraphDestroy(graph));
    SEEN("frees: %d", cuMemFree_v2(kept));
    printf(" %d\n", cuMemFreeAsync(ordered, stream));
    EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL) == 0);
    SEEN("from a pool: %d", cuMemAllocFromPoolAsync(&p, KIB(8), pool, stream));
    printf(" more than there is %d\n", cuMemAllocAsync(&p, (size_t)1 << 50, stream));
    SEEN("on another stream: %d", cuMemAllocAsync(&p, KIB(8), check_stream()));
    end_capture(stream);
}

static void *use_thread_stream(void *user)
{
    CUdeviceptr p = 0, q = 0;
    size_t wrong = 0;

    EXPECT(cuCtxSetCurrent(check_context) == 0);
    for (int i = 0; i < 50; i++) {
        unsigned char mark = (unsigned char)(i + (int)(uintptr_t)user * 64);

        EXPECT(cuMemAllocAsync_ptsz(&p, KIB(20), NULL) == 0);
        EXPECT(cuMemsetD8Async_ptsz(p, mark, KIB(20), NULL) == 0);
        EXPECT(cuMemAllocAsync(&q, KIB(20), CU_STREAM_PER_THREAD) == 0);
        EXPECT(cuMemcpyDtoDAsync_v2(q, p, KIB(20), CU_STREAM_PER_THREAD) == 0);
        EXPECT(cuMemFreeAsync(p, CU_STREAM_PER_THREAD) == 0);
        EXPECT(cuStreamSynchronize_ptsz(NULL) == 0);
        wrong += !check_holds(q, KIB(20), mark);
        EXPECT(cuMemFreeAsync_ptsz(q, NULL) == 0);
    }
    return (void *)(uintptr_t)wrong;
}

static pthread_barrier_t turns;

/* What another thread has freed in the order of its own stream, with work on it still to come. */
static void *reuse_in_own_stream(void *user)
{
    CUdeviceptr q[3] = {0};
    size_t wrong = 0;

    EXPECT(cuCtxSetCurrent(check_context) == 0 && cuStreamSynchronize_ptsz(NULL) == 0);
    pthread_barrier_wait(&turns);
    pthread_barrier_wait(&turns);
    for (size_t i = 0; i < COUNT(q); i++) {
        EXPECT(cuMemAllocAsync_ptsz(&q[i], KIB(50), NULL) == 0);
        EXPECT(cuMemsetD8Async_ptsz(q[i], 0x11, KIB(50), NULL) == 0);
    }
    check_gate_open();
    EXPECT(cuStreamSynchronize_ptsz(NULL) == 0);
    pthread_barrier_wait(&turns);
    pthread_barrier_wait(&turns);
    for (size_t i = 0; i < COUNT(q); i++) {
        wrong += !check_holds(q[i], KIB(50), 0x11);
        EXPECT(cuMemFreeAsync_ptsz(q[i], NULL) == 0);
    }
    return (void *)(uintptr_t)wrong;
}

static void threads_have_streams_of_their_own(void)
{
    pthread_t thread;
    CUdeviceptr p = 0;
    void *wrong = NULL;

    check_gate_close();
    EXPECT(pthread_barrier_init(&turns, NULL, 2) == 0);
    EXPECT(pthread_create(&thread, NULL, reuse_in_own_stream, NULL) == 0);
    pthread_barrier_wait(&turns);
    EXPECT(cuMemAllocAsync_ptsz(&p, KIB(50), NULL) == 0);
    EXPECT(cuLaunchHostFunc_ptsz(NULL, check_wait_at_gate, NULL) == 0);
    EXPECT(cuMemsetD8Async_ptsz(p, 0xee, KIB(50), NULL) == 0);
    EXPECT(cuMemFreeAsync_ptsz(p, NULL) == 0);
    pthread_barrier_wait(&turns);
    pthread_barrier_wait(&turns);
    EXPECT(cuStreamSynchronize_ptsz(NULL) == 0);
    pthread_barrier_wait(&turns);
    pthread_join(thread, &wrong);
    SEEN("blocks written late by another thread: %zu\n", (size_t)(uintptr_t)wrong);
}

/*
 * A block that `user` still writes to is freed in `freer`, which waits for it: how many bytes of a
 * third stream's block are written late. With `more`, `freer` asks for so much between.
 */
static size_t written_behind(CUstream user, CUstream freer, size_t more)
{
    CUdeviceptr p = 0, q = 0, of_third = 0;
    CUstream third;
    size_t wrong;

    check_gate_close();
    EXPECT(cuStreamCreate(&third, CU_STREAM_NON_BLOCKING) == 0);
    EXPECT(cuMemAllocAsync(&p, MIB(100), freer) == 0 && cuCtxSynchronize() == 0);
    EXPECT(cuLaunchHostFunc(user, check_wait_at_gate, NULL) == 0);
    EXPECT(cuMemsetD8Async(p, 0xee, MIB(100), user) == 0);
    EXPECT(cuMemFreeAsync(p, freer) == 0);
    if (more > 0)
        EXPECT(cuMemAllocAsync(&q, more, freer) == 0 && cuMemFreeAsync(q, freer) == 0);
    EXPECT(cuMemAllocAsync(&of_third, MIB(90), third) == 0);
    EXPECT(cuMemsetD8Async(of_third, 0x11, MIB(90), third) == 0);
    check_gate_open();
    EXPECT(cuCtxSynchronize() == 0);
    wrong = MIB(90) - check_count(of_third, MIB(90), 0x11);
    EXPECT(cuMemFreeAsync(of_third, third) == 0 && cuCtxSynchronize() == 0);
    EXPECT(cuStreamDestroy_v2(third) == 0);
    return wrong;
}

static void keep_in_pool(cuuint64_t threshold)
{
    CUmemoryPool pool;

    EXPECT(cuDeviceGetDefaultMemPool(&pool, 0) == 0);
    EXPECT(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold) == 0);
}

static void legacy_and_blocking_streams_wait_for_each_other(void)
{
    CUstream blocking;

    EXPECT(cuStreamCreate(&blocking, CU_STREAM_DEFAULT) == 0);
    keep_in_pool(UINT64_MAX);
    for (size_t more = 0; more <= MIB(200); more += MIB(200)) {
        SEEN("freed in the legacy stream: %zu\n", written_behind(blocking, NULL, more));
        SEEN("freed in a blocking stream: %zu\n", written_behind(NULL, blocking, more));
    }
    keep_in_pool(0);
    EXPECT(cuStreamDestroy_v2(blocking) == 0);
}

void item_34_default_streams(void)
{
    CUstream streams[] = {NULL, CU_STREAM_LEGACY, CU_STREAM_PER_THREAD};
    pthread_t threads[3];
    CUdeviceptr p = 0;

    check_up();
    for (size_t i = 0; i < COUNT(streams); i++) {
        for (size_t k = 0; k < COUNT(streams); k++) {
            SEEN("alloc on %zu: %d", i, cuMemAllocAsync(&p, KIB(9), streams[i]));
            EXPECT(cuMemsetD8Async(p, 0x17, KIB(9), streams[i]) == 0);
            EXPECT(cuStreamSynchronize(streams[i]) == 0);
            printf(" holds %d", check_holds(p, KIB(9), 0x17));
            printf(" free on %zu: %d\n", k, cuMemFreeAsync(p, streams[k]));
        }
        SEEN("per-thread alloc on %zu: %d", i, cuMemAllocAsync_ptsz(&p, KIB(9), streams[i]));
        EXPECT(cuStreamSynchronize_ptsz(streams[i]) == 0);
        printf(" free %d\n", cuMemFreeAsync_ptsz(p, streams[i]));
        EXPECT(cuCtxSynchronize() == 0);
    }
    for (uintptr_t i = 0; i < COUNT(threads); i++)
        EXPECT(pthread_create(&threads[i], NULL, use_thread_stream, (void *)(i + 1)) == 0);
    for (size_t i = 0; i < COUNT(threads); i++) {
        void *wrong = NULL;

        pthread_join(threads[i], &wrong);
        SEEN("wrong contents: %zu\n", (size_t)(uintptr_t)wrong);
    }
    threads_have_streams_of_their_own();
    legacy_and_blocking_streams_wait_for_each_other();
}

/* A new stream may have an old one's handle; it has nothing to do with its order. */
void item_35_stream_handles_again(void)
{
    unsigned long long last_id = 0, id = 0;
    size_t wrong = 0, same_id = 0;
    CUdeviceptr kept = 0;

    check_up();
    for (int i = 0; i < 100; i++) {
        CUstream stream = check_stream();
        CUdeviceptr p = 0, q = 0;

        EXPECT(cuStreamGetId(stream, &id) == 0);
        same_id += id == last_id;
        last_id = id;
        EXPECT(cuMemAllocAsync(&p, KIB(33), stream) == 0);
        EXPECT(cuMemsetD8Async(p, (unsigned char)i, KIB(33), stream) == 0);
        EXPECT(cuMemAllocAsync(&q, KIB(33), stream) == 0);
        EXPECT(cuMemcpyDtoDAsync_v2(q, p, KIB(33), stream) == 0);
        EXPECT(cuMemFreeAsync(p, stream) == 0);
        EXPECT(cuStreamDestroy_v2(stream) == 0);
        stream = check_stream();
        EXPECT(cuMemAllocAsync(&p, KIB(33), stream) == 0);
        EXPECT(cuMemsetD8Async(p, 0xff, KIB(33), stream) == 0);
        EXPECT(cuMemFreeAsync(p, stream) == 0);
        EXPECT(cuCtxSynchronize() == 0);
        wrong += !check_holds(q, KIB(33), (unsigned char)i);
        if (kept)
            EXPECT(cuMemFreeAsync(kept, stream) == 0);
        kept = q;
        EXPECT(cuStreamDestroy_v2(stream) == 0);
    }
    SEEN("wrong contents: %zu, ids used twice: %zu\n", wrong, same_id);
    SEEN("the last one: %d\n", cuMemFree_v2(kept));
}

#define CHURN_BLOCKS 16

static void *churn(void *user)
{
    unsigned char mark = (unsigned char)(uintptr_t)user;
    CUdeviceptr p[CHURN_BLOCKS];

    EXPECT(cuCtxSetCurrent(check_context) == 0);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < CHURN_BLOCKS; i++) {
            p[i] = check_alloc((size_t)513 << (i % 13));
            EXPECT(cuMemsetD8_v2(p[i], (unsigned char)(mark + i), (size_t)513 << (i % 13)) == 0);
        }
        for (int i = 0; i < CHURN_BLOCKS; i++) {
            EXPECT(check_holds(p[i], (size_t)513 << (i % 13), (unsigned char)(mark + i)));
            EXPECT(cuMemFree_v2(p[i]) == 0);
        }
    }
    return NULL;
}

static CUdeviceptr callback_blocks[2];
static CUresult callback_results[6];

static void call_from_callback(void *user)
{
    size_t free_size, total;
    CUdeviceptr p = 0;

    callback_results[0] = cuMemAlloc_v2(&p, KIB(4));
    for (int i = 0; i < 2; i++) {
        CUresult result = cuMemFree_v2(callback_blocks[i]);

        callback_results[1 + i] = check_lazy(result, CUDA_ERROR_NOT_PERMITTED);
        if (result != callback_results[1 + i])
            callback_blocks[i] = 0;
    }
    callback_results[3] = cuMemGetInfo_v2(&free_size, &total);
    callback_results[4] = cuMemGetAddressRange_v2(&p, NULL, callback_blocks[0]);
    callback_results[5] = cuMemAllocAsync(&p, KIB(4), NULL);
}

void item_36_threads_and_callbacks(void)
{
    pthread_t threads[4];

    check_up();
    for (uintptr_t i = 0; i < COUNT(threads); i++)
        EXPECT(pthread_create(&threads[i], NULL, churn, (void *)(i * 32)) == 0);
    for (size_t i = 0; i < COUNT(threads); i++)
        pthread_join(threads[i], NULL);
    EXPECT(cuMemFree_v2(check_alloc(KIB(4))) == 0);
    callback_blocks[0] = check_alloc(KIB(4));
    callback_blocks[1] = check_alloc(MIB(4));
    EXPECT(cuLaunchHostFunc(check_stream(), call_from_callback, NULL) == 0);
    EXPECT(cuCtxSynchronize() == 0);
    SEEN("in a callback:");
    for (size_t i = 0; i < COUNT(callback_results); i++)
        printf(" %d", callback_results[i]);
    printf("\n");
    SEEN("afterwards: %d", cuMemFree_v2(callback_blocks[0]));
    printf(" %d\n", cuMemFree_v2(callback_blocks[1]));
}
