/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The residency map: where the pages of blocks that may move are now.
 *
 * Blocks of rules with `movable = yes` have addresses of the movable home (window.h), behind which
 * there is ordinary memory at first: the *home backing*. A block that lives in another tier has its
 * entry say so:
 *
 *   - in a file or dax tier it has a *twin*: a block of that tier's own arenas, as large, whose
 *     pages are mapped at the block's address too. Nobody uses the twin's own address.
 *   - in a numa tier, or back in ordinary memory after it was in a file, its pages are anonymous
 *     memory other than the home backing: *remapped*.
 *
 * Before jemalloc sees the addresses free again the home backing is restored, which reads as zero.
 *
 * There is one entry for each OS page of the window, of which that of a block's first page is used.
 *
 * Synchronisation: `word` is a lock of its own, held for a few instructions, or by a resize for one
 * call of jemalloc's. A block that is being moved (MOVING) may be freed meanwhile: its owner then
 * only says so (FREED), and whoever moves it frees it. The other fields are written under the lock
 * by who moves or owns the block. A forked child finds both taken away from the blocks of threads
 * that it has not (move.h).
 */
#ifndef BERTH_PMEM_RESIDENCY_H
#define BERTH_PMEM_RESIDENCY_H

#include "pmem/window.h"

/* The lowest bits of `word` are the tier's id. */
#define BERTH_RESIDENCE_TIER 0xffu
#define BERTH_RESIDENCE_LIVE 0x100u      /* the program has the block */
#define BERTH_RESIDENCE_LOCKED 0x200u    /* see above */
#define BERTH_RESIDENCE_MOVING 0x400u    /* its pages are on their way */
#define BERTH_RESIDENCE_FREED 0x800u     /* and its owner has freed it meanwhile */
#define BERTH_RESIDENCE_REMAPPED 0x1000u /* what is mapped is not the home backing */

struct berth_residence {
    _Atomic uint32_t word;
    _Atomic uint32_t pages; /* of the block, in OS pages */
    _Atomic uintptr_t twin; /* 0 = none */
};

/* Makes the movable home, once. False: it cannot be had, and blocks are placed as without it. */
bool berth__residency_open(void);

/*
 * Makes the map's entries for [p, p + size) usable, of the window's addresses that were just given
 * out. False: there is no memory for them.
 */
bool berth__residency_reach(const void *p, size_t size);
bool berth__residency_is_open(void);

/* Whether `p`, which lies in a window, is of the movable home. */
static inline bool berth__is_movable(const void *p)
{
    return berth__window_home(p) == BERTH_HOME_MOVABLE;
}

/* The entry of a block of the movable home. */
struct berth_residence *berth__residence(const void *p);

/* The tier in which the block is, as of now. */
berth_tier_id berth__residence_tier(const void *p);

/* Takes the entry's lock; the word without the lock's bit. And lets go, with a new word. */
uint32_t berth__residence_lock(struct berth_residence *entry);
void berth__residence_unlock(struct berth_residence *entry, uint32_t word);

/* Enters a block that nobody knows of yet, and takes one away. */
void berth__residence_add(const void *p, size_t held, uint32_t word, const void *twin);
void berth__residence_remove(const void *p);

/* Notes, under the entry's lock, whether the block has a twin from now on: NULL = no. */
void berth__residence_set_twin(const void *p, const void *twin);
/* How many blocks have one, and of how many bytes. */
uint64_t berth__residency_twin_count(void);
uint64_t berth__residency_twin_bytes(void);

/* Under the entry's lock: its word will say REMAPPED, and has not before. */
void berth__residence_note_remapped(void);
/* How many blocks are remapped. */
uint64_t berth__residency_remapped_count(void);

/* The next live block at or after *p, NULL for the first; false when there is none. */
bool berth__residency_next(const void **p);
/* The same, of those with a twin. */
bool berth__residency_next_twin(const void **p);

#endif
