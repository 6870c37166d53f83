/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/device_pages.h"

#include "alloc/size_class.h"

#include <errno.h>

/* Values and layouts of cuda.h, CUDA 13.0; each is the same since it came, with CUDA 10.2. */
enum {
    ATTRIBUTE_VMM = 102, /* CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED */
    ALLOCATION_TYPE_PINNED = 1,
    LOCATION_TYPE_DEVICE = 1,
    GRANULARITY_MINIMUM = 0,
    ACCESS_NONE = 0,
    ACCESS_READ_WRITE = 3
};

struct location {
    int type, id;
};

/* CUmemAllocationProp. */
struct properties {
    int type, handle_types;
    struct location location;
    void *win32_metadata;
    unsigned char compression, gpu_direct_rdma;
    unsigned short usage;
    unsigned char reserved[4];
};
_Static_assert(sizeof(struct properties) == 32, "CUmemAllocationProp");

/* CUmemAccessDesc. */
struct access {
    struct location location;
    int flags;
};
_Static_assert(sizeof(struct access) == 12, "CUmemAccessDesc");

#define NEED(name)                                                                                 \
    do {                                                                                           \
        if (!berth__driver.name)                                                                   \
            return -ENOSYS;                                                                        \
    } while (0)

static struct properties properties_on(int device)
{
    return (struct properties){.type = ALLOCATION_TYPE_PINNED,
                               .location = {LOCATION_TYPE_DEVICE, device}};
}

int berth__device_page_size(int device, uint64_t *ret)
{
    const struct properties properties = properties_on(device);
    size_t size = 0;
    int has = 0, r;

    NEED(cuDeviceGetAttribute);
    NEED(cuMemGetAllocationGranularity);
    NEED(cuMemAddressReserve);
    NEED(cuMemAddressFree);
    NEED(cuMemCreate);
    NEED(cuMemRelease);
    NEED(cuMemMap);
    NEED(cuMemUnmap);
    NEED(cuMemSetAccess);
    r = berth__device_error(berth__driver.cuDeviceGetAttribute(&has, ATTRIBUTE_VMM, device));
    if (r < 0)
        return r;
    if (!has)
        return -ENOSYS;
    r = berth__device_error(
        berth__driver.cuMemGetAllocationGranularity(&size, &properties, GRANULARITY_MINIMUM));
    if (r < 0)
        return r;
    if (size < BERTH_GRANULE || (size & (size - 1)) != 0)
        return -ENOSYS;
    *ret = size;
    return 0;
}

int berth__device_total(int device, uint64_t *ret)
{
    size_t total = 0;
    int r;

    NEED(cuDeviceTotalMem_v2);
    r = berth__device_error(berth__driver.cuDeviceTotalMem_v2(&total, device));
    if (r == 0)
        *ret = total;
    return r;
}

int berth__device_reserve(uint64_t size, uintptr_t *ret_base)
{
    berth_cu_address base = 0;
    int r = berth__device_error(berth__driver.cuMemAddressReserve(&base, size, 0, 0, 0));

    if (r == 0)
        *ret_base = (uintptr_t)base;
    return r;
}

int berth__device_unreserve(uintptr_t base, uint64_t size)
{
    return berth__device_error(berth__driver.cuMemAddressFree(base, size));
}

int berth__device_page_make(int device, uint64_t size, uint64_t *ret_handle)
{
    const struct properties properties = properties_on(device);
    uint64_t handle = 0;
    int r = berth__device_error(berth__driver.cuMemCreate(&handle, size, &properties, 0));

    if (r == 0)
        *ret_handle = handle;
    return r;
}

int berth__device_page_release(uint64_t handle)
{
    return berth__device_error(berth__driver.cuMemRelease(handle));
}

int berth__device_page_map(uintptr_t address, uint64_t size, uint64_t handle)
{
    return berth__device_error(berth__driver.cuMemMap(address, size, 0, handle, 0));
}

int berth__device_pages_unmap(uintptr_t address, uint64_t size)
{
    return berth__device_error(berth__driver.cuMemUnmap(address, size));
}

int berth__device_pages_open(uintptr_t address, uint64_t size, int device, bool is_open)
{
    const struct access access = {{LOCATION_TYPE_DEVICE, device},
                                  is_open ? ACCESS_READ_WRITE : ACCESS_NONE};

    return berth__device_error(berth__driver.cuMemSetAccess(address, size, &access, 1));
}
