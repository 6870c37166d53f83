/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settling: a pool whose large blocks have segments alone (alloc/pool_alone.h) has blocks of all
 * sizes share one segment from then on.
 *
 * Where large blocks are alone, a program may go on asking the driver for ever, although one heap
 * would be hardly larger than what lives of it at once. Steps that come again in just the same
 * order are seen soon (alloc/pool_step.h); here nothing is asked of the order, nor that all goes
 * before it comes again. A pool settles when
 *
 *  - it has its *shape*: what one heap would have to have has not grown by a 64th while as many
 *    large blocks came as had come before;
 *  - the driver was asked for segments alone meanwhile, and goes on being asked;
 *  - a *rehearsal* went well, and one that is more exact after it. A rehearsal is a sketch
 *    (alloc/sketch.h) that begins when the pool is low, which is when about the least lives of
 *    large blocks that did since the pool has its shape. It is made of the free places in segments
 *    in which something lives, as they are then, and of room behind them; what comes from then on
 *    is placed in it as it would be in the pool if that had settled then. In the first one the room
 *    has no end, and shows what is needed. In the second one it has just the size that the segment
 *    is to have, because blocks that fit best lie elsewhere in a heap that ends.
 *
 * Blocks of 64 KiB and less are in no sketch, nor is it seen when others than large ones go that
 * were there before, so that what is rehearsed says little where much else lives beside large ones.
 *
 * When the pool is low again after that, idle segments go back, and the one segment is asked for
 * (alloc/pool_idle.h). Blocks that have a segment alone keep it; it is gathered as soon as they are
 * gone and the pool is low, as are segments that had to be asked for in between.
 *
 * It lasts until sharing is seen to cost something. After that, and after a rehearsal that showed
 * that one segment is too much, as many blocks have to come again as came before: each time twice
 * as many.
 *
 * Invariants: while it is settled, no new block is alone, and nothing is rehearsed; the segment
 * that it is to ask for makes the pool at most a 21st larger than what lived at most.
 *
 * Synchronization: the pool's lock.
 */
#ifndef BERTH_ALLOC_POOL_SETTLE_H
#define BERTH_ALLOC_POOL_SETTLE_H

#include "alloc/sketch.h"

/* Blocks that are larger are rehearsed; those of up to this size come from caches of threads. */
#define BERTH_REHEARSED_OVER ((uint64_t)64 << 10)

struct berth_settling {
    bool is_settled;
    uint64_t segment_size; /* is_settled: what is to be asked for; 0: it was */
    uint64_t entered;      /* large blocks so far */
    uint64_t shape;        /* bytes that one heap had to have when that last grew by a 64th */
    uint64_t shaped_at;    /* `entered` then, or when it was last seen that it would not do */
    uint64_t low;          /* the least bytes of large blocks that lived since */
    uint64_t asks;         /* segments alone that were asked for since, or since the rehearsal */
    bool is_rehearsing;
    struct berth_sketch rehearsal; /* off: without host memory for it */
    uint64_t begun_at;             /* `entered` then */
    uint64_t begun_low;            /* bytes of large blocks that lived then */
    uint64_t begun_height;         /* of the sketch then: the segments, and the room if it ends */
    uint64_t room;                 /* bytes behind the segments; 0: without end */
    uint64_t live_max;             /* the most bytes of large blocks that lived since */
    uint64_t others_max;           /* and of all others, when a large one came */
};

struct berth_pool;

/* A context's pool begins. */
void berth__settle_begin(struct berth_pool *pool);
/* The driver is asked for a segment alone. */
void berth__settle_ask(struct berth_pool *pool);
/* A large block came, of a name that no other has; one went. Its bytes are counted already. */
void berth__settle_enter(struct berth_pool *pool, uint64_t name, uint64_t size);
void berth__settle_leave(struct berth_pool *pool, uint64_t name);
/* The same of others, while it is rehearsed, and when one goes that came in a rehearsal. */
void berth__settle_enter_other(struct berth_pool *pool, uint64_t name, uint64_t size);
void berth__settle_leave_other(struct berth_pool *pool, uint64_t name);
/* Between two calls of the program, when is_scattered was set: takes the next step that is due. */
void berth__settle_look(struct berth_pool *pool);
/* Sharing costs something: it is over, if the pool was settled. */
void berth__settle_end(struct berth_pool *pool);
/* Whether what is idle has gone, or else a segment of `size` bytes is not too much beside it. */
bool berth__settle_has_room(const struct berth_pool *pool, uint64_t size);
/* Whether about the least lives that did since the pool has its shape. */
bool berth__settle_is_low(const struct berth_pool *pool);

#endif
