/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocation calls of the virtual driver. Semantics: cuda.h of CUDA 13.0, by each name. A pool is
 * its device's memory with books of its own: what is freed goes back at once.
 */
#include "tools/virtual/calls.h"

#include <stdlib.h>
#include <string.h>

struct virtual_pool {
    int device;
    uint64_t threshold; /* CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, which is kept and not used */
    uint64_t used, used_peak;
};

static struct virtual_pool default_pools[VIRTUAL_DEVICES_MAX];
static struct virtual_pool *current_pools[VIRTUAL_DEVICES_MAX];

static int allocate(enum virtual_kind kind, int device, struct virtual_context *context,
                    address_t *address, size_t size)
{
    struct virtual_range *range = NULL;
    int result;

    if (!address || size == 0)
        return CU_INVALID_VALUE;
    pthread_mutex_lock(&virtual_lock);
    virtual_count(true);
    result = virtual_range_new(kind, device, context, size, &range);
    if (result == CU_SUCCESS)
        *address = range->base;
    pthread_mutex_unlock(&virtual_lock);
    return result;
}

int cuMemAlloc_v2(address_t *address, size_t size)
{
    struct virtual_context *context = virtual_current();

    if (!context)
        return virtual_is_started() ? CU_INVALID_CONTEXT : CU_NOT_INITIALIZED;
    return allocate(VIRTUAL_ALLOCATION, context->device, context, address, size);
}

int cuMemAllocManaged(address_t *address, size_t size, unsigned flags)
{
    return cuMemAlloc_v2(address, size);
}

int cuMemAllocPitch_v2(address_t *address, size_t *pitch, size_t width, size_t height,
                       unsigned element_size)
{
    size_t size;

    if (!pitch || __builtin_mul_overflow((width + 511) & ~(size_t)511, height, &size))
        return CU_INVALID_VALUE;
    *pitch = (width + 511) & ~(size_t)511;
    return cuMemAlloc_v2(address, size);
}

static int release(address_t address)
{
    struct virtual_range *range;
    int result = CU_INVALID_VALUE;

    pthread_mutex_lock(&virtual_lock);
    virtual_count(false);
    range = virtual_range_at(address);
    if (range && range->kind != VIRTUAL_RESERVED) {
        if (range->pool)
            ((struct virtual_pool *)range->pool)->used -= range->size;
        virtual_range_delete(range);
        result = CU_SUCCESS;
    }
    pthread_mutex_unlock(&virtual_lock);
    return result;
}

int cuMemFree_v2(address_t address)
{
    if (!virtual_is_started())
        return CU_NOT_INITIALIZED;
    return address == 0 ? CU_SUCCESS : release(address);
}

int cuMemGetInfo_v2(size_t *free_size, size_t *total_size)
{
    const struct virtual_context *context = virtual_current();

    if (!context)
        return CU_INVALID_CONTEXT;
    if (!free_size || !total_size)
        return CU_INVALID_VALUE;
    pthread_mutex_lock(&virtual_lock);
    *free_size = virtual_capacity() - virtual_used(context->device);
    *total_size = virtual_capacity();
    pthread_mutex_unlock(&virtual_lock);
    return CU_SUCCESS;
}

int cuMemGetAddressRange_v2(address_t *base, size_t *size, address_t address)
{
    const struct virtual_range *range;

    pthread_mutex_lock(&virtual_lock);
    range = virtual_range_of(address);
    if (range && base)
        *base = range->base;
    if (range && size)
        *size = range->size;
    pthread_mutex_unlock(&virtual_lock);
    return range ? CU_SUCCESS : CU_NOT_FOUND;
}

/* Page-locked host memory is the process's own. */
int cuMemHostAlloc(void **pointer, size_t size, unsigned flags)
{
    if (!pointer || size == 0)
        return CU_INVALID_VALUE;
    *pointer = malloc(size);
    return *pointer ? CU_SUCCESS : CU_OUT_OF_MEMORY;
}

int cuMemAllocHost_v2(void **pointer, size_t size)
{
    return cuMemHostAlloc(pointer, size, 0);
}

int cuMemFreeHost(void *pointer)
{
    free(pointer);
    return CU_SUCCESS;
}

int cuMemHostRegister_v2(void *pointer, size_t size, unsigned flags)
{
    return pointer && size > 0 ? CU_SUCCESS : CU_INVALID_VALUE;
}

int cuMemHostUnregister(void *pointer)
{
    return pointer ? CU_SUCCESS : CU_INVALID_VALUE;
}

/* Stream-ordered. Every stream is idle, so that order is kept by doing everything at once. */

static struct virtual_pool *pool_of(int device)
{
    default_pools[device].device = device;
    return current_pools[device] ? current_pools[device] : &default_pools[device];
}

int cuMemAllocFromPoolAsync(address_t *address, size_t size, struct virtual_pool *pool,
                            void *stream)
{
    struct virtual_range *range = NULL;
    int result;

    if (!address || size == 0 || !pool)
        return CU_INVALID_VALUE;
    pthread_mutex_lock(&virtual_lock);
    virtual_count(true);
    result = virtual_range_new(VIRTUAL_POOLED, pool->device, NULL, size, &range);
    if (result == CU_SUCCESS) {
        range->pool = pool;
        pool->used += size;
        if (pool->used > pool->used_peak)
            pool->used_peak = pool->used;
        *address = range->base;
    }
    pthread_mutex_unlock(&virtual_lock);
    return result;
}

int cuMemAllocFromPoolAsync_ptsz(address_t *address, size_t size, struct virtual_pool *pool,
                                 void *stream)
{
    return cuMemAllocFromPoolAsync(address, size, pool, stream);
}

int cuMemAllocAsync(address_t *address, size_t size, void *stream)
{
    const struct virtual_context *context = virtual_current();

    if (!context)
        return CU_INVALID_CONTEXT;
    return cuMemAllocFromPoolAsync(address, size, pool_of(context->device), stream);
}

int cuMemAllocAsync_ptsz(address_t *address, size_t size, void *stream)
{
    return cuMemAllocAsync(address, size, stream);
}

int cuMemFreeAsync(address_t address, void *stream)
{
    return release(address);
}

int cuMemFreeAsync_ptsz(address_t address, void *stream)
{
    return release(address);
}

int cuDeviceGetDefaultMemPool(struct virtual_pool **pool, int device)
{
    if (device < 0 || device >= virtual_device_count())
        return CU_INVALID_DEVICE;
    default_pools[device].device = device;
    *pool = &default_pools[device];
    return CU_SUCCESS;
}

int cuDeviceGetMemPool(struct virtual_pool **pool, int device)
{
    if (device < 0 || device >= virtual_device_count())
        return CU_INVALID_DEVICE;
    *pool = pool_of(device);
    return CU_SUCCESS;
}

int cuDeviceSetMemPool(int device, struct virtual_pool *pool)
{
    if (device < 0 || device >= virtual_device_count() || !pool || pool->device != device)
        return CU_INVALID_DEVICE;
    current_pools[device] = pool;
    return CU_SUCCESS;
}

/* CUmemPoolProps: the location's id is its fourth int. */
int cuMemPoolCreate(struct virtual_pool **pool, const void *properties)
{
    int device = ((const int *)properties)[3];

    if (device < 0 || device >= virtual_device_count())
        return CU_INVALID_VALUE;
    *pool = calloc(1, sizeof(**pool));
    if (!*pool)
        return CU_OUT_OF_MEMORY;
    (*pool)->device = device;
    return CU_SUCCESS;
}

int cuMemPoolDestroy(struct virtual_pool *pool)
{
    for (int i = 0; i < VIRTUAL_DEVICES_MAX; i++) {
        if (pool == &default_pools[i])
            return CU_INVALID_VALUE;
        if (current_pools[i] == pool)
            current_pools[i] = NULL;
    }
    /* Ranges of it may be alive; its books are kept. */
    return CU_SUCCESS;
}

int cuMemPoolGetAttribute(struct virtual_pool *pool, int attribute, void *value)
{
    switch (attribute) {
    case 1: /* REUSE_FOLLOW_EVENT_DEPENDENCIES */
    case 2: /* REUSE_ALLOW_OPPORTUNISTIC */
    case 3: /* REUSE_ALLOW_INTERNAL_DEPENDENCIES */
        *(int *)value = 1;
        return CU_SUCCESS;
    case 4: /* RELEASE_THRESHOLD */
        *(uint64_t *)value = pool->threshold;
        return CU_SUCCESS;
    case 5: /* RESERVED_MEM_CURRENT */
    case 7: /* USED_MEM_CURRENT */
        *(uint64_t *)value = pool->used;
        return CU_SUCCESS;
    case 6: /* RESERVED_MEM_HIGH */
    case 8: /* USED_MEM_HIGH */
        *(uint64_t *)value = pool->used_peak;
        return CU_SUCCESS;
    default:
        return CU_INVALID_VALUE;
    }
}

int cuMemPoolSetAttribute(struct virtual_pool *pool, int attribute, void *value)
{
    if (attribute == 4)
        pool->threshold = *(uint64_t *)value;
    else if (attribute == 6 || attribute == 8)
        pool->used_peak = pool->used;
    return CU_SUCCESS;
}

int cuMemPoolTrimTo(struct virtual_pool *pool, size_t keep)
{
    return CU_SUCCESS;
}

int cuMemPoolSetAccess(struct virtual_pool *pool, const void *list, size_t count)
{
    return CU_SUCCESS;
}
