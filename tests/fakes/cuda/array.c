/* SPDX-License-Identifier: Apache-2.0 */
#include "array.h"

#include "call.h"
#include "context.h"
#include "handle.h"
#include "segment.h"

#include <stdlib.h>

/* A level of a mipmapped array is an array without memory of its own. */
struct array {
    struct array *next;
    CUDA_ARRAY3D_DESCRIPTOR descriptor;
    struct context *context;
    struct mipmapped *whole; /* NULL: an array by itself */
    struct segment *segment;
    uint64_t base;
};

struct mipmapped {
    struct mipmapped *next;
    CUDA_ARRAY3D_DESCRIPTOR descriptor;
    struct context *context;
    unsigned levels;
    struct segment *segment;
    uint64_t base;
};

static struct array *arrays;
static struct mipmapped *mipmappeds;

static unsigned format_bytes(CUarray_format format)
{
    switch (format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8:
        return 1;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF:
        return 2;
    case CU_AD_FORMAT_UNSIGNED_INT32:
    case CU_AD_FORMAT_SIGNED_INT32:
    case CU_AD_FORMAT_FLOAT:
        return 4;
    }
    return 0;
}

static size_t extent_of(size_t extent, unsigned level)
{
    extent = extent ? extent : 1;
    return extent >> level ? extent >> level : 1;
}

static CUDA_ARRAY3D_DESCRIPTOR level_of(const CUDA_ARRAY3D_DESCRIPTOR *descriptor, unsigned level)
{
    CUDA_ARRAY3D_DESCRIPTOR smaller = *descriptor;
    bool is_layered = descriptor->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP);

    smaller.Width = extent_of(descriptor->Width, level);
    if (descriptor->Height)
        smaller.Height = extent_of(descriptor->Height, level);
    if (descriptor->Depth && !is_layered)
        smaller.Depth = extent_of(descriptor->Depth, level);
    return smaller;
}

/* 0 for a descriptor that is none. */
static uint64_t size_of(const CUDA_ARRAY3D_DESCRIPTOR *descriptor)
{
    unsigned channels = descriptor->NumChannels;
    uint64_t size = format_bytes(descriptor->Format) * (uint64_t)channels;

    if ((channels != 1 && channels != 2 && channels != 4) || descriptor->Width == 0 ||
        __builtin_mul_overflow(size, descriptor->Width, &size) ||
        __builtin_mul_overflow(size, extent_of(descriptor->Height, 0), &size) ||
        __builtin_mul_overflow(size, extent_of(descriptor->Depth, 0), &size))
        return 0;
    return size;
}

static bool has_memory(const CUDA_ARRAY3D_DESCRIPTOR *descriptor)
{
    return !(descriptor->Flags & (CUDA_ARRAY3D_SPARSE | CUDA_ARRAY3D_DEFERRED_MAPPING));
}

static struct array *array_add(const CUDA_ARRAY3D_DESCRIPTOR *descriptor, struct context *context)
{
    struct array *array = calloc(1, sizeof(*array));

    if (!array || handle_add(array, HANDLE_ARRAY) < 0) {
        free(array);
        return NULL;
    }
    array->descriptor = *descriptor;
    array->context = context;
    array->next = arrays;
    arrays = array;
    return array;
}

static void array_delete(struct array *array)
{
    struct array **link = &arrays;

    while (*link != array)
        link = &(*link)->next;
    *link = array->next;
    handle_remove(array);
    free(array);
}

static CUresult array_create(CUarray *ret_array, const CUDA_ARRAY3D_DESCRIPTOR *descriptor)
{
    uint64_t size = size_of(descriptor), base = 0;
    struct segment *segment = NULL;
    struct context *context;
    struct array *array;
    CUresult result;

    if (!ret_array || size == 0)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = context_current(&context);
    if (result == CUDA_SUCCESS && has_memory(descriptor))
        result = segment_alloc(&context->segments, size, 0, &base, &segment);
    if (result == CUDA_SUCCESS) {
        array = array_add(descriptor, context);
        if (array) {
            array->base = base;
            array->segment = segment;
            *ret_array = array;
        } else {
            result = CUDA_ERROR_OUT_OF_MEMORY;
            if (segment)
                segment_free(&context->segments, segment, base, false);
        }
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuArrayCreate_v2, CALL_UNSAFE,
          (CUarray * ret_array, const CUDA_ARRAY_DESCRIPTOR *descriptor), (ret_array, descriptor),
          "%zu, %zu", descriptor ? descriptor->Width : 0, descriptor ? descriptor->Height : 0)
{
    if (!descriptor)
        return CUDA_ERROR_INVALID_VALUE;
    return array_create(ret_array, &(CUDA_ARRAY3D_DESCRIPTOR){
                                       .Width = descriptor->Width,
                                       .Height = descriptor->Height,
                                       .Format = descriptor->Format,
                                       .NumChannels = descriptor->NumChannels,
                                   });
}

FAKE_CALL(cuArray3DCreate_v2, CALL_UNSAFE,
          (CUarray * ret_array, const CUDA_ARRAY3D_DESCRIPTOR *descriptor), (ret_array, descriptor),
          "%zu, %zu, %zu", descriptor ? descriptor->Width : 0, descriptor ? descriptor->Height : 0,
          descriptor ? descriptor->Depth : 0)
{
    return descriptor ? array_create(ret_array, descriptor) : CUDA_ERROR_INVALID_VALUE;
}

FAKE_CALL(cuArrayDestroy, CALL_UNSAFE, (CUarray array), (array), "%s", "")
{
    CUresult result = CUDA_ERROR_INVALID_HANDLE;

    state_lock();
    if (handle_is(array, HANDLE_ARRAY) && !array->whole)
        result = context_wait(array->context);
    if (result == CUDA_SUCCESS) {
        if (array->segment)
            segment_free(&array->context->segments, array->segment, array->base, false);
        array_delete(array);
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuArray3DGetDescriptor_v2, CALL_INIT,
          (CUDA_ARRAY3D_DESCRIPTOR * ret_descriptor, CUarray array), (ret_descriptor, array), "%s",
          "")
{
    CUresult result = CUDA_ERROR_INVALID_HANDLE;

    if (!ret_descriptor)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    if (handle_is(array, HANDLE_ARRAY)) {
        *ret_descriptor = array->descriptor;
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuArrayGetDescriptor_v2, CALL_INIT,
          (CUDA_ARRAY_DESCRIPTOR * ret_descriptor, CUarray array), (ret_descriptor, array), "%s",
          "")
{
    CUDA_ARRAY3D_DESCRIPTOR descriptor;
    CUresult result;

    if (!ret_descriptor)
        return CUDA_ERROR_INVALID_VALUE;
    result = cuArray3DGetDescriptor_v2_body(&descriptor, array);
    if (result == CUDA_SUCCESS)
        *ret_descriptor = (CUDA_ARRAY_DESCRIPTOR){descriptor.Width, descriptor.Height,
                                                  descriptor.Format, descriptor.NumChannels};
    return result;
}

/* All levels share one piece of memory. Fewer than asked for, where the last would be empty. */
static CUresult mipmapped_create(struct mipmapped *mipmapped)
{
    struct context *context = mipmapped->context;
    uint64_t size = 0;

    for (unsigned i = 0; i < mipmapped->levels; i++) {
        CUDA_ARRAY3D_DESCRIPTOR level = level_of(&mipmapped->descriptor, i);

        if (size_of(&level) == 0 || __builtin_add_overflow(size, size_of(&level), &size))
            return CUDA_ERROR_INVALID_VALUE;
    }
    if (!has_memory(&mipmapped->descriptor))
        return CUDA_SUCCESS;
    return segment_alloc(&context->segments, size, 0, &mipmapped->base, &mipmapped->segment);
}

static unsigned levels_max(const CUDA_ARRAY3D_DESCRIPTOR *descriptor)
{
    size_t extent = descriptor->Width | descriptor->Height | descriptor->Depth;
    unsigned levels = 1;

    while (extent >>= 1)
        levels++;
    return levels;
}

FAKE_CALL(cuMipmappedArrayCreate, CALL_UNSAFE,
          (CUmipmappedArray * ret_array, const CUDA_ARRAY3D_DESCRIPTOR *descriptor,
           unsigned int levels),
          (ret_array, descriptor, levels), "%zu, %zu, %zu, %u", descriptor ? descriptor->Width : 0,
          descriptor ? descriptor->Height : 0, descriptor ? descriptor->Depth : 0, levels)
{
    struct mipmapped *mipmapped;
    CUresult result;

    if (!ret_array || !descriptor || levels == 0)
        return CUDA_ERROR_INVALID_VALUE;
    mipmapped = calloc(1, sizeof(*mipmapped));
    if (!mipmapped)
        return CUDA_ERROR_OUT_OF_MEMORY;
    mipmapped->descriptor = *descriptor;
    mipmapped->levels = levels < levels_max(descriptor) ? levels : levels_max(descriptor);
    state_lock();
    result = context_current(&mipmapped->context);
    if (result == CUDA_SUCCESS)
        result = mipmapped_create(mipmapped);
    if (result == CUDA_SUCCESS && handle_add(mipmapped, HANDLE_MIPMAPPED) < 0)
        result = CUDA_ERROR_OUT_OF_MEMORY;
    if (result == CUDA_SUCCESS) {
        mipmapped->next = mipmappeds;
        mipmappeds = mipmapped;
        *ret_array = mipmapped;
    } else {
        if (mipmapped->segment)
            segment_free(&mipmapped->context->segments, mipmapped->segment, mipmapped->base, false);
        free(mipmapped);
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuMipmappedArrayGetLevel, CALL_INIT,
          (CUarray * ret_array, CUmipmappedArray array, unsigned int level),
          (ret_array, array, level), "%u", level)
{
    CUresult result = CUDA_ERROR_INVALID_HANDLE;

    if (!ret_array)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    if (handle_is(array, HANDLE_MIPMAPPED)) {
        CUDA_ARRAY3D_DESCRIPTOR descriptor = level_of(&array->descriptor, level);
        struct array *made = level < array->levels ? array_add(&descriptor, array->context) : NULL;

        result = made ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
        if (made) {
            made->whole = array;
            *ret_array = made;
        }
    }
    state_unlock();
    return result;
}

static void mipmapped_delete(struct mipmapped *mipmapped)
{
    struct mipmapped **link = &mipmappeds;
    struct array *next;

    for (struct array *array = arrays; array; array = next) {
        next = array->next;
        if (array->whole == mipmapped)
            array_delete(array);
    }
    while (*link != mipmapped)
        link = &(*link)->next;
    *link = mipmapped->next;
    handle_remove(mipmapped);
    free(mipmapped);
}

FAKE_CALL(cuMipmappedArrayDestroy, CALL_UNSAFE, (CUmipmappedArray array), (array), "%s", "")
{
    CUresult result = CUDA_ERROR_INVALID_HANDLE;

    state_lock();
    if (handle_is(array, HANDLE_MIPMAPPED))
        result = context_wait(array->context);
    if (result == CUDA_SUCCESS) {
        if (array->segment)
            segment_free(&array->context->segments, array->segment, array->base, false);
        mipmapped_delete(array);
    }
    state_unlock();
    return result;
}

void array_forget_context(struct context *context)
{
    struct mipmapped *next_mipmapped;
    struct array *next;

    for (struct mipmapped *mipmapped = mipmappeds; mipmapped; mipmapped = next_mipmapped) {
        next_mipmapped = mipmapped->next;
        if (mipmapped->context == context)
            mipmapped_delete(mipmapped);
    }
    for (struct array *array = arrays; array; array = next) {
        next = array->next;
        if (array->context == context)
            array_delete(array);
    }
}
