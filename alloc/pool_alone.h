/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which blocks share a segment where the option segments = shared lets all of them.
 *
 * A segment goes back to the driver only when nothing lives in it, so that a large block's place is
 * lost to the next large one for as long as any small block lives beside it. A block that has a
 * segment alone leaves nothing behind: what its kind needs is then what lives of it at once, and
 * what the driver rounds up. So large blocks are alone from the start, unless rounding costs more
 * than a 33rd of what lives; and more than sharing would. Where both cost too much, the largest are
 * alone, from the size on at which rounding costs no more than that: blocks of a few MiB, as most
 * weights are, lose the most by rounding. What each costs is measured:
 *
 *  rounding   what rounding all large blocks would have cost when the pool was fullest, whether
 *             they are alone or not
 *  excess     what sharing would have cost: how much higher than the most that lived of them a
 *             sketch of all large blocks is (alloc/sketch.h), be they alone or not. Or the most
 * that the pool had to have beyond what ever lived, because a large block found its memory in use
 * in parts. As more comes to live than ever, it may be too little again
 *
 * While large blocks are alone, a program that repeats itself may go on asking the driver: see
 * pool_settle.h for what becomes of that.
 *
 * Synchronization: the pool's lock, but for berth__alone_is().
 */
#ifndef BERTH_ALLOC_POOL_ALONE_H
#define BERTH_ALLOC_POOL_ALONE_H

#include "alloc/pool_parts.h"

/* Whether it may be. */
static inline bool berth__alone_is_large(uint64_t size)
{
    return size >= BERTH_ALONE_LEAST &&
           berth__option(BERTH_OPTION_SEGMENTS) == BERTH_SEGMENTS_SHARED;
}

/* Without the lock: whether a block of `size` bytes is to have a segment alone. */
static inline bool berth__alone_is(const struct berth_pool *pool, uint64_t size)
{
    return berth__alone_is_large(size) &&
           size >= atomic_load_explicit(&pool->alone_min, memory_order_relaxed);
}

/* Where rounding of a size is counted; what is not large has none. */
static inline unsigned berth__alone_octave(uint64_t size)
{
    return 63 - (unsigned)__builtin_clzll(size / BERTH_ALONE_LEAST | 1);
}

/* Whether large blocks are. */
static inline bool berth__alone_is_on(const struct berth_pool *pool)
{
    return atomic_load_explicit(&pool->alone_min, memory_order_relaxed) != UINT64_MAX;
}

void berth__alone_enter_slowly(struct berth_pool *pool, struct berth_block *block);
void berth__alone_leave_slowly(struct berth_pool *pool, struct berth_block *block);

/* What a block with a segment alone, where it could share one, holds beyond its size. */
static inline uint64_t berth__alone_overhead(const struct berth_block *block)
{
    return block->is_whole ? block->size - berth__size_round(block->requested) : 0;
}

/* In the `rounding` of a block that is counted; else it is 0. */
#define BERTH_ALONE_COUNTED 0x8000u
/* The `rounding` of one that is not, but is rehearsed; see pool_settle.h. */
#define BERTH_ALONE_REHEARSED 0x2000u

/* With the lock held: a block is about to become the program's, and all but that is written. */
static inline void berth__alone_enter(struct berth_pool *pool, struct berth_block *block)
{
    if (BERTH_UNLIKELY(berth__alone_is_large(block->size) ||
                       (block->is_whole && !berth__pool_is_exact(block)) ||
                       (pool->settling.is_rehearsing && block->size > BERTH_REHEARSED_OVER)))
        berth__alone_enter_slowly(pool, block);
}

/* It is nobody's any more, and its segment still that. */
static inline void berth__alone_leave(struct berth_pool *pool, struct berth_block *block)
{
    if (BERTH_UNLIKELY(block->rounding != 0))
        berth__alone_leave_slowly(pool, block);
}

/* Tests of what shares a segment forbid that any is alone. */
extern bool berth__alone_is_allowed;

/* A context's pool begins. */
void berth__alone_begin(struct berth_pool *pool);
/* More lives than ever before, with a block of `size` bytes that is about to. */
void berth__alone_note_peak(struct berth_pool *pool, uint64_t size);
/* A block of `size` bytes that is not alone makes the pool larger than all that ever lived. */
void berth__alone_note_excess(struct berth_pool *pool, uint64_t size, uint64_t excess);
/* Whether the sketch of all large blocks says that sharing would cost something. */
bool berth__alone_is_for_good(const struct berth_pool *pool);
/* Something that it depends on has changed. */
void berth__alone_decide(struct berth_pool *pool);

#endif
