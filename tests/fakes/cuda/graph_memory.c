/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes that allocate and free memory, added to graphs by hand; and what a
 * device has for graphs. The memory is backed as long as it is the graph's, so
 * that nothing is kept that could be trimmed. */
#include "call.h"
#include "device.h"
#include "graph.h"
#include "handle.h"
#include "log.h"
#include "pool.h"

static struct device *device_of(const CUDA_MEM_ALLOC_NODE_PARAMS *params)
{
    const CUmemPoolProps *props = &params->poolProps;

    return props->allocType == CU_MEM_ALLOCATION_TYPE_PINNED &&
                   props->handleTypes == CU_MEM_HANDLE_TYPE_NONE &&
                   props->location.type == CU_MEM_LOCATION_TYPE_DEVICE
               ? device_get(props->location.id)
               : NULL;
}

static CUresult add_alloc(CUgraphNode *ret_node, CUgraph graph, const CUgraphNode *needs,
                          size_t count, struct device *device, CUDA_MEM_ALLOC_NODE_PARAMS *params)
{
    CUdeviceptr pointer = 0;
    struct op *op;
    CUresult result = pool_graph_alloc(device, params->bytesize, &pointer, &op);

    if (result != CUDA_SUCCESS)
        return result;
    result = graph_node_add(graph, op, needs, count, ret_node);
    if (result == CUDA_SUCCESS)
        params->dptr = pointer;
    else
        pool_free_now(mem_find(pointer));
    return result;
}

FAKE_CALL(cuGraphAddMemAllocNode, CALL_INIT,
          (CUgraphNode * ret_node, CUgraph graph, const CUgraphNode *needs, size_t count,
           CUDA_MEM_ALLOC_NODE_PARAMS *params),
          (ret_node, graph, needs, count, params), "%zu", params ? params->bytesize : 0)
{
    struct device *device = params ? device_of(params) : NULL;
    CUresult result;

    if (!ret_node || !device || params->bytesize == 0)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    result = add_alloc(ret_node, graph, needs, count, device, params);
    state_unlock();
    return result;
}

FAKE_CALL(cuGraphAddMemFreeNode, CALL_INIT,
          (CUgraphNode * ret_node, CUgraph graph, const CUgraphNode *needs, size_t count,
           CUdeviceptr pointer),
          (ret_node, graph, needs, count, pointer), "%s", log_pointer(pointer))
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    struct mem *mem;
    struct op *op;

    if (!ret_node)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    mem = mem_find(pointer);
    if (mem && mem->base == pointer && mem->kind == MEM_GRAPH)
        result = pool_graph_free(mem, &op);
    if (result == CUDA_SUCCESS)
        result = graph_node_add(graph, op, needs, count, ret_node);
    /* From here on nobody else may free it. */
    if (result == CUDA_SUCCESS)
        pool_free_now(mem);
    state_unlock();
    return result;
}

FAKE_CALL(cuGraphMemFreeNodeGetParams, CALL_INIT, (CUgraphNode node, CUdeviceptr *ret_pointer),
          (node, ret_pointer), "%s", "")
{
    if (!node || !ret_pointer || node->op->type != CU_GRAPH_NODE_TYPE_MEM_FREE)
        return CUDA_ERROR_INVALID_VALUE;
    *ret_pointer = pool_graph_address(node->op);
    return CUDA_SUCCESS;
}

FAKE_CALL(cuDeviceGraphMemTrim, CALL_INIT, (CUdevice ordinal), (ordinal), "%d", ordinal)
{
    return device_get(ordinal) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

FAKE_CALL(cuDeviceGetGraphMemAttribute, CALL_INIT,
          (CUdevice ordinal, CUgraphMem_attribute attribute, void *value),
          (ordinal, attribute, value), "%d, %d", ordinal, (int)attribute)
{
    const struct device *device = device_get(ordinal);
    bool is_high = attribute == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH ||
                   attribute == CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH;

    if (!device)
        return CUDA_ERROR_INVALID_DEVICE;
    if (!value || attribute > CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    *(cuuint64_t *)value = is_high ? device->graph_used_high : device->graph_used;
    state_unlock();
    return CUDA_SUCCESS;
}

FAKE_CALL(cuDeviceSetGraphMemAttribute, CALL_INIT,
          (CUdevice ordinal, CUgraphMem_attribute attribute, void *value),
          (ordinal, attribute, value), "%d, %d", ordinal, (int)attribute)
{
    struct device *device = device_get(ordinal);

    if (!device)
        return CUDA_ERROR_INVALID_DEVICE;
    if (!value || *(cuuint64_t *)value != 0 ||
        (attribute != CU_GRAPH_MEM_ATTR_USED_MEM_HIGH &&
         attribute != CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH))
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    device->graph_used_high = device->graph_used;
    state_unlock();
    return CUDA_SUCCESS;
}
