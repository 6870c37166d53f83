/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workload: some threads allocate and free, wait for, make and destroy streams of their own, while
 * others capture graphs: two at once, ended in either order, with a stream that joins, and begun at
 * any moment of the first ones' calls. Goal: what the program does is allowed, so no call fails and
 * no capture is spoilt by a call that Berth makes for itself (cuCtxSynchronize, cuEventQuery);
 * graphs do what was captured; and the memory that a graph allocates and frees itself is nobody
 * else's, before it is launched and after. Seeded; prints the seed.
 *
 * Usage: device_capture SEED GRAPHS FREERS CAPTURERS. Nothing here depends on the simulated driver.
 *
 * Which unsafe calls of another thread a capture allows: all, if it is thread-local or relaxed; if
 * it is global, those of threads in relaxed mode (cuThreadExchangeStreamCaptureMode). So there are
 * two rounds: captures of those two modes, then global ones, with every other freeing thread
 * relaxed and the others making no unsafe call at all.
 */
#include "cuda_api.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define SIZE ((size_t)1 << 16)

static CUcontext context;
static uint64_t seed_base, graphs_wanted;
static bool is_global;                /* the round */
static atomic_int capturing, unready; /* threads that capture, or are to */
static atomic_ullong pairs, graphs;

/*
 * Pairs of one thread beside the same captures. What is freed while a capture is open serves again
 * after it (libberth(7), deviations): a capturing thread that is not let at the processor must not
 * have the others take all memory meanwhile.
 */
#define PAIRS_BESIDE 20

#define CALL(call)                                                                                 \
    do {                                                                                           \
        CUresult result_ = (call);                                                                 \
        if (result_ != CUDA_SUCCESS) {                                                             \
            fprintf(stderr, "%s:%d: %s answered %d (seed %llu, %s captures)\n", __FILE__,          \
                    __LINE__, #call, (int)result_, (unsigned long long)seed_base,                  \
                    is_global ? "global" : "other");                                               \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static uint64_t draw(uint64_t *seed, uint64_t below)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return (*seed >> 11) % below;
}

/* A capture of two streams, whose graph fills a block with two values, half and half. */
struct capture {
    CUstream origin, joined;
    CUevent fork, join;
    CUdeviceptr block;
    CUdeviceptr inner; /* allocated and freed by the graph */
    unsigned char value;
};

static void capture_begin(struct capture *capture, uint64_t *seed)
{
    CUstreamCaptureMode mode = is_global       ? CU_STREAM_CAPTURE_MODE_GLOBAL
                               : draw(seed, 2) ? CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
                                               : CU_STREAM_CAPTURE_MODE_RELAXED;

    capture->value = (unsigned char)draw(seed, 255);
    CALL(cuStreamBeginCapture_v2(capture->origin, mode));
    CALL(cuEventRecord(capture->fork, capture->origin));
    CALL(cuStreamWaitEvent(capture->joined, capture->fork, 0));
    CALL(cuMemAllocAsync(&capture->inner, SIZE, capture->origin));
    CALL(cuMemsetD8Async(capture->inner, capture->value, SIZE, capture->origin));
    CALL(cuMemcpyDtoDAsync_v2(capture->block, capture->inner, SIZE / 2, capture->origin));
    CALL(cuMemFreeAsync(capture->inner, capture->origin));
    CALL(cuMemsetD8Async(capture->block + SIZE / 2, (unsigned char)(capture->value + 1), SIZE / 2,
                         capture->joined));
    CALL(cuEventRecord(capture->join, capture->joined));
    CALL(cuStreamWaitEvent(capture->origin, capture->join, 0));
}

static CUgraphExec capture_end(const struct capture *capture)
{
    CUstreamCaptureStatus status = 9;
    CUgraphExec exec = NULL;
    CUgraph graph = NULL;

    CALL(cuStreamIsCapturing(capture->origin, &status));
    if (status != CU_STREAM_CAPTURE_STATUS_ACTIVE) {
        fprintf(stderr, "a capture is spoilt: status %d (seed %llu, %s captures)\n", (int)status,
                (unsigned long long)seed_base, is_global ? "global" : "other");
        exit(1);
    }
    CALL(cuStreamEndCapture(capture->origin, &graph));
    CALL(cuGraphInstantiateWithFlags(&exec, graph, 0));
    CALL(cuGraphDestroy(graph));
    return exec;
}

static void check_bytes(const unsigned char *host, size_t size, unsigned char value,
                        const char *what)
{
    for (size_t i = 0; i < size; i++) {
        if (host[i] == value)
            continue;
        fprintf(stderr, "byte %zu of %s is wrong (seed %llu, %s captures)\n", i, what,
                (unsigned long long)seed_base, is_global ? "global" : "other");
        exit(1);
    }
}

/* Beside a block of the size that the graph allocates, in the same stream. */
static void check_fill(const struct capture *capture, CUgraphExec exec, unsigned char *host)
{
    unsigned char other = (unsigned char)(capture->value + 2);
    CUdeviceptr mine;

    CALL(cuMemAllocAsync(&mine, SIZE, capture->origin));
    CALL(cuMemsetD8Async(mine, other, SIZE, capture->origin));
    CALL(cuGraphLaunch(exec, capture->origin));
    CALL(cuMemcpyDtoHAsync_v2(host, capture->block, SIZE, capture->origin));
    CALL(cuMemcpyDtoHAsync_v2(host + SIZE, mine, SIZE, capture->origin));
    CALL(cuMemFreeAsync(mine, capture->origin));
    CALL(cuStreamSynchronize(capture->origin));
    CALL(cuGraphExecDestroy(exec));
    check_bytes(host, SIZE / 2, capture->value, "what a graph filled");
    check_bytes(host + SIZE / 2, SIZE / 2, (unsigned char)(capture->value + 1),
                "what a graph's second stream filled");
    check_bytes(host + SIZE, SIZE, other, "what no graph knows of");
}

/* Between the two, and between captures, there are moments without any: then frees synchronise. */
static void *capture_all(void *argument)
{
    uint64_t seed = (uint64_t)(uintptr_t)argument;
    struct capture captures[2];
    CUgraphExec execs[2];
    unsigned char *host;

    CALL(cuCtxSetCurrent(context));
    CALL(cuMemAllocHost_v2((void **)&host, 2 * SIZE));
    for (unsigned i = 0; i < 2; i++) {
        CALL(cuStreamCreate(&captures[i].origin, CU_STREAM_NON_BLOCKING));
        CALL(cuStreamCreate(&captures[i].joined, CU_STREAM_NON_BLOCKING));
        CALL(cuEventCreate(&captures[i].fork, CU_EVENT_DISABLE_TIMING));
        CALL(cuEventCreate(&captures[i].join, CU_EVENT_DISABLE_TIMING));
        CALL(cuMemAllocAsync(&captures[i].block, SIZE, captures[i].origin));
        CALL(cuStreamSynchronize(captures[i].origin));
    }
    /* What is allocated above may not be while another one captures. */
    atomic_fetch_sub(&unready, 1);
    while (atomic_load(&unready) > 0)
        sched_yield();
    while (atomic_fetch_add(&graphs, 2) < graphs_wanted) {
        unsigned first = (unsigned)draw(&seed, 2);

        capture_begin(&captures[0], &seed);
        capture_begin(&captures[1], &seed);
        execs[first] = capture_end(&captures[first]);
        execs[1 - first] = capture_end(&captures[1 - first]);
        for (unsigned i = 0; i < 2; i++)
            check_fill(&captures[i], execs[i], host);
    }
    atomic_fetch_sub(&capturing, 1);
    return NULL;
}

static void allocate_and_free(uint64_t *seed, CUstream stream, bool is_careful)
{
    static const size_t sizes[] = {512, SIZE, (size_t)3 << 20};
    size_t size = sizes[draw(seed, 3)];
    CUdeviceptr block;

    if (is_careful || draw(seed, 4) == 0) {
        CALL(cuMemAllocAsync(&block, size, stream));
        CALL(cuMemsetD8Async(block, 1, size, stream));
        CALL(cuMemFreeAsync(block, stream));
    } else {
        CALL(cuMemAlloc_v2(&block, size));
        CALL(cuMemsetD8Async(block, 2, size, stream));
        CALL(cuMemFree_v2(block));
    }
    atomic_fetch_add(&pairs, 1);
}

/* Waits for other captures after so many pairs. */
static void go_along(unsigned long long *captured, unsigned *beside)
{
    if (atomic_load(&graphs) != *captured)
        *beside = 0;
    *captured = atomic_load(&graphs);
    if (++*beside < PAIRS_BESIDE)
        return;
    while (atomic_load(&graphs) == *captured && atomic_load(&capturing) > 0)
        sched_yield();
}

static void *free_all(void *argument)
{
    unsigned long long captured = 0;
    unsigned beside = 0;
    uint64_t seed = (uint64_t)(uintptr_t)argument;
    bool is_careful = is_global && seed % 2;
    CUstreamCaptureMode mode =
        is_global && !is_careful ? CU_STREAM_CAPTURE_MODE_RELAXED : CU_STREAM_CAPTURE_MODE_GLOBAL;
    CUstream stream;

    CALL(cuCtxSetCurrent(context));
    CALL(cuThreadExchangeStreamCaptureMode(&mode));
    CALL(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    while (atomic_load(&capturing) > 0) {
        allocate_and_free(&seed, stream, is_careful);
        go_along(&captured, &beside);
        if (draw(&seed, 16) > 0)
            continue;
        CALL(cuStreamDestroy_v2(stream));
        CALL(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    }
    CALL(cuStreamDestroy_v2(stream));
    return NULL;
}

static void round_of(unsigned freers, unsigned capturers, uint64_t seed)
{
    pthread_t *threads = calloc(capturers + freers, sizeof(*threads));
    pthread_t *others = threads + capturers;

    if (!threads)
        exit(1);
    atomic_store(&graphs, 0);
    atomic_store(&capturing, (int)capturers);
    atomic_store(&unready, (int)capturers);
    for (unsigned i = 0; i < capturers; i++)
        pthread_create(&threads[i], NULL, capture_all, (void *)(uintptr_t)(seed + i));
    for (unsigned i = 0; i < freers; i++)
        pthread_create(&others[i], NULL, free_all, (void *)(uintptr_t)(seed + 100 + i));
    for (unsigned i = 0; i < capturers; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < freers; i++)
        pthread_join(others[i], NULL);
    free(threads);
}

int main(int argc, char **argv)
{
    unsigned freers = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 2;
    unsigned capturers = argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : 2;

    seed_base = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    graphs_wanted = argc > 2 ? strtoull(argv[2], NULL, 10) : 2000;
    CALL(cuInit(0));
    CALL(cuDevicePrimaryCtxRetain(&context, 0));
    CALL(cuCtxSetCurrent(context));
    for (unsigned i = 0; i < 2; i++) {
        is_global = i == 1;
        round_of(freers, capturers, seed_base * 1000003 + i * 7919 + 1);
    }
    printf("seed %llu: %llu pairs beside captures\n", (unsigned long long)seed_base,
           (unsigned long long)atomic_load(&pairs));
    return 0;
}
