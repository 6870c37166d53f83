/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packings around a cut: what lives in one section, best the fullest, is stacked without a gap.
 * What lives wholly after it and what lives wholly before it never meet, so that each side is a
 * problem of its own: a pass in order of time away from the cut, on top of what the stack leaves
 * free. As all lives are known, a pass can put a buffer beside one that dies when it dies: gaps
 * that open together are one gap.
 */
#include "tools/plan/packing_live.h"
#include "tools/plan/packing_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum order { EARLY_END, LATE_END, EARLY_FIRST, LONG_LIFE, LARGE, FAR_FROM_EITHER, ORDER_COUNT };

/* The lowest gap; the smallest; the one beside a buffer of alike death; the same but a full fit. */
enum policy { FIRST_FIT, BEST_FIT, ALIKE, FULL_OR_ALIKE, POLICY_COUNT };

/* Cuts beyond the fullest section are made where at least this part of the most bytes live. */
#define FULL_SHARE 0.9
#define FULL_TRIES 64
/* That each buffer takes, see berth__packing_spend(), beside two for each that lives. */
#define LOOKS 50

struct side {
    uint64_t *offsets, *best;
    uint64_t best_peak;
};

struct cut {
    struct berth_packing *packing;
    uint32_t *by_end; /* items */
    uint32_t section;
    uint32_t by_end_at; /* the first of by_end that lives in the section or later */
    uint32_t *stack;
    uint32_t stack_count;
    double *key; /* by item of the stack; smaller ones are lower */
    struct side before, after;
    struct berth_packing_live live;
};

/* When an item comes and goes on the way away from the cut. */
static int64_t birth_of(const struct cut *cut, uint32_t i, bool is_before)
{
    const struct berth_packing_item *item = &cut->packing->items[i];

    return is_before ? -(int64_t)item->end : item->first;
}

static int64_t death_of(const struct cut *cut, uint32_t i, bool is_before)
{
    const struct berth_packing_item *item = &cut->packing->items[i];

    return is_before ? -(int64_t)item->first : item->end;
}

static uint64_t distance(const struct cut *cut, uint32_t i, int64_t death, bool is_before)
{
    int64_t difference = death_of(cut, i, is_before) - death;

    return (uint64_t)(difference < 0 ? -difference : difference);
}

/* How bad the gap below the k-th of the living is for an item; less is better. */
static uint64_t gap_score(const struct cut *cut, uint32_t k, uint64_t spare, int64_t death,
                          enum policy policy, bool is_before)
{
    const struct berth_packing_live *live = &cut->live;
    uint64_t score, below;

    if (policy == FIRST_FIT)
        return 0;
    if (policy == BEST_FIT)
        return spare;
    score = distance(cut, live->item[k], death, is_before);
    below = k > 0 ? distance(cut, live->item[k - 1], death, is_before) : score;
    if (below < score)
        score = below;
    return policy == FULL_OR_ALIKE && spare > 0 ? score + UINT32_MAX : score;
}

static uint64_t side_place(struct cut *cut, uint32_t i, enum policy policy, bool is_before)
{
    struct berth_packing_live *live = &cut->live;
    uint64_t size = cut->packing->items[i].size, top = 0, least = UINT64_MAX, offset;
    int64_t death = death_of(cut, i, is_before);
    uint32_t at = live->count;

    berth__packing_spend(cut->packing, LOOKS + 2 * live->count);
    for (uint32_t k = 0; k < live->count && least > 0; k++) {
        uint64_t gap = live->begin[k] - top, score;

        top = live->end[k];
        if (gap < size)
            continue;
        score = gap_score(cut, k, gap - size, death, policy, is_before);
        if (score < least) {
            least = score;
            at = k;
        }
    }
    offset = at == 0 ? 0 : live->end[at - 1];
    berth__packing_live_insert(live, at, offset, offset + size, i);
    return offset;
}

/* The stack is the living; returns its top. */
static uint64_t stack_live(struct cut *cut, struct side *side)
{
    uint64_t top = 0;

    cut->live.count = 0;
    for (uint32_t k = 0; k < cut->stack_count; k++) {
        uint32_t i = cut->stack[k];

        side->offsets[i] = top;
        top += cut->packing->items[i].size;
        berth__packing_live_insert(&cut->live, k, side->offsets[i], top, i);
    }
    return top;
}

/*
 * One pass away from the cut. Items after it come in their order and go by their end; those before
 * it come by their end, the last first, and go in their order, the last first.
 */
static void side_run(struct cut *cut, struct side *side, enum policy policy, bool is_before)
{
    const struct berth_packing *packing = cut->packing;
    uint32_t after = packing->section_first[cut->section + 1];
    uint32_t count = is_before ? cut->by_end_at : packing->count - after;
    uint32_t dead = 0;
    uint64_t peak = stack_live(cut, side);

    for (uint32_t k = 0; k < count; k++) {
        uint32_t i = is_before ? cut->by_end[cut->by_end_at - 1 - k] : after + k;

        if (k % 1024 == 1023 && berth__packing_is_over(packing))
            return;
        for (;; dead++) {
            uint32_t next = is_before ? after - 1 - dead : cut->by_end[cut->by_end_at + dead];

            if (death_of(cut, next, is_before) > birth_of(cut, i, is_before))
                break;
            berth__packing_live_remove(&cut->live,
                                       berth__packing_live_find(&cut->live, side->offsets[next]));
        }
        side->offsets[i] = side_place(cut, i, policy, is_before);
        if (side->offsets[i] + packing->items[i].size > peak)
            peak = side->offsets[i] + packing->items[i].size;
        if (peak >= side->best_peak)
            return;
    }
    if (peak < side->best_peak) {
        memcpy(side->best, side->offsets, packing->count * sizeof(*side->best));
        side->best_peak = peak;
    }
}

static double key_of(const struct cut *cut, uint32_t i, enum order order)
{
    const struct berth_packing_item *item = &cut->packing->items[i];
    double ago = cut->section - item->first, left = item->end - cut->section;

    switch (order) {
    case EARLY_END:
        return left;
    case LATE_END:
        return -left;
    case EARLY_FIRST:
        return -ago;
    case LONG_LIFE:
        return -(ago + left);
    case LARGE:
        return -(double)item->size;
    default:
        return ago < left ? -ago : -left;
    }
}

static int compare_keys(const void *one, const void *two, void *context)
{
    const double *key = context;
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)two;

    if (key[a] != key[b])
        return key[a] < key[b] ? -1 : 1;
    return a < b ? -1 : 1;
}

static void cut_at(struct cut *cut, uint32_t section)
{
    const struct berth_packing *packing = cut->packing;
    uint32_t low = 0, high = packing->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (packing->items[cut->by_end[middle]].end <= section)
            low = middle + 1;
        else
            high = middle;
    }
    cut->section = section;
    cut->by_end_at = low;
    cut->stack_count = 0;
    for (uint32_t i = 0; i < packing->section_first[section + 1]; i++)
        if (packing->items[i].end > section)
            cut->stack[cut->stack_count++] = i;
}

/* Stacks in one order, tries all policies on either side, and offers the best of both. */
static void cut_run(struct cut *cut, enum order order)
{
    struct berth_packing *packing = cut->packing;
    struct side *before = &cut->before, *after = &cut->after;
    uint64_t peak;

    for (uint32_t k = 0; k < cut->stack_count; k++)
        cut->key[cut->stack[k]] = key_of(cut, cut->stack[k], order);
    qsort_r(cut->stack, cut->stack_count, sizeof(*cut->stack), compare_keys, cut->key);
    before->best_peak = packing->best_peak;
    after->best_peak = packing->best_peak;
    for (int policy = 0; policy < POLICY_COUNT; policy++)
        side_run(cut, after, (enum policy)policy, false);
    if (after->best_peak >= packing->best_peak)
        return;
    for (int policy = 0; policy < POLICY_COUNT; policy++)
        side_run(cut, before, (enum policy)policy, true);
    peak = before->best_peak > after->best_peak ? before->best_peak : after->best_peak;
    /* In the stack they are the same. */
    for (uint32_t k = 0; k < cut->by_end_at; k++)
        after->best[cut->by_end[k]] = before->best[cut->by_end[k]];
    berth__packing_offer(packing, after->best, peak, "cut");
}

static uint32_t section_full(struct berth_packing *packing)
{
    uint32_t section = 0, fullest = 0;

    for (int tries = 0; tries < FULL_TRIES; tries++) {
        section = (uint32_t)(berth__packing_random(packing) % packing->sections);
        if ((double)packing->section_live[section] >= FULL_SHARE * (double)packing->max_live)
            return section;
        if (packing->section_live[section] > packing->section_live[fullest])
            fullest = section;
    }
    return fullest;
}

static int cut_init(struct cut *cut, struct berth_packing *packing)
{
    size_t count = packing->count;
    int r = berth__packing_live_init(&cut->live, count);

    cut->packing = packing;
    cut->by_end = berth__packing_by_end(packing);
    cut->stack = malloc(count * sizeof(*cut->stack));
    cut->key = malloc(count * sizeof(*cut->key));
    cut->before.offsets = malloc(count * sizeof(*cut->before.offsets));
    cut->before.best = calloc(count, sizeof(*cut->before.best));
    cut->after.offsets = malloc(count * sizeof(*cut->after.offsets));
    cut->after.best = calloc(count, sizeof(*cut->after.best));
    return r == 0 && cut->by_end && cut->stack && cut->key && cut->before.offsets &&
                   cut->before.best && cut->after.offsets && cut->after.best
               ? 0
               : -ENOMEM;
}

static void cut_done(struct cut *cut)
{
    berth__packing_live_done(&cut->live);
    free(cut->by_end);
    free(cut->stack);
    free(cut->key);
    free(cut->before.offsets);
    free(cut->before.best);
    free(cut->after.offsets);
    free(cut->after.best);
}

int berth__packing_cut(struct berth_packing *packing, bool is_to_the_end)
{
    struct cut cut = {.packing = packing};
    uint32_t section = 0;
    int r = cut_init(&cut, packing);

    for (uint32_t t = 1; t < packing->sections; t++)
        if (packing->section_live[t] > packing->section_live[section])
            section = t;
    while (r == 0 && !berth__packing_is_over(packing)) {
        cut_at(&cut, section);
        for (int order = 0; order < ORDER_COUNT && !berth__packing_is_over(packing); order++)
            cut_run(&cut, (enum order)order);
        if (!is_to_the_end)
            break;
        section = section_full(packing);
    }
    cut_done(&cut);
    return r;
}
