/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm.h"

#include "call.h"
#include "device.h"
#include "handle.h"
#include "log.h"
#include "window.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The name under which a memfd that can be exported carries its device. */
#define BACKING_NAME "fake-vmm-device-"

struct backing {
    unsigned handles; /* what the program holds */
    unsigned mappings;
    struct device *device; /* for host memory: device 0, which takes no capacity for it */
    uint64_t size;
    uint64_t taken; /* of the device's capacity; 0 for host and imported memory */
    CUmemAllocationProp prop;
    int fd;         /* own memfd; -1: pages of the arena */
    uint64_t arena; /* the addresses that stand for those pages */
};

CUmemAllocationHandleType vmm_handle_types(const struct backing *backing)
{
    return backing->prop.requestedHandleTypes;
}

CUmemAccess_flags vmm_access(const struct mem *mem, const struct device *device)
{
    uint64_t bit = 1ULL << device->ordinal;

    if (mem->writers & bit)
        return CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    return mem->readers & bit ? CU_MEM_ACCESS_FLAGS_PROT_READ : CU_MEM_ACCESS_FLAGS_PROT_NONE;
}

static void backing_free_if_unused(struct backing *backing)
{
    if (backing->handles == 0)
        handle_remove(backing);
    if (backing->handles || backing->mappings)
        return;
    if (backing->fd >= 0) {
        close(backing->fd);
    } else {
        window_empty(backing->arena, backing->size);
        window_release(backing->arena);
    }
    device_give(backing->device, backing->taken);
    free(backing);
}

static CUresult prop_check(const CUmemAllocationProp *prop, struct device **ret_device)
{
    bool is_host;

    if (!prop || prop->type != CU_MEM_ALLOCATION_TYPE_PINNED)
        return CUDA_ERROR_INVALID_VALUE;
    is_host = prop->location.type == CU_MEM_LOCATION_TYPE_HOST ||
              prop->location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA ||
              prop->location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT;
    if (!is_host && prop->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
        return CUDA_ERROR_INVALID_VALUE;
    if (prop->requestedHandleTypes & ~(unsigned)CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return CUDA_ERROR_NOT_SUPPORTED;
    *ret_device = device_get(is_host ? 0 : prop->location.id);
    return *ret_device ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

static CUresult backing_fill(struct backing *backing)
{
    char name[32];

    if (backing->prop.requestedHandleTypes & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) {
        snprintf(name, sizeof(name), BACKING_NAME "%d", backing->device->hardware);
        backing->fd = memfd_create(name, MFD_CLOEXEC);
        if (backing->fd < 0)
            return CUDA_ERROR_OPERATING_SYSTEM;
        if (ftruncate(backing->fd, (off_t)backing->size) == 0)
            return CUDA_SUCCESS;
        close(backing->fd);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    backing->arena = window_reserve(backing->size, WINDOW_GRANULE, 0, WINDOW_OWN);
    return backing->arena ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult backing_new(struct backing **ret_backing, uint64_t size,
                            const CUmemAllocationProp *prop, struct device *device)
{
    struct backing *backing = calloc(1, sizeof(*backing));
    CUresult result;

    if (!backing)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *backing = (struct backing){.handles = 1, .device = device, .size = size, .prop = *prop};
    backing->fd = -1;
    backing->taken = prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE ? size : 0;
    result = device_take(device, backing->taken);
    if (result != CUDA_SUCCESS) {
        free(backing);
        return result;
    }
    result = backing_fill(backing);
    if (result != CUDA_SUCCESS) {
        device_give(device, backing->taken);
        free(backing);
        return result;
    }
    if (handle_add(backing, HANDLE_BACKING) < 0) {
        backing->handles = 0;
        backing_free_if_unused(backing);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *ret_backing = backing;
    return CUDA_SUCCESS;
}

static struct backing *backing_of(CUmemGenericAllocationHandle handle)
{
    struct backing *backing = (struct backing *)handle;

    return handle_is(backing, HANDLE_BACKING) ? backing : NULL;
}

FAKE_CALL(cuMemGetAllocationGranularity, CALL_INIT,
          (size_t * ret_granularity, const CUmemAllocationProp *prop,
           CUmemAllocationGranularity_flags option),
          (ret_granularity, prop, option), "%d", (int)option)
{
    struct device *device;
    CUresult result = prop_check(prop, &device);

    if (!ret_granularity || option > CU_MEM_ALLOC_GRANULARITY_RECOMMENDED)
        return CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *ret_granularity = WINDOW_GRANULE;
    return result;
}

FAKE_CALL(cuMemCreate, CALL_INIT,
          (CUmemGenericAllocationHandle * ret_handle, size_t size, const CUmemAllocationProp *prop,
           unsigned long long flags),
          (ret_handle, size, prop, flags), "%zu, %llu", size, flags)
{
    struct backing *backing;
    struct device *device;
    CUresult result = prop_check(prop, &device);

    if (result != CUDA_SUCCESS)
        return result;
    if (!ret_handle || size == 0 || size % WINDOW_GRANULE || flags)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = backing_new(&backing, size, prop, device);
    state_unlock();
    if (result == CUDA_SUCCESS)
        *ret_handle = (uint64_t)backing;
    return result;
}

FAKE_CALL(cuMemRelease, CALL_INIT, (CUmemGenericAllocationHandle handle), (handle), "%s", "")
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    struct backing *backing;

    state_lock();
    backing = backing_of(handle);
    if (backing) {
        backing->handles--;
        backing_free_if_unused(backing);
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuMemAddressReserve, CALL_INIT,
          (CUdeviceptr * ret_pointer, size_t size, size_t alignment, CUdeviceptr hint,
           unsigned long long flags),
          (ret_pointer, size, alignment, hint, flags), "%zu, %zu", size, alignment)
{
    uint64_t address;

    if (!ret_pointer || size == 0 || size % WINDOW_GRANULE || (alignment & (alignment - 1)) ||
        flags)
        return CUDA_ERROR_INVALID_VALUE;
    if (alignment < WINDOW_GRANULE)
        alignment = WINDOW_GRANULE;
    state_lock();
    address = window_reserve(size, alignment, hint, WINDOW_PROGRAM);
    state_unlock();
    if (!address)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *ret_pointer = address;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuMemAddressFree, CALL_INIT, (CUdeviceptr pointer, size_t size), (pointer, size), "%zu",
          size)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;

    state_lock();
    if (size && window_reserved_size(pointer) == size && !mem_overlaps(pointer, size)) {
        window_release(pointer);
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

/* QUESTION(gpu): mapping over a mapping: INVALID_VALUE or ALREADY_MAPPED? */
static CUresult backing_map(struct backing *backing, uint64_t address, uint64_t size)
{
    struct mem mem = {.base = address, .size = size, .kind = MEM_VMM, .backing = backing};
    int fd = backing->fd >= 0 ? backing->fd : window_arena_fd();
    uint64_t offset = backing->fd >= 0 ? 0 : window_arena_offset(backing->arena);

    if (!window_is_reserved(address, size) || mem_overlaps(address, size))
        return CUDA_ERROR_INVALID_VALUE;
    mem.device = backing->device;
    if (!mem_add(&mem))
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (window_map(address, size, fd, offset, PROT_NONE) < 0) {
        mem_remove(mem_find(address));
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    backing->mappings++;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuMemMap, CALL_UNSAFE,
          (CUdeviceptr pointer, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
           unsigned long long flags),
          (pointer, size, offset, handle, flags), "%zu, %zu", size, offset)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    struct backing *backing;

    if (size == 0 || (size | pointer) % WINDOW_GRANULE || offset || flags)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    backing = backing_of(handle);
    if (backing && size <= backing->size)
        result = backing_map(backing, pointer, size);
    state_unlock();
    return result;
}

/* Whether the range is made of whole mappings without gaps. */
static bool mappings_fill(uint64_t address, uint64_t size)
{
    uint64_t end = address + size;

    while (address < end) {
        const struct mem *mem = mem_find(address);

        if (!mem || mem->kind != MEM_VMM || mem->base != address || mem->base + mem->size > end)
            return false;
        address += mem->size;
    }
    return size > 0;
}

/* QUESTION(gpu): does cuMemUnmap wait for work that uses the memory? Here it
 * does not, and such work then crashes the process. */
FAKE_CALL(cuMemUnmap, CALL_UNSAFE, (CUdeviceptr pointer, size_t size), (pointer, size), "%s, %zu",
          log_pointer(pointer), size)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    uint64_t address = pointer;

    state_lock();
    if (mappings_fill(pointer, size)) {
        while (address < pointer + size) {
            struct mem *mem = mem_find(address);

            address += mem->size;
            window_unmap(mem->base, mem->size);
            mem->backing->mappings--;
            backing_free_if_unused(mem->backing);
            mem_remove(mem);
        }
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

/* Device memory is CPU memory here, so the page protection can only say what
 * the most privileged device may do. */
static CUresult access_set(struct mem *mem, const CUmemAccessDesc *list, size_t count)
{
    int protection = PROT_NONE;

    for (size_t i = 0; i < count; i++) {
        uint64_t bit = 0;

        if (list[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE)
            bit = 1ULL << list[i].location.id;
        mem->readers &= ~bit;
        mem->writers &= ~bit;
        if (list[i].flags & CU_MEM_ACCESS_FLAGS_PROT_READ)
            mem->readers |= bit;
        if (list[i].flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
            mem->writers |= bit;
    }
    if (mem->readers)
        protection |= PROT_READ;
    if (mem->writers)
        protection |= PROT_WRITE;
    return mprotect((void *)mem->base, mem->size, protection) < 0 ? CUDA_ERROR_OUT_OF_MEMORY
                                                                  : CUDA_SUCCESS;
}

static bool access_is_valid(const CUmemAccessDesc *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i].location.type == CU_MEM_LOCATION_TYPE_NONE ||
            (list[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE &&
             !device_get(list[i].location.id)))
            return false;
        if (list[i].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE &&
            list[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READ &&
            list[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
            return false;
    }
    return list && count;
}

/* QUESTION(gpu): may the range be a part of a mapping? Here only whole ones. */
FAKE_CALL(cuMemSetAccess, CALL_UNSAFE,
          (CUdeviceptr pointer, size_t size, const CUmemAccessDesc *list, size_t count),
          (pointer, size, list, count), "%s, %zu, %zu", log_pointer(pointer), size, count)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    uint64_t address = pointer;

    state_lock();
    if (access_is_valid(list, count) && mappings_fill(pointer, size)) {
        result = CUDA_SUCCESS;
        while (result == CUDA_SUCCESS && address < pointer + size) {
            struct mem *mem = mem_find(address);

            result = access_set(mem, list, count);
            address += mem->size;
        }
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuMemGetAccess, CALL_INIT,
          (unsigned long long *ret_flags, const CUmemLocation *location, CUdeviceptr pointer),
          (ret_flags, location, pointer), "%s", log_pointer(pointer))
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    const struct mem *mem;

    if (!ret_flags || !location || location->type != CU_MEM_LOCATION_TYPE_DEVICE ||
        !device_get(location->id))
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    mem = mem_find(pointer);
    if (mem && mem->kind == MEM_VMM) {
        *ret_flags = vmm_access(mem, device_get(location->id));
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuMemRetainAllocationHandle, CALL_INIT,
          (CUmemGenericAllocationHandle * ret_handle, void *pointer), (ret_handle, pointer), "%s",
          log_pointer((uint64_t)pointer))
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    const struct mem *mem;

    if (!ret_handle)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    mem = mem_find((uint64_t)pointer);
    if (mem && mem->kind == MEM_VMM) {
        if (mem->backing->handles++ == 0 && handle_add(mem->backing, HANDLE_BACKING) < 0) {
            mem->backing->handles = 0;
            result = CUDA_ERROR_OUT_OF_MEMORY;
        } else {
            *ret_handle = (uint64_t)mem->backing;
            result = CUDA_SUCCESS;
        }
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuMemGetAllocationPropertiesFromHandle, CALL_INIT,
          (CUmemAllocationProp * ret_prop, CUmemGenericAllocationHandle handle), (ret_prop, handle),
          "%s", "")
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    const struct backing *backing;

    state_lock();
    backing = backing_of(handle);
    if (ret_prop && backing) {
        *ret_prop = backing->prop;
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuMemExportToShareableHandle, CALL_INIT,
          (void *ret_handle, CUmemGenericAllocationHandle handle, CUmemAllocationHandleType type,
           unsigned long long flags),
          (ret_handle, handle, type, flags), "%d, %llu", (int)type, flags)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    const struct backing *backing;
    int fd;

    if (!ret_handle || flags || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    backing = backing_of(handle);
    if (backing && backing->fd >= 0) {
        fd = fcntl(backing->fd, F_DUPFD_CLOEXEC, 0);
        result = fd < 0 ? CUDA_ERROR_OPERATING_SYSTEM : CUDA_SUCCESS;
        if (fd >= 0)
            *(int *)ret_handle = fd;
    }
    state_unlock();
    return result;
}

/* The device to which an exported descriptor's memory belongs; -1 where the
 * descriptor is something else. */
static int exported_device(int fd)
{
    static const char prefix[] = "/memfd:" BACKING_NAME;
    char path[32], target[64];
    ssize_t length;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    length = readlink(path, target, sizeof(target) - 1);
    if (length < 0)
        return -1;
    target[length] = 0;
    if (strncmp(target, prefix, sizeof(prefix) - 1) != 0)
        return -1;
    return atoi(target + sizeof(prefix) - 1);
}

static CUresult backing_import(int fd, struct backing **ret_backing)
{
    struct device *device = device_of_hardware(exported_device(fd));
    struct backing *backing;
    struct stat status;

    if (!device || fstat(fd, &status) < 0)
        return CUDA_ERROR_INVALID_VALUE;
    backing = calloc(1, sizeof(*backing));
    if (!backing)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *backing = (struct backing){.handles = 1, .device = device, .size = (uint64_t)status.st_size};
    backing->prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    backing->prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    backing->prop.location = (CUmemLocation){CU_MEM_LOCATION_TYPE_DEVICE, device->ordinal};
    backing->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (backing->fd < 0 || handle_add(backing, HANDLE_BACKING) < 0) {
        if (backing->fd >= 0)
            close(backing->fd);
        free(backing);
        return CUDA_ERROR_OPERATING_SYSTEM;
    }
    *ret_backing = backing;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuMemImportFromShareableHandle, CALL_INIT,
          (CUmemGenericAllocationHandle * ret_handle, void *os_handle,
           CUmemAllocationHandleType type),
          (ret_handle, os_handle, type), "%d", (int)type)
{
    struct backing *backing;
    CUresult result;

    if (!ret_handle || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = backing_import((int)(intptr_t)os_handle, &backing);
    state_unlock();
    if (result == CUDA_SUCCESS)
        *ret_handle = (uint64_t)backing;
    return result;
}
