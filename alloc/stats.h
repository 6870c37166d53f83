/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The account: what is where, per tier and tag.
 *
 * One cell per (tier, tag). A block is counted in exactly one cell from the moment it is handed to
 * the program until it is freed; moving it between tiers subtracts and adds. Counters are relaxed
 * atomics: each is exact, and their sums are exact whenever no call is in flight. Reading takes no
 * lock of the program.
 *
 * What happens often is counted in parts: each has one writer at a time, which adds without a
 * locked instruction, and the reader sums. A part tells the cell of its balance when that has moved
 * by more than BERTH_PART_UNPUBLISHED_MAX bytes; so `peak_held` is exact while one of them counts.
 * With several it may be above what ever was by that much, and below by that much for each other.
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
    _Atomic uint64_t peak_held; /* the highest balance so far, as far as it was told */
    _Atomic uint64_t published; /* balance of the parts, as far as they have told */
    _Atomic uint64_t allocs;    /* blocks ever handed out */
    _Atomic uint64_t frees;     /* blocks ever taken back */
};

struct berth_tier_stats {
    _Atomic uint64_t reserved;       /* bytes that the backend gave */
    _Atomic uint64_t cached;         /* of these, ready to be handed out */
    _Atomic uint64_t spilled_blocks; /* requests that named this tier and found no room */
    _Atomic uint64_t spilled_bytes;
    _Atomic uint64_t refusals; /* times that a filesystem gave no space for the tier to grow */
    _Atomic int last_refusal;  /* and why: an errno, 0 = never */
    _Atomic int refusal_told;  /* the user has read of it */
    _Atomic uint64_t backend_allocs; /* segments asked of the backend; for device, driver calls */
    _Atomic uint64_t backend_frees;
    struct berth_cell cell[BERTH_TAG_COUNT];
};

extern BERTH_SHARED struct berth_tier_stats berth__tier_stats[BERTH_TIER_MAX];

#define BERTH_PART_UNPUBLISHED_MAX (8 * BERTH_MIB)

/* Blocks handed out and taken back, both counted up, so that no sum of parts is ever negative. */
struct berth_part_cell {
    _Atomic uint64_t requested_out, held_out, allocs;
    _Atomic uint64_t requested_back, held_back, frees;
    _Atomic uint64_t unpublished; /* balance of bytes held; wraps below 0 */
    _Atomic uint64_t high;        /* the highest it was since it was told */
};

/*
 * Synchronization: written under the lock of whoever owns it; `tier` and `next` by the functions
 * below. Parts stay in the list for ever.
 */
struct berth_stats_part {
    struct berth_stats_part *next;
    _Atomic berth_tier_id tier;
    _Atomic uint64_t cached; /* bytes, besides the tier's own counter */
    struct berth_part_cell cell[BERTH_TAG_COUNT];
};

extern BERTH_SHARED struct berth_stats_part *_Atomic berth__stats_parts;

/* Enters a part that has counted nothing yet. */
void berth__stats_part_add(struct berth_stats_part *part, berth_tier_id tier);
/* From now on the part counts for another tier; what it has counted stays with the old one. */
void berth__stats_part_turn(struct berth_stats_part *part, berth_tier_id tier);
/* Tells the cell of the part's balance. */
void berth__stats_part_publish(struct berth_stats_part *part, enum berth_tag tag);
/*
 * The same of a balance that the part has not told of itself: one that is large is never to be seen
 * there, because who adds up may have seen the block before it in the cell.
 */
void berth__stats_part_tell(struct berth_stats_part *part, enum berth_tag tag, uint64_t balance);

/* For a single writer: an addition that needs no locked instruction. Wraps to subtract. */
static inline uint64_t berth__stats_add(_Atomic uint64_t *counter, uint64_t amount)
{
    uint64_t sum = atomic_load_explicit(counter, memory_order_relaxed) + amount;

    atomic_store_explicit(counter, sum, memory_order_relaxed);
    return sum;
}

static inline void berth__stats_part_alloc(struct berth_stats_part *part, enum berth_tag tag,
                                           uint64_t requested, uint64_t held)
{
    struct berth_part_cell *cell = &part->cell[tag];
    int64_t balance =
        (int64_t)(atomic_load_explicit(&cell->unpublished, memory_order_relaxed) + held);

    berth__stats_add(&cell->requested_out, requested);
    berth__stats_add(&cell->held_out, held);
    berth__stats_add(&cell->allocs, 1);
    if (BERTH_UNLIKELY(balance > (int64_t)BERTH_PART_UNPUBLISHED_MAX)) {
        berth__stats_part_tell(part, tag, (uint64_t)balance);
        return;
    }
    atomic_store_explicit(&cell->unpublished, (uint64_t)balance, memory_order_relaxed);
    if (balance > (int64_t)atomic_load_explicit(&cell->high, memory_order_relaxed))
        atomic_store_explicit(&cell->high, (uint64_t)balance, memory_order_relaxed);
}

static inline void berth__stats_part_free(struct berth_stats_part *part, enum berth_tag tag,
                                          uint64_t requested, uint64_t held)
{
    struct berth_part_cell *cell = &part->cell[tag];
    int64_t balance =
        (int64_t)(atomic_load_explicit(&cell->unpublished, memory_order_relaxed) - held);

    berth__stats_add(&cell->requested_back, requested);
    berth__stats_add(&cell->held_back, held);
    /* Behind the hand-out that it ends, for readers who look at the frees first. */
    atomic_store_explicit(&cell->frees,
                          atomic_load_explicit(&cell->frees, memory_order_relaxed) + 1,
                          memory_order_release);
    if (BERTH_UNLIKELY(balance < -(int64_t)BERTH_PART_UNPUBLISHED_MAX))
        berth__stats_part_tell(part, tag, (uint64_t)balance);
    else
        atomic_store_explicit(&cell->unpublished, (uint64_t)balance, memory_order_relaxed);
}

/* Host memory that is not accounted block by block, as jemalloc counts it. */
struct berth_host_totals {
    uint64_t small_held;     /* live bytes of blocks below the threshold, all threads */
    uint64_t small_resident; /* OS pages behind them, caches included */
    uint64_t metadata;       /* jemalloc's and Berth's own */
};

/* Fills *ret; set by the malloc side when it is loaded, NULL otherwise. Control thread only. */
extern BERTH_SHARED void (*berth__host_totals)(struct berth_host_totals *ret);

/*
 * Gives back what host tiers have kept free for as long as the policy says, though the program asks
 * for nothing and frees nothing. Returns in how many milliseconds it should be called again. Set
 * like berth__host_totals, and for the same thread.
 */
extern BERTH_SHARED int (*berth__host_tend)(void);

void berth__stats_alloc(berth_tier_id tier, enum berth_tag tag, uint64_t requested, uint64_t held);
void berth__stats_free(berth_tier_id tier, enum berth_tag tag, uint64_t requested, uint64_t held);
/* A block was resized in place. */
void berth__stats_resize(berth_tier_id tier, enum berth_tag tag, uint64_t old_requested,
                         uint64_t old_held, uint64_t requested, uint64_t held);
/*
 * A live block gets another tag: it is entered in the new tag's cell first, and then taken out of
 * the old one's, so that whoever frees it meanwhile takes it off where it is counted. It was handed
 * out once, and counts so: with its new tag.
 */
void berth__stats_retag_in(berth_tier_id tier, enum berth_tag tag, uint64_t requested,
                           uint64_t held);
void berth__stats_retag_out(berth_tier_id tier, enum berth_tag tag, uint64_t requested,
                            uint64_t held);
void berth__stats_spill(berth_tier_id tier, uint64_t requested);
void berth__stats_refusal(berth_tier_id tier, int error);

/* What is ready to be handed out in the tier. */
uint64_t berth__stats_cached(berth_tier_id tier);

/* One cell, read counter by counter, with its parts. */
struct berth_cell_reading {
    uint64_t requested, held, blocks, peak_held, allocs, frees;
};
void berth__stats_read(berth_tier_id tier, enum berth_tag tag, struct berth_cell_reading *ret);
/* Sees the peaks that only parts know of, before their blocks are taken back past them. */
void berth__stats_look(berth_tier_id tier);

#endif
