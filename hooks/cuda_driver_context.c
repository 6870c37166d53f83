/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calls that begin and end what blocks live in: the driver, contexts, and stream captures. All
 * are the driver's own; Berth looks at the outcome. Any thread.
 */
#include "alloc/pool.h"
#include "alloc/pool_foreign.h"
#include "alloc/thread.h"
#include "hooks/cuda_driver_export.h"
#include "ipc/control.h"

EXPORT(cuInit);
EXPORT(cuCtxDestroy);
EXPORT(cuCtxDestroy_v2);
EXPORT(cuCtxDetach);
EXPORT(cuDevicePrimaryCtxReset);
EXPORT(cuDevicePrimaryCtxReset_v2);
EXPORT(cuDevicePrimaryCtxRelease);
EXPORT(cuDevicePrimaryCtxRelease_v2);
EXPORT(cuStreamBeginCapture);
EXPORT(cuStreamBeginCapture_ptsz);
EXPORT(cuStreamBeginCapture_v2);
EXPORT(cuStreamBeginCapture_v2_ptsz);
EXPORT(cuStreamBeginCaptureToGraph);
EXPORT(cuStreamBeginCaptureToGraph_ptsz);
EXPORT(cuStreamEndCapture);
EXPORT(cuStreamEndCapture_ptsz);

static atomic_bool initialised;

bool berth__hook_initialised(void)
{
    return atomic_load_explicit(&initialised, memory_order_relaxed);
}

/*
 * cuInit(flags): once the driver is up, the process is one that uses CUDA, and may be looked at
 * from outside. The control thread's own trouble is no concern of the program.
 */
berth_cu_result berth__hook_cuInit(unsigned flags)
{
    berth_cu_result result;

    NEED(cuInit);
    result = berth__driver.cuInit(flags);
    if (result == BERTH_CU_SUCCESS) {
        atomic_store_explicit(&initialised, true, memory_order_relaxed);
        berth__thread.inside++;
        if (berth__control_wanted)
            berth__control_wanted();
        berth__thread.inside--;
    }
    return result;
}

/* The context is gone, its memory too; the driver is not called for it. Checklist 28. */
static berth_cu_result forget(berth_cu_result result, berth_cu_context context)
{
    if (result == BERTH_CU_SUCCESS && context) {
        berth__pool_drop(context);
        berth__foreign_drop(context);
    }
    return result;
}

/* cuCtxDestroy, by its names of CUDA 2.0 and 4.0. */
berth_cu_result berth__hook_cuCtxDestroy(berth_cu_context context)
{
    NEED(cuCtxDestroy);
    return forget(berth__driver.cuCtxDestroy(context), context);
}

berth_cu_result berth__hook_cuCtxDestroy_v2(berth_cu_context context)
{
    NEED(cuCtxDestroy_v2);
    return forget(berth__driver.cuCtxDestroy_v2(context), context);
}

/* cuCtxDetach: since CUDA 4.0 a context has one user, so that detaching destroys it. */
berth_cu_result berth__hook_cuCtxDetach(berth_cu_context context)
{
    NEED(cuCtxDetach);
    return forget(berth__driver.cuCtxDetach(context), context);
}

/*
 * cuDevicePrimaryCtxReset: destroys the device's primary context whoever retains it. Its handle
 * must be read before.
 */
berth_cu_result berth__hook_cuDevicePrimaryCtxReset(berth_cu_device device)
{
    berth_cu_context context;

    NEED(cuDevicePrimaryCtxReset);
    context = berth__device_primary(device);
    return forget(berth__driver.cuDevicePrimaryCtxReset(device), context);
}

berth_cu_result berth__hook_cuDevicePrimaryCtxReset_v2(berth_cu_device device)
{
    berth_cu_context context;

    NEED(cuDevicePrimaryCtxReset_v2);
    context = berth__device_primary(device);
    return forget(berth__driver.cuDevicePrimaryCtxReset_v2(device), context);
}

/* After a release: only the last one destroys the context. */
static berth_cu_result forget_if_last(berth_cu_result result, berth_cu_device device,
                                      berth_cu_context context)
{
    if (result == BERTH_CU_SUCCESS && context && !berth__device_primary(device))
        forget(result, context);
    return result;
}

/* cuDevicePrimaryCtxRelease: destroys the primary context when nobody retains it any more. */
berth_cu_result berth__hook_cuDevicePrimaryCtxRelease(berth_cu_device device)
{
    berth_cu_context context;

    NEED(cuDevicePrimaryCtxRelease);
    context = berth__device_primary(device);
    return forget_if_last(berth__driver.cuDevicePrimaryCtxRelease(device), device, context);
}

berth_cu_result berth__hook_cuDevicePrimaryCtxRelease_v2(berth_cu_device device)
{
    berth_cu_context context;

    NEED(cuDevicePrimaryCtxRelease_v2);
    context = berth__device_primary(device);
    return forget_if_last(berth__driver.cuDevicePrimaryCtxRelease_v2(device), device, context);
}

/* Counts the captures that are open: until they end, allocation is the driver's. Checklist 31. */
static berth_cu_result count_begin(berth_cu_result result)
{
    if (result == BERTH_CU_SUCCESS)
        atomic_fetch_add_explicit(&berth__device_captures, 1, memory_order_relaxed);
    return result;
}

/*
 * cuStreamBeginCapture, by its names of CUDA 10.0 (no mode), 10.1 and 12.3 (into a graph), each for
 * the legacy and for per-thread default streams.
 */
berth_cu_result berth__hook_cuStreamBeginCapture(berth_cu_stream stream)
{
    NEED(cuStreamBeginCapture);
    return count_begin(berth__driver.cuStreamBeginCapture(stream));
}

berth_cu_result berth__hook_cuStreamBeginCapture_ptsz(berth_cu_stream stream)
{
    NEED(cuStreamBeginCapture_ptsz);
    return count_begin(berth__driver.cuStreamBeginCapture_ptsz(stream));
}

berth_cu_result berth__hook_cuStreamBeginCapture_v2(berth_cu_stream stream, int mode)
{
    NEED(cuStreamBeginCapture_v2);
    return count_begin(berth__driver.cuStreamBeginCapture_v2(stream, mode));
}

berth_cu_result berth__hook_cuStreamBeginCapture_v2_ptsz(berth_cu_stream stream, int mode)
{
    NEED(cuStreamBeginCapture_v2_ptsz);
    return count_begin(berth__driver.cuStreamBeginCapture_v2_ptsz(stream, mode));
}

berth_cu_result berth__hook_cuStreamBeginCaptureToGraph(berth_cu_stream stream,
                                                        berth_cu_graph graph, const void *nodes,
                                                        const void *edges, size_t count, int mode)
{
    NEED(cuStreamBeginCaptureToGraph);
    return count_begin(
        berth__driver.cuStreamBeginCaptureToGraph(stream, graph, nodes, edges, count, mode));
}

berth_cu_result berth__hook_cuStreamBeginCaptureToGraph_ptsz(berth_cu_stream stream,
                                                             berth_cu_graph graph,
                                                             const void *nodes, const void *edges,
                                                             size_t count, int mode)
{
    NEED(cuStreamBeginCaptureToGraph_ptsz);
    return count_begin(
        berth__driver.cuStreamBeginCaptureToGraph_ptsz(stream, graph, nodes, edges, count, mode));
}

typedef berth_cu_result (*end_function)(berth_cu_stream stream, berth_cu_graph *graph);
typedef berth_cu_result (*status_function)(berth_cu_stream stream, int *status);

/* Whether the stream takes part in a capture; `fallback` where the driver cannot say. */
static bool is_capturing(status_function function, berth_cu_stream stream, bool fallback)
{
    int status = 0;

    return function && function(stream, &status) == BERTH_CU_SUCCESS ? status != 0 : fallback;
}

/*
 * An invalid capture ends too, with an error; one that the caller may not end goes on. So the
 * stream is asked before and after.
 */
static berth_cu_result end_capture(end_function function, status_function status,
                                   berth_cu_stream stream, berth_cu_graph *graph)
{
    bool was_capturing = is_capturing(status, stream, true);
    berth_cu_result result = function(stream, graph);

    if (was_capturing && !is_capturing(status, stream, result != BERTH_CU_SUCCESS))
        atomic_fetch_sub_explicit(&berth__device_captures, 1, memory_order_relaxed);
    return result;
}

/* cuStreamEndCapture, for the legacy and for per-thread default streams. */
berth_cu_result berth__hook_cuStreamEndCapture(berth_cu_stream stream, berth_cu_graph *graph)
{
    NEED(cuStreamEndCapture);
    return end_capture(berth__driver.cuStreamEndCapture, berth__driver.cuStreamIsCapturing, stream,
                       graph);
}

berth_cu_result berth__hook_cuStreamEndCapture_ptsz(berth_cu_stream stream, berth_cu_graph *graph)
{
    NEED(cuStreamEndCapture_ptsz);
    return end_capture(berth__driver.cuStreamEndCapture_ptsz,
                       berth__driver.cuStreamIsCapturing_ptsz, stream, graph);
}
