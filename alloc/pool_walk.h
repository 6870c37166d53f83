/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All segments and blocks, for those who look at the pools from outside: the beginning of a trace,
 * and snapshots.
 *
 * The page map is followed from its lowest address on. A pool's lock is held for one segment at a
 * time: each segment is consistent in itself, and the program never waits for more than that. What
 * comes and goes meanwhile is seen or not.
 */
#ifndef BERTH_ALLOC_POOL_WALK_H
#define BERTH_ALLOC_POOL_WALK_H

#include "alloc/types.h"

#include <stdbool.h>

enum berth_block_use {
    BERTH_USE_FREE,    /* cached */
    BERTH_USE_LIVE,    /* the program's */
    BERTH_USE_WAITING, /* freed, and not yet ready for reuse */
    BERTH_USE_HOLE     /* addresses without memory; never shown to a visitor */
};

struct berth_block_row {
    uintptr_t address;
    uint64_t size;
    uint64_t requested; /* 0 unless LIVE */
    berth_site_id site;
    uint8_t tag;
    uint8_t use;    /* enum berth_block_use */
    bool is_cached; /* FREE, and in a thread's cache */
    uint8_t unused;
};

enum berth_segment_use {
    BERTH_USE_SHARED,  /* many blocks */
    BERTH_USE_WHOLE,   /* one block */
    BERTH_USE_STREAM,  /* one stream-ordered block */
    BERTH_USE_FOREIGN, /* one block, which the driver gave to the program itself */
    BERTH_USE_RANGE,   /* a part with memory of a range that grows: many blocks */
    BERTH_USE_BORROWED /* many blocks, in memory of another process */
};

struct berth_segment_row {
    uint64_t base, size;
    uint32_t blocks;
    int32_t device; /* -1 = not known */
    uint8_t use;    /* enum berth_segment_use */
    berth_tier_id tier;
    bool is_planned; /* it has the places of a plan */
    uint8_t unused[5];
};

/*
 * Calls `visit` for each segment with its blocks by address, without any lock. A result other than
 * 0 ends the walk and is returned; -ENOMEM without host memory. `berth trace replay --peak` finds
 * it in the preloaded library by its name.
 */
typedef int (*berth_segment_visitor)(void *context, const struct berth_segment_row *segment,
                                     const struct berth_block_row *blocks);
BERTH_SHARED int berth__pool_walk(berth_segment_visitor visit, void *context);

/* One live block by its first address: 0 or -ENOENT. Its device too, or -1. */
int berth__pool_row(uintptr_t address, struct berth_block_row *ret, int *ret_device);

/* Gives a live block that has no site this one. */
void berth__pool_set_site(uintptr_t address, berth_site_id site);

#endif
