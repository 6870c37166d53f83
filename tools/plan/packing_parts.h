/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a packing, for packing*.c alone.
 *
 * Buffers are sorted by the beginning of their life. Time is counted in sections: section t is the
 * time between the t-th and the next beginning; what lives in it is constant but for deaths, so
 * that the most bytes live at its begin. A buffer lives in sections [first, end).
 */
#ifndef BERTH_TOOLS_PACKING_PARTS_H
#define BERTH_TOOLS_PACKING_PARTS_H

#include "tools/plan/packing.h"

/* Pairs that may be stored: 4 bytes each; the search takes up to 40 bytes for each. */
#define BERTH_PACKING_FIT_PAIRS_MAX ((uint64_t)1 << 26)
#define BERTH_PACKING_SEARCH_PAIRS_MAX ((uint64_t)1 << 23)
#define BERTH_PACKING_SEARCH_BUFFERS_MAX ((uint32_t)1 << 13)

struct berth_packing_item {
    uint32_t first, end; /* sections */
    uint32_t id;         /* the caller's index */
    uint64_t size;
};

struct berth_packing {
    uint32_t count, sections;
    struct berth_packing_item *items; /* by `first`, then larger ones first */
    uint32_t *section_first;          /* by section, the first item that begins in it, and a last */
    uint64_t *section_live;           /* bytes */
    uint64_t max_live;
    /*
     * The pairs, only while they are few enough: for item i, earlier[earlier_at[i] ..
     * earlier_at[i + 1]) are those items before i that live when it begins. Those after i that it
     * meets are the items from i + 1 to before section_first[items[i].end].
     */
    uint64_t pairs;
    uint64_t *earlier_at;
    uint32_t *earlier;
    /* The best so far, by item. */
    uint64_t *best;
    uint64_t best_peak;
    const char *method;
    uint64_t effort, effort_max;
    double seconds; /* of the thread's processor time that it may take */
    double start, start_cpu;
    uint64_t random; /* never 0 */
};

/* The first item after all those that item `i` meets. */
static inline uint32_t berth__packing_later_end(const struct berth_packing *packing, uint32_t i)
{
    return packing->section_first[packing->items[i].end];
}

/* Counts what was looked at, see struct berth_packing_limits. */
static inline void berth__packing_spend(struct berth_packing *packing, uint64_t looks)
{
    packing->effort += looks;
}

uint64_t berth__packing_random(struct berth_packing *packing);
bool berth__packing_is_over(const struct berth_packing *packing);

/* Keeps `offsets`, by item, when their peak is lower than the best one. */
void berth__packing_offer(struct berth_packing *packing, const uint64_t *offsets, uint64_t peak,
                          const char *method);

/* All items by the end of their life, to be freed; NULL without memory. */
uint32_t *berth__packing_by_end(const struct berth_packing *packing);

/* The passes. 0 or -ENOMEM. */
int berth__packing_sweep(struct berth_packing *packing);
/* At the fullest section; `is_to_the_end`: at others too, as long as there is time. */
int berth__packing_cut(struct berth_packing *packing, bool is_to_the_end);
int berth__packing_fit(struct berth_packing *packing);
int berth__packing_eject(struct berth_packing *packing);
int berth__packing_search(struct berth_packing *packing);

#endif
