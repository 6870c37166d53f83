/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A local search for a packing within a capacity, for problems that are too large to be searched
 * from the ground up.
 *
 * It begins with the best packing so far, of which all that lies above the capacity is taken out.
 * What has no place is put where there is room, or else where what is in its way weighs least,
 * which is taken out in turn. A buffer weighs its size times its life, and as much more each time
 * that it had to do so: what is hard to place stays, and what is easy moves. Each attempt is
 * bounded; the next one is at another capacity. That weights grow so follows Nagata and Bräysy, "A
 * powerful route minimization heuristic for the vehicle routing problem with time windows" (2009).
 */
#include "tools/plan/packing_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Buffers that are placed in an attempt: so many, and so many times all of them. */
#define STEPS_FIRST UINT64_C(20000)
#define STEPS_PER_BUFFER 2
/* Capacities between max-live and the best peak: lower by a 4th of what is between, to a 256th. */
#define SHIFT_FIRST 2
#define SHIFT_LAST 8
/* The largest size times life weighs so much, and the least 1: sums stay far below 2^64. */
#define WEIGHT_MAX 0x1p20

/* That a step takes, see berth__packing_spend(), and each of its edges. */
#define LOOKS 100
#define EDGE_LOOKS 40

/* Where on the way up through the offsets a buffer's place gets out of, or into, another's way. */
struct edge {
    uint64_t at; /* twice the offset, and 1 where it is in the way from the next offset on */
    uint64_t weight;
};

struct eject {
    struct berth_packing *packing;
    uint64_t capacity, unit; /* all sizes are multiples of the unit */
    /* By item. */
    uint64_t *offsets;
    uint64_t *lightest; /* what it weighs at first */
    uint64_t *weight;
    bool *is_placed;
    uint32_t *left; /* what has no place */
    uint32_t left_count;
    uint32_t *meets; /* what is placed and lives when the item at hand does */
    uint32_t meet_count;
    struct edge *edges;
};

static int compare_edges(const void *one, const void *two)
{
    uint64_t a = ((const struct edge *)one)->at, b = ((const struct edge *)two)->at;

    return (a > b) - (a < b);
}

static void find_meets(struct eject *eject, uint32_t item)
{
    const struct berth_packing *packing = eject->packing;
    uint32_t end = berth__packing_later_end(packing, item);

    eject->meet_count = 0;
    for (uint64_t k = packing->earlier_at[item]; k < packing->earlier_at[item + 1]; k++)
        if (eject->is_placed[packing->earlier[k]])
            eject->meets[eject->meet_count++] = packing->earlier[k];
    for (uint32_t i = item + 1; i < end; i++)
        if (eject->is_placed[i])
            eject->meets[eject->meet_count++] = i;
}

/* Fills the edges up to the offset `top`; what a place at 0 is in the way of is returned. */
static uint64_t find_edges(struct eject *eject, uint64_t size, uint64_t top, uint32_t *ret_count)
{
    uint64_t weight = 0;
    uint32_t count = 0;

    for (uint32_t k = 0; k < eject->meet_count; k++) {
        uint32_t i = eject->meets[k];
        uint64_t begin = eject->offsets[i], end = begin + eject->packing->items[i].size;

        if (begin < size)
            weight += eject->weight[i];
        else
            eject->edges[count++] = (struct edge){2 * (begin - size) + 1, eject->weight[i]};
        if (end <= top)
            eject->edges[count++] = (struct edge){2 * end, eject->weight[i]};
    }
    eject->edges[count++] = (struct edge){2 * top, 0};
    berth__packing_spend(eject->packing, LOOKS + EDGE_LOOKS * count);
    qsort(eject->edges, count, sizeof(*eject->edges), compare_edges);
    *ret_count = count;
    return weight;
}

/* The offset that is in the way of the least, any of those that are; and how much that weighs. */
static uint64_t lightest_place(struct eject *eject, uint32_t item, uint64_t *ret_weight)
{
    uint64_t size = eject->packing->items[item].size, top = eject->capacity - size;
    uint32_t count, alike = 1;
    uint64_t weight = find_edges(eject, size, top, &count), least = weight, place = 0;

    for (uint32_t k = 0; k < count && eject->edges[k].at <= 2 * top;) {
        uint64_t offset = eject->edges[k].at / 2;

        for (; k < count && eject->edges[k].at == 2 * offset; k++)
            weight -= eject->edges[k].weight;
        if (weight < least ||
            (weight == least && berth__packing_random(eject->packing) % ++alike == 0)) {
            if (weight < least)
                alike = 1;
            least = weight;
            place = offset;
        }
        for (; k < count && eject->edges[k].at == 2 * offset + 1; k++)
            weight += eject->edges[k].weight;
    }
    *ret_weight = least;
    return place;
}

static void take_out(struct eject *eject, uint32_t item)
{
    eject->is_placed[item] = false;
    eject->left[eject->left_count++] = item;
}

static void take_out_in_way(struct eject *eject, uint32_t item, uint64_t offset)
{
    const struct berth_packing *packing = eject->packing;
    uint64_t end = offset + packing->items[item].size;

    for (uint32_t k = 0; k < eject->meet_count; k++) {
        uint32_t i = eject->meets[k];

        if (eject->offsets[i] < end && eject->offsets[i] + packing->items[i].size > offset)
            take_out(eject, i);
    }
}

/* Places one of those that are left. */
static void eject_step(struct eject *eject)
{
    uint32_t k = (uint32_t)(berth__packing_random(eject->packing) % eject->left_count);
    uint32_t item = eject->left[k];
    uint64_t offset, weight;

    eject->left[k] = eject->left[--eject->left_count];
    find_meets(eject, item);
    offset = lightest_place(eject, item, &weight);
    if (weight > 0) {
        eject->weight[item] += eject->lightest[item];
        take_out_in_way(eject, item, offset);
    }
    eject->offsets[item] = offset;
    eject->is_placed[item] = true;
}

static void eject_begin(struct eject *eject, unsigned shift)
{
    const struct berth_packing *packing = eject->packing;
    uint64_t gap = packing->best_peak - packing->max_live;

    eject->capacity = packing->best_peak - (gap >> shift > 0 ? gap >> shift : 1);
    eject->capacity -= eject->capacity % eject->unit;
    eject->left_count = 0;
    memcpy(eject->offsets, packing->best, packing->count * sizeof(*eject->offsets));
    memcpy(eject->weight, eject->lightest, packing->count * sizeof(*eject->weight));
    for (uint32_t i = 0; i < packing->count; i++) {
        eject->is_placed[i] = true;
        if (eject->offsets[i] + packing->items[i].size > eject->capacity)
            take_out(eject, i);
    }
}

/* Whether a packing within the capacity was found. */
static bool eject_attempt(struct eject *eject, uint64_t steps)
{
    struct berth_packing *packing = eject->packing;
    uint64_t peak = 0;

    while (eject->left_count > 0) {
        if (steps-- == 0 || berth__packing_is_over(packing))
            return false;
        eject_step(eject);
    }
    for (uint32_t i = 0; i < packing->count; i++)
        if (eject->offsets[i] + packing->items[i].size > peak)
            peak = eject->offsets[i] + packing->items[i].size;
    berth__packing_offer(packing, eject->offsets, peak, "ejection");
    return true;
}

static void eject_run(struct eject *eject)
{
    uint64_t steps = STEPS_FIRST + STEPS_PER_BUFFER * (uint64_t)eject->packing->count;
    unsigned shift = SHIFT_FIRST;

    while (!berth__packing_is_over(eject->packing)) {
        eject_begin(eject, shift);
        if (eject_attempt(eject, steps)) {
            if (shift > SHIFT_FIRST)
                shift--;
        } else if (++shift > SHIFT_LAST) {
            shift = SHIFT_FIRST;
            steps *= 2;
        }
    }
}

static uint64_t unit_of(const struct berth_packing *packing)
{
    uint64_t unit = 0;

    for (uint32_t i = 0; i < packing->count; i++) {
        uint64_t size = packing->items[i].size;

        while (size > 0) {
            uint64_t rest = unit % size;

            unit = size;
            size = rest;
        }
    }
    return unit;
}

static double area_of(const struct berth_packing_item *item)
{
    return (double)item->size * (item->end - item->first);
}

static void weigh(struct eject *eject)
{
    const struct berth_packing *packing = eject->packing;
    double most = 0;

    for (uint32_t i = 0; i < packing->count; i++)
        if (area_of(&packing->items[i]) > most)
            most = area_of(&packing->items[i]);
    for (uint32_t i = 0; i < packing->count; i++)
        eject->lightest[i] = 1 + (uint64_t)(area_of(&packing->items[i]) / most * WEIGHT_MAX);
}

int berth__packing_eject(struct berth_packing *packing)
{
    size_t count = packing->count;
    struct eject eject = {
        .packing = packing,
        .unit = unit_of(packing),
        .offsets = malloc(count * sizeof(*eject.offsets)),
        .lightest = malloc(count * sizeof(*eject.lightest)),
        .weight = malloc(count * sizeof(*eject.weight)),
        .is_placed = malloc(count * sizeof(*eject.is_placed)),
        .left = malloc(count * sizeof(*eject.left)),
        .meets = malloc(count * sizeof(*eject.meets)),
        .edges = malloc((2 * count + 1) * sizeof(*eject.edges)),
    };
    int r = -ENOMEM;

    if (eject.offsets && eject.lightest && eject.weight && eject.is_placed && eject.left &&
        eject.meets && eject.edges) {
        weigh(&eject);
        eject_run(&eject);
        r = 0;
    }
    free(eject.offsets);
    free(eject.lightest);
    free(eject.weight);
    free(eject.is_placed);
    free(eject.left);
    free(eject.meets);
    free(eject.edges);
    return r;
}
