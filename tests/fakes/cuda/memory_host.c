/* SPDX-License-Identifier: Apache-2.0 */
/* Host memory that the device can reach: allocated here, or registered. */
#include "call.h"
#include "context.h"
#include "log.h"
#include "mem.h"
#include "window.h"

#include <sys/mman.h>

#define HOST_PAGE 4096ULL
#define HOST_ALLOC_FLAGS                                                                           \
    (CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED)
#define HOST_REGISTER_FLAGS                                                                        \
    (CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP | CU_MEMHOSTREGISTER_IOMEMORY |    \
     CU_MEMHOSTREGISTER_READ_ONLY)

static CUresult host_add(struct mem *mem, CUresult failure)
{
    CUresult result = context_current(&mem->context);
    struct mem *added;

    if (result != CUDA_SUCCESS)
        return result;
    mem->device = mem->context->device;
    added = mem_add(mem);
    if (!added)
        return failure;
    call_note_result("m%u", added->serial);
    return CUDA_SUCCESS;
}

static CUresult host_new(void **ret_pointer, size_t size, unsigned flags)
{
    struct mem mem = {.size = size, .kind = MEM_HOST, .flags = flags};
    CUresult result;
    void *pages;

    if (!ret_pointer || size == 0 || (flags & ~(unsigned)HOST_ALLOC_FLAGS))
        return CUDA_ERROR_INVALID_VALUE;
    mem.extent = (size + HOST_PAGE - 1) & ~(HOST_PAGE - 1);
    if (mem.extent < size)
        return CUDA_ERROR_OUT_OF_MEMORY;
    pages = mmap(NULL, mem.extent, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        return CUDA_ERROR_OUT_OF_MEMORY;
    mem.base = (uint64_t)pages;
    state_lock();
    result = host_add(&mem, CUDA_ERROR_OUT_OF_MEMORY);
    state_unlock();
    if (result == CUDA_SUCCESS)
        *ret_pointer = pages;
    else
        munmap(pages, mem.extent);
    return result;
}

FAKE_CALL(cuMemAllocHost_v2, CALL_UNSAFE, (void **ret_pointer, size_t size), (ret_pointer, size),
          "%zu", size)
{
    return host_new(ret_pointer, size, CU_MEMHOSTALLOC_DEVICEMAP);
}

FAKE_CALL(cuMemHostAlloc, CALL_UNSAFE, (void **ret_pointer, size_t size, unsigned int flags),
          (ret_pointer, size, flags), "%zu, %u", size, flags)
{
    return host_new(ret_pointer, size, flags);
}

FAKE_CALL(cuMemFreeHost, CALL_UNSAFE, (void *pointer), (pointer), "%s",
          log_pointer((uint64_t)pointer))
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    struct mem *mem;

    state_lock();
    mem = mem_find((uint64_t)pointer);
    if (mem && mem->kind == MEM_HOST && mem->base == (uint64_t)pointer && !mem->is_freeing) {
        mem->is_freeing = true;
        result = context_wait(mem->context);
        mem_release_host(mem);
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuMemHostRegister_v2, CALL_UNSAFE, (void *pointer, size_t size, unsigned int flags),
          (pointer, size, flags), "%zu, %u", size, flags)
{
    struct mem mem = {.base = (uint64_t)pointer, .size = size, .kind = MEM_REGISTERED};
    CUresult result;

    if (!pointer || size == 0 || (flags & ~(unsigned)HOST_REGISTER_FLAGS))
        return CUDA_ERROR_INVALID_VALUE;
    mem.flags = flags;
    state_lock();
    if (window_contains(mem.base))
        result = CUDA_ERROR_INVALID_VALUE;
    else if (mem_overlaps(mem.base, size))
        result = CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    else
        result = host_add(&mem, CUDA_ERROR_OUT_OF_MEMORY);
    state_unlock();
    return result;
}

FAKE_CALL(cuMemHostUnregister, CALL_UNSAFE, (void *pointer), (pointer), "%s",
          log_pointer((uint64_t)pointer))
{
    CUresult result = CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    struct mem *mem;

    if (!pointer)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    mem = mem_find((uint64_t)pointer);
    if (mem && mem->kind == MEM_REGISTERED && mem->base == (uint64_t)pointer && !mem->is_freeing) {
        mem->is_freeing = true;
        result = context_wait(mem->context);
        mem_remove(mem);
    }
    state_unlock();
    return result;
}

static struct mem *host_find(void *pointer)
{
    struct mem *mem = mem_find((uint64_t)pointer);

    return mem && (mem->kind == MEM_HOST || mem->kind == MEM_REGISTERED) ? mem : NULL;
}

FAKE_CALL(cuMemHostGetDevicePointer_v2, CALL_INIT,
          (CUdeviceptr * ret_pointer, void *pointer, unsigned int flags),
          (ret_pointer, pointer, flags), "%s, %u", log_pointer((uint64_t)pointer), flags)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;

    if (!ret_pointer || flags)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    if (host_find(pointer)) {
        *ret_pointer = (uint64_t)pointer;
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuMemHostGetFlags, CALL_INIT, (unsigned int *ret_flags, void *pointer),
          (ret_flags, pointer), "%s", log_pointer((uint64_t)pointer))
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    const struct mem *mem;

    if (!ret_flags)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    mem = host_find(pointer);
    if (mem) {
        /* Everything is mapped for the device on a unified address space. */
        *ret_flags = mem->flags | CU_MEMHOSTALLOC_DEVICEMAP;
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

/* Older ABIs of the same calls; sizes had 32 bits once. */
FAKE_CALL(cuMemAllocHost, CALL_UNSAFE, (void **ret_pointer, unsigned int size), (ret_pointer, size),
          "%u", size)
{
    return host_new(ret_pointer, size, CU_MEMHOSTALLOC_DEVICEMAP);
}

FAKE_ENTRY(cuMemHostRegister, cuMemHostRegister_v2_body, CALL_UNSAFE,
           (void *pointer, size_t size, unsigned int flags), (pointer, size, flags), "%zu, %u",
           size, flags)
