/* SPDX-License-Identifier: Apache-2.0 */
/* Device memory as cuMemAlloc gives it: allocation, free and the queries. */
#include "call.h"
#include "context.h"
#include "device.h"
#include "dma_buf.h"
#include "external.h"
#include "log.h"
#include "mem.h"
#include "pool.h"
#include "settings.h"
#include "window.h"

/* What cudaMallocPitch rows are aligned to. QUESTION(gpu): 512 on all current
 * devices? */
#define PITCH_ALIGNMENT 512ULL

static CUresult memory_new(uint64_t size, enum mem_kind kind, CUdeviceptr *ret_pointer)
{
    struct mem mem = {.size = size, .kind = kind}, *added;
    CUresult result = context_current(&mem.context);

    if (result != CUDA_SUCCESS)
        return result;
    mem.context = context_of_memory(mem.context);
    mem.device = mem.context->device;
    result = segment_alloc(&mem.context->segments, size, 0, &mem.base, &mem.segment);
    /* QUESTION(gpu): does cuMemAlloc take back what pools hold unused before it
     * reports that memory is out? Here: yes. */
    if (result == CUDA_ERROR_OUT_OF_MEMORY && pool_reclaim(mem.device))
        result = segment_alloc(&mem.context->segments, size, 0, &mem.base, &mem.segment);
    if (result != CUDA_SUCCESS)
        return result;
    added = mem_add(&mem);
    if (!added) {
        segment_free(&mem.context->segments, mem.segment, mem.base, false);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    call_note_result("m%u", added->serial);
    *ret_pointer = mem.base;
    return CUDA_SUCCESS;
}

static CUresult memory_new_locked(uint64_t size, enum mem_kind kind, CUdeviceptr *ret_pointer)
{
    CUresult result;

    if (!ret_pointer || size == 0)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = memory_new(size, kind, ret_pointer);
    state_unlock();
    return result;
}

FAKE_CALL(cuMemAlloc_v2, CALL_UNSAFE, (CUdeviceptr * ret_pointer, size_t size), (ret_pointer, size),
          "%zu", size)
{
    return memory_new_locked(size, MEM_DEVICE, ret_pointer);
}

FAKE_CALL(cuMemAllocManaged, CALL_UNSAFE,
          (CUdeviceptr * ret_pointer, size_t size, unsigned int flags), (ret_pointer, size, flags),
          "%zu, %u", size, flags)
{
    if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST)
        return CUDA_ERROR_INVALID_VALUE;
    return memory_new_locked(size, MEM_MANAGED, ret_pointer);
}

FAKE_CALL(cuMemAllocPitch_v2, CALL_UNSAFE,
          (CUdeviceptr * ret_pointer, size_t *ret_pitch, size_t width, size_t height,
           unsigned int element),
          (ret_pointer, ret_pitch, width, height, element), "%zu, %zu, %u", width, height, element)
{
    size_t pitch = (width + PITCH_ALIGNMENT - 1) & ~(size_t)(PITCH_ALIGNMENT - 1);
    size_t size;
    CUresult result;

    if (!ret_pitch || (element != 4 && element != 8 && element != 16))
        return CUDA_ERROR_INVALID_VALUE;
    if (pitch < width || __builtin_mul_overflow(pitch, height, &size))
        return CUDA_ERROR_OUT_OF_MEMORY;
    result = memory_new_locked(size, MEM_DEVICE, ret_pointer);
    if (result == CUDA_SUCCESS)
        *ret_pitch = pitch;
    return result;
}

/* The context's work is waited for, so that nothing queued before the free
 * can touch the memory after it, unless the settings say otherwise. The mark keeps a second free of
 * the same pointer out while the lock is given up. */
static CUresult memory_free(struct mem *mem)
{
    struct context *context = mem->context;
    CUresult result;

    if (mem->is_freeing)
        return CUDA_ERROR_INVALID_VALUE;
    mem->is_freeing = true;
    result = mem->size > settings_free_without_wait() ? context_wait(context) : CUDA_SUCCESS;
    if (result != CUDA_SUCCESS) {
        mem->is_freeing = false;
        return result;
    }
    dma_buf_leave(mem);
    segment_free(&context->segments, mem->segment, mem->base, false);
    mem_remove(mem);
    return CUDA_SUCCESS;
}

FAKE_CALL(cuMemFree_v2, CALL_UNSAFE, (CUdeviceptr pointer), (pointer), "%s", log_pointer(pointer))
{
    struct mem *mem;
    CUresult result = CUDA_ERROR_INVALID_VALUE;

    /* QUESTION(gpu): cuMemFree(0): success, as cudaFree(NULL), or an error? And
     * does an address that is wrong spoil a capture too? Here: it does. */
    if (!pointer)
        return CUDA_SUCCESS;
    state_lock();
    mem = mem_find(pointer);
    if (mem && mem->base == pointer) {
        if (mem->kind == MEM_DEVICE || mem->kind == MEM_MANAGED)
            result = memory_free(mem);
        else if (mem->kind == MEM_POOL || mem->kind == MEM_GRAPH)
            result = pool_free_now(mem);
        else if (mem->kind == MEM_EXTERNAL)
            result = external_free(mem);
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuMemGetInfo_v2, CALL_INIT, (size_t * ret_free, size_t *ret_total), (ret_free, ret_total),
          "%s", "")
{
    struct context *context;
    CUresult result;

    /* QUESTION(gpu): are NULL out pointers refused or skipped? */
    if (!ret_free || !ret_total)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = context_current(&context);
    if (result == CUDA_SUCCESS) {
        *ret_free = context->device->capacity - context->device->used;
        *ret_total = context->device->capacity;
    }
    state_unlock();
    return result;
}

/* QUESTION(gpu): is the size the one that was asked for, or rounded up? */
FAKE_CALL(cuMemGetAddressRange_v2, CALL_INIT,
          (CUdeviceptr * ret_base, size_t *ret_size, CUdeviceptr pointer),
          (ret_base, ret_size, pointer), "%s", log_pointer(pointer))
{
    const struct mem *mem;
    CUresult result = CUDA_ERROR_NOT_FOUND;

    state_lock();
    mem = mem_find(pointer);
    if (mem) {
        if (ret_base)
            *ret_base = mem->base;
        if (ret_size)
            *ret_size = mem->size;
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}
