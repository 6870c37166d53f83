/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/device_vmm.h"

#include "alloc/device_layout.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Values of cuda.h, CUDA 13.0. */
enum {
    ATTRIBUTE_DESCRIPTORS = 103,     /* ..._HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED */
    POINTER_ATTRIBUTE_BUFFER_ID = 7, /* unsigned long long */
    HANDLE_TYPE_DESCRIPTOR = 1,
    GRANULARITY_RECOMMENDED = 1,
    IPC_LAZY_ENABLE_PEER_ACCESS = 1
};

static struct berth_cu_properties shareable_on(int device)
{
    return (struct berth_cu_properties){.type = BERTH_CU_ALLOCATION_PINNED,
                                        .handle_types = HANDLE_TYPE_DESCRIPTOR,
                                        .location = {BERTH_CU_LOCATION_DEVICE, device}};
}

int berth__device_count(int *ret)
{
    int count = 0, r;

    BERTH_DRIVER_NEED(cuDeviceGetCount);
    r = berth__device_error(berth__driver.cuDeviceGetCount(&count));
    if (r == 0)
        *ret = count;
    return r;
}

int berth__device_uuid(int device, unsigned char ret[BERTH_DEVICE_UUID_SIZE])
{
    unsigned char uuid[BERTH_DEVICE_UUID_SIZE];
    berth_cu_result (*get)(void *, berth_cu_device) = berth__driver.cuDeviceGetUuid_v2;
    int r;

    /* The second version differs for the parts of a device (MIG) only. */
    if (!get)
        get = berth__driver.cuDeviceGetUuid;
    if (!get)
        return -ENOSYS;
    r = berth__device_error(get(uuid, device));
    if (r == 0)
        memcpy(ret, uuid, sizeof(uuid));
    return r;
}

int berth__device_of_uuid(const unsigned char uuid[BERTH_DEVICE_UUID_SIZE], int *ret)
{
    unsigned char other[BERTH_DEVICE_UUID_SIZE];
    int count = 0;
    int r = berth__device_count(&count);

    for (int i = 0; r == 0 && i < count; i++) {
        r = berth__device_uuid(i, other);
        if (r == 0 && memcmp(uuid, other, sizeof(other)) == 0) {
            *ret = i;
            return 0;
        }
    }
    return r < 0 ? r : -ENODEV;
}

static bool has_attribute(int device, int attribute)
{
    int value = 0;

    return berth__driver.cuDeviceGetAttribute &&
           berth__driver.cuDeviceGetAttribute(&value, attribute, device) == BERTH_CU_SUCCESS &&
           value != 0;
}

bool berth__device_shares_descriptors(int device)
{
    return berth__driver.cuMemCreate && berth__driver.cuMemExportToShareableHandle &&
           berth__driver.cuMemMap && has_attribute(device, BERTH_CU_ATTRIBUTE_VMM) &&
           has_attribute(device, ATTRIBUTE_DESCRIPTORS);
}

int berth__device_granularity(int device, uint64_t *ret)
{
    const struct berth_cu_properties properties = shareable_on(device);
    size_t granularity = 0;
    int r;

    BERTH_DRIVER_NEED(cuMemGetAllocationGranularity);
    r = berth__device_error(berth__driver.cuMemGetAllocationGranularity(&granularity, &properties,
                                                                        GRANULARITY_RECOMMENDED));
    if (r == 0)
        *ret = granularity;
    return r;
}

int berth__device_physical_make(int device, uint64_t size, uint64_t *ret_handle)
{
    const struct berth_cu_properties properties = shareable_on(device);
    uint64_t handle = 0;
    int r;

    BERTH_DRIVER_NEED(cuMemCreate);
    r = berth__device_error(berth__driver.cuMemCreate(&handle, size, &properties, 0));
    if (r == 0)
        *ret_handle = handle;
    return r;
}

int berth__device_physical_release(uint64_t handle)
{
    BERTH_DRIVER_NEED(cuMemRelease);
    return berth__device_error(berth__driver.cuMemRelease(handle));
}

int berth__device_physical_export(uint64_t handle, int *ret_fd)
{
    int fd = -1;
    int r;

    BERTH_DRIVER_NEED(cuMemExportToShareableHandle);
    r = berth__device_error(
        berth__driver.cuMemExportToShareableHandle(&fd, handle, HANDLE_TYPE_DESCRIPTOR, 0));
    if (r < 0)
        return r;
    /* cuda.h does not say whether the driver's descriptors are closed at exec. */
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    *ret_fd = fd;
    return 0;
}

int berth__device_physical_import(int fd, uint64_t *ret_handle)
{
    uint64_t handle = 0;
    int r;

    BERTH_DRIVER_NEED(cuMemImportFromShareableHandle);
    /* The descriptor itself is passed where a pointer is declared (cuda.h). */
    r = berth__device_error(berth__driver.cuMemImportFromShareableHandle(
        &handle, (void *)(intptr_t)fd, HANDLE_TYPE_DESCRIPTOR));
    if (r == 0)
        *ret_handle = handle;
    return r;
}

static int set_access(uintptr_t base, uint64_t size, int device)
{
    const struct berth_cu_access access = {{BERTH_CU_LOCATION_DEVICE, device},
                                           BERTH_CU_ACCESS_READ_WRITE};

    return berth__device_error(berth__driver.cuMemSetAccess(base, size, &access, 1));
}

/*
 * What cuCtxEnablePeerAccess gives for cuMemAlloc does not exist for mapped memory, so that peers
 * get their access at once. One that refuses has none; the device's own does not depend on it.
 */
static void set_peer_access(uintptr_t base, uint64_t size, int device)
{
    int count = 0;

    if (!berth__driver.cuDeviceCanAccessPeer || berth__device_count(&count) < 0)
        return;
    for (int peer = 0; peer < count; peer++) {
        int can = 0;

        if (peer != device &&
            berth__driver.cuDeviceCanAccessPeer(&can, peer, device) == BERTH_CU_SUCCESS && can)
            set_access(base, size, peer);
    }
}

int berth__device_map(int device, uint64_t handle, uint64_t size, uintptr_t *ret_base)
{
    berth_cu_address address = 0;
    int r;

    BERTH_DRIVER_NEED(cuMemAddressReserve);
    BERTH_DRIVER_NEED(cuMemAddressFree);
    BERTH_DRIVER_NEED(cuMemMap);
    BERTH_DRIVER_NEED(cuMemUnmap);
    BERTH_DRIVER_NEED(cuMemSetAccess);
    r = berth__device_error(berth__driver.cuMemAddressReserve(&address, size, 0, 0, 0));
    if (r < 0)
        return r;
    r = berth__device_error(berth__driver.cuMemMap(address, size, 0, handle, 0));
    if (r < 0)
        goto err_free;
    r = set_access((uintptr_t)address, size, device);
    if (r < 0)
        goto err_unmap;
    set_peer_access((uintptr_t)address, size, device);
    *ret_base = (uintptr_t)address;
    return 0;

err_unmap:
    berth__driver.cuMemUnmap(address, size);
err_free:
    berth__driver.cuMemAddressFree(address, size);
    return r;
}

int berth__device_unmap(uintptr_t base, uint64_t size)
{
    int r;

    BERTH_DRIVER_NEED(cuMemUnmap);
    BERTH_DRIVER_NEED(cuMemAddressFree);
    r = berth__device_error(berth__driver.cuMemUnmap(base, size));
    /* Addresses that the driver keeps are lost to the process, and hold no memory. */
    if (r == 0)
        berth__driver.cuMemAddressFree(base, size);
    return r;
}

static int enter(berth_cu_context context)
{
    BERTH_DRIVER_NEED(cuCtxPushCurrent_v2);
    BERTH_DRIVER_NEED(cuCtxPopCurrent_v2);
    return berth__device_error(berth__driver.cuCtxPushCurrent_v2(context));
}

static void leave(void)
{
    berth__device_leave(true);
}

int berth__device_ipc_export(berth_cu_context context, uintptr_t base,
                             struct berth_cu_ipc_handle *ret)
{
    int r;

    BERTH_DRIVER_NEED(cuIpcGetMemHandle);
    r = enter(context);
    if (r < 0)
        return r;
    r = berth__device_error(berth__driver.cuIpcGetMemHandle(ret, base));
    leave();
    return r;
}

int berth__device_ipc_open(berth_cu_context context, const struct berth_cu_ipc_handle *handle,
                           uintptr_t *ret_base, uint64_t *ret_size)
{
    berth_cu_address address = 0;
    size_t size = 0;
    int r;

    BERTH_DRIVER_NEED(cuIpcOpenMemHandle_v2);
    BERTH_DRIVER_NEED(cuIpcCloseMemHandle);
    BERTH_DRIVER_NEED(cuMemGetAddressRange_v2);
    r = enter(context);
    if (r < 0)
        return r;
    r = berth__device_error(
        berth__driver.cuIpcOpenMemHandle_v2(&address, *handle, IPC_LAZY_ENABLE_PEER_ACCESS));
    if (r == 0) {
        r = berth__device_error(berth__driver.cuMemGetAddressRange_v2(NULL, &size, address));
        if (r < 0)
            berth__driver.cuIpcCloseMemHandle(address);
    }
    leave();
    if (r == 0) {
        *ret_base = (uintptr_t)address;
        *ret_size = size;
    }
    return r;
}

int berth__device_ipc_close(berth_cu_context context, uintptr_t base)
{
    int r;

    BERTH_DRIVER_NEED(cuIpcCloseMemHandle);
    r = enter(context);
    if (r < 0)
        return r;
    r = berth__device_error(berth__driver.cuIpcCloseMemHandle(base));
    leave();
    return r;
}

int berth__device_alloc_in(berth_cu_context context, uint64_t size, uintptr_t *ret_base)
{
    int r = enter(context);

    if (r < 0)
        return r;
    r = berth__device_alloc(size, ret_base);
    leave();
    return r;
}

int berth__device_buffer_id(uintptr_t base, uint64_t *ret)
{
    unsigned long long id = 0;
    int r;

    BERTH_DRIVER_NEED(cuPointerGetAttribute);
    r = berth__device_error(
        berth__driver.cuPointerGetAttribute(&id, POINTER_ATTRIBUTE_BUFFER_ID, base));
    if (r == 0)
        *ret = id;
    return r;
}
