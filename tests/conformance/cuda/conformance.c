/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a program cannot tell Berth from the driver. Method: each check asks for what the driver
 * documents and prints what it saw; it runs in a process of its own, and the whole output is
 * compared between a native run and one under Berth (compare.py). The numbers in comments are those
 * of the checklist of what a drop-in must keep.
 *
 * Where Berth differs on purpose the check prints nothing that differs, and says so.
 */
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static bool under_berth;

static bool holds(CUdeviceptr p, size_t size, unsigned char value)
{
    unsigned char *copy = malloc(size);
    bool same = true;

    EXPECT(cuMemcpyDtoH_v2(copy, p, size) == 0);
    for (size_t i = 0; i < size; i++)
        same = same && copy[i] == value;
    free(copy);
    return same;
}

/* 1, 2, 4, 8, 16 */
static void unusual_arguments(void)
{
    CUdeviceptr p = 42;
    size_t sizes[] = {1, 511, 512, 513, 4096, KIB(100), MIB(2) - 1, MIB(2), MIB(7) + 1};

    check_up();
    SEEN("size 0: %d\n", cuMemAlloc_v2(&p, 0));
    SEEN("no out argument: %d\n", cuMemAlloc_v2(NULL, 512));
    SEEN("more than there is: %d\n", cuMemAlloc_v2(&p, (size_t)1 << 50));
    SEEN("more than 64 bits: %d\n", cuMemAlloc_v2(&p, SIZE_MAX));
    SEEN("free of 0: %d\n", cuMemFree_v2(0));
    SEEN("free of 42: %d\n", cuMemFree_v2(42));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        SEEN("free of %zu: %d\n", sizes[i], cuMemFree_v2(check_alloc(sizes[i])));
}

/* 3.3-6: before the driver is up, and without a context. */
static void no_driver_no_context(void)
{
    CUdeviceptr p;
    size_t a, b;

    SEEN("before cuInit: %d %d\n", cuMemAlloc_v2(&p, 1), cuMemFree_v2(1));
    EXPECT(cuInit(0) == 0);
    SEEN("no context: %d %d %d\n", cuMemAlloc_v2(&p, 1), cuMemFree_v2(1), cuMemGetInfo_v2(&a, &b));
}

/* 9 */
static void double_and_interior_frees(void)
{
    CUdeviceptr small, large, other;

    check_up();
    small = check_alloc(KIB(4));
    other = check_alloc(KIB(4));
    large = check_alloc(MIB(4));
    EXPECT(cuMemsetD8_v2(small, 7, KIB(4)) == 0 && cuMemsetD8_v2(large, 8, MIB(4)) == 0);
    SEEN("interior: %d %d\n", cuMemFree_v2(small + 512), cuMemFree_v2(large + MIB(2)));
    EXPECT(holds(small, KIB(4), 7) && holds(large, MIB(4), 8));
    SEEN("frees: %d %d\n", cuMemFree_v2(small), cuMemFree_v2(large));
    SEEN("again: %d %d\n", cuMemFree_v2(small), cuMemFree_v2(large));
    SEEN("the neighbour: %d\n", cuMemFree_v2(other));
}

/* 4, 5: the cache never makes an allocation fail that the driver would have served. */
static void cached_memory_is_available(void)
{
    CUdeviceptr p[8], big;
    size_t free_size, total;

    check_up();
    EXPECT(cuMemGetInfo_v2(&free_size, &total) == 0);
    for (int i = 0; i < 8; i++)
        p[i] = check_alloc(free_size / 10 + (size_t)i * 512);
    for (int i = 0; i < 8; i++)
        EXPECT(cuMemFree_v2(p[i]) == 0);
    big = check_alloc(free_size / 10 * 9);
    SEEN("too much: %d\n", cuMemAlloc_v2(&p[0], free_size / 10 * 2));
    EXPECT(cuMemFree_v2(big) == 0);
    big = check_alloc(free_size / 10 * 9);
    EXPECT(cuMemFree_v2(big) == 0);
}

/* 5: nor anything else that takes device memory. */
static void cached_memory_is_available_to_all(void)
{
    CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                      .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
    CUmemGenericAllocationHandle handle;
    size_t free_size, total, pitch;
    CUdeviceptr p;

    check_up();
    EXPECT(cuMemGetInfo_v2(&free_size, &total) == 0);
    free_size = free_size / 10 * 9 / MIB(2) * MIB(2);
    EXPECT(cuMemFree_v2(check_alloc(free_size)) == 0);
    SEEN("physical memory: %d\n", cuMemCreate(&handle, free_size, &properties, 0));
    SEEN("release: %d\n", cuMemRelease(handle));
    EXPECT(cuMemFree_v2(check_alloc(free_size)) == 0);
    SEEN("pitched: %d\n", cuMemAllocPitch_v2(&p, &pitch, free_size / 1024, 1024, 4));
    EXPECT(cuMemFree_v2(p) == 0);
    EXPECT(cuMemFree_v2(check_alloc(free_size)) == 0);
    SEEN("stream-ordered: %d\n", cuMemAllocAsync(&p, free_size, NULL));
    EXPECT(cuMemFreeAsync(p, NULL) == 0);
}

/* 20 */
static void free_memory_is_what_can_be_had(void)
{
    size_t before, during, after, total, total_after;
    CUdeviceptr p;

    check_up();
    EXPECT(cuMemFree_v2(check_alloc(1)) == 0);
    EXPECT(cuMemGetInfo_v2(&before, &total) == 0);
    p = check_alloc(MIB(64));
    EXPECT(cuMemGetInfo_v2(&during, &total) == 0);
    SEEN("64 MiB take %zu\n", before - during);
    EXPECT(cuMemFree_v2(p) == 0);
    EXPECT(cuMemGetInfo_v2(&after, &total_after) == 0);
    SEEN("given back: %d, total %zu\n", after == before, total_after);
    SEEN("no out arguments: %d %d\n", cuMemGetInfo_v2(NULL, &total),
         cuMemGetInfo_v2(&before, NULL));
}

static _Atomic int gate, callback_ran;

static void wait_at_gate(void *user)
{
    while (!gate)
        usleep(100);
    callback_ran = 1;
}

static void pass_slowly(void *user)
{
    usleep(20000);
    callback_ran = 1;
}

/* 10, 11: a free waits for the work that was queued before it. */
static void frees_wait_for_queued_work(void)
{
    CUdeviceptr p, q;
    CUstream stream;

    check_up();
    EXPECT(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) == 0);
    p = check_alloc(KIB(64));
    EXPECT(cuLaunchHostFunc(stream, pass_slowly, NULL) == 0);
    EXPECT(cuMemsetD8Async(p, 0xee, KIB(64), stream) == 0);
    EXPECT(cuMemFree_v2(p) == 0);
    SEEN("the work is done: %d\n", callback_ran);
    q = check_alloc(KIB(64));
    EXPECT(cuMemsetD8_v2(q, 1, KIB(64)) == 0 && cuCtxSynchronize() == 0);
    EXPECT(holds(q, KIB(64), 1));
}

static void *allocate_then_open(void *user)
{
    CUdeviceptr p;

    EXPECT(cuCtxSetCurrent(check_context) == 0);
    for (int i = 0; i < 10; i++) {
        p = check_alloc(KIB(4));
        EXPECT(cuMemsetD8_v2(p, 1, 1) == 0);
    }
    gate = 1;
    return NULL;
}

/* 15: a free that waits holds up nobody who allocates. */
static void waiting_frees_hold_no_lock(void)
{
    CUstream stream;
    CUdeviceptr p;
    pthread_t thread;

    check_up();
    EXPECT(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) == 0);
    p = check_alloc(KIB(4));
    EXPECT(cuMemFree_v2(check_alloc(KIB(64))) == 0);
    EXPECT(cuLaunchHostFunc(stream, wait_at_gate, NULL) == 0);
    EXPECT(pthread_create(&thread, NULL, allocate_then_open, NULL) == 0);
    SEEN("free: %d\n", cuMemFree_v2(p));
    pthread_join(thread, NULL);
    SEEN("callback ran: %d\n", callback_ran);
}

/* 10: a copy between devices is work of its source's context too. */
static void copies_between_devices_hold_their_source(void)
{
    CUcontext second;
    CUdeviceptr from, to;

    check_up();
    if (cuDevicePrimaryCtxRetain(&second, 1) != 0)
        return;
    for (int i = 0; i < 20; i++) {
        EXPECT(cuCtxSetCurrent(check_context) == 0);
        from = check_alloc(MIB(3));
        EXPECT(cuMemsetD8_v2(from, (unsigned char)i, MIB(3)) == 0);
        EXPECT(cuCtxSetCurrent(second) == 0);
        to = check_alloc(MIB(3));
        EXPECT(cuMemcpyPeer(to, second, from, check_context, MIB(3)) == 0);
        EXPECT(cuMemFree_v2(from) == 0);
        EXPECT(holds(to, MIB(3), (unsigned char)i) && cuMemFree_v2(to) == 0);
    }
    SEEN("no context: %d\n", cuMemcpyPeer(1, NULL, 1, NULL, 0));
}

static void *free_without_context(void *user)
{
    CUdeviceptr *p = user;

    SEEN("without context: %d\n", cuMemFree_v2(p[0]));
    return NULL;
}

/* 14, 29 */
static void frees_from_anywhere(void)
{
    CUcontext second, other, found = NULL;
    CUdeviceptr p[2], q, r;
    pthread_t thread;

    check_up();
    p[0] = check_alloc(KIB(1));
    p[1] = check_alloc(MIB(3));
    EXPECT(pthread_create(&thread, NULL, free_without_context, p) == 0);
    pthread_join(thread, NULL);
    EXPECT(cuCtxCreate_v2(&second, 0, 0) == 0);
    q = check_alloc(KIB(1));
    EXPECT(cuCtxCreate_v2(&other, 0, 1) == 0);
    r = check_alloc(KIB(1));
    SEEN("other device current: %d\n", cuMemFree_v2(p[1]));
    EXPECT(cuPointerGetAttribute(&found, CU_POINTER_ATTRIBUTE_CONTEXT, q) == 0);
    EXPECT(found == second);
    EXPECT(cuPointerGetAttribute(&found, CU_POINTER_ATTRIBUTE_CONTEXT, r) == 0);
    EXPECT(found == other);
    EXPECT(cuCtxGetCurrent(&found) == 0 && found == other);
    SEEN("frees: %d %d\n", cuMemFree_v2(q), cuMemFree_v2(r));
}

/* 17 */
static void address_ranges(void)
{
    CUdeviceptr p[3], base = 0;
    size_t size = 0, sizes[3] = {1000, KIB(4), MIB(5) + 3};

    check_up();
    for (int i = 0; i < 3; i++)
        p[i] = check_alloc(sizes[i]);
    for (int i = 0; i < 3; i++) {
        EXPECT(cuMemGetAddressRange_v2(&base, &size, p[i] + sizes[i] - 1) == 0);
        EXPECT(base == p[i] && size == sizes[i]);
        size = 0;
        EXPECT(cuMemGetAddressRange_v2(NULL, &size, p[i]) == 0 && size == sizes[i]);
        EXPECT(cuMemGetAddressRange_v2(&base, NULL, p[i]) == 0 && base == p[i]);
        SEEN("no out arguments: %d\n", cuMemGetAddressRange_v2(NULL, NULL, p[i]));
    }
    for (int i = 0; i < 3; i++)
        EXPECT(cuMemFree_v2(p[i]) == 0);
    for (int i = 0; i < 3; i++)
        SEEN("freed: %d\n", cuMemGetAddressRange_v2(&base, &size, p[i]));
}

static unsigned long long buffer_id(CUdeviceptr p)
{
    unsigned long long id = 0;

    EXPECT(cuPointerGetAttribute(&id, CU_POINTER_ATTRIBUTE_BUFFER_ID, p) == 0);
    return id;
}

/* 18, 19 */
static void pointer_attributes(void)
{
    CUpointer_attribute list[] = {
        CU_POINTER_ATTRIBUTE_MEMORY_TYPE,      CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
        CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, CU_POINTER_ATTRIBUTE_RANGE_SIZE,
        CU_POINTER_ATTRIBUTE_IS_MANAGED,       CU_POINTER_ATTRIBUTE_CONTEXT};
    unsigned int type = 9, managed = 0;
    int ordinal = 9;
    CUdeviceptr start = 9, p;
    CUcontext owner = NULL;
    size_t size = 9;
    void *values[] = {&type, &ordinal, &start, &size, &managed, &owner};
    unsigned long long first, second;
    int local = 0;

    check_up();
    p = check_alloc(3000);
    EXPECT(cuPointerGetAttributes(6, list, values, p + 2999) == 0);
    EXPECT(start == p && size == 3000 && owner == check_context);
    SEEN("type %u ordinal %d managed %d\n", type, ordinal, managed != 0);
    first = buffer_id(p);
    EXPECT(first == buffer_id(p + 2999));
    EXPECT(cuMemFree_v2(p) == 0);
    SEEN("freed: %d\n", cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p));
    SEEN("freed, many: %d", cuPointerGetAttributes(6, list, values, p));
    printf(" %u %d %d\n", type, start == 0, owner == NULL);
    p = check_alloc(3000);
    second = buffer_id(p);
    SEEN("id is new: %d\n", first != second && second != buffer_id(check_alloc(3000)));
    SEEN("host: %d\n", cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                             (CUdeviceptr)(uintptr_t)&local));
    SEEN("host, many: %d", cuPointerGetAttributes(6, list, values, (CUdeviceptr)(uintptr_t)&local));
    printf(" %u %d %d\n", type, start == 0, owner == NULL);
}

/* 21 */
static void synchronous_copies(void)
{
    unsigned int on = 1, off = 0, a = 9, b = 9;
    CUdeviceptr p, q;

    check_up();
    p = check_alloc(512);
    q = check_alloc(512);
    SEEN("set: %d\n", cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p));
    EXPECT(cuPointerGetAttribute(&a, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p) == 0);
    EXPECT(cuPointerGetAttribute(&b, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, q) == 0);
    SEEN("own %u, neighbour's %u\n", a, b);
    SEEN("clear: %d\n", cuPointerSetAttribute(&off, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p));
    EXPECT(cuPointerGetAttribute(&a, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p) == 0);
    SEEN("then %u\n", a);
    SEEN("other attribute: %d\n", cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_CONTEXT, p));
}

/* 22, 23 */
static void ipc_handles(void)
{
    CUipcMemHandle first, second, none;
    CUdeviceptr p, q, small;
    CUresult result;

    check_up();
    p = check_alloc(MIB(4));
    EXPECT(cuMemsetD8_v2(p, 0x5a, MIB(4)) == 0);
    SEEN("handle: %d\n", cuIpcGetMemHandle(&first, p));
    SEEN("not memory: %d\n", cuIpcGetMemHandle(&none, 42));
    EXPECT(cuMemFree_v2(p) == 0);
    SEEN("freed: %d\n", cuIpcGetMemHandle(&none, p));
    q = check_alloc(MIB(4));
    SEEN("second handle: %d\n", cuIpcGetMemHandle(&second, q));
    SEEN("differ: %d\n", memcmp(&first, &second, sizeof(first)) != 0);
    /* Natively small blocks can be exported, with their neighbours; under Berth from ipc-min on. */
    small = check_alloc(KIB(4));
    result = cuIpcGetMemHandle(&none, small);
    EXPECT(result == 0 || (under_berth && result == CUDA_ERROR_INVALID_VALUE));
    SEEN("frees: %d %d\n", cuMemFree_v2(q), cuMemFree_v2(small));
}

/* 28 */
static void contexts_take_their_memory_along(void)
{
    CUcontext second;
    CUdeviceptr p, q;

    check_up();
    p = check_alloc(KIB(4));
    q = check_alloc(MIB(4));
    EXPECT(cuMemFree_v2(check_alloc(MIB(3))) == 0);
    SEEN("reset: %d\n", cuDevicePrimaryCtxReset_v2(0));
    EXPECT(cuDevicePrimaryCtxRetain(&check_context, 0) == 0 && cuCtxSetCurrent(check_context) == 0);
    SEEN("stale: %d %d\n", cuMemFree_v2(p), cuMemFree_v2(q));
    EXPECT(cuMemFree_v2(check_alloc(KIB(4))) == 0);
    EXPECT(cuCtxCreate_v2(&second, 0, 0) == 0);
    p = check_alloc(KIB(4));
    q = check_alloc(MIB(4));
    SEEN("destroy: %d\n", cuCtxDestroy_v2(second));
    EXPECT(cuCtxSetCurrent(check_context) == 0);
    SEEN("stale: %d %d\n", cuMemFree_v2(p), cuMemFree_v2(q));
    p = check_alloc(KIB(4));
    SEEN("release: %d\n", cuDevicePrimaryCtxRelease_v2(0));
    SEEN("stale: %d\n", cuMemFree_v2(p));
}

/* 31 */
static void captures_forbid_and_allow(void)
{
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    CUstream stream;
    CUgraph graph = NULL;
    CUdeviceptr p = 0, before, other;

    check_up();
    before = check_alloc(KIB(4));
    other = check_alloc(KIB(4));
    EXPECT(cuMemFree_v2(check_alloc(MIB(4))) == 0);
    EXPECT(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) == 0);
    EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL) == 0);
    SEEN("global: alloc %d\n", cuMemAlloc_v2(&p, MIB(4)));
    SEEN("global: end %d\n", cuStreamEndCapture(stream, &graph));
    EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL) == 0);
    SEEN("global: free %d\n", cuMemFree_v2(before));
    SEEN("global: end %d\n", cuStreamEndCapture(stream, &graph));
    EXPECT(cuThreadExchangeStreamCaptureMode(&mode) == 0);
    EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED) == 0);
    SEEN("relaxed: alloc %d\n", cuMemAlloc_v2(&p, KIB(4)));
    EXPECT(cuMemsetD8Async(p, 3, KIB(4), stream) == 0);
    SEEN("relaxed: free %d\n", cuMemFree_v2(other));
    SEEN("relaxed: again %d\n", cuMemFree_v2(other));
    SEEN("relaxed: end %d\n", cuStreamEndCapture(stream, &graph));
    SEEN("after: %d %d\n", cuMemFree_v2(p), cuMemFree_v2(before));
    EXPECT(cuMemFree_v2(check_alloc(KIB(4))) == 0);
}

/* 31: a capture may end by the destruction of what it lives in. */
static void captures_end_with_their_stream(void)
{
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    size_t before, after, total;
    CUcontext second;
    CUstream stream;
    CUdeviceptr p;

    check_up();
    EXPECT(cuThreadExchangeStreamCaptureMode(&mode) == 0);
    EXPECT(cuMemFree_v2(check_alloc(KIB(64))) == 0 && cuMemGetInfo_v2(&before, &total) == 0);
    p = check_alloc(KIB(64));
    EXPECT(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) == 0);
    EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED) == 0);
    SEEN("destroy stream: %d\n", cuStreamDestroy_v2(stream));
    EXPECT(cuCtxCreate_v2(&second, 0, 0) == 0);
    EXPECT(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) == 0);
    EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED) == 0);
    SEEN("destroy context: %d\n", cuCtxDestroy_v2(second));
    EXPECT(cuCtxSetCurrent(check_context) == 0);
    EXPECT(cuMemFree_v2(p) == 0);
    /* What was freed in a capture that is still open would not be there. */
    EXPECT(cuMemGetInfo_v2(&after, &total) == 0);
    SEEN("given back: %d\n", before == after);
}

/* 7, 12, 13, 33 */
static void stream_ordered_memory(void)
{
    CUstream stream;
    CUgraph graph = NULL;
    CUdeviceptr p = 0, q;
    size_t nodes = 0;

    check_up();
    EXPECT(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) == 0);
    SEEN("alloc: %d\n", cuMemAllocAsync(&p, KIB(5), stream));
    SEEN("size 0: %d\n", cuMemAllocAsync(&q, 0, stream));
    SEEN("freed async: %d\n", cuMemFreeAsync(p, stream));
    EXPECT(cuMemAllocAsync_ptsz(&p, KIB(5), NULL) == 0);
    SEEN("freed by cuMemFree: %d\n", cuMemFree_v2(p));
    q = check_alloc(KIB(5));
    SEEN("cuMemAlloc's, freed async: %d\n", cuMemFreeAsync(q, stream));
    q = check_alloc(MIB(5));
    SEEN("a large one: %d\n", cuMemFreeAsync_ptsz(q, NULL));
    EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL) == 0);
    SEEN("captured: %d", cuMemAllocAsync(&p, KIB(5), stream));
    printf(" %d\n", cuMemFreeAsync(p, stream));
    EXPECT(cuStreamEndCapture(stream, &graph) == 0);
    EXPECT(cuGraphGetNodes(graph, NULL, &nodes) == 0);
    SEEN("nodes: %zu\n", nodes);
}

/* 6, 7 */
static void other_kinds_of_memory(void)
{
    CUdeviceptr pitched, managed;
    static char own[3 * 4096];
    void *host, *mapped;
    size_t pitch = 0;

    check_up();
    SEEN("pitched: %d", cuMemAllocPitch_v2(&pitched, &pitch, 1000, 7, 4));
    printf(" pitch %zu\n", pitch);
    SEEN("managed: %d\n", cuMemAllocManaged(&managed, MIB(1), CU_MEM_ATTACH_GLOBAL));
    SEEN("host: %d\n", cuMemAllocHost_v2(&host, 5000));
    SEEN("mapped: %d\n", cuMemHostAlloc(&mapped, 5000, CU_MEMHOSTALLOC_DEVICEMAP));
    SEEN("register: %d\n", cuMemHostRegister_v2(own + 100, 5000, 0));
    SEEN("unregister: %d\n", cuMemHostUnregister(own + 100));
    SEEN("again: %d\n", cuMemHostUnregister(own + 100));
    memset(host, 1, 5000);
    SEEN("frees: %d %d %d %d\n", cuMemFree_v2(pitched), cuMemFree_v2(managed), cuMemFreeHost(host),
         cuMemFreeHost(mapped));
    SEEN("again: %d\n", cuMemFreeHost(host));
}

static void *churn(void *user)
{
    unsigned char mark = (unsigned char)(uintptr_t)user;
    CUdeviceptr p[16];

    EXPECT(cuCtxSetCurrent(check_context) == 0);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 16; i++) {
            p[i] = check_alloc((size_t)513 << (i % 7));
            EXPECT(cuMemsetD8_v2(p[i], (unsigned char)(mark + i), (size_t)513 << (i % 7)) == 0);
        }
        for (int i = 0; i < 16; i++) {
            EXPECT(holds(p[i], (size_t)513 << (i % 7), (unsigned char)(mark + i)));
            EXPECT(cuMemFree_v2(p[i]) == 0);
        }
    }
    return NULL;
}

/* 36 */
static void threads_keep_their_contents(void)
{
    pthread_t threads[4];

    check_up();
    for (uintptr_t i = 0; i < 4; i++)
        EXPECT(pthread_create(&threads[i], NULL, churn, (void *)(i * 32)) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

/* 45 */
static void a_forked_child_is_refused_as_by_the_driver(void)
{
    CUdeviceptr p, q = 0;
    size_t size = 0;
    int status;
    pid_t pid;

    check_up();
    p = check_alloc(KIB(4));
    EXPECT(cuMemFree_v2(check_alloc(KIB(8))) == 0);
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        SEEN("child: %d\n", cuMemAlloc_v2(&q, KIB(4)));
        SEEN("child: %d\n", cuMemFree_v2(p));
        SEEN("child: %d\n", cuMemGetAddressRange_v2(&q, &size, p));
        SEEN("child: %d\n", cuPointerGetAttribute(&q, CU_POINTER_ATTRIBUTE_BUFFER_ID, p));
        SEEN("child: %d\n", cuMemGetInfo_v2(&size, &size));
        fflush(stdout);
        _exit(0);
    }
    EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
    SEEN("parent: %d\n", cuMemFree_v2(p));
}

static CUdeviceptr at_exit_block;

static void free_at_exit(void)
{
    CUresult result = cuMemFree_v2(at_exit_block);

    SEEN("at exit: %d\n", result);
    fflush(stdout);
}

/* 37 */
static void frees_at_exit(void)
{
    atexit(free_at_exit);
    check_up();
    at_exit_block = check_alloc(KIB(4));
    exit(0);
}

/* 48 and pitfall 5 */
static void proc_addresses(void)
{
    CUdriverProcAddressQueryResult status = 9;
    CUresult (*v1)(const char *, void **, int, cuuint64_t) = NULL;
    CUresult (*v2)(const char *, void **, int, cuuint64_t, CUdriverProcAddressQueryResult *) = NULL;
    CUresult (*allocate)(CUdeviceptr *, size_t) = NULL;
    void *found = &status;
    CUdeviceptr p;
    CUresult result;

    check_up();
    result = cuGetProcAddress_v2("cuMemAlloc", &found, 99000, 0, &status);
    SEEN("newer than the driver: %d %d\n", result, found == NULL);
    found = &status;
    result = cuGetProcAddress_v2("cuNoSuchThing", &found, 12000, 0, &status);
    SEEN("missing: %d %d %d\n", result, found == NULL, status);
    result = cuGetProcAddress_v2("", &found, 12000, 0, &status);
    SEEN("empty: %d %d\n", result, status);
    result = cuGetProcAddress_v2("cuMemAlloc", &found, 1000, 0, &status);
    SEEN("too old: %d %d %d\n", result, found == NULL, status);
    SEEN("no name: %d\n", cuGetProcAddress_v2(NULL, &found, 12000, 0, &status));
    EXPECT(cuGetProcAddress_v2("cuGetProcAddress", (void **)&v1, 11030, 0, NULL) == 0 && v1);
    EXPECT(cuGetProcAddress_v2("cuGetProcAddress", (void **)&v2, 12000, 0, NULL) == 0 && v2);
    SEEN("of itself: %d\n", (void *)v1 != (void *)v2);
    EXPECT(v1("cuMemAlloc", (void **)&allocate, 3020, 0) == 0 && allocate(&p, KIB(4)) == 0);
    status = 9;
    EXPECT(v2("cuMemAlloc", (void **)&allocate, 3020, 0, &status) == 0 && status == 0);
    EXPECT(allocate(&p, KIB(4)) == 0 && cuMemFree_v2(p) == 0);
    EXPECT(v2("cuMemAllocAsync", &found, 11020, 0, NULL) == 0);
    EXPECT(v2("cuMemAllocAsync", (void **)&v1, 11020, 2, NULL) == 0);
    SEEN("stream variants differ: %d\n", found != (void *)v1);
}

static const struct check checks[] = {
    CHECK(unusual_arguments),
    CHECK(no_driver_no_context),
    CHECK(double_and_interior_frees),
    CHECK(cached_memory_is_available),
    CHECK(cached_memory_is_available_to_all),
    CHECK(free_memory_is_what_can_be_had),
    CHECK(frees_wait_for_queued_work),
    CHECK(waiting_frees_hold_no_lock),
    CHECK(frees_from_anywhere),
    CHECK(copies_between_devices_hold_their_source),
    CHECK(address_ranges),
    CHECK(pointer_attributes),
    CHECK(synchronous_copies),
    CHECK(ipc_handles),
    CHECK(contexts_take_their_memory_along),
    CHECK(captures_forbid_and_allow),
    CHECK(captures_end_with_their_stream),
    CHECK(stream_ordered_memory),
    CHECK(other_kinds_of_memory),
    CHECK(threads_keep_their_contents),
    CHECK(a_forked_child_is_refused_as_by_the_driver),
    CHECK(frees_at_exit),
    CHECK(proc_addresses),
};

int main(int argc, char **argv)
{
    under_berth = dlsym(RTLD_DEFAULT, "berth_api_v1") != NULL;
    return checks_run(checks, sizeof(checks) / sizeof(checks[0]), argc, argv);
}
