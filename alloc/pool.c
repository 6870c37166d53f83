/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool.h"

#include "alloc/options.h"
#include "alloc/page_map.h"
#include "alloc/pool_parts.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"

#include <assert.h>
#include <errno.h>

/* A cached whole block may be larger than the request by this fraction of it: an eighth. */
#define WHOLE_WASTE_SHIFT 3

_Atomic(struct berth_pool *) berth__pool_first;

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
atomic_bool berth__pool_is_disabled;

/* Far above the driver's own small numbers, so that the two never meet. */
static _Atomic uint64_t next_id = (uint64_t)1 << 62;

static bool pool_serves(const struct berth_pool *pool, berth_cu_context context, berth_tier_id tier)
{
    return atomic_load_explicit(&pool->context, memory_order_acquire) == context &&
           (!context || (atomic_load_explicit(&pool->tier, memory_order_relaxed) == tier &&
                         !atomic_load_explicit(&pool->is_ending, memory_order_relaxed)));
}

/* The pool of this context and tier; without a context, one that can be used for another. */
static struct berth_pool *pool_find(berth_cu_context context, berth_tier_id tier)
{
    struct berth_pool *pool = atomic_load_explicit(&berth__pool_first, memory_order_acquire);

    while (pool && !pool_serves(pool, context, tier))
        pool = pool->next;
    return pool;
}

/* Called with the registry's lock held. */
static struct berth_pool *pool_make(berth_cu_context context, int device, berth_tier_id tier)
{
    struct berth_pool *pool = pool_find(NULL, BERTH_TIER_NONE);
    bool is_new = !pool;

    if (is_new) {
        pool = berth__slab_map(sizeof(*pool));
        if (!pool)
            return NULL;
        pthread_mutex_init(&pool->lock, NULL);
        pool->next = atomic_load_explicit(&berth__pool_first, memory_order_relaxed);
    }
    berth__pool_lock(pool);
    pool->device = device;
    pool->tier = tier;
    atomic_store_explicit(&pool->context, context, memory_order_release);
    berth__pool_unlock(pool);
    if (is_new)
        atomic_store_explicit(&berth__pool_first, pool, memory_order_release);
    return pool;
}

static struct berth_pool *pool_find_or_make(berth_cu_context context, berth_tier_id tier)
{
    struct berth_pool *pool = pool_find(context, tier);
    int device;

    if (BERTH_LIKELY(pool != NULL))
        return pool;
    if (berth__device_of_current(&device) < 0)
        return NULL;
    pthread_mutex_lock(&registry_lock);
    pool = pool_find(context, tier);
    if (!pool)
        pool = pool_make(context, device, tier);
    pthread_mutex_unlock(&registry_lock);
    return pool;
}

void berth__pool_unlock(struct berth_pool *pool)
{
#ifdef BERTH_DEBUG_EXPENSIVE
    assert(berth__pool_is_valid(pool));
#endif
    pthread_mutex_unlock(&pool->lock);
}

void berth__pool_count_cached(struct berth_pool *pool, uint64_t bytes)
{
    pool->cached += bytes;
    atomic_fetch_add_explicit(&berth__tier_stats[pool->tier].cached, bytes, memory_order_relaxed);
}

void berth__pool_hand_out(struct berth_pool *pool, struct berth_block *block,
                          const struct berth_pool_request *request)
{
    block->state = BERTH_BLOCK_LIVE;
    block->requested = request->size;
    block->id = atomic_fetch_add_explicit(&next_id, 1, memory_order_relaxed);
    block->tag = (uint8_t)request->tag;
    block->site = request->site;
    block->table_version = request->table_version;
    block->rule = request->rule;
    block->flags = 0;
    block->segment->used_blocks++;
    berth__pool_count_cached(pool, -block->size);
    berth__stats_alloc(pool->tier, request->tag, request->size, block->size);
}

struct berth_block *berth__pool_take(struct berth_pool *pool, uint64_t size, bool is_whole)
{
    struct berth_free_set *set = is_whole ? &pool->whole : &pool->shared;
    struct berth_block *block = berth__free_set_fit(set, size);
    struct berth_block *rest;

    if (!block || (is_whole && block->size > berth__pool_driver_size(size) &&
                   block->size - size > size >> WHOLE_WASTE_SHIFT))
        return NULL;
    berth__free_set_remove(set, block);
    if (is_whole || block->size == size)
        return block;
    /* Without a record for the remainder the program gets all of it. */
    rest = berth__slab_new(&pool->block_slab, sizeof(*rest));
    if (rest) {
        berth__segment_split(block, size, rest);
        berth__free_set_insert(set, rest);
    }
    return block;
}

/* `next` goes into `block`, which is in no free set. */
static void absorb(struct berth_pool *pool, struct berth_block *block, struct berth_block *next)
{
    berth__segment_merge(block, next);
    next->id = 0;
    berth__slab_delete(&pool->block_slab, next);
}

void berth__pool_put(struct berth_pool *pool, struct berth_block *block)
{
    struct berth_segment *segment = block->segment;
    bool is_whole = segment->kind == BERTH_SEGMENT_WHOLE;
    struct berth_free_set *set = is_whole ? &pool->whole : &pool->shared;
    struct berth_block *prev = block->prev;

    berth__pool_count_cached(pool, block->size);
    segment->used_blocks--;
    block->state = BERTH_BLOCK_FREE;
    block->requested = 0;
    block->id = 0;
    if (block->next && block->next->state == BERTH_BLOCK_FREE) {
        berth__free_set_remove(set, block->next);
        absorb(pool, block, block->next);
    }
    if (prev && prev->state == BERTH_BLOCK_FREE) {
        berth__free_set_remove(set, prev);
        absorb(pool, prev, block);
        block = prev;
    }
    berth__free_set_insert(set, block);
}

void berth__pool_settle(struct berth_pool *pool, uint64_t epoch)
{
    struct berth_block **link = &pool->waiting;

    while (*link) {
        struct berth_block *block = *link;

        if (block->id > epoch) {
            link = &block->waiting;
            continue;
        }
        *link = block->waiting;
        block->waiting = NULL;
        berth__pool_put(pool, block);
    }
}

int berth__pool_alloc(const struct berth_pool_request *request, uintptr_t *ret_address)
{
    uint64_t size = berth__size_round(request->size);
    bool is_whole = request->size >= berth__option(BERTH_OPTION_IPC_MIN);
    bool is_captured = berth__device_capturing();
    berth_cu_context context = NULL;
    struct berth_block *block = NULL;
    struct berth_pool *pool;

    if (request->size == 0 || size == 0 || berth__pool_disabled() ||
        berth__device_current(&context) < 0 || !context)
        return BERTH_POOL_FORWARD;
    pool = pool_find_or_make(context, request->tier);
    if (!pool)
        return BERTH_POOL_FORWARD;
    if (!is_captured) {
        berth__pool_lock(pool);
        block = berth__pool_take(pool, size, is_whole);
        if (block) {
            berth__pool_hand_out(pool, block, request);
            *ret_address = block->address;
        }
        berth__pool_unlock(pool);
    }
    if (BERTH_LIKELY(block != NULL))
        return 0;
    return berth__pool_grow(pool, request, size, is_whole || is_captured, is_captured, ret_address);
}

/* A block on its way out, and what is needed to recognise it after the lock was let go. */
struct leave {
    berth_free_async_function in_order; /* NULL: by cuMemFree */
    berth_cu_stream stream;             /* for `in_order` */
    struct berth_pool *pool;
    struct berth_block *block;
    berth_cu_context context;
    uint64_t id;    /* the block's, while it is the same allocation */
    uint64_t epoch; /* blocks that waited until now are idle after a synchronisation */
    bool to_driver; /* never enters the cache: its segment is freed */
};

/* Marks the block LEAVING. From here on a second free of it is refused. */
static int leave_begin(uintptr_t address, struct leave *leave)
{
    struct berth_segment *segment = berth__page_map_find(address);
    struct berth_pool *pool = segment ? segment->pool : NULL;
    struct berth_block *block;
    int r = -EINVAL;

    if (!pool)
        return BERTH_POOL_FORWARD;
    berth__pool_lock(pool);
    if (berth__page_map_find(address) != segment) {
        r = BERTH_POOL_FORWARD;
        goto unlock;
    }
    block = berth__segment_block(segment, address);
    if (block->address != address || block->state != BERTH_BLOCK_LIVE)
        goto unlock;
    leave->pool = pool;
    leave->block = block;
    leave->context = atomic_load_explicit(&pool->context, memory_order_relaxed);
    leave->id = block->id;
    leave->epoch = pool->wait_epoch++;
    leave->to_driver = segment->kind == BERTH_SEGMENT_WHOLE &&
                       (block->flags != 0 || leave->in_order || berth__device_capturing());
    block->state = BERTH_BLOCK_LEAVING;
    if (leave->to_driver) {
        /* Once the driver has it back, anybody may be given the same address. */
        berth__page_map_remove(segment->base, segment->size, segment);
        segment->is_mapped = false;
    }
    r = 0;
unlock:
    berth__pool_unlock(pool);
    return r;
}

/* With the lock held: whether the block is still the one that began to leave. */
static bool leave_is_current(const struct leave *leave)
{
    return leave->block->id == leave->id && leave->block->state == BERTH_BLOCK_LEAVING;
}

static void leave_count(struct berth_block *block)
{
    berth__stats_free(block->segment->pool->tier, (enum berth_tag)block->tag, block->requested,
                      block->size);
    if (block->flags & BERTH_BLOCK_SYNC_MEMOPS)
        block->segment->sync_memops_blocks--;
    block->flags = 0;
}

static int leave_to_driver(const struct leave *leave)
{
    struct berth_block *block = leave->block;
    struct berth_segment *segment = block->segment;
    struct berth_segment *other = NULL;
    int r = leave->in_order ? berth__device_error(leave->in_order(segment->base, leave->stream))
                            : berth__device_free(leave->context, segment->base);

    berth__pool_lock(leave->pool);
    if (leave_is_current(leave)) {
        if (r < 0) {
            /* The driver kept it, so nobody else was given the address, and the nodes exist. */
            segment->is_mapped =
                berth__page_map_insert(segment->base, segment->size, segment, &other) == 0;
            block->state = BERTH_BLOCK_LIVE;
        } else {
            berth__pool_forget_segment(leave->pool, segment);
        }
    }
    berth__pool_unlock(leave->pool);
    return r;
}

/*
 * A shared segment's block, freed while a stream is captured. Synchronising would break the
 * capture; whether freeing is allowed is the driver's to say. Freeing in stream order always is.
 */
static int leave_in_capture(const struct leave *leave)
{
    struct berth_pool *pool = leave->pool;
    struct berth_block *block = leave->block;
    int r = leave->in_order ? 0 : berth__device_probe_capture(leave->context);

    berth__pool_lock(pool);
    if (leave_is_current(leave)) {
        if (r < 0) {
            block->state = BERTH_BLOCK_LIVE;
        } else {
            leave_count(block);
            block->state = BERTH_BLOCK_WAITING;
            block->requested = 0;
            block->id = pool->wait_epoch;
            block->waiting = pool->waiting;
            pool->waiting = block;
        }
    }
    berth__pool_unlock(pool);
    return r;
}

int berth__pool_free_in_order(uintptr_t address, berth_free_async_function function,
                              berth_cu_stream stream)
{
    struct leave leave = {.in_order = function, .stream = stream};
    int r;

    if (berth__pool_disabled())
        return BERTH_POOL_FORWARD;
    r = leave_begin(address, &leave);
    if (r != 0)
        return r;
    return leave.to_driver ? leave_to_driver(&leave) : leave_in_capture(&leave);
}

int berth__pool_free(uintptr_t address)
{
    struct leave leave = {0};
    int r;

    if (berth__pool_disabled())
        return BERTH_POOL_FORWARD;
    r = leave_begin(address, &leave);
    if (r != 0)
        return r;
    if (leave.to_driver)
        return leave_to_driver(&leave);
    if (berth__device_capturing())
        return leave_in_capture(&leave);
    r = berth__device_sync(leave.context);
    berth__pool_lock(leave.pool);
    if (leave_is_current(&leave)) {
        if (r < 0) {
            leave.block->state = BERTH_BLOCK_LIVE;
        } else {
            leave_count(leave.block);
            berth__pool_put(leave.pool, leave.block);
            berth__pool_settle(leave.pool, leave.epoch);
        }
    }
    berth__pool_unlock(leave.pool);
    return r;
}

static void drop_pool(struct berth_pool *pool)
{
    berth__pool_lock(pool);
    while (pool->segments)
        berth__pool_forget_segment(pool, pool->segments);
    pool->generation++;
    atomic_store_explicit(&pool->is_ending, false, memory_order_relaxed);
    atomic_store_explicit(&pool->context, NULL, memory_order_release);
    berth__pool_unlock(pool);
}

void berth__pool_drop_begin(berth_cu_context context)
{
    if (!context || berth__pool_disabled())
        return;
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next) {
        if (atomic_load(&pool->context) != context)
            continue;
        berth__pool_lock(pool);
        atomic_store_explicit(&pool->is_ending, true, memory_order_relaxed);
        berth__pool_unlock(pool);
        berth__pool_await_releases(pool);
    }
}

void berth__pool_drop_end(berth_cu_context context, bool is_destroyed)
{
    if (!context || berth__pool_disabled())
        return;
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next) {
        if (atomic_load(&pool->context) != context || !atomic_load(&pool->is_ending))
            continue;
        if (is_destroyed)
            drop_pool(pool);
        else
            atomic_store_explicit(&pool->is_ending, false, memory_order_relaxed);
    }
}

void berth__pool_drop(berth_cu_context context)
{
    if (!context || berth__pool_disabled())
        return;
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next)
        if (atomic_load(&pool->context) == context)
            drop_pool(pool);
}

void berth__pool_disable(void)
{
    atomic_store(&berth__pool_is_disabled, true);
}

bool berth__pool_in_use(void)
{
    return atomic_load_explicit(&berth__pool_first, memory_order_relaxed) != NULL;
}
