/* SPDX-License-Identifier: Apache-2.0 */
/* Checklist items 17 to 21: what the driver says about memory. See item.h. */
#include "item.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void ask_range(const char *what, CUdeviceptr p, size_t wanted)
{
    CUdeviceptr base = 0;
    size_t size = 0;

    SEEN("%s: %d", what, cuMemGetAddressRange_v2(&base, &size, p + wanted - 1));
    printf(" base %d size %zu", base == p, size);
    size = 0;
    printf(" size alone %d", cuMemGetAddressRange_v2(NULL, &size, p));
    printf(" %zu", size);
    base = 0;
    printf(" base alone %d", cuMemGetAddressRange_v2(&base, NULL, p + wanted / 2));
    printf(" %d", base == p);
    printf(" neither %d\n", cuMemGetAddressRange_v2(NULL, NULL, p));
}

void item_17_address_range(void)
{
    static const size_t sizes[] = {1, 1000, KIB(4), KIB(512) + 1, MIB(2), MIB(5) + 3};
    CUdeviceptr p[COUNT(sizes)], q = 0, base = 0;
    size_t pitch = 0, size = 0;
    void *host = NULL;

    check_up();
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT(sizes); i++)
            p[i] = check_alloc(sizes[i]);
        for (size_t i = 0; i < COUNT(sizes); i++)
            ask_range("device memory", p[i], sizes[i]);
        for (size_t i = 0; i < COUNT(sizes); i++)
            EXPECT(cuMemFree_v2(p[i]) == 0);
        for (size_t i = 0; i < COUNT(sizes); i++)
            SEEN("freed: %d\n", cuMemGetAddressRange_v2(&base, &size, p[i]));
    }
    EXPECT(cuMemAllocPitch_v2(&q, &pitch, 1000, 7, 4) == 0);
    ask_range("pitched", q, pitch * 7);
    EXPECT(cuMemAllocManaged(&q, KIB(10), CU_MEM_ATTACH_GLOBAL) == 0);
    ask_range("managed", q, KIB(10));
    EXPECT(cuMemAllocAsync(&q, KIB(10), NULL) == 0);
    ask_range("stream-ordered", q, KIB(10));
    EXPECT(cuMemAllocHost_v2(&host, KIB(10)) == 0);
    SEEN("host: %d\n", cuMemGetAddressRange_v2(&base, &size, (CUdeviceptr)(uintptr_t)host));
    SEEN("no memory: %d\n", cuMemGetAddressRange_v2(&base, &size, 42));
    EXPECT(cuCtxSetCurrent(NULL) == 0);
    SEEN("without a context: %d\n", cuMemGetAddressRange_v2(&base, &size, q));
}

static unsigned long long buffer_id(CUdeviceptr p)
{
    unsigned long long id = 0;

    EXPECT(cuPointerGetAttribute(&id, CU_POINTER_ATTRIBUTE_BUFFER_ID, p) == 0);
    return id;
}

/* The attributes whose values are the same in each run. */
static void ask_plain(CUdeviceptr p)
{
    static const CUpointer_attribute list[] = {
        CU_POINTER_ATTRIBUTE_MEMORY_TYPE,  CU_POINTER_ATTRIBUTE_SYNC_MEMOPS,
        CU_POINTER_ATTRIBUTE_IS_MANAGED,   CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
        CU_POINTER_ATTRIBUTE_MAPPED,       CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES,
        CU_POINTER_ATTRIBUTE_ACCESS_FLAGS, CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE,
    };

    for (size_t i = 0; i < COUNT(list); i++) {
        unsigned long long value = 0;
        CUresult result = cuPointerGetAttribute(&value, list[i], p);

        printf(" %d:%d:%llx", (int)list[i], result, result == 0 ? value : 0);
    }
    printf("\n");
}

static void ask_addresses(CUdeviceptr p, size_t wanted)
{
    CUdeviceptr at = p + wanted - 1, device = 0, start = 0, mapping = 0;
    size_t size = 0, mapping_size = 0;
    CUcontext owner = NULL;
    CUmemoryPool pool = NULL;
    void *host = NULL;
    unsigned long long block = 0;
    CUresult result;

    printf("   ");
    result = cuPointerGetAttribute(&owner, CU_POINTER_ATTRIBUTE_CONTEXT, at);
    printf(" context %d %d", result, owner == check_context);
    result = cuPointerGetAttribute(&device, CU_POINTER_ATTRIBUTE_DEVICE_POINTER, at);
    printf(" device %d %d", result, device == at);
    printf(" host %d", cuPointerGetAttribute(&host, CU_POINTER_ATTRIBUTE_HOST_POINTER, at));
    result = cuPointerGetAttribute(&start, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, at);
    printf(" start %d %d", result, start == p);
    result = cuPointerGetAttribute(&size, CU_POINTER_ATTRIBUTE_RANGE_SIZE, at);
    printf(" size %d %zu", result, size);
    result = cuPointerGetAttribute(&pool, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, at);
    printf(" pool %d %d", result, pool != NULL);
    /* One mapping holds the whole block. */
    result = cuPointerGetAttribute(&mapping, CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR, at);
    printf(" mapping %d", result);
    printf(" %d", cuPointerGetAttribute(&mapping_size, CU_POINTER_ATTRIBUTE_MAPPING_SIZE, at));
    EXPECT(result != 0 || (mapping <= p && p + wanted <= mapping + mapping_size));
    printf(" block %d", cuPointerGetAttribute(&block, CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID, at));
    printf(" %d\n", block != 0);
}

static void ask_many(CUdeviceptr p)
{
    CUpointer_attribute list[] = {
        CU_POINTER_ATTRIBUTE_MEMORY_TYPE,      CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
        CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, CU_POINTER_ATTRIBUTE_RANGE_SIZE,
        CU_POINTER_ATTRIBUTE_IS_MANAGED,       CU_POINTER_ATTRIBUTE_CONTEXT,
        CU_POINTER_ATTRIBUTE_BUFFER_ID};
    unsigned int type = 9;
    bool managed = true;
    int ordinal = 9;
    CUdeviceptr start = 9;
    CUcontext owner = NULL;
    size_t size = 9;
    unsigned long long id = 9;
    void *values[] = {&type, &ordinal, &start, &size, &managed, &owner, &id};

    SEEN("many: %d", cuPointerGetAttributes(COUNT(list), list, values, p));
    printf(" type %u ordinal %d size %zu managed %d", type, ordinal, size, managed);
    printf(" start %d context %d id %d\n", start != 0, owner == check_context, id != 0);
}

static void ask_all(const char *what, CUdeviceptr p, size_t size)
{
    SEEN("%s:", what);
    ask_plain(p);
    ask_addresses(p, size);
    ask_many(p + size - 1);
}

void item_18_pointer_attributes(void)
{
    CUdeviceptr p, q = 0, managed = 0;
    unsigned long long first, second, value = 0;
    void *host = NULL;

    check_up();
    p = check_alloc(3000);
    ask_all("small", p, 3000);
    first = buffer_id(p);
    SEEN("one id: %d\n", first == buffer_id(p + 2999));
    SEEN("free: %d\n", cuMemFree_v2(p));
    SEEN("freed: %d\n", cuPointerGetAttribute(&value, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p));
    ask_many(p);
    p = check_alloc(3000);
    second = buffer_id(p);
    q = check_alloc(3000);
    SEEN("ids are new: %d %d %d\n", first != second, second != buffer_id(q), first != buffer_id(q));
    q = check_alloc(MIB(6) + 5);
    ask_all("large", q, MIB(6) + 5);
    SEEN("unknown attribute: %d\n", cuPointerGetAttribute(&value, 99, p));
    SEEN("no attribute: %d\n", cuPointerGetAttribute(&value, 0, p));
    SEEN("no out argument: %d\n", cuPointerGetAttribute(NULL, CU_POINTER_ATTRIBUTE_CONTEXT, p));
    SEEN("none at all: %d\n", cuPointerGetAttributes(0, NULL, NULL, p));
    EXPECT(cuMemAllocManaged(&managed, KIB(9), CU_MEM_ATTACH_GLOBAL) == 0);
    ask_all("managed", managed, KIB(9));
    EXPECT(cuMemAllocHost_v2(&host, KIB(9)) == 0);
    ask_all("host", (CUdeviceptr)(uintptr_t)host, KIB(9));
    EXPECT(cuMemAllocAsync(&q, KIB(9), NULL) == 0);
    ask_all("stream-ordered", q, KIB(9));
}

struct runtime_attributes {
    int type, device;
    void *device_pointer, *host_pointer;
    long reserved[8];
};
typedef int (*runtime_attributes_function)(struct runtime_attributes *attributes, const void *p);

/* One of the places for an answer is NULL: whatever that does, it is the same. */
static void ask_with_a_hole(void)
{
    CUpointer_attribute list[] = {CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
                                  CU_POINTER_ATTRIBUTE_BUFFER_ID};
    unsigned long long id = 0;
    void *values[] = {NULL, &id};
    CUdeviceptr p;

    check_up();
    p = check_alloc(5000);
    SEEN("a NULL among the answers: %d", cuPointerGetAttributes(2, list, values, p));
    printf(" %d\n", id == buffer_id(p));
}

void item_19_not_cuda_memory(void)
{
    static int image;
    int local = 0, type = 9;
    char *heap = malloc(100);
    const void *all[] = {&image, &local, heap, (void *)(uintptr_t)42};

    check_in_child("answers", ask_with_a_hole);
    check_up();
    for (size_t i = 0; i < COUNT(all); i++) {
        CUdeviceptr p = (CUdeviceptr)(uintptr_t)all[i];

        SEEN("alone: %d\n", cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p));
        ask_many(p);
    }
    if (check_runtime_up()) {
        runtime_attributes_function ask =
            (runtime_attributes_function)check_runtime_function("cudaPointerGetAttributes");
        struct runtime_attributes seen = {9, 9, NULL, NULL, {0}};
        CUdeviceptr p;

        SEEN("cudaPointerGetAttributes: %d", ask(&seen, heap));
        printf(" type %d device pointer %d\n", seen.type, seen.device_pointer != NULL);
        p = check_alloc(100);
        SEEN("of device memory: %d", ask(&seen, (void *)(uintptr_t)p));
        printf(" type %d device %d pointer %d\n", seen.type, seen.device,
               seen.device_pointer == (void *)(uintptr_t)p);
        EXPECT(cuMemFree_v2(p) == 0);
        SEEN("freed: %d", ask(&seen, (void *)(uintptr_t)p));
        printf(" type %d\n", seen.type);
    }
    free(heap);
}

void item_20_free_memory(void)
{
    size_t before, during, after, total = 0, total_after = 0;
    CUdeviceptr p;

    SEEN("before cuInit: %d\n", cuMemGetInfo_v2(&before, &total));
    EXPECT(cuInit(0) == 0);
    SEEN("without a context: %d\n", cuMemGetInfo_v2(&before, &total));
    check_up();
    EXPECT(cuMemFree_v2(check_alloc(1)) == 0);
    EXPECT(cuMemGetInfo_v2(&before, &total) == 0);
    p = check_alloc(MIB(64));
    EXPECT(cuMemGetInfo_v2(&during, &total) == 0);
    SEEN("64 MiB take %zu\n", before - during);
    EXPECT(cuMemFree_v2(p) == 0);
    EXPECT(cuMemGetInfo_v2(&after, &total_after) == 0);
    SEEN("given back: %d, total unchanged: %d\n", after == before, total == total_after);
    SEEN("no more than all: %d\n", after <= total);
    SEEN("what is free can be had: %d\n", cuMemFree_v2(check_alloc(after / MIB(2) * MIB(2))));
    SEEN("a little more cannot: %d\n", cuMemAlloc_v2(&p, after + MIB(4)));
    SEEN("no out arguments: %d %d\n", cuMemGetInfo_v2(NULL, &total),
         cuMemGetInfo_v2(&before, NULL));
    EXPECT(cuMemGetInfo_v2(&after, &total) == 0);
    EXPECT(cuMemAllocAsync(&p, KIB(100), NULL) == 0 && cuMemFreeAsync(p, NULL) == 0);
    EXPECT(cuCtxSynchronize() == 0 && cuMemGetInfo_v2(&during, &total) == 0);
    SEEN("all again after stream-ordered memory: %d\n", during == after);
}

static unsigned sync_memops(CUdeviceptr p)
{
    unsigned value = 9;

    EXPECT(cuPointerGetAttribute(&value, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p) == 0);
    return value;
}

static _Atomic int has_run;

static void run_slowly(void *user)
{
    usleep(20000);
    has_run = 1;
}

/* Whether a fill of the memory, which otherwise need not wait, waited for what was queued before.
 */
static bool fill_waits(CUdeviceptr p)
{
    has_run = 0;
    EXPECT(cuLaunchHostFunc(NULL, run_slowly, NULL) == 0 && cuMemsetD8_v2(p, 1, 512) == 0);
    return has_run;
}

/* Of neighbours that both have it, the one keeps it when the other gives it up, or is freed. */
static void neighbours_keep_it(void)
{
    static const unsigned int on = 1, off = 0;
    CUdeviceptr p[3], other = check_alloc(2048);

    for (size_t i = 0; i < COUNT(p); i++) {
        p[i] = check_alloc(2048);
        EXPECT(cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p[i]) == 0);
    }
    SEEN("fills wait: %d %d %d", fill_waits(p[0]), fill_waits(p[1]), fill_waits(p[2]));
    EXPECT(cuPointerSetAttribute(&off, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p[0]) == 0);
    printf(" without the first %d %d", fill_waits(p[1]), fill_waits(p[2]));
    EXPECT(cuMemFree_v2(p[1]) == 0);
    printf(" and the second %d\n", fill_waits(p[2]));
    EXPECT(cuMemFree_v2(p[0]) == 0 && cuMemFree_v2(p[2]) == 0);
    /* It may be a neighbour of theirs, and wait as long as they live; see libberth(7). */
    SEEN("one without it, when all are freed: %d\n", fill_waits(other));
    EXPECT(cuMemFree_v2(other) == 0);
}

/* What comes after a stream-ordered block of that mark is without it. */
static void stream_ordered_marks_end(CUstream stream)
{
    unsigned int on = 1;
    CUdeviceptr p = 0;

    EXPECT(cuMemAllocAsync(&p, KIB(40), stream) == 0 && cuStreamSynchronize(stream) == 0);
    SEEN("stream-ordered: %d", cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p));
    printf(" %u", sync_memops(p));
    EXPECT(cuMemFreeAsync(p, stream) == 0);
    EXPECT(cuMemAllocAsync(&p, KIB(40), stream) == 0 && cuStreamSynchronize(stream) == 0);
    printf(" anew %u\n", sync_memops(p));
    EXPECT(cuMemFreeAsync(p, stream) == 0);
}

void item_21_synchronous_copies(void)
{
    unsigned int on = 1, off = 0;
    CUdeviceptr p, q, large;

    check_up();
    p = check_alloc(512);
    q = check_alloc(512);
    large = check_alloc(MIB(4));
    SEEN("set: %d", cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p));
    printf(" %d\n", cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, large));
    SEEN("own %u, neighbour's %u, large %u\n", sync_memops(p), sync_memops(q), sync_memops(large));
    SEEN("frees: %d %d\n", cuMemFree_v2(p), cuMemFree_v2(large));
    p = check_alloc(512);
    large = check_alloc(MIB(4));
    SEEN("anew: own %u, large %u\n", sync_memops(p), sync_memops(large));
    SEEN("set: %d", cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p));
    printf(" clear %d", cuPointerSetAttribute(&off, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p));
    printf(" then %u\n", sync_memops(p));
    SEEN("other attribute: %d\n", cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_CONTEXT, p));
    SEEN("no value: %d\n", cuPointerSetAttribute(NULL, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p));
    SEEN("no memory: %d\n", cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, 42));
    EXPECT(cuMemFree_v2(p) == 0);
    SEEN("freed: %d\n", cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p));
    neighbours_keep_it();
    stream_ordered_marks_end(check_stream());
}
