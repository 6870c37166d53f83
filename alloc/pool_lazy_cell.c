/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_lazy_cell.h"

#include "alloc/pool_class.h"
#include "alloc/pool_parts.h"
#include "alloc/stats.h"

/* What may wait in open batches is granted to them in such steps of it. */
#define GRANT_SHIFT 6

static uint64_t cell_bytes(const struct berth_lazy_cell *cell)
{
    return atomic_load_explicit(&cell->bytes, memory_order_relaxed);
}

static void cell_set_bytes(struct berth_lazy_cell *cell, uint64_t bytes)
{
    atomic_store_explicit(&cell->bytes, bytes, memory_order_relaxed);
}

static void cell_set_count(struct berth_lazy_cell *cell, uint32_t count)
{
    atomic_store_explicit(&cell->count, count, memory_order_relaxed);
}

/* With the lock of its cache held: lets the cell have `bytes` if all together may have `most`. */
static bool cell_grant(struct berth_cache *cache, uint64_t bytes, uint64_t most)
{
    struct berth_lazy_cell *cell = &cache->lazy;
    _Atomic uint64_t *granted = &cache->pool->lazy.granted;
    uint64_t more = bytes - cell->granted, step = most >> GRANT_SHIFT;
    uint64_t before = atomic_load_explicit(granted, memory_order_relaxed);

    if (more < step && before + step <= most)
        more = step;
    do {
        if (more > most || before > most - more)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(granted, &before, before + more,
                                                    memory_order_relaxed, memory_order_relaxed));
    cell->granted += more;
    return true;
}

bool berth__lazy_cell_push(struct berth_cache *cache, struct berth_block *block, uint64_t most)
{
    struct berth_lazy_cell *cell = &cache->lazy;
    bool is_taken;
    uint64_t bytes;
    uint32_t count;

    berth__cache_lock(cache);
    bytes = cell_bytes(cell) + block->size;
    count = berth__lazy_cell_count(cache);
    is_taken = count < BERTH_LAZY_CELL_BLOCKS &&
               (BERTH_LIKELY(bytes <= cell->granted) || cell_grant(cache, bytes, most)) &&
               berth__cache_is_open(cache->pool) &&
               berth__block_state(block) == BERTH_BLOCK_LEAVING;
    if (is_taken) {
        berth__pool_class_leave(block);
        berth__stats_part_free(&cache->part, (enum berth_tag)block->tag, block->requested,
                               block->size);
        berth__pool_site_leave(block);
        block->waiting = cell->blocks;
        berth__block_set_state(block, BERTH_BLOCK_WAITING);
        cell->blocks = block;
        cell_set_count(cell, count + 1);
        cell_set_bytes(cell, bytes);
    }
    berth__cache_unlock(cache);
    return is_taken;
}

struct berth_block *berth__lazy_cell_clear(struct berth_cache *cache)
{
    struct berth_lazy_cell *cell = &cache->lazy;
    struct berth_block *blocks = cell->blocks;
    uint64_t kept = cell->closing_bytes < cell->granted ? cell->closing_bytes : cell->granted;

    cell->blocks = NULL;
    cell_set_count(cell, 0);
    if (cell->granted > kept)
        atomic_fetch_sub_explicit(&cache->pool->lazy.granted, cell->granted - kept,
                                  memory_order_relaxed);
    cell->granted = kept;
    cell_set_bytes(cell, cell->closing_bytes);
    return blocks;
}

void berth__lazy_cell_drop(struct berth_cache *cache)
{
    cache->lazy.closing = NULL;
    cache->lazy.closing_bytes = 0;
    berth__lazy_cell_clear(cache);
}

bool berth__lazy_list_remove(struct berth_block **list, const struct berth_block *block)
{
    struct berth_block *at = *list;

    if (at == block) {
        *list = block->waiting;
        return true;
    }
    while (at && at->waiting != block)
        at = at->waiting;
    if (at)
        at->waiting = block->waiting;
    return at != NULL;
}

bool berth__lazy_cell_remove(struct berth_cache *cache, const struct berth_block *block)
{
    struct berth_lazy_cell *cell = &cache->lazy;

    if (berth__lazy_list_remove(&cell->blocks, block))
        cell_set_count(cell, berth__lazy_cell_count(cache) - 1);
    else if (berth__lazy_list_remove(&cell->closing, block))
        cell->closing_bytes -= block->size;
    else
        return false;
    cell_set_bytes(cell, cell_bytes(cell) - block->size);
    return true;
}

uint64_t berth__lazy_cell_open(const struct berth_cache *cache)
{
    return cell_bytes(&cache->lazy) - cache->lazy.closing_bytes;
}

bool berth__lazy_cell_detach(struct berth_cache *cache, uint64_t least)
{
    struct berth_lazy_cell *cell = &cache->lazy;
    bool is_detached;

    if (cell_bytes(cell) < least)
        return false;
    berth__cache_lock(cache);
    is_detached = cell->blocks && berth__cache_is_open(cache->pool);
    if (is_detached) {
        cell->closing = cell->blocks;
        cell->closing_bytes = cell_bytes(cell);
        cell->closing_count = berth__lazy_cell_count(cache);
        cell->blocks = NULL;
        cell_set_count(cell, 0);
    }
    berth__cache_unlock(cache);
    return is_detached;
}

void berth__lazy_cell_attach(struct berth_cache *cache)
{
    struct berth_lazy_cell *cell = &cache->lazy;

    berth__cache_lock(cache);
    cell->blocks = cell->closing;
    cell_set_count(cell, cell->blocks ? cell->closing_count : 0);
    cell->closing = NULL;
    cell->closing_bytes = 0;
    berth__cache_unlock(cache);
}

bool berth__lazy_cell_pass(struct berth_cache *cache)
{
    struct berth_lazy_cell *cell = &cache->lazy;
    uint64_t kept = 0;

    berth__cache_lock(cache);
    if (berth__cache_is_open(cache->pool)) {
        kept = berth__cache_keep(cache, &cell->closing);
        cell_set_bytes(cell, cell_bytes(cell) - kept);
    }
    /* What finds no room waits on, for somebody who has the pool take it. */
    cell->blocks = cell->closing;
    cell_set_count(cell, cell->blocks ? cell->closing_count : 0);
    if (cell->blocks)
        cell->enough = 0;
    cell->closing = NULL;
    cell->closing_bytes = 0;
    berth__cache_unlock(cache);
    return kept > 0;
}
