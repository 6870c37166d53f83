/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pool keeps where large blocks have driver allocations of their own (segments = own).
 *
 * An IPC handle names a driver allocation from its begin on, and any large block may be exported:
 * none is ever put anywhere but at the begin of one, and what is behind it stays unused. So a
 * program whose sizes vary would have one for each size that it ever asked for, several times what
 * lives. Three things bound that:
 *
 *  larger   a block takes an idle allocation that is larger than it needs, as long as all blocks
 *           in use hold no more than half as much as ever lived beyond what they need
 *  replace  before the pool has more than it may, idle allocations go back to the driver: those
 *           that are smaller than the new one first, as that serves what they did
 *  earn     a pool may have hardly more than ever lived at first. When it has to ask the driver
 *           for what it gave back a short while ago, it may have a little more from then on, up to
 *           the option `spare`: a program that repeats itself so gets what it needs to be left
 *           alone by the driver, if that is within the option, and no more of it
 *
 * Synchronization: the pool's lock.
 */
#ifndef BERTH_ALLOC_POOL_OWN_H
#define BERTH_ALLOC_POOL_OWN_H

#include <stdbool.h>
#include <stdint.h>

struct berth_block;
struct berth_pool;

/* So many sizes that went back to the driver are remembered. */
#define BERTH_OWN_GONE_MAX 256

/*
 * What the driver said is left of the device is taken for true for so long, less what the process
 * has had since: to ask costs a call, and what others do meanwhile is not worth one for each piece.
 */
#define BERTH_OWN_ASK_NS 100000000

struct berth_own {
    uint64_t earned; /* bytes that the pool may have beyond what ever lived */
    uint64_t room;   /* what could still be had when the pool had to grow... */
    uint64_t others; /* ...and what the process had of its devices then, but for the pool */
    uint64_t left;   /* what the driver answered last, */
    uint64_t used;   /* what the process had of its devices then, */
    int64_t asked;   /* and when: ns of the monotonic clock, 0 for never */
    uint64_t gone[BERTH_OWN_GONE_MAX];
    unsigned gone_count; /* of all; the newest is the one before this, round and round */
};

/* In the `rounding` of a block in use that holds more than its size needs. */
#define BERTH_OWN_LARGER 0x4000u

/* What it holds beyond that; a driver that was nearly full gave less, and no more than asked for.
 */
uint64_t berth__own_overhead(const struct berth_block *block);

/* A context's pool begins. */
void berth__own_begin(struct berth_pool *pool);
/* A segment of `size` bytes is on its way to the driver for the sake of another. */
void berth__own_note_gone(struct berth_pool *pool, uint64_t size);
/* With the lock held: whether a free block may serve a request of `size` that needs much less. */
bool berth__own_may_hold(const struct berth_pool *pool, const struct berth_block *block,
                         uint64_t size);

/*
 * Called without the lock, in the pool's context, before `need` bytes are asked of the driver:
 * gives back what is too much with them.
 */
void berth__own_make_room(struct berth_pool *pool, uint64_t need, bool is_whole);

#endif
