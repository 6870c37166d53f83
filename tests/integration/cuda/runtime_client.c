/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The work of path_work.c through the CUDA runtime, shared or from the static archive, and through
 * the entry points that the runtime hands out. See path_client.c.
 */
#include "path_work.h"
#include "runtime/runtime_api.h"

#include <stdio.h>
#include <string.h>

static unsigned init_flags;

static CUresult runtime_init(unsigned int flags)
{
    init_flags = flags;
    return (CUresult)cudaFree(NULL);
}

static CUresult runtime_retain(CUcontext *context, CUdevice device)
{
    *context = NULL;
    return (CUresult)cudaSetDevice(device);
}

static CUresult runtime_set_current(CUcontext context)
{
    return CUDA_SUCCESS;
}

static CUresult runtime_allocate(CUdeviceptr *address, size_t size)
{
    void *pointer = NULL;
    cudaError_t error = cudaMalloc(&pointer, size);

    *address = (CUdeviceptr)(uintptr_t)pointer;
    return (CUresult)error;
}

static CUresult runtime_release(CUdeviceptr address)
{
    return (CUresult)cudaFree((void *)(uintptr_t)address);
}

static CUresult runtime_allocate_async(CUdeviceptr *address, size_t size, CUstream stream)
{
    void *pointer = NULL;
    cudaError_t error = cudaMallocAsync(&pointer, size, stream);

    *address = (CUdeviceptr)(uintptr_t)pointer;
    return (CUresult)error;
}

static CUresult runtime_release_async(CUdeviceptr address, CUstream stream)
{
    return (CUresult)cudaFreeAsync((void *)(uintptr_t)address, stream);
}

static CUresult runtime_to_device(CUdeviceptr to, const void *from, size_t size)
{
    return (CUresult)cudaMemcpy((void *)(uintptr_t)to, from, size, 1);
}

static CUresult runtime_to_host(void *to, CUdeviceptr from, size_t size)
{
    return (CUresult)cudaMemcpy(to, (const void *)(uintptr_t)from, size, 2);
}

static void *entry_latest(const char *name, unsigned version)
{
    void *found = NULL;
    CUdriverProcAddressQueryResult status = 9;

    return cudaGetDriverEntryPoint(name, &found, 0, &status) == 0 && status == 0 ? found : NULL;
}

static void *entry_latest_ptsz(const char *name, unsigned version)
{
    void *found = NULL;

    return cudaGetDriverEntryPoint_ptsz(name, &found, 0, NULL) == 0 ? found : NULL;
}

static void *entry_by_version(const char *name, unsigned version)
{
    void *found = NULL;
    CUdriverProcAddressQueryResult status = 9;

    return cudaGetDriverEntryPointByVersion(name, &found, version, 0, &status) == 0 ? found : NULL;
}

static void *entry_by_version_ptsz(const char *name, unsigned version)
{
    void *found = NULL;

    return cudaGetDriverEntryPointByVersion_ptsz(name, &found, version, 0, NULL) == 0 ? found
                                                                                      : NULL;
}

static void fill(struct path *path, void *(*find)(const char *name, unsigned version))
{
    *(void **)&path->init = find("cuInit", 2000);
    *(void **)&path->retain = find("cuDevicePrimaryCtxRetain", 7000);
    *(void **)&path->set_current = find("cuCtxSetCurrent", 4000);
    *(void **)&path->allocate = find("cuMemAlloc", 3020);
    *(void **)&path->release = find("cuMemFree", 3020);
    *(void **)&path->allocate_async = find("cuMemAllocAsync", 11020);
    *(void **)&path->release_async = find("cuMemFreeAsync", 11020);
    *(void **)&path->range = find("cuMemGetAddressRange", 3020);
    *(void **)&path->to_device = find("cuMemcpyHtoD", 3020);
    *(void **)&path->to_host = find("cuMemcpyDtoH", 3020);
}

int main(int argc, char **argv)
{
    const char *way = argc > 1 ? argv[1] : "";
    struct path path = {
        .init = runtime_init,
        .retain = runtime_retain,
        .set_current = runtime_set_current,
        .allocate = runtime_allocate,
        .release = runtime_release,
        .allocate_async = runtime_allocate_async,
        .release_async = runtime_release_async,
        .to_device = runtime_to_device,
        .to_host = runtime_to_host,
    };

    *(void **)&path.range = entry_by_version("cuMemGetAddressRange", 3020);
    if (strcmp(way, "entry-point") == 0)
        fill(&path, entry_latest);
    else if (strcmp(way, "entry-point-ptsz") == 0)
        fill(&path, entry_latest_ptsz);
    else if (strcmp(way, "entry-point-by-version") == 0)
        fill(&path, entry_by_version);
    else if (strcmp(way, "entry-point-by-version-ptsz") == 0)
        fill(&path, entry_by_version_ptsz);
    else if (strcmp(way, "runtime") != 0)
        return printf("no such way: %s\n", way) > 0;
    return path_work(&path);
}
