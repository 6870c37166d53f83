/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what Berth keeps is never why a program is refused, or told that it has less. Method: each
 * check has most of a small device cached, and then needs it in another way: another kind of
 * memory, another device, a capture, a stream's order. See check.h.
 */
#include "check.h"

#include <stdint.h>
#include <string.h>

static CUcontext other_context; /* on device 1; NULL where there is one device only */
static CUstream stream, other_stream;
static size_t most; /* four fifths of what is free, in MiB that are whole */

static void up(void)
{
    size_t free_size, total;
    int devices = 0;

    check_up();
    EXPECT(cuMemGetInfo_v2(&free_size, &total) == 0);
    most = (free_size / 5 * 4) & ~(MIB(2) - 1);
    EXPECT(cuDeviceGetCount(&devices) == 0);
    if (devices > 1)
        EXPECT(cuDevicePrimaryCtxRetain(&other_context, 1) == 0);
    EXPECT(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) == 0);
    EXPECT(cuStreamCreate(&other_stream, CU_STREAM_NON_BLOCKING) == 0);
}

static void cache_most(CUcontext context)
{
    EXPECT(cuCtxSetCurrent(context) == 0);
    EXPECT(cuMemFree_v2(check_alloc(most)) == 0);
    EXPECT(cuCtxSetCurrent(check_context) == 0);
}

static void be_relaxed(void)
{
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;

    EXPECT(cuThreadExchangeStreamCaptureMode(&mode) == 0);
}

static void what_is_freed_is_free(void)
{
    static const size_t sizes[] = {1,       513,     700000,  1500000,  2097152,
                                   2097153, 2700000, 4194303, 12345678, 100000001};
    CUdeviceptr all[sizeof(sizes) / sizeof(sizes[0])];
    size_t before, after, total;

    up();
    EXPECT(cuMemGetInfo_v2(&before, &total) == 0);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        EXPECT(cuMemFree_v2(check_alloc(sizes[i])) == 0);
        EXPECT(cuMemGetInfo_v2(&after, &total) == 0);
        SEEN("%zu: %zu missing\n", sizes[i], before - after);
    }
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        all[i] = check_alloc(sizes[i]);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        EXPECT(cuMemFree_v2(all[i]) == 0);
    EXPECT(cuMemGetInfo_v2(&after, &total) == 0);
    SEEN("all: %zu missing\n", before - after);
}

static void other_kinds_find_room(void)
{
    CUdeviceptr p;
    size_t pitch;

    up();
    cache_most(check_context);
    SEEN("managed: %d\n", cuMemAllocManaged(&p, most, CU_MEM_ATTACH_GLOBAL));
    EXPECT(cuMemFree_v2(p) == 0);
    cache_most(check_context);
    SEEN("pitched: %d\n", cuMemAllocPitch_v2(&p, &pitch, MIB(1), most >> 20, 4));
    EXPECT(cuMemFree_v2(p) == 0);
    cache_most(check_context);
    SEEN("in stream order: %d\n", cuMemAllocAsync(&p, most, stream));
}

static void other_devices_find_room(void)
{
    CUmemAllocationProp properties;
    CUmemPoolProps pool_properties;
    CUmemGenericAllocationHandle handle = 0;
    CUmemoryPool pool;
    CUdeviceptr p;

    up();
    if (!other_context) {
        SEEN("there is one device only\n");
        return;
    }
    memset(&properties, 0, sizeof(properties));
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    properties.location.id = 1;
    cache_most(other_context);
    SEEN("create: %d", cuMemCreate(&handle, most, &properties, 0));
    printf(" %d\n", cuMemRelease(handle));
    cache_most(other_context);
    EXPECT(cuCtxSetCurrent(NULL) == 0);
    SEEN("create without a context: %d", cuMemCreate(&handle, most, &properties, 0));
    printf(" %d\n", cuMemRelease(handle));
    memset(&pool_properties, 0, sizeof(pool_properties));
    pool_properties.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    pool_properties.location = properties.location;
    EXPECT(cuMemPoolCreate(&pool, &pool_properties) == 0);
    cache_most(other_context);
    SEEN("from its pool: %d\n", cuMemAllocFromPoolAsync(&p, most, pool, stream));
}

/* 31, 32, 33 */
static void captures_find_room(void)
{
    CUgraph graph = NULL;
    CUdeviceptr p = 0;

    up();
    cache_most(check_context);
    EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL) == 0);
    SEEN("captured: %d", cuMemAllocAsync(&p, most, stream));
    printf(" %d\n", cuMemFreeAsync(p, stream));
    SEEN("end: %d", cuStreamEndCapture(stream, &graph));
    printf(" %d\n", cuGraphDestroy(graph));
    cache_most(check_context);
    be_relaxed();
    EXPECT(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED) == 0);
    SEEN("relaxed: %d\n", cuMemAlloc_v2(&p, most));
    SEEN("end: %d\n", cuStreamEndCapture(stream, &graph));
    SEEN("free: %d\n", cuMemFree_v2(p));
}

/* 13, 31: memory of cuMemAlloc, freed in stream order while some stream is captured. */
static void freed_in_order_beside_a_capture(void)
{
    static const CUstreamCaptureMode modes[] = {CU_STREAM_CAPTURE_MODE_GLOBAL,
                                                CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
                                                CU_STREAM_CAPTURE_MODE_RELAXED};

    up();
    for (int i = 0; i < 3; i++) {
        CUdeviceptr blocks[] = {check_alloc(KIB(4)), check_alloc(MIB(3))};
        CUgraph graph = NULL;

        EXPECT(cuStreamBeginCapture_v2(stream, modes[i]) == 0);
        for (int k = 0; k < 2; k++) {
            SEEN("mode %d: on the captured stream %d,", i, cuMemFreeAsync(blocks[k], stream));
            printf(" inside %d,", cuMemFreeAsync(blocks[k] + 8, other_stream));
            printf(" on another %d,", cuMemFreeAsync(blocks[k], other_stream));
            printf(" again %d\n", cuMemFreeAsync(blocks[k], other_stream));
        }
        SEEN("end: %d\n", cuStreamEndCapture(stream, &graph));
        SEEN("free: %d %d\n", cuMemFree_v2(blocks[0]), cuMemFree_v2(blocks[1]));
    }
}

/* 13, 14 */
static void freed_in_order_of_odd_streams(void)
{
    CUdeviceptr p;

    up();
    p = check_alloc(KIB(4));
    SEEN("inside: %d\n", cuMemFreeAsync(p + 8, stream));
    SEEN("no memory: %d\n", cuMemFreeAsync(12345, stream));
    if (other_context)
        EXPECT(cuCtxSetCurrent(other_context) == 0);
    SEEN("of another device: %d", cuMemFreeAsync(p, stream));
    printf(" again %d\n", cuMemFreeAsync(p, stream));
    EXPECT(cuCtxSetCurrent(check_context) == 0);
    p = check_alloc(KIB(4));
    EXPECT(cuCtxSetCurrent(NULL) == 0);
    SEEN("no context, default stream: %d", cuMemFreeAsync(p, NULL));
    printf(" a stream: %d", cuMemFreeAsync(p, stream));
    printf(" default again: %d\n", cuMemFreeAsync(p, NULL));
}

/* Blocks by two ways in turn until one is refused; the bytes. */
static size_t use_up(size_t size, CUmemoryPool pool, CUstream of)
{
    CUdeviceptr p;
    size_t bytes = 0;

    for (int i = 0;; i++) {
        CUresult result = i % 2 == 0 ? cuMemAlloc_v2(&p, size)
                          : pool     ? cuMemAllocFromPoolAsync(&p, size, pool, of)
                                     : cuMemAllocAsync(&p, size, of);

        if (result != CUDA_SUCCESS)
            return bytes;
        bytes += size;
    }
}

static CUresult wait_for_context(void)
{
    return cuCtxSynchronize();
}

static CUresult wait_for_stream(void)
{
    return cuStreamSynchronize(stream);
}

/*
 * 12: memory that was freed in a stream's order, and the stream waited for, is there for both kinds
 * of allocation, and not kept by the driver's pool for one of them. A block takes whole pieces of
 * 2 MiB, as many as natively, so that a quarter of the device is lost to rounding.
 */
static void freed_in_order(CUresult (*wait)(void), CUmemoryPool pool, CUstream of, bool is_held)
{
    size_t free_size, total;
    CUdeviceptr p;

    EXPECT(cuMemGetInfo_v2(&free_size, &total) == 0);
    EXPECT(cuMemAllocAsync(&p, most / 2, stream) == 0);
    EXPECT(cuMemFreeAsync(p, stream) == 0);
    EXPECT(wait() == 0);
    check_gate_close();
    if (is_held) {
        EXPECT(cuMemAllocAsync(&p, MIB(1), stream) == 0);
        EXPECT(cuLaunchHostFunc(stream, check_wait_at_gate, NULL) == 0);
        EXPECT(cuMemsetD8Async(p, 1, MIB(1), stream) == 0);
    }
    SEEN("seven tenths are served: %d\n", use_up(MIB(3), pool, of) >= free_size / 10 * 7);
    check_gate_open();
}

static void freed_in_order_by_the_same_stream(void)
{
    up();
    freed_in_order(wait_for_context, NULL, stream, false);
}

static void freed_in_order_by_another_stream(void)
{
    up();
    freed_in_order(wait_for_context, NULL, other_stream, false);
}

static void freed_in_order_and_asked_of_the_pool(void)
{
    CUmemoryPool pool = NULL;

    up();
    EXPECT(cuDeviceGetDefaultMemPool(&pool, 0) == 0);
    freed_in_order(wait_for_context, pool, stream, false);
}

/* The same beside work that was queued since, and is held up: natively nobody waits for it. */
static void freed_in_order_before_work(void)
{
    up();
    freed_in_order(wait_for_context, NULL, stream, true);
}

static void freed_in_order_before_work_of_another_stream(void)
{
    up();
    freed_in_order(wait_for_context, NULL, other_stream, true);
}

static void freed_in_order_of_a_stream_that_was_waited_for(void)
{
    up();
    freed_in_order(wait_for_stream, NULL, stream, true);
}

/*
 * 12, 39: although the driver's pool may keep what is free, nothing is lost for the other kind of
 * allocation in a piece of which a little lives. The blocks are whole pieces.
 */
static void freed_in_order_to_a_pool_that_keeps(CUstream of)
{
    uint64_t all = UINT64_MAX;
    CUmemoryPool pool = NULL;
    size_t free_size, total;
    CUdeviceptr p;

    EXPECT(cuDeviceGetDefaultMemPool(&pool, 0) == 0);
    EXPECT(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &all) == 0);
    EXPECT(cuMemGetInfo_v2(&free_size, &total) == 0);
    EXPECT(cuMemAllocAsync(&p, most / 2, stream) == 0);
    EXPECT(cuMemFreeAsync(p, stream) == 0);
    EXPECT(cuCtxSynchronize() == 0);
    SEEN("nearly all is served: %d\n", use_up(MIB(2), NULL, of) >= free_size / 100 * 99);
}

static void freed_in_order_to_a_pool_that_keeps_by_the_same_stream(void)
{
    up();
    freed_in_order_to_a_pool_that_keeps(stream);
}

static void freed_in_order_to_a_pool_that_keeps_by_another_stream(void)
{
    up();
    freed_in_order_to_a_pool_that_keeps(other_stream);
}

/* 12: a wait that fails, or is for another stream, tells nothing of memory behind held work. */
static void freed_before_no_wait(CUstream of, void (*wait)(void))
{
    CUdeviceptr p, q;

    check_gate_close();
    EXPECT(cuMemAllocAsync(&p, MIB(8), of) == 0);
    EXPECT(cuLaunchHostFunc(of, check_wait_at_gate, NULL) == 0);
    EXPECT(cuMemsetD8Async(p, 1, MIB(8), of) == 0);
    EXPECT(cuMemFreeAsync(p, of) == 0);
    wait();
    EXPECT(cuMemAllocAsync(&q, MIB(8), other_stream) == 0);
    EXPECT(cuMemsetD8Async(q, 2, MIB(8), other_stream) == 0);
    EXPECT(cuStreamSynchronize(other_stream) == 0);
    check_gate_open();
    EXPECT(cuCtxSynchronize() == 0);
    SEEN("written late: %d\n", !check_holds(q, MIB(8), 2));
}

static CUresult wait_for_captured(CUstream captured, CUresult (*wait)(void))
{
    CUgraph graph = NULL;
    CUresult result;

    EXPECT(cuStreamBeginCapture_v2(captured, CU_STREAM_CAPTURE_MODE_RELAXED) == 0);
    result = wait();
    EXPECT(cuStreamEndCapture(captured, &graph) != 0);
    return result;
}

static void wait_for_context_in_vain(void)
{
    SEEN("context: %d\n", wait_for_captured(other_stream, wait_for_context));
}

static void wait_for_stream_in_vain(void)
{
    SEEN("stream: %d\n", wait_for_captured(stream, wait_for_stream));
}

static void wait_for_stream_of_thread(void)
{
    SEEN("thread: %d\n", cuStreamSynchronize_ptsz(NULL));
}

static void freed_in_order_before_no_wait(void)
{
    up();
    be_relaxed();
    freed_before_no_wait(stream, wait_for_context_in_vain);
    freed_before_no_wait(stream, wait_for_stream_in_vain);
    freed_before_no_wait(CU_STREAM_LEGACY, wait_for_stream_of_thread);
}

static const struct check checks[] = {
    CHECK(what_is_freed_is_free),
    CHECK(other_kinds_find_room),
    CHECK(other_devices_find_room),
    CHECK(captures_find_room),
    CHECK(freed_in_order_beside_a_capture),
    CHECK(freed_in_order_of_odd_streams),
    CHECK(freed_in_order_by_the_same_stream),
    CHECK(freed_in_order_by_another_stream),
    CHECK(freed_in_order_and_asked_of_the_pool),
    CHECK(freed_in_order_before_work),
    CHECK(freed_in_order_before_work_of_another_stream),
    CHECK(freed_in_order_of_a_stream_that_was_waited_for),
    CHECK(freed_in_order_to_a_pool_that_keeps_by_the_same_stream),
    CHECK(freed_in_order_to_a_pool_that_keeps_by_another_stream),
    CHECK(freed_in_order_before_no_wait),
};

int main(int argc, char **argv)
{
    return checks_run(checks, sizeof(checks) / sizeof(checks[0]), argc, argv);
}
