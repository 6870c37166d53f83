/* SPDX-License-Identifier: Apache-2.0 */
/* First fit and best fit: each buffer, in a given order, goes where there is room beneath. */
#include "tools/plan/packing_parts.h"

#include <errno.h>
#include <stdlib.h>

enum order { BY_SIZE, BY_LIFE, BY_AREA, BY_CONTENTION, BY_CONTENTION_LIFE, BY_HEIGHT, ORDER_COUNT };

/* That each buffer takes, see berth__packing_spend(), beside two for each that it meets; and each
 * of these that is placed. */
#define LOOKS 50
#define RANGE_LOOKS 30

struct range {
    uint64_t begin, end;
};

struct fit {
    struct berth_packing *packing;
    uint32_t *order;
    double *key;         /* by item; larger ones are placed first */
    uint64_t *most_live; /* by item, in the sections of its life */
    bool *is_placed;
    uint64_t *offsets;
    struct range *ranges; /* of the placed ones that the item meets */
    size_t range_count;
};

static int compare_keys(const void *one, const void *two, void *context)
{
    const double *key = context;
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)two;

    if (key[a] != key[b])
        return key[a] > key[b] ? -1 : 1;
    return a < b ? -1 : 1;
}

static int compare_ranges(const void *one, const void *two)
{
    uint64_t a = ((const struct range *)one)->begin, b = ((const struct range *)two)->begin;

    return (a > b) - (a < b);
}

static void meet(struct fit *fit, uint32_t i)
{
    if (fit->is_placed[i])
        fit->ranges[fit->range_count++] =
            (struct range){fit->offsets[i], fit->offsets[i] + fit->packing->items[i].size};
}

/* The lowest offset that has room; or, for best fit, that in the smallest gap. */
static uint64_t fit_place(struct fit *fit, uint32_t item, bool is_best_fit)
{
    const struct berth_packing *packing = fit->packing;
    uint64_t size = packing->items[item].size;
    uint64_t top = 0, smallest = UINT64_MAX, at = UINT64_MAX;
    uint64_t meet_count = packing->earlier_at[item + 1] - packing->earlier_at[item] +
                          berth__packing_later_end(packing, item) - item;

    fit->range_count = 0;
    for (uint64_t k = packing->earlier_at[item]; k < packing->earlier_at[item + 1]; k++)
        meet(fit, packing->earlier[k]);
    for (uint32_t i = item + 1; i < berth__packing_later_end(packing, item); i++)
        meet(fit, i);
    berth__packing_spend(fit->packing, LOOKS + 2 * meet_count + RANGE_LOOKS * fit->range_count);
    qsort(fit->ranges, fit->range_count, sizeof(*fit->ranges), compare_ranges);
    for (size_t k = 0; k < fit->range_count; k++) {
        const struct range *range = &fit->ranges[k];

        if (range->begin > top && range->begin - top >= size && range->begin - top < smallest) {
            if (!is_best_fit)
                return top;
            smallest = range->begin - top;
            at = top;
        }
        if (range->end > top)
            top = range->end;
    }
    return at != UINT64_MAX ? at : top;
}

static double key_of(const struct fit *fit, uint32_t i, enum order order)
{
    const struct berth_packing_item *item = &fit->packing->items[i];
    double size = (double)item->size, life = item->end - item->first;
    double live = (double)fit->most_live[i] / (double)fit->packing->max_live;
    double all_life = fit->packing->sections, all_size = (double)fit->packing->max_live;

    switch (order) {
    case BY_SIZE:
        return size;
    case BY_LIFE:
        return life;
    case BY_AREA:
        return size * life;
    case BY_CONTENTION: /* contention decides, area where it is equal */
        return live + size / all_size * life / all_life * 1e-6;
    case BY_CONTENTION_LIFE:
        return live + life / all_life * 1e-6;
    default:
        return size * size * life;
    }
}

static void fit_run(struct fit *fit, enum order order, bool is_best_fit)
{
    struct berth_packing *packing = fit->packing;
    uint64_t peak = 0;

    for (uint32_t i = 0; i < packing->count; i++) {
        fit->order[i] = i;
        fit->key[i] = key_of(fit, i, order);
        fit->is_placed[i] = false;
    }
    qsort_r(fit->order, packing->count, sizeof(*fit->order), compare_keys, fit->key);
    for (uint32_t k = 0; k < packing->count; k++) {
        uint32_t i = fit->order[k];

        if (k % 1024 == 1023 && berth__packing_is_over(packing))
            return;
        fit->offsets[i] = fit_place(fit, i, is_best_fit);
        fit->is_placed[i] = true;
        if (fit->offsets[i] + packing->items[i].size > peak)
            peak = fit->offsets[i] + packing->items[i].size;
        if (peak >= packing->best_peak)
            return;
    }
    berth__packing_offer(packing, fit->offsets, peak, "first fit");
}

/* The most bytes that live during each item's life, by a walk over its sections. */
static void fit_contention(struct fit *fit)
{
    const struct berth_packing *packing = fit->packing;

    for (uint32_t i = 0; i < packing->count; i++)
        for (uint32_t t = packing->items[i].first; t < packing->items[i].end; t++)
            if (packing->section_live[t] > fit->most_live[i])
                fit->most_live[i] = packing->section_live[t];
}

int berth__packing_fit(struct berth_packing *packing)
{
    size_t count = packing->count;
    struct fit fit = {
        .packing = packing,
        .order = malloc(count * sizeof(*fit.order)),
        .key = malloc(count * sizeof(*fit.key)),
        .most_live = calloc(count, sizeof(*fit.most_live)),
        .is_placed = malloc(count * sizeof(*fit.is_placed)),
        .offsets = malloc(count * sizeof(*fit.offsets)),
        .ranges = malloc(count * sizeof(*fit.ranges)),
    };
    int r = -ENOMEM;

    if (!fit.order || !fit.key || !fit.most_live || !fit.is_placed || !fit.offsets || !fit.ranges)
        goto out;
    fit_contention(&fit);
    for (int order = 0; order < ORDER_COUNT; order++)
        for (int is_best_fit = 0; is_best_fit <= 1; is_best_fit++)
            if (!berth__packing_is_over(packing) && packing->effort < packing->effort_max / 2)
                fit_run(&fit, (enum order)order, is_best_fit);
    r = 0;
out:
    free(fit.order);
    free(fit.key);
    free(fit.most_live);
    free(fit.is_placed);
    free(fit.offsets);
    free(fit.ranges);
    return r;
}
