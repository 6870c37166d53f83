/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/device_pages.h"

#include "alloc/device_layout.h"
#include "alloc/size_class.h"

#define GRANULARITY_MINIMUM 0 /* CUmemAllocationGranularity_flags */

static struct berth_cu_properties properties_on(int device)
{
    return (struct berth_cu_properties){.type = BERTH_CU_ALLOCATION_PINNED,
                                        .location = {BERTH_CU_LOCATION_DEVICE, device}};
}

int berth__device_page_size(int device, uint64_t *ret)
{
    const struct berth_cu_properties properties = properties_on(device);
    size_t size = 0;
    int has = 0, r;

    BERTH_DRIVER_NEED(cuDeviceGetAttribute);
    BERTH_DRIVER_NEED(cuMemGetAllocationGranularity);
    BERTH_DRIVER_NEED(cuMemAddressReserve);
    BERTH_DRIVER_NEED(cuMemAddressFree);
    BERTH_DRIVER_NEED(cuMemCreate);
    BERTH_DRIVER_NEED(cuMemRelease);
    BERTH_DRIVER_NEED(cuMemMap);
    BERTH_DRIVER_NEED(cuMemUnmap);
    BERTH_DRIVER_NEED(cuMemSetAccess);
    r = berth__device_error(
        berth__driver.cuDeviceGetAttribute(&has, BERTH_CU_ATTRIBUTE_VMM, device));
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

    BERTH_DRIVER_NEED(cuDeviceTotalMem_v2);
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
    const struct berth_cu_properties properties = properties_on(device);
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
    const struct berth_cu_access access = {{BERTH_CU_LOCATION_DEVICE, device},
                                           is_open ? BERTH_CU_ACCESS_READ_WRITE
                                                   : BERTH_CU_ACCESS_NONE};

    return berth__device_error(berth__driver.cuMemSetAccess(address, size, &access, 1));
}
