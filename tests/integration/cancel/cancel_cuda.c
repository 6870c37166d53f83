/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no thread that was told to end (pthread_cancel(3)) ends in a call of the driver's memory,
 * whatever Berth does for it: files, waits, memory that goes back. Method: see points.h; on the
 * simulated driver, whose own waits are cancellation points.
 */
#include "cuda_api.h"
#include "points.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

#define MIB(n) ((size_t)(n) << 20)
#define COUNT 12

static CUcontext context;
static CUstream stream;
static atomic_bool is_open;

static void start_up(void)
{
    EXPECT(cuInit(0) == CUDA_SUCCESS);
    EXPECT(cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS);
    EXPECT(cuCtxSetCurrent(context) == CUDA_SUCCESS);
}

static void have_stream(void)
{
    if (!context)
        start_up();
    if (!stream)
        EXPECT(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) == CUDA_SUCCESS);
}

static void get(CUdeviceptr *p, size_t size)
{
    EXPECT(cuMemAlloc_v2(p, size) == CUDA_SUCCESS);
}

static void put(CUdeviceptr p)
{
    EXPECT(cuMemFree_v2(p) == CUDA_SUCCESS);
}

/* Of the pool's caches and segments, whole ones, and more than there is at once. */
static void allocate(void)
{
    CUdeviceptr p[COUNT], large = 0;
    size_t left, total;

    EXPECT(cuCtxSetCurrent(context) == CUDA_SUCCESS);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < COUNT; i++)
            get(&p[i], i % 2 ? MIB(4) : (size_t)700 << i);
        for (int i = 0; i < COUNT; i++)
            put(p[i]);
    }
    EXPECT(cuMemGetInfo_v2(&left, &total) == CUDA_SUCCESS);
    get(&large, total / 8 * 7);
    put(large);
    get(&large, total / 16 * 13);
    put(large);
    EXPECT(cuMemAlloc_v2(&large, 2 * total) == CUDA_ERROR_OUT_OF_MEMORY);
}

static void allocate_in_order(void)
{
    CUmemoryPool pool;
    CUdeviceptr p[COUNT];

    EXPECT(cuCtxSetCurrent(context) == CUDA_SUCCESS);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < COUNT; i++)
            EXPECT(cuMemAllocAsync(&p[i], i % 2 ? MIB(4) : (size_t)700 << i, stream) ==
                   CUDA_SUCCESS);
        for (int i = 0; i < COUNT; i++)
            EXPECT(cuMemFreeAsync(p[i], stream) == CUDA_SUCCESS);
    }
    EXPECT(cuDeviceGetDefaultMemPool(&pool, 0) == CUDA_SUCCESS);
    EXPECT(cuMemPoolTrimTo(pool, 0) == CUDA_SUCCESS);
}

/* For cuLaunchHostFunc. */
static void wait_at_gate(void *unused)
{
    (void)unused;
    while (!atomic_load(&is_open))
        sched_yield();
}

/* Opens the gate once the thread that is watched waits, or is over it. */
static void *keep_gate(void *unused)
{
    (void)unused;
    points_await_wait();
    atomic_store(&is_open, true);
    return NULL;
}

static pthread_t keeper;

/* Work that lasts until somebody waits for it. */
static void hold(void)
{
    have_stream();
    atomic_store(&is_open, false);
    EXPECT(cuLaunchHostFunc(stream, wait_at_gate, NULL) == CUDA_SUCCESS);
    EXPECT(pthread_create(&keeper, NULL, keep_gate, NULL) == 0);
}

static void let_go(void)
{
    EXPECT(pthread_join(keeper, NULL) == 0);
    EXPECT(cuCtxSynchronize() == CUDA_SUCCESS);
}

/* Behind work that is held up: what is freed is wanted again, and more of it than may wait. */
static void free_behind_work(void)
{
    CUdeviceptr p[COUNT], large = 0;
    size_t left, total;

    EXPECT(cuCtxSetCurrent(context) == CUDA_SUCCESS);
    EXPECT(cuMemGetInfo_v2(&left, &total) == CUDA_SUCCESS);
    for (int i = 0; i < COUNT; i++)
        get(&p[i], total / 16);
    for (int i = 0; i < COUNT; i++)
        put(p[i]);
    get(&large, total / 16 * 13);
    put(large);
}

static void free_in_order_behind_work(void)
{
    CUdeviceptr p[COUNT], large = 0;
    size_t left, total;

    EXPECT(cuCtxSetCurrent(context) == CUDA_SUCCESS);
    EXPECT(cuMemGetInfo_v2(&left, &total) == CUDA_SUCCESS);
    for (int i = 0; i < COUNT; i++)
        EXPECT(cuMemAllocAsync(&p[i], total / 32, stream) == CUDA_SUCCESS);
    for (int i = 0; i < COUNT; i++)
        EXPECT(cuMemFreeAsync(p[i], stream) == CUDA_SUCCESS);
    get(&large, total / 16 * 13);
    put(large);
}

int main(int argc, char **argv)
{
    static const struct situation situations[] = {
        {.name = "start-up", .run = start_up},
        {.name = "allocate", .run = allocate, .begin = have_stream},
        {.name = "in-order", .run = allocate_in_order, .begin = have_stream},
        {.name = "behind-work", .run = free_behind_work, .begin = hold, .end = let_go},
        {.name = "in-order-behind-work",
         .run = free_in_order_behind_work,
         .begin = hold,
         .end = let_go},
    };

    return situations_run(situations, sizeof(situations) / sizeof(situations[0]), argc, argv);
}
