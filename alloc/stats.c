/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/stats.h"

#include <stdbool.h>

struct berth_tier_stats berth__tier_stats[BERTH_TIER_MAX];
struct berth_stats_part *_Atomic berth__stats_parts;
void (*berth__host_totals)(struct berth_host_totals *ret);
int (*berth__host_tend)(void);

static void add(_Atomic uint64_t *counter, uint64_t amount)
{
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

static uint64_t load(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* The balance is negative where blocks of the parts are taken back here; then there is no peak. */
static void raise_peak(struct berth_cell *cell, uint64_t held)
{
    uint64_t peak = atomic_load_explicit(&cell->peak_held, memory_order_relaxed);

    while ((int64_t)held > (int64_t)peak &&
           !atomic_compare_exchange_weak_explicit(&cell->peak_held, &peak, held,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

static uint64_t published(const struct berth_cell *cell)
{
    return atomic_load_explicit(&cell->published, memory_order_acquire);
}

static const struct berth_stats_part *first_part(void)
{
    return atomic_load_explicit(&berth__stats_parts, memory_order_acquire);
}

static bool part_counts_for(const struct berth_stats_part *part, berth_tier_id tier)
{
    return atomic_load_explicit(&part->tier, memory_order_relaxed) == tier;
}

/*
 * Raises the peak to `told`, which all have told of, and what the parts but for `own` have not. A
 * part that takes back what others hand out has a balance below 0: without it the sum of many parts
 * would be far from anything that ever was. They are looked at only where there may be a peak.
 */
static void raise_peak_beside(berth_tier_id tier, enum berth_tag tag, uint64_t told,
                              const struct berth_stats_part *own)
{
    struct berth_cell *cell = &berth__tier_stats[tier].cell[tag];

    if ((int64_t)told <= (int64_t)load(&cell->peak_held))
        return;
    for (const struct berth_stats_part *part = first_part(); part; part = part->next)
        if (part != own && part_counts_for(part, tier))
            told += load(&part->cell[tag].unpublished);
    raise_peak(cell, told);
}

void berth__stats_part_add(struct berth_stats_part *part, berth_tier_id tier)
{
    atomic_store_explicit(&part->tier, tier, memory_order_relaxed);
    part->next = atomic_load_explicit(&berth__stats_parts, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&berth__stats_parts, &part->next, part,
                                                  memory_order_release, memory_order_relaxed))
        ;
}

void berth__stats_part_tell(struct berth_stats_part *part, enum berth_tag tag, uint64_t balance)
{
    berth_tier_id tier = atomic_load_explicit(&part->tier, memory_order_relaxed);
    struct berth_part_cell *from = &part->cell[tag];
    struct berth_cell *cell = &berth__tier_stats[tier].cell[tag];
    uint64_t high = load(&from->high), before;

    if ((int64_t)balance > (int64_t)high)
        high = balance;
    /* In this order, so that who adds up meanwhile finds neither twice. */
    atomic_store_explicit(&from->high, 0, memory_order_relaxed);
    atomic_store_explicit(&from->unpublished, 0, memory_order_relaxed);
    before = atomic_fetch_add_explicit(&cell->published, balance, memory_order_release);
    raise_peak_beside(tier, tag, before + high + load(&cell->held), part);
}

void berth__stats_part_publish(struct berth_stats_part *part, enum berth_tag tag)
{
    berth__stats_part_tell(part, tag, load(&part->cell[tag].unpublished));
}

static uint64_t take_counter(_Atomic uint64_t *counter)
{
    return atomic_exchange_explicit(counter, 0, memory_order_relaxed);
}

void berth__stats_part_turn(struct berth_stats_part *part, berth_tier_id tier)
{
    berth_tier_id old = atomic_load_explicit(&part->tier, memory_order_relaxed);

    for (unsigned tag = 0; tag < BERTH_TAG_COUNT; tag++) {
        struct berth_cell *cell = &berth__tier_stats[old].cell[tag];
        struct berth_part_cell *from = &part->cell[tag];
        uint64_t held = take_counter(&from->held_out) - take_counter(&from->held_back);

        berth__stats_part_publish(part, (enum berth_tag)tag);
        add(&cell->published, -held);
        add(&cell->held, held);
        add(&cell->requested,
            take_counter(&from->requested_out) - take_counter(&from->requested_back));
        add(&cell->allocs, take_counter(&from->allocs));
        add(&cell->frees, take_counter(&from->frees));
    }
    atomic_store_explicit(&part->tier, tier, memory_order_relaxed);
}

void berth__stats_alloc(berth_tier_id tier, enum berth_tag tag, uint64_t requested, uint64_t held)
{
    struct berth_cell *cell = &berth__tier_stats[tier].cell[tag];
    uint64_t now = atomic_fetch_add_explicit(&cell->held, held, memory_order_relaxed) + held;

    add(&cell->requested, requested);
    add(&cell->allocs, 1);
    raise_peak_beside(tier, tag, now + published(cell), NULL);
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
    raise_peak_beside(tier, tag, now + published(cell), NULL);
}

void berth__stats_retag_in(berth_tier_id tier, enum berth_tag tag, uint64_t requested,
                           uint64_t held)
{
    berth__stats_alloc(tier, tag, requested, held);
}

void berth__stats_retag_out(berth_tier_id tier, enum berth_tag tag, uint64_t requested,
                            uint64_t held)
{
    struct berth_cell *cell = &berth__tier_stats[tier].cell[tag];

    add(&cell->held, -held);
    add(&cell->requested, -requested);
    add(&cell->allocs, (uint64_t)-1);
}

void berth__stats_spill(berth_tier_id tier, uint64_t requested)
{
    add(&berth__tier_stats[tier].spilled_blocks, 1);
    add(&berth__tier_stats[tier].spilled_bytes, requested);
}

void berth__stats_refusal(berth_tier_id tier, int error)
{
    add(&berth__tier_stats[tier].refusals, 1);
    atomic_store_explicit(&berth__tier_stats[tier].last_refusal, error, memory_order_relaxed);
}

uint64_t berth__stats_cached(berth_tier_id tier)
{
    uint64_t cached = load(&berth__tier_stats[tier].cached);

    for (const struct berth_stats_part *part = first_part(); part; part = part->next)
        if (part_counts_for(part, tier))
            cached += load(&part->cached);
    return cached;
}

/* First of all what came back: then no block is seen freed that is not seen handed out. */
static void read_back(berth_tier_id tier, enum berth_tag tag, struct berth_cell_reading *ret)
{
    for (const struct berth_stats_part *part = first_part(); part; part = part->next) {
        const struct berth_part_cell *cell = &part->cell[tag];

        if (!part_counts_for(part, tier))
            continue;
        ret->frees += atomic_load_explicit(&cell->frees, memory_order_acquire);
        ret->requested -= atomic_load_explicit(&cell->requested_back, memory_order_acquire);
        ret->held -= atomic_load_explicit(&cell->held_back, memory_order_acquire);
    }
}

/* Parts had their highest balances at different times: that of one counts, beside the others'. */
static void read_out(berth_tier_id tier, enum berth_tag tag, struct berth_cell_reading *ret)
{
    uint64_t unpublished, above, most = 0;

    for (const struct berth_stats_part *part = first_part(); part; part = part->next) {
        const struct berth_part_cell *cell = &part->cell[tag];

        if (!part_counts_for(part, tier))
            continue;
        ret->allocs += load(&cell->allocs);
        ret->requested += load(&cell->requested_out);
        ret->held += load(&cell->held_out);
        unpublished = load(&cell->unpublished);
        above = load(&cell->high) - unpublished;
        if ((int64_t)above > (int64_t)most)
            most = above;
        ret->peak_held += unpublished;
    }
    ret->peak_held += most;
}

void berth__stats_read(berth_tier_id tier, enum berth_tag tag, struct berth_cell_reading *ret)
{
    struct berth_cell *cell = &berth__tier_stats[tier].cell[tag];
    uint64_t held;

    *ret = (struct berth_cell_reading){0};
    read_back(tier, tag, ret);
    /* In this order, so that no block is seen freed that was not seen handed out. */
    ret->frees += atomic_load_explicit(&cell->frees, memory_order_acquire);
    held = atomic_load_explicit(&cell->held, memory_order_acquire);
    ret->held += held;
    ret->requested += load(&cell->requested);
    ret->peak_held = held + published(cell);
    read_out(tier, tag, ret);
    ret->allocs += load(&cell->allocs);
    raise_peak(cell, ret->peak_held);
    ret->peak_held = load(&cell->peak_held);
    ret->blocks = ret->allocs - ret->frees;
}

void berth__stats_look(berth_tier_id tier)
{
    struct berth_cell_reading reading;

    for (unsigned tag = 0; tag < BERTH_TAG_COUNT; tag++)
        berth__stats_read(tier, (enum berth_tag)tag, &reading);
}
