/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls that begin and end what blocks live in, the driver and contexts, and those that switch
 * a thread's context. All are the driver's own; Berth looks at the outcome. Any thread.
 */
#include "alloc/device_context.h"
#include "alloc/peer.h"
#include "alloc/pool.h"
#include "alloc/pool_borrow.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_handle.h"
#include "alloc/pool_stream.h"
#include "alloc/thread.h"
#include "alloc/trace.h"
#include "hooks/binding.h"
#include "hooks/cuda_driver_capture.h"
#include "hooks/cuda_driver_export.h"
#include "hooks/cuda_driver_room.h"
#include "ipc/control.h"
#include "ipc/shared_tier.h"

#include <stdlib.h>

EXPORT(cuInit);
EXPORT(cuCtxSetCurrent);
EXPORT(cuCtxPushCurrent);
EXPORT(cuCtxPushCurrent_v2);
EXPORT(cuCtxPopCurrent);
EXPORT(cuCtxPopCurrent_v2);
EXPORT(cuGreenCtxDestroy);
EXPORT(cuCtxDestroy);
EXPORT(cuCtxDestroy_v2);
EXPORT(cuCtxDetach);
EXPORT(cuDevicePrimaryCtxRetain);
EXPORT(cuDevicePrimaryCtxReset);
EXPORT(cuDevicePrimaryCtxReset_v2);
EXPORT(cuDevicePrimaryCtxRelease);
EXPORT(cuDevicePrimaryCtxRelease_v2);

bool berth__hook_initialised(void)
{
    return atomic_load_explicit(&berth__device_is_initialised, memory_order_relaxed);
}

/*
 * cuInit(flags): once the driver is up, the process is one that uses CUDA, and may be looked at
 * from outside. The control thread's own trouble is no concern of the program. Where a policy
 * borrows memory, the control thread has a moment to map it, before the program asks for blocks.
 */
berth_cu_result berth__hook_cuInit(unsigned flags)
{
    berth_cu_result result;

    NEED(cuInit);
    result = berth__driver.cuInit(flags);
    if (result == BERTH_CU_SUCCESS) {
        berth__binding_check();
        /* Handlers run in reverse order: this one before the driver's own, which ends it. */
        if (!atomic_exchange_explicit(&berth__device_is_initialised, true, memory_order_release))
            atexit(berth__context_track_no_more);
        berth__thread.inside++;
        berth__trace_begin_wanted();
        if (berth__control_wanted)
            berth__control_wanted();
        berth__shared_tier_await();
        berth__thread.inside--;
    }
    return result;
}

/*
 * cuCtxSetCurrent, cuCtxPushCurrent and cuCtxPopCurrent (the latter two by their names of CUDA 2.0
 * and 4.0) change the calling thread's context. What is remembered of it is forgotten whatever the
 * driver answers.
 */
berth_cu_result berth__hook_cuCtxSetCurrent(berth_cu_context context)
{
    NEED(cuCtxSetCurrent);
    berth__context_changed();
    return berth__driver.cuCtxSetCurrent(context);
}

berth_cu_result berth__hook_cuCtxPushCurrent(berth_cu_context context)
{
    NEED(cuCtxPushCurrent);
    berth__context_changed();
    return berth__driver.cuCtxPushCurrent(context);
}

berth_cu_result berth__hook_cuCtxPushCurrent_v2(berth_cu_context context)
{
    NEED(cuCtxPushCurrent_v2);
    berth__context_changed();
    return berth__driver.cuCtxPushCurrent_v2(context);
}

berth_cu_result berth__hook_cuCtxPopCurrent(berth_cu_context *context)
{
    NEED(cuCtxPopCurrent);
    berth__context_changed();
    return berth__driver.cuCtxPopCurrent(context);
}

berth_cu_result berth__hook_cuCtxPopCurrent_v2(berth_cu_context *context)
{
    NEED(cuCtxPopCurrent_v2);
    berth__context_changed();
    return berth__driver.cuCtxPopCurrent_v2(context);
}

/* The context may be gone, and its streams with it; stream-ordered memory outlives them. */
static void streams_end(berth_cu_context context, bool is_destroyed)
{
    berth__stream_drop_end(context, is_destroyed, berth__stream_retire_idle);
    if (is_destroyed && context)
        berth__stream_context_gone(context);
}

/*
 * The context is gone, and its pools know: what else was its own is, too. The driver is not called
 * for it. Checklist 28.
 */
static void forget(berth_cu_context context)
{
    berth__foreign_drop(context);
    berth__loan_drop(context);
    berth__handle_drop(context);
    berth__peer_drop(context);
    berth__capture_forget(context, NULL);
}

/* Calls `function`, which destroys the context unless it fails. */
static berth_cu_result destroy(berth_cu_result (*function)(berth_cu_context),
                               berth_cu_context context)
{
    berth_cu_result result;

    berth__pool_drop_begin(context);
    berth__stream_drop_begin(context);
    result = function(context);
    berth__context_changed_for_all();
    streams_end(context, result == BERTH_CU_SUCCESS);
    berth__pool_drop_end(context, result == BERTH_CU_SUCCESS);
    if (result == BERTH_CU_SUCCESS && context)
        forget(context);
    return result;
}

/* cuCtxDestroy, by its names of CUDA 2.0 and 4.0. */
berth_cu_result berth__hook_cuCtxDestroy(berth_cu_context context)
{
    NEED(cuCtxDestroy);
    return destroy(berth__driver.cuCtxDestroy, context);
}

berth_cu_result berth__hook_cuCtxDestroy_v2(berth_cu_context context)
{
    NEED(cuCtxDestroy_v2);
    return destroy(berth__driver.cuCtxDestroy_v2, context);
}

/* cuCtxDetach: since CUDA 4.0 a context has one user, so that detaching destroys it. */
berth_cu_result berth__hook_cuCtxDetach(berth_cu_context context)
{
    NEED(cuCtxDetach);
    return destroy(berth__driver.cuCtxDetach, context);
}

/*
 * A primary context that ends and begins again has the same handle: nobody could tell whose are the
 * blocks, streams and records that have it. So none begins while one is ending here, nor the other
 * way round; the driver, too, does one after the other. Another device's is let alone.
 */

/*
 * How often the program retains a device's primary context, as far as it was seen. Who retains it
 * unseen makes one that stays look like one that may end, which is safe; who releases it unseen the
 * other way round, which is found out after the call.
 */
struct primary_count {
    berth_cu_device device;
    atomic_long count;
    struct primary_count *next;
};

static _Atomic(struct primary_count *) primary_counts;

/* Any thread. */
static struct primary_count *find_count(berth_cu_device device)
{
    struct primary_count *count = atomic_load(&primary_counts);

    while (count && count->device != device)
        count = count->next;
    return count;
}

/* Adds one, which stays: there are no more than devices. NULL: there is no memory for it. */
static struct primary_count *make_count(berth_cu_device device)
{
    struct primary_count *made = calloc(1, sizeof(*made)), *other;

    if (!made)
        return NULL;
    made->device = device;
    made->next = atomic_load(&primary_counts);
    do {
        other = find_count(device);
    } while (!other && !atomic_compare_exchange_weak(&primary_counts, &made->next, made));
    if (!other)
        return made;
    free(made);
    return other;
}

/* After the driver's success, so that there is such a device. */
static void count_primary(berth_cu_device device, long change)
{
    struct primary_count *count = find_count(device);

    if (!count)
        count = make_count(device);
    if (count)
        atomic_fetch_add(&count->count, change);
}

/* Whether the program retains it more than once, so that one release does not end it. */
static bool is_retained_by_others(berth_cu_device device)
{
    const struct primary_count *count = find_count(device);

    return count && atomic_load(&count->count) > 1;
}

/*
 * cuDevicePrimaryCtxRetain(context, device): makes the primary context if there is none, for which
 * the cache makes room; nothing is held meanwhile.
 */
berth_cu_result berth__hook_cuDevicePrimaryCtxRetain(berth_cu_context *context,
                                                     berth_cu_device device)
{
    berth_cu_result result;
    bool is_held;

    NEED(cuDevicePrimaryCtxRetain);
    do {
        is_held = berth__device_primary_hold(device, false);
        result = berth__driver.cuDevicePrimaryCtxRetain(context, device);
        if (result == BERTH_CU_SUCCESS)
            count_primary(device, 1);
        berth__device_primary_let_go(device, is_held);
    } while (berth__room_was_made(result));
    return result;
}

typedef berth_cu_result (*primary_function)(berth_cu_device device);

/*
 * After `function` the primary context whose handle was read before is gone: always, or if last.
 * One that others retain is not waited for: the driver does not wait for its work, either.
 */
static berth_cu_result end_primary_alone(primary_function function, berth_cu_device device,
                                         bool is_only_if_last)
{
    berth_cu_context context = berth__device_primary(device);
    berth_cu_result result;
    bool is_destroyed, is_left = is_only_if_last && is_retained_by_others(device);

    if (!is_left) {
        berth__pool_keep_begin(context, device);
        berth__stream_drop_begin(context);
    }
    result = function(device);
    if (is_only_if_last && result == BERTH_CU_SUCCESS)
        count_primary(device, -1);
    if (is_left && berth__device_primary(device))
        return result;
    if (is_left)
        berth__stream_drop_begin(context);
    is_destroyed = result == BERTH_CU_SUCCESS && context &&
                   (!is_only_if_last || !berth__device_primary(device));
    streams_end(context, is_destroyed);
    if (is_destroyed) {
        berth__context_changed_for_all();
        berth__pool_drop(context);
        forget(context);
    }
    berth__pool_keep_end(device);
    return result;
}

/* The green context as others are named; NULL where the driver cannot say. */
static berth_cu_context context_of_green(void *green)
{
    berth_cu_context context = NULL;

    if (!berth__driver.cuCtxFromGreenCtx ||
        berth__driver.cuCtxFromGreenCtx(&context, green) != BERTH_CU_SUCCESS)
        return NULL;
    return context;
}

/*
 * cuGreenCtxDestroy: its streams stay, and can be used for nothing any more, and its events are
 * gone. Any thread. cuda.h, cuGreenCtxDestroy.
 */
berth_cu_result berth__hook_cuGreenCtxDestroy(void *green)
{
    berth_cu_context context;
    berth_cu_result result;

    NEED(cuGreenCtxDestroy);
    context = context_of_green(green);
    berth__stream_drop_begin(context);
    result = berth__driver.cuGreenCtxDestroy(green);
    berth__context_changed_for_all();
    /* Before its points are void, which would say that they have passed. */
    if (result == BERTH_CU_SUCCESS && context)
        berth__stream_green_gone(context);
    berth__stream_drop_end(context, result == BERTH_CU_SUCCESS, berth__stream_retire_green);
    if (result == BERTH_CU_SUCCESS && context)
        berth__capture_forget(context, NULL);
    return result;
}

static berth_cu_result end_primary(primary_function function, berth_cu_device device,
                                   bool is_only_if_last)
{
    berth_cu_result result;
    bool is_held;

    if (berth__pool_is_off())
        return function(device);
    is_held = berth__device_primary_hold(device, true);
    berth__pool_doubt_begin();
    result = end_primary_alone(function, device, is_only_if_last);
    berth__pool_doubt_end();
    berth__device_primary_let_go(device, is_held);
    return result;
}

/* cuDevicePrimaryCtxReset: destroys the device's primary context whoever retains it. */
berth_cu_result berth__hook_cuDevicePrimaryCtxReset(berth_cu_device device)
{
    NEED(cuDevicePrimaryCtxReset);
    return end_primary(berth__driver.cuDevicePrimaryCtxReset, device, false);
}

berth_cu_result berth__hook_cuDevicePrimaryCtxReset_v2(berth_cu_device device)
{
    NEED(cuDevicePrimaryCtxReset_v2);
    return end_primary(berth__driver.cuDevicePrimaryCtxReset_v2, device, false);
}

/* cuDevicePrimaryCtxRelease: destroys the primary context when nobody retains it any more. */
berth_cu_result berth__hook_cuDevicePrimaryCtxRelease(berth_cu_device device)
{
    NEED(cuDevicePrimaryCtxRelease);
    return end_primary(berth__driver.cuDevicePrimaryCtxRelease, device, true);
}

berth_cu_result berth__hook_cuDevicePrimaryCtxRelease_v2(berth_cu_device device)
{
    NEED(cuDevicePrimaryCtxRelease_v2);
    return end_primary(berth__driver.cuDevicePrimaryCtxRelease_v2, device, true);
}
