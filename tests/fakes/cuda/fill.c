/* SPDX-License-Identifier: Apache-2.0 */
/* Fills: the memset family. */
#include "call.h"
#include "context.h"
#include "device.h"
#include "log.h"
#include "mem.h"
#include "stream.h"
#include "window.h"

#include <string.h>

struct fill {
    uint64_t to;
    uint32_t value;
    unsigned element; /* 1, 2 or 4 bytes */
    size_t width;     /* elements in a row */
    size_t height;
    size_t pitch; /* bytes */
};

static void fill_run(void *payload)
{
    const struct fill *fill = payload;

    for (size_t row = 0; row < fill->height; row++) {
        unsigned char *to = (unsigned char *)fill->to + row * fill->pitch;

        if (fill->element == 1)
            memset(to, (int)fill->value, fill->width);
        for (size_t i = 0; fill->element != 1 && i < fill->width; i++)
            memcpy(to + i * fill->element, &fill->value, fill->element);
    }
}

static CUresult fill_submit(const struct fill *fill, struct stream *stream)
{
    struct op *op = op_new(CU_GRAPH_NODE_TYPE_MEMSET, sizeof(*fill), fill_run, NULL);

    if (!op)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *(struct fill *)(void *)op->payload = *fill;
    return stream_submit(stream, op);
}

/* What was mapped is open to those devices that were named, and no others: unlike other memory,
 * of which it is not checked whether a peer may use it. */
static bool is_open(const struct mem *mem, const struct stream *stream)
{
    return mem->kind != MEM_VMM || (mem->writers >> stream->context->device->ordinal & 1) != 0;
}

/* A plain memset of device memory does not hold the caller; one of host memory
 * does. */
static CUresult fill_queue(const struct fill *fill, CUstream handle, bool is_async)
{
    struct stream *stream;
    const struct mem *mem;
    CUresult result;

    if (fill->to % fill->element || (fill->height > 1 && fill->pitch < fill->width * fill->element))
        return CUDA_ERROR_INVALID_VALUE;
    if (fill->width == 0 || fill->height == 0)
        return CUDA_SUCCESS;
    state_lock();
    result = stream_resolve(handle, &stream);
    mem = mem_find(fill->to);
    if (result == CUDA_SUCCESS && (!mem || !is_open(mem, stream) ||
                                   !mem_is_accessible(fill->to, (fill->height - 1) * fill->pitch +
                                                                    fill->width * fill->element)))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        result = fill_submit(fill, stream);
    if (result == CUDA_SUCCESS && !stream->capture &&
        ((!is_async && !window_contains(fill->to)) || mem->sync_memops))
        stream_wait(stream);
    state_unlock();
    return result;
}

static CUresult fill_line(CUdeviceptr to, uint32_t value, unsigned element, size_t count,
                          CUstream handle, bool is_async)
{
    struct fill fill = {to, value, element, count, 1, count * element};

    return fill_queue(&fill, handle, is_async);
}

static CUresult fill_rows(CUdeviceptr to, size_t pitch, uint32_t value, unsigned element,
                          size_t width, size_t height, CUstream handle, bool is_async)
{
    struct fill fill = {to, value, element, width, height, pitch};

    return fill_queue(&fill, handle, is_async);
}

/* The names of one element size; the value's type differs. */
#define FILL_CALLS(name, type, element)                                                            \
    FAKE_STREAM_CALL(cuMemset##name##_v2, _ptds, CALL_UNSAFE,                                      \
                     (CUdeviceptr to, type value, size_t count), (to, value, count),               \
                     "%s, %u, %zu", log_pointer(to), (unsigned)value, count)                       \
    {                                                                                              \
        return fill_line(to, value, element, count, NULL, false);                                  \
    }                                                                                              \
    FAKE_STREAM_CALL(cuMemset##name##Async, _ptsz, CALL_INIT,                                      \
                     (CUdeviceptr to, type value, size_t count, CUstream stream),                  \
                     (to, value, count, stream), "%s, %u, %zu", log_pointer(to), (unsigned)value,  \
                     count)                                                                        \
    {                                                                                              \
        return fill_line(to, value, element, count, stream, true);                                 \
    }

#define FILL_2D_CALLS(name, type, element)                                                         \
    FAKE_STREAM_CALL(cuMemset##name##_v2, _ptds, CALL_UNSAFE,                                      \
                     (CUdeviceptr to, size_t pitch, type value, size_t width, size_t height),      \
                     (to, pitch, value, width, height), "%s, %zu, %u, %zu, %zu", log_pointer(to),  \
                     pitch, (unsigned)value, width, height)                                        \
    {                                                                                              \
        return fill_rows(to, pitch, value, element, width, height, NULL, false);                   \
    }                                                                                              \
    FAKE_STREAM_CALL(                                                                              \
        cuMemset##name##Async, _ptsz, CALL_INIT,                                                   \
        (CUdeviceptr to, size_t pitch, type value, size_t width, size_t height, CUstream stream),  \
        (to, pitch, value, width, height, stream), "%s, %zu, %u, %zu, %zu", log_pointer(to),       \
        pitch, (unsigned)value, width, height)                                                     \
    {                                                                                              \
        return fill_rows(to, pitch, value, element, width, height, stream, true);                  \
    }

FILL_CALLS(D8, unsigned char, 1)
FILL_CALLS(D16, unsigned short, 2)
FILL_CALLS(D32, unsigned int, 4)
FILL_2D_CALLS(D2D8, unsigned char, 1)
FILL_2D_CALLS(D2D16, unsigned short, 2)
FILL_2D_CALLS(D2D32, unsigned int, 4)
