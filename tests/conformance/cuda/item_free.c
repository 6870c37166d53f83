/* SPDX-License-Identifier: Apache-2.0 */
/* Checklist items 7 to 16: frees, and what they wait for. See item.h. */
#include "item.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int (*runtime_alloc)(void **pointer, size_t size);
typedef int (*runtime_free)(void *pointer);
typedef int (*runtime_alloc_async)(void **pointer, size_t size, CUstream stream);
typedef int (*runtime_free_async)(void *pointer, CUstream stream);

static void free_twice(const char *kind, CUdeviceptr p)
{
    SEEN("%s: %d", kind, cuMemFree_v2(p));
    printf(" again %d\n", cuMemFree_v2(p));
}

void item_07_free_takes_every_kind(void)
{
    CUmemoryPool pool = NULL;
    CUdeviceptr p = 0;
    void *host = NULL;
    size_t pitch;

    check_up();
    free_twice("small", check_alloc(KIB(3)));
    free_twice("large", check_alloc(MIB(3)));
    EXPECT(cuMemAllocPitch_v2(&p, &pitch, 1000, 7, 4) == 0);
    free_twice("pitched", p);
    EXPECT(cuMemAllocManaged(&p, MIB(1), CU_MEM_ATTACH_GLOBAL) == 0);
    free_twice("managed", p);
    EXPECT(cuMemAllocAsync(&p, KIB(5), NULL) == 0);
    SEEN("stream-ordered: %d\n", cuMemFree_v2(p));
    EXPECT(cuMemAllocAsync(&p, MIB(5), NULL) == 0);
    SEEN("a large one: %d\n", cuMemFree_v2(p));
    EXPECT(cuDeviceGetDefaultMemPool(&pool, 0) == 0);
    EXPECT(cuMemAllocFromPoolAsync(&p, KIB(5), pool, NULL) == 0);
    SEEN("from a pool: %d\n", cuMemFree_v2(p));
    EXPECT(cuMemAllocHost_v2(&host, 4096) == 0);
    SEEN("host memory: %d\n", cuMemFree_v2((CUdeviceptr)(uintptr_t)host));
    memset(host, 1, 4096);
    SEEN("by its own call: %d\n", cuMemFreeHost(host));
    p = check_alloc(KIB(3));
    SEEN("device memory as host memory: %d\n", cuMemFreeHost((void *)(uintptr_t)p));
    SEEN("by its own call: %d\n", cuMemFree_v2(p));
}

void item_08_free_of_null(void)
{
    CUcontext current = NULL;

    SEEN("before cuInit: %d\n", cuMemFree_v2(0));
    if (check_runtime_up()) {
        runtime_free release = (runtime_free)check_runtime_function("cudaFree");

        SEEN("cudaFree: %d", release(NULL));
        EXPECT(cuCtxGetCurrent(&current) == 0);
        printf(" there is a context now: %d\n", current != NULL);
    }
    EXPECT(cuInit(0) == 0 && cuCtxSetCurrent(NULL) == 0);
    SEEN("without a context: %d\n", cuMemFree_v2(0));
    check_up();
    SEEN("with one: %d\n", cuMemFree_v2(0));
    SEEN("in stream order: %d\n", cuMemFreeAsync(0, NULL));
    SEEN("host: %d\n", cuMemFreeHost(NULL));
}

void item_09_double_and_interior_free(void)
{
    CUdeviceptr small, large, other;

    check_up();
    small = check_alloc(KIB(4));
    other = check_alloc(KIB(4));
    large = check_alloc(MIB(4));
    check_pattern(small, KIB(4), 1);
    check_pattern(other, KIB(4), 2);
    check_pattern(large, MIB(4), 3);
    SEEN("inside: %d %d\n", cuMemFree_v2(small + 512), cuMemFree_v2(large + MIB(2)));
    SEEN("by one byte: %d %d\n", cuMemFree_v2(small + 1), cuMemFree_v2(large + 1));
    SEEN("the last byte: %d %d\n", cuMemFree_v2(small + KIB(4) - 1),
         cuMemFree_v2(large + MIB(4) - 1));
    SEEN("unchanged: %d %d %d\n", check_has_pattern(small, KIB(4), 1),
         check_has_pattern(other, KIB(4), 2), check_has_pattern(large, MIB(4), 3));
    free_twice("small", small);
    free_twice("large", large);
    SEEN("inside what was freed: %d %d\n", cuMemFree_v2(small + 512), cuMemFree_v2(large + MIB(2)));
    SEEN("the neighbour: %d\n", check_has_pattern(other, KIB(4), 2));
    free_twice("the neighbour", other);
    if (check_runtime_up()) {
        runtime_alloc allocate = (runtime_alloc)check_runtime_function("cudaMalloc");
        runtime_free release = (runtime_free)check_runtime_function("cudaFree");
        void *pointer = NULL;

        SEEN("cudaMalloc %d", allocate(&pointer, 5000));
        printf(" cudaFree %d", release(pointer));
        printf(" again %d\n", release(pointer));
    }
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

/* Work of a stream that is late writes over a block that was freed, never over the next one. */
static void late_work(size_t size)
{
    CUstream streams[] = {check_stream(), check_stream(), NULL, CU_STREAM_PER_THREAD};
    size_t wrong = 0;

    for (size_t i = 0; i < COUNT(streams); i++) {
        CUdeviceptr p = check_alloc(size), next[4];

        EXPECT(cuLaunchHostFunc(streams[i], pass_slowly, NULL) == 0);
        EXPECT(cuMemsetD8Async(p, 0xee, size, streams[i]) == 0);
        EXPECT(cuMemFree_v2(p) == 0);
        for (size_t k = 0; k < COUNT(next); k++) {
            next[k] = check_alloc(size);
            EXPECT(cuMemsetD8Async(next[k], 0x11, size, streams[(i + 1) % 2]) == 0);
        }
        EXPECT(cuCtxSynchronize() == 0);
        for (size_t k = 0; k < COUNT(next); k++) {
            wrong += !check_holds(next[k], size, 0x11);
            EXPECT(cuMemFree_v2(next[k]) == 0);
        }
    }
    SEEN("%zu: blocks written late: %zu\n", size, wrong);
}

/* A copy between devices is work of its source's context too. */
static void copies_between_devices(void)
{
    CUcontext second = check_second_device();
    CUdeviceptr from, to;
    size_t wrong = 0;

    if (!second)
        return;
    for (int i = 0; i < 20; i++) {
        EXPECT(cuCtxSetCurrent(check_context) == 0);
        from = check_alloc(MIB(3));
        check_fill(from, MIB(3), (unsigned char)i);
        EXPECT(cuCtxSetCurrent(second) == 0);
        to = check_alloc(MIB(3));
        EXPECT(cuMemcpyPeer(to, second, from, check_context, MIB(3)) == 0);
        EXPECT(cuMemFree_v2(from) == 0);
        wrong += !check_holds(to, MIB(3), (unsigned char)i);
        EXPECT(cuMemFree_v2(to) == 0);
    }
    SEEN("copies between devices that went wrong: %zu\n", wrong);
    SEEN("a copy without contexts: %d\n", cuMemcpyPeer(1, NULL, 1, NULL, 0));
}

void item_10_no_reuse_before_work(void)
{
    check_up();
    late_work(KIB(64));
    late_work(MIB(3));
    copies_between_devices();
}

/* Under free = lazy this is the one thing that is not so, and libberth(7) says it. */
void item_11_free_waits(void)
{
    CUstream stream;
    void *host = NULL;
    CUdeviceptr p, q;

    check_up();
    stream = check_stream();
    EXPECT(cuMemAllocHost_v2(&host, KIB(64)) == 0);
    memset(host, 0, KIB(64));
    for (int i = 0; i < 2; i++) {
        size_t size = i ? MIB(3) : KIB(64);

        callback_ran = 0;
        p = check_alloc(size);
        q = check_alloc(KIB(64));
        EXPECT(cuLaunchHostFunc(stream, pass_slowly, NULL) == 0);
        EXPECT(cuMemsetD8Async(p, (unsigned char)(i + 7), size, stream) == 0);
        EXPECT(cuMemcpyDtoHAsync_v2(host, p, KIB(64), stream) == 0);
        SEEN("free of another block: %d", cuMemFree_v2(q));
        printf(" the work is done: %d", callback_ran);
        printf(" its result is here: %d\n", ((unsigned char *)host)[KIB(64) - 1] == i + 7);
        callback_ran = 0;
        EXPECT(cuLaunchHostFunc(stream, pass_slowly, NULL) == 0);
        SEEN("free of its own: %d", cuMemFree_v2(p));
        printf(" the work is done: %d\n", callback_ran);
    }
}

/* An address inside a stream-ordered block that lives is nobody's to free. */
static void free_inside_stream_ordered(CUstream stream)
{
    for (int i = 0; i < 2; i++) {
        size_t size = i ? MIB(3) : KIB(6);
        CUdeviceptr p = 0, q = 0;

        EXPECT(cuMemAllocAsync(&p, size, stream) == 0);
        EXPECT(cuMemsetD8Async(p, 0x35, size, stream) == 0 && cuStreamSynchronize(stream) == 0);
        SEEN("inside, in stream order: %d %d", cuMemFreeAsync(p + 512, stream),
             cuMemFreeAsync(p + 1, stream));
        printf(" by cuMemFree %d %d", cuMemFree_v2(p + 512), cuMemFree_v2(p + size - 1));
        EXPECT(cuMemAllocAsync(&q, size, stream) == 0);
        EXPECT(cuMemsetD8Async(q, 0x36, size, stream) == 0 && cuStreamSynchronize(stream) == 0);
        printf(" it holds %d", check_holds(p, size, 0x35));
        printf(" free %d %d\n", cuMemFreeAsync(p, stream), cuMemFreeAsync(q, stream));
        EXPECT(cuStreamSynchronize(stream) == 0);
    }
}

/* Another stream gets no memory whose last use, on the first one, is still to come. */
static void reuse_across_streams(size_t size)
{
    CUstream first = check_stream(), second = check_stream();

    SEEN("%zu: blocks written late: %zu\n", size, check_written_late(size, first, second));
}

/* Memory that was freed in a stream of another device stays that of its own device. */
static void free_on_another_device(CUstream stream)
{
    CUcontext second = check_second_device();
    CUdeviceptr p = 0, q = 0;
    CUstream other;
    int device = -1;

    if (!second)
        return;
    EXPECT(cuMemAllocAsync(&p, KIB(300), stream) == 0 && cuStreamSynchronize(stream) == 0);
    EXPECT(cuCtxSetCurrent(second) == 0);
    other = check_stream();
    SEEN("free in another device's stream: %d", cuMemFreeAsync(p, other));
    for (int i = 0; i < 2; i++) {
        EXPECT(cuMemAllocAsync(&q, KIB(300), other) == 0 && cuStreamSynchronize(other) == 0);
        EXPECT(cuPointerGetAttribute(&device, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, q) == 0);
        printf(" comes from %d", device);
    }
    printf(" free again %d\n", cuMemFreeAsync(p, other));
    EXPECT(cuCtxSetCurrent(check_context) == 0);
}

void item_12_stream_ordered_reuse(void)
{
    static const size_t sizes[] = {1, 513, KIB(5), KIB(700), MIB(2), MIB(5) + 7};
    CUdeviceptr p = 0, q = 0;
    CUstream stream;

    check_up();
    stream = check_stream();
    for (size_t i = 0; i < COUNT(sizes); i++) {
        SEEN("%zu: alloc %d", sizes[i], cuMemAllocAsync(&p, sizes[i], stream));
        EXPECT(cuMemsetD8Async(p, 1, sizes[i], stream) == 0);
        printf(" free %d", cuMemFreeAsync(p, stream));
        printf(" alloc %d", cuMemAllocAsync(&q, sizes[i], stream));
        EXPECT(cuMemsetD8Async(q, 2, sizes[i], stream) == 0);
        EXPECT(cuStreamSynchronize(stream) == 0);
        printf(" holds %d", check_holds(q, sizes[i], 2));
        printf(" free %d\n", cuMemFreeAsync(q, stream));
        EXPECT(cuStreamSynchronize(stream) == 0);
        SEEN("inside: %d\n", cuMemFreeAsync(q + 512, stream));
    }
    SEEN("no out argument: %d\n", cuMemAllocAsync(NULL, 512, stream));
    SEEN("more than there is: %d\n", cuMemAllocAsync(&p, (size_t)1 << 50, stream));
    SEEN("more than 64 bits: %d\n", cuMemAllocAsync(&p, SIZE_MAX, stream));
    free_inside_stream_ordered(stream);
    reuse_across_streams(KIB(64));
    reuse_across_streams(MIB(3));
    free_on_another_device(stream);
}

/* Late work on memory of cuMemAlloc that was freed in its order: how many later blocks it is in. */
static size_t written_after_free(size_t size, CUstream stream)
{
    CUdeviceptr p = check_alloc(size), next[4];
    size_t wrong = 0;

    EXPECT(cuLaunchHostFunc(stream, pass_slowly, NULL) == 0);
    EXPECT(cuMemsetD8Async(p, 0xee, size, stream) == 0);
    EXPECT(cuMemFreeAsync(p, stream) == 0);
    for (size_t i = 0; i < COUNT(next); i++) {
        next[i] = check_alloc(size);
        EXPECT(cuMemsetD8Async(next[i], 0x11, size, CU_STREAM_PER_THREAD) == 0);
    }
    EXPECT(cuCtxSynchronize() == 0);
    for (size_t i = 0; i < COUNT(next); i++) {
        wrong += !check_holds(next[i], size, 0x11);
        EXPECT(cuMemFree_v2(next[i]) == 0);
    }
    return wrong;
}

void item_13_crossed_frees(void)
{
    CUstream stream;
    CUdeviceptr p;

    check_up();
    stream = check_stream();
    for (int i = 0; i < 2; i++) {
        size_t size = i ? MIB(5) : KIB(5);

        p = check_alloc(size);
        EXPECT(cuMemsetD8Async(p, 7, size, stream) == 0);
        SEEN("cuMemAlloc's, in stream order: %d\n", cuMemFreeAsync(p, stream));
        EXPECT(cuStreamSynchronize(stream) == 0);
        SEEN("again: %d %d\n", cuMemFreeAsync(p, stream), cuMemFree_v2(p));
        SEEN("written late: %zu\n", written_after_free(size, stream));
        p = check_alloc(size);
        SEEN("of the thread's stream: %d\n", cuMemFreeAsync_ptsz(p, NULL));
        EXPECT(cuMemAllocAsync(&p, size, stream) == 0);
        EXPECT(cuMemsetD8Async(p, 7, size, stream) == 0);
        SEEN("stream-ordered, by cuMemFree: %d\n", cuMemFree_v2(p));
        EXPECT(cuCtxSynchronize() == 0);
    }
    p = check_alloc(KIB(4));
    SEEN("inside: %d\n", cuMemFreeAsync(p + 8, stream));
    SEEN("no memory: %d\n", cuMemFreeAsync(12345, stream));
    SEEN("then: %d\n", cuMemFree_v2(p));
    if (check_runtime_up()) {
        runtime_alloc allocate = (runtime_alloc)check_runtime_function("cudaMalloc");
        runtime_free release = (runtime_free)check_runtime_function("cudaFree");
        runtime_alloc_async allocate_async =
            (runtime_alloc_async)check_runtime_function("cudaMallocAsync");
        runtime_free_async release_async =
            (runtime_free_async)check_runtime_function("cudaFreeAsync");
        void *pointer = NULL;

        SEEN("cudaMalloc %d", allocate(&pointer, 5000));
        printf(" cudaFreeAsync %d\n", release_async(pointer, stream));
        SEEN("cudaMallocAsync %d", allocate_async(&pointer, 5000, stream));
        printf(" cudaFree %d\n", release(pointer));
    }
}

static void *free_both(void *user)
{
    CUdeviceptr *p = user;

    SEEN("another thread, without a context: %d %d\n", cuMemFree_v2(p[0]), cuMemFree_v2(p[1]));
    SEEN("again: %d %d\n", cuMemFree_v2(p[0]), cuMemFree_v2(p[1]));
    return NULL;
}

static pthread_key_t end_key;

/* A destructor of a thread's: where the driver has taken the thread's context away by then, too. */
static void free_at_end(void *user)
{
    CUdeviceptr *p = user, q = 0;
    CUcontext found = NULL;

    SEEN("a thread's end: %d %d", cuMemFree_v2(p[0]), cuMemFree_v2(p[1]));
    printf(" %d", cuCtxGetCurrent(&found));
    printf(" %d %d\n", found != NULL, cuMemAlloc_v2(&q, KIB(1)));
}

static void *allocate_and_end(void *user)
{
    CUdeviceptr *p = user;

    EXPECT(cuCtxSetCurrent(check_context) == 0);
    EXPECT(cuMemFree_v2(check_alloc(KIB(1))) == 0);
    p[0] = check_alloc(KIB(1));
    p[1] = check_alloc(MIB(3));
    EXPECT(pthread_setspecific(end_key, p) == 0);
    return NULL;
}

void item_14_free_from_anywhere(void)
{
    CUdeviceptr p[6], far = 0;
    CUcontext other, found = NULL, second;
    pthread_t thread;

    check_up();
    for (size_t i = 0; i < COUNT(p); i++)
        p[i] = check_alloc(i % 2 ? MIB(3) : KIB(1));
    EXPECT(pthread_create(&thread, NULL, free_both, p) == 0);
    pthread_join(thread, NULL);
    EXPECT(cuCtxCreate_v2(&other, 0, 0) == 0);
    SEEN("another context: %d %d\n", cuMemFree_v2(p[2]), cuMemFree_v2(p[3]));
    EXPECT(cuCtxGetCurrent(&found) == 0);
    SEEN("it is still current: %d\n", found == other);
    second = check_second_device();
    if (second) {
        EXPECT(cuCtxSetCurrent(second) == 0);
        far = check_alloc(KIB(2));
        SEEN("another device: %d %d\n", cuMemFree_v2(p[4]), cuMemFree_v2(p[5]));
        EXPECT(cuCtxGetCurrent(&found) == 0);
        SEEN("it is still current: %d\n", found == second);
        EXPECT(cuCtxSetCurrent(NULL) == 0);
        SEEN("no context: %d\n", cuMemFree_v2(far));
    }
    EXPECT(cuCtxSetCurrent(NULL) == 0);
    SEEN("then there is none still: %d", cuCtxGetCurrent(&found));
    printf(" %d\n", found == NULL);
    SEEN("and none to allocate in: %d\n", cuMemAlloc_v2(&p[0], 1));
    EXPECT(pthread_key_create(&end_key, free_at_end) == 0);
    EXPECT(pthread_create(&thread, NULL, allocate_and_end, p) == 0);
    pthread_join(thread, NULL);
}

static void *allocate_then_open(void *user)
{
    EXPECT(cuCtxSetCurrent(check_context) == 0);
    for (int i = 0; i < 10; i++)
        EXPECT(cuMemsetD8_v2(check_alloc(i % 2 ? MIB(2) : KIB(4)), 1, 1) == 0);
    gate = 1;
    return NULL;
}

void item_15_no_lock_while_waiting(void)
{
    CUstream stream;
    CUdeviceptr p;
    pthread_t thread;

    check_up();
    stream = check_stream();
    for (int i = 0; i < 2; i++) {
        p = check_alloc(i ? MIB(4) : KIB(4));
        EXPECT(cuMemFree_v2(check_alloc(KIB(64))) == 0);
        gate = callback_ran = 0;
        EXPECT(cuLaunchHostFunc(stream, wait_at_gate, NULL) == 0);
        EXPECT(pthread_create(&thread, NULL, allocate_then_open, NULL) == 0);
        SEEN("free: %d\n", cuMemFree_v2(p));
        pthread_join(thread, NULL);
        EXPECT(cuCtxSynchronize() == 0);
        SEEN("the work is done: %d\n", callback_ran);
    }
}

void item_16_unknown_pointer(void)
{
    static char image[64];
    CUdeviceptr reserved = 0, wrong[] = {1, 42, 512, (CUdeviceptr)(uintptr_t)image, 1ull << 47};
    int local = 0;

    check_up();
    EXPECT(cuMemFree_v2(check_alloc(KIB(4))) == 0);
    for (size_t i = 0; i < COUNT(wrong); i++)
        SEEN("number %zu: %d\n", i, cuMemFree_v2(wrong[i]));
    SEEN("the last one: %d\n", cuMemFree_v2(~0ull));
    SEEN("of the stack: %d\n", cuMemFree_v2((CUdeviceptr)(uintptr_t)&local));
    SEEN("as host memory: %d %d\n", cuMemFreeHost(&local), cuMemHostUnregister(image));
    EXPECT(cuMemAddressReserve(&reserved, MIB(4), 0, 0, 0) == 0);
    SEEN("reserved addresses: %d", cuMemFree_v2(reserved));
    printf(" %d\n", cuMemAddressFree(reserved, MIB(4)));
    SEEN("in stream order: %d\n", cuMemFreeAsync((CUdeviceptr)(uintptr_t)&local, NULL));
}
