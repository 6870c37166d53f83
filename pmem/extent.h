/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jemalloc's extent hooks over a tier: how an arena gets and gives back its memory.
 *
 * `alloc` only carves addresses from the tier's window, which are free of cost; jemalloc keeps them
 * for ever ("retained") and asks `commit` for the very part that it is about to use. So a growth
 * step takes nothing of the tier's capacity, and a full filesystem is seen at `commit`, before the
 * block is handed out. Memory that jemalloc no longer needs comes back by `decommit`, and reads as
 * zero when committed again, which jemalloc knows and spares calloc the work.
 *
 * The hooks run under jemalloc's locks: they take none of ours, call no malloc, and their system
 * calls do not wait for other threads.
 */
#ifndef BERTH_PMEM_EXTENT_H
#define BERTH_PMEM_EXTENT_H

#include "alloc/types.h"
#include "pmem/jemalloc.h"
#include "pmem/window.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What jemalloc is given; `hooks` is the first member, so that it leads back to the home. */
struct berth_extent_hooks {
    extent_hooks_t hooks;
    berth_home_id home;
    /*
     * How often large pieces went back since `period_begin` that had to be had before, and what was
     * had since the last time. Threads that count at once may lose something.
     */
    _Atomic unsigned rounds;
    _Atomic uint64_t period_begin;
    _Atomic size_t had;
};

/* jemalloc's oversize threshold: such pieces go back at once. Its usual decay is as long. */
#define BERTH_EXTENT_PIECE ((size_t)8 << 20)
#define BERTH_EXTENT_PERIOD_NS ((uint64_t)10 * 1000 * 1000 * 1000)

extern const extent_hooks_t berth__extent_hooks;

/*
 * Before each allocation: when a commit then fails, because the tier is full, the hooks give this
 * thread no more addresses. jemalloc would otherwise ask for more and more of them, in vain, and
 * keep them all.
 */
void berth__extent_begin(void);

/* How much new memory this thread has been given since then. */
size_t berth__extent_had(void);

/*
 * While on, what this thread commits may exceed the tier's capacity: only addresses are asked for,
 * and the count is corrected as soon as the block lives elsewhere (residency.h).
 */
void berth__extent_exceed(bool on);

/*
 * While on, what this thread commits and decommits is taken for done: a new arena can thus be made
 * to take addresses in advance, by allocating and freeing, without a page of the tier. Nobody else
 * may know of the arena yet.
 */
void berth__extent_take_addresses(bool on);

#endif
