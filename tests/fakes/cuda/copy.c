/* SPDX-License-Identifier: Apache-2.0 */
/* Copies. All of them are slices of rows with pitches in the end; one slice of
 * one row for the plain ones. */
#include "call.h"
#include "context.h"
#include "log.h"
#include "mem.h"
#include "stream.h"
#include "window.h"

#include <stdlib.h>
#include <string.h>

struct copy {
    uint64_t to, from;
    size_t width, height, depth;
    size_t to_pitch, from_pitch; /* from row to row */
    size_t to_slice, from_slice; /* from slice to slice */
    unsigned char *staged;       /* the source as it was when the call was made */
};

static struct copy copy_line(uint64_t to, uint64_t from, size_t size)
{
    return (struct copy){.to = to, .from = from, .width = size, .height = 1, .depth = 1};
}

static void copy_run(void *payload)
{
    const struct copy *copy = payload;
    const unsigned char *from = copy->staged;

    for (size_t slice = 0; slice < copy->depth; slice++)
        for (size_t row = 0; row < copy->height; row++) {
            if (!copy->staged)
                from = (const unsigned char *)copy->from + slice * copy->from_slice +
                       row * copy->from_pitch;
            memmove((unsigned char *)copy->to + slice * copy->to_slice + row * copy->to_pitch, from,
                    copy->width);
            from += copy->width; /* the staged rows lie back to back */
        }
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
    unsigned char *to;
    size_t size;

    if (__builtin_mul_overflow(copy->width, copy->height, &size) ||
        __builtin_mul_overflow(size, copy->depth, &size))
        return CUDA_ERROR_INVALID_VALUE;
    to = copy->staged = malloc(size);
    if (!to)
        return CUDA_ERROR_OUT_OF_MEMORY;
    for (size_t slice = 0; slice < copy->depth; slice++)
        for (size_t row = 0; row < copy->height; row++, to += copy->width)
            memcpy(to,
                   (const unsigned char *)copy->from + slice * copy->from_slice +
                       row * copy->from_pitch,
                   copy->width);
    return CUDA_SUCCESS;
}

static bool side_is_accessible(uint64_t address, const struct copy *copy, size_t pitch,
                               size_t slice)
{
    /* QUESTION(gpu): is a copy refused that ends past the allocation? Here: by one byte. */
    return address && mem_is_accessible(address, (copy->depth - 1) * slice +
                                                     (copy->height - 1) * pitch + copy->width);
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

    if (copy->width == 0 || copy->height == 0 || copy->depth == 0)
        return CUDA_SUCCESS;
    state_lock();
    result = stream_resolve(handle, &stream);
    if (result == CUDA_SUCCESS &&
        (!side_is_accessible(copy->to, copy, copy->to_pitch, copy->to_slice) ||
         !side_is_accessible(copy->from, copy, copy->from_pitch, copy->from_slice)))
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

/* Work queued before is done afterwards; NULL is the current context. */
static CUresult wait_in_both(CUcontext to_handle, CUcontext from_handle)
{
    struct context *to, *from;
    CUresult result;

    state_lock();
    result = context_resolve(to_handle, &to);
    if (result == CUDA_SUCCESS)
        result = context_resolve(from_handle, &from);
    if (result == CUDA_SUCCESS)
        result = context_wait(to);
    if (result == CUDA_SUCCESS)
        result = context_wait(from);
    state_unlock();
    return result;
}

/*
 * The driver orders this copy with all work of both contexts and of the current one, and does not
 * make the caller wait for it. Here the caller waits, which gives the same order.
 */
FAKE_STREAM_CALL(cuMemcpyPeer, _ptds, CALL_UNSAFE,
                 (CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                  size_t size),
                 (to, to_context, from, from_context, size), "%s, %s, %zu", log_pointer(to),
                 log_pointer(from), size)
{
    CUresult result;

    if (size && (!is_known(to) || !is_known(from)))
        return CUDA_ERROR_INVALID_VALUE;
    result = wait_in_both(to_context, from_context);
    if (result == CUDA_SUCCESS)
        result = copy_now(to, from, size);
    return result == CUDA_SUCCESS ? wait_in_both(NULL, NULL) : result;
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

static CUresult copy_3d(const CUDA_MEMCPY3D *box, CUstream handle, bool is_async)
{
    struct copy copy = {0};

    if (!box)
        return CUDA_ERROR_INVALID_VALUE;
    /* Arrays are not simulated. */
    if (box->srcMemoryType == CU_MEMORYTYPE_ARRAY || box->dstMemoryType == CU_MEMORYTYPE_ARRAY)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (!side_read(box->srcMemoryType, box->srcHost, box->srcDevice, &copy.from) ||
        !side_read(box->dstMemoryType, box->dstHost, box->dstDevice, &copy.to))
        return CUDA_ERROR_INVALID_VALUE;
    copy.width = box->WidthInBytes;
    copy.height = box->Height;
    copy.depth = box->Depth;
    copy.from_pitch = box->srcPitch ? box->srcPitch : copy.width + box->srcXInBytes;
    copy.to_pitch = box->dstPitch ? box->dstPitch : copy.width + box->dstXInBytes;
    if (copy.from_pitch < copy.width + box->srcXInBytes ||
        copy.to_pitch < copy.width + box->dstXInBytes)
        return CUDA_ERROR_INVALID_VALUE;
    copy.from_slice = copy.from_pitch * (box->srcHeight ? box->srcHeight : copy.height);
    copy.to_slice = copy.to_pitch * (box->dstHeight ? box->dstHeight : copy.height);
    copy.from += box->srcZ * copy.from_slice + box->srcY * copy.from_pitch + box->srcXInBytes;
    copy.to += box->dstZ * copy.to_slice + box->dstY * copy.to_pitch + box->dstXInBytes;
    return copy_queue(&copy, handle, is_async);
}

static CUresult copy_2d(const CUDA_MEMCPY2D *rows, CUstream handle, bool is_async)
{
    CUDA_MEMCPY3D box = {0};

    if (!rows)
        return CUDA_ERROR_INVALID_VALUE;
    box.srcXInBytes = rows->srcXInBytes;
    box.srcY = rows->srcY;
    box.srcMemoryType = rows->srcMemoryType;
    box.srcHost = rows->srcHost;
    box.srcDevice = rows->srcDevice;
    box.srcPitch = rows->srcPitch;
    box.dstXInBytes = rows->dstXInBytes;
    box.dstY = rows->dstY;
    box.dstMemoryType = rows->dstMemoryType;
    box.dstHost = rows->dstHost;
    box.dstDevice = rows->dstDevice;
    box.dstPitch = rows->dstPitch;
    box.WidthInBytes = rows->WidthInBytes;
    box.Height = rows->Height;
    box.Depth = 1;
    return copy_3d(&box, handle, is_async);
}

FAKE_STREAM_CALL(cuMemcpy3D_v2, _ptds, CALL_UNSAFE, (const CUDA_MEMCPY3D *box), (box),
                 "%zu x %zu x %zu", box ? box->WidthInBytes : 0, box ? box->Height : 0,
                 box ? box->Depth : 0)
{
    return copy_3d(box, NULL, false);
}

FAKE_STREAM_CALL(cuMemcpy3DAsync_v2, _ptsz, CALL_INIT, (const CUDA_MEMCPY3D *box, CUstream stream),
                 (box, stream), "%zu x %zu x %zu", box ? box->WidthInBytes : 0,
                 box ? box->Height : 0, box ? box->Depth : 0)
{
    return copy_3d(box, stream, true);
}

/* Several plain copies in one call. Their attributes are hints. */
static CUresult copy_batch(const CUdeviceptr *to, const CUdeviceptr *from, const size_t *sizes,
                           size_t count, CUstream stream)
{
    CUresult result = CUDA_SUCCESS;

    /* The default streams are not allowed here. */
    if (!to || !from || !sizes || count == 0 || !stream || stream == CU_STREAM_LEGACY ||
        stream == CU_STREAM_PER_THREAD)
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count && result == CUDA_SUCCESS; i++)
        result = copy_later(to[i], from[i], sizes[i], stream);
    return result;
}

FAKE_STREAM_CALL(cuMemcpyBatchAsync, _ptsz, CALL_INIT,
                 (CUdeviceptr * to, CUdeviceptr *from, size_t *sizes, size_t count,
                  void *attributes, size_t *attribute_starts, size_t attributes_count,
                  size_t *ret_failed, CUstream stream),
                 (to, from, sizes, count, attributes, attribute_starts, attributes_count,
                  ret_failed, stream),
                 "%zu", count)
{
    if (ret_failed)
        *ret_failed = SIZE_MAX; /* no single copy is to blame */
    return copy_batch(to, from, sizes, count, stream);
}

FAKE_STREAM_CALL(cuMemcpyBatchAsync_v2, _ptsz, CALL_INIT,
                 (CUdeviceptr * to, CUdeviceptr *from, size_t *sizes, size_t count,
                  void *attributes, size_t *attribute_starts, size_t attributes_count,
                  CUstream stream),
                 (to, from, sizes, count, attributes, attribute_starts, attributes_count, stream),
                 "%zu", count)
{
    return copy_batch(to, from, sizes, count, stream);
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
