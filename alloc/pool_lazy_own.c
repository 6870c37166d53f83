/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_lazy_own.h"

#include "alloc/options.h"
#include "alloc/order.h"
#include "alloc/pool_lazy_batch.h"
#include "alloc/pool_lazy_cell.h"
#include "alloc/pool_run.h"

/* Whether the block's place is kept for the next one, on a device that is quick. */
static bool is_of_prompt_run(const struct berth_cache *cache, const struct berth_block *block)
{
    return berth__lazy_is_prompt(cache->pool) && berth__run_is_believed(cache) &&
           berth__run_has(cache, block);
}

/*
 * Of a run one block more may be open than else, however large: everybody who looks for memory asks
 * about it first.
 */
static bool push_large(struct berth_cache *cache, struct berth_block *block, uint64_t most)
{
    struct berth_pool *pool = cache->pool;
    uint64_t open = berth__lazy_open_bytes(pool) + block->size;

    if (berth__lazy_cell_bytes(&cache->lazy) > berth__lazy_open_most(pool, most) ||
        open > berth__lazy_left(most, berth__lazy_batch_bytes(pool)) ||
        !berth__lazy_cell_push(cache, block, open))
        return false;
    if (!atomic_load_explicit(&pool->lazy.has_large, memory_order_relaxed))
        atomic_store_explicit(&pool->lazy.has_large, true, memory_order_relaxed);
    return true;
}

bool berth__lazy_may_close_own(const struct berth_cache *cache)
{
    uint64_t room = berth__lazy_room();

    if (berth__lazy_is_tight())
        return berth__run_is_believed(cache);
    return room > 0 && berth__option(BERTH_OPTION_THREAD_CACHE) > 0 &&
           (berth__lazy_cell_count(cache) >= BERTH_LAZY_BLOCKS_FEW ||
            atomic_load_explicit(&cache->pool->lazy.allowance, memory_order_relaxed) >= room);
}

/* By the thread itself: closes its cell if `least` bytes are in it. True if they came free. */
static bool close_cell(struct berth_cache *cache, uint64_t least)
{
    struct berth_pool *pool = cache->pool;
    berth_cu_context context = atomic_load_explicit(&pool->context, memory_order_relaxed);
    int r;

    if (atomic_load_explicit(&pool->waiting, memory_order_relaxed) ||
        !berth__order_is_known(context) || !berth__lazy_cell_detach(cache, least))
        return false;
    r = berth__order_probe(context, &cache->lazy.spare);
    atomic_fetch_add_explicit(&berth__lazy_counts.points, r >= 0, memory_order_relaxed);
    if (r == 1)
        return berth__lazy_cell_pass(cache);
    cache->lazy.enough = 0;
    berth__lazy_set_prompt(pool, false);
    berth__lazy_cell_attach(cache);
    return false;
}

/* Whether what comes free is what a request of `size` bytes looks for. */
static bool is_of_use(const struct berth_cache *cache, uint64_t size)
{
    return !berth__lazy_is_tight() ||
           (cache->run.size == berth__pool_held_for(size, cache->run.is_whole) &&
            (!berth__run_is_counted(size) || !berth__run_is_scattered(cache->pool)));
}

bool berth__lazy_close_own(struct berth_cache *cache, uint64_t size)
{
    return cache->lazy.enough > 0 && berth__lazy_batch_bytes(cache->pool) == 0 &&
           berth__lazy_may_close_own(cache) && is_of_use(cache, size) &&
           close_cell(cache, cache->lazy.enough);
}

/* The cell is full. */
bool berth__lazy_push_more(struct berth_cache *cache, struct berth_block *block, uint64_t most)
{
    if (berth__lazy_is_tight()) {
        if (!is_of_prompt_run(cache, block))
            return false;
        return push_large(cache, block, most) ||
               (berth__lazy_cell_count(cache) > 0 && close_cell(cache, 1) &&
                (berth__lazy_cell_push(cache, block, berth__lazy_open_most(cache->pool, most)) ||
                 push_large(cache, block, most)));
    }
    return berth__lazy_cell_is_full(cache) && berth__lazy_is_prompt(cache->pool) &&
           berth__option(BERTH_OPTION_THREAD_CACHE) > 0 && close_cell(cache, 1) &&
           berth__lazy_cell_push(cache, block, berth__lazy_open_most(cache->pool, most));
}
