/* SPDX-License-Identifier: Apache-2.0 */
/* A dma-buf: a range of cuMemAlloc's memory as a file, for devices of other makers. Whoever has the
 * file keeps that memory: after the free the addresses have other pages. Here it is a memfd, that a
 * test can look into; the driver's cannot be mapped by a process. Of mapped memory (cuMemMap) none
 * is made. */
#include "dma_buf.h"
#include "call.h"
#include "context.h"
#include "log.h"
#include "window.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ULL /* of the host */

/* The range's pages become those of a file, with what is in them. */
static CUresult range_move(struct mem *mem, uint64_t start, uint64_t size)
{
    int fd = memfd_create("fake-dma-buf", MFD_CLOEXEC);
    uint64_t done = 0;
    ssize_t part = 1;

    if (fd < 0)
        return CUDA_ERROR_OPERATING_SYSTEM;
    for (; part > 0 && done < size; done += (uint64_t)part)
        part = pwrite(fd, (const void *)(start + done), size - done, (off_t)done);
    if (part <= 0 || window_map(start, size, fd, 0, PROT_READ | PROT_WRITE) < 0) {
        close(fd);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    mem->shared_start = start;
    mem->shared_size = size;
    mem->shared_fd = fd;
    return CUDA_SUCCESS;
}

static CUresult range_share(struct mem *mem, uint64_t start, uint64_t size, int *ret_fd)
{
    CUresult result = CUDA_SUCCESS;
    int fd;

    if (mem->kind != MEM_DEVICE)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (size > mem->base + mem->size - start)
        return CUDA_ERROR_INVALID_VALUE;
    if (mem->shared_size == 0) {
        /* Nothing may be written while the pages are exchanged. */
        result = context_wait(mem->context);
        if (result == CUDA_SUCCESS)
            result = range_move(mem, start, size);
    } else if (start != mem->shared_start || size != mem->shared_size) {
        result = CUDA_ERROR_NOT_SUPPORTED; /* two ranges of one block are not simulated */
    }
    if (result != CUDA_SUCCESS)
        return result;
    fd = fcntl(mem->shared_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return CUDA_ERROR_OPERATING_SYSTEM;
    *ret_fd = fd;
    return CUDA_SUCCESS;
}

void dma_buf_leave(struct mem *mem)
{
    if (mem->shared_size == 0)
        return;
    window_fill(mem->shared_start, mem->shared_size);
    close(mem->shared_fd);
    mem->shared_size = 0;
}

/* QUESTION(gpu): the errors for a range that is not whole pages, or goes past the allocation. */
FAKE_CALL(cuMemGetHandleForAddressRange, CALL_INIT,
          (void *ret_handle, CUdeviceptr pointer, size_t size, CUmemRangeHandleType type,
           unsigned long long flags),
          (ret_handle, pointer, size, type, flags), "%s, %zu", log_pointer(pointer), size)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    struct mem *mem;

    if (!ret_handle || size == 0 || (pointer | size) % PAGE != 0 || flags ||
        type != CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    mem = mem_find(pointer);
    if (mem && !mem->is_freeing)
        result = range_share(mem, pointer, size, ret_handle);
    state_unlock();
    return result;
}
