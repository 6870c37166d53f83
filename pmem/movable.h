/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that may move, as their owners see them: how they are handed out, resized and taken back.
 * How they are moved is move.h's matter, and where they are residency.h's.
 *
 * Each has OS pages of its own: it is held at 16 KiB at least, and requests of less than an OS page
 * are not served here. Any thread; no lock of ours but the entry's (residency.h).
 */
#ifndef BERTH_PMEM_MOVABLE_H
#define BERTH_PMEM_MOVABLE_H

#include "pmem/residency.h"

/*
 * A block whose pages are in the tier now, aligned (a power of two) and zeroed if asked. NULL: the
 * tier has no room, is of a kind that serves none, or the request is too small: the tier itself may
 * still have a block that cannot move. In the last destructors of a thread jemalloc may answer with
 * memory outside every window.
 */
void *berth__movable_alloc(berth_tier_id tier, size_t size, size_t alignment, bool zero);

/* Takes back a block that the caller holds, and whose record it has taken away. */
void berth__movable_free(void *p, size_t held);

/*
 * While a block is held, nobody moves it, nor does its tier change; it is held for no longer than
 * it takes to change its record and the account. Returns the tier.
 */
berth_tier_id berth__movable_hold(const void *p);
void berth__movable_let_go(const void *p);

/* Of a held block: whether it may be resized where it is. Else its owner makes another one. */
bool berth__movable_can_resize(const void *p);
/* Of a held block: what it is held at now. */
void berth__movable_resized(const void *p, size_t held);

/* Gives the capacity of the tier back, or the twin. */
void berth__movable_leave_tier(berth_tier_id tier, void *twin, size_t held);
/*
 * Gives a twin on tmpfs or a disk whose block has moved other pages: those that the program has put
 * into a pipe, or into a socket with MSG_ZEROCOPY, are read there later, and must not get the bytes
 * of the next block. False: there is no room for others by now, and the twin cannot be used again.
 */
bool berth__movable_renew_twin(berth_tier_id tier, void *twin, size_t held);
/* The rest of freeing: of a block that is in the tier `word` says, when nobody moves it. */
void berth__movable_finish_free(void *p, size_t held, uint32_t word);

/* Has untouched ordinary memory, mapped at `address`, be the tier's. 0 or negative errno. */
int berth__movable_take_nodes(berth_tier_id tier, void *address, size_t size);

/* What addresses and sizes of blocks in the tier are multiples of. */
size_t berth__movable_granule(berth_tier_id tier);

/*
 * Whether the kernel has mappings left for one more block that is remapped: each has its own, and
 * without any the program could map nothing and start no thread. Such blocks have half of what a
 * process may have.
 */
bool berth__movable_may_remap(void);
/* How many such blocks there may be; 0 = as the kernel's limit says. Set by tests. */
extern _Atomic uint64_t berth__movable_remapped_max;

/* A block of the tier's own for another one's contents. NULL: no room. */
void *berth__movable_alloc_twin(berth_tier_id tier, size_t held, bool zero);

/* Whether pages of this kind are mapped shared, so that a block in it has a twin. */
bool berth__movable_has_twin(berth_tier_id tier);
/* Whether blocks that may move can be in the tier. */
bool berth__movable_can_be_in(berth_tier_id tier);

/* In a forked child whose tiers have copies of their own: the blocks follow. 0 or negative errno.
 */
int berth__movable_follow_copies(void);

/* Blocks that were asked for under a rule with `movable = yes` and are too small to move. */
uint64_t berth__movable_small_count(void);

#endif
