/* SPDX-License-Identifier: Apache-2.0 */
#include "context.h"

#include "array.h"
#include "call.h"
#include "capture.h"
#include "device.h"
#include "event.h"
#include "handle.h"
#include "mem.h"
#include "pool.h"
#include "stream.h"

#include <stdlib.h>

static unsigned long long next_id = 1;

static struct context *context_new(struct device *device, unsigned flags)
{
    struct context *context = calloc(1, sizeof(*context));

    if (!context || handle_add(context, HANDLE_CONTEXT) < 0) {
        free(context);
        return NULL;
    }
    context->device = device;
    context->flags = flags;
    context->id = next_id++;
    context->active = true;
    context->segments.device = device;
    context->limits[CU_LIMIT_STACK_SIZE] = 1024;
    context->limits[CU_LIMIT_PRINTF_FIFO_SIZE] = 1 << 20;
    context->limits[CU_LIMIT_MALLOC_HEAP_SIZE] = 8 << 20;
    return context;
}

/* Frees what the context owns. Pool memory, VMM handles and mappings are not
 * the context's and stay. */
static void context_empty(struct context *context)
{
    context_wait(context);
    context->active = false;
    pool_forget_context(context);
    mem_forget_context(context);
    array_forget_context(context);
    segment_free_all(&context->segments);
    stream_free_all(context);
    event_free_all(context);
    fence_unref(context->barrier);
    context->barrier = NULL;
    context->peers = 0;
}

CUresult context_wait(struct context *context)
{
    CUresult result = stream_wait_all(context);
    struct context *green = context->is_primary ? context->device->greens : NULL;

    /* One that ends while the lock is given up was waited for by who ended it. */
    for (; green && result == CUDA_SUCCESS; green = green->next_green)
        result = stream_wait_all(green);
    return result;
}

struct context *context_of_memory(struct context *context)
{
    return context->is_green ? context->device->primary : context;
}

CUresult context_resolve(struct context *given, struct context **ret_context)
{
    struct thread_state *thread = thread_state();

    if (!given) {
        if (thread->contexts_count == 0 || !thread->contexts[thread->contexts_count - 1])
            return CUDA_ERROR_INVALID_CONTEXT;
        given = thread->contexts[thread->contexts_count - 1];
    } else if (!handle_is(given, HANDLE_CONTEXT)) {
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    /* QUESTION(gpu): a primary context that nobody retains any more: is it
     * reported as destroyed or as invalid? */
    if (!given->active)
        return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    *ret_context = given;
    return CUDA_SUCCESS;
}

CUresult context_current(struct context **ret_context)
{
    return context_resolve(NULL, ret_context);
}

static CUresult stack_push(struct context *context)
{
    struct thread_state *thread = thread_state();

    if (thread->contexts_count == thread->contexts_capacity) {
        size_t capacity = thread->contexts_capacity ? thread->contexts_capacity * 2 : 8;
        struct context **grown = realloc(thread->contexts, capacity * sizeof(*grown));

        if (!grown)
            return CUDA_ERROR_OUT_OF_MEMORY;
        thread->contexts = grown;
        thread->contexts_capacity = capacity;
    }
    thread->contexts[thread->contexts_count++] = context;
    return CUDA_SUCCESS;
}

static struct context *stack_top(void)
{
    struct thread_state *thread = thread_state();

    return thread->contexts_count ? thread->contexts[thread->contexts_count - 1] : NULL;
}

static CUresult primary_retain(struct device *device)
{
    if (!device->primary) {
        device->primary = context_new(device, device->primary_flags);
        if (!device->primary)
            return CUDA_ERROR_OUT_OF_MEMORY;
        device->primary->is_primary = true;
    }
    device->primary->active = true;
    device->primary->flags = device->primary_flags;
    device->primary_retained++;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuDevicePrimaryCtxRetain, CALL_INIT, (CUcontext * ret_context, CUdevice ordinal),
          (ret_context, ordinal), "%d", ordinal)
{
    struct device *device = device_get(ordinal);
    CUresult result;

    if (!ret_context)
        return CUDA_ERROR_INVALID_VALUE;
    if (!device)
        return CUDA_ERROR_INVALID_DEVICE;
    state_lock();
    result = primary_retain(device);
    if (result == CUDA_SUCCESS)
        *ret_context = device->primary;
    state_unlock();
    return result;
}

static CUresult primary_release(struct device *device)
{
    if (!device)
        return CUDA_ERROR_INVALID_DEVICE;
    if (device->primary_retained == 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (--device->primary_retained == 0)
        context_empty(device->primary);
    return CUDA_SUCCESS;
}

CUresult context_new_green(struct device *device, struct context **ret_context)
{
    CUresult result = primary_retain(device);
    struct context *green;

    if (result != CUDA_SUCCESS)
        return result;
    green = context_new(device, device->primary_flags);
    if (!green) {
        primary_release(device);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    green->is_green = true;
    green->next_green = device->greens;
    device->greens = green;
    *ret_context = green;
    return CUDA_SUCCESS;
}

CUresult context_delete_green(struct context *context)
{
    struct context **link = &context->device->greens;

    if (!context->is_green)
        return CUDA_ERROR_INVALID_CONTEXT;
    context_empty(context);
    while (*link != context)
        link = &(*link)->next_green;
    *link = context->next_green;
    return primary_release(context->device);
}

FAKE_CALL(cuDevicePrimaryCtxRelease_v2, CALL_INIT, (CUdevice ordinal), (ordinal), "%d", ordinal)
{
    CUresult result;

    state_lock();
    result = primary_release(device_get(ordinal));
    state_unlock();
    return result;
}

FAKE_CALL(cuDevicePrimaryCtxReset_v2, CALL_UNSAFE, (CUdevice ordinal), (ordinal), "%d", ordinal)
{
    struct device *device = device_get(ordinal);

    if (!device)
        return CUDA_ERROR_INVALID_DEVICE;
    state_lock();
    if (device->primary && device->primary->active) {
        context_empty(device->primary);
        call_unstick();
        /* QUESTION(gpu): after a reset the primary context works again for
         * those who retained it (PyTorch and the runtime rely on that). */
        device->primary->active = device->primary_retained > 0;
    }
    state_unlock();
    return CUDA_SUCCESS;
}

FAKE_CALL(cuDevicePrimaryCtxSetFlags_v2, CALL_INIT, (CUdevice ordinal, unsigned int flags),
          (ordinal, flags), "%d, %u", ordinal, flags)
{
    struct device *device = device_get(ordinal);

    if (!device)
        return CUDA_ERROR_INVALID_DEVICE;
    if (flags & ~(unsigned)CU_CTX_FLAGS_MASK)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    device->primary_flags = flags;
    if (device->primary)
        device->primary->flags = flags;
    state_unlock();
    return CUDA_SUCCESS;
}

FAKE_CALL(cuDevicePrimaryCtxGetState, CALL_INIT,
          (CUdevice ordinal, unsigned int *ret_flags, int *ret_active),
          (ordinal, ret_flags, ret_active), "%d", ordinal)
{
    struct device *device = device_get(ordinal);

    if (!device)
        return CUDA_ERROR_INVALID_DEVICE;
    if (!ret_flags || !ret_active)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    *ret_flags = device->primary_flags;
    *ret_active = device->primary && device->primary->active;
    state_unlock();
    return CUDA_SUCCESS;
}

static CUresult context_create(CUcontext *ret_context, unsigned flags, int ordinal)
{
    struct device *device = device_get(ordinal);
    struct context *context;
    CUresult result;

    if (!ret_context || (flags & ~(unsigned)CU_CTX_FLAGS_MASK))
        return CUDA_ERROR_INVALID_VALUE;
    if (!device)
        return CUDA_ERROR_INVALID_DEVICE;
    state_lock();
    context = context_new(device, flags);
    result = context ? stack_push(context) : CUDA_ERROR_OUT_OF_MEMORY;
    if (result == CUDA_SUCCESS)
        *ret_context = context;
    state_unlock();
    return result;
}

FAKE_CALL(cuCtxCreate_v2, CALL_INIT,
          (CUcontext * ret_context, unsigned int flags, CUdevice ordinal),
          (ret_context, flags, ordinal), "%u, %d", flags, ordinal)
{
    return context_create(ret_context, flags, ordinal);
}

FAKE_CALL(cuCtxCreate_v3, CALL_INIT,
          (CUcontext * ret_context, void *params, int count, unsigned int flags, CUdevice ordinal),
          (ret_context, params, count, flags, ordinal), "%u, %d", flags, ordinal)
{
    (void)params;
    return count ? CUDA_ERROR_NOT_SUPPORTED : context_create(ret_context, flags, ordinal);
}

FAKE_CALL(cuCtxCreate_v4, CALL_INIT,
          (CUcontext * ret_context, void *params, unsigned int flags, CUdevice ordinal),
          (ret_context, params, flags, ordinal), "%u, %d", flags, ordinal)
{
    return params ? CUDA_ERROR_NOT_SUPPORTED : context_create(ret_context, flags, ordinal);
}

FAKE_CALL(cuCtxDestroy_v2, CALL_UNSAFE, (CUcontext context), (context), "%s", "")
{
    struct thread_state *thread = thread_state();
    CUresult result;

    state_lock();
    result = context ? context_resolve(context, &context) : CUDA_ERROR_INVALID_CONTEXT;
    if (result == CUDA_SUCCESS && context->is_primary)
        result = CUDA_ERROR_INVALID_CONTEXT;
    if (result == CUDA_SUCCESS) {
        context_empty(context);
        if (stack_top() == context)
            thread->contexts_count--;
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuCtxPushCurrent_v2, CALL_INIT, (CUcontext context), (context), "%s", "")
{
    CUresult result;

    state_lock();
    result = context ? context_resolve(context, &context) : CUDA_ERROR_INVALID_CONTEXT;
    if (result == CUDA_SUCCESS)
        result = stack_push(context);
    state_unlock();
    return result;
}

FAKE_CALL(cuCtxPopCurrent_v2, CALL_INIT, (CUcontext * ret_context), (ret_context), "%s", "")
{
    struct thread_state *thread = thread_state();

    if (thread->contexts_count == 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (ret_context)
        *ret_context = stack_top();
    thread->contexts_count--;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuCtxSetCurrent, CALL_INIT, (CUcontext context), (context), "%s", context ? "ctx" : "0")
{
    struct thread_state *thread = thread_state();
    CUresult result = CUDA_SUCCESS;

    state_lock();
    if (context)
        result = context_resolve(context, &context);
    if (result == CUDA_SUCCESS && !context && thread->contexts_count)
        thread->contexts_count--;
    else if (result == CUDA_SUCCESS && context && thread->contexts_count)
        thread->contexts[thread->contexts_count - 1] = context;
    else if (result == CUDA_SUCCESS && context)
        result = stack_push(context);
    state_unlock();
    return result;
}

FAKE_CALL(cuCtxGetCurrent, CALL_INIT, (CUcontext * ret_context), (ret_context), "%s", "")
{
    if (!ret_context)
        return CUDA_ERROR_INVALID_VALUE;
    *ret_context = stack_top();
    return CUDA_SUCCESS;
}

static CUresult context_device(CUdevice *ret_device, struct context *given)
{
    struct context *context;
    CUresult result;

    if (!ret_device)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = context_resolve(given, &context);
    if (result == CUDA_SUCCESS)
        *ret_device = context->device->ordinal;
    state_unlock();
    return result;
}

FAKE_CALL(cuCtxGetDevice, CALL_INIT, (CUdevice * ret_device), (ret_device), "%s", "")
{
    return context_device(ret_device, NULL);
}

FAKE_CALL(cuCtxGetDevice_v2, CALL_INIT, (CUdevice * ret_device, CUcontext context),
          (ret_device, context), "%s", "")
{
    return context_device(ret_device, context);
}

static CUresult context_synchronize(struct context *given)
{
    struct context *context;
    CUresult result;

    state_lock();
    result = context_resolve(given, &context);
    /* Whatever the modes are: a stream that is captured cannot be waited for (CUDA programming
     * guide, Prohibited and Unhandled Operations). */
    if (result == CUDA_SUCCESS)
        result = capture_check_wait(context);
    if (result == CUDA_SUCCESS)
        result = context_wait(context);
    if (result == CUDA_SUCCESS)
        pool_release_unused(context->device);
    state_unlock();
    return result;
}

FAKE_CALL(cuCtxSynchronize, CALL_UNSAFE, (void), (), "%s", "")
{
    return context_synchronize(NULL);
}

FAKE_CALL(cuCtxSynchronize_v2, CALL_UNSAFE, (CUcontext context), (context), "%s", "")
{
    return context_synchronize(context);
}

FAKE_CALL(cuCtxGetFlags, CALL_INIT, (unsigned int *ret_flags), (ret_flags), "%s", "")
{
    struct context *context;
    CUresult result;

    if (!ret_flags)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = context_current(&context);
    if (result == CUDA_SUCCESS)
        *ret_flags = context->flags;
    state_unlock();
    return result;
}

FAKE_CALL(cuCtxGetId, CALL_INIT, (CUcontext context, unsigned long long *ret_id), (context, ret_id),
          "%s", "")
{
    CUresult result;

    if (!ret_id)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = context_resolve(context, &context);
    if (result == CUDA_SUCCESS)
        *ret_id = context->id;
    state_unlock();
    return result;
}

FAKE_CALL(cuCtxGetApiVersion, CALL_INIT, (CUcontext context, unsigned int *ret_version),
          (context, ret_version), "%s", "")
{
    CUresult result;

    if (!ret_version)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = context_resolve(context, &context);
    if (result == CUDA_SUCCESS)
        *ret_version = 3020;
    state_unlock();
    return result;
}

FAKE_CALL(cuCtxGetStreamPriorityRange, CALL_INIT, (int *ret_least, int *ret_greatest),
          (ret_least, ret_greatest), "%s", "")
{
    if (ret_least)
        *ret_least = STREAM_PRIORITY_LEAST;
    if (ret_greatest)
        *ret_greatest = STREAM_PRIORITY_GREATEST;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuCtxSetLimit, CALL_INIT, (CUlimit limit, size_t value), (limit, value), "%d, %zu",
          (int)limit, value)
{
    struct context *context;
    CUresult result;

    if (limit < 0 || limit >= CU_LIMIT_MAX)
        return CUDA_ERROR_UNSUPPORTED_LIMIT;
    state_lock();
    result = context_current(&context);
    if (result == CUDA_SUCCESS)
        context->limits[limit] = value;
    state_unlock();
    return result;
}

FAKE_CALL(cuCtxGetLimit, CALL_INIT, (size_t * ret_value, CUlimit limit), (ret_value, limit), "%d",
          (int)limit)
{
    struct context *context;
    CUresult result;

    if (!ret_value)
        return CUDA_ERROR_INVALID_VALUE;
    if (limit < 0 || limit >= CU_LIMIT_MAX)
        return CUDA_ERROR_UNSUPPORTED_LIMIT;
    state_lock();
    result = context_current(&context);
    if (result == CUDA_SUCCESS)
        *ret_value = context->limits[limit];
    state_unlock();
    return result;
}

FAKE_CALL(cuCtxEnablePeerAccess, CALL_INIT, (CUcontext peer, unsigned int flags), (peer, flags),
          "%u", flags)
{
    struct context *context;
    CUresult result;

    if (flags)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = context_current(&context);
    if (result == CUDA_SUCCESS)
        result = peer ? context_resolve(peer, &peer) : CUDA_ERROR_INVALID_CONTEXT;
    if (result == CUDA_SUCCESS && peer->device == context->device)
        result = CUDA_ERROR_INVALID_DEVICE;
    if (result == CUDA_SUCCESS && (context->peers & 1ULL << peer->device->ordinal))
        result = CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
    if (result == CUDA_SUCCESS)
        context->peers |= 1ULL << peer->device->ordinal;
    state_unlock();
    return result;
}

FAKE_CALL(cuCtxDisablePeerAccess, CALL_INIT, (CUcontext peer), (peer), "%s", "")
{
    struct context *context;
    CUresult result;

    state_lock();
    result = context_current(&context);
    if (result == CUDA_SUCCESS)
        result = peer ? context_resolve(peer, &peer) : CUDA_ERROR_INVALID_CONTEXT;
    if (result == CUDA_SUCCESS && !(context->peers & 1ULL << peer->device->ordinal))
        result = CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
    if (result == CUDA_SUCCESS)
        context->peers &= ~(1ULL << peer->device->ordinal);
    state_unlock();
    return result;
}

/* Older ABIs of the same calls. */
FAKE_ENTRY(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2_body, CALL_INIT,
           (CUdevice ordinal), (ordinal), "%d", ordinal)
FAKE_ENTRY(cuDevicePrimaryCtxReset, cuDevicePrimaryCtxReset_v2_body, CALL_UNSAFE,
           (CUdevice ordinal), (ordinal), "%d", ordinal)
FAKE_ENTRY(cuDevicePrimaryCtxSetFlags, cuDevicePrimaryCtxSetFlags_v2_body, CALL_INIT,
           (CUdevice ordinal, unsigned int flags), (ordinal, flags), "%d, %u", ordinal, flags)
FAKE_ENTRY(cuCtxDestroy, cuCtxDestroy_v2_body, CALL_UNSAFE, (CUcontext context), (context), "%s",
           "")
FAKE_ENTRY(cuCtxPushCurrent, cuCtxPushCurrent_v2_body, CALL_INIT, (CUcontext context), (context),
           "%s", "")
FAKE_ENTRY(cuCtxPopCurrent, cuCtxPopCurrent_v2_body, CALL_INIT, (CUcontext * ret_context),
           (ret_context), "%s", "")
