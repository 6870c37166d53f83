/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Graphs: captured ones that allocate, nodes of memory made by hand, child graphs, updates with
 * other addresses, and a conditional node whose body is captured; beside allocation all the time.
 */
#include "program.h"

static const size_t N = 300000;

/* Blocks of many sizes come and go, so that what was freed would be somebody else's. */
static void churn()
{
    void *p[24];

    for (int i = 0; i < 24; i++) {
        size_t size = (size_t)1000 << (i % 12);

        CHECK(cudaMalloc(&p[i], size));
        CHECK(cudaMemset(p[i], 0xee, size));
    }
    for (int i = 0; i < 24; i++)
        CHECK(cudaFree(p[i]));
}

static cudaGraph_t capture_steps(cudaStream_t stream, unsigned *result, unsigned seed)
{
    unsigned *inner;
    cudaGraph_t graph;

    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    CHECK(cudaMallocAsync(&inner, N * sizeof(unsigned), stream));
    fill<<<blocks_for(N), 256, 0, stream>>>(inner, seed, N);
    mix<<<blocks_for(N), 256, 0, stream>>>(result, inner, N);
    CHECK(cudaFreeAsync(inner, stream));
    CHECK(cudaStreamEndCapture(stream, &graph));
    return graph;
}

static void captured(cudaStream_t stream)
{
    unsigned *result;
    cudaGraphExec_t exec;
    cudaGraph_t graph;

    CHECK(cudaMalloc(&result, N * sizeof(unsigned)));
    graph = capture_steps(stream, result, 5);
    CHECK(cudaGraphInstantiate(&exec, graph, 0));
    for (int i = 0; i < 5; i++) {
        churn();
        CHECK(cudaMemset(result, 0, N * sizeof(unsigned)));
        CHECK(cudaGraphLaunch(exec, stream));
        printf("captured, launch %d: %08x\n", i, digest(result, N));
    }
    CHECK(cudaGraphExecDestroy(exec));
    CHECK(cudaGraphDestroy(graph));
    SEEN(cudaDeviceGraphMemTrim(0));
    CHECK(cudaFree(result));
}

static void capture_fill(cudaStream_t stream, unsigned *p, unsigned seed, cudaGraph_t *graph)
{
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    fill<<<blocks_for(N), 256, 0, stream>>>(p, seed, N);
    CHECK(cudaStreamEndCapture(stream, graph));
}

/* The executable graph's addresses are replaced; what it had is freed, and somebody else's. */
static void updated(cudaStream_t stream)
{
    unsigned *p, *q;
    cudaGraph_t first, second, parent;
    cudaGraphExec_t exec;
    cudaGraphExecUpdateResultInfo info;
    cudaGraphNode_t node;

    CHECK(cudaMalloc(&p, N * sizeof(unsigned)));
    capture_fill(stream, p, 1, &first);
    CHECK(cudaGraphInstantiate(&exec, first, 0));
    CHECK(cudaMalloc(&q, N * sizeof(unsigned)));
    capture_fill(stream, q, 2, &second);
    SEEN(cudaGraphExecUpdate(exec, second, &info));
    CHECK(cudaFree(p));
    CHECK(cudaMalloc(&p, N * sizeof(unsigned)));
    CHECK(cudaMemset(p, 0x11, N * sizeof(unsigned)));
    CHECK(cudaGraphLaunch(exec, stream));
    printf("updated: %08x, untouched: %08x\n", digest(q, N), digest(p, N));
    CHECK(cudaGraphCreate(&parent, 0));
    CHECK(cudaGraphAddChildGraphNode(&node, parent, NULL, 0, second));
    CHECK(cudaGraphExecDestroy(exec));
    CHECK(cudaGraphInstantiate(&exec, parent, 0));
    CHECK(cudaMemset(q, 0, N * sizeof(unsigned)));
    CHECK(cudaGraphLaunch(exec, stream));
    printf("as a child: %08x\n", digest(q, N));
    CHECK(cudaGraphExecDestroy(exec));
    CHECK(cudaFree(p));
    CHECK(cudaFree(q));
}

static void by_hand(cudaStream_t stream)
{
    cudaMemAllocNodeParams params = {};
    cudaGraph_t graph;
    cudaGraphNode_t node;
    cudaGraphExec_t exec;
    unsigned *p;

    params.poolProps.allocType = cudaMemAllocationTypePinned;
    params.poolProps.location.type = cudaMemLocationTypeDevice;
    params.bytesize = N * sizeof(unsigned);
    for (int is_async = 0; is_async < 2; is_async++) {
        CHECK(cudaGraphCreate(&graph, 0));
        CHECK(cudaGraphAddMemAllocNode(&node, graph, NULL, 0, &params));
        p = (unsigned *)params.dptr;
        CHECK(cudaGraphInstantiate(&exec, graph, 0));
        CHECK(cudaGraphLaunch(exec, stream));
        fill<<<blocks_for(N), 256, 0, stream>>>(p, 9, N);
        CHECK(cudaStreamSynchronize(stream));
        churn();
        printf("a node's memory: %08x\n", digest(p, N));
        SEEN(is_async ? cudaFreeAsync(p, stream) : cudaFree(p));
        CHECK(cudaStreamSynchronize(stream));
        CHECK(cudaGraphExecDestroy(exec));
        CHECK(cudaGraphDestroy(graph));
    }
}

/* A body that is run because its condition is 1 from the start of each launch. */
static void conditional(cudaStream_t stream)
{
    cudaGraphConditionalHandle handle;
    cudaGraphNodeParams params = {};
    cudaGraph_t graph, body;
    cudaGraphNode_t node;
    cudaGraphExec_t exec;
    unsigned *p;

    CHECK(cudaMalloc(&p, N * sizeof(unsigned)));
    CHECK(cudaMemset(p, 0, N * sizeof(unsigned)));
    CHECK(cudaGraphCreate(&graph, 0));
    CHECK(cudaGraphConditionalHandleCreate(&handle, graph, 1, cudaGraphCondAssignDefault));
    params.type = cudaGraphNodeTypeConditional;
    params.conditional.handle = handle;
    params.conditional.type = cudaGraphCondTypeIf;
    params.conditional.size = 1;
    CHECK(cudaGraphAddNode(&node, graph, NULL, NULL, 0, &params));
    body = params.conditional.phGraph_out[0];
    CHECK(cudaStreamBeginCaptureToGraph(stream, body, NULL, NULL, 0, cudaStreamCaptureModeGlobal));
    fill<<<blocks_for(N), 256, 0, stream>>>(p, 77, N);
    CHECK(cudaStreamEndCapture(stream, NULL));
    CHECK(cudaGraphInstantiate(&exec, graph, 0));
    for (int i = 0; i < 3; i++) {
        CHECK(cudaMemset(p, 0, N * sizeof(unsigned)));
        churn();
        CHECK(cudaGraphLaunch(exec, stream));
        printf("a conditional node's body: %08x\n", digest(p, N));
    }
    CHECK(cudaGraphExecDestroy(exec));
    CHECK(cudaFree(p));
}

int main()
{
    cudaStream_t stream;

    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    captured(stream);
    updated(stream);
    by_hand(stream);
    conditional(stream);
    return 0;
}
