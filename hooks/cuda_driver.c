/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's allocation calls that the pool serves: cuMemAlloc and cuMemFree, and the memory that
 * a process sees as free. Exported symbols only; what a block is, alloc/pool.h knows.
 *
 * The 32-bit names without suffix (cuMemAlloc, cuMemFree, ...) are not exported: a program that
 * links to them gets the driver's. "Checklist" is the list of what a drop-in must keep, as cuda.h
 * of CUDA 13.0 states it; each point is named where it is kept.
 */
#include "alloc/limit.h"
#include "alloc/pool.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_obtain.h"
#include "alloc/pool_stream.h"
#include "alloc/pool_tend.h"
#include "alloc/stats.h"
#include "alloc/thread.h"
#include "alloc/tier_ops.h"
#include "alloc/unseen.h"
#include "hooks/cuda_driver_export.h"
#include "hooks/cuda_driver_pass.h"
#include "hooks/cuda_driver_room.h"
#include "hooks/cuda_driver_tag.h"
#include "hooks/cuda_driver_trace.h"

#include <errno.h>

EXPORT(cuMemAlloc_v2);
EXPORT(cuMemFree_v2);
EXPORT(cuMemGetInfo_v2);
EXPORT(cuDeviceTotalMem_v2);

#define ATTRIBUTE_IS_LEGACY_IPC_CAPABLE 10 /* CUpointer_attribute, cuda.h */

/*
 * cuMemAlloc(address, size): `size` bytes, at least 512-byte aligned, not cleared, in the calling
 * thread's context. Size 0, a NULL address and a thread without a context get the driver's own
 * answer. CUDA_ERROR_OUT_OF_MEMORY only after everything cached on the device was given back, or
 * when the capacities of the places that the policy names are; *address is then unchanged. Any
 * thread. cuda.h, cuMemAlloc; checklist 1 to 5, 29, 31.
 */
berth_cu_result berth__hook_cuMemAlloc_v2(berth_cu_address *address, size_t size)
{
    uintptr_t block;
    int r;

    NEED(cuMemAlloc_v2);
    TRACED_ALLOC(DEVICE, cuMemAlloc_v2, *address, size, 0, (address, size));
    if (!address)
        return berth__driver.cuMemAlloc_v2(address, size);
    r = berth__unseen_passes() ? BERTH_POOL_FORWARD
                               : berth__cuda_alloc(size, __builtin_return_address(0), &block);
    if (r == BERTH_POOL_FORWARD)
        return berth__pass_alloc(address, size, __builtin_return_address(0));
    if (BERTH_UNLIKELY(r != 0))
        return r == -EDQUOT ? berth__room_refused() : berth__device_result(r);
    *address = block;
    return BERTH_CU_SUCCESS;
}

/*
 * Whether memory that no record has came from a call like cuMemAlloc, which Berth should have seen.
 * cuMemFree also ends memory of graphs' nodes, of another interface's, and imported one: none of
 * that has an IPC handle, as cuda.h says of the attribute.
 */
static bool is_unseen(berth_cu_address address)
{
    int is_capable = 0; /* the driver writes a bool, or an int */

    return address && berth__driver.cuPointerGetAttribute &&
           berth__driver.cuPointerGetAttribute(&is_capable, ATTRIBUTE_IS_LEGACY_IPC_CAPABLE,
                                               address) == BERTH_CU_SUCCESS &&
           is_capable != 0;
}

/*
 * cuMemFree(address): takes memory of any allocation call back once its context is idle, or with
 * the option free = lazy at once, from any thread, with any or no current context. An address
 * inside a block, or freed before, is CUDA_ERROR_INVALID_VALUE and changes nothing. An address that
 * Berth did not give out is the driver's to answer. Waits without a lock. cuda.h, cuMemFree;
 * checklist 7 to 11, 14 to 16, 37.
 */
berth_cu_result berth__hook_cuMemFree_v2(berth_cu_address address)
{
    struct berth_stream_block *block;
    struct berth_foreign foreign;
    berth_cu_result result;
    bool is_foreign, was_unseen;
    int r;

    NEED(cuMemFree_v2);
    TRACED_FREE(DEVICE, cuMemFree_v2, address, 0, (address));
    r = berth__pool_free((uintptr_t)address);
    if (BERTH_LIKELY(r == 0))
        return BERTH_CU_SUCCESS;
    /*
     * No block begins here. How the driver says that is its own affair: in a stream capture the
     * call is refused whatever the address, and the capture is spoilt.
     */
    if (r == -EINVAL)
        return berth__driver.cuMemFree_v2(BERTH_NO_ADDRESS);
    if (r != BERTH_POOL_FORWARD)
        return berth__device_result(r);
    r = berth__stream_leave_begin((uintptr_t)address, &block);
    if (r == -EINVAL)
        return berth__driver.cuMemFree_v2(BERTH_NO_ADDRESS);
    if (r == 0) {
        result = berth__driver.cuMemFree_v2(address);
        berth__stream_leave_end(block, result == BERTH_CU_SUCCESS);
        return result;
    }
    is_foreign = berth__foreign_remove((uintptr_t)address, &foreign) == 0;
    was_unseen = !is_foreign && is_unseen(address);
    result = berth__driver.cuMemFree_v2(address);
    if (is_foreign && result == BERTH_CU_SUCCESS)
        berth__foreign_cancel(foreign.tier, foreign.size);
    else if (is_foreign)
        berth__foreign_restore(&foreign);
    else if (result == BERTH_CU_SUCCESS && was_unseen)
        berth__unseen_add(BERTH_UNSEEN_BLOCK, "memory was freed that Berth had not seen");
    return result;
}

/* The lower of the two, where 0 means that there is no limit. */
static size_t bounded(size_t size, uint64_t limit)
{
    return limit != 0 && size > limit ? (size_t)limit : size;
}

/*
 * What a limit leaves: `used` bytes count against it, of which `cached` can be had back. Bounds
 * *free_size by it.
 */
static void bound_free(size_t *free_size, uint64_t limit, uint64_t used, uint64_t cached)
{
    uint64_t room = limit + cached > used ? limit + cached - used : 0;

    if (limit != 0 && *free_size > room)
        *free_size = (size_t)room;
}

/* What Berth lets the program have of a device: the capacity of tier `device`, and the limit. */
static size_t bounded_total(size_t total)
{
    uint64_t capacity =
        atomic_load_explicit(&berth__tier(BERTH_TIER_DEVICE)->capacity, memory_order_relaxed);

    return bounded(bounded(total, capacity), berth__limit(BERTH_LIMIT_PROCESS));
}

/*
 * What is free on the thread's device, of `left` that the driver has: with what it would have back,
 * within the capacity of tier `device` and the limits.
 */
static size_t free_on(int device, size_t left, size_t total)
{
    const struct berth_tier_stats *stats = &berth__tier_stats[BERTH_TIER_DEVICE];
    const struct berth_tier *tier = berth__tier(BERTH_TIER_DEVICE);
    uint64_t cached = berth__stream_cached(BERTH_POOL_ALL_DEVICES);
    enum berth_tag tag = berth__tag_current();
    struct berth_obtainable more;

    berth__pool_obtainable(device, BERTH_TIER_DEVICE, &more);
    left += more.pieces;
    left = left < total ? left : total;
    bound_free(&left, atomic_load_explicit(&tier->capacity, memory_order_relaxed),
               atomic_load_explicit(&stats->reserved, memory_order_relaxed), more.of_tier + cached);
    bound_free(&left, berth__limit(BERTH_LIMIT_PROCESS), berth__limit_used(BERTH_LIMIT_PROCESS),
               more.reserved + cached);
    /* A gap is reserved already. */
    left = left > more.gap ? left : more.gap;
    if (berth__limit(tag) != 0)
        bound_free(&left, berth__limit(tag), berth__limit_used(tag), 0);
    return left;
}

/*
 * cuMemGetInfo(free, total): bytes; free is what the program could really have, see
 * alloc/pool_obtain.h. A capacity of tier `device` and the process's limit bound both, and a limit
 * of the thread's tag what is free. NULL arguments get the driver's own answer. Any thread. cuda.h,
 * cuMemGetInfo; checklist 20.
 */
berth_cu_result berth__hook_cuMemGetInfo_v2(size_t *free_size, size_t *total_size)
{
    berth_cu_result result;
    int device;

    NEED(cuMemGetInfo_v2);
    result = berth__driver.cuMemGetInfo_v2(free_size, total_size);
    if (result != BERTH_CU_SUCCESS || !free_size || !total_size ||
        berth__device_of_current(&device) < 0)
        return result;
    *free_size = free_on(device, *free_size, *total_size);
    *total_size = bounded_total(*total_size);
    berth__pool_promise(device, *free_size);
    return result;
}

/*
 * cuDeviceTotalMem(bytes, device): a capacity of tier `device` and the process's limit bound it, as
 * they bound what cuMemGetInfo says. Any thread. cuda.h, cuDeviceTotalMem.
 */
berth_cu_result berth__hook_cuDeviceTotalMem_v2(size_t *size, berth_cu_device device)
{
    berth_cu_result result;

    NEED(cuDeviceTotalMem_v2);
    result = berth__driver.cuDeviceTotalMem_v2(size, device);
    if (result == BERTH_CU_SUCCESS && size)
        *size = bounded_total(*size);
    return result;
}
