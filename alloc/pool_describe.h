/* SPDX-License-Identifier: Apache-2.0 */
/* What a block that is handed out, from the pool or from a thread's cache, says of itself. */
#ifndef BERTH_ALLOC_POOL_DESCRIBE_H
#define BERTH_ALLOC_POOL_DESCRIBE_H

#include "alloc/pool_class.h"
#include "alloc/pool_parts.h"

/*
 * Writes what describes the block, which is the caller's, and then says that it is live. Others may
 * be looking at the fields for the allocation before this one.
 */
static inline void berth__pool_describe(struct berth_block *block,
                                        const struct berth_pool_request *request, uint64_t id)
{
    __atomic_store_n(&block->id, id, __ATOMIC_RELAXED);
    __atomic_store_n(&block->requested, request->size, __ATOMIC_RELAXED);
    __atomic_store_n(&block->tag, (uint8_t)request->tag, __ATOMIC_RELAXED);
    __atomic_store_n(&block->tagged_by, (uint8_t)request->tagged_by, __ATOMIC_RELAXED);
    __atomic_store_n(&block->site, request->site, __ATOMIC_RELAXED);
    __atomic_store_n(&block->table_version, request->table_version, __ATOMIC_RELAXED);
    __atomic_store_n(&block->rule, request->rule, __ATOMIC_RELAXED);
    atomic_store_explicit(&block->flags, 0, memory_order_relaxed);
    if (BERTH_UNLIKELY(request->site != 0))
        berth__pool_site_enter(block);
    if (BERTH_UNLIKELY(request->follow != NULL))
        berth__pool_class_enter(block, request);
    berth__block_set_state(block, BERTH_BLOCK_LIVE);
}

#endif
