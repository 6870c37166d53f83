/* SPDX-License-Identifier: Apache-2.0 */
#include "external.h"

#include "call.h"
#include "context.h"
#include "handle.h"
#include "window.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct external {
    struct context *context;
    uint64_t size;
    int fd; /* the driver's, once it was imported */
};

static CUresult import(CUexternalMemory *ret_memory, const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *handle)
{
    struct context *context;
    struct external *external;
    CUresult result = context_current(&context);

    if (result != CUDA_SUCCESS)
        return result;
    if (lseek(handle->handle.fd, 0, SEEK_END) < (off_t)handle->size)
        return CUDA_ERROR_INVALID_HANDLE;
    external = malloc(sizeof(*external));
    if (!external || handle_add(external, HANDLE_EXTERNAL) < 0) {
        free(external);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *external = (struct external){context, handle->size, handle->handle.fd};
    *ret_memory = external;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuImportExternalMemory, CALL_INIT,
          (CUexternalMemory * ret_memory, const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *handle),
          (ret_memory, handle), "%llu", handle ? handle->size : 0)
{
    CUresult result;

    if (!ret_memory || !handle || handle->type != CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD ||
        handle->size == 0 || handle->size > INT64_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = import(ret_memory, handle);
    state_unlock();
    return result;
}

static CUresult map_buffer(CUdeviceptr *ret_pointer, const struct external *external,
                           const CUDA_EXTERNAL_MEMORY_BUFFER_DESC *buffer)
{
    struct mem mem = {.size = buffer->size, .kind = MEM_EXTERNAL, .context = external->context};

    if (buffer->flags || buffer->size == 0 || buffer->offset % 4096 ||
        buffer->offset > external->size || buffer->size > external->size - buffer->offset)
        return CUDA_ERROR_INVALID_VALUE;
    mem.extent = window_round(buffer->size);
    mem.device = external->context->device;
    mem.base = window_reserve(mem.extent, WINDOW_GRANULE, 0, WINDOW_OWN);
    if (!mem.base)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (window_map(mem.base, buffer->size, external->fd, buffer->offset, PROT_READ | PROT_WRITE) <
        0) {
        window_release(mem.base);
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if (!mem_add(&mem)) {
        window_unmap(mem.base, mem.extent);
        window_release(mem.base);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *ret_pointer = mem.base;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuExternalMemoryGetMappedBuffer, CALL_INIT,
          (CUdeviceptr * ret_pointer, CUexternalMemory memory,
           const CUDA_EXTERNAL_MEMORY_BUFFER_DESC *buffer),
          (ret_pointer, memory, buffer), "%llu", buffer ? buffer->size : 0)
{
    CUresult result = CUDA_ERROR_INVALID_HANDLE;

    if (!ret_pointer || !buffer)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    if (handle_is(memory, HANDLE_EXTERNAL))
        result = map_buffer(ret_pointer, memory, buffer);
    state_unlock();
    return result;
}

FAKE_CALL(cuDestroyExternalMemory, CALL_INIT, (CUexternalMemory memory), (memory), "%s", "")
{
    CUresult result = CUDA_ERROR_INVALID_HANDLE;

    state_lock();
    if (handle_is(memory, HANDLE_EXTERNAL)) {
        handle_remove(memory);
        close(memory->fd);
        free(memory);
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

CUresult external_free(struct mem *mem)
{
    CUresult result;

    if (mem->is_freeing)
        return CUDA_ERROR_INVALID_VALUE;
    mem->is_freeing = true;
    result = context_wait(mem->context);
    if (result != CUDA_SUCCESS) {
        mem->is_freeing = false;
        return result;
    }
    window_unmap(mem->base, mem->extent);
    window_release(mem->base);
    mem_remove(mem);
    return CUDA_SUCCESS;
}
