/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread's open batch: what it has freed and for which no point was recorded yet. It lies in the
 * thread's cache, and is used under the lock of that; when its blocks become a batch of the pool's
 * is decided in alloc/pool_lazy.c.
 *
 * Where the device is quick, a thread need not make it one: it closes its cell itself, with a point
 * that has passed when it is asked about the first time, and has the blocks back. Meanwhile they
 * are in the cell's second list, on which the thread works without a lock; others may take blocks
 * out of it, as out of a busy batch.
 */
#ifndef BERTH_ALLOC_POOL_LAZY_CELL_H
#define BERTH_ALLOC_POOL_LAZY_CELL_H

#include "alloc/cache.h"

/* A cell is full when it has so many blocks: the driver's call is then shared by them. */
#define BERTH_LAZY_CELL_BLOCKS 256

/*
 * A block that the caller holds LEAVING waits in the calling thread's cell. False when that is
 * full, all of the pool's may have `most` bytes and have them, or no thread may keep anything.
 */
bool berth__lazy_cell_push(struct berth_cache *cache, struct berth_block *block, uint64_t most);

/* Open blocks: as of just now, where the lock of its cache is not held. */
static inline uint32_t berth__lazy_cell_count(const struct berth_cache *cache)
{
    return atomic_load_explicit(&cache->lazy.count, memory_order_relaxed);
}

/* Whether the cell has as many blocks as it may. */
static inline bool berth__lazy_cell_is_full(const struct berth_cache *cache)
{
    return berth__lazy_cell_count(cache) == BERTH_LAZY_CELL_BLOCKS;
}

/* With the lock of its cache held: empties the cell; the blocks are the caller's. */
struct berth_block *berth__lazy_cell_clear(struct berth_cache *cache);
/* The same with what its thread is closing, which has nothing then. */
void berth__lazy_cell_drop(struct berth_cache *cache);
/* With the lock of its cache held: forgets one block; whether it was there. */
bool berth__lazy_cell_remove(struct berth_cache *cache, const struct berth_block *block);
/* Takes a block out of a list that is linked by `waiting`; whether it was there. */
bool berth__lazy_list_remove(struct berth_block **list, const struct berth_block *block);

/* With the lock of its cache held: bytes of what is open, without what its thread is closing. */
uint64_t berth__lazy_cell_open(const struct berth_cache *cache);

/*
 * By the cache's own thread: what is open is now what it is closing. False where that is nothing,
 * or less than `least` bytes.
 */
bool berth__lazy_cell_detach(struct berth_cache *cache, uint64_t least);
/*
 * After that: the blocks are idle, and become the cache's where it takes them; else they are open
 * again. Whether any did.
 */
bool berth__lazy_cell_pass(struct berth_cache *cache);
/* Or: they are as open as they were. */
void berth__lazy_cell_attach(struct berth_cache *cache);

#endif
