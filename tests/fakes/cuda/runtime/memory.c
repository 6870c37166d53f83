/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime.h"

#include <string.h>

RUNTIME_CALL(cudaMalloc, runtime_enter, (void **ret_pointer, size_t size), (ret_pointer, size))
{
    CUdeviceptr pointer = 0;
    cudaError_t error = cudaSuccess;

    if (!ret_pointer)
        return cudaErrorInvalidValue;
    /* Of size 0 the runtime makes NULL, where the driver refuses it. */
    if (size)
        error = from_driver(driver.cuMemAlloc(&pointer, size));
    if (error == cudaSuccess)
        *ret_pointer = (void *)pointer;
    return error;
}

RUNTIME_CALL(cudaFree, runtime_enter, (void *pointer), (pointer))
{
    return pointer ? from_driver(driver.cuMemFree((CUdeviceptr)pointer)) : cudaSuccess;
}

RUNTIME_CALL(cudaMallocPitch, runtime_enter,
             (void **ret_pointer, size_t *ret_pitch, size_t width, size_t height),
             (ret_pointer, ret_pitch, width, height))
{
    if (!ret_pointer || !ret_pitch)
        return cudaErrorInvalidValue;
    if (width == 0 || height == 0) {
        *ret_pointer = NULL;
        *ret_pitch = 0;
        return cudaSuccess;
    }
    return from_driver(
        driver.cuMemAllocPitch((CUdeviceptr *)(void *)ret_pointer, ret_pitch, width, height, 4));
}

RUNTIME_CALL(cudaMallocManaged, runtime_enter, (void **ret_pointer, size_t size, unsigned flags),
             (ret_pointer, size, flags))
{
    return from_driver(driver.cuMemAllocManaged((CUdeviceptr *)(void *)ret_pointer, size, flags));
}

RUNTIME_CALL(cudaHostAlloc, runtime_enter, (void **ret_pointer, size_t size, unsigned flags),
             (ret_pointer, size, flags))
{
    return from_driver(driver.cuMemHostAlloc(ret_pointer, size, flags));
}

RUNTIME_CALL(cudaMallocHost, runtime_enter, (void **ret_pointer, size_t size), (ret_pointer, size))
{
    return from_driver(driver.cuMemHostAlloc(ret_pointer, size, 0));
}

RUNTIME_CALL(cudaFreeHost, runtime_enter, (void *pointer), (pointer))
{
    return pointer ? from_driver(driver.cuMemFreeHost(pointer)) : cudaSuccess;
}

RUNTIME_CALL(cudaHostRegister, runtime_enter, (void *pointer, size_t size, unsigned flags),
             (pointer, size, flags))
{
    return from_driver(driver.cuMemHostRegister(pointer, size, flags));
}

RUNTIME_CALL(cudaHostUnregister, runtime_enter, (void *pointer), (pointer))
{
    return from_driver(driver.cuMemHostUnregister(pointer));
}

RUNTIME_CALL(cudaHostGetDevicePointer, runtime_enter,
             (void **ret_pointer, void *pointer, unsigned flags), (ret_pointer, pointer, flags))
{
    return from_driver(
        driver.cuMemHostGetDevicePointer((CUdeviceptr *)(void *)ret_pointer, pointer, flags));
}

RUNTIME_CALL(cudaHostGetFlags, runtime_enter, (unsigned *ret_flags, void *pointer),
             (ret_flags, pointer))
{
    return from_driver(driver.cuMemHostGetFlags(ret_flags, pointer));
}

RUNTIME_CALL(cudaMemGetInfo, runtime_enter, (size_t * ret_free, size_t *ret_total),
             (ret_free, ret_total))
{
    return from_driver(driver.cuMemGetInfo(ret_free, ret_total));
}

RUNTIME_CALL(cudaPointerGetAttributes, runtime_enter,
             (struct cudaPointerAttributes * ret_attributes, const void *pointer),
             (ret_attributes, pointer))
{
    CUpointer_attribute list[] = {
        CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
        CU_POINTER_ATTRIBUTE_DEVICE_POINTER, CU_POINTER_ATTRIBUTE_HOST_POINTER,
        CU_POINTER_ATTRIBUTE_IS_MANAGED};
    struct cudaPointerAttributes read = {0};
    unsigned type = 0;
    bool managed = false;
    void *data[] = {&type, &read.device, &read.devicePointer, &read.hostPointer, &managed};
    CUresult result;

    if (!ret_attributes)
        return cudaErrorInvalidValue;
    result = driver.cuPointerGetAttributes(5, list, data, (CUdeviceptr)pointer);
    if (result != CUDA_SUCCESS)
        return from_driver(result);
    read.type = managed                      ? cudaMemoryTypeManaged
                : type == CU_MEMORYTYPE_HOST ? cudaMemoryTypeHost
                : type                       ? cudaMemoryTypeDevice
                                             : cudaMemoryTypeUnregistered;
    if (read.type == cudaMemoryTypeUnregistered)
        read.hostPointer = (void *)pointer;
    *ret_attributes = read;
    return cudaSuccess;
}

RUNTIME_CALL(cudaIpcGetMemHandle, runtime_enter, (CUipcMemHandle * ret_handle, void *pointer),
             (ret_handle, pointer))
{
    return from_driver(driver.cuIpcGetMemHandle(ret_handle, (CUdeviceptr)pointer));
}

RUNTIME_CALL(cudaIpcOpenMemHandle, runtime_enter,
             (void **ret_pointer, CUipcMemHandle handle, unsigned flags),
             (ret_pointer, handle, flags))
{
    return from_driver(
        driver.cuIpcOpenMemHandle((CUdeviceptr *)(void *)ret_pointer, handle, flags));
}

RUNTIME_CALL(cudaIpcCloseMemHandle, runtime_enter, (void *pointer), (pointer))
{
    return from_driver(driver.cuIpcCloseMemHandle((CUdeviceptr)pointer));
}

RUNTIME_STREAM_CALL(cudaMallocAsync, _ptsz, (void **ret_pointer, size_t size, CUstream stream),
                    (ret_pointer, size, stream))
{
    if (!ret_pointer)
        return cudaErrorInvalidValue;
    if (size == 0) {
        *ret_pointer = NULL;
        return cudaSuccess;
    }
    return from_driver(d->cuMemAllocAsync((CUdeviceptr *)(void *)ret_pointer, size, stream));
}

RUNTIME_STREAM_CALL(cudaMallocFromPoolAsync, _ptsz,
                    (void **ret_pointer, size_t size, CUmemoryPool pool, CUstream stream),
                    (ret_pointer, size, pool, stream))
{
    return from_driver(
        d->cuMemAllocFromPoolAsync((CUdeviceptr *)(void *)ret_pointer, size, pool, stream));
}

RUNTIME_STREAM_CALL(cudaFreeAsync, _ptsz, (void *pointer, CUstream stream), (pointer, stream))
{
    return pointer ? from_driver(d->cuMemFreeAsync((CUdeviceptr)pointer, stream)) : cudaSuccess;
}

RUNTIME_CALL(cudaDeviceGetDefaultMemPool, runtime_enter, (CUmemoryPool * ret_pool, int device),
             (ret_pool, device))
{
    return from_driver(driver.cuDeviceGetDefaultMemPool(ret_pool, device));
}

RUNTIME_CALL(cudaDeviceGetMemPool, runtime_enter, (CUmemoryPool * ret_pool, int device),
             (ret_pool, device))
{
    return from_driver(driver.cuDeviceGetMemPool(ret_pool, device));
}

RUNTIME_CALL(cudaDeviceSetMemPool, runtime_enter, (int device, CUmemoryPool pool), (device, pool))
{
    return from_driver(driver.cuDeviceSetMemPool(device, pool));
}

RUNTIME_CALL(cudaMemPoolCreate, runtime_enter,
             (CUmemoryPool * ret_pool, const CUmemPoolProps *props), (ret_pool, props))
{
    return from_driver(driver.cuMemPoolCreate(ret_pool, props));
}

RUNTIME_CALL(cudaMemPoolDestroy, runtime_enter, (CUmemoryPool pool), (pool))
{
    return from_driver(driver.cuMemPoolDestroy(pool));
}

RUNTIME_CALL(cudaMemPoolTrimTo, runtime_enter, (CUmemoryPool pool, size_t keep), (pool, keep))
{
    return from_driver(driver.cuMemPoolTrimTo(pool, keep));
}

RUNTIME_CALL(cudaMemPoolSetAttribute, runtime_enter,
             (CUmemoryPool pool, int attribute, void *value), (pool, attribute, value))
{
    return from_driver(driver.cuMemPoolSetAttribute(pool, (CUmemPool_attribute)attribute, value));
}

RUNTIME_CALL(cudaMemPoolGetAttribute, runtime_enter,
             (CUmemoryPool pool, int attribute, void *value), (pool, attribute, value))
{
    return from_driver(driver.cuMemPoolGetAttribute(pool, (CUmemPool_attribute)attribute, value));
}

RUNTIME_CALL(cudaMemPoolSetAccess, runtime_enter,
             (CUmemoryPool pool, const CUmemAccessDesc *list, size_t count), (pool, list, count))
{
    return from_driver(driver.cuMemPoolSetAccess(pool, list, count));
}

RUNTIME_CALL(cudaMemAdvise, runtime_enter,
             (const void *pointer, size_t size, int advice, CUmemLocation location),
             (pointer, size, advice, location))
{
    return from_driver(
        driver.cuMemAdvise((CUdeviceptr)pointer, size, (CUmem_advise)advice, location));
}

RUNTIME_STREAM_CALL(cudaMemPrefetchAsync, _ptsz,
                    (const void *pointer, size_t size, CUmemLocation location, unsigned flags,
                     CUstream stream),
                    (pointer, size, location, flags, stream))
{
    return from_driver(d->cuMemPrefetchAsync((CUdeviceptr)pointer, size, location, flags, stream));
}
