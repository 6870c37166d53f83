/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Windows: the host tiers' slices of Berth's one address reservation.
 *
 *     | slice 0 | slice 1 | ... | slice n-1 | page map | header |
 *
 * A slice is a power of two; a window is one slice or several in a row, and belongs to one tier for
 * as long as the process lives. Whether an address is ours is one subtraction and one compare, and
 * whose it is one shift more. The page map has one entry for each OS page of the slices.
 *
 * The reservation is made at first need, is PROT_NONE and costs no memory; pieces of it are carved
 * off and mapped by the tiers. What was carved off and used is never given back: blocks may be
 * alive at exit.
 *
 * Synchronisation: lock-free. The reservation is published by one compare-and-swap; a window's
 * carve position is an atomic. A forked child inherits a state that is complete at any instant.
 *
 * Whose arenas serve a window is its *home*: a tier, whose id it then has, or that of blocks that
 * may move from tier to tier (residency.h).
 */
#ifndef BERTH_PMEM_WINDOW_H
#define BERTH_PMEM_WINDOW_H

#include "alloc/types.h"

#include <stdatomic.h>
#include <stdbool.h>

#define BERTH_OS_PAGE_SHIFT 12 /* 4 KiB */
#define BERTH_OS_PAGE ((size_t)1 << BERTH_OS_PAGE_SHIFT)

/* One entry of the page map; what the words mean is record.h's matter. */
struct berth_page {
    _Atomic uint64_t word[4];
};

/* A home's number: below BERTH_TIER_MAX, the tier of this id. */
typedef uint8_t berth_home_id;
#define BERTH_HOME_MOVABLE ((berth_home_id)BERTH_TIER_MAX)
/* Of blocks that the program has named (persist.h): no arena's, and no record's. */
#define BERTH_HOME_PERSISTENT ((berth_home_id)(BERTH_TIER_MAX + 1))
#define BERTH_HOME_MAX (BERTH_TIER_MAX + 2)

/* The tier whose memory lies behind a home's addresses at first: ordinary memory for what moves. */
static inline berth_tier_id berth__home_tier(berth_home_id home)
{
    return home == BERTH_HOME_MOVABLE || home == BERTH_HOME_PERSISTENT ? BERTH_TIER_DRAM
                                                                       : (berth_tier_id)home;
}

/*
 * Gives the home a window in which `want` bytes can be alive at once; dram has one from the start.
 * Called by the tier's maker, one at a time. 0; -ENOMEM when the process may not reserve addresses;
 * -ENOSPC when every slice is taken.
 */
int berth__window_open(berth_home_id home, uint64_t want);

/*
 * Has a window begin where a huge page may, which costs some of its addresses: before the first
 * block of a home whose tier nobody uses yet. Of anonymous memory the kernel would then give huge
 * pages to the first small blocks, which none of them fills.
 */
void berth__window_begin_huge(berth_home_id home);

/* Whether the home has a window. For dram this makes the reservation if there is none yet. */
bool berth__window_ready(berth_home_id home);

/*
 * Takes `size` bytes of the home's window that were never given out, aligned (a power of two of at
 * least an OS page), and makes their page map entries usable. NULL when the window is used up, or
 * the alignment is more than an eighth of it.
 */
void *berth__window_carve(berth_home_id home, size_t size, size_t alignment);
/*
 * Takes back what was just carved off and could not be used: a program that is refused memory for a
 * while (RLIMIT_DATA, a full node) must not use up the window by asking. What another thread has
 * carved off behind it keeps it lost.
 */
void berth__window_uncarve(berth_home_id home, const void *p, size_t size);

/*
 * The home of an address for which berth__gate_owns() is true; BERTH_TIER_NONE for a spare slice.
 * Where a block of the movable home is now is residency.h's matter.
 */
berth_home_id berth__window_home(const void *p);
/* The same, with the home's first tier for blocks that move. */
berth_tier_id berth__window_tier(const void *p);
/* Where the home's window begins; 0 if it has none. */
uintptr_t berth__window_base(berth_home_id home);
/* How large the window is, and how much of it was carved off. */
size_t berth__window_size(berth_home_id home);
size_t berth__window_used(berth_home_id home);
/* Whether `p` lies in a piece that was carved off. */
bool berth__window_carved(const void *p);

/*
 * The process may use `limit` bytes of addresses from now on. If the reservation takes more than
 * its share of them, what was not carved off is given back, and no tier grows any more.
 */
void berth__window_limit(uint64_t limit);

/*
 * Has `run` called whenever addresses were given back so; before the home's first piece is carved.
 * At most BERTH_WINDOW_WATCHERS, each known once however often it is named.
 */
#define BERTH_WINDOW_WATCHERS 4
void berth__window_when_closed(void (*run)(void));

/*
 * Once a tier has given back addresses that were carved off: whether the home still has the one of
 * `p`, which was. Known before the first of them can become somebody else's.
 */
void berth__window_ask_carved(bool (*has)(berth_home_id home, const void *p));

/*
 * `size` bytes of ordinary memory could not be had. If addresses are limited, what was not carved
 * off is given back, once, so that they may be had now; true if it was. No tier grows any more
 * then.
 */
bool berth__window_shed(size_t size);

/*
 * Whether a file can be mapped into a window now. Asked by a mapping where the kernel likes, which
 * is gone again, of `size` bytes, the file's least: one over another that fails (there are too
 * many) may have taken the other away already, and somebody else's may come to lie there. 0 or
 * -errno.
 */
int berth__window_try_mapping(size_t size, int map_flags, int fd, uint64_t offset);
/* Puts back what a window has where nothing is: over what is there. 0 or -errno. */
int berth__window_clear(void *p, size_t size);
/* The same where a mapping has failed: only where nothing is. False where something is, which may
 * be what was there before, or somebody else's. */
bool berth__window_mend(void *p, size_t size);

/* The page map's entry for the OS page of `p`, which lies in a piece that was carved off. */
struct berth_page *berth__window_page(const void *p);

#endif
