/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The account: what is where, per tier and tag.
 *
 * One cell per (tier, tag). A block is counted in exactly one cell from the moment it is handed to
 * the program until it is freed; moving it between tiers subtracts and adds. Counters are relaxed
 * atomics: each is exact, and their sums are exact whenever no call is in flight. Reading takes no
 * lock of the program.
 *
 * For each tier:  reserved = sum of held + cached + overhead, where `reserved` is what the backend
 * gave, `cached` is ready to be handed out, and `overhead` is what remains (alignment, split
 * remainders, metadata), derived by the reader and never negative at rest.
 */
#ifndef BERTH_ALLOC_STATS_H
#define BERTH_ALLOC_STATS_H

#include "alloc/types.h"

#include <stdatomic.h>

struct berth_cell {
    _Atomic uint64_t requested; /* live bytes as the program asked for them */
    _Atomic uint64_t held;      /* live bytes as size classes */
    _Atomic uint64_t peak_held; /* the highest `held` so far */
    _Atomic uint64_t allocs;    /* blocks ever handed out */
    _Atomic uint64_t frees;     /* blocks ever taken back */
};

struct berth_tier_stats {
    _Atomic uint64_t reserved;       /* bytes that the backend gave */
    _Atomic uint64_t cached;         /* of these, ready to be handed out */
    _Atomic uint64_t spilled_blocks; /* requests that named this tier and found no room */
    _Atomic uint64_t spilled_bytes;
    _Atomic uint64_t backend_allocs; /* segments asked of the backend; for device, driver calls */
    _Atomic uint64_t backend_frees;
    struct berth_cell cell[BERTH_TAG_COUNT];
};

extern BERTH_SHARED struct berth_tier_stats berth__tier_stats[BERTH_TIER_MAX];

/* Host memory that is not accounted block by block, as jemalloc counts it. */
struct berth_host_totals {
    uint64_t small_held;     /* live bytes of blocks below the threshold, all threads */
    uint64_t small_resident; /* OS pages behind them, caches included */
    uint64_t metadata;       /* jemalloc's and Berth's own */
};

/* Fills *ret; set by the malloc side when it is loaded, NULL otherwise. Control thread only. */
extern BERTH_SHARED void (*berth__host_totals)(struct berth_host_totals *ret);

void berth__stats_alloc(berth_tier_id tier, enum berth_tag tag, uint64_t requested, uint64_t held);
void berth__stats_free(berth_tier_id tier, enum berth_tag tag, uint64_t requested, uint64_t held);
/* A block was resized in place. */
void berth__stats_resize(berth_tier_id tier, enum berth_tag tag, uint64_t old_requested,
                         uint64_t old_held, uint64_t requested, uint64_t held);
void berth__stats_spill(berth_tier_id tier, uint64_t requested);

/* One cell, read counter by counter. */
struct berth_cell_reading {
    uint64_t requested, held, blocks, peak_held, allocs, frees;
};
void berth__stats_read(berth_tier_id tier, enum berth_tag tag, struct berth_cell_reading *ret);

#endif
