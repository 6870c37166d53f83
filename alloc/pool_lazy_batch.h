/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch of blocks that were freed and wait for one point in the work of their context: how blocks
 * come into it, who works on it, and where they go when the point has passed. When one is closed
 * and who waits for it is decided in alloc/pool_lazy.c.
 *
 * A batch belongs to its pool's list. From _begin() or _take_oldest() until _settle() or _end() it
 * is busy: the calling thread alone works on it, without a lock; blocks that wait in it may still
 * be taken out by berth__lazy_remove() and berth__lazy_drop().
 */
#ifndef BERTH_ALLOC_POOL_LAZY_BATCH_H
#define BERTH_ALLOC_POOL_LAZY_BATCH_H

#include "alloc/pool_lazy.h"
#include "alloc/types.h"

struct berth_cache;

/*
 * So many bytes of a small pool may wait while the driver is asked for more: without any room a
 * thread would wait for the device at each batch in a pool that is as large as what lives in it.
 */
#define BERTH_LAZY_WAIT_LEAST (24 * BERTH_MIB)
/*
 * A program that frees and allocates the same few large blocks would pay for a point each time. So
 * after some batches in turn that were closed with less than this number of blocks, twice as much
 * may wait, and the driver is asked for that much more, once: it costs what the points cost until
 * then. Only in a pool that is, with this, no larger than what may wait: a pool with much in it is
 * not to have more than lives there.
 */
#define BERTH_LAZY_BLOCKS_FEW 128

/* With the pool's lock held: `list` joins the batch. */
void berth__lazy_batch_add(struct berth_pool *pool, struct berth_lazy_batch *batch,
                           struct berth_block *list);
/* With the pool's lock held: the blocks, linked by `waiting`, are the caller's. */
struct berth_block *berth__lazy_batch_empty(struct berth_pool *pool,
                                            struct berth_lazy_batch *batch);
/* With the pool's lock held: unlists a batch that nobody works on; the caller ends its point. */
struct berth_order_point *berth__lazy_batch_delete(struct berth_pool *pool,
                                                   struct berth_lazy_batch *batch);

/*
 * A new batch of what is open in one cache, or in all for NULL; busy, because it has no point yet.
 * NULL without memory, or without blocks where `may_be_empty` is false.
 */
struct berth_lazy_batch *berth__lazy_batch_begin(struct berth_pool *pool, struct berth_cache *only,
                                                 bool may_be_empty);
/*
 * The oldest batch, of any owner or only of `owner`, that has a point and that nobody works on;
 * busy from now on. NULL if there is none.
 */
struct berth_lazy_batch *berth__lazy_batch_take_oldest(struct berth_pool *pool,
                                                       const struct berth_cache *owner);
/* Makes the blocks of a busy batch that is done with ready for reuse, and deletes it; whether there
 * were any. */
bool berth__lazy_batch_settle(struct berth_pool *pool, struct berth_lazy_batch *batch);
/*
 * The batch is not busy any more, and waits for `point`, which becomes its own; NULL: for a later
 * one. `own`, if any, is a block that the caller holds LEAVING: it joins.
 */
void berth__lazy_batch_end(struct berth_pool *pool, struct berth_lazy_batch *batch,
                           struct berth_order_point *point, struct berth_block *own);
/* There was no point for a busy batch: its blocks wait as if they had been freed in a capture. */
void berth__lazy_batch_undo(struct berth_pool *pool, struct berth_lazy_batch *batch);
/* Everything in the batch, and `own`, is idle, because the context was synchronised. Either may be
 * NULL. */
void berth__lazy_batch_pass(struct berth_pool *pool, struct berth_lazy_batch *batch,
                            struct berth_block *own);

#endif
