/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/stats.h"

struct berth_tier_stats berth__tier_stats[BERTH_TIER_MAX];
void (*berth__host_totals)(struct berth_host_totals *ret);

static void add(_Atomic uint64_t *counter, uint64_t amount)
{
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

static void raise_peak(struct berth_cell *cell, uint64_t held)
{
    uint64_t peak = atomic_load_explicit(&cell->peak_held, memory_order_relaxed);

    while (held > peak &&
           !atomic_compare_exchange_weak_explicit(&cell->peak_held, &peak, held,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

void berth__stats_alloc(berth_tier_id tier, enum berth_tag tag, uint64_t requested, uint64_t held)
{
    struct berth_cell *cell = &berth__tier_stats[tier].cell[tag];
    uint64_t now = atomic_fetch_add_explicit(&cell->held, held, memory_order_relaxed) + held;

    add(&cell->requested, requested);
    add(&cell->allocs, 1);
    raise_peak(cell, now);
}

void berth__stats_free(berth_tier_id tier, enum berth_tag tag, uint64_t requested, uint64_t held)
{
    struct berth_cell *cell = &berth__tier_stats[tier].cell[tag];

    add(&cell->held, -held);
    add(&cell->requested, -requested);
    atomic_fetch_add_explicit(&cell->frees, 1, memory_order_release);
}

void berth__stats_resize(berth_tier_id tier, enum berth_tag tag, uint64_t old_requested,
                         uint64_t old_held, uint64_t requested, uint64_t held)
{
    struct berth_cell *cell = &berth__tier_stats[tier].cell[tag];
    uint64_t change = held - old_held;
    uint64_t now = atomic_fetch_add_explicit(&cell->held, change, memory_order_relaxed) + change;

    add(&cell->requested, requested - old_requested);
    raise_peak(cell, now);
}

void berth__stats_spill(berth_tier_id tier, uint64_t requested)
{
    add(&berth__tier_stats[tier].spilled_blocks, 1);
    add(&berth__tier_stats[tier].spilled_bytes, requested);
}

void berth__stats_read(berth_tier_id tier, enum berth_tag tag, struct berth_cell_reading *ret)
{
    const struct berth_cell *cell = &berth__tier_stats[tier].cell[tag];

    ret->requested = atomic_load_explicit(&cell->requested, memory_order_relaxed);
    ret->held = atomic_load_explicit(&cell->held, memory_order_relaxed);
    ret->peak_held = atomic_load_explicit(&cell->peak_held, memory_order_relaxed);
    /* In this order, so that no block is seen freed that was not seen handed out. */
    ret->frees = atomic_load_explicit(&cell->frees, memory_order_acquire);
    ret->allocs = atomic_load_explicit(&cell->allocs, memory_order_relaxed);
    ret->blocks = ret->allocs - ret->frees;
}
