/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams, and the memory that is allocated and freed in their order. Sizes are bytes as the
 * program asked for them.
 *
 * What comes from the device's default pool is cached (alloc/pool_stream.h). What comes from a pool
 * that the program chose, and everything while a capture is open anywhere, is the driver's, and
 * only accounted. Errors are the driver's own. Any thread. Checklist 7, 12, 13, 33 to 35, 39.
 */
#include "alloc/pool_stream.h"

#include "alloc/limit.h"
#include "alloc/pool_class.h"
#include "alloc/pool_foreign.h"
#include "alloc/size_class.h"
#include "hooks/cuda_driver_capture.h"
#include "hooks/cuda_driver_export.h"
#include "hooks/cuda_driver_room.h"
#include "hooks/cuda_driver_tag.h"
#include "hooks/cuda_driver_trace.h"

#include <errno.h>

EXPORT(cuStreamCreate);
EXPORT(cuStreamCreateWithPriority);
EXPORT(cuStreamDestroy);
EXPORT(cuStreamDestroy_v2);
EXPORT(cuMemAllocAsync);
EXPORT(cuMemAllocAsync_ptsz);
EXPORT(cuMemAllocFromPoolAsync);
EXPORT(cuMemAllocFromPoolAsync_ptsz);
EXPORT(cuMemFreeAsync);
EXPORT(cuMemFreeAsync_ptsz);
EXPORT(cuDeviceSetMemPool);
EXPORT(cuMemSetMemPool);
EXPORT(cuMemPoolTrimTo);
EXPORT(cuMemPoolSetAttribute);
EXPORT(cuMemPoolGetAttribute);

static berth_cu_result made(berth_cu_result result, const berth_cu_stream *stream)
{
    if (result == BERTH_CU_SUCCESS && stream)
        berth__stream_made(*stream);
    return result;
}

/* cuStreamCreate(stream, flags): the driver may need memory for it, which the cache gives back. */
berth_cu_result berth__hook_cuStreamCreate(berth_cu_stream *stream, unsigned flags)
{
    berth_cu_result result;

    NEED(cuStreamCreate);
    do {
        result = berth__driver.cuStreamCreate(stream, flags);
    } while (berth__room_was_made(result));
    return made(result, stream);
}

/* cuStreamCreateWithPriority: the same. */
berth_cu_result berth__hook_cuStreamCreateWithPriority(berth_cu_stream *stream, unsigned flags,
                                                       int priority)
{
    berth_cu_result result;

    NEED(cuStreamCreateWithPriority);
    do {
        result = berth__driver.cuStreamCreateWithPriority(stream, flags, priority);
    } while (berth__room_was_made(result));
    return made(result, stream);
}

/* A capture of that stream ends with it; what was freed in its order waits for its work. */
static berth_cu_result destroy(berth_cu_result (*function)(berth_cu_stream), berth_cu_stream handle)
{
    struct berth_stream *stream = berth__stream_destroy_begin(handle, berth__stream_retire);
    berth_cu_result result = function(handle);

    if (result == BERTH_CU_SUCCESS && !berth__stream_is_default(handle))
        berth__capture_forget(NULL, handle);
    berth__stream_destroy_end(stream, result == BERTH_CU_SUCCESS);
    return result;
}

/* cuStreamDestroy, by its names of CUDA 2.0 and 4.0: returns at once, its work goes on. */
berth_cu_result berth__hook_cuStreamDestroy(berth_cu_stream stream)
{
    NEED(cuStreamDestroy);
    return destroy(berth__driver.cuStreamDestroy, stream);
}

berth_cu_result berth__hook_cuStreamDestroy_v2(berth_cu_stream stream)
{
    NEED(cuStreamDestroy_v2);
    return destroy(berth__driver.cuStreamDestroy_v2, stream);
}

/* Stream 0 is the legacy stream, or by the _ptsz names the thread's own. Checklist 34. */
static berth_cu_stream meaning(berth_cu_stream stream, berth_cu_stream of_zero)
{
    return stream ? stream : of_zero;
}

typedef berth_cu_result (*async_function)(berth_cu_address *address, size_t size,
                                          berth_cu_stream stream);
typedef berth_cu_result (*from_pool_function)(berth_cu_address *address, size_t size,
                                              berth_cu_pool pool, berth_cu_stream stream);

/* A call that the driver serves: one of the two functions, with its arguments. */
struct forward {
    async_function function;
    from_pool_function from_pool;
    berth_cu_address *address;
    size_t size;
    berth_cu_pool pool;
    berth_cu_stream stream;
    const void *return_address;
};

static berth_cu_result call(const struct forward *forward)
{
    return forward->from_pool
               ? forward->from_pool(forward->address, forward->size, forward->pool, forward->stream)
               : forward->function(forward->address, forward->size, forward->stream);
}

/*
 * The pool and the stream may be none: the driver says so first, asked for more than any device
 * has.
 */
static berth_cu_result refused(const struct forward *forward)
{
    struct forward too_much = *forward;
    berth_cu_address address = 0;
    berth_cu_result result;

    too_much.address = &address;
    if (forward->size != 0 && forward->size <= BERTH_OPTION_DEVICE_MAX)
        too_much.size = BERTH_ROOM_TOO_MUCH(forward->size);
    result = call(&too_much);
    if (result == BERTH_CU_SUCCESS && address != 0)
        berth__driver.cuMemFree_v2(address);
    return result == BERTH_CU_SUCCESS ? BERTH_CU_OUT_OF_MEMORY : result;
}

/*
 * While a graph is captured the call makes a node: the memory is the graph's, and is not accounted.
 * It outlives contexts, so no context is kept with it.
 */
static berth_cu_result alloc_forward(const struct forward *forward)
{
    bool is_accounted = forward->address && !berth__device_capturing();
    struct berth_foreign foreign;
    berth_cu_result result;

    if (is_accounted &&
        !berth__room_reserve(&foreign, BERTH_TIER_DEVICE, forward->size, forward->return_address))
        return refused(forward);
    do {
        result = call(forward);
    } while (berth__room_was_made(result));
    if (!is_accounted) {
        if (result == BERTH_CU_SUCCESS && forward->address)
            berth__pool_forget_at((uintptr_t)*forward->address, forward->size);
        return result;
    }
    if (result == BERTH_CU_SUCCESS) {
        foreign.address = (uintptr_t)*forward->address;
        berth__foreign_add(&foreign);
    } else {
        berth__foreign_cancel(BERTH_TIER_DEVICE, forward->size);
    }
    berth__foreign_settle(&foreign);
    return result;
}

/*
 * The same where the process or the tag has a limit: a block that another stream has had may hold
 * what none has promised.
 */
static int alloc_limited(const struct berth_pool_request *request, berth_cu_stream stream,
                         uintptr_t *ret)
{
    uint64_t held = berth__size_round(request->size);
    struct berth_block_view view;
    int r = berth__limit_enter(request->tag, held);

    if (r == 0) {
        r = berth__stream_alloc(request, stream, ret);
        berth__limit_leave(request->tag, held);
        if (r != 0 || berth__stream_find_block(*ret, &view) != 0 ||
            berth__limit_holds(request->tag, held, view.held) ||
            berth__stream_free(*ret, stream) != 0)
            return r;
        r = -EDQUOT;
    }
    berth__limit_refuse(request->tag, request->size);
    return r;
}

static berth_cu_result alloc_async(const struct forward *forward, berth_cu_stream of_zero)
{
    berth_cu_stream stream = meaning(forward->stream, of_zero);
    struct berth_pool_request request;
    uintptr_t block;
    int r;

    if (!forward->address || berth__device_capturing())
        return alloc_forward(forward);
    berth__cuda_request(forward->size, forward->return_address, &request);
    r = BERTH_LIKELY(!berth__limit_is_set(request.tag))
            ? berth__stream_alloc(&request, stream, &block)
            : alloc_limited(&request, stream, &block);
    berth__pool_class_tend();
    if (r == BERTH_POOL_FORWARD)
        return alloc_forward(forward);
    if (BERTH_LIKELY(r == 0))
        *forward->address = block;
    return r == -EDQUOT ? refused(forward) : berth__device_result(r);
}

/*
 * cuMemAllocAsync(address, size, stream): memory of the current pool of the stream's device, for
 * work that is queued in the stream from now on. Not cleared, aligned as the driver does it.
 * cuda.h, cuMemAllocAsync; checklist 12, 33.
 */
berth_cu_result berth__hook_cuMemAllocAsync(berth_cu_address *address, size_t size,
                                            berth_cu_stream stream)
{
    NEED(cuMemAllocAsync);
    TRACED_ALLOC(ASYNC, cuMemAllocAsync, *address, size, stream, (address, size, stream));
    const struct forward forward = {.function = berth__driver.cuMemAllocAsync,
                                    .address = address,
                                    .size = size,
                                    .stream = stream,
                                    .return_address = __builtin_return_address(0)};

    return alloc_async(&forward, BERTH_STREAM_LEGACY);
}

/* The same for programs whose default stream is per thread. */
berth_cu_result berth__hook_cuMemAllocAsync_ptsz(berth_cu_address *address, size_t size,
                                                 berth_cu_stream stream)
{
    NEED(cuMemAllocAsync_ptsz);
    TRACED_ALLOC(ASYNC, cuMemAllocAsync_ptsz, *address, size, stream, (address, size, stream));
    const struct forward forward = {.function = berth__driver.cuMemAllocAsync_ptsz,
                                    .address = address,
                                    .size = size,
                                    .stream = stream,
                                    .return_address = __builtin_return_address(0)};

    return alloc_async(&forward, BERTH_STREAM_PER_THREAD);
}

/* cuMemAllocFromPoolAsync: of a pool that the program chose; tier `device`. */
berth_cu_result berth__hook_cuMemAllocFromPoolAsync(berth_cu_address *address, size_t size,
                                                    berth_cu_pool pool, berth_cu_stream stream)
{
    NEED(cuMemAllocFromPoolAsync);
    TRACED_ALLOC(FROM_POOL, cuMemAllocFromPoolAsync, *address, size, stream,
                 (address, size, pool, stream));
    const struct forward forward = {.from_pool = berth__driver.cuMemAllocFromPoolAsync,
                                    .address = address,
                                    .size = size,
                                    .pool = pool,
                                    .stream = stream,
                                    .return_address = __builtin_return_address(0)};

    return alloc_forward(&forward);
}

/* The same for per-thread default streams. */
berth_cu_result berth__hook_cuMemAllocFromPoolAsync_ptsz(berth_cu_address *address, size_t size,
                                                         berth_cu_pool pool, berth_cu_stream stream)
{
    NEED(cuMemAllocFromPoolAsync_ptsz);
    TRACED_ALLOC(FROM_POOL, cuMemAllocFromPoolAsync_ptsz, *address, size, stream,
                 (address, size, pool, stream));
    const struct forward forward = {.from_pool = berth__driver.cuMemAllocFromPoolAsync_ptsz,
                                    .address = address,
                                    .size = size,
                                    .pool = pool,
                                    .stream = stream,
                                    .return_address = __builtin_return_address(0)};

    return alloc_forward(&forward);
}

/* The functions that an entry point stands for, and what stream 0 means to it. */
struct free_entry {
    berth_free_async_function function;
    berth_cu_result (*synchronise)(berth_cu_stream stream);
    berth_cu_result (*status)(berth_cu_stream stream, int *status);
    berth_cu_stream of_zero;
};

static bool is_captured(const struct free_entry *entry, berth_cu_stream stream)
{
    int status = 0;

    return berth__device_capturing() && entry->status &&
           entry->status(stream, &status) == BERTH_CU_SUCCESS && status != 0;
}

/*
 * Whether work of the block's context that is queued by now comes before what the free is for.
 * While a capture is open no mark can be made, which only the legacy stream needs.
 */
static bool is_ordered(const struct free_entry *entry, const struct berth_block_view *view,
                       berth_cu_stream stream, bool is_capturing)
{
    berth_cu_stream handle = meaning(stream, entry->of_zero);
    struct berth_stream *record;

    return berth__stream_find(handle, &record) == 0 &&
           atomic_load(&record->context) == view->context &&
           (is_capturing ? handle != BERTH_STREAM_LEGACY : berth__stream_mark(record));
}

/*
 * A block of the pool may be freed in stream order too. It then waits for the work of its context,
 * which is stricter than the order that was asked for; while a capture is open, for what comes
 * before the next point. Where the stream is of another context, or its own order cannot be kept,
 * the driver has the block back in that order; one that shares its segment cannot go, and is waited
 * for. A stream that is captured takes only memory of the graph (cuda.h, cuMemFreeAsync).
 */
static berth_cu_result free_of_pool(const struct free_entry *entry, berth_cu_address address,
                                    const struct berth_block_view *view, berth_cu_stream stream)
{
    bool is_capturing = berth__device_capturing();
    bool is_in_order = is_ordered(entry, view, stream, is_capturing);
    berth_cu_result result = BERTH_CU_SUCCESS;
    int r;

    if (!is_in_order && !view->is_whole && entry->synchronise)
        result = entry->synchronise(stream);
    if (result != BERTH_CU_SUCCESS)
        return result;
    r = is_capturing || (!is_in_order && view->is_whole)
            ? berth__pool_free_in_order((uintptr_t)address, entry->function, stream)
            : berth__pool_free_later((uintptr_t)address, entry->function, stream);
    return r == BERTH_POOL_FORWARD ? entry->function(address, stream) : berth__device_result(r);
}

/* Memory that the driver frees: a stream-ordered block that cannot be cached, or a foreign one. */
static berth_cu_result free_forward(const struct free_entry *entry, berth_cu_address address,
                                    berth_cu_stream stream)
{
    struct berth_stream_block *block;
    struct berth_foreign foreign;
    berth_cu_result result;

    if (berth__stream_leave_begin((uintptr_t)address, &block) == 0) {
        result = entry->function(address, stream);
        berth__stream_leave_end(block, result == BERTH_CU_SUCCESS);
        return result;
    }
    if (berth__foreign_remove((uintptr_t)address, &foreign) < 0)
        return entry->function(address, stream);
    result = entry->function(address, stream);
    if (result == BERTH_CU_SUCCESS)
        berth__foreign_cancel(foreign.tier, foreign.size);
    else
        berth__foreign_restore(&foreign);
    return result;
}

static berth_cu_result free_async(const struct free_entry *entry, berth_cu_address address,
                                  berth_cu_stream stream)
{
    struct berth_block_view view;
    bool captured = is_captured(entry, stream);
    int r = captured ? BERTH_POOL_FORWARD
                     : berth__stream_free((uintptr_t)address, meaning(stream, entry->of_zero));

    if (BERTH_LIKELY(r == 0))
        return BERTH_CU_SUCCESS;
    if (r == -EINVAL)
        return entry->function(BERTH_NO_ADDRESS, stream);
    r = berth__pool_find((uintptr_t)address, &view);
    if (r != -ENOENT && (r < 0 || view.base != address || captured))
        return entry->function(BERTH_NO_ADDRESS, stream);
    return r == 0 ? free_of_pool(entry, address, &view, stream)
                  : free_forward(entry, address, stream);
}

/*
 * cuMemFreeAsync(address, stream): of stream-ordered memory, whose bytes serve the same stream
 * again at once; and of cuMemAlloc's. cuda.h, cuMemFreeAsync; checklist 12, 13.
 */
berth_cu_result berth__hook_cuMemFreeAsync(berth_cu_address address, berth_cu_stream stream)
{
    NEED(cuMemFreeAsync);
    TRACED_FREE(ASYNC, cuMemFreeAsync, address, stream, (address, stream));
    const struct free_entry entry = {berth__driver.cuMemFreeAsync,
                                     berth__driver.cuStreamSynchronize,
                                     berth__driver.cuStreamIsCapturing, BERTH_STREAM_LEGACY};

    return free_async(&entry, address, stream);
}

/* The same for per-thread default streams. */
berth_cu_result berth__hook_cuMemFreeAsync_ptsz(berth_cu_address address, berth_cu_stream stream)
{
    NEED(cuMemFreeAsync_ptsz);
    TRACED_FREE(ASYNC, cuMemFreeAsync_ptsz, address, stream, (address, stream));
    const struct free_entry entry = {
        berth__driver.cuMemFreeAsync_ptsz, berth__driver.cuStreamSynchronize_ptsz,
        berth__driver.cuStreamIsCapturing_ptsz, BERTH_STREAM_PER_THREAD};

    return free_async(&entry, address, stream);
}

/* cuDeviceSetMemPool(device, pool): what cuMemAllocAsync takes from then on; Berth serves one. */
berth_cu_result berth__hook_cuDeviceSetMemPool(berth_cu_device device, berth_cu_pool pool)
{
    berth_cu_result result;

    NEED(cuDeviceSetMemPool);
    result = berth__driver.cuDeviceSetMemPool(device, pool);
    if (result == BERTH_CU_SUCCESS)
        berth__stream_pool_chosen(device, pool);
    return result;
}

/* CUmemLocation, cuda.h: a place of memory. */
struct location {
    int type;
    int id; /* of a device, its number */
};

#define LOCATION_DEVICE 1   /* CU_MEM_LOCATION_TYPE_DEVICE */
#define ALLOCATION_PINNED 1 /* CU_MEM_ALLOCATION_TYPE_PINNED; managed memory has other pools */

/* cuMemSetMemPool(location, type, pool), of CUDA 13: the same for any place and kind of memory. */
berth_cu_result berth__hook_cuMemSetMemPool(void *location, int type, berth_cu_pool pool)
{
    berth_cu_result result;

    NEED(cuMemSetMemPool);
    result = berth__driver.cuMemSetMemPool(location, type, pool);
    if (result == BERTH_CU_SUCCESS && type == ALLOCATION_PINNED && location &&
        ((struct location *)location)->type == LOCATION_DEVICE)
        berth__stream_pool_chosen(((struct location *)location)->id, pool);
    return result;
}

/* cuMemPoolTrimTo(pool, keep): what Berth has cached of the pool is unused too. Checklist 39. */
berth_cu_result berth__hook_cuMemPoolTrimTo(berth_cu_pool pool, size_t keep)
{
    NEED(cuMemPoolTrimTo);
    berth__stream_release_pool(pool);
    return berth__driver.cuMemPoolTrimTo(pool, keep);
}

/* cuMemPoolSetAttribute: whether and how memory is reused across streams holds for Berth too. */
berth_cu_result berth__hook_cuMemPoolSetAttribute(berth_cu_pool pool, int attribute, void *value)
{
    berth_cu_result result;

    NEED(cuMemPoolSetAttribute);
    result = berth__driver.cuMemPoolSetAttribute(pool, attribute, value);
    if (result == BERTH_CU_SUCCESS)
        berth__stream_attribute_set(pool, attribute, value);
    return result;
}

/* cuMemPoolGetAttribute: what is cached is reserved, not used. */
berth_cu_result berth__hook_cuMemPoolGetAttribute(berth_cu_pool pool, int attribute, void *value)
{
    berth_cu_result result;

    NEED(cuMemPoolGetAttribute);
    result = berth__driver.cuMemPoolGetAttribute(pool, attribute, value);
    if (result == BERTH_CU_SUCCESS)
        berth__stream_attribute_correct(pool, attribute, value);
    return result;
}
