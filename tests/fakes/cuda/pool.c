/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include "call.h"
#include "capture.h"
#include "context.h"
#include "device.h"
#include "graph.h"
#include "handle.h"
#include "window.h"

#include <stdlib.h>
#include <string.h>

struct pool_pending {
    struct pool_pending *next;
    struct segment *segment;
    uint64_t base, size;
    struct fence *fence;
    unsigned long long stream_id;
};

/* A cuMemAlloc block given to cuMemFreeAsync; freed at a later
 * synchronisation, once its fence is done. */
struct late_free {
    struct late_free *next;
    struct context *context;
    struct segment *segment;
    uint64_t base;
    struct fence *fence;
};

/* Memory of an alloc node. Lives as long as the graph, or until the program
 * frees it, whichever is later. */
struct graph_block {
    unsigned refs;
    uint64_t bytes;
    struct segment_list segments;
};

static struct pool *pools;
static struct late_free *late_frees;

struct pool *pool_new(struct device *device, const CUmemPoolProps *props)
{
    struct pool *pool = calloc(1, sizeof(*pool));

    if (!pool || handle_add(pool, HANDLE_POOL) < 0) {
        free(pool);
        return NULL;
    }
    pool->device = device;
    pool->props = *props;
    pool->segments.device = device;
    pool->peers = 1ULL << device->ordinal;
    pool->follow_events = pool->opportunistic = pool->internal_dependencies = 1;
    pool->next = pools;
    pools = pool;
    return pool;
}

struct pool *pool_default(struct device *device)
{
    CUmemPoolProps props = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                            .location = {CU_MEM_LOCATION_TYPE_DEVICE, device->ordinal}};

    if (!device->default_pool)
        device->default_pool = pool_new(device, &props);
    return device->default_pool;
}

struct pool *pool_current(struct device *device)
{
    return device->current_pool ? device->current_pool : pool_default(device);
}

struct pool *pool_default_managed(struct device *device)
{
    CUmemPoolProps props = {.allocType = CU_MEM_ALLOCATION_TYPE_MANAGED,
                            .location = {CU_MEM_LOCATION_TYPE_DEVICE, device->ordinal}};

    if (!device->default_managed)
        device->default_managed = pool_new(device, &props);
    return device->default_managed;
}

struct pool *pool_current_managed(struct device *device)
{
    return device->current_managed ? device->current_managed : pool_default_managed(device);
}

bool pool_is_managed(const struct pool *pool)
{
    return pool->props.allocType == CU_MEM_ALLOCATION_TYPE_MANAGED;
}

CUmemAllocationHandleType pool_handle_types(const struct pool *pool)
{
    return pool->props.handleTypes;
}

static void pool_note_high(struct pool *pool)
{
    if (pool->used > pool->used_high)
        pool->used_high = pool->used;
    if (pool->segments.total > pool->reserved_high)
        pool->reserved_high = pool->segments.total;
}

static void pending_finish(struct pool *pool, struct pool_pending **link)
{
    struct pool_pending *pending = *link;

    *link = pending->next;
    segment_free(&pool->segments, pending->segment, pending->base, true);
    fence_unref(pending->fence);
    free(pending);
}

void pool_collect(struct pool *pool)
{
    struct pool_pending **link = &pool->pending;

    while (*link) {
        if ((*link)->fence->done)
            pending_finish(pool, link);
        else
            link = &(*link)->next;
    }
}

/* A destroyed pool is freed with its last block. */
static void pool_free_if_unused(struct pool *pool)
{
    struct pool **link = &pools;

    if (!pool->is_destroyed || pool->used || pool->pending)
        return;
    while (*link != pool)
        link = &(*link)->next;
    *link = pool->next;
    segment_free_all(&pool->segments);
    free(pool);
}

void pool_trim(struct pool *pool, uint64_t keep_bytes)
{
    pool_collect(pool);
    segment_trim(&pool->segments, keep_bytes);
}

void pool_delete(struct pool *pool)
{
    handle_remove(pool);
    if (pool->device->current_pool == pool)
        pool->device->current_pool = NULL;
    if (pool->device->current_managed == pool)
        pool->device->current_managed = NULL;
    pool->is_destroyed = true;
    pool_trim(pool, 0);
    pool_free_if_unused(pool);
}

static void late_frees_sweep(const struct context *gone)
{
    struct late_free **link = &late_frees, *late;

    while ((late = *link)) {
        if (late->context != gone && !late->fence->done) {
            link = &late->next;
            continue;
        }
        *link = late->next;
        segment_free(&late->context->segments, late->segment, late->base, false);
        fence_unref(late->fence);
        free(late);
    }
}

void pool_forget_context(const struct context *context)
{
    late_frees_sweep(context);
}

void pool_release_unused(struct device *device)
{
    struct pool *next;

    late_frees_sweep(NULL);
    for (struct pool *pool = pools; pool; pool = next) {
        next = pool->next;
        if (pool->device != device)
            continue;
        pool_trim(pool, pool->is_destroyed ? 0 : pool->release_threshold);
        pool_free_if_unused(pool);
    }
}

bool pool_reclaim(struct device *device)
{
    uint64_t before = device->used;

    late_frees_sweep(NULL);
    for (struct pool *pool = pools; pool; pool = pool->next)
        if (pool->device == device)
            pool_trim(pool, 0);
    return device->used < before;
}

/* A freed block that the stream may use at once: its own, or any other one
 * once the stream waits for the free. */
static struct pool_pending **pending_find(struct pool *pool, uint64_t size,
                                          const struct stream *own)
{
    for (struct pool_pending **link = &pool->pending; *link; link = &(*link)->next) {
        uint64_t room = (*link)->size;

        if (own && (*link)->stream_id != own->id)
            continue;
        if (room >= size && (!own || room / 2 <= size || room <= SEGMENT_ALIGNMENT))
            return link;
    }
    return NULL;
}

static CUresult stream_need(struct stream *stream, struct fence *fence)
{
    struct op *op = op_new(CU_GRAPH_NODE_TYPE_EMPTY, 0, NULL, NULL);

    if (!op || op_need(op, fence) < 0) {
        op_free(op);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    return stream_submit(stream, op);
}

static void pending_take(struct pool_pending **link, uint64_t *ret_base,
                         struct segment **ret_segment)
{
    struct pool_pending *pending = *link;

    *ret_base = pending->base;
    *ret_segment = pending->segment;
    *link = pending->next;
    fence_unref(pending->fence);
    free(pending);
}

/* QUESTION(gpu): its front, if that is enough; the rest waits on. */
static void pending_take_part(struct pool_pending **link, uint64_t size, uint64_t *ret_base,
                              struct segment **ret_segment)
{
    struct pool_pending *pending = *link;
    uint64_t held = (size + SEGMENT_ALIGNMENT - 1) & ~(SEGMENT_ALIGNMENT - 1);

    if (held >= pending->size || segment_cut(pending->segment, pending->base, held) < 0) {
        pending_take(link, ret_base, ret_segment);
        return;
    }
    *ret_base = pending->base;
    *ret_segment = pending->segment;
    pending->base += held;
    pending->size -= held;
}

static CUresult pool_find_block(struct pool *pool, struct stream *stream, uint64_t size,
                                uint64_t *ret_base, struct segment **ret_segment)
{
    struct pool_pending **link = pending_find(pool, size, stream);
    CUresult result;

    if (link) {
        pending_take(link, ret_base, ret_segment);
        return CUDA_SUCCESS;
    }
    if (pool->opportunistic)
        pool_collect(pool);
    result = pool->props.maxSize && pool->segments.total + size > pool->props.maxSize
                 ? CUDA_ERROR_OUT_OF_MEMORY
                 : segment_alloc(&pool->segments, size, WINDOW_GRANULE, ret_base, ret_segment);
    if (result != CUDA_ERROR_OUT_OF_MEMORY)
        return result;
    link = pool->internal_dependencies ? pending_find(pool, size, NULL) : NULL;
    if (link) {
        result = stream_need(stream, (*link)->fence);
        if (result == CUDA_SUCCESS)
            pending_take_part(link, size, ret_base, ret_segment);
        return result;
    }
    if (pool_reclaim(pool->device))
        result = segment_alloc(&pool->segments, size, WINDOW_GRANULE, ret_base, ret_segment);
    return result;
}

static void graph_block_unref(struct graph_block *block)
{
    if (--block->refs > 0)
        return;
    block->segments.device->graph_used -= block->bytes;
    segment_free_all(&block->segments);
    free(block);
}

struct graph_memory {
    struct graph_block *block;
    uint64_t base, size;
};

static void graph_memory_poison(void *payload)
{
    const struct graph_memory *memory = payload;

    memset((void *)memory->base, SEGMENT_POISON, memory->size);
}

static void graph_memory_drop(void *payload)
{
    graph_block_unref(((struct graph_memory *)payload)->block);
}

static struct op *graph_memory_op(struct graph_block *block, uint64_t base, uint64_t size,
                                  CUgraphNodeType type)
{
    struct graph_memory *memory;
    struct op *op = op_new(type, sizeof(*memory), graph_memory_poison, graph_memory_drop);

    if (!op)
        return NULL;
    memory = (struct graph_memory *)(void *)op->payload;
    *memory = (struct graph_memory){block, base, size};
    block->refs++;
    return op;
}

uint64_t pool_graph_address(const struct op *op)
{
    return ((const struct graph_memory *)(const void *)op->payload)->base;
}

/* QUESTION(gpu): graph memory is physically backed when a graph is launched;
 * here from the capture on, which only shows in cuMemGetInfo. */
CUresult pool_graph_alloc(struct device *device, uint64_t size, CUdeviceptr *ret_pointer,
                          struct op **ret_op)
{
    struct graph_block *block = calloc(1, sizeof(*block));
    struct mem mem = {.size = size, .kind = MEM_GRAPH, .device = device};
    CUresult result;

    *ret_op = NULL;
    if (!block)
        return CUDA_ERROR_OUT_OF_MEMORY;
    block->refs = 1; /* of the mem */
    block->segments.device = device;
    mem.graph_block = block;
    result = segment_alloc(&block->segments, size, 0, &mem.base, &mem.segment);
    if (result == CUDA_SUCCESS) {
        block->bytes = block->segments.total;
        device->graph_used += block->bytes;
        if (device->graph_used > device->graph_used_high)
            device->graph_used_high = device->graph_used;
        *ret_op = graph_memory_op(block, mem.base, size, CU_GRAPH_NODE_TYPE_MEM_ALLOC);
        if (!*ret_op || !mem_add(&mem))
            result = CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (result == CUDA_SUCCESS) {
        *ret_pointer = mem.base;
    } else {
        op_free(*ret_op);
        graph_block_unref(block);
    }
    return result;
}

CUresult pool_graph_free(struct mem *mem, struct op **ret_op)
{
    *ret_op = graph_memory_op(mem->graph_block, mem->base, mem->size, CU_GRAPH_NODE_TYPE_MEM_FREE);
    return *ret_op ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult graph_alloc(struct pool *pool, struct stream *stream, uint64_t size,
                            CUdeviceptr *ret_pointer)
{
    struct op *op;
    CUdeviceptr pointer = 0;
    CUresult result = pool_graph_alloc(pool->device, size, &pointer, &op);

    if (result != CUDA_SUCCESS)
        return result;
    result = stream_submit(stream, op);
    if (result == CUDA_SUCCESS)
        *ret_pointer = pointer;
    else
        pool_free_now(mem_find(pointer));
    return result;
}

CUresult pool_alloc(struct pool *pool, struct stream *stream, uint64_t size,
                    CUdeviceptr *ret_pointer)
{
    struct mem mem = {.size = size, .kind = MEM_POOL, .pool = pool, .device = pool->device}, *added;
    CUresult result;

    if (stream->capture)
        return graph_alloc(pool, stream, size, ret_pointer);
    result = pool_find_block(pool, stream, size, &mem.base, &mem.segment);
    if (result != CUDA_SUCCESS)
        return result;
    added = mem_add(&mem);
    if (!added) {
        segment_free(&pool->segments, mem.segment, mem.base, true);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    /* QUESTION(gpu): as it was asked for, or rounded up? */
    pool->used += size;
    pool_note_high(pool);
    call_note_result("m%u", added->serial);
    *ret_pointer = mem.base;
    return CUDA_SUCCESS;
}

struct poison {
    uint64_t base, size;
};

static void poison_run(void *payload)
{
    const struct poison *poison = payload;

    memset((void *)poison->base, SEGMENT_POISON, poison->size);
}

/* Queues the free; its fence says when everything before it has run. */
static CUresult free_submit(struct stream *stream, uint64_t base, uint64_t size,
                            struct fence **ret_fence)
{
    struct op *op = op_new(CU_GRAPH_NODE_TYPE_MEM_FREE, sizeof(struct poison), poison_run, NULL);
    CUresult result;

    if (!op)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *(struct poison *)(void *)op->payload = (struct poison){base, size};
    *ret_fence = fence_ref(op->fence);
    result = stream_submit(stream, op);
    if (result != CUDA_SUCCESS)
        fence_unref(*ret_fence);
    return result;
}

static uint64_t block_size(const struct segment *segment, uint64_t base)
{
    const struct range *block = range_find(&segment->blocks, base);

    return block->end - block->start;
}

static CUresult pool_memory_free_later(struct mem *mem, struct stream *stream)
{
    struct pool_pending *pending = malloc(sizeof(*pending));
    CUresult result = pending ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;

    if (result == CUDA_SUCCESS)
        result = free_submit(stream, mem->base, mem->size, &pending->fence);
    if (result != CUDA_SUCCESS) {
        free(pending);
        return result;
    }
    pending->segment = mem->segment;
    pending->base = mem->base;
    pending->size = block_size(mem->segment, mem->base);
    pending->stream_id = stream->id;
    pending->next = mem->pool->pending;
    mem->pool->pending = pending;
    mem->pool->used -= mem->size;
    mem_remove(mem);
    return CUDA_SUCCESS;
}

static CUresult device_memory_free_later(struct mem *mem, struct stream *stream)
{
    struct late_free *late = malloc(sizeof(*late));
    CUresult result = late ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;

    if (result == CUDA_SUCCESS)
        result = free_submit(stream, mem->base, mem->size, &late->fence);
    if (result != CUDA_SUCCESS) {
        free(late);
        return result;
    }
    late->context = mem->context;
    late->segment = mem->segment;
    late->base = mem->base;
    late->next = late_frees;
    late_frees = late;
    mem_remove(mem);
    return CUDA_SUCCESS;
}

CUresult pool_free_later(struct mem *mem, struct stream *stream)
{
    struct op *op;
    CUresult result;

    if (mem->is_freeing)
        return CUDA_ERROR_INVALID_VALUE;
    if (stream->capture) {
        /* QUESTION(gpu): freeing memory in a capture that was not allocated in
         * one: refused like this? */
        if (mem->kind != MEM_GRAPH)
            return CUDA_ERROR_INVALID_VALUE;
        result = pool_graph_free(mem, &op);
        if (result == CUDA_SUCCESS)
            result = stream_submit(stream, op);
        return result == CUDA_SUCCESS ? pool_free_now(mem) : result;
    }
    if (mem->kind == MEM_POOL)
        return pool_memory_free_later(mem, stream);
    if (mem->kind == MEM_DEVICE || mem->kind == MEM_MANAGED)
        return device_memory_free_later(mem, stream);
    return mem->kind == MEM_GRAPH ? pool_free_now(mem) : CUDA_ERROR_INVALID_VALUE;
}

CUresult pool_free_now(struct mem *mem)
{
    struct pool *pool = mem->pool;

    if (mem->kind == MEM_GRAPH) {
        graph_block_unref(mem->graph_block);
        mem_remove(mem);
        return CUDA_SUCCESS;
    }
    segment_free(&pool->segments, mem->segment, mem->base, true);
    pool->used -= mem->size;
    mem_remove(mem);
    pool_free_if_unused(pool);
    return CUDA_SUCCESS;
}
