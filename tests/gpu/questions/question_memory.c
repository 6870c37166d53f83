/* SPDX-License-Identifier: Apache-2.0 */
/* Questions about memory: its sizes, its frees, what is said of it. See question.h. */
#include "question.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static CUdeviceptr mapping_of(CUdeviceptr p, size_t *ret_size)
{
    CUdeviceptr base = 0;

    *ret_size = 0;
    cuPointerGetAttribute(&base, CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR, p);
    cuPointerGetAttribute(ret_size, CU_POINTER_ATTRIBUTE_MAPPING_SIZE, p);
    return base;
}

void question_01_shared_pieces(void)
{
    static const size_t sizes[] = {512,       KIB(64),         KIB(512),  KIB(1024) - 512,
                                   KIB(1024), KIB(1024) + 512, KIB(1536), KIB(2048)};

    check_up();
    EXPECT(cuMemFree_v2(check_alloc(1)) == 0);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        size_t before = check_free_memory(), mapping = 0;
        CUdeviceptr p = check_alloc(sizes[i]), q = check_alloc(sizes[i]);
        bool is_same = mapping_of(p, &mapping) == mapping_of(q, &mapping);

        SEEN("%zu: one mapping %d of %zu, two take %zu\n", sizes[i], is_same, mapping,
             before - check_free_memory());
        EXPECT(cuMemFree_v2(p) == 0 && cuMemFree_v2(q) == 0);
    }
}

void question_02_free_of_null(void)
{
    SEEN("before cuInit: %d\n", cuMemFree_v2(0));
    EXPECT(cuInit(0) == 0);
    SEEN("without a context: %d\n", cuMemFree_v2(0));
    check_up();
    SEEN("with one: %d\n", cuMemFree_v2(0));
}

void question_03_async_free_of_null(void)
{
    int (*release)(void *, CUstream);

    check_up();
    SEEN("cuMemFreeAsync: %d\n", cuMemFreeAsync(0, check_stream()));
    if (!check_runtime_up())
        return;
    *(void **)&release = check_runtime_function("cudaFreeAsync");
    SEEN("cudaFreeAsync: %d\n", release(NULL, NULL));
}

void question_04_memory_info_without_place(void)
{
    size_t value;

    check_up();
    SEEN("no free: %d\n", cuMemGetInfo_v2(NULL, &value));
    SEEN("no total: %d\n", cuMemGetInfo_v2(&value, NULL));
    SEEN("neither: %d\n", cuMemGetInfo_v2(NULL, NULL));
}

void question_05_range_of_odd_sizes(void)
{
    static const size_t sizes[] = {1, 513, 1000, KIB(1024) + 1, MIB(2) + 1, MIB(5) + 3};

    check_up();
    for (size_t i = 0; i < COUNT(sizes); i++) {
        CUdeviceptr p = check_alloc(sizes[i]), base = 0;
        size_t size = 0, attribute = 0;

        EXPECT(cuMemGetAddressRange_v2(&base, &size, p) == 0);
        EXPECT(cuPointerGetAttribute(&attribute, CU_POINTER_ATTRIBUTE_RANGE_SIZE, p) == 0);
        SEEN("%zu: %zu, by attribute %zu\n", sizes[i], size, attribute);
    }
}

void question_06_pitch(void)
{
    static const size_t widths[] = {1, 511, 512, 513, 1025, 70000};
    int devices = 0;

    EXPECT(cuInit(0) == 0 && cuDeviceGetCount(&devices) == 0);
    for (int device = 0; device < devices; device++) {
        CUcontext context;

        EXPECT(cuDevicePrimaryCtxRetain(&context, device) == 0 && cuCtxSetCurrent(context) == 0);
        SEEN("device %d:", device);
        for (size_t i = 0; i < COUNT(widths); i++) {
            CUdeviceptr p = 0;
            size_t pitch = 0;

            EXPECT(cuMemAllocPitch_v2(&p, &pitch, widths[i], 3, 4) == 0);
            printf(" %zu", pitch);
        }
        printf("\n");
    }
}

void question_07_alloc_takes_from_pools(void)
{
    CUmemoryPool pool = NULL;
    cuuint64_t all = UINT64_MAX;
    CUdeviceptr p = 0;
    CUstream stream;
    size_t room;

    check_up();
    stream = check_stream();
    room = check_free_memory();
    EXPECT(cuDeviceGetDefaultMemPool(&pool, 0) == 0);
    EXPECT(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &all) == 0);
    EXPECT(cuMemAllocAsync(&p, room / 10 * 9, stream) == 0);
    EXPECT(cuMemFreeAsync(p, stream) == 0 && cuStreamSynchronize(stream) == 0);
    SEEN("the pool keeps it: %d\n", check_free_memory() < room / 2);
    SEEN("cuMemAlloc of half: %d\n", cuMemAlloc_v2(&p, room / 2));
}

void question_47_pool_counts(void)
{
    static const size_t sizes[] = {1, 513, 30001, 100000, (size_t)2097152 + 1};
    cuuint64_t used = 0, has = 0;
    CUmemoryPool pool = NULL;
    CUdeviceptr p = 0;
    CUstream stream;

    check_up();
    stream = check_stream();
    EXPECT(cuDeviceGetDefaultMemPool(&pool, 0) == 0);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        EXPECT(cuMemAllocAsync(&p, sizes[i], stream) == 0 && cuStreamSynchronize(stream) == 0);
        EXPECT(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used) == 0);
        EXPECT(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &has) == 0);
        SEEN("%zu: used %llu reserved %llu\n", sizes[i], (unsigned long long)used,
             (unsigned long long)has);
        EXPECT(cuMemFreeAsync(p, stream) == 0 && cuStreamSynchronize(stream) == 0);
    }
}

void question_28_error_of_no_memory(void)
{
    CUdeviceptr freed, base = 0, list[2];
    unsigned value = 0;
    size_t size = 0;

    check_up();
    freed = check_alloc(MIB(4));
    EXPECT(cuMemFree_v2(freed) == 0);
    list[0] = 1;
    list[1] = freed;
    for (int i = 0; i < 2; i++) {
        SEEN("%s: range %d", i ? "freed" : "address 1",
             cuMemGetAddressRange_v2(&base, &size, list[i]));
        printf(" attribute %d",
               cuPointerGetAttribute(&value, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, list[i]));
        printf(" set %d", cuPointerSetAttribute(&value, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, list[i]));
        printf(" free %d", cuMemFree_v2(list[i]));
        printf(" free async %d\n", cuMemFreeAsync(list[i], NULL));
    }
}

void question_30_synchronous_copies_reach(void)
{
    static const size_t sizes[] = {KIB(4), KIB(700), MIB(4)};

    check_up();
    for (size_t i = 0; i < COUNT(sizes); i++) {
        CUdeviceptr p = check_alloc(sizes[i]), q = check_alloc(sizes[i]);
        unsigned on = 1, here = 9, end = 9, other = 9;

        SEEN("%zu: set inside %d", sizes[i],
             cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p + 512));
        cuPointerGetAttribute(&here, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p);
        cuPointerGetAttribute(&end, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p + sizes[i] - 1);
        cuPointerGetAttribute(&other, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, q);
        printf(" first byte %u last %u neighbour %u\n", here, end, other);
    }
}

void question_31_cost_of_odd_sizes(void)
{
    static const size_t sizes[] = {1, KIB(1024), KIB(1536), 2700000, MIB(3), 12345678, 100000001};
    CUdeviceptr all[COUNT(sizes)];

    check_up();
    EXPECT(cuMemFree_v2(check_alloc(1)) == 0);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        size_t before = check_free_memory();

        all[i] = check_alloc(sizes[i]);
        SEEN("%zu takes %zu\n", sizes[i], before - check_free_memory());
    }
    for (size_t i = 0; i < COUNT(sizes); i++)
        EXPECT(cuMemFree_v2(all[i]) == 0);
}

void question_34_refused_then_made_again(void)
{
    CUdeviceptr blocks[64];
    CUcontext context = NULL;
    size_t count = 0, size, before, after;
    CUresult result;

    check_up();
    before = check_free_memory();
    /* All of it, in ever smaller pieces. */
    for (size = check_free_memory(); size >= KIB(64) && count < COUNT(blocks);) {
        if (cuMemAlloc_v2(&blocks[count], size) == 0)
            count++;
        else
            size /= 2;
    }
    result = cuCtxCreate_v2(&context, 0, 0);
    SEEN("a context on a full device: %d\n", result);
    if (result == 0)
        EXPECT(cuCtxDestroy_v2(context) == 0);
    while (count > 0)
        EXPECT(cuMemFree_v2(blocks[--count]) == 0);
    after = check_free_memory();
    SEEN("nothing is left behind: %d\n", after == before);
    SEEN("the same call again: %d\n", cuCtxCreate_v2(&context, 0, 0));
}

static void ask_without_place(void)
{
    CUpointer_attribute list[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                  CU_POINTER_ATTRIBUTE_RANGE_SIZE};
    size_t size = 0;
    void *values[] = {NULL, &size};

    check_up();
    SEEN("answer: %d", cuPointerGetAttributes(2, list, values, check_alloc(1000)));
    printf(" the other one %zu\n", size);
}

void question_38_attributes_without_place(void)
{
    check_in_child("a NULL among the places", ask_without_place);
}

void question_40_copy_past_the_end(void)
{
    static const size_t sizes[] = {1000, KIB(4), KIB(700), MIB(2), MIB(5) + 3};
    char *host = calloc(1, MIB(16));

    check_up();
    for (size_t i = 0; i < COUNT(sizes); i++) {
        CUdeviceptr p = check_alloc(sizes[i]);

        SEEN("%zu: one byte more %d", sizes[i], cuMemcpyHtoD_v2(p, host, sizes[i] + 1));
        printf(" 4096 more %d", cuMemcpyHtoD_v2(p, host, sizes[i] + 4096));
        printf(" 4 MiB more %d", cuMemcpyHtoD_v2(p, host, sizes[i] + MIB(4)));
        printf(" fill, 4 MiB more %d", cuMemsetD8_v2(p, 1, sizes[i] + MIB(4)));
        printf(" idle %d\n", cuCtxSynchronize());
    }
    free(host);
}
