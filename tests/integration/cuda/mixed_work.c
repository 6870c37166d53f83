/* SPDX-License-Identifier: Apache-2.0 */
#include "mixed_work.h"

#include "runtime/runtime_api.h"

#include <stddef.h>
#include <stdio.h>

static const struct {
    struct mixed_name name;
    size_t member;
} table[] = {
    {{"cuMemAlloc", "cuMemAlloc_v2", 3020}, offsetof(struct mixed_calls, allocate)},
    {{"cuMemFree", "cuMemFree_v2", 3020}, offsetof(struct mixed_calls, release)},
    {{"cuMemAllocPitch", "cuMemAllocPitch_v2", 3020}, offsetof(struct mixed_calls, pitch)},
    {{"cuMemAllocManaged", "cuMemAllocManaged", 6000}, offsetof(struct mixed_calls, managed)},
    {{"cuMemHostAlloc", "cuMemHostAlloc", 2020}, offsetof(struct mixed_calls, host)},
    {{"cuMemFreeHost", "cuMemFreeHost", 2000}, offsetof(struct mixed_calls, release_host)},
    {{"cuMemAllocAsync", "cuMemAllocAsync", 11020}, offsetof(struct mixed_calls, async)},
    {{"cuMemFreeAsync", "cuMemFreeAsync", 11020}, offsetof(struct mixed_calls, release_async)},
};

int mixed_find(struct mixed_calls *calls, void *(*find)(const struct mixed_name *name))
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        void *found = find(&table[i].name);

        if (!found)
            return printf("%s: not found\n", table[i].name.symbol) > 0;
        *(void **)(void *)((char *)calls + table[i].member) = found;
    }
    return 0;
}

void mixed_linked(struct mixed_calls *calls)
{
    *calls =
        (struct mixed_calls){cuMemAlloc_v2,  cuMemFree_v2,  cuMemAllocPitch_v2, cuMemAllocManaged,
                             cuMemHostAlloc, cuMemFreeHost, cuMemAllocAsync,    cuMemFreeAsync};
}

static int other_kinds(const struct mixed_calls *calls)
{
    CUdeviceptr address;
    void *pointer;
    size_t pitch;
    int wrong = 0;

    wrong += calls->pitch(&address, &pitch, 100, 10, 4) != 0 || calls->release(address) != 0;
    wrong +=
        calls->managed(&address, 70000, CU_MEM_ATTACH_GLOBAL) != 0 || calls->release(address) != 0;
    wrong += calls->host(&pointer, 5000, 0) != 0 || calls->release_host(pointer) != 0;
    wrong += calls->async(&address, 300000, NULL) != 0 || calls->release_async(address, NULL) != 0;
    return wrong;
}

int mixed_work(const struct mixed_calls *calls, int count)
{
    CUdeviceptr block[32];
    int wrong = other_kinds(calls);

    for (int i = 0; i < count; i++)
        wrong += calls->allocate(&block[i], (size_t)1000 << (i % 13)) != 0;
    /* A call that fails is a call, too. */
    wrong += calls->allocate(&block[31], 0) == 0;
    for (int i = 0; i < count; i++)
        wrong += calls->release(block[i]) != 0;
    if (wrong)
        printf("%d calls failed\n", wrong);
    return wrong != 0;
}

int mixed_runtime_work(int count)
{
    void *block[32], *pointer;
    size_t pitch;
    int wrong = 0;

    wrong += cudaMallocPitch(&pointer, &pitch, 100, 10) != 0 || cudaFree(pointer) != 0;
    wrong += cudaMallocManaged(&pointer, 70000, 1) != 0 || cudaFree(pointer) != 0;
    wrong += cudaHostAlloc(&pointer, 5000, 0) != 0 || cudaFreeHost(pointer) != 0;
    wrong += cudaMallocAsync(&pointer, 300000, NULL) != 0 || cudaFreeAsync(pointer, NULL) != 0;
    for (int i = 0; i < count; i++)
        wrong += cudaMalloc(&block[i], (size_t)1000 << (i % 13)) != 0;
    for (int i = 0; i < count; i++)
        wrong += cudaFree(block[i]) != 0;
    if (wrong)
        printf("%d runtime calls failed\n", wrong);
    return wrong != 0;
}
