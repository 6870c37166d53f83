/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_lazy_batch.h"

#include "alloc/cache.h"
#include "alloc/order.h"
#include "alloc/pool_class.h"
#include "alloc/pool_lazy_cell.h"
#include "alloc/pool_parts.h"
#include "alloc/stats.h"

/* How often in turn few blocks are closed before more may wait. */
#define CLOSES_MAX 8
/* Where memory is to be tight, open batches may have this part of what is reserved. */
#define TIGHT_SHIFT 8

/* What the account is told of a block, read while it is still the caller's. */
struct account {
    struct berth_pool *pool;
    enum berth_tag tag;
    uint64_t requested, held;
};

static struct account account_of(const struct berth_block *block)
{
    return (struct account){
        .pool = block->pool,
        .tag = (enum berth_tag)block->tag,
        .requested = block->requested,
        .held = block->size,
    };
}

static void count_free(const struct account *account)
{
    berth__cache_count_free(account->pool, account->tag, account->requested, account->held);
}

/*
 * With the pool's lock held: a block that the caller holds LEAVING is freed by `take`, unless its
 * context was destroyed meanwhile: then the account knows, and nobody else knows the record.
 */
static void own_free(struct berth_block *block,
                     void (*take)(struct berth_pool *pool, struct berth_block *block))
{
    struct berth_pool *pool = block->pool;
    struct account account;

    if (berth__block_state(block) != BERTH_BLOCK_LEAVING) {
        berth__block_delete(&pool->block_slab, block);
        return;
    }
    if (atomic_exchange_explicit(&block->flags, 0, memory_order_relaxed) & BERTH_BLOCK_SYNC_MEMOPS)
        block->segment->sync_memops_blocks--;
    berth__pool_class_leave(block);
    account = account_of(block);
    count_free(&account);
    berth__pool_site_leave(block);
    take(pool, block);
}

void berth__lazy_batch_add(struct berth_pool *pool, struct berth_lazy_batch *batch,
                           struct berth_block *list)
{
    uint64_t bytes = 0;

    while (list) {
        struct berth_block *next = list->waiting;

        bytes += list->size;
        batch->count++;
        list->waiting = batch->blocks;
        batch->blocks = list;
        list = next;
    }
    batch->bytes += bytes;
    atomic_fetch_add_explicit(&pool->lazy.batch_bytes, bytes, memory_order_relaxed);
}

struct berth_block *berth__lazy_batch_empty(struct berth_pool *pool, struct berth_lazy_batch *batch)
{
    struct berth_block *blocks = batch->blocks;

    atomic_fetch_sub_explicit(&pool->lazy.batch_bytes, batch->bytes, memory_order_relaxed);
    batch->blocks = NULL;
    batch->bytes = 0;
    return blocks;
}

struct berth_order_point *berth__lazy_batch_delete(struct berth_pool *pool,
                                                   struct berth_lazy_batch *batch)
{
    struct berth_lazy_batch **link = &pool->lazy.batches;
    struct berth_order_point *point = batch->point;

    while (*link != batch)
        link = &(*link)->next;
    *link = batch->next;
    berth__slab_delete(&pool->lazy.slab, batch);
    return point;
}

/* With the pool's lock held: what is open goes into the batch; as a whole if that is empty. */
static void cell_empty(struct berth_cache *cache, struct berth_lazy_batch *batch)
{
    struct berth_pool *pool = cache->pool;
    struct berth_block *blocks;
    uint64_t bytes, count;

    berth__cache_lock(cache);
    bytes = berth__lazy_cell_open(cache);
    count = berth__lazy_cell_count(cache);
    /* Counted twice for a moment: what may wait is then less, and never more. */
    if (!batch->blocks)
        atomic_fetch_add_explicit(&pool->lazy.batch_bytes, bytes, memory_order_relaxed);
    blocks = berth__lazy_cell_clear(cache);
    berth__cache_unlock(cache);
    if (batch->blocks) {
        berth__lazy_batch_add(pool, batch, blocks);
        return;
    }
    batch->blocks = blocks;
    batch->bytes = bytes;
    batch->count += count;
}

/* With the pool's lock held: what waits without a point, and blocks freed during a capture. */
static void batch_absorb(struct berth_pool *pool, struct berth_lazy_batch *batch)
{
    struct berth_lazy_batch *next;

    for (struct berth_lazy_batch *old = pool->lazy.batches; old; old = next) {
        next = old->next;
        if (old == batch || old->is_busy || old->point)
            continue;
        berth__lazy_batch_add(pool, batch, berth__lazy_batch_empty(pool, old));
        berth__lazy_batch_delete(pool, old);
    }
    berth__lazy_batch_add(pool, batch, pool->waiting);
    pool->waiting = NULL;
}

/* With the pool's lock held: all open batches, or only that of `only`, go into the batch. */
static void batch_collect(struct berth_pool *pool, struct berth_lazy_batch *batch,
                          struct berth_cache *only)
{
    for (struct berth_cache *cache = pool->caches; cache; cache = cache->next)
        if (!only || cache == only)
            cell_empty(cache, batch);
}

/* With the pool's lock held: a batch of `count` blocks is closed, by itself or for an allocation.
 */
static void learn_close(struct berth_pool *pool, uint64_t count, bool is_by_itself)
{
    uint64_t room = berth__lazy_room(), allowance;

    if (count >= BERTH_LAZY_BLOCKS_FEW)
        pool->lazy.small_closes = 0;
    else if (!is_by_itself)
        pool->lazy.small_closes++;
    if (pool->lazy.small_closes < CLOSES_MAX)
        return;
    pool->lazy.small_closes = 0;
    allowance = atomic_load_explicit(&pool->lazy.allowance, memory_order_relaxed) * 2;
    if (allowance < BERTH_LAZY_WAIT_LEAST * 2)
        allowance = BERTH_LAZY_WAIT_LEAST * 2;
    atomic_store_explicit(&pool->lazy.allowance, allowance < room ? allowance : room,
                          memory_order_relaxed);
}

struct berth_lazy_batch *berth__lazy_batch_begin(struct berth_pool *pool, struct berth_cache *only,
                                                 bool may_be_empty)
{
    struct berth_lazy_batch *batch, **link;

    berth__pool_lock(pool);
    batch = berth__slab_new(&pool->lazy.slab, sizeof(*batch));
    if (batch) {
        batch->is_busy = true;
        batch->is_awaited = false;
        batch->owner = only;
        for (link = &pool->lazy.batches; *link; link = &(*link)->next)
            ;
        *link = batch;
        batch_collect(pool, batch, only);
        batch_absorb(pool, batch);
        learn_close(pool, batch->count, only != NULL);
        atomic_store_explicit(&pool->lazy.open_most, berth__pool_reserved(pool) >> TIGHT_SHIFT,
                              memory_order_relaxed);
        if (!batch->blocks && !may_be_empty) {
            berth__lazy_batch_delete(pool, batch);
            batch = NULL;
        }
    }
    berth__pool_unlock(pool);
    return batch;
}

/*
 * What has passed becomes the calling thread's, as far as its cache takes it; whether any was. Many
 * blocks are looked at, so not under the pool's lock: whoever else takes blocks out of a busy batch
 * has the caches shut, which the lock of any of them keeps off.
 */
static bool batch_keep(struct berth_pool *pool, struct berth_lazy_batch *batch)
{
    struct berth_cache *cache = berth__cache_peek(pool);
    uint64_t kept = 0;

    if (!cache)
        return false;
    berth__cache_lock(cache);
    if (berth__cache_is_open(pool)) {
        /* At no moment is a block counted twice. */
        atomic_fetch_sub_explicit(&pool->lazy.batch_bytes, batch->bytes, memory_order_relaxed);
        kept = berth__cache_keep(cache, &batch->blocks);
        batch->bytes -= kept;
        if (batch->bytes > 0)
            atomic_fetch_add_explicit(&pool->lazy.batch_bytes, batch->bytes, memory_order_relaxed);
    }
    berth__cache_unlock(cache);
    return kept > 0;
}

bool berth__lazy_batch_settle(struct berth_pool *pool, struct berth_lazy_batch *batch)
{
    bool any = batch_keep(pool, batch);
    struct berth_order_point *point;
    struct berth_block *block, *next;

    berth__pool_lock(pool);
    for (block = berth__lazy_batch_empty(pool, batch); block; block = next) {
        next = block->waiting;
        berth__pool_put(pool, block);
        any = true;
    }
    point = berth__lazy_batch_delete(pool, batch);
    berth__pool_unlock(pool);
    berth__order_done(point);
    return any;
}

/* The newest batch is the one that the block waits in. */
static void join_newest(struct berth_pool *pool, struct berth_block *block)
{
    struct berth_lazy_batch *batch = pool->lazy.joined;

    block->waiting = NULL;
    berth__block_set_state(block, BERTH_BLOCK_WAITING);
    berth__lazy_batch_add(pool, batch, block);
}

void berth__lazy_batch_end(struct berth_pool *pool, struct berth_lazy_batch *batch,
                           struct berth_order_point *point, struct berth_block *own)
{
    struct berth_order_point *unused = NULL;

    berth__pool_lock(pool);
    batch->point = point;
    batch->is_busy = false;
    pool->lazy.joined = batch;
    if (own)
        own_free(own, join_newest);
    if (!batch->blocks) /* it was dropped meanwhile */
        unused = berth__lazy_batch_delete(pool, batch);
    berth__pool_unlock(pool);
    berth__order_done(unused);
}

void berth__lazy_batch_undo(struct berth_pool *pool, struct berth_lazy_batch *batch)
{
    struct berth_block *block, *next;

    berth__pool_lock(pool);
    for (block = berth__lazy_batch_empty(pool, batch); block; block = next) {
        next = block->waiting;
        block->id = pool->wait_epoch;
        block->waiting = pool->waiting;
        pool->waiting = block;
    }
    berth__lazy_batch_delete(pool, batch);
    berth__pool_unlock(pool);
}

void berth__lazy_batch_pass(struct berth_pool *pool, struct berth_lazy_batch *batch,
                            struct berth_block *own)
{
    if (own) {
        berth__pool_lock(pool);
        own_free(own, berth__pool_put);
        berth__pool_unlock(pool);
    }
    if (batch)
        berth__lazy_batch_settle(pool, batch);
}

struct berth_lazy_batch *berth__lazy_batch_take_oldest(struct berth_pool *pool,
                                                       const struct berth_cache *owner)
{
    struct berth_lazy_batch *batch;

    berth__pool_lock(pool);
    batch = pool->lazy.batches;
    while (batch && (batch->is_busy || !batch->point || (owner && batch->owner != owner)))
        batch = batch->next;
    if (batch) {
        batch->is_busy = true;
        batch->is_awaited = false;
    }
    berth__pool_unlock(pool);
    return batch;
}
