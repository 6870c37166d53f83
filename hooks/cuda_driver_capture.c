/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls that begin and end stream captures. All are the driver's own; Berth looks at the
 * outcome. Any thread.
 */
#include "hooks/cuda_driver_capture.h"

#include "alloc/block_slab.h"
#include "alloc/order.h"
#include "alloc/pool_lazy.h"
#include "alloc/stream.h"
#include "hooks/cuda_driver_export.h"

#include <pthread.h>

EXPORT(cuStreamBeginCapture);
EXPORT(cuStreamBeginCapture_ptsz);
EXPORT(cuStreamBeginCapture_v2);
EXPORT(cuStreamBeginCapture_v2_ptsz);
EXPORT(cuStreamBeginCaptureToGraph);
EXPORT(cuStreamBeginCaptureToGraph_ptsz);
EXPORT(cuStreamBeginRecaptureToGraph);
EXPORT(cuStreamBeginRecaptureToGraph_ptsz);
EXPORT(cuStreamBeginCaptureToCig);
EXPORT(cuStreamBeginCaptureToCig_ptsz);
EXPORT(cuStreamEndCaptureToCig);
EXPORT(cuStreamEndCaptureToCig_ptsz);
EXPORT(cuStreamEndCapture);
EXPORT(cuStreamEndCapture_ptsz);

/*
 * A capture that is open, for the case that its stream or its context is destroyed before it is
 * ended. The handles of default streams mean another stream per thread.
 */
struct capture {
    struct capture *next;
    berth_cu_stream stream;   /* 0: the default stream of `thread` */
    const void *thread;       /* NULL: not a default stream */
    berth_cu_context context; /* current when it began */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct capture *captures;
static struct berth_slab slab;
/* Captures that are open and have no record: there was no memory for one. */
static atomic_int unrecorded;

/* The record's name of a stream: of the default ones, only a thread's own can be captured. */
static struct capture key_of(berth_cu_stream stream)
{
    static __thread char mine __attribute__((tls_model("initial-exec")));

    if (berth__stream_is_default(stream))
        return (struct capture){.thread = &mine};
    return (struct capture){.stream = stream};
}

static void thread_ends(void *thread);

static pthread_key_t key;
static bool has_key;

static void make_key(void)
{
    has_key = pthread_key_create(&key, thread_ends) == 0;
}

/* A thread's default streams end with it, and so do their captures. */
static void watch_thread(const struct capture *capture)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    if (!capture->thread)
        return;
    pthread_once(&once, make_key);
    if (has_key)
        pthread_setspecific(key, capture->thread);
}

/*
 * Before a capture: what waits to be idle cannot be asked for while it is open, and the capture may
 * need the memory, so it is waited for. Then the doors of alloc/order.h are shut.
 */
static void prepare(void)
{
    berth__lazy_reclaim_pools();
    berth__order_shut();
    berth__order_shut_to_waits();
}

/*
 * Called with the doors of alloc/order.h shut: no call of Berth's own is under way that would break
 * the capture, and none will be. Counts the captures that are open: until they end, allocation is
 * the driver's. Checklist 31.
 */
static berth_cu_result begin(berth_cu_result result, berth_cu_stream stream)
{
    struct capture *capture, fresh;

    if (result == BERTH_CU_SUCCESS)
        atomic_fetch_add(&berth__device_captures, 1);
    berth__order_open_to_waits();
    berth__order_open();
    if (result != BERTH_CU_SUCCESS)
        return result;
    fresh = key_of(stream);
    berth__device_current(&fresh.context);
    watch_thread(&fresh);
    pthread_mutex_lock(&lock);
    capture = berth__slab_new(&slab, sizeof(*capture));
    if (capture) {
        *capture = fresh;
        capture->next = captures;
        captures = capture;
    } else {
        atomic_fetch_add(&unrecorded, 1);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

/* Takes the records of the context out, or those of a stream; how many there were. */
static int take_records(berth_cu_context context, const struct capture *of)
{
    struct capture **link = &captures;
    int taken = 0;

    pthread_mutex_lock(&lock);
    while (*link) {
        struct capture *capture = *link;

        if (of ? capture->stream == of->stream && capture->thread == of->thread
               : capture->context == context) {
            *link = capture->next;
            berth__slab_delete(&slab, capture);
            taken++;
        } else {
            link = &capture->next;
        }
    }
    pthread_mutex_unlock(&lock);
    return taken;
}

static void forget(berth_cu_context context, const struct capture *of)
{
    int taken = take_records(context, of);

    atomic_fetch_sub_explicit(&berth__device_captures, taken, memory_order_relaxed);
}

void berth__capture_forget(berth_cu_context context, berth_cu_stream stream)
{
    struct capture of = key_of(stream);

    if (berth__device_capturing())
        forget(context, stream ? &of : NULL);
}

static void thread_ends(void *thread)
{
    struct capture of = {.thread = thread};

    forget(NULL, &of);
}

/*
 * cuStreamBeginCapture, by its names of CUDA 10.0 (no mode), 10.1 and 12.3 (into a graph), each for
 * the legacy and for per-thread default streams.
 */
berth_cu_result berth__hook_cuStreamBeginCapture(berth_cu_stream stream)
{
    NEED(cuStreamBeginCapture);
    prepare();
    return begin(berth__driver.cuStreamBeginCapture(stream), stream);
}

berth_cu_result berth__hook_cuStreamBeginCapture_ptsz(berth_cu_stream stream)
{
    NEED(cuStreamBeginCapture_ptsz);
    prepare();
    return begin(berth__driver.cuStreamBeginCapture_ptsz(stream), stream);
}

berth_cu_result berth__hook_cuStreamBeginCapture_v2(berth_cu_stream stream, int mode)
{
    NEED(cuStreamBeginCapture_v2);
    prepare();
    return begin(berth__driver.cuStreamBeginCapture_v2(stream, mode), stream);
}

berth_cu_result berth__hook_cuStreamBeginCapture_v2_ptsz(berth_cu_stream stream, int mode)
{
    NEED(cuStreamBeginCapture_v2_ptsz);
    prepare();
    return begin(berth__driver.cuStreamBeginCapture_v2_ptsz(stream, mode), stream);
}

berth_cu_result berth__hook_cuStreamBeginCaptureToGraph(berth_cu_stream stream,
                                                        berth_cu_graph graph, const void *nodes,
                                                        const void *edges, size_t count, int mode)
{
    NEED(cuStreamBeginCaptureToGraph);
    prepare();
    return begin(
        berth__driver.cuStreamBeginCaptureToGraph(stream, graph, nodes, edges, count, mode),
        stream);
}

berth_cu_result berth__hook_cuStreamBeginCaptureToGraph_ptsz(berth_cu_stream stream,
                                                             berth_cu_graph graph,
                                                             const void *nodes, const void *edges,
                                                             size_t count, int mode)
{
    NEED(cuStreamBeginCaptureToGraph_ptsz);
    prepare();
    return begin(
        berth__driver.cuStreamBeginCaptureToGraph_ptsz(stream, graph, nodes, edges, count, mode),
        stream);
}

/* Of a graph that exists already, whose nodes are captured once more: of CUDA 13.3. */
berth_cu_result berth__hook_cuStreamBeginRecaptureToGraph(berth_cu_stream stream, int mode,
                                                          berth_cu_graph graph, void *callback,
                                                          void *user)
{
    NEED(cuStreamBeginRecaptureToGraph);
    prepare();
    return begin(berth__driver.cuStreamBeginRecaptureToGraph(stream, mode, graph, callback, user),
                 stream);
}

berth_cu_result berth__hook_cuStreamBeginRecaptureToGraph_ptsz(berth_cu_stream stream, int mode,
                                                               berth_cu_graph graph, void *callback,
                                                               void *user)
{
    NEED(cuStreamBeginRecaptureToGraph_ptsz);
    prepare();
    return begin(
        berth__driver.cuStreamBeginRecaptureToGraph_ptsz(stream, mode, graph, callback, user),
        stream);
}

/* Into a list of commands of a graphics library's: of CUDA 13.2, and ended by a call of its own. */
berth_cu_result berth__hook_cuStreamBeginCaptureToCig(berth_cu_stream stream, void *parameters)
{
    NEED(cuStreamBeginCaptureToCig);
    prepare();
    return begin(berth__driver.cuStreamBeginCaptureToCig(stream, parameters), stream);
}

berth_cu_result berth__hook_cuStreamBeginCaptureToCig_ptsz(berth_cu_stream stream, void *parameters)
{
    NEED(cuStreamBeginCaptureToCig_ptsz);
    prepare();
    return begin(berth__driver.cuStreamBeginCaptureToCig_ptsz(stream, parameters), stream);
}

/* By one of the two functions; the second makes no graph. */
struct end {
    berth_cu_result (*to_graph)(berth_cu_stream stream, berth_cu_graph *graph);
    berth_cu_result (*to_cig)(berth_cu_stream stream);
};

typedef berth_cu_result (*status_function)(berth_cu_stream stream, int *status);

/* Whether the stream takes part in a capture; `fallback` where the driver cannot say. */
static bool is_capturing(status_function function, berth_cu_stream stream, bool fallback)
{
    int status = 0;

    return function && function(stream, &status) == BERTH_CU_SUCCESS ? status != 0 : fallback;
}

/*
 * It was counted if it has a record, or when there was no memory for one. Not where its thread is
 * ending, whose captures were forgotten.
 */
static void forget_ended(const struct capture *of)
{
    int taken = take_records(NULL, of), left = atomic_load(&unrecorded);

    while (taken == 0 && left > 0)
        if (atomic_compare_exchange_weak(&unrecorded, &left, left - 1))
            taken = 1;
    atomic_fetch_sub_explicit(&berth__device_captures, taken, memory_order_relaxed);
}

/*
 * An invalid capture ends too, with an error; one that the caller may not end goes on. So the
 * stream is asked before and after.
 */
static berth_cu_result end_capture(struct end end, status_function status, berth_cu_stream stream,
                                   berth_cu_graph *graph)
{
    bool was_capturing = is_capturing(status, stream, true);
    berth_cu_result result = end.to_cig ? end.to_cig(stream) : end.to_graph(stream, graph);

    if (was_capturing && !is_capturing(status, stream, result != BERTH_CU_SUCCESS)) {
        struct capture of = key_of(stream);

        forget_ended(&of);
    }
    return result;
}

/* cuStreamEndCapture, for the legacy and for per-thread default streams. */
berth_cu_result berth__hook_cuStreamEndCapture(berth_cu_stream stream, berth_cu_graph *graph)
{
    NEED(cuStreamEndCapture);
    return end_capture((struct end){.to_graph = berth__driver.cuStreamEndCapture},
                       berth__driver.cuStreamIsCapturing, stream, graph);
}

berth_cu_result berth__hook_cuStreamEndCapture_ptsz(berth_cu_stream stream, berth_cu_graph *graph)
{
    NEED(cuStreamEndCapture_ptsz);
    return end_capture((struct end){.to_graph = berth__driver.cuStreamEndCapture_ptsz},
                       berth__driver.cuStreamIsCapturing_ptsz, stream, graph);
}

berth_cu_result berth__hook_cuStreamEndCaptureToCig(berth_cu_stream stream)
{
    NEED(cuStreamEndCaptureToCig);
    return end_capture((struct end){.to_cig = berth__driver.cuStreamEndCaptureToCig},
                       berth__driver.cuStreamIsCapturing, stream, NULL);
}

berth_cu_result berth__hook_cuStreamEndCaptureToCig_ptsz(berth_cu_stream stream)
{
    NEED(cuStreamEndCaptureToCig_ptsz);
    return end_capture((struct end){.to_cig = berth__driver.cuStreamEndCaptureToCig_ptsz},
                       berth__driver.cuStreamIsCapturing_ptsz, stream, NULL);
}
