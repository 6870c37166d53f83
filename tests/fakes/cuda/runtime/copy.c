/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime.h"

static bool kind_is_valid(int kind)
{
    return kind >= cudaMemcpyHostToHost && kind <= cudaMemcpyDefault;
}

RUNTIME_STREAM_CALL(cudaMemcpy, _ptds, (void *to, const void *from, size_t size, int kind),
                    (to, from, size, kind))
{
    CUdeviceptr target = (CUdeviceptr)to, source = (CUdeviceptr)from;

    if (!kind_is_valid(kind))
        return cudaErrorInvalidMemcpyDirection;
    if (size == 0)
        return cudaSuccess;
    if (kind == cudaMemcpyHostToDevice)
        return from_driver(d->cuMemcpyHtoD(target, from, size));
    if (kind == cudaMemcpyDeviceToHost)
        return from_driver(d->cuMemcpyDtoH(to, source, size));
    if (kind == cudaMemcpyDeviceToDevice)
        return from_driver(d->cuMemcpyDtoD(target, source, size));
    return from_driver(d->cuMemcpy(target, source, size));
}

RUNTIME_STREAM_CALL(cudaMemcpyAsync, _ptsz,
                    (void *to, const void *from, size_t size, int kind, CUstream stream),
                    (to, from, size, kind, stream))
{
    CUdeviceptr target = (CUdeviceptr)to, source = (CUdeviceptr)from;

    if (!kind_is_valid(kind))
        return cudaErrorInvalidMemcpyDirection;
    if (size == 0)
        return cudaSuccess;
    if (kind == cudaMemcpyHostToDevice)
        return from_driver(d->cuMemcpyHtoDAsync(target, from, size, stream));
    if (kind == cudaMemcpyDeviceToHost)
        return from_driver(d->cuMemcpyDtoHAsync(to, source, size, stream));
    if (kind == cudaMemcpyDeviceToDevice)
        return from_driver(d->cuMemcpyDtoDAsync(target, source, size, stream));
    return from_driver(d->cuMemcpyAsync(target, source, size, stream));
}

static CUDA_MEMCPY2D rows_of(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                             size_t width, size_t height)
{
    return (CUDA_MEMCPY2D){.srcMemoryType = CU_MEMORYTYPE_UNIFIED,
                           .srcDevice = (CUdeviceptr)from,
                           .srcPitch = from_pitch,
                           .dstMemoryType = CU_MEMORYTYPE_UNIFIED,
                           .dstDevice = (CUdeviceptr)to,
                           .dstPitch = to_pitch,
                           .WidthInBytes = width,
                           .Height = height};
}

RUNTIME_STREAM_CALL(cudaMemcpy2D, _ptds,
                    (void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                     size_t height, int kind),
                    (to, to_pitch, from, from_pitch, width, height, kind))
{
    CUDA_MEMCPY2D rows = rows_of(to, to_pitch, from, from_pitch, width, height);

    if (!kind_is_valid(kind))
        return cudaErrorInvalidMemcpyDirection;
    return from_driver(d->cuMemcpy2DUnaligned(&rows));
}

RUNTIME_STREAM_CALL(cudaMemcpy2DAsync, _ptsz,
                    (void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                     size_t height, int kind, CUstream stream),
                    (to, to_pitch, from, from_pitch, width, height, kind, stream))
{
    CUDA_MEMCPY2D rows = rows_of(to, to_pitch, from, from_pitch, width, height);

    if (!kind_is_valid(kind))
        return cudaErrorInvalidMemcpyDirection;
    return from_driver(d->cuMemcpy2DAsync(&rows, stream));
}

/* Addresses are unified: the devices need not be told. */
RUNTIME_CALL(cudaMemcpyPeer, runtime_enter,
             (void *to, int to_device, const void *from, int from_device, size_t size),
             (to, to_device, from, from_device, size))
{
    return from_driver(
        driver_streams[0].cuMemcpyPeer((CUdeviceptr)to, NULL, (CUdeviceptr)from, NULL, size));
}

RUNTIME_CALL(cudaMemcpyPeerAsync, runtime_enter,
             (void *to, int to_device, const void *from, int from_device, size_t size,
              CUstream stream),
             (to, to_device, from, from_device, size, stream))
{
    return from_driver(driver_streams[0].cuMemcpyPeerAsync((CUdeviceptr)to, NULL, (CUdeviceptr)from,
                                                           NULL, size, stream));
}

RUNTIME_STREAM_CALL(cudaMemset, _ptds, (void *to, int value, size_t size), (to, value, size))
{
    return from_driver(d->cuMemsetD8((CUdeviceptr)to, (unsigned char)value, size));
}

RUNTIME_STREAM_CALL(cudaMemsetAsync, _ptsz, (void *to, int value, size_t size, CUstream stream),
                    (to, value, size, stream))
{
    return from_driver(d->cuMemsetD8Async((CUdeviceptr)to, (unsigned char)value, size, stream));
}

RUNTIME_STREAM_CALL(cudaMemset2D, _ptds,
                    (void *to, size_t pitch, int value, size_t width, size_t height),
                    (to, pitch, value, width, height))
{
    return from_driver(
        d->cuMemsetD2D8((CUdeviceptr)to, pitch, (unsigned char)value, width, height));
}

RUNTIME_STREAM_CALL(cudaMemset2DAsync, _ptsz,
                    (void *to, size_t pitch, int value, size_t width, size_t height,
                     CUstream stream),
                    (to, pitch, value, width, height, stream))
{
    return from_driver(
        d->cuMemsetD2D8Async((CUdeviceptr)to, pitch, (unsigned char)value, width, height, stream));
}
