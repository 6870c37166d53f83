/* SPDX-License-Identifier: Apache-2.0 */
#include "event.h"

#include "call.h"
#include "capture.h"
#include "context.h"
#include "device.h"
#include "handle.h"
#include "settings.h"
#include "stream.h"

#include <stdlib.h>

#define EVENT_FLAGS (CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS)

static void event_free(struct event *event)
{
    handle_remove(event);
    fence_unref(event->fence);
    free(event->nodes);
    free(event);
}

void event_free_all(struct context *context)
{
    struct event *event;

    while ((event = context->events)) {
        context->events = event->next;
        event_free(event);
    }
}

static CUresult event_new(struct event **ret_event, unsigned flags)
{
    struct context *context;
    struct event *event;
    CUresult result = context_current(&context);

    if (result != CUDA_SUCCESS)
        return result;
    event = calloc(1, sizeof(*event));
    if (!event || handle_add(event, HANDLE_EVENT) < 0) {
        free(event);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    event->context = context;
    event->flags = flags;
    event->next = context->events;
    context->events = event;
    *ret_event = event;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuEventCreate, CALL_INIT, (CUevent * ret_event, unsigned int flags), (ret_event, flags),
          "%u", flags)
{
    CUresult result;

    if (!ret_event || (flags & ~(unsigned)EVENT_FLAGS))
        return CUDA_ERROR_INVALID_VALUE;
    /* Interprocess events must not be timed. Handles for them are not offered
     * (CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED is 0). */
    if ((flags & CU_EVENT_INTERPROCESS) && !(flags & CU_EVENT_DISABLE_TIMING))
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = event_new(ret_event, flags);
    state_unlock();
    return result;
}

FAKE_CALL(cuEventDestroy_v2, CALL_INIT, (CUevent event), (event), "%s", "")
{
    CUresult result = CUDA_ERROR_INVALID_HANDLE;
    struct event **link;

    state_lock();
    if (handle_is(event, HANDLE_EVENT)) {
        link = &event->context->events;
        while (*link != event)
            link = &(*link)->next;
        *link = event->next;
        event_free(event);
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

/* Makes the event stand for the stream's frontier in its graph. */
static CUresult event_record_captured(struct event *event, struct stream *stream)
{
    struct graph_node **nodes;

    if (!capture_is_active(stream->capture))
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    nodes = malloc((stream->frontier_count + 1) * sizeof(struct graph_node *));
    if (!nodes)
        return CUDA_ERROR_OUT_OF_MEMORY;
    for (size_t i = 0; i < stream->frontier_count; i++)
        nodes[i] = stream->frontier[i];
    free(event->nodes);
    event->nodes = nodes;
    event->nodes_count = stream->frontier_count;
    event->capture_id = capture_id(stream->capture);
    return CUDA_SUCCESS;
}

static CUresult event_record(struct event *event, struct stream *stream)
{
    struct fence *fence;
    struct op *op;
    CUresult result;

    if (stream->capture)
        return event_record_captured(event, stream);
    if (stream->context->device != event->context->device)
        return CUDA_ERROR_INVALID_HANDLE;
    op = op_new(CU_GRAPH_NODE_TYPE_EVENT_RECORD, 0, NULL, NULL);
    if (!op)
        return CUDA_ERROR_OUT_OF_MEMORY;
    fence = fence_ref(op->fence);
    result = stream_submit(stream, op);
    if (result != CUDA_SUCCESS) {
        fence_unref(fence);
        return result;
    }
    fence_unref(event->fence);
    event->fence = fence;
    event->capture_id = 0;
    return CUDA_SUCCESS;
}

static CUresult event_record_in(CUevent event, CUstream handle)
{
    struct stream *stream;
    CUresult result;

    state_lock();
    result = handle_is(event, HANDLE_EVENT) ? stream_resolve(handle, &stream)
                                            : CUDA_ERROR_INVALID_HANDLE;
    if (result == CUDA_SUCCESS)
        result = event_record(event, stream);
    state_unlock();
    return result;
}

FAKE_STREAM_CALL(cuEventRecord, _ptsz, CALL_INIT, (CUevent event, CUstream handle), (event, handle),
                 "%s", "")
{
    return event_record_in(event, handle);
}

FAKE_STREAM_CALL(cuEventRecordWithFlags, _ptsz, CALL_INIT,
                 (CUevent event, CUstream handle, unsigned int flags), (event, handle, flags), "%u",
                 flags)
{
    if (flags & ~(unsigned)CU_EVENT_RECORD_EXTERNAL)
        return CUDA_ERROR_INVALID_VALUE;
    return flags ? CUDA_ERROR_NOT_SUPPORTED : event_record_in(event, handle);
}

/* A record that is part of an unfinished capture has no moment at which it
 * could be done. */
static CUresult event_check(struct event *event)
{
    if (!handle_is(event, HANDLE_EVENT))
        return CUDA_ERROR_INVALID_HANDLE;
    if (event->capture_id && capture_find(event->capture_id)) {
        capture_invalidate(capture_find(event->capture_id));
        return CUDA_ERROR_CAPTURED_EVENT;
    }
    return CUDA_SUCCESS;
}

FAKE_CALL(cuEventQuery, CALL_UNSAFE, (CUevent event), (event), "%s", "")
{
    CUresult result;

    state_lock();
    result = event_check(event);
    if (result == CUDA_SUCCESS && event->fence && !event->fence->done)
        result = CUDA_ERROR_NOT_READY;
    state_unlock();
    return result;
}

FAKE_CALL(cuEventSynchronize, CALL_UNSAFE, (CUevent event), (event), "%s", "")
{
    CUresult result;

    state_lock();
    result = event_check(event);
    if (result == CUDA_SUCCESS && event->fence)
        fence_wait(event->fence);
    state_unlock();
    return result;
}

static CUresult event_elapsed(float *ret_ms, struct event *start, struct event *end)
{
    CUresult result;

    if (!ret_ms)
        return CUDA_ERROR_INVALID_VALUE;
    result = event_check(start);
    if (result == CUDA_SUCCESS)
        result = event_check(end);
    if (result != CUDA_SUCCESS)
        return result;
    if (!start->fence || !end->fence || ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING))
        return CUDA_ERROR_INVALID_HANDLE;
    if (!start->fence->done || !end->fence->done)
        return CUDA_ERROR_NOT_READY;
    *ret_ms = (float)(end->fence->done_ns - start->fence->done_ns) / 1e6F;
    return CUDA_SUCCESS;
}

static CUresult event_elapsed_locked(float *ret_ms, struct event *start, struct event *end)
{
    CUresult result;

    state_lock();
    result = event_elapsed(ret_ms, start, end);
    state_unlock();
    return result;
}

FAKE_CALL(cuEventElapsedTime, CALL_INIT, (float *ret_ms, CUevent start, CUevent end),
          (ret_ms, start, end), "%s", "")
{
    return event_elapsed_locked(ret_ms, start, end);
}

FAKE_CALL(cuEventElapsedTime_v2, CALL_INIT, (float *ret_ms, CUevent start, CUevent end),
          (ret_ms, start, end), "%s", "")
{
    return event_elapsed_locked(ret_ms, start, end);
}

static CUresult stream_wait_event(struct stream *stream, struct event *event)
{
    struct capture *capture = event->capture_id ? capture_find(event->capture_id) : NULL;
    struct op *op;

    if (capture)
        return capture_join(capture, stream, event->nodes, event->nodes_count);
    if (stream->capture) {
        capture_invalidate(stream->capture);
        return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    }
    if (!event->fence || event->fence->done)
        return CUDA_SUCCESS;
    op = op_new(CU_GRAPH_NODE_TYPE_EMPTY, 0, NULL, NULL);
    if (!op || op_need(op, event->fence) < 0) {
        op_free(op);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    return stream_submit(stream, op);
}

FAKE_STREAM_CALL(cuStreamWaitEvent, _ptsz, CALL_INIT,
                 (CUstream handle, CUevent event, unsigned int flags), (handle, event, flags), "%u",
                 flags)
{
    struct stream *stream;
    CUresult result;

    /* 1 is CU_EVENT_WAIT_EXTERNAL, which only matters inside a capture. */
    if (flags > 1)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = handle_is(event, HANDLE_EVENT) ? stream_resolve(handle, &stream)
                                            : CUDA_ERROR_INVALID_HANDLE;
    if (result == CUDA_SUCCESS)
        result = stream_wait_event(stream, event);
    state_unlock();
    return result;
}

/* Whether an event of the context concerns the stream. QUESTION(gpu): one that was destroyed? */
static bool stream_counts(const struct stream *stream)
{
    return !stream->is_closing || !settings_record_live();
}

static bool streams_are_idle(const struct context *context)
{
    for (const struct stream *stream = context->streams; stream; stream = stream->next)
        if (stream_counts(stream) && stream->last && !stream->last->done)
            return false;
    return true;
}

/* Whether nothing is at work in it, nor in the green contexts of a primary one. */
static bool context_is_idle(const struct context *context)
{
    const struct context *green = context->is_primary ? context->device->greens : NULL;
    bool is_idle = streams_are_idle(context);

    for (; green && is_idle; green = green->next_green)
        is_idle = streams_are_idle(green);
    return is_idle;
}

/* An op in the context's marker stream: a queue of its own, so that it can
 * stand behind several streams at once and hold none of them up. */
static CUresult marker_submit(struct context *context, struct fence *need, struct fence **ret_fence)
{
    struct op *op;
    CUresult result;
    int r = 0;

    if (!context->marker_stream) {
        result = stream_create_in(context, &context->marker_stream);
        if (result != CUDA_SUCCESS)
            return result;
    }
    /* Behind nothing it is done at once, as on an idle device. */
    if (!need && !context->barrier && context_is_idle(context)) {
        *ret_fence = fence_new();
        if (!*ret_fence)
            return CUDA_ERROR_OUT_OF_MEMORY;
        fence_finish(*ret_fence);
        return CUDA_SUCCESS;
    }
    op = op_new(CU_GRAPH_NODE_TYPE_EMPTY, 0, NULL, NULL);
    if (!op)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (need)
        r = op_need(op, need);
    for (struct stream *stream = context->streams; !need && stream && r == 0; stream = stream->next)
        if (stream != context->marker_stream && stream_counts(stream))
            r = op_need(op, stream->last);
    for (struct context *green = need || !context->is_primary ? NULL : context->device->greens;
         green && r == 0; green = green->next_green)
        for (struct stream *stream = green->streams; stream && r == 0; stream = stream->next)
            r = op_need(op, stream->last);
    if (r < 0) {
        op_free(op);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *ret_fence = fence_ref(op->fence);
    result = stream_submit(context->marker_stream, op);
    if (result != CUDA_SUCCESS)
        fence_unref(*ret_fence);
    return result;
}

static CUresult context_event_check(CUcontext *context, CUevent event)
{
    CUresult result = handle_is(event, HANDLE_EVENT) ? context_resolve(*context, context)
                                                     : CUDA_ERROR_INVALID_HANDLE;

    if (result == CUDA_SUCCESS && capture_in_context(*context)) {
        capture_invalidate(capture_in_context(*context));
        result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return result;
}

FAKE_CALL(cuCtxRecordEvent, CALL_INIT, (CUcontext context, CUevent event), (context, event), "%s",
          "")
{
    struct fence *fence;
    CUresult result;

    state_lock();
    result = context_event_check(&context, event);
    if (result == CUDA_SUCCESS)
        result = marker_submit(context, NULL, &fence);
    if (result == CUDA_SUCCESS) {
        fence_unref(event->fence);
        event->fence = fence;
        event->capture_id = 0;
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuCtxWaitEvent, CALL_INIT, (CUcontext context, CUevent event), (context, event), "%s", "")
{
    struct fence *fence;
    CUresult result;

    state_lock();
    result = context_event_check(&context, event);
    if (result == CUDA_SUCCESS && event->fence && !event->fence->done) {
        result = marker_submit(context, event->fence, &fence);
        if (result == CUDA_SUCCESS) {
            fence_unref(context->barrier);
            context->barrier = fence;
        }
    }
    state_unlock();
    return result;
}

/* Older ABI of the same call. */
FAKE_ENTRY(cuEventDestroy, cuEventDestroy_v2_body, CALL_INIT, (CUevent event), (event), "%s", "")
