/* SPDX-License-Identifier: Apache-2.0 */
/* Textures: objects that name memory and say how to read it. Nothing reads
 * through them here; what counts is which memory they can be made of. */
#include "array.h"
#include "call.h"
#include "handle.h"
#include "mem.h"

#include <stdint.h>
#include <stdlib.h>

/* As CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT and TEXTURE_PITCH_ALIGNMENT say. */
#define TEXTURE_ALIGNMENT 512
#define PITCH_ALIGNMENT 32

struct texture {
    CUDA_RESOURCE_DESC resource;
};

static CUresult check_memory(CUdeviceptr pointer, size_t pitch, uint64_t size)
{
    return pointer && size && pointer % TEXTURE_ALIGNMENT == 0 && pitch % PITCH_ALIGNMENT == 0 &&
                   mem_find(pointer) && mem_is_accessible(pointer, size)
               ? CUDA_SUCCESS
               : CUDA_ERROR_INVALID_VALUE;
}

static CUresult check_resource(const CUDA_RESOURCE_DESC *resource)
{
    uint64_t size;

    if (resource->flags)
        return CUDA_ERROR_INVALID_VALUE;
    switch (resource->resType) {
    case CU_RESOURCE_TYPE_ARRAY:
        return handle_is(resource->res.array.hArray, HANDLE_ARRAY) ? CUDA_SUCCESS
                                                                   : CUDA_ERROR_INVALID_HANDLE;
    case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY:
        return handle_is(resource->res.mipmap.hMipmappedArray, HANDLE_MIPMAPPED)
                   ? CUDA_SUCCESS
                   : CUDA_ERROR_INVALID_HANDLE;
    case CU_RESOURCE_TYPE_LINEAR:
        return check_memory(resource->res.linear.devPtr, 0, resource->res.linear.sizeInBytes);
    case CU_RESOURCE_TYPE_PITCH2D:
        if (__builtin_mul_overflow(resource->res.pitch2D.pitchInBytes, resource->res.pitch2D.height,
                                   &size))
            return CUDA_ERROR_INVALID_VALUE;
        return check_memory(resource->res.pitch2D.devPtr, resource->res.pitch2D.pitchInBytes, size);
    }
    return CUDA_ERROR_INVALID_VALUE;
}

static CUresult create(CUtexObject *ret_texture, const CUDA_RESOURCE_DESC *resource)
{
    CUresult result = check_resource(resource);
    struct texture *texture;

    if (result != CUDA_SUCCESS)
        return result;
    texture = malloc(sizeof(*texture));
    if (!texture || handle_add(texture, HANDLE_TEXTURE) < 0) {
        free(texture);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    texture->resource = *resource;
    *ret_texture = (uintptr_t)texture;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuTexObjectCreate, CALL_INIT,
          (CUtexObject * ret_texture, const CUDA_RESOURCE_DESC *resource,
           const CUDA_TEXTURE_DESC *texture, const CUDA_RESOURCE_VIEW_DESC *view),
          (ret_texture, resource, texture, view), "%d", resource ? (int)resource->resType : -1)
{
    CUresult result;

    if (!ret_texture || !resource || !texture)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = create(ret_texture, resource);
    state_unlock();
    return result;
}

FAKE_CALL(cuTexObjectDestroy, CALL_INIT, (CUtexObject texture), (texture), "%s", "")
{
    struct texture *object = (struct texture *)(uintptr_t)texture;
    CUresult result = CUDA_ERROR_INVALID_VALUE;

    state_lock();
    if (handle_is(object, HANDLE_TEXTURE)) {
        handle_remove(object);
        free(object);
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuTexObjectGetResourceDesc, CALL_INIT,
          (CUDA_RESOURCE_DESC * ret_resource, CUtexObject texture), (ret_resource, texture), "%s",
          "")
{
    const struct texture *object = (const struct texture *)(uintptr_t)texture;
    CUresult result = CUDA_ERROR_INVALID_VALUE;

    if (!ret_resource)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    if (handle_is(object, HANDLE_TEXTURE)) {
        *ret_resource = object->resource;
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}
