/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime.h"

RUNTIME_CALL(cudaStreamCreateWithPriority, runtime_enter,
             (CUstream * ret_stream, unsigned flags, int priority), (ret_stream, flags, priority))
{
    return from_driver(driver.cuStreamCreateWithPriority(ret_stream, flags, priority));
}

RUNTIME_CALL(cudaStreamCreateWithFlags, runtime_enter, (CUstream * ret_stream, unsigned flags),
             (ret_stream, flags))
{
    return from_driver(driver.cuStreamCreateWithPriority(ret_stream, flags, 0));
}

RUNTIME_CALL(cudaStreamCreate, runtime_enter, (CUstream * ret_stream), (ret_stream))
{
    return from_driver(driver.cuStreamCreateWithPriority(ret_stream, 0, 0));
}

RUNTIME_CALL(cudaStreamDestroy, runtime_enter, (CUstream stream), (stream))
{
    return from_driver(driver.cuStreamDestroy(stream));
}

RUNTIME_STREAM_CALL(cudaStreamQuery, _ptsz, (CUstream stream), (stream))
{
    return from_driver(d->cuStreamQuery(stream));
}

RUNTIME_STREAM_CALL(cudaStreamSynchronize, _ptsz, (CUstream stream), (stream))
{
    return from_driver(d->cuStreamSynchronize(stream));
}

RUNTIME_STREAM_CALL(cudaStreamGetPriority, _ptsz, (CUstream stream, int *ret_priority),
                    (stream, ret_priority))
{
    return from_driver(d->cuStreamGetPriority(stream, ret_priority));
}

RUNTIME_STREAM_CALL(cudaStreamGetFlags, _ptsz, (CUstream stream, unsigned *ret_flags),
                    (stream, ret_flags))
{
    return from_driver(d->cuStreamGetFlags(stream, ret_flags));
}

RUNTIME_STREAM_CALL(cudaStreamGetId, _ptsz, (CUstream stream, unsigned long long *ret_id),
                    (stream, ret_id))
{
    return from_driver(d->cuStreamGetId(stream, ret_id));
}

RUNTIME_STREAM_CALL(cudaStreamWaitEvent, _ptsz, (CUstream stream, CUevent event, unsigned flags),
                    (stream, event, flags))
{
    return from_driver(d->cuStreamWaitEvent(stream, event, flags));
}

RUNTIME_STREAM_CALL(cudaStreamAddCallback, _ptsz,
                    (CUstream stream, CUstreamCallback callback, void *user, unsigned flags),
                    (stream, callback, user, flags))
{
    return from_driver(d->cuStreamAddCallback(stream, callback, user, flags));
}

RUNTIME_STREAM_CALL(cudaLaunchHostFunc, _ptsz, (CUstream stream, CUhostFn function, void *user),
                    (stream, function, user))
{
    return from_driver(d->cuLaunchHostFunc(stream, function, user));
}

RUNTIME_CALL(cudaEventCreateWithFlags, runtime_enter, (CUevent * ret_event, unsigned flags),
             (ret_event, flags))
{
    return from_driver(driver.cuEventCreate(ret_event, flags));
}

RUNTIME_CALL(cudaEventCreate, runtime_enter, (CUevent * ret_event), (ret_event))
{
    return from_driver(driver.cuEventCreate(ret_event, 0));
}

RUNTIME_CALL(cudaEventDestroy, runtime_enter, (CUevent event), (event))
{
    return from_driver(driver.cuEventDestroy(event));
}

RUNTIME_STREAM_CALL(cudaEventRecord, _ptsz, (CUevent event, CUstream stream), (event, stream))
{
    return from_driver(d->cuEventRecord(event, stream));
}

RUNTIME_STREAM_CALL(cudaEventRecordWithFlags, _ptsz,
                    (CUevent event, CUstream stream, unsigned flags), (event, stream, flags))
{
    return from_driver(d->cuEventRecordWithFlags(event, stream, flags));
}

RUNTIME_CALL(cudaEventQuery, runtime_enter, (CUevent event), (event))
{
    return from_driver(driver.cuEventQuery(event));
}

RUNTIME_CALL(cudaEventSynchronize, runtime_enter, (CUevent event), (event))
{
    return from_driver(driver.cuEventSynchronize(event));
}

RUNTIME_CALL(cudaEventElapsedTime, runtime_enter, (float *ret_ms, CUevent start, CUevent end),
             (ret_ms, start, end))
{
    return from_driver(driver.cuEventElapsedTime(ret_ms, start, end));
}

RUNTIME_STREAM_CALL(cudaStreamBeginCapture, _ptsz, (CUstream stream, CUstreamCaptureMode mode),
                    (stream, mode))
{
    return from_driver(d->cuStreamBeginCapture(stream, mode));
}

RUNTIME_STREAM_CALL(cudaStreamEndCapture, _ptsz, (CUstream stream, CUgraph *ret_graph),
                    (stream, ret_graph))
{
    return from_driver(d->cuStreamEndCapture(stream, ret_graph));
}

RUNTIME_STREAM_CALL(cudaStreamIsCapturing, _ptsz,
                    (CUstream stream, CUstreamCaptureStatus *ret_status), (stream, ret_status))
{
    return from_driver(d->cuStreamIsCapturing(stream, ret_status));
}

RUNTIME_STREAM_CALL(cudaStreamGetCaptureInfo, _ptsz,
                    (CUstream stream, CUstreamCaptureStatus *ret_status, cuuint64_t *ret_id,
                     CUgraph *ret_graph, const CUgraphNode **ret_nodes,
                     const CUgraphEdgeData **ret_edges, size_t *ret_count),
                    (stream, ret_status, ret_id, ret_graph, ret_nodes, ret_edges, ret_count))
{
    return from_driver(d->cuStreamGetCaptureInfo(stream, ret_status, ret_id, ret_graph, ret_nodes,
                                                 ret_edges, ret_count));
}

RUNTIME_CALL(cudaThreadExchangeStreamCaptureMode, runtime_enter, (CUstreamCaptureMode * mode),
             (mode))
{
    return from_driver(driver.cuThreadExchangeStreamCaptureMode(mode));
}

RUNTIME_CALL(cudaGraphInstantiate, runtime_enter,
             (CUgraphExec * ret_exec, CUgraph graph, unsigned long long flags),
             (ret_exec, graph, flags))
{
    return from_driver(driver.cuGraphInstantiateWithFlags(ret_exec, graph, flags));
}

RUNTIME_CALL(cudaGraphInstantiateWithFlags, runtime_enter,
             (CUgraphExec * ret_exec, CUgraph graph, unsigned long long flags),
             (ret_exec, graph, flags))
{
    return from_driver(driver.cuGraphInstantiateWithFlags(ret_exec, graph, flags));
}

RUNTIME_STREAM_CALL(cudaGraphLaunch, _ptsz, (CUgraphExec exec, CUstream stream), (exec, stream))
{
    return from_driver(d->cuGraphLaunch(exec, stream));
}

RUNTIME_STREAM_CALL(cudaGraphUpload, _ptsz, (CUgraphExec exec, CUstream stream), (exec, stream))
{
    return from_driver(d->cuGraphUpload(exec, stream));
}

RUNTIME_CALL(cudaGraphGetNodes, runtime_enter, (CUgraph graph, CUgraphNode *nodes, size_t *count),
             (graph, nodes, count))
{
    return from_driver(driver.cuGraphGetNodes(graph, nodes, count));
}

RUNTIME_CALL(cudaGraphDestroy, runtime_enter, (CUgraph graph), (graph))
{
    return from_driver(driver.cuGraphDestroy(graph));
}

RUNTIME_CALL(cudaGraphExecDestroy, runtime_enter, (CUgraphExec exec), (exec))
{
    return from_driver(driver.cuGraphExecDestroy(exec));
}
