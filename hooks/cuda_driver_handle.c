/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the program names by a handle: its own virtual memory management, and arrays. The
 * driver serves it all; Berth accounts it (alloc/pool_handle.h) and, when the device has no more,
 * gives its cache back and asks again. Arguments, errors and threads are the driver's.
 *
 * Not accounted: memory that was imported, and what a graph allocates for itself.
 */
#include "alloc/pool.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_handle.h"
#include "hooks/cuda_driver_array.h"
#include "hooks/cuda_driver_export.h"
#include "hooks/cuda_driver_room.h"
#include "hooks/cuda_driver_trace.h"

#include <errno.h>

EXPORT(cuMemCreate);
EXPORT(cuMemRelease);
EXPORT(cuMemMap);
EXPORT(cuMemUnmap);
EXPORT(cuMemSetAccess);
EXPORT(cuMemGetAccess);
EXPORT(cuMemRetainAllocationHandle);
EXPORT(cuMulticastBindAddr);
EXPORT(cuMulticastBindAddr_v2);
EXPORT(cuLogicalEndpointBindAddr);
EXPORT(cuArrayCreate_v2);
EXPORT(cuArray3DCreate_v2);
EXPORT(cuArrayDestroy);
EXPORT(cuMipmappedArrayCreate);
EXPORT(cuMipmappedArrayDestroy);

/* The head of CUmemAllocationProp. */
struct properties {
    int type;
    int handle_types;
    int location_type;
    int location_id;
};
#define LOCATION_DEVICE 1 /* CU_MEM_LOCATION_TYPE_DEVICE; the others are the host's */

/* The driver gave what was reserved by the handle `value`, or nothing. */
static void account(berth_cu_result result, enum berth_handle_kind kind, uint64_t value,
                    const struct berth_foreign *reserved)
{
    berth_cu_context context = NULL;

    if (result == BERTH_CU_SUCCESS) {
        if (kind == BERTH_HANDLE_ARRAY)
            berth__device_current(&context);
        berth__handle_add(&(struct berth_handle){
            .kind = kind,
            .value = value,
            .size = reserved->size,
            .tier = reserved->tier,
            .tag = reserved->tag,
            .context = context,
        });
    } else {
        berth__foreign_cancel(reserved->tier, reserved->size);
    }
    berth__foreign_settle(reserved);
}

/* What properties are right depends on the device: for more than there is they are the program's.
 */
static berth_cu_result refused_create(size_t size, const void *properties, uint64_t flags)
{
    uint64_t handle = 0;
    berth_cu_result result = berth__driver.cuMemCreate(
        &handle, size > BERTH_OPTION_DEVICE_MAX ? size : BERTH_ROOM_TOO_MUCH(size), properties,
        flags);

    if (result == BERTH_CU_SUCCESS)
        berth__driver.cuMemRelease(handle);
    return result == BERTH_CU_SUCCESS ? BERTH_CU_OUT_OF_MEMORY : result;
}

/*
 * cuMemCreate: physical memory, of the device or of the host, that outlives contexts. Accounted
 * until its last reference and mapping are gone. cuda.h, cuMemCreate, cuMemRelease.
 */
berth_cu_result berth__hook_cuMemCreate(uint64_t *handle, size_t size, const void *properties,
                                        uint64_t flags)
{
    const struct properties *asked = properties;
    struct berth_foreign reserved;
    berth_tier_id tier;
    berth_cu_result result;

    NEED(cuMemCreate);
    TRACED_ALLOC(VMM, cuMemCreate, *handle, size, 0, (handle, size, properties, flags));
    tier = asked && asked->location_type == LOCATION_DEVICE ? BERTH_TIER_DEVICE : BERTH_TIER_PINNED;
    if (handle && asked && !berth__room_reserve(&reserved, tier, size, __builtin_return_address(0)))
        return refused_create(size, properties, flags);
    do {
        result = berth__driver.cuMemCreate(handle, size, properties, flags);
    } while (berth__room_was_made(result));
    if (handle && asked)
        account(result, BERTH_HANDLE_MEMORY, result == BERTH_CU_SUCCESS ? *handle : 0, &reserved);
    return result;
}

/* Calls `function`, which ends one reference to the handle unless it fails. */
#define END(kind, value, call)                                                                     \
    do {                                                                                           \
        struct berth_handle_end end;                                                               \
        berth_cu_result result;                                                                    \
                                                                                                   \
        berth__handle_begin(kind, value, &end);                                                    \
        result = call;                                                                             \
        if (result == BERTH_CU_SUCCESS)                                                            \
            berth__handle_end(&end);                                                               \
        else                                                                                       \
            berth__handle_undo(&end);                                                              \
        return result;                                                                             \
    } while (0)

/* cuMemRelease: mappings keep the memory. */
berth_cu_result berth__hook_cuMemRelease(uint64_t handle)
{
    NEED(cuMemRelease);
    TRACED_FREE(VMM, cuMemRelease, handle, 0, (handle));
    END(BERTH_HANDLE_MEMORY, handle, berth__driver.cuMemRelease(handle));
}

/*
 * cuMemMap: one more user of the memory, which has none by its address before. The driver may need
 * memory for page tables.
 */
berth_cu_result berth__hook_cuMemMap(berth_cu_address address, size_t size, size_t offset,
                                     uint64_t handle, uint64_t flags)
{
    berth_cu_result result;

    NEED(cuMemMap);
    do {
        result = berth__driver.cuMemMap(address, size, offset, handle, flags);
    } while (berth__room_was_made(result));
    if (result == BERTH_CU_SUCCESS)
        berth__handle_map(handle, (uintptr_t)address, size);
    return result;
}

/*
 * cuMemUnmap: of one or several whole mappings side by side. A block of the pool is none, also
 * where GPU pages are mapped behind it.
 */
berth_cu_result berth__hook_cuMemUnmap(berth_cu_address address, size_t size)
{
    struct berth_block_view view;
    berth_cu_result result;

    NEED(cuMemUnmap);
    if (berth__pool_find((uintptr_t)address, &view) != -ENOENT)
        return berth__driver.cuMemUnmap(BERTH_NO_ADDRESS, size);
    berth__handle_unmap_begin((uintptr_t)address, size);
    result = berth__driver.cuMemUnmap(address, size);
    if (result == BERTH_CU_SUCCESS)
        berth__handle_unmap_end((uintptr_t)address, size);
    else
        berth__handle_unmap_undo((uintptr_t)address, size);
    return result;
}

/* cuMemSetAccess: of mappings too; who may use a block, Berth has said. */
berth_cu_result berth__hook_cuMemSetAccess(berth_cu_address address, size_t size,
                                           const void *descriptors, size_t count)
{
    struct berth_block_view view;

    NEED(cuMemSetAccess);
    if (berth__pool_find((uintptr_t)address, &view) != -ENOENT)
        address = BERTH_NO_ADDRESS;
    return berth__driver.cuMemSetAccess(address, size, descriptors, count);
}

/* cuMemGetAccess: likewise; a block of the pool is no mapping. */
berth_cu_result berth__hook_cuMemGetAccess(unsigned long long *flags, const void *location,
                                           berth_cu_address address)
{
    struct berth_block_view view;

    NEED(cuMemGetAccess);
    if (berth__pool_find((uintptr_t)address, &view) != -ENOENT)
        address = BERTH_NO_ADDRESS;
    return berth__driver.cuMemGetAccess(flags, location, address);
}

/*
 * cuMemRetainAllocationHandle: one more reference, found by an address that is mapped. A block of
 * the pool is none, also where GPU pages are mapped behind it: they move.
 */
berth_cu_result berth__hook_cuMemRetainAllocationHandle(uint64_t *handle, void *address)
{
    struct berth_block_view view;
    berth_cu_result result;

    NEED(cuMemRetainAllocationHandle);
    if (berth__pool_find((uintptr_t)address, &view) != -ENOENT)
        return berth__driver.cuMemRetainAllocationHandle(handle, (void *)BERTH_NO_ADDRESS);
    result = berth__driver.cuMemRetainAllocationHandle(handle, address);
    if (result == BERTH_CU_SUCCESS && handle)
        berth__handle_retained(*handle, (uintptr_t)address);
    return result;
}

/*
 * Memory, found by its address, becomes a part of something that other devices use. Of a block
 * whose GPU pages may move none does; any other one goes back to the driver when it is freed.
 */
#define BIND(address, call)                                                                        \
    do {                                                                                           \
        struct berth_block_view view;                                                              \
        berth_cu_result result;                                                                    \
        int r = berth__pool_find((uintptr_t)(address), &view);                                     \
                                                                                                   \
        if (r == -EFAULT || (r == 0 && view.page_size > 0))                                        \
            (address) = (__typeof__(address))BERTH_NO_ADDRESS;                                     \
        do {                                                                                       \
            result = (call);                                                                       \
        } while (berth__room_was_made(result));                                                    \
        if (result == BERTH_CU_SUCCESS && r == 0)                                                  \
            berth__pool_set_exported(view.base);                                                   \
        return result;                                                                             \
    } while (0)

/* cuMulticastBindAddr, and with a device of its own as of CUDA 13.1: a multicast object. */
berth_cu_result berth__hook_cuMulticastBindAddr(uint64_t handle, size_t offset,
                                                berth_cu_address address, size_t size,
                                                uint64_t flags)
{
    NEED(cuMulticastBindAddr);
    BIND(address, berth__driver.cuMulticastBindAddr(handle, offset, address, size, flags));
}

berth_cu_result berth__hook_cuMulticastBindAddr_v2(uint64_t handle, berth_cu_device device,
                                                   size_t offset, berth_cu_address address,
                                                   size_t size, uint64_t flags)
{
    NEED(cuMulticastBindAddr_v2);
    BIND(address,
         berth__driver.cuMulticastBindAddr_v2(handle, device, offset, address, size, flags));
}

/* cuLogicalEndpointBindAddr, of CUDA 13.3: an endpoint that other processes may use, too. */
berth_cu_result berth__hook_cuLogicalEndpointBindAddr(uint64_t endpoint, berth_cu_device device,
                                                      uint64_t offset, void *address, uint64_t size,
                                                      uint64_t flags)
{
    NEED(cuLogicalEndpointBindAddr);
    BIND(address,
         berth__driver.cuLogicalEndpointBindAddr(endpoint, device, offset, address, size, flags));
}

/* Makes an array of `size` bytes by `call`, and accounts it where it has memory of its own. */
#define MAKE_ARRAY(array, size, call)                                                              \
    do {                                                                                           \
        struct berth_foreign reserved;                                                             \
        berth_cu_result result;                                                                    \
        uint64_t bytes = (array) ? (size) : 0;                                                     \
                                                                                                   \
        if (bytes > 0 && !berth__room_reserve(&reserved, BERTH_TIER_DEVICE, bytes,                 \
                                              __builtin_return_address(0)))                        \
            return berth__room_refused();                                                          \
        do {                                                                                       \
            result = call;                                                                         \
        } while (berth__room_was_made(result));                                                    \
        if (bytes > 0)                                                                             \
            account(result, BERTH_HANDLE_ARRAY,                                                    \
                    result == BERTH_CU_SUCCESS ? (uintptr_t) * (array) : 0, &reserved);            \
        return result;                                                                             \
    } while (0)

/* cuArrayCreate, cuArray3DCreate, cuMipmappedArrayCreate: accounted as what the elements take. */
berth_cu_result berth__hook_cuArrayCreate_v2(void **array, const void *descriptor)
{
    NEED(cuArrayCreate_v2);
    TRACED_ALLOC(ARRAY, cuArrayCreate_v2, *array, berth__array_size(descriptor), 0,
                 (array, descriptor));
    MAKE_ARRAY(array, berth__array_size(descriptor),
               berth__driver.cuArrayCreate_v2(array, descriptor));
}

berth_cu_result berth__hook_cuArray3DCreate_v2(void **array, const void *descriptor)
{
    NEED(cuArray3DCreate_v2);
    TRACED_ALLOC(ARRAY, cuArray3DCreate_v2, *array, berth__array_size_3d(descriptor, 1), 0,
                 (array, descriptor));
    MAKE_ARRAY(array, berth__array_size_3d(descriptor, 1),
               berth__driver.cuArray3DCreate_v2(array, descriptor));
}

berth_cu_result berth__hook_cuMipmappedArrayCreate(void **array, const void *descriptor,
                                                   unsigned levels)
{
    NEED(cuMipmappedArrayCreate);
    TRACED_ALLOC(ARRAY, cuMipmappedArrayCreate, *array, berth__array_size_3d(descriptor, levels), 0,
                 (array, descriptor, levels));
    MAKE_ARRAY(array, berth__array_size_3d(descriptor, levels),
               berth__driver.cuMipmappedArrayCreate(array, descriptor, levels));
}

/* cuArrayDestroy, cuMipmappedArrayDestroy: an array has one reference. */
berth_cu_result berth__hook_cuArrayDestroy(void *array)
{
    NEED(cuArrayDestroy);
    TRACED_FREE(ARRAY, cuArrayDestroy, array, 0, (array));
    END(BERTH_HANDLE_ARRAY, (uintptr_t)array, berth__driver.cuArrayDestroy(array));
}

berth_cu_result berth__hook_cuMipmappedArrayDestroy(void *array)
{
    NEED(cuMipmappedArrayDestroy);
    TRACED_FREE(ARRAY, cuMipmappedArrayDestroy, array, 0, (array));
    END(BERTH_HANDLE_ARRAY, (uintptr_t)array, berth__driver.cuMipmappedArrayDestroy(array));
}
