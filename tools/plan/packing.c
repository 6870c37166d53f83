/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/plan/packing_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t berth__packing_random(struct berth_packing *packing)
{
    uint64_t x = packing->random;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return packing->random = x;
}

/* On a machine that is busy with other things, by how much longer than asked for it may take. */
#define BUSY_FACTOR 3

static double seconds_of(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* The processor's time is asked for last: that is a system call. */
bool berth__packing_is_over(const struct berth_packing *packing)
{
    double taken;

    if (packing->best_peak == packing->max_live || packing->effort >= packing->effort_max)
        return true;
    taken = seconds_of(CLOCK_MONOTONIC) - packing->start;
    return taken >= packing->seconds &&
           (taken >= BUSY_FACTOR * packing->seconds ||
            seconds_of(CLOCK_THREAD_CPUTIME_ID) - packing->start_cpu >= packing->seconds);
}

void berth__packing_offer(struct berth_packing *packing, const uint64_t *offsets, uint64_t peak,
                          const char *method)
{
    if (peak >= packing->best_peak)
        return;
    memcpy(packing->best, offsets, packing->count * sizeof(*offsets));
    packing->best_peak = peak;
    packing->method = method;
}

static int compare_buffers(const void *one, const void *two, void *context)
{
    const struct berth_packing_buffer *buffers = context;
    const struct berth_packing_buffer *a = &buffers[*(const uint32_t *)one];
    const struct berth_packing_buffer *b = &buffers[*(const uint32_t *)two];

    if (a->lower != b->lower)
        return a->lower < b->lower ? -1 : 1;
    if (a->size != b->size)
        return a->size > b->size ? -1 : 1;
    return *(const uint32_t *)one < *(const uint32_t *)two ? -1 : 1;
}

/* The section that begins at or after `time`; `begins` has one time per section. */
static uint32_t section_at(const uint32_t *begins, uint32_t count, uint32_t time)
{
    uint32_t low = 0, high = count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (begins[middle] < time)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Sorts the buffers and finds the sections. */
static int packing_sort(struct berth_packing *packing, const struct berth_packing_buffer *buffers)
{
    uint32_t *order = malloc(packing->count * sizeof(*order));
    uint32_t *begins = malloc(packing->count * sizeof(*begins));
    int r = -ENOMEM;

    if (!order || !begins)
        goto out;
    for (uint32_t i = 0; i < packing->count; i++)
        order[i] = i;
    qsort_r(order, packing->count, sizeof(*order), compare_buffers, (void *)buffers);
    for (uint32_t i = 0; i < packing->count; i++) {
        uint32_t lower = buffers[order[i]].lower;

        if (packing->sections == 0 || begins[packing->sections - 1] != lower) {
            begins[packing->sections] = lower;
            packing->section_first[packing->sections++] = i;
        }
        packing->items[i].first = packing->sections - 1;
        packing->items[i].size = buffers[order[i]].size;
        packing->items[i].id = order[i];
    }
    packing->section_first[packing->sections] = packing->count;
    for (uint32_t i = 0; i < packing->count; i++)
        packing->items[i].end = section_at(begins, packing->sections, buffers[order[i]].upper);
    r = 0;
out:
    free(order);
    free(begins);
    return r;
}

/* Bytes that live in each section, and how many pairs meet. */
static int packing_measure(struct berth_packing *packing)
{
    uint64_t *dying = calloc((size_t)packing->sections + 1, 2 * sizeof(*dying));
    uint64_t *dying_count = dying ? dying + packing->sections + 1 : NULL;
    uint64_t live = 0, live_count = 0;

    if (!dying)
        return -ENOMEM;
    for (uint32_t i = 0; i < packing->count; i++) {
        dying[packing->items[i].end] += packing->items[i].size;
        dying_count[packing->items[i].end]++;
    }
    for (uint32_t t = 0; t < packing->sections; t++) {
        live -= dying[t];
        live_count -= dying_count[t];
        for (uint32_t i = packing->section_first[t]; i < packing->section_first[t + 1]; i++) {
            live += packing->items[i].size;
            packing->pairs += live_count++;
        }
        packing->section_live[t] = live;
        if (live > packing->max_live)
            packing->max_live = live;
    }
    free(dying);
    return 0;
}

/* Lists the pairs: walks in order of time with the list of what lives. */
static int packing_pair(struct berth_packing *packing)
{
    uint32_t *live = malloc(packing->count * sizeof(*live));
    uint32_t live_count = 0;
    uint64_t at = 0;

    packing->earlier = malloc((packing->pairs + 1) * sizeof(*packing->earlier));
    packing->earlier_at = malloc(((size_t)packing->count + 1) * sizeof(*packing->earlier_at));
    if (!live || !packing->earlier || !packing->earlier_at) {
        free(live);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < packing->count; i++) {
        uint32_t kept = 0;

        for (uint32_t k = 0; k < live_count; k++)
            if (packing->items[live[k]].end > packing->items[i].first)
                live[kept++] = live[k];
        live_count = kept;
        packing->earlier_at[i] = at;
        memcpy(&packing->earlier[at], live, live_count * sizeof(*live));
        at += live_count;
        live[live_count++] = i;
    }
    packing->earlier_at[packing->count] = at;
    free(live);
    return 0;
}

static void packing_done(struct berth_packing *packing)
{
    free(packing->items);
    free(packing->section_first);
    free(packing->section_live);
    free(packing->earlier);
    free(packing->earlier_at);
    free(packing->best);
}

static int packing_init(struct berth_packing *packing, const struct berth_packing_buffer *buffers,
                        size_t count, const struct berth_packing_limits *limits)
{
    double seconds = limits->seconds > 0 ? limits->seconds : 0;
    int r;

    *packing = (struct berth_packing){
        .count = (uint32_t)count,
        .items = calloc(count, sizeof(*packing->items)),
        .section_first = calloc(count + 1, sizeof(*packing->section_first)),
        .section_live = calloc(count, sizeof(*packing->section_live)),
        .best = calloc(count, sizeof(*packing->best)),
        .best_peak = UINT64_MAX,
        .effort_max = limits->effort,
        .random = (limits->seed + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1,
    };
    if (!packing->items || !packing->section_first || !packing->section_live || !packing->best)
        return -ENOMEM;
    packing->seconds = seconds;
    packing->start = seconds_of(CLOCK_MONOTONIC);
    packing->start_cpu = seconds_of(CLOCK_THREAD_CPUTIME_ID);
    r = packing_sort(packing, buffers);
    return r < 0 ? r : packing_measure(packing);
}

static int check_buffers(const struct berth_packing_buffer *buffers, size_t count)
{
    uint64_t sum = 0;

    if (count > BERTH_PACKING_BUFFERS_MAX)
        return -E2BIG;
    for (size_t i = 0; i < count; i++) {
        if (buffers[i].size == 0 || buffers[i].lower >= buffers[i].upper)
            return -EINVAL;
        if (buffers[i].size >= UINT64_MAX / 2 - sum)
            return -EOVERFLOW;
        sum += buffers[i].size;
    }
    return 0;
}

static int packing_fit(struct berth_packing *packing)
{
    int r = packing_pair(packing);

    return r == 0 ? berth__packing_fit(packing) : r;
}

static int packing_search(struct berth_packing *packing)
{
    if (packing->pairs > BERTH_PACKING_SEARCH_PAIRS_MAX ||
        packing->count > BERTH_PACKING_SEARCH_BUFFERS_MAX)
        return berth__packing_eject(packing);
    return berth__packing_search(packing);
}

int berth__packing_solve(const struct berth_packing_buffer *buffers, size_t count,
                         const struct berth_packing_limits *limits, uint64_t *offsets,
                         struct berth_packing_result *ret)
{
    struct berth_packing packing;
    bool has_pairs;
    int r = check_buffers(buffers, count);

    if (r < 0)
        return r;
    if (count == 0) {
        *ret = (struct berth_packing_result){.method = "sweep"};
        return 0;
    }
    r = packing_init(&packing, buffers, count, limits);
    if (r == 0)
        r = berth__packing_sweep(&packing);
    has_pairs = packing.pairs <= BERTH_PACKING_FIT_PAIRS_MAX && !berth__packing_is_over(&packing);
    if (r == 0 && has_pairs)
        r = packing_fit(&packing);
    if (r == 0)
        r = berth__packing_cut(&packing, false);
    if (r == 0 && has_pairs && !berth__packing_is_over(&packing))
        r = packing_search(&packing);
    if (r == 0)
        r = berth__packing_cut(&packing, true);
    if (r == 0) {
        for (uint32_t i = 0; i < packing.count; i++)
            offsets[packing.items[i].id] = packing.best[i];
        *ret = (struct berth_packing_result){packing.max_live, packing.best_peak, packing.method};
    }
    packing_done(&packing);
    return r;
}
