/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/cache.h"

#include "alloc/pause.h"
#include "alloc/pool_parts.h"
#include "alloc/pool_run.h"

#include <pthread.h>

__thread struct berth_cache_thread berth__cache_thread;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static bool has_key;

/*
 * Another thread has the lock, for some instructions, unless it was preempted there: then the
 * processor must be left to it, whatever the priorities are.
 */
void berth__cache_wait(struct berth_cache *cache)
{
    for (unsigned round = 0;; round++) {
        for (unsigned i = 0; i < 200; i++) {
            if (atomic_load_explicit(&cache->lock, memory_order_relaxed) == 0 &&
                atomic_exchange_explicit(&cache->lock, 1, memory_order_acquire) == 0)
                return;
#if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
#endif
        }
        if (round > 0)
            berth__pause(50000);
    }
}

void berth__cache_more_ids(struct berth_cache *cache)
{
    cache->next_id = berth__block_ids(BERTH_CACHE_IDS);
    cache->last_id = cache->next_id + BERTH_CACHE_IDS;
}

/* The thread ends: its blocks go to the pools, and the next thread may have its caches. */
static void thread_ends(void *argument)
{
    struct berth_cache_thread *thread = argument;
    struct berth_cache *next;

    thread->has_ended = true;
    thread->last = NULL;
    for (struct berth_cache *cache = thread->first; cache; cache = next) {
        next = cache->next_of_thread;
        if (berth__pool_disabled())
            continue;
        berth__pool_lock(cache->pool);
        berth__cache_trim(cache, 0);
        for (unsigned tag = 0; tag < BERTH_TAG_COUNT; tag++)
            berth__stats_part_publish(&cache->part, (enum berth_tag)tag);
        cache->is_owned = false;
        berth__pool_unlock(cache->pool);
    }
    thread->first = NULL;
}

static void make_key(void)
{
    has_key = pthread_key_create(&key, thread_ends) == 0;
}

struct berth_cache *berth__cache_peek(const struct berth_pool *pool)
{
    struct berth_cache *cache = berth__cache_thread.first;

    while (cache && cache->pool != pool)
        cache = cache->next_of_thread;
    return cache;
}

/* A cache has an OS page; the thread's first records lie in what is left of it. */
#define CACHE_SIZE ((size_t)1 << 12)
_Static_assert(sizeof(struct berth_cache) < CACHE_SIZE, "there is room for records");
_Static_assert(sizeof(struct berth_cache) % _Alignof(struct berth_block) == 0, "they are aligned");

static struct berth_slab_run records_of(struct berth_cache *cache)
{
    const size_t size = sizeof(struct berth_block);
    char *begin = (char *)(cache + 1);

    return (struct berth_slab_run){begin, begin + (CACHE_SIZE - sizeof(*cache)) / size * size};
}

/* One that nobody has, or a new one; the pool is locked. */
static struct berth_cache *cache_make(struct berth_pool *pool)
{
    struct berth_cache *cache = pool->caches;

    while (cache && cache->is_owned)
        cache = cache->next;
    if (!cache) {
        cache = berth__slab_map(CACHE_SIZE);
        if (!cache)
            return NULL;
        cache->records = records_of(cache);
        cache->pool = pool;
        cache->next = pool->caches;
        pool->caches = cache;
        berth__stats_part_add(&cache->part,
                              atomic_load_explicit(&pool->tier, memory_order_relaxed));
    }
    cache->is_owned = true;
    cache->run.size = 0;
    return cache;
}

struct berth_cache *berth__cache_find(struct berth_pool *pool)
{
    struct berth_cache_thread *thread = &berth__cache_thread;
    struct berth_cache *cache = berth__cache_peek(pool);

    if (!cache && !thread->has_ended) {
        pthread_once(&once, make_key);
        /* The library may allocate for this: no lock is held. */
        if (!has_key || pthread_setspecific(key, thread) != 0)
            return NULL;
        berth__pool_lock(pool);
        cache = cache_make(pool);
        berth__pool_unlock(pool);
        if (cache) {
            cache->next_of_thread = thread->first;
            thread->first = cache;
        }
    }
    if (cache)
        thread->last = cache;
    return cache;
}

/* The bin that a block is to go into, or NULL when all of its set have other sizes. */
static struct berth_cache_bin *bin_for(struct berth_cache *cache, const struct berth_block *block)
{
    uint64_t block_key = berth__cache_key(block->size, block->is_whole);
    struct berth_cache_bin *set = berth__cache_set(cache, block_key);
    struct berth_cache_bin *bin = NULL;

    for (unsigned way = 0; way < BERTH_CACHE_WAYS; way++) {
        if (set[way].key == block_key)
            return &set[way];
        if (!set[way].first)
            bin = &set[way];
    }
    if (bin)
        bin->key = block_key;
    return bin;
}

static inline void bin_push(struct berth_cache_bin *bin, struct berth_block *block)
{
    berth__block_set_state(block, BERTH_BLOCK_CACHED);
    __atomic_store_n(&block->link, bin->first, __ATOMIC_RELAXED);
    bin->first = block;
}

static void set_bytes(struct berth_cache *cache, uint64_t bytes)
{
    cache->bytes = bytes;
    atomic_store_explicit(&cache->part.cached, bytes, memory_order_relaxed);
}

bool berth__cache_put(struct berth_cache *cache, struct berth_block *block)
{
    struct berth_cache_bin *bin = bin_for(cache, block);

    if (!bin)
        return false;
    bin_push(bin, block);
    set_bytes(cache, cache->bytes + block->size);
    return true;
}

/*
 * Where blocks of all sizes are neighbours, a large one that a thread keeps cannot join those
 * beside it: it would cost more memory than it saves time.
 */
#define AMONG_ALL_MAX (64 * BERTH_KIB)
/*
 * And all that a thread keeps there. Replayed: with some MiB of small blocks that nobody asks for
 * again, here and there between large ones, a pool of 1 GiB needs up to a twelfth more.
 */
#define AMONG_ALL_BYTES (256 * BERTH_KIB)

uint64_t berth__cache_block_max(uint64_t limit)
{
    return berth__option(BERTH_OPTION_SEGMENTS) != BERTH_SEGMENTS_OWN && limit > AMONG_ALL_MAX
               ? AMONG_ALL_MAX
               : limit;
}

uint64_t berth__cache_limit(uint64_t limit)
{
    return berth__option(BERTH_OPTION_SEGMENTS) != BERTH_SEGMENTS_OWN && limit > AMONG_ALL_BYTES
               ? AMONG_ALL_BYTES
               : limit;
}

/*
 * Whether the blocks are the cache's run and nothing else: then it may keep all of them. Where they
 * are of its size, and not all of it, none: so that the next run is made of all.
 */
static bool run_comes(struct berth_cache *cache, const struct berth_block *blocks, uint64_t *limit,
                      uint64_t *block_max)
{
    uint64_t count = 0;
    bool is_all = true;

    if (!berth__run_is_on(cache))
        return false;
    for (const struct berth_block *block = blocks; block; block = block->waiting) {
        if (block->size != cache->run.size || block->is_whole != cache->run.is_whole)
            return false;
        is_all &= berth__block_time(block) >= cache->run.first_id;
        count++;
    }
    if (is_all && berth__run_return(cache, count, *block_max))
        return false;
    *limit = *block_max = is_all ? UINT64_MAX : 0;
    return is_all;
}

uint64_t berth__cache_keep(struct berth_cache *cache, struct berth_block **blocks)
{
    uint64_t limit = berth__option(BERTH_OPTION_THREAD_CACHE), block_max, room, kept = 0;
    uint64_t size = 0, requested = 0; /* of the last block that was kept, in `bin` */
    struct berth_cache_bin *bin = NULL;
    struct berth_block *block;
    bool is_whole = false, is_run;

    /* What waited so that points are few is to come back as it went. */
    if (limit > 0 && limit < berth__lazy_room())
        limit = berth__lazy_room();
    limit = berth__cache_limit(limit);
    block_max = berth__cache_block_max(limit);
    is_run = run_comes(cache, *blocks, &limit, &block_max);
    room = limit > cache->bytes ? limit - cache->bytes : 0;
    while ((block = *blocks)) {
        /* Many are like the one before, and whoever allocates waits for all of them. */
        bool is_like = bin && block->size == size && block->requested == requested &&
                       block->is_whole == is_whole;
        struct berth_block *next = block->waiting;

        if (!is_like && block->size <= block_max && berth__pool_is_exact(block)) {
            bin = bin_for(cache, block);
            size = block->size;
            requested = block->requested;
            is_whole = block->is_whole;
            is_like = bin != NULL;
        }
        if (is_like && size <= room - kept) {
            bin_push(bin, block);
            kept += size;
            *blocks = next;
        } else {
            blocks = &block->waiting;
        }
    }
    set_bytes(cache, cache->bytes + kept);
    if (is_run && kept > 0)
        berth__run_keep(cache->pool);
    return kept;
}

void berth__cache_count_free(struct berth_pool *pool, enum berth_tag tag, uint64_t requested,
                             uint64_t held)
{
    struct berth_cache *cache = berth__cache_thread.last;

    if (!cache || cache->pool != pool)
        cache = berth__cache_peek(pool);
    if (!cache) {
        berth__stats_free(atomic_load_explicit(&pool->tier, memory_order_relaxed), tag, requested,
                          held);
        return;
    }
    berth__cache_lock(cache);
    berth__stats_part_free(&cache->part, tag, requested, held);
    berth__cache_unlock(cache);
}

static void empty_bin(struct berth_cache *cache, struct berth_cache_bin *bin)
{
    struct berth_block *block = bin->first, *next;

    for (; block; block = next) {
        next = block->link;
        cache->bytes -= block->size;
        berth__pool_put(cache->pool, block);
    }
    bin->first = NULL;
}

static void trim_locked(struct berth_cache *cache, uint64_t bytes)
{
    for (unsigned i = 0; i < BERTH_CACHE_BINS && cache->bytes > bytes; i++) {
        empty_bin(cache, &cache->bin[cache->hand]);
        cache->hand = (cache->hand + 1) % BERTH_CACHE_BINS;
    }
    atomic_store_explicit(&cache->part.cached, cache->bytes, memory_order_relaxed);
}

bool berth__cache_trim(struct berth_cache *cache, uint64_t bytes)
{
    bool had_any;

    berth__cache_lock(cache);
    had_any = cache->bytes > bytes;
    trim_locked(cache, bytes);
    berth__cache_unlock(cache);
    return had_any;
}

/*
 * Whoever keeps blocks of a run under the cache's lock after it was had here says so again: it is
 * seen the next time.
 */
void berth__cache_tighten_slowly(struct berth_pool *pool)
{
    uint64_t limit = berth__cache_limit(berth__option(BERTH_OPTION_THREAD_CACHE));
    uint64_t block_max = berth__cache_block_max(limit);

    atomic_store_explicit(&pool->has_runs, false, memory_order_relaxed);
    for (struct berth_cache *cache = pool->caches; cache; cache = cache->next) {
        berth__cache_lock(cache);
        for (unsigned i = 0; i < BERTH_CACHE_BINS; i++)
            if (cache->bin[i].first && cache->bin[i].first->size > block_max)
                empty_bin(cache, &cache->bin[i]);
        trim_locked(cache, limit);
        berth__cache_unlock(cache);
    }
}

bool berth__cache_flush(struct berth_pool *pool)
{
    bool had_any = false;

    for (struct berth_cache *cache = pool->caches; cache; cache = cache->next)
        had_any |= berth__cache_trim(cache, 0);
    return had_any;
}

/*
 * So often threads take from each other before the pool may be larger for it, and how much larger.
 * Seldom, because records that have gone from thread to thread lie among the other one's for good.
 */
#define COLLECTIONS_MAX 2
#define APART_GROWTH 4
#define APART_LEAST (64 * BERTH_MIB)

bool berth__cache_is_apart(const struct berth_pool *pool, uint64_t size)
{
    uint64_t room = berth__lazy_room(), apart;

    /* Where each free synchronises, memory would buy nothing. */
    if (berth__option(BERTH_OPTION_FREE) != BERTH_FREE_LAZY)
        return false;
    apart = atomic_load_explicit(&pool->apart, memory_order_relaxed);
    if (apart < APART_LEAST)
        apart = APART_LEAST;
    room = room < apart ? room : apart;
    return size <= room && berth__pool_reserved(pool) <= room - size;
}

void berth__cache_count_collection(struct berth_pool *pool)
{
    uint64_t apart;

    if (++pool->collections < COLLECTIONS_MAX)
        return;
    pool->collections = 0;
    apart = atomic_load_explicit(&pool->apart, memory_order_relaxed) * APART_GROWTH;
    if (apart < APART_LEAST * APART_GROWTH)
        apart = APART_LEAST * APART_GROWTH;
    if (apart <= berth__lazy_room())
        atomic_store_explicit(&pool->apart, apart, memory_order_relaxed);
}

bool berth__cache_collect(struct berth_pool *pool, uint64_t size)
{
    struct berth_cache *own = berth__cache_peek(pool);

    if (own && berth__cache_trim(own, 0))
        return true;
    if (berth__cache_is_apart(pool, size) || !berth__cache_flush(pool))
        return false;
    berth__cache_count_collection(pool);
    return true;
}

void berth__cache_join(struct berth_pool *pool, uint64_t size)
{
    struct berth_cache *own = berth__cache_peek(pool);
    const struct berth_block *block;

    if (!own || size <= AMONG_ALL_MAX)
        return;
    block = berth__free_set_fit(&pool->shared, size);
    if (!block || block->size != size)
        berth__cache_trim(own, 0);
}

/*
 * Whoever takes a cache's lock after the flush sees that it is shut: then no block of the pool is
 * CACHED, and none becomes so.
 */
void berth__cache_shut(struct berth_pool *pool)
{
    atomic_fetch_add_explicit(&pool->caches_shut, 1, memory_order_relaxed);
    berth__cache_flush(pool);
}

void berth__cache_open(struct berth_pool *pool)
{
    atomic_fetch_sub_explicit(&pool->caches_shut, 1, memory_order_release);
}

uint64_t berth__cache_bytes(const struct berth_pool *pool)
{
    uint64_t bytes = 0;

    for (const struct berth_cache *cache = pool->caches; cache; cache = cache->next)
        bytes += atomic_load_explicit(&cache->part.cached, memory_order_relaxed);
    return bytes;
}
