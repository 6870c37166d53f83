/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool.h"

#include "alloc/block_index.h"
#include "alloc/device_context.h"
#include "alloc/options.h"
#include "alloc/order.h"
#include "alloc/page_map.h"
#include "alloc/pool_alone.h"
#include "alloc/pool_claim.h"
#include "alloc/pool_class.h"
#include "alloc/pool_describe.h"
#include "alloc/pool_expand.h"
#include "alloc/pool_idle.h"
#include "alloc/pool_obtain.h"
#include "alloc/pool_parts.h"
#include "alloc/pool_plan.h"
#include "alloc/pool_run.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"

#include <errno.h>

/* A cached whole block may be larger than the request by this fraction of it in any case. */
#define WHOLE_WASTE_SHIFT 3

_Atomic(struct berth_pool *) berth__pool_first;

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
atomic_bool berth__pool_is_disabled;

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

    while (pool && (pool->is_planned || !pool_serves(pool, context, tier)))
        pool = pool->next;
    return pool;
}

/* A pool that followed a plan in a context that is gone. */
static struct berth_pool *pool_find_planned(void)
{
    struct berth_pool *pool = atomic_load_explicit(&berth__pool_first, memory_order_acquire);

    while (pool && !(pool->is_planned && !atomic_load(&pool->context)))
        pool = pool->next;
    return pool;
}

/* Called with the registry's lock held. */
static struct berth_pool *pool_make(berth_cu_context context, int device, berth_tier_id tier,
                                    bool is_planned)
{
    struct berth_pool *pool = is_planned ? pool_find_planned() : pool_find(NULL, BERTH_TIER_NONE);
    bool is_new = !pool;

    if (is_new) {
        pool = berth__slab_map(sizeof(*pool));
        if (!pool)
            return NULL;
        /* It is held for so short that waiting for it is best done awake. */
        pool->lock = (pthread_mutex_t)PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
        pool->wait_epoch = 1;
        pool->is_planned = is_planned;
        /* For ever: its blocks are to be where the plan wants them. */
        pool->caches_shut = is_planned;
        pool->next = atomic_load_explicit(&berth__pool_first, memory_order_relaxed);
    }
    berth__pool_lock(pool);
    for (struct berth_cache *cache = pool->caches; cache && pool->tier != tier;
         cache = cache->next) {
        berth__cache_lock(cache);
        berth__stats_part_turn(&cache->part, tier);
        berth__cache_unlock(cache);
    }
    pool->device = device;
    pool->tier = tier;
    /* What lived in the context before is no measure for this one. */
    pool->live_max = 0;
    pool->misses = 0;
    atomic_store_explicit(&pool->promised, 0, memory_order_relaxed);
    berth__own_begin(pool);
    berth__step_begin(pool);
    berth__alone_begin(pool);
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
    if (berth__device_of_current(&device) < 0 || berth__context_is_green())
        return NULL;
    pthread_mutex_lock(&registry_lock);
    pool = pool_find(context, tier);
    if (!pool)
        pool = pool_make(context, device, tier, false);
    pthread_mutex_unlock(&registry_lock);
    return pool;
}

struct berth_pool *berth__pool_make_planned(berth_cu_context context, int device,
                                            berth_tier_id tier)
{
    struct berth_pool *pool;

    pthread_mutex_lock(&registry_lock);
    pool = pool_make(context, device, tier, true);
    pthread_mutex_unlock(&registry_lock);
    return pool;
}

struct berth_pool *berth__pool_for(berth_cu_context context, berth_tier_id tier)
{
    return pool_find_or_make(context, tier);
}

void berth__pool_unlock(struct berth_pool *pool)
{
#ifdef BERTH_DEBUG_EXPENSIVE
    berth__pool_look(pool);
#endif
    pthread_mutex_unlock(&pool->lock);
}

void berth__pool_count_cached(struct berth_pool *pool, uint64_t bytes)
{
    pool->cached += bytes;
    atomic_store_explicit(&pool->changes, berth__pool_changes(pool) + 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&berth__tier_stats[pool->tier].cached, bytes, memory_order_relaxed);
}

void berth__pool_hand_out(struct berth_pool *pool, struct berth_block *block,
                          const struct berth_pool_request *request)
{
    struct berth_cache *cache = berth__cache_peek(pool);
    uint64_t id;

    berth__pool_keep_promise(pool, block->size);
    block->segment->used_blocks++;
    berth__pool_count_cached(pool, -block->size);
    if (cache) {
        berth__cache_lock(cache);
        id = berth__cache_id(cache);
        berth__stats_part_alloc(&cache->part, request->tag, request->size, block->size);
        berth__cache_unlock(cache);
        berth__run_take(cache, block, id);
    } else {
        id = berth__block_ids(1);
        berth__stats_alloc(pool->tier, request->tag, request->size, block->size);
    }
    berth__pool_describe(block, request, id);
    berth__alone_enter(pool, block);
}

static struct berth_block *take_block(struct berth_pool *pool, struct berth_block *block,
                                      uint64_t size)
{
    struct berth_free_set *set = berth__pool_set(pool, block->segment);
    struct berth_cache *cache = berth__cache_peek(pool);
    struct berth_block *front;

    berth__free_set_remove(set, block);
    berth__idle_leave(pool, block);
    if (block->is_whole || block->size == size)
        return block;
    /* Without a record for it the program gets the remainder, too. */
    front = berth__block_new_near(&pool->block_slab, pool, cache ? &cache->records : NULL);
    if (!front)
        return block;
    berth__segment_split_front(block, size, front);
    berth__free_set_insert(set, block);
    return front;
}

/*
 * For a block that is to be alone: a gap in a segment that it shares, only if others live there, so
 * that it cannot go back to the driver anyhow.
 */
static struct berth_block *find_gap(struct berth_pool *pool, uint64_t size)
{
    struct berth_block *block = berth__free_set_fit(&pool->shared, size);

    while (block && berth__idle_is(block))
        block = berth__free_set_fit(&pool->shared, block->size + BERTH_GRANULE);
    return block;
}

/*
 * One that holds not much more than `size`, which has a segment alone; no more than the driver
 * takes where a limit would be reached earlier for it, or what the program was told it can have.
 */
static struct berth_block *find_whole(struct berth_pool *pool, uint64_t size)
{
    struct berth_block *block = berth__free_set_fit(&pool->whole, size);

    return block && (block->size <= berth__pool_driver_size(size) ||
                     (berth__pool_may_waste(pool) &&
                      (block->size - size <= size >> WHOLE_WASTE_SHIFT ||
                       berth__own_may_hold(pool, block, size))))
               ? block
               : NULL;
}

struct berth_block *berth__pool_take(struct berth_pool *pool, uint64_t size, bool is_whole)
{
    struct berth_block *block = berth__free_set_fit(is_whole ? &pool->joint : &pool->shared, size);

    if (!block && is_whole)
        block = find_whole(pool, size);
    if (!block && is_whole && berth__option(BERTH_OPTION_SEGMENTS) == BERTH_SEGMENTS_SHARED)
        block = find_gap(pool, size);
    return block ? take_block(pool, block, size) : NULL;
}

/* The same, but for what is better put where memory is to move to. */
static struct berth_block *take_fit(struct berth_pool *pool, uint64_t size, bool is_whole)
{
    struct berth_block *block;

    if (is_whole || !pool->range)
        return berth__pool_take(pool, size, is_whole);
    berth__cache_join(pool, size);
    block = berth__place_fit(pool, size);
    return block ? take_block(pool, block, size) : NULL;
}

/* `next` goes into `block`, which is in no free set. */
static void absorb(struct berth_pool *pool, struct berth_block *block, struct berth_block *next)
{
    berth__segment_merge(block, next);
    berth__block_delete(&pool->block_slab, next);
}

void berth__pool_put(struct berth_pool *pool, struct berth_block *block)
{
    struct berth_segment *segment = block->segment;
    struct berth_free_set *set = berth__pool_set(pool, segment);
    struct berth_block *prev = block->prev;

    berth__pool_count_cached(pool, block->size);
    berth__alone_leave(pool, block);
    segment->used_blocks--;
    berth__block_set_state(block, BERTH_BLOCK_FREE);
    if (block->next && berth__block_state(block->next) == BERTH_BLOCK_FREE) {
        berth__free_set_remove(set, block->next);
        absorb(pool, block, block->next);
    }
    if (prev && berth__block_state(prev) == BERTH_BLOCK_FREE) {
        berth__free_set_remove(set, prev);
        absorb(pool, prev, block);
        block = prev;
    }
    berth__free_set_insert(set, block);
    berth__idle_enter(pool, block);
}

void berth__pool_settle(struct berth_pool *pool, uint64_t epoch)
{
    struct berth_block *block = pool->waiting, *stays = NULL, *next;

    pool->waiting = NULL;
    for (; block; block = next) {
        next = block->waiting;
        if (block->id > epoch) {
            block->waiting = stays;
            stays = block;
        } else {
            berth__pool_put(pool, block);
        }
    }
    pool->waiting = stays;
}

/* The calling thread's cache of the pool that serves the context and tier, if it has one. */
static inline struct berth_cache *cache_for(berth_cu_context context, berth_tier_id tier)
{
    struct berth_cache *cache = berth__cache_thread.last;

    if (BERTH_LIKELY(cache && pool_serves(cache->pool, context, tier)))
        return cache;
    for (cache = berth__cache_thread.first; cache; cache = cache->next_of_thread) {
        if (pool_serves(cache->pool, context, tier)) {
            berth__cache_thread.last = cache;
            return cache;
        }
    }
    return NULL;
}

static inline uint64_t key_of(uint64_t size, bool is_whole)
{
    return berth__cache_key(berth__pool_held_for(size, is_whole), is_whole);
}

/* With the cache's lock held. */
static inline struct berth_block *
hand_out_cached(struct berth_cache *cache, const struct berth_pool_request *request, uint64_t key)
{
    struct berth_block *block = berth__cache_take(cache, key);

    if (block) {
        berth__stats_part_alloc(&cache->part, request->tag, request->size, block->size);
        berth__pool_describe(block, request, berth__cache_id(cache));
    }
    return block;
}

/*
 * A block that the pool would learn of, of a run of which it learns no more. Nor has it to as long
 * as they are asked for alike; where it has found something to do, it has all of them back first.
 */
static __attribute__((noinline)) struct berth_block *
hand_out_counted(struct berth_cache *cache, const struct berth_pool_request *request, uint64_t size)
{
    uint64_t key = key_of(size, cache->run.is_whole);
    struct berth_block *block = NULL;
    const struct berth_block *next;

    if (!berth__run_is_believed(cache) || berth__run_is_scattered(cache->pool))
        return NULL;
    berth__cache_lock(cache);
    next = berth__cache_first(cache, key);
    if (next && berth__size_round(next->requested) == size)
        block = hand_out_cached(cache, request, key);
    berth__cache_unlock(cache);
    return block;
}

/* From the thread's cache: no lock that others want, no call of the system or the driver. */
static inline bool alloc_cached(const struct berth_pool_request *request, bool is_whole,
                                uintptr_t *ret_address)
{
    uint64_t size = berth__size_round(request->size);
    berth_cu_context context = NULL;
    struct berth_cache *cache;
    struct berth_block *block;

    if (berth__context_current(&context) < 0 || !context)
        return false;
    cache = cache_for(context, request->tier);
    if (!cache)
        return false;
    if (BERTH_UNLIKELY(berth__run_is_counted(size))) {
        block = hand_out_counted(cache, request, size);
    } else {
        berth__cache_lock(cache);
        block = hand_out_cached(cache, request, key_of(size, is_whole));
        berth__cache_unlock(cache);
    }
    if (block)
        *ret_address = berth__block_address(block);
    return block != NULL;
}

/* From the pool; what the threads keep may be what is needed when joined. */
static bool alloc_from_pool(struct berth_pool *pool, const struct berth_pool_request *request,
                            uint64_t size, bool is_whole, uintptr_t *ret_address)
{
    struct berth_block *block;

    berth__cache_of(pool);
    berth__pool_lock(pool);
    berth__run_end_all(pool);
    block = take_fit(pool, size, is_whole);
    for (unsigned i = 0; !block && i < 2 && berth__cache_collect(pool, size); i++)
        block = take_fit(pool, size, is_whole);
    if (block) {
        berth__pool_hand_out(pool, block, request);
        *ret_address = berth__block_address(block);
    }
    berth__pool_unlock(pool);
    return block != NULL;
}

bool berth__pool_alloc_passed(struct berth_pool *pool, const struct berth_pool_request *request,
                              uint64_t size, bool is_whole, uintptr_t *ret_address)
{
    return alloc_cached(request, is_whole, ret_address) ||
           alloc_from_pool(pool, request, size, is_whole, ret_address);
}

/* From what the thread has freed and nobody has asked about yet, where that was good before. */
static bool alloc_own(const struct berth_pool_request *request, bool is_whole,
                      uintptr_t *ret_address)
{
    berth_cu_context context = NULL;
    struct berth_cache *cache;

    if (berth__context_current(&context) < 0 || !context)
        return false;
    cache = cache_for(context, request->tier);
    return cache && berth__lazy_close_own(cache, berth__size_round(request->size)) &&
           alloc_cached(request, is_whole, ret_address);
}

static int alloc_slowly(const struct berth_pool_request *request, bool is_whole, bool is_captured,
                        uintptr_t *ret_address)
{
    uint64_t size = berth__size_round(request->size);
    berth_cu_context context = NULL;
    struct berth_pool *pool;
    bool is_own = is_whole;

    if (!is_captured && alloc_own(request, is_whole, ret_address))
        return 0;
    if (berth__context_ask(&context, NULL) < 0 || !context)
        return BERTH_POOL_FORWARD;
    pool = pool_find_or_make(context, request->tier);
    if (!pool)
        return BERTH_POOL_FORWARD;
    is_whole |= berth__alone_is(pool, size);
    if (!is_captured)
        berth__pool_redeem(pool);
    if (!is_captured && berth__lazy_look_own(pool) && alloc_cached(request, is_whole, ret_address))
        return 0;
    berth__run_end(pool);
    if (BERTH_UNLIKELY(atomic_load_explicit(&pool->is_scattered, memory_order_relaxed)) &&
        !is_captured) {
        berth__step_act(pool);
        berth__pool_gather(pool);
        is_whole = is_own || berth__alone_is(pool, size);
    }
    if (!is_captured && alloc_from_pool(pool, request, size, is_whole, ret_address))
        return 0;
    return berth__pool_grow(pool, request, size, is_whole || is_captured, is_captured, ret_address);
}

/* What no device has is the driver's to refuse: neither rounding nor any sum of ours may wrap. */
static inline bool is_size(uint64_t size)
{
    return size - 1 < INT64_MAX - BERTH_GRANULE;
}

int berth__pool_alloc(const struct berth_pool_request *request, uintptr_t *ret_address)
{
    bool is_whole = berth__pool_is_whole(request->size);
    bool is_captured = berth__device_capturing();

    if (BERTH_UNLIKELY(!is_size(request->size)) || berth__pool_disabled())
        return BERTH_POOL_FORWARD;
    if (berth__pool_plan_exists() && !is_captured && berth__pool_plan_alloc(request, ret_address))
        return 0;
    if (BERTH_LIKELY(!is_captured && alloc_cached(request, is_whole, ret_address)))
        return 0;
    return alloc_slowly(request, is_whole, is_captured, ret_address);
}

/* A block on its way out. From leave_begin() to leave_end() it belongs to the thread that frees. */
struct leave {
    berth_free_async_function in_order; /* NULL: by cuMemFree */
    berth_cu_stream stream;             /* for `in_order` */
    struct berth_block *block;
    struct berth_pool *pool;
    berth_cu_context context;
    uint64_t epoch; /* blocks that waited until now are idle after a synchronisation */
    bool is_later;  /* who frees is owed no synchronisation */
    bool to_driver; /* never enters the cache: its segment is freed */
};

/* What `address` is when no block was seen to start there. Takes the lock of the pool it lies in.
 */
static int find_block(uintptr_t address, struct berth_block **ret)
{
    struct berth_segment *segment = berth__page_map_find(address);
    struct berth_pool *pool = segment ? segment->pool : NULL;
    struct berth_block *block = NULL;
    int r = BERTH_POOL_FORWARD;

    if (!pool)
        return BERTH_POOL_FORWARD;
    berth__pool_lock(pool);
    if (berth__page_map_find(address) == segment) {
        block = berth__segment_block(segment, address);
        r = block && berth__block_address(block) == address ? 0 : -EINVAL;
    }
    berth__pool_unlock(pool);
    if (r == 0)
        *ret = block;
    return r;
}

/*
 * Takes the block that starts at `address` from LIVE to LEAVING. From here on a second free of it
 * is refused, and its fields are the caller's. No lock: the exchange decides between two frees, and
 * a record that has become another block's since it was found has another key.
 */
static int leave_begin(uintptr_t address, struct leave *leave)
{
    struct berth_block *block =
        (address & BERTH_BLOCK_STATE_MASK) == 0 ? berth__block_index_peek(address) : NULL;
    int r;

    if (BERTH_UNLIKELY(!block)) {
        r = find_block(address, &block);
        if (r != 0)
            return r;
    }
    if (!berth__block_move(block, address, BERTH_BLOCK_LIVE, BERTH_BLOCK_LEAVING))
        return -EINVAL;
    leave->block = block;
    leave->pool = block->pool;
    leave->context = atomic_load_explicit(&leave->pool->context, memory_order_relaxed);
    if (block->is_whole)
        berth__pool_end_promise(leave->pool);
    leave->to_driver =
        block->is_whole && (atomic_load_explicit(&block->flags, memory_order_relaxed) != 0 ||
                            (leave->in_order && !leave->is_later) || berth__device_capturing());
    return 0;
}

/*
 * With the lock held: whether there is still something to free. If not, the context was destroyed
 * meanwhile, and the record, which nobody else knows any more, is returned.
 */
static bool leave_is_current(const struct leave *leave)
{
    if (berth__block_state(leave->block) == BERTH_BLOCK_LEAVING)
        return true;
    berth__block_delete(&leave->pool->block_slab, leave->block);
    return false;
}

/* With the pool's lock held. */
static void leave_count(struct berth_block *block)
{
    berth__pool_class_leave(block);
    berth__cache_count_free(block->pool, (enum berth_tag)block->tag, block->requested, block->size);
    berth__pool_site_leave(block);
    if (atomic_exchange_explicit(&block->flags, 0, memory_order_relaxed) & BERTH_BLOCK_SYNC_MEMOPS)
        block->segment->sync_memops_blocks--;
}

/* Once the driver has the memory back, anybody may be given the same address. */
static int leave_hide(const struct leave *leave)
{
    int r = BERTH_POOL_FORWARD;

    berth__pool_lock(leave->pool);
    if (leave_is_current(leave)) {
        berth__segment_unmap(leave->block->segment);
        r = 0;
    }
    berth__pool_unlock(leave->pool);
    return r;
}

static int leave_to_driver(const struct leave *leave)
{
    struct berth_block *block = leave->block;
    struct berth_segment *segment, *other = NULL;
    uintptr_t address = berth__block_address(block);
    int r = leave_hide(leave);

    if (r != 0)
        return r;
    if (leave->in_order)
        atomic_fetch_add(&leave->pool->given_in_order, block->size);
    r = leave->in_order ? berth__device_error(leave->in_order(address, leave->stream))
                        : berth__device_free(leave->context, address);
    berth__pool_lock(leave->pool);
    if (leave_is_current(leave)) {
        segment = block->segment;
        if (r < 0) {
            /* The driver kept it, so nobody else was given the address, and the nodes exist. */
            berth__segment_map(segment, &other);
            berth__block_set_state(block, BERTH_BLOCK_LIVE);
        } else {
            berth__pool_forget_segment(leave->pool, segment);
            leave_is_current(leave); /* it is not: returns the record */
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
            berth__block_set_state(block, BERTH_BLOCK_LIVE);
        } else {
            leave_count(block);
            block->id = pool->wait_epoch;
            block->waiting = pool->waiting;
            berth__block_set_state(block, BERTH_BLOCK_WAITING);
            pool->waiting = block;
        }
    }
    berth__pool_unlock(pool);
    return r;
}

/* A capture was begun just now: freeing may be allowed then, a synchronisation is not. */
static int leave_in_new_capture(const struct leave *leave)
{
    return leave->block->is_whole ? leave_to_driver(leave) : leave_in_capture(leave);
}

/*
 * Before a synchronisation: takes the number up to which blocks that wait are idle after it. Those
 * of this pool that began to wait at a higher one wait for the next. 0 when none waits.
 */
static uint64_t epoch_begin(struct berth_pool *pool)
{
    uint64_t epoch = 0;

    if (BERTH_LIKELY(!atomic_load_explicit(&pool->waiting, memory_order_relaxed)))
        return 0;
    berth__pool_lock(pool);
    epoch = pool->wait_epoch++;
    berth__pool_unlock(pool);
    return epoch;
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

/*
 * Keeps a block whose device is idle in the calling thread's cache. False when it is not for that:
 * larger than the cache, or not what a request like the last one would look for.
 */
static bool leave_to_cache(const struct leave *leave)
{
    uint64_t limit = berth__cache_limit(berth__option(BERTH_OPTION_THREAD_CACHE));
    struct berth_block *block = leave->block;
    struct berth_pool *pool = leave->pool;
    struct berth_cache *cache;
    bool is_kept, is_full;

    if (block->size > berth__cache_block_max(limit) || pool->is_planned ||
        !berth__pool_is_exact(block) ||
        atomic_load_explicit(&block->flags, memory_order_relaxed) != 0)
        return false;
    cache = berth__cache_of(pool);
    if (!cache)
        return false;
    berth__cache_lock(cache);
    is_kept = berth__cache_is_open(pool) && berth__block_state(block) == BERTH_BLOCK_LEAVING;
    if (is_kept) {
        enum berth_tag tag;
        uint64_t requested = block->requested;
        berth_site_id site = block->site;

        berth__pool_class_leave(block);
        tag = (enum berth_tag)block->tag;
        is_kept = berth__cache_put(cache, block);
        if (is_kept)
            berth__stats_part_free(&cache->part, tag, requested, block->size);
        if (BERTH_UNLIKELY(site != 0) && is_kept)
            berth__pool_site_leave_slowly(block, site, requested);
    }
    is_full = cache->bytes > limit;
    berth__cache_unlock(cache);
    if (BERTH_UNLIKELY(is_full)) {
        berth__pool_lock(pool);
        berth__cache_trim(cache, limit / 2);
        berth__pool_unlock(pool);
    }
    return is_kept;
}

static inline __attribute__((always_inline)) int leave_by_sync(struct leave *leave)
{
    uint64_t lost;
    int r;

    leave->epoch = epoch_begin(leave->pool);
    lost = berth__order_lost(leave->context);
    r = berth__order_sync(leave->context);
    if (BERTH_UNLIKELY(lost > 0) && r == 0)
        berth__order_synced(leave->context, lost);
    if (BERTH_UNLIKELY(r != 0 && berth__device_speaks_of_capture(r)))
        return leave_in_new_capture(leave);
    if (BERTH_LIKELY(r == 0 && leave->epoch == 0 && leave_to_cache(leave)))
        return 0;
    berth__pool_lock(leave->pool);
    if (leave_is_current(leave)) {
        if (r < 0) {
            berth__block_set_state(leave->block, BERTH_BLOCK_LIVE);
        } else {
            leave_count(leave->block);
            berth__pool_put(leave->pool, leave->block);
            if (leave->epoch > 0)
                berth__pool_settle(leave->pool, leave->epoch);
        }
    }
    berth__pool_unlock(leave->pool);
    return r;
}

/* Whether somebody would be waited for who need not be: the driver has its order for the block. */
static bool would_wait(const struct leave *leave)
{
    return leave->is_later && leave->in_order && leave->block->is_whole &&
           !(berth__lazy_is_possible(leave->context, true) &&
             berth__lazy_has_room(leave->pool, leave->block->size));
}

/* A block that is to be cached, once the device is done with it. */
static inline int leave_to_pool(struct leave *leave)
{
    int r;

    if (would_wait(leave))
        return leave_to_driver(leave);
    if (!berth__lazy_is_possible(leave->context, leave->is_later))
        return leave_by_sync(leave);
    r = berth__lazy_free(leave->block, !leave->is_later);
    return BERTH_UNLIKELY(r != 0 && berth__device_speaks_of_capture(r))
               ? leave_in_new_capture(leave)
               : r;
}

/* The same for one that is marked for synchronous copies. */
static __attribute__((cold, noinline)) int leave_marked(struct leave *leave, uintptr_t address)
{
    int r;

    berth__pool_unmark(leave->block);
    r = leave_to_pool(leave);
    if (r < 0)
        berth__pool_mark_again(address);
    return r;
}

static int free_block(uintptr_t address, struct leave *leave)
{
    int r;

    if (berth__pool_disabled())
        return BERTH_POOL_FORWARD;
    r = leave_begin(address, leave);
    if (r != 0)
        return r;
    /* Where nothing is freed but such blocks, nothing else ends what a capture left behind. */
    if (BERTH_UNLIKELY(leave->to_driver && !leave->is_later) &&
        atomic_load_explicit(&leave->pool->waiting, memory_order_relaxed))
        berth__pool_settle_waiting(leave->pool);
    if (leave->to_driver)
        return leave_to_driver(leave);
    if (berth__device_capturing())
        return leave_in_capture(leave);
    if (BERTH_UNLIKELY(atomic_load_explicit(&leave->block->flags, memory_order_relaxed) &
                       BERTH_BLOCK_SYNC_MEMOPS))
        return leave_marked(leave, address);
    return leave_to_pool(leave);
}

int berth__pool_free(uintptr_t address)
{
    struct leave leave = {0};

    return free_block(address, &leave);
}

int berth__pool_free_later(uintptr_t address, berth_free_async_function function,
                           berth_cu_stream stream)
{
    struct leave leave = {.in_order = function, .stream = stream, .is_later = true};

    return free_block(address, &leave);
}
