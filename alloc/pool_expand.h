/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Expandable segments: all blocks of a pool in one range of addresses (alloc/range.h).
 *
 * A request is put into the smallest gap that has room for it, a gap being free blocks and holes
 * side by side, whether there is memory behind them or not; the end of the range is the largest
 * one. So addresses are used like those of an allocator that has one segment and moves nothing.
 * While the pool has less than the largest sum of live blocks so far and a little more, the driver
 * is asked for these pages; from there on they are taken away from free blocks, the largest first:
 * memory moves to where it is needed, and a program that repeats itself soon finds everything in
 * its place.
 *
 * What it costs: no block has a legacy IPC handle; and what is freed while a capture is open can be
 * had again only when it has ended, because no call of the driver takes pages away that waits for
 * the work that uses them.
 */
#ifndef BERTH_ALLOC_POOL_EXPAND_H
#define BERTH_ALLOC_POOL_EXPAND_H

#include "alloc/pool_parts.h"

/*
 * A block at an address of the pool's range, which is made if there is none yet. Called without the
 * lock, in the pool's context. `is_tight`: the driver has no more, so that all memory is to come
 * from free blocks as far as they have it. -ENOMEM, -ENOSPC, -EDQUOT: out of memory; -EAGAIN: the
 * pool's context is no more; anything else: this cannot be done here.
 */
int berth__pool_expand(struct berth_pool *pool, const struct berth_pool_request *request,
                       uint64_t size, bool is_tight, uintptr_t *ret_address);

/* Gives free pages of at least `need` bytes back to the driver, if there are so many; the bytes. */
uint64_t berth__pool_shrink(struct berth_pool *pool, uint64_t need);

/* Called with the lock held: the range's segment is being forgotten. */
void berth__pool_forsake_range(struct berth_pool *pool, struct berth_segment *segment);
/* Called without the lock: ends ranges that were forsaken. */
void berth__pool_bury_ranges(struct berth_pool *pool);

#endif
