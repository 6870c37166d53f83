/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pool keeps where large blocks have driver allocations of their own (segments = own).
 *
 * An IPC handle names a driver allocation from its begin on, and any large block may be exported:
 * none is ever put anywhere but at the begin of one, and what is behind it stays unused. So a
 * program whose sizes vary would have one for each size that it ever asked for, several times what
 * lives. Once the pool has as much more than ever lived as the option `spare` says, a block gets an
 * allocation that is up to twice as large as it asks for, before the driver is asked for another;
 * where there is none, or what it holds more may be lacked later on, those that were used least
 * recently go back first.
 *
 * The option is twice what ever lived by default: replayed, with so much 34 of 36 programs that do
 * all they do again and again ask the driver for nothing then, with as much as ever lived 26, and
 * with a quarter of it 13.
 *
 * At first a pool may have less more, and each time that it had to grow although less lived than
 * once before, a little: a program that repeats itself so gets what it needs to be left alone by
 * the driver, if that is within the option, and no more of it.
 *
 * Synchronization: the pool's lock.
 */
#ifndef BERTH_ALLOC_POOL_OWN_H
#define BERTH_ALLOC_POOL_OWN_H

#include "alloc/pool_alone.h"

/* In the `rounding` of a block in use that holds more than its size needs. */
#define BERTH_OWN_LARGER 0x4000u

/* What it holds beyond that; a driver that was nearly full gave less, and no more than asked for.
 */
static inline uint64_t berth__own_overhead(const struct berth_block *block)
{
    uint64_t held = berth__pool_held_for(block->requested, true);

    return block->size > held ? block->size - held : 0;
}

/*
 * Called without the lock, in the pool's context, before `need` bytes are asked of the driver for a
 * request of `size`. True: a block that was there is handed out instead. False: the driver is to be
 * asked, and what is too much with that was given back.
 */
bool berth__own_make_room(struct berth_pool *pool, const struct berth_pool_request *request,
                          uint64_t size, uint64_t need, bool is_whole, uintptr_t *ret_address);

#endif
