/* SPDX-License-Identifier: Apache-2.0 */
#include "stream.h"

#include "capture.h"
#include "context.h"
#include "device.h"
#include "handle.h"
#include "state.h"

#include <signal.h>
#include <stdlib.h>

static unsigned long long next_id = 1;

static void stream_free(struct stream *stream)
{
    struct stream **link = &stream->context->streams;

    while (*link != stream)
        link = &(*link)->next;
    *link = stream->next;
    fence_unref(stream->last);
    pthread_cond_destroy(&stream->wake);
    free(stream->frontier);
    free(stream);
}

/* Runs the op at the head of the queue. Called and returns with the lock. */
static void worker_step(struct stream *stream)
{
    struct op *op = stream->head;

    for (size_t i = 0; i < op->needs_count; i++)
        while (!op->needs[i]->done)
            state_wait_progress();
    stream->head = op->next;
    if (!stream->head)
        stream->tail = &stream->head;
    if (op->run) {
        state_unlock();
        op->run(op->payload);
        state_lock();
    }
    fence_finish(op->fence);
    op_free(op);
}

static void *worker_main(void *pointer)
{
    struct stream *stream = pointer;

    state_lock();
    while (stream->head || !stream->is_closing) {
        if (stream->head)
            worker_step(stream);
        else
            pthread_cond_wait(&stream->wake, state_mutex());
    }
    stream_free(stream);
    state_unlock();
    return NULL;
}

static CUresult worker_start(struct stream *stream)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    int error;

    /* The program's signals are not for this thread. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    error = pthread_create(&thread, &attributes, worker_main, stream);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return CUDA_ERROR_OUT_OF_MEMORY;
    stream->has_worker = true;
    return CUDA_SUCCESS;
}

static struct stream *stream_new(struct context *context, unsigned flags, int priority)
{
    struct stream *stream = calloc(1, sizeof(*stream));

    if (!stream || handle_add(stream, HANDLE_STREAM) < 0) {
        free(stream);
        return NULL;
    }
    pthread_cond_init(&stream->wake, NULL);
    stream->context = context;
    stream->id = next_id++;
    stream->flags = flags;
    stream->priority = priority;
    stream->tail = &stream->head;
    stream->next = context->streams;
    context->streams = stream;
    return stream;
}

CUresult stream_create(struct stream **ret_stream, unsigned flags, int priority)
{
    struct context *context;
    struct stream *stream;
    CUresult result = context_current(&context);

    if (result != CUDA_SUCCESS)
        return result;
    if (priority > STREAM_PRIORITY_LEAST)
        priority = STREAM_PRIORITY_LEAST;
    if (priority < STREAM_PRIORITY_GREATEST)
        priority = STREAM_PRIORITY_GREATEST;
    stream = stream_new(context, flags, priority);
    if (!stream)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *ret_stream = stream;
    return CUDA_SUCCESS;
}

CUresult stream_create_in(struct context *context, struct stream **ret_stream)
{
    struct stream *stream = stream_new(context, CU_STREAM_NON_BLOCKING, 0);

    if (!stream)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *ret_stream = stream;
    return CUDA_SUCCESS;
}

CUresult stream_legacy(struct context *context, struct stream **ret_stream)
{
    if (!context->legacy_stream) {
        context->legacy_stream = stream_new(context, 0, 0);
        if (!context->legacy_stream)
            return CUDA_ERROR_OUT_OF_MEMORY;
        context->legacy_stream->is_legacy = true;
    }
    *ret_stream = context->legacy_stream;
    return CUDA_SUCCESS;
}

static CUresult stream_of_thread(struct context *context, struct stream **ret_stream)
{
    uint64_t serial = thread_state()->serial;
    struct stream *stream;

    for (stream = context->streams; stream; stream = stream->next)
        if (stream->thread_serial == serial && !stream->is_closing)
            break;
    if (!stream) {
        stream = stream_new(context, 0, 0);
        if (!stream)
            return CUDA_ERROR_OUT_OF_MEMORY;
        stream->thread_serial = serial;
    }
    *ret_stream = stream;
    return CUDA_SUCCESS;
}

CUresult stream_resolve(CUstream handle, struct stream **ret_stream)
{
    struct context *context;
    CUresult result;

    if (handle && handle != CU_STREAM_LEGACY && handle != CU_STREAM_PER_THREAD) {
        if (!handle_is(handle, HANDLE_STREAM))
            return CUDA_ERROR_INVALID_HANDLE;
        *ret_stream = handle;
        return CUDA_SUCCESS;
    }
    result = context_current(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (handle == CU_STREAM_PER_THREAD || (!handle && thread_state()->per_thread_default))
        return stream_of_thread(context, ret_stream);
    return stream_legacy(context, ret_stream);
}

/* The legacy stream waits for every blocking stream of its context, and they
 * wait for it. */
static int stream_need_others(struct stream *stream, struct op *op)
{
    struct context *context = stream->context;
    int r = 0;

    if (context->barrier && stream != context->marker_stream)
        r = op_need(op, context->barrier);
    if (r == 0 && stream->is_legacy) {
        for (struct stream *other = context->streams; other && r == 0; other = other->next)
            if (other != stream && !(other->flags & CU_STREAM_NON_BLOCKING))
                r = op_need(op, other->last);
    } else if (r == 0 && !(stream->flags & CU_STREAM_NON_BLOCKING) && context->legacy_stream) {
        r = op_need(op, context->legacy_stream->last);
    }
    return r;
}

CUresult stream_submit(struct stream *stream, struct op *op)
{
    CUresult result;

    if (stream->capture)
        return capture_record(stream, op);
    result = stream->is_legacy ? capture_check_implicit(stream->context) : CUDA_SUCCESS;
    if (result == CUDA_SUCCESS && stream_need_others(stream, op) < 0)
        result = CUDA_ERROR_OUT_OF_MEMORY;
    if (result == CUDA_SUCCESS && !stream->has_worker)
        result = worker_start(stream);
    if (result != CUDA_SUCCESS) {
        op_free(op);
        return result;
    }
    fence_unref(stream->last);
    stream->last = fence_ref(op->fence);
    *stream->tail = op;
    stream->tail = &op->next;
    pthread_cond_signal(&stream->wake);
    return CUDA_SUCCESS;
}

void stream_wait(struct stream *stream)
{
    if (stream->last)
        fence_wait(stream->last);
}

CUresult stream_wait_all(struct context *context)
{
    struct fence **fences;
    size_t count = 0;

    for (struct stream *stream = context->streams; stream; stream = stream->next)
        count++;
    if (count == 0)
        return CUDA_SUCCESS;
    fences = malloc(count * sizeof(struct fence *));
    if (!fences)
        return CUDA_ERROR_OUT_OF_MEMORY;
    count = 0;
    for (struct stream *stream = context->streams; stream; stream = stream->next)
        if (stream->last && !stream->last->done)
            fences[count++] = fence_ref(stream->last);
    /* Streams may come and go while the lock is given up; fences stay. */
    for (size_t i = 0; i < count; i++) {
        fence_wait(fences[i]);
        fence_unref(fences[i]);
    }
    free(fences);
    return CUDA_SUCCESS;
}

/* What is queued is still done, and who waits for the context waits for it: the stream stays in its
 * context's list until then. QUESTION(gpu): does cuCtxSynchronize wait for that? */
void stream_close(struct stream *stream)
{
    if (stream->context->legacy_stream == stream)
        stream->context->legacy_stream = NULL;
    if (stream->context->marker_stream == stream)
        stream->context->marker_stream = NULL;
    handle_remove(stream);
    capture_forget_stream(stream);
    stream->is_closing = true;
    if (stream->has_worker)
        pthread_cond_signal(&stream->wake);
    else
        stream_free(stream);
}

void stream_free_all(struct context *context)
{
    struct stream *next;

    for (struct stream *stream = context->streams; stream; stream = next) {
        next = stream->next;
        if (!stream->is_closing)
            stream_close(stream);
    }
}

void stream_forget_thread(uint64_t thread_serial)
{
    for (int i = 0; i < device_count(); i++) {
        struct context *context = device_get(i)->primary;
        struct stream *stream = context ? context->streams : NULL;

        while (stream && (stream->thread_serial != thread_serial || stream->is_closing))
            stream = stream->next;
        if (stream)
            stream_close(stream);
    }
}
