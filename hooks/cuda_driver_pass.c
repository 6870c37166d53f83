/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocation calls that the driver serves and Berth only accounts: pitched, managed, pinned,
 * registered and stream-ordered memory. Sizes are bytes as the program asked for them.
 *
 * Before a call that takes memory the tier's capacity is asked; when the driver has no more, what
 * the pool caches on the device is given back and the call is made once more. Everything else is
 * the driver's own: arguments, errors, alignment, threads. Checklist 6, 7, 12, 13, 33, 34, 39.
 */
#include "alloc/pool.h"
#include "alloc/pool_foreign.h"
#include "hooks/cuda_driver_export.h"
#include "hooks/cuda_driver_room.h"
#include "hooks/cuda_driver_tag.h"

#include <errno.h>

EXPORT(cuMemAllocPitch_v2);
EXPORT(cuMemAllocManaged);
EXPORT(cuMemAllocHost_v2);
EXPORT(cuMemHostAlloc);
EXPORT(cuMemFreeHost);
EXPORT(cuMemHostRegister);
EXPORT(cuMemHostRegister_v2);
EXPORT(cuMemHostUnregister);
EXPORT(cuMemAllocAsync);
EXPORT(cuMemAllocAsync_ptsz);
EXPORT(cuMemAllocFromPoolAsync);
EXPORT(cuMemAllocFromPoolAsync_ptsz);
EXPORT(cuMemFreeAsync);
EXPORT(cuMemFreeAsync_ptsz);

/* The driver gave `size` bytes at `address`, or nothing; the reservation is kept or given back. */
static void account(berth_cu_result result, berth_tier_id tier, uintptr_t address, uint64_t size,
                    bool dies_with_context, const void *return_address)
{
    berth_cu_context context = NULL;
    struct berth_foreign foreign;

    if (result != BERTH_CU_SUCCESS || address == 0) {
        berth__foreign_cancel(tier, size);
        return;
    }
    if (dies_with_context)
        berth__device_current(&context);
    foreign = (struct berth_foreign){
        .address = address,
        .size = size,
        .tier = tier,
        .tag = berth__cuda_tag(size, return_address),
        .context = context,
    };
    berth__foreign_add(&foreign);
}

/* The driver was asked to free what `foreign` says, and answered. */
static berth_cu_result settle(berth_cu_result result, bool is_foreign,
                              const struct berth_foreign *foreign)
{
    if (is_foreign && result == BERTH_CU_SUCCESS)
        berth__foreign_cancel(foreign->tier, foreign->size);
    else if (is_foreign)
        berth__foreign_restore(foreign);
    return result;
}

/*
 * cuMemAllocPitch: rows of *pitch bytes, the driver's choice; accounted in tier `device` as pitch
 * times height. cuda.h, cuMemAllocPitch.
 */
berth_cu_result berth__hook_cuMemAllocPitch_v2(berth_cu_address *address, size_t *pitch,
                                               size_t width, size_t height, unsigned element_size)
{
    berth_cu_result result;
    uint64_t size;

    NEED(cuMemAllocPitch_v2);
    /* The pitch is not known yet: at least this much is asked for. */
    if (!address || !pitch || __builtin_mul_overflow(width, height, &size))
        return berth__driver.cuMemAllocPitch_v2(address, pitch, width, height, element_size);
    if (berth__foreign_reserve(BERTH_TIER_DEVICE, size) < 0)
        return BERTH_CU_OUT_OF_MEMORY;
    do {
        result = berth__driver.cuMemAllocPitch_v2(address, pitch, width, height, element_size);
    } while (berth__room_was_made(result));
    berth__foreign_cancel(BERTH_TIER_DEVICE, size);
    if (result != BERTH_CU_SUCCESS || __builtin_mul_overflow(*pitch, height, &size) ||
        berth__foreign_reserve(BERTH_TIER_DEVICE, size) < 0)
        return result;
    account(result, BERTH_TIER_DEVICE, (uintptr_t)*address, size, true,
            __builtin_return_address(0));
    return result;
}

/* cuMemAllocManaged: accounted in tier `pinned`, as memory that the driver pages. */
berth_cu_result berth__hook_cuMemAllocManaged(berth_cu_address *address, size_t size,
                                              unsigned flags)
{
    berth_cu_result result;

    NEED(cuMemAllocManaged);
    if (!address)
        return berth__driver.cuMemAllocManaged(address, size, flags);
    if (berth__foreign_reserve(BERTH_TIER_PINNED, size) < 0)
        return BERTH_CU_OUT_OF_MEMORY;
    do {
        result = berth__driver.cuMemAllocManaged(address, size, flags);
    } while (berth__room_was_made(result));
    account(result, BERTH_TIER_PINNED, result == BERTH_CU_SUCCESS ? (uintptr_t)*address : 0, size,
            true, __builtin_return_address(0));
    return result;
}

/* cuMemAllocHost: page-locked host memory; tier `pinned`. */
berth_cu_result berth__hook_cuMemAllocHost_v2(void **pointer, size_t size)
{
    berth_cu_result result;

    NEED(cuMemAllocHost_v2);
    if (!pointer)
        return berth__driver.cuMemAllocHost_v2(pointer, size);
    if (berth__foreign_reserve(BERTH_TIER_PINNED, size) < 0)
        return BERTH_CU_OUT_OF_MEMORY;
    result = berth__driver.cuMemAllocHost_v2(pointer, size);
    account(result, BERTH_TIER_PINNED, result == BERTH_CU_SUCCESS ? (uintptr_t)*pointer : 0, size,
            true, __builtin_return_address(0));
    return result;
}

/* cuMemHostAlloc: the same with flags. */
berth_cu_result berth__hook_cuMemHostAlloc(void **pointer, size_t size, unsigned flags)
{
    berth_cu_result result;

    NEED(cuMemHostAlloc);
    if (!pointer)
        return berth__driver.cuMemHostAlloc(pointer, size, flags);
    if (berth__foreign_reserve(BERTH_TIER_PINNED, size) < 0)
        return BERTH_CU_OUT_OF_MEMORY;
    result = berth__driver.cuMemHostAlloc(pointer, size, flags);
    account(result, BERTH_TIER_PINNED, result == BERTH_CU_SUCCESS ? (uintptr_t)*pointer : 0, size,
            true, __builtin_return_address(0));
    return result;
}

/* cuMemFreeHost: of the two above. */
berth_cu_result berth__hook_cuMemFreeHost(void *pointer)
{
    struct berth_foreign foreign;
    bool is_foreign;

    NEED(cuMemFreeHost);
    is_foreign = berth__foreign_remove((uintptr_t)pointer, &foreign) == 0;
    return settle(berth__driver.cuMemFreeHost(pointer), is_foreign, &foreign);
}

typedef berth_cu_result (*register_function)(void *pointer, size_t size, unsigned flags);

static berth_cu_result host_register(register_function function, void *pointer, size_t size,
                                     unsigned flags, const void *return_address)
{
    berth_cu_result result;

    if (berth__foreign_reserve(BERTH_TIER_PINNED, size) < 0)
        return BERTH_CU_OUT_OF_MEMORY;
    result = function(pointer, size, flags);
    account(result, BERTH_TIER_PINNED, (uintptr_t)pointer, size, true, return_address);
    return result;
}

/* cuMemHostRegister (CUDA 4.0): page-locks the program's own memory; tier `pinned` besides. */
berth_cu_result berth__hook_cuMemHostRegister(void *pointer, size_t size, unsigned flags)
{
    NEED(cuMemHostRegister);
    return host_register(berth__driver.cuMemHostRegister, pointer, size, flags,
                         __builtin_return_address(0));
}

/* cuMemHostRegister (CUDA 6.5). */
berth_cu_result berth__hook_cuMemHostRegister_v2(void *pointer, size_t size, unsigned flags)
{
    NEED(cuMemHostRegister_v2);
    return host_register(berth__driver.cuMemHostRegister_v2, pointer, size, flags,
                         __builtin_return_address(0));
}

/* cuMemHostUnregister: of the two above. */
berth_cu_result berth__hook_cuMemHostUnregister(void *pointer)
{
    struct berth_foreign foreign;
    bool is_foreign;

    NEED(cuMemHostUnregister);
    is_foreign = berth__foreign_remove((uintptr_t)pointer, &foreign) == 0;
    return settle(berth__driver.cuMemHostUnregister(pointer), is_foreign, &foreign);
}

typedef berth_cu_result (*async_function)(berth_cu_address *address, size_t size,
                                          berth_cu_stream stream);
typedef berth_cu_result (*from_pool_function)(berth_cu_address *address, size_t size,
                                              berth_cu_pool pool, berth_cu_stream stream);

/*
 * While a graph is captured the call makes a node: the memory is the graph's, and is not accounted.
 * It outlives contexts, so no context is kept with it. `from_pool` is NULL for the default pool.
 */
static berth_cu_result alloc_async(async_function function, from_pool_function from_pool,
                                   berth_cu_address *address, size_t size, berth_cu_pool pool,
                                   berth_cu_stream stream, const void *return_address)
{
    bool is_captured = berth__device_capturing();
    berth_cu_result result;

    if (address && !is_captured && berth__foreign_reserve(BERTH_TIER_DEVICE, size) < 0)
        return BERTH_CU_OUT_OF_MEMORY;
    do {
        result =
            from_pool ? from_pool(address, size, pool, stream) : function(address, size, stream);
    } while (berth__room_was_made(result));
    if (!address || is_captured)
        return result;
    account(result, BERTH_TIER_DEVICE, result == BERTH_CU_SUCCESS ? (uintptr_t)*address : 0, size,
            false, return_address);
    return result;
}

/* cuMemAllocAsync: stream-ordered memory of the device's default pool; tier `device`. */
berth_cu_result berth__hook_cuMemAllocAsync(berth_cu_address *address, size_t size,
                                            berth_cu_stream stream)
{
    NEED(cuMemAllocAsync);
    return alloc_async(berth__driver.cuMemAllocAsync, NULL, address, size, NULL, stream,
                       __builtin_return_address(0));
}

/* The same for programs whose default stream is per thread: stream 0 means another one there. */
berth_cu_result berth__hook_cuMemAllocAsync_ptsz(berth_cu_address *address, size_t size,
                                                 berth_cu_stream stream)
{
    NEED(cuMemAllocAsync_ptsz);
    return alloc_async(berth__driver.cuMemAllocAsync_ptsz, NULL, address, size, NULL, stream,
                       __builtin_return_address(0));
}

/* cuMemAllocFromPoolAsync: of a pool that the program chose; tier `device`. */
berth_cu_result berth__hook_cuMemAllocFromPoolAsync(berth_cu_address *address, size_t size,
                                                    berth_cu_pool pool, berth_cu_stream stream)
{
    NEED(cuMemAllocFromPoolAsync);
    return alloc_async(NULL, berth__driver.cuMemAllocFromPoolAsync, address, size, pool, stream,
                       __builtin_return_address(0));
}

/* The same for per-thread default streams. */
berth_cu_result berth__hook_cuMemAllocFromPoolAsync_ptsz(berth_cu_address *address, size_t size,
                                                         berth_cu_pool pool, berth_cu_stream stream)
{
    NEED(cuMemAllocFromPoolAsync_ptsz);
    return alloc_async(NULL, berth__driver.cuMemAllocFromPoolAsync_ptsz, address, size, pool,
                       stream, __builtin_return_address(0));
}

typedef berth_cu_result (*stream_function)(berth_cu_stream stream);
typedef berth_cu_result (*status_function)(berth_cu_stream stream, int *status);

static bool is_capturing(status_function function, berth_cu_stream stream)
{
    int status = 0;

    return berth__device_capturing() && function && function(stream, &status) == BERTH_CU_SUCCESS &&
           status != 0;
}

/*
 * A block of the pool may be freed in stream order too. It then waits for the stream, which may be
 * of another context, and for its own context, which is stricter than the order that was asked for.
 * A stream that is captured takes only memory of the graph (cuda.h, cuMemFreeAsync).
 */
static berth_cu_result free_async(berth_free_async_function function, stream_function synchronise,
                                  status_function status, berth_cu_address address,
                                  berth_cu_stream stream)
{
    struct berth_block_view view;
    struct berth_foreign foreign;
    berth_cu_result result;
    bool is_foreign;
    int r = berth__pool_find((uintptr_t)address, &view);

    if (r != -ENOENT && (r < 0 || view.base != address || is_capturing(status, stream)))
        return function(BERTH_NO_ADDRESS, stream);
    if (r == 0) {
        result = synchronise ? synchronise(stream) : BERTH_CU_SUCCESS;
        if (result != BERTH_CU_SUCCESS)
            return result;
        r = berth__device_capturing()
                ? berth__pool_free_in_order((uintptr_t)address, function, stream)
                : berth__pool_free((uintptr_t)address);
        return r == BERTH_POOL_FORWARD ? function(address, stream) : berth__device_result(r);
    }
    is_foreign = berth__foreign_remove((uintptr_t)address, &foreign) == 0;
    return settle(function(address, stream), is_foreign, &foreign);
}

/* cuMemFreeAsync: of stream-ordered memory and of cuMemAlloc's. */
berth_cu_result berth__hook_cuMemFreeAsync(berth_cu_address address, berth_cu_stream stream)
{
    NEED(cuMemFreeAsync);
    return free_async(berth__driver.cuMemFreeAsync, berth__driver.cuStreamSynchronize,
                      berth__driver.cuStreamIsCapturing, address, stream);
}

/* The same for per-thread default streams. */
berth_cu_result berth__hook_cuMemFreeAsync_ptsz(berth_cu_address address, berth_cu_stream stream)
{
    NEED(cuMemFreeAsync_ptsz);
    return free_async(berth__driver.cuMemFreeAsync_ptsz, berth__driver.cuStreamSynchronize_ptsz,
                      berth__driver.cuStreamIsCapturing_ptsz, address, stream);
}
