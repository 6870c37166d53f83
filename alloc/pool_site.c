/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/birth.h"
#include "alloc/pool_parts.h"
#include "alloc/pool_stream_set.h"
#include "alloc/site_account.h"

void berth__pool_site_enter(struct berth_block *block)
{
    const struct berth_site_block entry = {
        .site = block->site,
        .tier = atomic_load_explicit(&block->pool->tier, memory_order_relaxed),
        .tag = (enum berth_tag)block->tag,
        .requested = block->requested,
        .held = block->size,
    };

    __atomic_store_n(&block->birth, berth__birth_short(), __ATOMIC_RELAXED);
    if (!berth__site_account_alloc(&entry))
        __atomic_store_n(&block->site, 0, __ATOMIC_RELAXED);
}

void berth__pool_site_leave_slowly(const struct berth_block *block, berth_site_id site,
                                   uint64_t requested)
{
    const struct berth_site_block entry = {
        .site = site,
        .tier = atomic_load_explicit(&block->pool->tier, memory_order_relaxed),
        .tag = (enum berth_tag)block->tag,
        .requested = requested,
        .held = block->size,
    };

    berth__site_account_free(&entry, berth__birth_short_age(block->birth));
}

static struct berth_site_block stream_entry(const struct berth_stream_block *block)
{
    return (struct berth_site_block){
        .site = atomic_load_explicit(&block->site, memory_order_relaxed),
        .tier = BERTH_TIER_DEVICE,
        .tag = (enum berth_tag)atomic_load_explicit(&block->tag, memory_order_relaxed),
        .requested = atomic_load_explicit(&block->requested, memory_order_relaxed),
        .held = berth__stream_block_size(block),
    };
}

void berth__stream_site_enter(struct berth_stream_block *block)
{
    const struct berth_site_block entry = stream_entry(block);

    atomic_store_explicit(&block->birth, berth__birth_short(), memory_order_relaxed);
    if (!berth__site_account_alloc(&entry))
        atomic_store_explicit(&block->site, 0, memory_order_relaxed);
}

void berth__stream_site_leave_slowly(const struct berth_stream_block *block)
{
    const struct berth_site_block entry = stream_entry(block);

    berth__site_account_free(
        &entry, berth__birth_short_age(atomic_load_explicit(&block->birth, memory_order_relaxed)));
}
