/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wrong_client LIMITED: calls that are wrong, and ask for more than a limit allows. The driver
 * looks at arguments before it looks for memory, so each is answered as the same call for little.
 * With LIMITED 1 right calls for as much are out of memory, with 0 they are not.
 */
#include "cuda_api.h"

#include <stdio.h>
#include <stdlib.h>

#define LITTLE ((size_t)2 << 20)
#define MUCH ((size_t)128 << 20)

static CUdeviceptr address;
static CUcontext context;

static CUmemAllocationProp properties(int location)
{
    return (CUmemAllocationProp){.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                 .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = location}};
}

static CUresult pitch(size_t size, int is_right)
{
    size_t pitch;

    return cuMemAllocPitch_v2(&address, &pitch, 4096, size / 4096, is_right ? 4 : 3);
}

static CUresult create(size_t size, int is_right)
{
    CUmemAllocationProp prop = properties(is_right ? 0 : 77);
    CUmemGenericAllocationHandle handle;

    return cuMemCreate(&handle, size, &prop, 0);
}

static CUresult create_odd(size_t size, int is_right)
{
    CUmemAllocationProp prop = properties(0);
    CUmemGenericAllocationHandle handle;

    return cuMemCreate(&handle, is_right ? size : size + 512, &prop, 0);
}

static CUresult async(size_t size, int is_right)
{
    return cuMemAllocAsync(&address, size, is_right ? NULL : (CUstream)(uintptr_t)0x12340);
}

static CUresult from_pool(size_t size, int is_right)
{
    CUmemoryPool pool = NULL;

    if (cuDeviceGetDefaultMemPool(&pool, 0) != 0)
        exit(1);
    return cuMemAllocFromPoolAsync(&address, size, is_right ? pool : NULL, NULL);
}

static const struct {
    const char *name;
    CUresult (*call)(size_t size, int is_right);
} calls[] = {{"cuMemAllocPitch", pitch},
             {"cuMemCreate", create},
             {"cuMemCreate, odd", create_odd},
             {"cuMemAllocAsync", async},
             {"cuMemAllocFromPoolAsync", from_pool}};

int main(int argc, char **argv)
{
    int is_limited = argc == 2 && atoi(argv[1]), failed = 0;

    if (cuInit(0) != 0 || cuDevicePrimaryCtxRetain(&context, 0) != 0 ||
        cuCtxSetCurrent(context) != 0)
        return 1;
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        CUresult little = calls[i].call(LITTLE, 0), much = calls[i].call(MUCH, 0);
        CUresult right = calls[i].call(MUCH, 1);

        printf("%s: %d for little, %d for much, %d if right\n", calls[i].name, (int)little,
               (int)much, (int)right);
        failed |= little == CUDA_SUCCESS || much != little ||
                  right != (is_limited ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS);
    }
    return failed;
}
