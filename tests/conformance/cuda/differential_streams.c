/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: as differential.c, for memory that comes and goes in the order of streams. Method: random
 * calls from a seed on streams that come and go too, in captures and outside, with contents that
 * stream work writes and checks. Each block has its last use on one stream, which is where it is
 * freed; another stream waits for an event before it touches the block. Usage:
 * differential_streams SEED [STEPS]
 */
#include "cuda_api.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 40
#define STREAMS 5 /* the legacy one, the thread's, three that come and go */
#define SIZE_MAX_LOG 23

enum kind { NONE, DEVICE, ORDERED, FROM_POOL };

struct slot {
    enum kind kind;
    CUdeviceptr address;
    size_t size;
    int stream; /* that used it last */
    unsigned char fill;
    unsigned long long id;
};

static struct slot slots[SLOTS];
static CUstream streams[STREAMS] = {NULL, CU_STREAM_PER_THREAD};
static CUmemoryPool own_pool, default_pool;
static CUcontext context;
static CUevent event;
static unsigned char *host;
static uint64_t seed;

static uint64_t draw(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (seed >> 11) % below;
}

/* Work on `stream` comes after what the block's last stream was given so far. */
static void move_to(struct slot *slot, int stream)
{
    if (slot->stream == stream)
        return;
    printf(" after %d", cuEventRecord(event, streams[slot->stream]));
    printf(" %d", cuStreamWaitEvent(streams[stream], event, 0));
    slot->stream = stream;
}

static void fill(struct slot *slot)
{
    slot->fill = (unsigned char)draw(256);
    printf(" fill %d",
           cuMemsetD8Async(slot->address, slot->fill, slot->size, streams[slot->stream]));
}

static void check(const struct slot *slot)
{
    size_t wrong = 0;

    memset(host, slot->fill + 1, slot->size);
    printf(" read %d",
           cuMemcpyDtoHAsync_v2(host, slot->address, slot->size, streams[slot->stream]));
    printf(" %d", cuStreamSynchronize(streams[slot->stream]));
    for (size_t i = 0; i < slot->size; i++)
        wrong += host[i] != slot->fill;
    printf(" wrong %d", wrong != 0);
}

static bool is_new(unsigned long long id)
{
    for (int i = 0; i < SLOTS; i++)
        if (slots[i].kind != NONE && slots[i].id == id)
            return false;
    return true;
}

static void allocate(struct slot *slot)
{
    static const enum kind kinds[] = {ORDERED, ORDERED, ORDERED, FROM_POOL, DEVICE};
    enum kind kind = kinds[draw(5)];
    CUresult result;

    slot->size = 1 + draw((uint64_t)1 << draw(SIZE_MAX_LOG));
    slot->stream = (int)draw(STREAMS);
    printf(" alloc kind %d of %zu on %d:", (int)kind, slot->size, slot->stream);
    if (kind == DEVICE)
        result = cuMemAlloc_v2(&slot->address, slot->size);
    else if (kind == FROM_POOL)
        result =
            cuMemAllocFromPoolAsync(&slot->address, slot->size, own_pool, streams[slot->stream]);
    else if (slot->stream == 0 && draw(2))
        result = cuMemAllocAsync_ptsz(&slot->address, slot->size, CU_STREAM_LEGACY);
    else
        result = cuMemAllocAsync(&slot->address, slot->size, streams[slot->stream]);
    printf(" %d aligned %d", result, slot->address % 256 == 0);
    if (result != 0)
        return;
    result = cuPointerGetAttribute(&slot->id, CU_POINTER_ATTRIBUTE_BUFFER_ID, slot->address);
    printf(" id %d new %d", result, is_new(slot->id));
    slot->kind = kind;
    fill(slot);
}

static void release(struct slot *slot)
{
    CUdeviceptr address = slot->address;
    bool is_async = draw(4) != 0;

    if (draw(3) == 0)
        move_to(slot, (int)draw(STREAMS));
    /* cuMemFree waits for no work on stream-ordered memory (cuda_runtime_api.h, cudaFree). */
    if (draw(2) || (!is_async && slot->kind != DEVICE))
        check(slot);
    if (!is_async)
        printf(" free: %d", cuMemFree_v2(address));
    else
        printf(" free async on %d: %d", slot->stream,
               cuMemFreeAsync(address, streams[slot->stream]));
    slot->kind = NONE;
}

static void ask(const struct slot *slot)
{
    CUdeviceptr at = slot->address + draw(slot->size), base = 0;
    CUmemoryPool pool = NULL;
    CUcontext owner = NULL;
    unsigned type = 9;
    size_t size = 0;
    CUresult result = cuMemGetAddressRange_v2(&base, &size, at);

    printf(" range %d %d %zu", result, base == slot->address, size);
    result = cuPointerGetAttribute(&pool, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, at);
    printf(" pool %d %d", result, pool == NULL ? 0 : pool == default_pool ? 1 : 2);
    result = cuPointerGetAttribute(&owner, CU_POINTER_ATTRIBUTE_CONTEXT, at);
    printf(" context %d %d", result, owner == context);
    result = cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, at);
    printf(" type %d %u", result, type);
}

static void do_wrong(const struct slot *slot)
{
    CUdeviceptr p = 0;

    switch (draw(6)) {
    case 0:
        printf(" interior: %d", cuMemFreeAsync(slot->address + 1, streams[draw(STREAMS)]));
        break;
    case 1:
        printf(" nothing: %d", cuMemFreeAsync(draw(2), streams[draw(STREAMS)]));
        break;
    case 2:
        printf(" size 0: %d", cuMemAllocAsync(&p, 0, streams[draw(STREAMS)]));
        break;
    case 3:
        printf(" no pool: %d", cuMemAllocFromPoolAsync(&p, 5, NULL, streams[draw(STREAMS)]));
        break;
    case 4:
        printf(" too much: %d", cuMemAllocAsync(&p, (size_t)1 << 45, streams[draw(STREAMS)]));
        break;
    default:
        printf(" as host memory: %d", cuMemFreeHost((void *)(uintptr_t)slot->address));
        break;
    }
}

/* A stream goes, with work on its way; its blocks are now used by another one. */
static void renew_stream(void)
{
    int old = 2 + (int)draw(STREAMS - 2), heir = (int)draw(2);

    for (int i = 0; i < SLOTS; i++)
        if (slots[i].kind != NONE && slots[i].stream == old)
            move_to(&slots[i], heir);
    printf(" destroy stream %d: %d", old, cuStreamDestroy_v2(streams[old]));
    printf(" create: %d", cuStreamCreate(&streams[old], (unsigned)draw(2)));
}

static void capture(void)
{
    int number = 2 + (int)draw(STREAMS - 2), other = 2 + (number - 1) % (STREAMS - 2);
    CUstreamCaptureMode mode = (CUstreamCaptureMode)draw(3), relaxed = 2;
    CUstream stream = streams[number];
    size_t size = 1 + draw((uint64_t)1 << draw(20));
    CUdeviceptr inner = 0, plain = 0, beside = 0;
    CUgraph graph = NULL;
    CUgraphExec exec = NULL;
    CUresult result;

    if (mode == CU_STREAM_CAPTURE_MODE_RELAXED)
        cuThreadExchangeStreamCaptureMode(&relaxed);
    printf(" capture %d on %d: %d", (int)mode, number, cuStreamBeginCapture_v2(stream, mode));
    printf(" alloc %d", cuMemAllocAsync(&inner, size, stream));
    printf(" fill %d", cuMemsetD8Async(inner, 7, size, stream));
    if (mode == CU_STREAM_CAPTURE_MODE_RELAXED) {
        printf(" plain %d", cuMemAlloc_v2(&plain, size));
        printf(" %d", cuMemFree_v2(plain));
    }
    printf(" beside %d", cuMemAllocAsync(&beside, size, streams[other]));
    printf(" %d", cuMemFreeAsync(beside, streams[other]));
    printf(" free %d", cuMemFreeAsync(inner, stream));
    if (draw(8) == 0)
        printf(" spoil %d", cuMemAlloc_v2(&plain, 5) == 0 ? cuMemFree_v2(plain) : 900);
    result = cuStreamEndCapture(stream, &graph);
    printf(" end %d", result);
    if (mode == CU_STREAM_CAPTURE_MODE_RELAXED)
        cuThreadExchangeStreamCaptureMode(&relaxed);
    if (result != 0)
        return;
    printf(" instantiate %d", cuGraphInstantiateWithFlags(&exec, graph, 0));
    for (int i = 0; i < 2; i++)
        printf(" launch %d", cuGraphLaunch(exec, stream));
    printf(" destroy %d", cuStreamSynchronize(stream));
    printf(" %d %d", cuGraphExecDestroy(exec), cuGraphDestroy(graph));
}

static void change_pool(void)
{
    cuuint64_t threshold = draw(2) ? 0 : (cuuint64_t)draw((uint64_t)1 << 30);
    CUmemoryPool found = NULL;
    int value = (int)draw(2);

    switch (draw(5)) {
    case 0:
        printf(" trim: %d", cuMemPoolTrimTo(default_pool, 0));
        break;
    case 1:
        printf(" threshold: %d",
               cuMemPoolSetAttribute(default_pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold));
        break;
    case 2:
        printf(
            " opportunistic: %d",
            cuMemPoolSetAttribute(default_pool, CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC, &value));
        break;
    case 3:
        printf(" dependencies: %d",
               cuMemPoolSetAttribute(default_pool,
                                     CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES, &value));
        break;
    default:
        printf(" choose: %d", cuDeviceSetMemPool(0, draw(2) ? own_pool : default_pool));
        printf(" %d", cuDeviceGetMemPool(&found, 0));
        printf(" %d", found == default_pool);
        break;
    }
}

static int start(void)
{
    CUmemPoolProps properties = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                 .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
    CUresult result = cuInit(0);

    if (result == 0)
        result = cuDevicePrimaryCtxRetain(&context, 0);
    if (result == 0)
        result = cuCtxSetCurrent(context);
    for (int i = 2; i < STREAMS && result == 0; i++)
        result = cuStreamCreate(&streams[i], i == 2 ? CU_STREAM_DEFAULT : CU_STREAM_NON_BLOCKING);
    if (result == 0)
        result = cuEventCreate(&event, CU_EVENT_DISABLE_TIMING);
    if (result == 0)
        result = cuMemPoolCreate(&own_pool, &properties);
    if (result == 0)
        result = cuDeviceGetDefaultMemPool(&default_pool, 0);
    host = malloc((size_t)1 << SIZE_MAX_LOG);
    return host ? (int)result : -1;
}

static void step_once(struct slot *slot)
{
    uint64_t what = draw(100);

    if (what < 2)
        renew_stream();
    else if (what < 4)
        capture();
    else if (what < 6)
        change_pool();
    else if (what < 7)
        printf(" idle %d", cuCtxSynchronize());
    else if (slot->kind == NONE)
        allocate(slot);
    else if (what < 55)
        release(slot);
    else if (what < 70)
        ask(slot);
    else if (what < 80)
        do_wrong(slot);
    else if (what < 90)
        check(slot);
    else {
        move_to(slot, (int)draw(STREAMS));
        fill(slot);
    }
}

int main(int argc, char **argv)
{
    long steps = argc > 2 ? atol(argv[2]) : 4000;
    int r;

    seed = (argc > 1 ? strtoull(argv[1], NULL, 0) : 1) * 0x9e3779b97f4a7c15u | 1;
    r = start();
    if (r != 0)
        return printf("start: %d\n", r) > 0;
    for (long step = 0; step < steps; step++) {
        struct slot *slot = &slots[draw(SLOTS)];

        printf("%ld: slot %d", step, (int)(slot - slots));
        step_once(slot);
        printf("\n");
    }
    printf("idle %d\n", cuCtxSynchronize());
    return 0;
}
