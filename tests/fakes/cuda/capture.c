/* SPDX-License-Identifier: Apache-2.0 */
#include "capture.h"

#include "call.h"
#include "context.h"
#include "graph.h"
#include "handle.h"
#include "stream.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct capture {
    struct capture *next;
    uint64_t id;
    CUstreamCaptureMode mode;
    bool is_invalid;
    uint64_t thread_serial; /* of the thread that began it */
    struct stream *origin;  /* NULL once that stream was destroyed */
    struct graph *graph;
    bool is_into;            /* the program's own graph, which it has a handle of */
    struct stream **streams; /* all that take part, the origin first */
    size_t streams_count;
};

static struct capture *captures;
static uint64_t next_id = 1;
/* Lets the usual case, nothing captured anywhere, go without the lock. */
static atomic_uint captures_count;

bool capture_is_active(const struct capture *capture)
{
    return !capture->is_invalid;
}

uint64_t capture_id(const struct capture *capture)
{
    return capture->id;
}

struct capture *capture_find(uint64_t id)
{
    struct capture *capture = captures;

    while (capture && capture->id != id)
        capture = capture->next;
    return capture;
}

struct capture *capture_in_context(const struct context *context)
{
    for (struct stream *stream = context->streams; stream; stream = stream->next)
        if (stream->capture)
            return stream->capture;
    return NULL;
}

void capture_invalidate(struct capture *capture)
{
    capture->is_invalid = true;
}

/* The rules of cuThreadExchangeStreamCaptureMode. */
static bool capture_forbids(const struct capture *capture, const struct thread_state *thread)
{
    if (thread->capture_mode == CU_STREAM_CAPTURE_MODE_RELAXED)
        return false;
    if (capture->thread_serial == thread->serial)
        return capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED;
    return thread->capture_mode == CU_STREAM_CAPTURE_MODE_GLOBAL &&
           capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
}

/* QUESTION(gpu): an unsafe call made by another thread during a global
 * capture: is the capture invalidated as it is for the capturing thread? And
 * which VMM calls are unsafe? Here: allocation, free, mapping and waiting. */
CUresult capture_check_unsafe(void)
{
    struct thread_state *thread = thread_state();
    CUresult result = CUDA_SUCCESS;

    if (atomic_load(&captures_count) == 0)
        return CUDA_SUCCESS;
    state_lock();
    for (struct capture *capture = captures; capture; capture = capture->next) {
        if (!capture_forbids(capture, thread))
            continue;
        capture_invalidate(capture);
        result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    state_unlock();
    return result;
}

CUresult capture_check_wait(struct context *context)
{
    CUresult result = CUDA_SUCCESS;

    for (struct stream *stream = captures ? context->streams : NULL; stream;
         stream = stream->next) {
        if (!stream->capture)
            continue;
        capture_invalidate(stream->capture);
        result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return result;
}

CUresult capture_check_implicit(struct context *context)
{
    CUresult result = CUDA_SUCCESS;

    if (!captures)
        return CUDA_SUCCESS;
    for (struct stream *stream = context->streams; stream; stream = stream->next) {
        if (!stream->capture || (stream->flags & CU_STREAM_NON_BLOCKING))
            continue;
        capture_invalidate(stream->capture);
        result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
    return result;
}

static int frontier_set(struct stream *stream, struct graph_node *const *nodes, size_t count)
{
    struct graph_node **frontier = malloc((count + 1) * sizeof(struct graph_node *));

    if (!frontier)
        return -1;
    if (count)
        memcpy(frontier, nodes, count * sizeof(struct graph_node *));
    free(stream->frontier);
    stream->frontier = frontier;
    stream->frontier_count = count;
    return 0;
}

CUresult capture_record(struct stream *stream, struct op *op)
{
    struct graph_node *node;

    if (stream->capture->is_invalid) {
        op_free(op);
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    node = graph_add(stream->capture->graph, op, stream->frontier, stream->frontier_count);
    return node && frontier_set(stream, &node, 1) == 0 ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static int capture_add_stream(struct capture *capture, struct stream *stream)
{
    size_t count = capture->streams_count + 1;
    struct stream **grown = realloc(capture->streams, count * sizeof(struct stream *));

    if (!grown)
        return -1;
    capture->streams = grown;
    capture->streams[capture->streams_count++] = stream;
    stream->capture = capture;
    return 0;
}

CUresult capture_join(struct capture *capture, struct stream *stream,
                      struct graph_node *const *nodes, size_t count)
{
    struct graph_node **both;
    int r;

    if (capture->is_invalid)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (stream->is_legacy) {
        capture_invalidate(capture);
        return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
    if (stream->capture && stream->capture != capture) {
        capture_invalidate(capture);
        capture_invalidate(stream->capture);
        return CUDA_ERROR_STREAM_CAPTURE_MERGE;
    }
    if (!stream->capture && capture_add_stream(capture, stream) < 0)
        return CUDA_ERROR_OUT_OF_MEMORY;
    both = malloc((stream->frontier_count + count + 1) * sizeof(struct graph_node *));
    if (!both)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (stream->frontier_count)
        memcpy(both, stream->frontier, stream->frontier_count * sizeof(struct graph_node *));
    if (count)
        memcpy(both + stream->frontier_count, nodes, count * sizeof(struct graph_node *));
    r = frontier_set(stream, both, stream->frontier_count + count);
    free(both);
    return r < 0 ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

static void stream_leave(struct stream *stream)
{
    stream->capture = NULL;
    free(stream->frontier);
    stream->frontier = NULL;
    stream->frontier_count = 0;
}

/* Ends it. The graph is given out or freed. */
static void capture_end(struct capture *capture, struct graph **ret_graph)
{
    struct capture **link = &captures;

    while (*link != capture)
        link = &(*link)->next;
    *link = capture->next;
    atomic_fetch_sub(&captures_count, 1);
    for (size_t i = 0; i < capture->streams_count; i++)
        stream_leave(capture->streams[i]);
    capture->graph->captures--;
    if (ret_graph)
        *ret_graph = capture->graph;
    else
        graph_unref(capture->graph);
    free(capture->streams);
    free(capture);
}

/* QUESTION(gpu): destroying a stream that is being captured: does it end the
 * capture, or only make it invalid? */
void capture_forget_stream(struct stream *stream)
{
    struct capture *capture = stream->capture;
    size_t kept = 0;

    if (!capture)
        return;
    capture_invalidate(capture);
    for (size_t i = 0; i < capture->streams_count; i++)
        if (capture->streams[i] != stream)
            capture->streams[kept++] = capture->streams[i];
    capture->streams_count = kept;
    stream_leave(stream);
    if (capture->origin == stream)
        capture_end(capture, NULL);
}

/* `into`: the graph that nodes are put into; NULL for one of the capture's own. */
static CUresult capture_begin(struct stream *stream, CUstreamCaptureMode mode, struct graph *into)
{
    struct capture *capture;

    if (stream->is_legacy)
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (stream->capture)
        return CUDA_ERROR_ILLEGAL_STATE;
    capture = calloc(1, sizeof(*capture));
    if (capture && into)
        into->refs++;
    if (capture)
        capture->graph = into ? into : graph_new();
    if (!capture || !capture->graph || capture_add_stream(capture, stream) < 0) {
        if (capture && capture->graph)
            graph_unref(capture->graph);
        free(capture);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    capture->is_into = into != NULL;
    capture->graph->captures++;
    capture->id = next_id++;
    capture->mode = mode;
    capture->origin = stream;
    capture->thread_serial = thread_state()->serial;
    capture->next = captures;
    captures = capture;
    atomic_fetch_add(&captures_count, 1);
    return CUDA_SUCCESS;
}

FAKE_STREAM_CALL(cuStreamBeginCapture_v2, _ptsz, CALL_INIT,
                 (CUstream handle, CUstreamCaptureMode mode), (handle, mode), "%d", (int)mode)
{
    struct stream *stream;
    CUresult result;

    if (mode > CU_STREAM_CAPTURE_MODE_RELAXED)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = stream_resolve(handle, &stream);
    if (result == CUDA_SUCCESS)
        result = capture_begin(stream, mode, NULL);
    state_unlock();
    return result;
}

/* QUESTION(gpu): may two captures put nodes into one graph at once? Here: no. */
static CUresult capture_begin_into(struct stream *stream, CUgraph graph, const CUgraphNode *nodes,
                                   size_t count, CUstreamCaptureMode mode)
{
    CUresult result;

    if (!handle_is(graph, HANDLE_GRAPH) || graph->captures > 0 || (count && !nodes))
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count; i++)
        if (!graph_has(graph, nodes[i]))
            return CUDA_ERROR_INVALID_VALUE;
    result = capture_begin(stream, mode, graph);
    if (result == CUDA_SUCCESS && frontier_set(stream, nodes, count) < 0) {
        capture_end(stream->capture, NULL);
        result = CUDA_ERROR_OUT_OF_MEMORY;
    }
    return result;
}

FAKE_STREAM_CALL(cuStreamBeginCaptureToGraph, _ptsz, CALL_INIT,
                 (CUstream handle, CUgraph graph, const CUgraphNode *nodes,
                  const CUgraphEdgeData *edges, size_t count, CUstreamCaptureMode mode),
                 (handle, graph, nodes, edges, count, mode), "%zu, %d", count, (int)mode)
{
    struct stream *stream;
    CUresult result;

    if (mode > CU_STREAM_CAPTURE_MODE_RELAXED)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = stream_resolve(handle, &stream);
    if (result == CUDA_SUCCESS)
        result = capture_begin_into(stream, graph, nodes, count, mode);
    state_unlock();
    return result;
}

/* Whether all work of the streams that joined has come back to the origin. */
static bool capture_is_joined(const struct capture *capture)
{
    const struct stream *origin = capture->origin;

    for (size_t i = 0; i < capture->streams_count; i++) {
        const struct stream *stream = capture->streams[i];

        if (!graph_is_behind(capture->graph, stream->frontier, stream->frontier_count,
                             origin->frontier, origin->frontier_count))
            return false;
    }
    return true;
}

static CUresult capture_finish(struct stream *stream, CUgraph *ret_graph)
{
    struct capture *capture = stream->capture;
    struct graph *graph;
    bool is_into;

    *ret_graph = NULL;
    if (!capture)
        return CUDA_ERROR_ILLEGAL_STATE;
    if (capture->origin != stream) {
        capture_invalidate(capture);
        return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    }
    if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED &&
        capture->thread_serial != thread_state()->serial)
        return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    if (capture->is_invalid || !capture_is_joined(capture)) {
        CUresult result = capture->is_invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
                                              : CUDA_ERROR_STREAM_CAPTURE_UNJOINED;

        capture_end(capture, NULL);
        return result;
    }
    is_into = capture->is_into;
    capture_end(capture, &graph);
    *ret_graph = graph;
    if (is_into) {
        graph_unref(graph);
    } else if (handle_add(graph, HANDLE_GRAPH) < 0) {
        graph_unref(graph);
        *ret_graph = NULL;
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    return CUDA_SUCCESS;
}

FAKE_STREAM_CALL(cuStreamEndCapture, _ptsz, CALL_INIT, (CUstream handle, CUgraph *ret_graph),
                 (handle, ret_graph), "%s", "")
{
    struct stream *stream;
    CUresult result;

    if (!ret_graph)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = stream_resolve(handle, &stream);
    if (result == CUDA_SUCCESS)
        result = capture_finish(stream, ret_graph);
    state_unlock();
    return result;
}

struct capture_info {
    CUstreamCaptureStatus status;
    cuuint64_t id;
    CUgraph graph;
    const CUgraphNode *nodes;
    size_t nodes_count;
};

static CUresult capture_info(CUstream handle, struct capture_info *ret_info)
{
    struct capture *capture;
    struct stream *stream;
    CUresult result;

    *ret_info = (struct capture_info){.status = CU_STREAM_CAPTURE_STATUS_NONE};
    state_lock();
    result = stream_resolve(handle, &stream);
    if (result == CUDA_SUCCESS && stream->is_legacy)
        result = capture_check_implicit(stream->context);
    if (result == CUDA_SUCCESS && stream->capture) {
        capture = stream->capture;
        ret_info->status = capture->is_invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                               : CU_STREAM_CAPTURE_STATUS_ACTIVE;
        ret_info->id = capture->id;
        ret_info->graph = capture->graph;
        ret_info->nodes = stream->frontier;
        ret_info->nodes_count = stream->frontier_count;
    }
    state_unlock();
    return result;
}

FAKE_STREAM_CALL(cuStreamIsCapturing, _ptsz, CALL_INIT,
                 (CUstream handle, CUstreamCaptureStatus *ret_status), (handle, ret_status), "%s",
                 "")
{
    struct capture_info info;
    CUresult result;

    if (!ret_status)
        return CUDA_ERROR_INVALID_VALUE;
    result = capture_info(handle, &info);
    if (result == CUDA_SUCCESS)
        *ret_status = info.status;
    return result;
}

static void capture_info_give(const struct capture_info *info, CUstreamCaptureStatus *ret_status,
                              cuuint64_t *ret_id, CUgraph *ret_graph, const CUgraphNode **ret_nodes,
                              size_t *ret_count)
{
    *ret_status = info->status;
    if (info->status != CU_STREAM_CAPTURE_STATUS_ACTIVE)
        return;
    if (ret_id)
        *ret_id = info->id;
    if (ret_graph)
        *ret_graph = info->graph;
    if (ret_nodes)
        *ret_nodes = info->nodes;
    if (ret_count)
        *ret_count = info->nodes_count;
}

FAKE_STREAM_CALL(cuStreamGetCaptureInfo, _ptsz, CALL_INIT,
                 (CUstream handle, CUstreamCaptureStatus *ret_status, cuuint64_t *ret_id),
                 (handle, ret_status, ret_id), "%s", "")
{
    struct capture_info info;
    CUresult result;

    if (!ret_status)
        return CUDA_ERROR_INVALID_VALUE;
    result = capture_info(handle, &info);
    if (result == CUDA_SUCCESS)
        capture_info_give(&info, ret_status, ret_id, NULL, NULL, NULL);
    return result;
}

FAKE_STREAM_CALL(cuStreamGetCaptureInfo_v2, _ptsz, CALL_INIT,
                 (CUstream handle, CUstreamCaptureStatus *ret_status, cuuint64_t *ret_id,
                  CUgraph *ret_graph, const CUgraphNode **ret_nodes, size_t *ret_count),
                 (handle, ret_status, ret_id, ret_graph, ret_nodes, ret_count), "%s", "")
{
    struct capture_info info;
    CUresult result;

    if (!ret_status)
        return CUDA_ERROR_INVALID_VALUE;
    result = capture_info(handle, &info);
    if (result == CUDA_SUCCESS)
        capture_info_give(&info, ret_status, ret_id, ret_graph, ret_nodes, ret_count);
    return result;
}

FAKE_STREAM_CALL(cuStreamGetCaptureInfo_v3, _ptsz, CALL_INIT,
                 (CUstream handle, CUstreamCaptureStatus *ret_status, cuuint64_t *ret_id,
                  CUgraph *ret_graph, const CUgraphNode **ret_nodes,
                  const CUgraphEdgeData **ret_edges, size_t *ret_count),
                 (handle, ret_status, ret_id, ret_graph, ret_nodes, ret_edges, ret_count), "%s", "")
{
    struct capture_info info;
    CUresult result;

    if (!ret_status)
        return CUDA_ERROR_INVALID_VALUE;
    result = capture_info(handle, &info);
    if (result == CUDA_SUCCESS)
        capture_info_give(&info, ret_status, ret_id, ret_graph, ret_nodes, ret_count);
    if (result == CUDA_SUCCESS && ret_edges)
        *ret_edges = NULL;
    return result;
}

FAKE_CALL(cuThreadExchangeStreamCaptureMode, CALL_INIT, (CUstreamCaptureMode * mode), (mode), "%s",
          "")
{
    struct thread_state *thread = thread_state();
    CUstreamCaptureMode before = thread->capture_mode;

    if (!mode || *mode > CU_STREAM_CAPTURE_MODE_RELAXED)
        return CUDA_ERROR_INVALID_VALUE;
    thread->capture_mode = *mode;
    *mode = before;
    return CUDA_SUCCESS;
}

/* The first ABI had no mode: every capture was a global one. */
FAKE_STREAM_CALL(cuStreamBeginCapture, _ptsz, CALL_INIT, (CUstream handle), (handle), "%s", "")
{
    return cuStreamBeginCapture_v2_body(handle, CU_STREAM_CAPTURE_MODE_GLOBAL);
}
