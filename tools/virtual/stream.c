/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams and events of the virtual driver: there is no work, so all of it is done. Captures are
 * not supported. Semantics: cuda.h of CUDA 13.0, by each name.
 */
#include "tools/virtual/calls.h"

#include <stdatomic.h>
#include <stdlib.h>

struct virtual_stream {
    unsigned long long id;
    struct virtual_context *context;
};

/* 1 and 2 are the legacy and the per-thread default stream. */
static _Atomic unsigned long long next_id = 3;

int cuStreamCreate(struct virtual_stream **stream, unsigned flags)
{
    struct virtual_context *context = virtual_current();

    if (!context)
        return CU_INVALID_CONTEXT;
    *stream = malloc(sizeof(**stream));
    if (!*stream)
        return CU_OUT_OF_MEMORY;
    **stream = (struct virtual_stream){atomic_fetch_add(&next_id, 1), context};
    return CU_SUCCESS;
}

int cuStreamCreateWithPriority(struct virtual_stream **stream, unsigned flags, int priority)
{
    return cuStreamCreate(stream, flags);
}

static bool is_default(const struct virtual_stream *stream)
{
    return (uintptr_t)stream <= 2;
}

int cuStreamDestroy_v2(struct virtual_stream *stream)
{
    if (is_default(stream))
        return CU_INVALID_HANDLE;
    free(stream);
    return CU_SUCCESS;
}

int cuStreamGetId(const struct virtual_stream *stream, unsigned long long *id)
{
    *id = stream == NULL       ? 1
          : is_default(stream) ? (unsigned long long)(uintptr_t)stream
                               : stream->id;
    return CU_SUCCESS;
}

int cuStreamGetId_ptsz(const struct virtual_stream *stream, unsigned long long *id)
{
    return cuStreamGetId(stream ? stream : (const struct virtual_stream *)2, id);
}

int cuStreamGetCtx(const struct virtual_stream *stream, struct virtual_context **context)
{
    *context = is_default(stream) ? virtual_current() : stream->context;
    return *context ? CU_SUCCESS : CU_INVALID_CONTEXT;
}

int cuStreamGetCtx_ptsz(const struct virtual_stream *stream, struct virtual_context **context)
{
    return cuStreamGetCtx(stream, context);
}

int cuStreamSynchronize(struct virtual_stream *stream)
{
    return CU_SUCCESS;
}

int cuStreamSynchronize_ptsz(struct virtual_stream *stream)
{
    return CU_SUCCESS;
}

int cuStreamQuery(struct virtual_stream *stream)
{
    return CU_SUCCESS;
}

int cuStreamQuery_ptsz(struct virtual_stream *stream)
{
    return CU_SUCCESS;
}

int cuStreamIsCapturing(struct virtual_stream *stream, int *status)
{
    *status = 0;
    return CU_SUCCESS;
}

int cuStreamIsCapturing_ptsz(struct virtual_stream *stream, int *status)
{
    *status = 0;
    return CU_SUCCESS;
}

int cuStreamWaitEvent(struct virtual_stream *stream, void *event, unsigned flags)
{
    return event ? CU_SUCCESS : CU_INVALID_HANDLE;
}

int cuStreamWaitEvent_ptsz(struct virtual_stream *stream, void *event, unsigned flags)
{
    return cuStreamWaitEvent(stream, event, flags);
}

int cuThreadExchangeStreamCaptureMode(int *mode)
{
    static __thread int own;
    int before = own;

    own = *mode;
    *mode = before;
    return CU_SUCCESS;
}

int cuEventCreate(void **event, unsigned flags)
{
    if (!virtual_current())
        return CU_INVALID_CONTEXT;
    *event = malloc(1);
    return *event ? CU_SUCCESS : CU_OUT_OF_MEMORY;
}

int cuEventDestroy_v2(void *event)
{
    if (!event)
        return CU_INVALID_HANDLE;
    free(event);
    return CU_SUCCESS;
}

static int on_event(const void *event)
{
    return event ? CU_SUCCESS : CU_INVALID_HANDLE;
}

int cuEventRecord(void *event, struct virtual_stream *stream)
{
    return on_event(event);
}

int cuEventRecord_ptsz(void *event, struct virtual_stream *stream)
{
    return on_event(event);
}

int cuEventQuery(void *event)
{
    return on_event(event);
}

int cuEventSynchronize(void *event)
{
    return on_event(event);
}

int cuCtxRecordEvent(struct virtual_context *context, void *event)
{
    return on_event(event);
}

int cuCtxWaitEvent(struct virtual_context *context, void *event)
{
    return on_event(event);
}
