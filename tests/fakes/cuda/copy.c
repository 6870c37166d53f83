/* SPDX-License-Identifier: Apache-2.0 */
/* Copies. All of them are rows with pitches in the end; one row for the plain
 * ones. */
#include "call.h"
#include "log.h"
#include "mem.h"
#include "stream.h"
#include "window.h"

#include <stdlib.h>
#include <string.h>

struct copy {
    uint64_t to, from;
    size_t width, height;
    size_t to_pitch, from_pitch;
    unsigned char *staged; /* the source as it was when the call was made */
};

static struct copy copy_line(uint64_t to, uint64_t from, size_t size)
{
    return (struct copy){to, from, size, 1, size, size, NULL};
}

static void copy_run(void *payload)
{
    const struct copy *copy = payload;
    const unsigned char *from = copy->staged ? copy->staged : (const unsigned char *)copy->from;
    size_t from_pitch = copy->staged ? copy->width : copy->from_pitch;

    for (size_t row = 0; row < copy->height; row++)
        memmove((unsigned char *)copy->to + row * copy->to_pitch, from + row * from_pitch,
                copy->width);
}

static void copy_drop(void *payload)
{
    free(((struct copy *)payload)->staged);
}

static bool is_pageable(uint64_t address)
{
    return !window_contains(address) && !mem_find(address);
}

/* A copy from pageable memory has read it by the time the call returns. */
static CUresult copy_stage(struct copy *copy)
{
    size_t size;

    if (__builtin_mul_overflow(copy->width, copy->height, &size))
        return CUDA_ERROR_INVALID_VALUE;
    copy->staged = malloc(size);
    if (!copy->staged)
        return CUDA_ERROR_OUT_OF_MEMORY;
    for (size_t row = 0; row < copy->height; row++)
        memcpy(copy->staged + row * copy->width,
               (const unsigned char *)copy->from + row * copy->from_pitch, copy->width);
    return CUDA_SUCCESS;
}

static bool side_is_accessible(uint64_t address, size_t width, size_t height, size_t pitch)
{
    return address && mem_is_accessible(address, (height - 1) * pitch + width);
}

static bool needs_sync_memops(uint64_t address)
{
    const struct mem *mem = mem_find(address);

    return mem && mem->sync_memops;
}

static CUresult copy_submit(const struct copy *copy, struct stream *stream, bool is_async)
{
    struct copy *payload;
    struct op *op;
    CUresult result = CUDA_SUCCESS;

    op = op_new(CU_GRAPH_NODE_TYPE_MEMCPY, sizeof(*copy), copy_run, copy_drop);
    if (!op)
        return CUDA_ERROR_OUT_OF_MEMORY;
    payload = (struct copy *)(void *)op->payload;
    *payload = *copy;
    if (is_async && !stream->capture && is_pageable(copy->from) && !is_pageable(copy->to))
        result = copy_stage(payload);
    if (result != CUDA_SUCCESS) {
        op_free(op);
        return result;
    }
    return stream_submit(stream, op);
}

/* Whether the caller is held until the copy is done, as NVIDIA's "API
 * synchronization behavior" says: a plain copy with a host side does, one
 * between devices does not; an asynchronous one to pageable memory does. */
static bool copy_holds_caller(const struct copy *copy, bool is_async)
{
    bool to_device = window_contains(copy->to), from_device = window_contains(copy->from);

    if (needs_sync_memops(copy->to) || needs_sync_memops(copy->from))
        return true;
    if (is_async)
        return is_pageable(copy->to);
    return !to_device || !from_device;
}

static CUresult copy_queue(const struct copy *copy, CUstream handle, bool is_async)
{
    struct stream *stream;
    CUresult result;

    if (copy->width == 0 || copy->height == 0)
        return CUDA_SUCCESS;
    state_lock();
    result = stream_resolve(handle, &stream);
    if (result == CUDA_SUCCESS &&
        (!side_is_accessible(copy->to, copy->width, copy->height, copy->to_pitch) ||
         !side_is_accessible(copy->from, copy->width, copy->height, copy->from_pitch)))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        result = copy_submit(copy, stream, is_async);
    if (result == CUDA_SUCCESS && !stream->capture && copy_holds_caller(copy, is_async))
        stream_wait(stream);
    state_unlock();
    return result;
}

/* A device side must be memory that the driver knows. */
static bool is_known(uint64_t address)
{
    bool known;

    state_lock();
    known = mem_find(address) != NULL;
    state_unlock();
    return known;
}

static CUresult copy_now(uint64_t to, uint64_t from, size_t size)
{
    struct copy copy = copy_line(to, from, size);

    return copy_queue(&copy, NULL, false);
}

static CUresult copy_later(uint64_t to, uint64_t from, size_t size, CUstream handle)
{
    struct copy copy = copy_line(to, from, size);

    return copy_queue(&copy, handle, true);
}

FAKE_STREAM_CALL(cuMemcpy, _ptds, CALL_UNSAFE, (CUdeviceptr to, CUdeviceptr from, size_t size),
                 (to, from, size), "%s, %s, %zu", log_pointer(to), log_pointer(from), size)
{
    return copy_now(to, from, size);
}

FAKE_STREAM_CALL(cuMemcpyHtoD_v2, _ptds, CALL_UNSAFE,
                 (CUdeviceptr to, const void *from, size_t size), (to, from, size), "%s, %zu",
                 log_pointer(to), size)
{
    return size && !is_known(to) ? CUDA_ERROR_INVALID_VALUE : copy_now(to, (uint64_t)from, size);
}

FAKE_STREAM_CALL(cuMemcpyDtoH_v2, _ptds, CALL_UNSAFE, (void *to, CUdeviceptr from, size_t size),
                 (to, from, size), "%s, %zu", log_pointer(from), size)
{
    return size && !is_known(from) ? CUDA_ERROR_INVALID_VALUE : copy_now((uint64_t)to, from, size);
}

FAKE_STREAM_CALL(cuMemcpyDtoD_v2, _ptds, CALL_UNSAFE,
                 (CUdeviceptr to, CUdeviceptr from, size_t size), (to, from, size), "%s, %s, %zu",
                 log_pointer(to), log_pointer(from), size)
{
    if (size && (!is_known(to) || !is_known(from)))
        return CUDA_ERROR_INVALID_VALUE;
    return copy_now(to, from, size);
}

FAKE_STREAM_CALL(cuMemcpyPeer, _ptds, CALL_UNSAFE,
                 (CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                  size_t size),
                 (to, to_context, from, from_context, size), "%s, %s, %zu", log_pointer(to),
                 log_pointer(from), size)
{
    if (size && (!is_known(to) || !is_known(from)))
        return CUDA_ERROR_INVALID_VALUE;
    return copy_now(to, from, size);
}

FAKE_STREAM_CALL(cuMemcpyAsync, _ptsz, CALL_INIT,
                 (CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream),
                 (to, from, size, stream), "%s, %s, %zu", log_pointer(to), log_pointer(from), size)
{
    return copy_later(to, from, size, stream);
}

FAKE_STREAM_CALL(cuMemcpyHtoDAsync_v2, _ptsz, CALL_INIT,
                 (CUdeviceptr to, const void *from, size_t size, CUstream stream),
                 (to, from, size, stream), "%s, %zu", log_pointer(to), size)
{
    if (size && !is_known(to))
        return CUDA_ERROR_INVALID_VALUE;
    return copy_later(to, (uint64_t)from, size, stream);
}

FAKE_STREAM_CALL(cuMemcpyDtoHAsync_v2, _ptsz, CALL_INIT,
                 (void *to, CUdeviceptr from, size_t size, CUstream stream),
                 (to, from, size, stream), "%s, %zu", log_pointer(from), size)
{
    if (size && !is_known(from))
        return CUDA_ERROR_INVALID_VALUE;
    return copy_later((uint64_t)to, from, size, stream);
}

FAKE_STREAM_CALL(cuMemcpyDtoDAsync_v2, _ptsz, CALL_INIT,
                 (CUdeviceptr to, CUdeviceptr from, size_t size, CUstream stream),
                 (to, from, size, stream), "%s, %s, %zu", log_pointer(to), log_pointer(from), size)
{
    if (size && (!is_known(to) || !is_known(from)))
        return CUDA_ERROR_INVALID_VALUE;
    return copy_later(to, from, size, stream);
}

FAKE_STREAM_CALL(cuMemcpyPeerAsync, _ptsz, CALL_INIT,
                 (CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                  size_t size, CUstream stream),
                 (to, to_context, from, from_context, size, stream), "%s, %s, %zu", log_pointer(to),
                 log_pointer(from), size)
{
    if (size && (!is_known(to) || !is_known(from)))
        return CUDA_ERROR_INVALID_VALUE;
    return copy_later(to, from, size, stream);
}

static bool side_read(CUmemorytype type, const void *host, CUdeviceptr device, uint64_t *ret_base)
{
    if (type != CU_MEMORYTYPE_HOST && type != CU_MEMORYTYPE_DEVICE && type != CU_MEMORYTYPE_UNIFIED)
        return false;
    *ret_base = type == CU_MEMORYTYPE_HOST ? (uint64_t)host : device;
    return true;
}

static CUresult copy_2d(const CUDA_MEMCPY2D *rows, CUstream handle, bool is_async)
{
    struct copy copy = {0};

    if (!rows)
        return CUDA_ERROR_INVALID_VALUE;
    /* Arrays are not simulated. */
    if (rows->srcMemoryType == CU_MEMORYTYPE_ARRAY || rows->dstMemoryType == CU_MEMORYTYPE_ARRAY)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (!side_read(rows->srcMemoryType, rows->srcHost, rows->srcDevice, &copy.from) ||
        !side_read(rows->dstMemoryType, rows->dstHost, rows->dstDevice, &copy.to))
        return CUDA_ERROR_INVALID_VALUE;
    copy.width = rows->WidthInBytes;
    copy.height = rows->Height;
    copy.from_pitch = rows->srcPitch ? rows->srcPitch : copy.width + rows->srcXInBytes;
    copy.to_pitch = rows->dstPitch ? rows->dstPitch : copy.width + rows->dstXInBytes;
    if (copy.from_pitch < copy.width + rows->srcXInBytes ||
        copy.to_pitch < copy.width + rows->dstXInBytes)
        return CUDA_ERROR_INVALID_VALUE;
    copy.from += rows->srcY * copy.from_pitch + rows->srcXInBytes;
    copy.to += rows->dstY * copy.to_pitch + rows->dstXInBytes;
    return copy_queue(&copy, handle, is_async);
}

FAKE_STREAM_CALL(cuMemcpy2D_v2, _ptds, CALL_UNSAFE, (const CUDA_MEMCPY2D *rows), (rows),
                 "%zu x %zu", rows ? rows->WidthInBytes : 0, rows ? rows->Height : 0)
{
    return copy_2d(rows, NULL, false);
}

FAKE_STREAM_CALL(cuMemcpy2DUnaligned_v2, _ptds, CALL_UNSAFE, (const CUDA_MEMCPY2D *rows), (rows),
                 "%zu x %zu", rows ? rows->WidthInBytes : 0, rows ? rows->Height : 0)
{
    return copy_2d(rows, NULL, false);
}

FAKE_STREAM_CALL(cuMemcpy2DAsync_v2, _ptsz, CALL_INIT, (const CUDA_MEMCPY2D *rows, CUstream stream),
                 (rows, stream), "%zu x %zu", rows ? rows->WidthInBytes : 0,
                 rows ? rows->Height : 0)
{
    return copy_2d(rows, stream, true);
}
