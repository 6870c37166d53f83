/* SPDX-License-Identifier: Apache-2.0 */
/* The entry points about streams, and about host functions queued in them. */
#include "call.h"
#include "capture.h"
#include "context.h"
#include "event.h"
#include "handle.h"
#include "pool.h"
#include "stream.h"

FAKE_CALL(cuStreamCreateWithPriority, CALL_INIT,
          (CUstream * ret_stream, unsigned int flags, int priority), (ret_stream, flags, priority),
          "%u, %d", flags, priority)
{
    CUresult result;

    if (!ret_stream || flags > CU_STREAM_NON_BLOCKING)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = stream_create(ret_stream, flags, priority);
    state_unlock();
    return result;
}

FAKE_CALL(cuStreamCreate, CALL_INIT, (CUstream * ret_stream, unsigned int flags),
          (ret_stream, flags), "%u", flags)
{
    return cuStreamCreateWithPriority_body(ret_stream, flags, 0);
}

FAKE_CALL(cuStreamDestroy_v2, CALL_INIT, (CUstream handle), (handle), "%s", "")
{
    CUresult result = CUDA_SUCCESS;

    state_lock();
    if (!handle_is(handle, HANDLE_STREAM) || handle->is_legacy || handle->thread_serial)
        result = CUDA_ERROR_INVALID_HANDLE;
    else
        stream_close(handle);
    state_unlock();
    return result;
}

FAKE_STREAM_CALL(cuStreamQuery, _ptsz, CALL_INIT, (CUstream handle), (handle), "%s", "")
{
    struct stream *stream;
    CUresult result;

    state_lock();
    result = stream_resolve(handle, &stream);
    if (result == CUDA_SUCCESS && stream->capture) {
        capture_invalidate(stream->capture);
        result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    if (result == CUDA_SUCCESS && stream->last && !stream->last->done)
        result = CUDA_ERROR_NOT_READY;
    state_unlock();
    return result;
}

FAKE_STREAM_CALL(cuStreamSynchronize, _ptsz, CALL_INIT, (CUstream handle), (handle), "%s", "")
{
    struct device *device;
    struct stream *stream;
    CUresult result;

    state_lock();
    result = stream_resolve(handle, &stream);
    if (result == CUDA_SUCCESS && stream->capture) {
        capture_invalidate(stream->capture);
        result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    if (result == CUDA_SUCCESS) {
        device = stream->context->device;
        /* Synchronising the legacy stream waits for the blocking ones too. */
        if (stream->is_legacy) {
            struct op *op = op_new(CU_GRAPH_NODE_TYPE_EMPTY, 0, NULL, NULL);

            result = op ? stream_submit(stream, op) : CUDA_ERROR_OUT_OF_MEMORY;
        }
        if (result == CUDA_SUCCESS) {
            stream_wait(stream);
            pool_release_unused(device);
        }
    }
    state_unlock();
    return result;
}

FAKE_STREAM_CALL(cuStreamGetPriority, _ptsz, CALL_INIT, (CUstream handle, int *ret_priority),
                 (handle, ret_priority), "%s", "")
{
    struct stream *stream;
    CUresult result;

    if (!ret_priority)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = stream_resolve(handle, &stream);
    if (result == CUDA_SUCCESS)
        *ret_priority = stream->priority;
    state_unlock();
    return result;
}

FAKE_STREAM_CALL(cuStreamGetFlags, _ptsz, CALL_INIT, (CUstream handle, unsigned int *ret_flags),
                 (handle, ret_flags), "%s", "")
{
    struct stream *stream;
    CUresult result;

    if (!ret_flags)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = stream_resolve(handle, &stream);
    if (result == CUDA_SUCCESS)
        *ret_flags = stream->flags;
    state_unlock();
    return result;
}

FAKE_STREAM_CALL(cuStreamGetId, _ptsz, CALL_INIT, (CUstream handle, unsigned long long *ret_id),
                 (handle, ret_id), "%s", "")
{
    struct stream *stream;
    CUresult result;

    if (!ret_id)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = stream_resolve(handle, &stream);
    if (result == CUDA_SUCCESS)
        *ret_id = stream->id;
    state_unlock();
    return result;
}

static CUresult stream_context(CUstream handle, CUcontext *ret_context)
{
    struct stream *stream;
    CUresult result;

    if (!ret_context)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = stream_resolve(handle, &stream);
    if (result == CUDA_SUCCESS)
        *ret_context = stream->context;
    state_unlock();
    return result;
}

FAKE_STREAM_CALL(cuStreamGetCtx, _ptsz, CALL_INIT, (CUstream handle, CUcontext *ret_context),
                 (handle, ret_context), "%s", "")
{
    return stream_context(handle, ret_context);
}

FAKE_STREAM_CALL(cuStreamGetCtx_v2, _ptsz, CALL_INIT,
                 (CUstream handle, CUcontext *ret_context, void **ret_green),
                 (handle, ret_context, ret_green), "%s", "")
{
    CUresult result = stream_context(handle, ret_context);
    bool is_green = result == CUDA_SUCCESS && *ret_context && (*ret_context)->is_green;

    /* A green context's stream is of its primary one. */
    if (result == CUDA_SUCCESS && ret_green)
        *ret_green = is_green ? *ret_context : NULL;
    if (is_green)
        *ret_context = context_of_memory(*ret_context);
    return result;
}

/* As CUDA 12.4 had it: there was no other way to tell. */
FAKE_CALL(cuStreamGetGreenCtx, CALL_INIT, (CUstream handle, CUgreenCtx *ret_green),
          (handle, ret_green), "%s", "")
{
    CUcontext context = NULL;
    CUresult result = ret_green ? stream_context(handle, &context) : CUDA_ERROR_INVALID_VALUE;

    if (result == CUDA_SUCCESS)
        *ret_green = context && context->is_green ? context : NULL;
    return result;
}

/* A host function, in either of the two forms. */
struct host_call {
    CUhostFn function;
    CUstreamCallback callback;
    CUstream handle;
    void *user;
};

static void host_call_run(void *payload)
{
    struct host_call *call = payload;
    struct thread_state *thread = thread_state();

    thread->in_callback = true;
    if (call->function)
        call->function(call->user);
    else
        call->callback(call->handle, CUDA_SUCCESS, call->user);
    thread->in_callback = false;
}

static CUresult host_call_submit(CUstream handle, const struct host_call *call)
{
    struct stream *stream;
    struct op *op;
    CUresult result;

    state_lock();
    result = stream_resolve(handle, &stream);
    if (result == CUDA_SUCCESS && stream->capture && call->callback) {
        capture_invalidate(stream->capture);
        result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    if (result == CUDA_SUCCESS) {
        op = op_new(CU_GRAPH_NODE_TYPE_HOST, sizeof(*call), host_call_run, NULL);
        if (op) {
            *(struct host_call *)(void *)op->payload = *call;
            result = stream_submit(stream, op);
        } else {
            result = CUDA_ERROR_OUT_OF_MEMORY;
        }
    }
    state_unlock();
    return result;
}

FAKE_STREAM_CALL(cuLaunchHostFunc, _ptsz, CALL_INIT,
                 (CUstream handle, CUhostFn function, void *user), (handle, function, user), "%s",
                 "")
{
    struct host_call call = {.function = function, .user = user};

    return function ? host_call_submit(handle, &call) : CUDA_ERROR_INVALID_VALUE;
}

FAKE_STREAM_CALL(cuStreamAddCallback, _ptsz, CALL_INIT,
                 (CUstream handle, CUstreamCallback callback, void *user, unsigned int flags),
                 (handle, callback, user, flags), "%u", flags)
{
    struct host_call call = {.callback = callback, .handle = handle, .user = user};

    if (!callback || flags)
        return CUDA_ERROR_INVALID_VALUE;
    return host_call_submit(handle, &call);
}

/* Older ABI of the same call. */
FAKE_ENTRY(cuStreamDestroy, cuStreamDestroy_v2_body, CALL_INIT, (CUstream handle), (handle), "%s",
           "")
