/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread's cache: free blocks of one pool that one thread hands out and takes back without the
 * pool's lock, and the counters of what it hands out.
 *
 * Blocks lie in bins, one for each exact size and kind, found by a hash: the last one freed is the
 * first one used. They are never cut or joined here. The option thread-cache bounds the bytes; what
 * is too much goes to the pool. The pool takes all blocks of all its caches before it asks the
 * driver for memory, when it gives memory back, and when its context is destroyed, so that what
 * threads keep is never what the program lacks. At a thread's end the cache is emptied; it serves
 * the next thread that needs one.
 *
 * What threads keep is not taken from them again and again while the pool is small: see
 * berth__cache_collect().
 *
 * Where memory is to be tight they keep little; but of what a thread frees and allocates again,
 * over and over, all, until somebody looks what the pool has: see alloc/pool_run.h.
 *
 * Synchronization: all fields by the cache's own lock, one word that its thread takes by an
 * exchange and that others want seldom. It ranks below the pool's lock. `next`, `is_owned` and
 * `records` by the pool's lock.
 */
#ifndef BERTH_ALLOC_CACHE_H
#define BERTH_ALLOC_CACHE_H

#include "alloc/block.h"
#include "alloc/pool_lazy.h"
#include "alloc/stats.h"

/* 32 sets of 4 bins: a size may lie in any bin of its set. */
#define BERTH_CACHE_SET_SHIFT 5
#define BERTH_CACHE_WAYS 4
#define BERTH_CACHE_BINS (BERTH_CACHE_WAYS << BERTH_CACHE_SET_SHIFT)

/* Numbers for blocks that a cache takes at once. */
#define BERTH_CACHE_IDS 4096

struct berth_cache_bin {
    uint64_t key; /* size held, and in the lowest bit the kind; meaningless while it is empty */
    struct berth_block *first;
};

/*
 * A run: blocks of one size that a thread takes from its pool in turn, while nothing else changes
 * what is free there. Put back, they would be cut again at the same places; so they need not be put
 * back as long as nobody looks. See alloc/pool_run.h. Only the cache's own thread reads or writes
 * it.
 */
struct berth_run {
    uint64_t size;     /* that the blocks hold; 0: there is no run */
    uint64_t first_id; /* of its first block; the others have higher ones */
    uint64_t changes;  /* of the pool, when its last block was taken */
    uint64_t returns;  /* how often all its blocks came back to be used again */
    bool is_whole;     /* the blocks have segments of their own */
};

struct berth_cache {
    atomic_int lock;
    bool is_owned;
    struct berth_pool *pool;
    struct berth_cache *next;           /* the pool's list, appended to only */
    struct berth_cache *next_of_thread; /* only the owner reads or writes it */
    uint64_t bytes;                     /* derived: of the blocks in the bins */
    uint64_t next_id, last_id;
    unsigned hand; /* the bin that is emptied next when there is too much */
    struct berth_stats_part part;
    struct berth_lazy_cell lazy; /* freed, and not known to be idle: see pool_lazy.h */
    struct berth_run run;
    struct berth_cache_bin bin[BERTH_CACHE_BINS];
    struct berth_slab_run records; /* for blocks cut for the thread; the first are behind this */
};

/* The calling thread's caches; only the thread itself reads or writes it. */
struct berth_cache_thread {
    struct berth_cache *last;  /* the one that was used last */
    struct berth_cache *first; /* of all */
    bool has_ended;            /* from here on the thread has no cache */
};

extern __thread struct berth_cache_thread berth__cache_thread
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* The calling thread's cache of a pool, or NULL when it can have none; the pool is not locked. */
struct berth_cache *berth__cache_find(struct berth_pool *pool);
/* The same, only if the thread has it already. */
struct berth_cache *berth__cache_peek(const struct berth_pool *pool);

static inline struct berth_cache *berth__cache_of(struct berth_pool *pool)
{
    struct berth_cache *cache = berth__cache_thread.last;

    return BERTH_LIKELY(cache && cache->pool == pool) ? cache : berth__cache_find(pool);
}

void berth__cache_wait(struct berth_cache *cache);

static inline void berth__cache_lock(struct berth_cache *cache)
{
    if (BERTH_UNLIKELY(atomic_exchange_explicit(&cache->lock, 1, memory_order_acquire) != 0))
        berth__cache_wait(cache);
}

static inline void berth__cache_unlock(struct berth_cache *cache)
{
    atomic_store_explicit(&cache->lock, 0, memory_order_release);
}

static inline uint64_t berth__cache_key(uint64_t held, bool is_whole)
{
    return held | is_whole;
}

/* The first of the bins where a size may lie. */
static inline struct berth_cache_bin *berth__cache_set(struct berth_cache *cache, uint64_t key)
{
    uint64_t hash = key * 0x9e3779b97f4a7c15u;

    return &cache->bin[(hash >> (64 - BERTH_CACHE_SET_SHIFT)) * BERTH_CACHE_WAYS];
}

/* With the lock held: a block of exactly that size and kind, which stays in its bin, or NULL. */
static inline struct berth_block *berth__cache_first(struct berth_cache *cache, uint64_t key)
{
    struct berth_cache_bin *bin = berth__cache_set(cache, key);

    for (unsigned way = 0; way < BERTH_CACHE_WAYS; way++, bin++)
        if (bin->key == key && bin->first)
            return bin->first;
    return NULL;
}

/* The same, which is the caller's and still CACHED. */
static inline struct berth_block *berth__cache_take(struct berth_cache *cache, uint64_t key)
{
    struct berth_cache_bin *bin = berth__cache_set(cache, key);

    for (unsigned way = 0; way < BERTH_CACHE_WAYS; way++, bin++) {
        struct berth_block *block = bin->first;

        if (bin->key != key || !block)
            continue;
        bin->first = block->link;
        cache->bytes -= block->size;
        atomic_store_explicit(&cache->part.cached, cache->bytes, memory_order_relaxed);
        return block;
    }
    return NULL;
}

/*
 * With the lock held: keeps a block, which becomes CACHED. False when it is not for this cache: all
 * bins of its set have other sizes.
 */
bool berth__cache_put(struct berth_cache *cache, struct berth_block *block);

void berth__cache_more_ids(struct berth_cache *cache);

/* With the lock held: a number that no block had. */
static inline uint64_t berth__cache_id(struct berth_cache *cache)
{
    if (BERTH_UNLIKELY(cache->next_id == cache->last_id))
        berth__cache_more_ids(cache);
    return cache->next_id++;
}

/* What a cache may keep of the `limit` bytes of the option; the largest block among them. */
uint64_t berth__cache_limit(uint64_t limit);
uint64_t berth__cache_block_max(uint64_t limit);

/*
 * With the lock held, and the cache open: blocks whose device is idle, linked by `waiting`, become
 * the cache's where there is room and they are what a request like their last one would look for.
 * They may be in any state but FREE, and belong to the caller. Returns the bytes of those that were
 * taken; the others are left in the list.
 */
uint64_t berth__cache_keep(struct berth_cache *cache, struct berth_block **blocks);

/* Counts a block as freed, in the calling thread's part; with or without the pool's lock held. */
void berth__cache_count_free(struct berth_pool *pool, enum berth_tag tag, uint64_t requested,
                             uint64_t held);

/* With the pool's lock held: puts blocks into the pool until at most `bytes` are left. Whether any.
 */
bool berth__cache_trim(struct berth_cache *cache, uint64_t bytes);
/* The same for all caches of a pool, to nothing. */
bool berth__cache_flush(struct berth_pool *pool);
/*
 * With the pool's lock held, for a request of `size` bytes that the pool has nothing for: the same
 * with the calling thread's own cache, or else with the others'. Whether any.
 *
 * Threads that need as much as each other and find the pool empty would take it away from each
 * other for ever. So after some times the pool may ask the driver for more instead, each time for
 * up to some times as much as before, as long as it is with this no larger than what may wait for
 * the sake of few points. Only where frees are lazy.
 */
bool berth__cache_collect(struct berth_pool *pool, uint64_t size);
/* The same for what waits in others' open batches: whether it is theirs; and that it was taken. */
bool berth__cache_is_apart(const struct berth_pool *pool, uint64_t size);
void berth__cache_count_collection(struct berth_pool *pool);
/*
 * With the pool's lock held, in a pool with a range, before a place is looked for. A large block
 * goes where there is room at the moment, and stays there; small ones that a thread keeps lie
 * between free ones and make gaps look smaller than they are. So where no free block is just as
 * large as the request, the calling thread's own cache is emptied first.
 */
void berth__cache_join(struct berth_pool *pool, uint64_t size);
/*
 * With the pool's lock held: no cache of the pool keeps anything until they are opened as often.
 * Who looks, by berth__cache_is_open(), holds the lock of a cache; what was done to the pool while
 * they were shut is seen by those who find them open again.
 */
void berth__cache_shut(struct berth_pool *pool);
void berth__cache_open(struct berth_pool *pool);
/*
 * With the pool's lock held, before anybody looks what is free in it: puts back what the caches
 * keep of runs beyond what they may keep of other blocks.
 */
void berth__cache_tighten_slowly(struct berth_pool *pool);
/* What the caches of a pool keep. */
uint64_t berth__cache_bytes(const struct berth_pool *pool);

#endif
