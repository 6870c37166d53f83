/* SPDX-License-Identifier: Apache-2.0 */
#include "graph.h"

#include "call.h"
#include "handle.h"
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct graph_exec {
    unsigned refs; /* the program's handle and every launch in flight */
    struct graph *graph;
    size_t count;       /* nodes added to the graph later are not part of it */
    struct fence *last; /* a launch waits for the one before */
};

struct graph *graph_new(void)
{
    struct graph *graph = calloc(1, sizeof(*graph));

    if (graph)
        graph->refs = 1;
    return graph;
}

void graph_unref(struct graph *graph)
{
    if (--graph->refs > 0)
        return;
    for (size_t i = 0; i < graph->count; i++) {
        struct graph *child = graph->nodes[i]->child;

        if (child) {
            handle_remove(child);
            graph_unref(child);
        }
        op_free(graph->nodes[i]->op);
        free(graph->nodes[i]->needs);
        free(graph->nodes[i]);
    }
    free(graph->nodes);
    free(graph);
}

static int graph_grow(struct graph *graph)
{
    size_t capacity = graph->capacity ? graph->capacity * 2 : 16;
    struct graph_node **grown;

    if (graph->count < graph->capacity)
        return 0;
    grown = realloc(graph->nodes, capacity * sizeof(struct graph_node *));
    if (!grown)
        return -1;
    graph->nodes = grown;
    graph->capacity = capacity;
    return 0;
}

struct graph_node *graph_add(struct graph *graph, struct op *op, struct graph_node *const *needs,
                             size_t needs_count)
{
    struct graph_node *node = calloc(1, sizeof(*node));

    if (node)
        node->needs = malloc((needs_count + 1) * sizeof(struct graph_node *));
    if (!node || !node->needs || graph_grow(graph) < 0) {
        free(node ? node->needs : NULL);
        free(node);
        op_free(op);
        return NULL;
    }
    if (needs_count)
        memcpy(node->needs, needs, needs_count * sizeof(struct graph_node *));
    node->needs_count = needs_count;
    node->op = op;
    graph->nodes[graph->count++] = node;
    return node;
}

bool graph_has(const struct graph *graph, const struct graph_node *node)
{
    for (size_t i = 0; i < graph->count; i++)
        if (graph->nodes[i] == node)
            return true;
    return false;
}

size_t graph_index(const struct graph *graph, const struct graph_node *node)
{
    size_t i = 0;

    while (graph->nodes[i] != node)
        i++;
    return i;
}

/* The node's needs, which are in `from`, as the nodes at the same places of `to`. */
static struct graph_node **needs_in(const struct graph_node *node, const struct graph *from,
                                    const struct graph *to)
{
    struct graph_node **needs = malloc((node->needs_count + 1) * sizeof(struct graph_node *));

    for (size_t i = 0; needs && i < node->needs_count; i++)
        needs[i] = to->nodes[graph_index(from, node->needs[i])];
    return needs;
}

static int clone_node(const struct graph_node *node, const struct graph *from, struct graph *to)
{
    struct graph_node **needs = needs_in(node, from, to), *copy = NULL;

    if (needs)
        copy = graph_add(to, op_share(node->op), needs, node->needs_count);
    free(needs);
    return copy && (!node->child || graph_embed(copy, node->child) == 0) ? 0 : -ENOMEM;
}

struct graph *graph_clone(const struct graph *graph)
{
    struct graph *copy = graph_new();

    for (size_t i = 0; copy && i < graph->count; i++) {
        if (clone_node(graph->nodes[i], graph, copy) < 0) {
            graph_unref(copy);
            return NULL;
        }
    }
    return copy;
}

int graph_embed(struct graph_node *node, const struct graph *graph)
{
    struct graph *child = graph_clone(graph);

    if (!child || handle_add(child, HANDLE_GRAPH) < 0) {
        if (child)
            graph_unref(child);
        return -ENOMEM;
    }
    child->is_embedded = true;
    node->child = child;
    return 0;
}

bool graph_is_behind(struct graph *graph, struct graph_node *const *nodes, size_t nodes_count,
                     struct graph_node *const *ends, size_t ends_count)
{
    static unsigned long long search;

    search++;
    for (size_t i = 0; i < ends_count; i++)
        ends[i]->mark = search;
    /* Needs come before what needs them, so one pass from the end is enough. */
    for (size_t i = graph->count; i-- > 0;)
        for (size_t j = 0; graph->nodes[i]->mark == search && j < graph->nodes[i]->needs_count; j++)
            graph->nodes[i]->needs[j]->mark = search;
    for (size_t i = 0; i < nodes_count; i++)
        if (nodes[i]->mark != search)
            return false;
    return true;
}

static void exec_unref(struct graph_exec *exec)
{
    if (--exec->refs > 0)
        return;
    fence_unref(exec->last);
    graph_unref(exec->graph);
    free(exec);
}

/* What was launched stays as it was then: an update concerns later launches. */
struct launch {
    struct graph_exec *exec;
    struct graph *graph;
    size_t count;
};

void graph_run(const struct graph *graph, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct graph_node *node = graph->nodes[i];

        if (node->child)
            graph_run(node->child, node->child->count);
        else if (node->op->run)
            node->op->run(node->op->payload);
    }
}

static void launch_run(void *payload)
{
    struct launch *launch = payload;

    graph_run(launch->graph, launch->count);
}

static void launch_drop(void *payload)
{
    struct launch *launch = payload;

    graph_unref(launch->graph);
    exec_unref(launch->exec);
}

static CUresult exec_launch(struct graph_exec *exec, struct stream *stream)
{
    struct op *op;
    struct fence *fence;
    CUresult result;

    if (stream->capture)
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    op = op_new(CU_GRAPH_NODE_TYPE_EMPTY, sizeof(struct launch), launch_run, launch_drop);
    if (!op)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *(struct launch *)(void *)op->payload = (struct launch){exec, exec->graph, exec->count};
    exec->refs++;
    exec->graph->refs++;
    if (op_need(op, exec->last) < 0) {
        op_free(op);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    fence = fence_ref(op->fence);
    result = stream_submit(stream, op);
    if (result != CUDA_SUCCESS) {
        fence_unref(fence);
        return result;
    }
    fence_unref(exec->last);
    exec->last = fence;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuGraphCreate, CALL_INIT, (CUgraph * ret_graph, unsigned int flags), (ret_graph, flags),
          "%u", flags)
{
    struct graph *graph;
    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;

    if (!ret_graph || flags)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    graph = graph_new();
    if (graph && handle_add(graph, HANDLE_GRAPH) == 0) {
        *ret_graph = graph;
        result = CUDA_SUCCESS;
    } else {
        free(graph);
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuGraphDestroy, CALL_INIT, (CUgraph graph), (graph), "%s", "")
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;

    state_lock();
    if (handle_is(graph, HANDLE_GRAPH) && !graph->is_embedded) {
        handle_remove(graph);
        graph_unref(graph);
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuGraphGetNodes, CALL_INIT, (CUgraph graph, CUgraphNode *nodes, size_t *count),
          (graph, nodes, count), "%s", "")
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;

    state_lock();
    if (count && handle_is(graph, HANDLE_GRAPH)) {
        for (size_t i = 0; nodes && i < *count; i++)
            nodes[i] = i < graph->count ? graph->nodes[i] : NULL;
        if (!nodes || *count > graph->count)
            *count = graph->count;
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuGraphNodeGetType, CALL_INIT, (CUgraphNode node, CUgraphNodeType *ret_type),
          (node, ret_type), "%s", "")
{
    if (!node || !ret_type)
        return CUDA_ERROR_INVALID_VALUE;
    *ret_type = node->op->type;
    return CUDA_SUCCESS;
}

/* QUESTION(gpu): which error says that the graph is still being captured into? */
static CUresult graph_instantiate(CUgraphExec *ret_exec, CUgraph graph)
{
    struct graph_exec *exec;

    if (!ret_exec || !handle_is(graph, HANDLE_GRAPH) || graph->captures > 0)
        return CUDA_ERROR_INVALID_VALUE;
    exec = calloc(1, sizeof(*exec));
    if (!exec || handle_add(exec, HANDLE_GRAPH_EXEC) < 0) {
        free(exec);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    exec->refs = 1;
    exec->graph = graph;
    exec->count = graph->count;
    graph->refs++;
    *ret_exec = exec;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuGraphInstantiateWithFlags, CALL_INIT,
          (CUgraphExec * ret_exec, CUgraph graph, unsigned long long flags),
          (ret_exec, graph, flags), "%llu", flags)
{
    CUresult result;

    state_lock();
    result = graph_instantiate(ret_exec, graph);
    state_unlock();
    return result;
}

FAKE_CALL(cuGraphInstantiate_v2, CALL_INIT,
          (CUgraphExec * ret_exec, CUgraph graph, CUgraphNode *ret_bad, char *log, size_t log_size),
          (ret_exec, graph, ret_bad, log, log_size), "%s", "")
{
    CUresult result;

    if (ret_bad)
        *ret_bad = NULL;
    if (log && log_size)
        *log = 0;
    state_lock();
    result = graph_instantiate(ret_exec, graph);
    state_unlock();
    return result;
}

/* QUESTION(gpu): nodes are paired by the order of their edges: here, of their making. */
static CUgraphExecUpdateResultInfo graph_compare(const struct graph *old, size_t count,
                                                 const struct graph *graph)
{
    CUgraphExecUpdateResultInfo info = {.result = CU_GRAPH_EXEC_UPDATE_SUCCESS};

    if (count != graph->count)
        info.result = CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
    for (size_t i = 0; i < count && info.result == CU_GRAPH_EXEC_UPDATE_SUCCESS; i++) {
        struct graph_node *from = old->nodes[i], *to = graph->nodes[i];

        info.errorNode = to;
        if (from->op->type != to->op->type)
            info.result = CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
        else if (from->needs_count != to->needs_count)
            info.result = CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
        else if (from->child)
            info = graph_compare(from->child, from->child->count, to->child);
        for (size_t j = 0; info.result == CU_GRAPH_EXEC_UPDATE_SUCCESS && j < to->needs_count; j++)
            if (graph_index(old, from->needs[j]) != graph_index(graph, to->needs[j])) {
                info.result = CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
                info.errorFromNode = to->needs[j];
            }
    }
    if (info.result == CU_GRAPH_EXEC_UPDATE_SUCCESS)
        info.errorNode = NULL;
    return info;
}

static CUresult exec_update(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo *ret)
{
    ret->result = CU_GRAPH_EXEC_UPDATE_ERROR;
    if (!handle_is(exec, HANDLE_GRAPH_EXEC) || !handle_is(graph, HANDLE_GRAPH) ||
        graph->captures > 0)
        return CUDA_ERROR_INVALID_VALUE;
    *ret = graph_compare(exec->graph, exec->count, graph);
    if (ret->result != CU_GRAPH_EXEC_UPDATE_SUCCESS)
        return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
    graph->refs++;
    graph_unref(exec->graph);
    exec->graph = graph;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuGraphExecUpdate_v2, CALL_INIT,
          (CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo *ret), (exec, graph, ret),
          "%s", "")
{
    CUgraphExecUpdateResultInfo info = {0};
    CUresult result;

    if (!ret)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = exec_update(exec, graph, &info);
    state_unlock();
    *ret = info;
    return result;
}

/* The first ABI of the same call. */
FAKE_CALL(cuGraphExecUpdate, CALL_INIT,
          (CUgraphExec exec, CUgraph graph, CUgraphNode *ret_node,
           CUgraphExecUpdateResult *ret_update),
          (exec, graph, ret_node, ret_update), "%s", "")
{
    CUgraphExecUpdateResultInfo info = {0};
    CUresult result;

    if (!ret_update)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = exec_update(exec, graph, &info);
    state_unlock();
    *ret_update = info.result;
    if (ret_node)
        *ret_node = info.errorNode;
    return result;
}

FAKE_CALL(cuGraphExecDestroy, CALL_INIT, (CUgraphExec exec), (exec), "%s", "")
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;

    state_lock();
    if (handle_is(exec, HANDLE_GRAPH_EXEC)) {
        handle_remove(exec);
        exec_unref(exec);
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

FAKE_STREAM_CALL(cuGraphUpload, _ptsz, CALL_INIT, (CUgraphExec exec, CUstream handle),
                 (exec, handle), "%s", "")
{
    struct stream *stream;
    CUresult result = CUDA_ERROR_INVALID_VALUE;

    state_lock();
    if (handle_is(exec, HANDLE_GRAPH_EXEC))
        result = stream_resolve(handle, &stream);
    state_unlock();
    return result;
}

FAKE_STREAM_CALL(cuGraphLaunch, _ptsz, CALL_INIT, (CUgraphExec exec, CUstream handle),
                 (exec, handle), "%s", "")
{
    struct stream *stream;
    CUresult result = CUDA_ERROR_INVALID_VALUE;

    state_lock();
    if (handle_is(exec, HANDLE_GRAPH_EXEC))
        result = stream_resolve(handle, &stream);
    if (result == CUDA_SUCCESS)
        result = exec_launch(exec, stream);
    state_unlock();
    return result;
}
