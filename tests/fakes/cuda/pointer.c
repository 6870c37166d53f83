/* SPDX-License-Identifier: Apache-2.0 */
/* What the driver says about a pointer. */
#include "call.h"
#include "context.h"
#include "device.h"
#include "log.h"
#include "mem.h"
#include "pool.h"
#include "vmm.h"

#include <string.h>

static bool mem_is_host(const struct mem *mem)
{
    return mem->kind == MEM_HOST || mem->kind == MEM_REGISTERED;
}

static bool mem_is_ipc_capable(const struct mem *mem)
{
    return mem->kind == MEM_DEVICE;
}

/* The mapping that the allocation is a part of: the whole segment. */
static uint64_t mapping_base(const struct mem *mem)
{
    return mem->segment ? mem->segment->base : mem->base;
}

static uint64_t mapping_size(const struct mem *mem)
{
    return mem->segment ? mem->segment->size : mem->extent > mem->size ? mem->extent : mem->size;
}

static size_t attribute_size(CUpointer_attribute attribute)
{
    switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
        return 8;
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
    case CU_POINTER_ATTRIBUTE_MAPPED:
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
        return sizeof(bool);
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
        return 4;
    default:
        return 0;
    }
}

/* False where the attribute means nothing for this memory. */
static bool attribute_of_address(CUpointer_attribute attribute, const struct mem *mem,
                                 uint64_t pointer, uint64_t *ret_value)
{
    switch (attribute) {
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        *ret_value = pointer;
        return true;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        *ret_value = pointer;
        return mem_is_host(mem) || mem->kind == MEM_MANAGED;
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        *ret_value = mem->base;
        return true;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        *ret_value = mem->size;
        return true;
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
        *ret_value = mapping_size(mem);
        return true;
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
        *ret_value = mapping_base(mem);
        return true;
    default:
        return false;
    }
}

static bool attribute_of_mem(CUpointer_attribute attribute, const struct mem *mem,
                             uint64_t *ret_value)
{
    switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
        *ret_value = (uint64_t)mem->context;
        return mem->context != NULL;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        *ret_value = mem_is_host(mem) ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
        return true;
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
        *ret_value = (uint64_t)mem->sync_memops;
        return true;
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        *ret_value = mem->serial;
        return true;
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        *ret_value = mem->kind == MEM_MANAGED;
        return true;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        *ret_value = (uint64_t)mem->device->ordinal;
        return true;
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        *ret_value = mem_is_ipc_capable(mem);
        return true;
    case CU_POINTER_ATTRIBUTE_MAPPED:
        *ret_value = 1;
        return true;
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
        *ret_value = mem->kind == MEM_VMM    ? vmm_handle_types(mem->backing)
                     : mem->kind == MEM_POOL ? pool_handle_types(mem->pool)
                                             : CU_MEM_HANDLE_TYPE_NONE;
        return true;
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
        *ret_value = 0;
        return true;
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
        *ret_value = mem->kind == MEM_VMM ? vmm_access(mem, mem->device)
                                          : CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
        return true;
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
        *ret_value = (uint64_t)mem->pool;
        return true;
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
        *ret_value = mem->segment ? mem->segment->serial : mem->serial;
        return true;
    default:
        return false;
    }
}

static CUresult attribute_read(void *data, CUpointer_attribute attribute, uint64_t pointer)
{
    size_t size = attribute_size(attribute);
    const struct mem *mem = mem_find(pointer);
    uint64_t value;

    if (!data || size == 0 || !mem)
        return CUDA_ERROR_INVALID_VALUE;
    if (!attribute_of_address(attribute, mem, pointer, &value) &&
        !attribute_of_mem(attribute, mem, &value))
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(data, &value, size); /* little endian: the low bytes come first */
    return CUDA_SUCCESS;
}

FAKE_CALL(cuPointerGetAttribute, CALL_INIT,
          (void *data, CUpointer_attribute attribute, CUdeviceptr pointer),
          (data, attribute, pointer), "%d, %s", (int)attribute, log_pointer(pointer))
{
    CUresult result;

    state_lock();
    result = attribute_read(data, attribute, pointer);
    state_unlock();
    return result;
}

/* Unlike the single query this one answers for any pointer: what does not
 * apply reads as zero, the device ordinal as -2 (no device). */
FAKE_CALL(cuPointerGetAttributes, CALL_INIT,
          (unsigned int count, CUpointer_attribute *list, void **data, CUdeviceptr pointer),
          (count, list, data, pointer), "%u, %s", count, log_pointer(pointer))
{
    const int no_device = -2;

    if (count == 0 || !list || !data)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    for (unsigned i = 0; i < count; i++) {
        /* QUESTION(gpu): is a NULL place skipped, refused, or a crash? */
        if (!data[i] || attribute_read(data[i], list[i], pointer) == CUDA_SUCCESS)
            continue;
        memset(data[i], 0, attribute_size(list[i]));
        if (list[i] == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
            memcpy(data[i], &no_device, sizeof(no_device));
    }
    state_unlock();
    return CUDA_SUCCESS;
}

FAKE_CALL(cuPointerSetAttribute, CALL_INIT,
          (const void *value, CUpointer_attribute attribute, CUdeviceptr pointer),
          (value, attribute, pointer), "%d, %s", (int)attribute, log_pointer(pointer))
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    struct mem *mem;

    if (!value || attribute != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    mem = mem_find(pointer);
    if (mem && !mem_is_host(mem)) {
        mem->sync_memops = *(const int *)value;
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}
