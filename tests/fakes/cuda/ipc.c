/* SPDX-License-Identifier: Apache-2.0 */
/* Legacy IPC: a 64-byte handle that another process turns into a pointer. As
 * on the real driver it names the whole segment: for a small allocation the
 * opener gets the address of the segment, not of the allocation. */
#include "call.h"
#include "context.h"
#include "device.h"
#include "log.h"
#include "mem.h"
#include "window.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define IPC_MAGIC 0x66636970u

struct ipc_name {
    uint32_t magic;
    int32_t process;
    uint64_t process_start; /* tells a reused process id */
    int32_t arena_fd;
    int32_t device;
    uint64_t offset, size;
    uint64_t serial; /* of the segment: differs after free and allocation at one address */
};

_Static_assert(sizeof(struct ipc_name) <= sizeof(CUipcMemHandle), "the name fits the handle");

/* Start time in clock ticks since boot, the 22nd field; 0: no such process. */
static uint64_t process_start(int process)
{
    char path[40], text[512];
    unsigned long long start = 0;
    const char *at;
    ssize_t length;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/stat", process);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    length = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[length > 0 ? length : 0] = 0;
    /* The command name may hold anything; fields count from its last ')'. */
    at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (at)
        sscanf(at, " %llu", &start);
    return start;
}

/* QUESTION(gpu): is an interior pointer accepted? Here: yes. */
FAKE_CALL(cuIpcGetMemHandle, CALL_INIT, (CUipcMemHandle * ret_handle, CUdeviceptr pointer),
          (ret_handle, pointer), "%s", log_pointer(pointer))
{
    struct ipc_name name = {.magic = IPC_MAGIC, .process = getpid()};
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    const struct mem *mem;

    if (!ret_handle)
        return CUDA_ERROR_INVALID_VALUE;
    name.process_start = process_start(name.process);
    state_lock();
    mem = mem_find(pointer);
    if (mem && mem->kind == MEM_DEVICE) {
        name.arena_fd = window_arena_fd();
        name.device = mem->device->hardware;
        name.offset = window_arena_offset(mem->segment->base);
        name.size = mem->segment->size;
        name.serial = mem->segment->serial;
        memset(ret_handle, 0, sizeof(*ret_handle));
        memcpy(ret_handle, &name, sizeof(name));
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

static CUresult ipc_map(const struct ipc_name *name, int fd, struct context *context,
                        CUdeviceptr *ret_pointer)
{
    struct mem mem = {.size = name->size, .kind = MEM_IPC, .context = context}, *added;

    mem.base = window_reserve(name->size, WINDOW_GRANULE, 0, WINDOW_OWN);
    if (!mem.base)
        return CUDA_ERROR_OUT_OF_MEMORY;
    mem.device = context->device;
    mem.extent = name->size;
    mem.references = 1;
    mem.exporter = name->process;
    mem.exporter_serial = name->serial;
    if (window_map(mem.base, name->size, fd, name->offset, PROT_READ | PROT_WRITE) < 0) {
        window_release(mem.base);
        return CUDA_ERROR_MAP_FAILED;
    }
    added = mem_add(&mem);
    if (!added) {
        window_unmap(mem.base, name->size);
        window_release(mem.base);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    call_note_result("m%u", added->serial);
    *ret_pointer = mem.base;
    return CUDA_SUCCESS;
}

/* The exporter's arena, if it still holds the named segment. */
static int ipc_open_arena(const struct ipc_name *name)
{
    char path[48];
    int fd;

    if (process_start(name->process) != name->process_start)
        return -1;
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", name->process, name->arena_fd);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0 && window_read_serial(fd, name->offset) != name->serial) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static CUresult ipc_open(CUdeviceptr *ret_pointer, const struct ipc_name *name)
{
    struct context *context;
    CUresult result = context_current(&context);
    struct mem *mem;
    int fd;

    if (result != CUDA_SUCCESS)
        return result;
    /* QUESTION(gpu): the error for a handle of the process itself. */
    if (name->process == getpid())
        return CUDA_ERROR_INVALID_CONTEXT;
    if (context->device->hardware != name->device)
        return CUDA_ERROR_INVALID_DEVICE;
    mem = mem_find_ipc(name->process, name->serial);
    if (mem) {
        mem->references++;
        *ret_pointer = mem->base;
        return CUDA_SUCCESS;
    }
    fd = ipc_open_arena(name);
    /* QUESTION(gpu): the error for memory that was freed meanwhile. */
    if (fd < 0)
        return CUDA_ERROR_MAP_FAILED;
    result = ipc_map(name, fd, context, ret_pointer);
    close(fd);
    return result;
}

static CUresult ipc_open_locked(CUdeviceptr *ret_pointer, const CUipcMemHandle *handle,
                                unsigned flags)
{
    struct ipc_name name;
    CUresult result;

    memcpy(&name, handle, sizeof(name));
    if (!ret_pointer || flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)
        return CUDA_ERROR_INVALID_VALUE;
    if (name.magic != IPC_MAGIC)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = ipc_open(ret_pointer, &name);
    state_unlock();
    return result;
}

FAKE_CALL(cuIpcOpenMemHandle, CALL_UNSAFE,
          (CUdeviceptr * ret_pointer, CUipcMemHandle handle, unsigned int flags),
          (ret_pointer, handle, flags), "%u", flags)
{
    return ipc_open_locked(ret_pointer, &handle, flags);
}

FAKE_CALL(cuIpcOpenMemHandle_v2, CALL_UNSAFE,
          (CUdeviceptr * ret_pointer, CUipcMemHandle handle, unsigned int flags),
          (ret_pointer, handle, flags), "%u", flags)
{
    return ipc_open_locked(ret_pointer, &handle, flags);
}

FAKE_CALL(cuIpcCloseMemHandle, CALL_UNSAFE, (CUdeviceptr pointer), (pointer), "%s",
          log_pointer(pointer))
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    struct mem *mem;

    state_lock();
    mem = mem_find(pointer);
    if (mem && mem->kind == MEM_IPC && mem->base == pointer && mem->references > 0) {
        result = CUDA_SUCCESS;
        if (--mem->references == 0) {
            result = context_wait(mem->context);
            window_unmap(mem->base, mem->extent);
            window_release(mem->base);
            mem_remove(mem);
        }
    }
    state_unlock();
    return result;
}
