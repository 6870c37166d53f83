/* SPDX-License-Identifier: Apache-2.0 */
/* The entry points about pools and stream-ordered allocation. */
#include "call.h"
#include "capture.h"
#include "context.h"
#include "device.h"
#include "handle.h"
#include "log.h"
#include "pool.h"

static CUresult alloc_async(CUdeviceptr *ret_pointer, size_t size, struct pool *pool,
                            CUstream handle)
{
    struct stream *stream;
    CUresult result;

    if (!ret_pointer || size == 0)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = stream_resolve(handle, &stream);
    if (result == CUDA_SUCCESS && stream->is_legacy)
        result = capture_check_implicit(stream->context);
    if (result == CUDA_SUCCESS && pool && !handle_is(pool, HANDLE_POOL))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS && !pool) {
        pool = pool_current(stream->context->device);
        result = pool ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (result == CUDA_SUCCESS)
        result = pool_alloc(pool, stream, size, ret_pointer);
    state_unlock();
    return result;
}

FAKE_STREAM_CALL(cuMemAllocAsync, _ptsz, CALL_INIT,
                 (CUdeviceptr * ret_pointer, size_t size, CUstream stream),
                 (ret_pointer, size, stream), "%zu", size)
{
    return alloc_async(ret_pointer, size, NULL, stream);
}

FAKE_STREAM_CALL(cuMemAllocFromPoolAsync, _ptsz, CALL_INIT,
                 (CUdeviceptr * ret_pointer, size_t size, CUmemoryPool pool, CUstream stream),
                 (ret_pointer, size, pool, stream), "%zu", size)
{
    return pool ? alloc_async(ret_pointer, size, pool, stream) : CUDA_ERROR_INVALID_VALUE;
}

FAKE_STREAM_CALL(cuMemFreeAsync, _ptsz, CALL_INIT, (CUdeviceptr pointer, CUstream handle),
                 (pointer, handle), "%s", log_pointer(pointer))
{
    struct stream *stream;
    struct mem *mem;
    CUresult result;

    /* QUESTION(gpu): cuMemFreeAsync(0): success or an error? */
    if (!pointer)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = stream_resolve(handle, &stream);
    mem = mem_find(pointer);
    if (result == CUDA_SUCCESS)
        result =
            mem && mem->base == pointer ? pool_free_later(mem, stream) : CUDA_ERROR_INVALID_VALUE;
    state_unlock();
    return result;
}

static CUresult location_device(const CUmemLocation *location, struct device **ret_device)
{
    if (!location || location->type != CU_MEM_LOCATION_TYPE_DEVICE)
        return CUDA_ERROR_INVALID_VALUE;
    *ret_device = device_get(location->id);
    return *ret_device ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

FAKE_CALL(cuMemPoolCreate, CALL_INIT, (CUmemoryPool * ret_pool, const CUmemPoolProps *props),
          (ret_pool, props), "%zu", props ? props->maxSize : 0)
{
    struct device *device;
    struct pool *pool;
    CUresult result;

    if (!ret_pool || !props ||
        (props->allocType != CU_MEM_ALLOCATION_TYPE_PINNED &&
         props->allocType != CU_MEM_ALLOCATION_TYPE_MANAGED))
        return CUDA_ERROR_INVALID_VALUE;
    /* Pools that other processes may open are not simulated. */
    if (props->handleTypes != CU_MEM_HANDLE_TYPE_NONE)
        return CUDA_ERROR_NOT_SUPPORTED;
    result = location_device(&props->location, &device);
    if (result != CUDA_SUCCESS)
        return result;
    state_lock();
    pool = pool_new(device, props);
    state_unlock();
    if (!pool)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *ret_pool = pool;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuMemPoolDestroy, CALL_INIT, (CUmemoryPool pool), (pool), "%s", "")
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;

    state_lock();
    if (handle_is(pool, HANDLE_POOL) && pool != pool->device->default_pool &&
        pool != pool->device->default_managed) {
        pool_delete(pool);
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuMemPoolTrimTo, CALL_INIT, (CUmemoryPool pool, size_t keep), (pool, keep), "%zu", keep)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;

    state_lock();
    if (handle_is(pool, HANDLE_POOL)) {
        pool_trim(pool, keep);
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

static CUresult attribute_set(struct pool *pool, CUmemPool_attribute attribute, const void *value)
{
    switch (attribute) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
        pool->follow_events = *(const int *)value;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
        pool->opportunistic = *(const int *)value;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
        pool->internal_dependencies = *(const int *)value;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
        pool->release_threshold = *(const cuuint64_t *)value;
        return CUDA_SUCCESS;
    /* The high-water marks can only be reset. */
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
        if (*(const cuuint64_t *)value)
            return CUDA_ERROR_INVALID_VALUE;
        pool->reserved_high = pool->segments.total;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
        if (*(const cuuint64_t *)value)
            return CUDA_ERROR_INVALID_VALUE;
        pool->used_high = pool->used;
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

static CUresult attribute_get(const struct pool *pool, CUmemPool_attribute attribute, void *value)
{
    switch (attribute) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
        *(int *)value = pool->follow_events;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
        *(int *)value = pool->opportunistic;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
        *(int *)value = pool->internal_dependencies;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
        *(cuuint64_t *)value = pool->release_threshold;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
        *(cuuint64_t *)value = pool->segments.total;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
        *(cuuint64_t *)value = pool->reserved_high;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
        *(cuuint64_t *)value = pool->used;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
        *(cuuint64_t *)value = pool->used_high;
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

FAKE_CALL(cuMemPoolSetAttribute, CALL_INIT,
          (CUmemoryPool pool, CUmemPool_attribute attribute, void *value), (pool, attribute, value),
          "%d", (int)attribute)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;

    state_lock();
    if (value && handle_is(pool, HANDLE_POOL))
        result = attribute_set(pool, attribute, value);
    state_unlock();
    return result;
}

FAKE_CALL(cuMemPoolGetAttribute, CALL_INIT,
          (CUmemoryPool pool, CUmemPool_attribute attribute, void *value), (pool, attribute, value),
          "%d", (int)attribute)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;

    state_lock();
    if (value && handle_is(pool, HANDLE_POOL))
        result = attribute_get(pool, attribute, value);
    state_unlock();
    return result;
}

FAKE_CALL(cuMemPoolSetAccess, CALL_INIT,
          (CUmemoryPool pool, const CUmemAccessDesc *list, size_t count), (pool, list, count),
          "%zu", count)
{
    CUresult result = CUDA_SUCCESS;
    struct device *device;

    if (!list && count)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    if (!handle_is(pool, HANDLE_POOL))
        result = CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; result == CUDA_SUCCESS && i < count; i++) {
        result = location_device(&list[i].location, &device);
        if (result != CUDA_SUCCESS)
            break;
        /* The device that holds the memory cannot be shut out. */
        if (device == pool->device && list[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
            result = CUDA_ERROR_INVALID_VALUE;
        else if (list[i].flags)
            pool->peers |= 1ULL << device->ordinal;
        else
            pool->peers &= ~(1ULL << device->ordinal);
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuMemPoolGetAccess, CALL_INIT,
          (CUmemAccess_flags * ret_flags, CUmemoryPool pool, CUmemLocation *location),
          (ret_flags, pool, location), "%s", "")
{
    struct device *device;
    CUresult result;

    if (!ret_flags)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = handle_is(pool, HANDLE_POOL) ? location_device(location, &device)
                                          : CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *ret_flags = pool->peers & 1ULL << device->ordinal ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE
                                                           : CU_MEM_ACCESS_FLAGS_PROT_NONE;
    state_unlock();
    return result;
}

static CUresult pool_of_device(CUmemoryPool *ret_pool, struct device *device,
                               struct pool *(*choose)(struct device *device))
{
    struct pool *pool;

    if (!ret_pool)
        return CUDA_ERROR_INVALID_VALUE;
    if (!device)
        return CUDA_ERROR_INVALID_DEVICE;
    state_lock();
    pool = choose(device);
    state_unlock();
    if (!pool)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *ret_pool = pool;
    return CUDA_SUCCESS;
}

static CUresult pool_set(struct device *device, CUmemAllocationType type, struct pool *pool)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;

    if (!device)
        return CUDA_ERROR_INVALID_DEVICE;
    state_lock();
    if (handle_is(pool, HANDLE_POOL) && pool->device == device &&
        pool_is_managed(pool) == (type == CU_MEM_ALLOCATION_TYPE_MANAGED)) {
        *(pool_is_managed(pool) ? &device->current_managed : &device->current_pool) = pool;
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuDeviceGetDefaultMemPool, CALL_INIT, (CUmemoryPool * ret_pool, CUdevice ordinal),
          (ret_pool, ordinal), "%d", ordinal)
{
    return pool_of_device(ret_pool, device_get(ordinal), pool_default);
}

FAKE_CALL(cuDeviceGetMemPool, CALL_INIT, (CUmemoryPool * ret_pool, CUdevice ordinal),
          (ret_pool, ordinal), "%d", ordinal)
{
    return pool_of_device(ret_pool, device_get(ordinal), pool_current);
}

FAKE_CALL(cuDeviceSetMemPool, CALL_INIT, (CUdevice ordinal, CUmemoryPool pool), (ordinal, pool),
          "%d", ordinal)
{
    return pool_set(device_get(ordinal), CU_MEM_ALLOCATION_TYPE_PINNED, pool);
}

FAKE_CALL(cuMemGetDefaultMemPool, CALL_INIT,
          (CUmemoryPool * ret_pool, CUmemLocation *location, CUmemAllocationType type),
          (ret_pool, location, type), "%d", (int)type)
{
    struct device *device;
    CUresult result = location_device(location, &device);

    return result == CUDA_SUCCESS
               ? pool_of_device(ret_pool, device,
                                type == CU_MEM_ALLOCATION_TYPE_MANAGED ? pool_default_managed
                                                                       : pool_default)
               : result;
}

FAKE_CALL(cuMemGetMemPool, CALL_INIT,
          (CUmemoryPool * ret_pool, CUmemLocation *location, CUmemAllocationType type),
          (ret_pool, location, type), "%d", (int)type)
{
    struct device *device;
    CUresult result = location_device(location, &device);

    return result == CUDA_SUCCESS
               ? pool_of_device(ret_pool, device,
                                type == CU_MEM_ALLOCATION_TYPE_MANAGED ? pool_current_managed
                                                                       : pool_current)
               : result;
}

FAKE_CALL(cuMemSetMemPool, CALL_INIT,
          (CUmemLocation * location, CUmemAllocationType type, CUmemoryPool pool),
          (location, type, pool), "%d", (int)type)
{
    struct device *device;
    CUresult result = location_device(location, &device);

    return result == CUDA_SUCCESS ? pool_set(device, type, pool) : result;
}
