/* SPDX-License-Identifier: Apache-2.0 */
/* A pool: device memory for stream-ordered allocation. A freed block waits,
 * with the fence of its free, until its stream or a finished fence lets it be
 * used again. Synchronization: the state lock. */
#ifndef BERTH_FAKE_POOL_H
#define BERTH_FAKE_POOL_H

#include "cuda_abi.h"
#include "mem.h"
#include "segment.h"
#include "stream.h"

struct pool {
    struct pool *next; /* all pools of the process */
    struct device *device;
    CUmemPoolProps props;
    struct segment_list segments;
    struct pool_pending *pending; /* freed, but not known to be done with */
    uint64_t used, used_high, reserved_high, release_threshold;
    uint64_t peers; /* bit n: device n may access */
    int follow_events, opportunistic, internal_dependencies;
    bool is_destroyed; /* goes when the last block is freed */
};

/* The pool that cuMemAllocAsync uses on the device. NULL: memory is out. */
struct pool *pool_current(struct device *device);
struct pool *pool_default(struct device *device);
/* The same of managed memory. */
struct pool *pool_current_managed(struct device *device);
struct pool *pool_default_managed(struct device *device);
/* Whose memory is managed. */
bool pool_is_managed(const struct pool *pool);
struct pool *pool_new(struct device *device, const CUmemPoolProps *props);
/* Takes the program's handle away. */
void pool_delete(struct pool *pool);
CUresult pool_alloc(struct pool *pool, struct stream *stream, uint64_t size,
                    CUdeviceptr *ret_pointer);
/* Frees in the order of the stream. */
CUresult pool_free_later(struct mem *mem, struct stream *stream);
/* Frees pool or graph memory without waiting, as cuMemFree does for it. */
CUresult pool_free_now(struct mem *mem);
/* Memory of a graph, and the op of the node that allocates it. */
CUresult pool_graph_alloc(struct device *device, uint64_t size, CUdeviceptr *ret_pointer,
                          struct op **ret_op);
/* The op of a node that frees it; and whose memory such an op is about. */
CUresult pool_graph_free(struct mem *mem, struct op **ret_op);
uint64_t pool_graph_address(const struct op *op);
/* Takes back the blocks whose free is done. */
void pool_collect(struct pool *pool);
void pool_trim(struct pool *pool, uint64_t keep_bytes);
/* At a synchronisation: gives back to the device what is unused beyond each
 * pool's release threshold. */
void pool_release_unused(struct device *device);
/* Gives back all that is unused; whether anything was. */
bool pool_reclaim(struct device *device);
/* Drops what waits to be freed in a context that goes. */
void pool_forget_context(const struct context *context);
CUmemAllocationHandleType pool_handle_types(const struct pool *pool);

#endif
