/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls of device_order.c and device_plan.c that Berth serves, on top of alloc/ without a
 * preload library: so that a sanitizer sees the pool. The driver's own functions are those of the
 * simulation. At the end the account must add up to nothing, and a plan must have been met.
 */
#include "alloc/device_context.h"
#include "alloc/options.h"
#include "alloc/order.h"
#include "alloc/pool.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_lazy.h"
#include "alloc/pool_plan.h"
#include "alloc/pool_stream.h"
#include "alloc/pool_tend.h"
#include "cuda_api.h"
#include "device_order.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#define LIMIT "12M"

static void load_plan(const char *path)
{
    FILE *file = path ? fopen(path, "rb") : NULL;
    char why[256] = "it cannot be read", *bytes = NULL;
    size_t size = 0, room = 0;

    if (!path)
        return;
    while (file && !feof(file)) {
        bytes = realloc(bytes, room = room * 2 + 4096);
        size += fread(bytes + size, 1, room - size, file);
    }
    if (!file || berth__pool_plan_load(bytes, size, why, sizeof(why)) < 0) {
        fprintf(stderr, "%s: %s\n", path, why);
        exit(1);
    }
    fclose(file);
    free(bytes);
}

__attribute__((constructor)) static void bind_driver(void)
{
    void *handle = dlopen("libcuda.so.1", RTLD_NOW);

#define X(name, parameters) *(void **)&berth__driver.name = dlsym(handle, #name);
    BERTH_DRIVER_USED(X)
    BERTH_DRIVER_HOOKED(X)
#undef X
    berth__device_register();
    berth__options_parse(getenv("BERTH_OPTIONS"), BERTH_ORIGIN_ENVIRONMENT, NULL, NULL);
    load_plan(getenv("BERTH_PLAN"));
}

static berth_cu_stream meaning(CUstream stream)
{
    return stream ? (berth_cu_stream)(void *)stream : BERTH_STREAM_LEGACY;
}

static CUresult answer(int r)
{
    return (CUresult)berth__device_result(r);
}

CUresult cuCtxSetCurrent(CUcontext context)
{
    berth__context_changed();
    return (CUresult)berth__driver.cuCtxSetCurrent((berth_cu_context)(void *)context);
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size)
{
    const struct berth_pool_request request = {.size = size, .tier = BERTH_TIER_DEVICE};
    uintptr_t block = 0;
    int r = berth__pool_alloc(&request, &block);

    *address = block;
    return answer(r);
}

CUresult cuMemAllocAsync(CUdeviceptr *address, size_t size, CUstream stream)
{
    const struct berth_pool_request request = {.size = size, .tier = BERTH_TIER_DEVICE};
    uintptr_t block = 0;
    int r = berth__device_capturing() ? BERTH_POOL_FORWARD
                                      : berth__stream_alloc(&request, meaning(stream), &block);

    if (r == BERTH_POOL_FORWARD)
        return (CUresult)berth__driver.cuMemAllocAsync(address, size, meaning(stream));
    *address = block;
    return answer(r);
}

CUresult cuMemFree_v2(CUdeviceptr address)
{
    struct berth_stream_block *block;
    CUresult result;
    int r = berth__pool_free(address);

    if (r != BERTH_POOL_FORWARD)
        return answer(r);
    if (berth__stream_leave_begin(address, &block) < 0)
        return (CUresult)berth__driver.cuMemFree_v2(address);
    result = (CUresult)berth__driver.cuMemFree_v2(address);
    berth__stream_leave_end(block, result == CUDA_SUCCESS);
    return result;
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream)
{
    struct berth_block_view view;
    struct berth_stream_block *block;
    CUresult result;
    int r = berth__stream_free(address, meaning(stream));

    if (r == 0)
        return CUDA_SUCCESS;
    if (berth__pool_find(address, &view) == 0) {
        berth_free_async_function function = berth__driver.cuMemFreeAsync;

        if (berth__device_capturing())
            berth__driver.cuStreamSynchronize(meaning(stream));
        return answer(berth__device_capturing()
                          ? berth__pool_free_in_order(address, function, meaning(stream))
                          : berth__pool_free_later(address, function, meaning(stream)));
    }
    if (berth__stream_leave_begin(address, &block) < 0)
        return (CUresult)berth__driver.cuMemFreeAsync(address, meaning(stream));
    result = (CUresult)berth__driver.cuMemFreeAsync(address, meaning(stream));
    berth__stream_leave_end(block, result == CUDA_SUCCESS);
    return result;
}

CUresult cuStreamCreate(CUstream *stream, unsigned int flags)
{
    CUresult result = (CUresult)berth__driver.cuStreamCreate((berth_cu_stream *)stream, flags);

    if (result == CUDA_SUCCESS)
        berth__stream_made((berth_cu_stream)(void *)*stream);
    return result;
}

CUresult cuStreamDestroy_v2(CUstream handle)
{
    struct berth_stream *stream =
        berth__stream_destroy_begin((berth_cu_stream)(void *)handle, berth__stream_retire);
    CUresult result = (CUresult)berth__driver.cuStreamDestroy_v2((berth_cu_stream)(void *)handle);

    berth__stream_destroy_end(stream, result == CUDA_SUCCESS);
    return result;
}

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode)
{
    CUresult result;

    berth__lazy_reclaim_pools();
    berth__order_shut();
    berth__order_shut_to_waits();
    result =
        (CUresult)berth__driver.cuStreamBeginCapture_v2((berth_cu_stream)(void *)stream, (int)mode);
    if (result == CUDA_SUCCESS)
        atomic_fetch_add(&berth__device_captures, 1);
    berth__order_open_to_waits();
    berth__order_open();
    return result;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
    CUresult result = (CUresult)berth__driver.cuStreamEndCapture((berth_cu_stream)(void *)stream,
                                                                 (berth_cu_graph *)graph);

    atomic_fetch_sub(&berth__device_captures, 1);
    return result;
}

void device_order_checkpoint(void)
{
    uint64_t waiting = berth__lazy_waiting(BERTH_POOL_ALL_DEVICES);
    uint64_t most = berth__option(BERTH_OPTION_WAITING_MAX);

    if (waiting <= most)
        return;
    fprintf(stderr, "%llu bytes wait of %llu that may\n", (unsigned long long)waiting,
            (unsigned long long)most);
    exit(1);
}

void device_plan_trim(void)
{
    berth__pool_trim(BERTH_POOL_ALL_DEVICES, 0);
}

void device_plan_limit(bool is_bounded)
{
    static const char name[] = "device-limit", bound[] = LIMIT;
    char why[BERTH_OPTION_WHY_MAX];

    berth__option_set(name, sizeof(name) - 1, is_bounded ? bound : "0",
                      is_bounded ? sizeof(bound) - 1 : 1, BERTH_ORIGIN_COMMAND, why);
}

/* Destroys the context, as hooks/cuda_driver_context.c has it. */
CUresult cuDevicePrimaryCtxReset_v2(CUdevice device)
{
    bool is_held = berth__device_primary_hold(device, true);
    berth_cu_context context = berth__device_primary(device);
    CUresult result;

    berth__pool_doubt_begin();
    berth__pool_keep_begin(context, device);
    berth__stream_drop_begin(context);
    result = (CUresult)berth__driver.cuDevicePrimaryCtxReset_v2(device);
    berth__stream_drop_end(context, result == CUDA_SUCCESS, berth__stream_retire_idle);
    if (result == CUDA_SUCCESS && context) {
        berth__stream_context_gone(context);
        berth__context_changed_for_all();
        berth__pool_drop(context);
    }
    berth__pool_keep_end(device);
    berth__pool_doubt_end();
    berth__device_primary_let_go(device, is_held);
    return result;
}

/* A thread that waits in vain for its place, or comes and goes, is in no plan. */
static void check_plan(void)
{
    struct berth_pool_plan_reading plan;

    if (!berth__pool_plan_read(&plan)) {
        if (!getenv("BERTH_PLAN"))
            return;
        fprintf(stderr, "the plan was not read\n");
        exit(1);
    }
    printf("plan: %llu hits, %llu unknown, %llu occupied, %llu lent\n",
           (unsigned long long)plan.hits, (unsigned long long)plan.unknown,
           (unsigned long long)plan.occupied, (unsigned long long)plan.lent);
    /* Once it is over, few calls are hits, and many are lent memory. */
    if (getenv("BERTH_PLAN_ONCE") && plan.hits > 0 && plan.lent > 0)
        return;
    if (plan.hits > 0 && plan.hits >= (plan.hits + plan.unknown + plan.occupied) / 16)
        return;
    fprintf(stderr, "the plan is not followed\n");
    exit(1);
}

/* Everything was freed or ended with its context, and what waited has passed. */
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    struct berth_pool_audit audit;
    struct berth_stream_audit ordered;

    berth__lazy_reclaim_pools();
    berth__pool_audit(&audit);
    berth__stream_audit(&ordered);
    printf("%llu idle, %llu waiting reuses across streams; %llu points, %llu waits\n",
           (unsigned long long)berth__stream_counts.idle_reuses,
           (unsigned long long)berth__stream_counts.waiting_reuses,
           (unsigned long long)berth__lazy_counts.points,
           (unsigned long long)berth__lazy_counts.waits);
    if (audit.live_blocks != 0 || audit.waiting != 0 || ordered.live != 0 ||
        !berth__pools_are_valid()) {
        fprintf(stderr, "left: %llu blocks, %llu bytes waiting, %llu in order\n",
                (unsigned long long)audit.live_blocks, (unsigned long long)audit.waiting,
                (unsigned long long)ordered.live);
        exit(1);
    }
    check_plan();
    berth__context_changed_for_all();
    return (CUresult)berth__driver.cuDevicePrimaryCtxRelease_v2(device);
}
