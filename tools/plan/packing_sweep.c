/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passes in order of time: placing as an online allocator would, and checking a packing. Both keep
 * what lives at the moment ordered by offset; each step costs as many comparisons as blocks live.
 */
#include "tools/plan/packing_live.h"
#include "tools/plan/packing_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum policy { FIRST_FIT, BEST_FIT, POLICY_COUNT };

/* That each buffer takes, see berth__packing_spend(), beside one for each that lives. */
#define LOOKS 50

uint32_t *berth__packing_by_end(const struct berth_packing *packing)
{
    uint32_t *order = malloc(packing->count * sizeof(*order));
    uint32_t *at = calloc((size_t)packing->sections + 2, sizeof(*at));

    if (order && at) {
        for (uint32_t i = 0; i < packing->count; i++)
            at[packing->items[i].end + 1]++;
        for (uint32_t t = 0; t <= packing->sections; t++)
            at[t + 1] += at[t];
        for (uint32_t i = 0; i < packing->count; i++)
            order[at[packing->items[i].end]++] = i;
    } else {
        free(order);
        order = NULL;
    }
    free(at);
    return order;
}

/* The gap for `size` bytes: before which of the living, and at what offset. */
static uint32_t live_gap(const struct berth_packing_live *live, uint64_t size, enum policy policy,
                         uint64_t *ret_offset)
{
    uint64_t top = 0, smallest = UINT64_MAX;
    uint32_t at = live->count;

    for (uint32_t k = 0; k < live->count; k++) {
        uint64_t gap = live->begin[k] - top;

        if (gap >= size && gap < smallest) {
            smallest = gap;
            at = k;
            if (policy == FIRST_FIT)
                break;
        }
        top = live->end[k];
    }
    *ret_offset = at == 0 ? 0 : live->end[at - 1];
    return at;
}

static void sweep_run(struct berth_packing *packing, struct berth_packing_live *live,
                      const uint32_t *deaths, uint64_t *offsets, enum policy policy)
{
    uint64_t peak = 0;
    uint32_t dead = 0;

    live->count = 0;
    for (uint32_t i = 0; i < packing->count; i++) {
        const struct berth_packing_item *item = &packing->items[i];
        uint32_t at;

        for (; packing->items[deaths[dead]].end <= item->first; dead++)
            berth__packing_live_remove(live, berth__packing_live_find(live, offsets[deaths[dead]]));
        berth__packing_spend(packing, LOOKS + live->count);
        at = live_gap(live, item->size, policy, &offsets[i]);
        berth__packing_live_insert(live, at, offsets[i], offsets[i] + item->size, i);
        if (offsets[i] + item->size > peak)
            peak = offsets[i] + item->size;
    }
    berth__packing_offer(packing, offsets, peak, "sweep");
}

int berth__packing_sweep(struct berth_packing *packing)
{
    uint64_t *offsets = malloc(packing->count * sizeof(*offsets));
    uint32_t *deaths = berth__packing_by_end(packing);
    struct berth_packing_live live;
    int r = berth__packing_live_init(&live, packing->count);

    if (r == 0 && offsets && deaths) {
        for (int policy = 0; policy < POLICY_COUNT; policy++)
            if (policy == 0 || !berth__packing_is_over(packing))
                sweep_run(packing, &live, deaths, offsets, (enum policy)policy);
    } else {
        r = -ENOMEM;
    }
    berth__packing_live_done(&live);
    free(deaths);
    free(offsets);
    return r;
}

static int compare_events(const void *one, const void *two, void *context)
{
    const struct berth_packing_buffer *buffers = context;
    size_t a = *(const size_t *)one, b = *(const size_t *)two;
    uint32_t time_a = a & 1 ? buffers[a / 2].lower : buffers[a / 2].upper;
    uint32_t time_b = b & 1 ? buffers[b / 2].lower : buffers[b / 2].upper;

    if (time_a != time_b)
        return time_a < time_b ? -1 : 1;
    /* Deaths before births. */
    if ((a & 1) != (b & 1))
        return a & 1 ? 1 : -1;
    return a < b ? -1 : 1;
}

/* Adds a buffer to the living; -EBADMSG and the one that is in the way. */
static int check_birth(struct berth_packing_live *live, uint64_t begin, uint64_t end, uint32_t i,
                       size_t *ret)
{
    uint32_t at = berth__packing_live_find(live, begin);

    if (at > 0 && live->end[at - 1] > begin) {
        *ret = live->item[at - 1];
        return -EBADMSG;
    }
    if (at < live->count && live->begin[at] < end) {
        *ret = live->item[at];
        return -EBADMSG;
    }
    berth__packing_live_insert(live, at, begin, end, i);
    return 0;
}

int berth__packing_check(const struct berth_packing_buffer *buffers, size_t count,
                         const uint64_t *offsets, uint64_t *ret_peak, size_t pair[2])
{
    size_t *events = malloc((2 * count + 1) * sizeof(*events));
    struct berth_packing_live live;
    uint64_t peak = 0;
    int r = berth__packing_live_init(&live, count + 1);

    if (r < 0 || !events) {
        r = -ENOMEM;
        goto out;
    }
    for (size_t k = 0; k < 2 * count; k++)
        events[k] = k;
    qsort_r(events, 2 * count, sizeof(*events), compare_events, (void *)buffers);
    for (size_t k = 0; k < 2 * count && r == 0; k++) {
        size_t i = events[k] / 2;

        if (events[k] & 1) {
            pair[0] = i;
            r = check_birth(&live, offsets[i], offsets[i] + buffers[i].size, (uint32_t)i, &pair[1]);
            if (offsets[i] + buffers[i].size > peak)
                peak = offsets[i] + buffers[i].size;
        } else {
            berth__packing_live_remove(&live, berth__packing_live_find(&live, offsets[i]));
        }
    }
    if (r == 0)
        *ret_peak = peak;
out:
    berth__packing_live_done(&live);
    free(events);
    return r;
}
