/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtual memory management of the virtual driver: addresses, memory, and one on the other.
 * Semantics: cuda.h of CUDA 13.0, by each name. Handles cannot be exported.
 */
#include "tools/virtual/calls.h"

#include <stdlib.h>

/* Memory without an address: a handle is a pointer to one. */
struct physical {
    uint64_t size;
    int device;
    bool is_released; /* gone once it is mapped nowhere */
    unsigned mappings;
};

struct mapping {
    address_t base;
    uint64_t size;
    struct physical *memory;
    struct mapping *next;
};

static struct mapping *mappings;

int cuMemGetAllocationGranularity(size_t *granularity, const void *properties, int option)
{
    *granularity = VIRTUAL_PIECE;
    return CU_SUCCESS;
}

int cuMemAddressReserve(address_t *base, size_t size, size_t alignment, address_t wish,
                        unsigned long long flags)
{
    struct virtual_range *range = NULL;
    int result;

    if (!base || size == 0 || size % VIRTUAL_PIECE != 0 || alignment > VIRTUAL_PIECE)
        return CU_INVALID_VALUE;
    pthread_mutex_lock(&virtual_lock);
    result = virtual_range_new(VIRTUAL_RESERVED, 0, NULL, size, &range);
    if (result == CU_SUCCESS)
        *base = range->base;
    pthread_mutex_unlock(&virtual_lock);
    return result;
}

int cuMemAddressFree(address_t base, size_t size)
{
    struct virtual_range *range;
    int result = CU_INVALID_VALUE;

    pthread_mutex_lock(&virtual_lock);
    range = virtual_range_at(base);
    if (range && range->kind == VIRTUAL_RESERVED && range->size == size) {
        virtual_range_delete(range);
        result = CU_SUCCESS;
    }
    pthread_mutex_unlock(&virtual_lock);
    return result;
}

/* CUmemAllocationProp: the location's id is its fourth int. */
int cuMemCreate(uint64_t *handle, size_t size, const void *properties, unsigned long long flags)
{
    int device = ((const int *)properties)[3];
    struct physical *memory;
    int result = CU_OUT_OF_MEMORY;

    if (!handle || size == 0 || size % VIRTUAL_PIECE != 0 || device < 0 ||
        device >= virtual_device_count())
        return CU_INVALID_VALUE;
    memory = calloc(1, sizeof(*memory));
    pthread_mutex_lock(&virtual_lock);
    virtual_count(true);
    if (memory)
        result = virtual_take(device, size);
    pthread_mutex_unlock(&virtual_lock);
    if (result != CU_SUCCESS) {
        free(memory);
        return result;
    }
    memory->size = size;
    memory->device = device;
    *handle = (uint64_t)(uintptr_t)memory;
    return CU_SUCCESS;
}

static void collect(struct physical *memory)
{
    if (!memory->is_released || memory->mappings > 0)
        return;
    virtual_give(memory->device, memory->size);
    free(memory);
}

int cuMemRelease(uint64_t handle)
{
    struct physical *memory = (struct physical *)(uintptr_t)handle;

    if (!memory)
        return CU_INVALID_VALUE;
    pthread_mutex_lock(&virtual_lock);
    virtual_count(false);
    memory->is_released = true;
    collect(memory);
    pthread_mutex_unlock(&virtual_lock);
    return CU_SUCCESS;
}

int cuMemMap(address_t base, size_t size, size_t offset, uint64_t handle, unsigned long long flags)
{
    struct physical *memory = (struct physical *)(uintptr_t)handle;
    struct mapping *mapping;
    const struct virtual_range *range;
    int result = CU_INVALID_VALUE;

    if (!memory || offset != 0 || size != memory->size)
        return CU_INVALID_VALUE;
    mapping = malloc(sizeof(*mapping));
    pthread_mutex_lock(&virtual_lock);
    virtual_count_mapping(true);
    range = virtual_range_of(base);
    if (mapping && range && range->kind == VIRTUAL_RESERVED &&
        base + size <= range->base + range->size) {
        *mapping = (struct mapping){base, size, memory, mappings};
        mappings = mapping;
        memory->mappings++;
        result = CU_SUCCESS;
    }
    pthread_mutex_unlock(&virtual_lock);
    if (result != CU_SUCCESS)
        free(mapping);
    return result;
}

/* Whole mappings only, several of them in one call, as the real one demands. */
int cuMemUnmap(address_t base, size_t size)
{
    struct mapping **link = &mappings;
    uint64_t done = 0;

    pthread_mutex_lock(&virtual_lock);
    virtual_count_mapping(false);
    while (*link) {
        struct mapping *mapping = *link;

        if (mapping->base - base >= size) {
            link = &mapping->next;
            continue;
        }
        *link = mapping->next;
        done += mapping->size;
        mapping->memory->mappings--;
        collect(mapping->memory);
        free(mapping);
    }
    pthread_mutex_unlock(&virtual_lock);
    return done == size ? CU_SUCCESS : CU_INVALID_VALUE;
}

int cuMemSetAccess(address_t base, size_t size, const void *list, size_t count)
{
    return CU_SUCCESS;
}
