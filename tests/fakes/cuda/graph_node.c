/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes that are added to graphs by hand: empty ones, and those that have a
 * graph of their own. */
#include "call.h"
#include "graph.h"
#include "handle.h"
#include "state.h"

#include <stdlib.h>

FAKE_CALL(cuGraphClone, CALL_INIT, (CUgraph * ret_graph, CUgraph graph), (ret_graph, graph), "%s",
          "")
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    struct graph *copy;

    if (!ret_graph)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    if (handle_is(graph, HANDLE_GRAPH)) {
        copy = graph_clone(graph);
        result = CUDA_ERROR_OUT_OF_MEMORY;
        if (copy && handle_add(copy, HANDLE_GRAPH) == 0) {
            *ret_graph = copy;
            result = CUDA_SUCCESS;
        } else if (copy) {
            graph_unref(copy);
        }
    }
    state_unlock();
    return result;
}

static CUresult node_check(const struct graph *graph, struct graph_node *const *needs, size_t count)
{
    if (!handle_is(graph, HANDLE_GRAPH) || (count && !needs))
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count; i++) {
        if (!graph_has(graph, needs[i]))
            return CUDA_ERROR_INVALID_VALUE;
        for (size_t j = 0; j < i; j++)
            if (needs[j] == needs[i])
                return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

CUresult graph_node_add(struct graph *graph, struct op *op, struct graph_node *const *needs,
                        size_t count, struct graph_node **ret_node)
{
    CUresult result = node_check(graph, needs, count);

    if (result != CUDA_SUCCESS) {
        op_free(op);
        return result;
    }
    *ret_node = op ? graph_add(graph, op, needs, count) : NULL;
    return *ret_node ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

FAKE_CALL(cuGraphAddEmptyNode, CALL_INIT,
          (CUgraphNode * ret_node, CUgraph graph, const CUgraphNode *needs, size_t count),
          (ret_node, graph, needs, count), "%zu", count)
{
    CUresult result;

    if (!ret_node)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = graph_node_add(graph, op_new(CU_GRAPH_NODE_TYPE_EMPTY, 0, NULL, NULL), needs, count,
                            ret_node);
    state_unlock();
    return result;
}

/* QUESTION(gpu): which error says that a child graph may have no nodes of memory? */
static CUresult child_check(const struct graph *child)
{
    if (!handle_is(child, HANDLE_GRAPH) || child->captures > 0)
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < child->count; i++) {
        CUgraphNodeType type = child->nodes[i]->op->type;

        if (type == CU_GRAPH_NODE_TYPE_MEM_ALLOC || type == CU_GRAPH_NODE_TYPE_MEM_FREE)
            return CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_SUCCESS;
}

static CUresult child_add(CUgraphNode *ret_node, CUgraph graph, const CUgraphNode *needs,
                          size_t count, CUgraph child)
{
    CUresult result = child_check(child);
    struct graph_node *node;

    if (result == CUDA_SUCCESS)
        result = graph_node_add(graph, op_new(CU_GRAPH_NODE_TYPE_GRAPH, 0, NULL, NULL), needs,
                                count, &node);
    if (result != CUDA_SUCCESS)
        return result;
    /* A node that got no graph stays, and does nothing: host memory is out. */
    if (graph_embed(node, child) < 0)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *ret_node = node;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuGraphAddChildGraphNode, CALL_INIT,
          (CUgraphNode * ret_node, CUgraph graph, const CUgraphNode *needs, size_t count,
           CUgraph child),
          (ret_node, graph, needs, count, child), "%zu", count)
{
    CUresult result;

    if (!ret_node)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = child_add(ret_node, graph, needs, count, child);
    state_unlock();
    return result;
}

FAKE_CALL(cuGraphChildGraphNodeGetGraph, CALL_INIT, (CUgraphNode node, CUgraph *ret_graph),
          (node, ret_graph), "%s", "")
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;

    if (!node || !ret_graph)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    if (node->child) {
        *ret_graph = node->child;
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}
