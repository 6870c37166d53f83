/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jemalloc arenas of a home (window.h): of a host tier, or of the blocks that may move.
 *
 * A home, called tier below, has a few arenas, made when a thread first needs one; a thread always
 * uses the same, and its free memory in DRAM goes back when its last thread ends. Their metadata
 * lies in ordinary memory, so that a slow tier is not walked. Small blocks go through an explicit
 * tcache per (thread, tier): without one, jemalloc would serve them from the thread's automatic
 * tcache, whatever arena is named. Tcaches are destroyed at thread exit; blocks that a thread's
 * later destructors ask for, and threads beyond jemalloc's 4093 tcaches, go without.
 *
 * Before a tier is said to have no room, what its arenas and tcaches keep for reuse is given back
 * to it: a block never goes to a later place because of memory that nobody uses.
 *
 * Any thread, no lock of ours.
 */
#ifndef BERTH_PMEM_ARENA_H
#define BERTH_PMEM_ARENA_H

#include "alloc/types.h"
#include "pmem/window.h"

#include <stdbool.h>

/* Before the first allocation of any tier. */
void berth__arena_register(void);

/*
 * In the thread that forks, before jemalloc is locked: it goes without tcaches until it needs them
 * again. In the child jemalloc 5.3 takes only its automatic tcache over into the new lists of its
 * arenas; to flush or destroy another one there would tear these lists apart. So a child of a
 * thread that could not do without, because it was interrupted amid an allocation, leaves them
 * alone for good.
 */
bool berth__arena_has_caches(void);
void berth__arena_before_fork(void);
void berth__arena_leave_caches(void);
/* In the child, which is alone. */
void berth__arena_in_child(void);

/* How long the tier's unused pages are kept, for arenas to come: 0 = not at all. */
#define BERTH_DECAY_NEVER (-1)        /* for ever */
#define BERTH_DECAY_DEFAULT INT64_MIN /* as jemalloc has it */
void berth__arena_set_decay(berth_home_id home, int64_t decay_ms);

/*
 * A block of the tier, aligned (a power of two; 1 = any) and zeroed if asked. NULL: no room. In the
 * last destructors of a thread jemalloc may answer with memory outside every window.
 */
void *berth__arena_alloc(berth_home_id home, size_t size, size_t alignment, bool zero);
/* `held` is what berth__arena_held() says of it. */
void berth__arena_free(berth_home_id home, void *p, size_t held);

/*
 * The same without the thread's tcache, for blocks that are so rare that keeping some ready for the
 * next would cost more than it saves.
 */
void *berth__arena_alloc_apart(berth_home_id home, size_t size, size_t alignment, bool zero);
void berth__arena_free_apart(void *p, size_t held);

/* Every tier gives back what it keeps for reuse; other threads' tcaches at their next call. */
void berth__arena_trim(void);

/*
 * Has every tier give back what its policy does not want kept any longer. jemalloc looks at its
 * clock only when it is called, and not each time: a program that is idle would keep everything.
 * Returns after how many milliseconds to do so again. For one thread alone.
 */
int berth__arena_tend(void);
/* The same once, for any thread. */
void berth__arena_decay(void);

/* Resizes where it lies: the new held size is returned, and is less than `size` on failure. */
size_t berth__arena_resize(void *p, size_t size);
/* What the block is held at: its size class. */
size_t berth__arena_held(const void *p);

/* Live bytes, resident bytes and bytes ready for reuse in a tier's arenas, as of jemalloc's last
 * epoch. Takes jemalloc's control lock. */
struct berth_arena_totals {
    uint64_t allocated, resident, dirty;
};
void berth__arena_totals(berth_home_id home, struct berth_arena_totals *ret);

#endif
