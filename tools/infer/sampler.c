/* SPDX-License-Identifier: Apache-2.0 */
#include "sampler.h"

#include "memory.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

struct candidate {
    float weight; /* the logit, then the probability times a constant */
    uint32_t id;
};

struct berth_sampler {
    struct berth_sampling sampling;
    size_t vocab;
    uint64_t state;
    struct candidate *candidates; /* vocab of them; NULL when greedy */
};

int berth__sampler_new(const struct berth_sampling *sampling, size_t vocab,
                       struct berth_failure *failure, struct berth_sampler **ret_sampler)
{
    struct berth_sampler *sampler = calloc(1, sizeof(*sampler));
    size_t bytes = vocab * sizeof(sampler->candidates[0]);

    if (!sampler)
        return berth__failure_no_memory(failure, "sampler", sizeof(*sampler));
    sampler->sampling = *sampling;
    sampler->vocab = vocab;
    sampler->state = sampling->seed;
    if (sampling->temperature > 0) {
        sampler->candidates = berth__memory_alloc(BERTH_TAG_WORKSPACE, bytes);
        if (!sampler->candidates) {
            free(sampler);
            return berth__failure_no_memory(failure, "sampler", bytes);
        }
    }
    *ret_sampler = sampler;
    return 0;
}

void berth__sampler_free(struct berth_sampler *sampler)
{
    if (!sampler)
        return;
    berth__memory_free(BERTH_TAG_WORKSPACE, sampler->candidates,
                       sampler->vocab * sizeof(sampler->candidates[0]));
    free(sampler);
}

/* SplitMix64's sequence: every seed is good. The result is in [0, 1). */
static double uniform_draw(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

static uint32_t largest_pick(const float *logits, size_t count)
{
    uint32_t best = 0;

    for (size_t i = 1; i < count; i++) {
        if (logits[i] > logits[best])
            best = (uint32_t)i;
    }
    return best;
}

/* The more likely first; equals by id, so that the order is the same everywhere. */
static bool candidate_before(const struct candidate *a, const struct candidate *b)
{
    return a->weight != b->weight ? a->weight > b->weight : a->id < b->id;
}

static int candidate_compare(const void *a, const void *b)
{
    return candidate_before(a, b) ? -1 : candidate_before(b, a);
}

/* Moves heap[at] down in a heap whose root is the least likely. */
static void heap_sift(struct candidate *heap, size_t count, size_t at)
{
    struct candidate moved = heap[at];
    size_t child;

    while ((child = 2 * at + 1) < count) {
        if (child + 1 < count && candidate_before(&heap[child], &heap[child + 1]))
            child++;
        if (!candidate_before(&moved, &heap[child]))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

/* Leaves the `keep` most likely at the front. */
static void candidates_cut(struct candidate *candidates, size_t count, size_t keep)
{
    for (size_t i = keep / 2; i-- > 0;)
        heap_sift(candidates, keep, i);
    for (size_t i = keep; i < count; i++) {
        if (candidate_before(&candidates[i], &candidates[0])) {
            candidates[0] = candidates[i];
            heap_sift(candidates, keep, 0);
        }
    }
}

/* Turns logits into weights relative to the largest; returns their sum. */
static double weights_form(struct candidate *candidates, size_t count, double temperature)
{
    float largest = -INFINITY;
    double total = 0;

    for (size_t i = 0; i < count; i++) {
        if (candidates[i].weight > largest)
            largest = candidates[i].weight;
    }
    for (size_t i = 0; i < count; i++) {
        candidates[i].weight =
            (float)exp(((double)candidates[i].weight - (double)largest) / temperature);
        total += candidates[i].weight;
    }
    return total;
}

/* Leaves the nucleus at the front, sorted; returns its size and sum. */
static size_t nucleus_cut(struct candidate *candidates, size_t count, double top_p, double *total)
{
    /* All candidates below this together are less than what may be left out. */
    double floor = (1 - top_p) * *total / (double)count, sum = 0;
    size_t kept = 0, size = 0;

    for (size_t i = 0; i < count; i++) {
        if (candidates[i].weight >= floor)
            candidates[kept++] = candidates[i];
    }
    qsort(candidates, kept, sizeof(candidates[0]), candidate_compare);
    while (size < kept && (size == 0 || sum < top_p * *total))
        sum += candidates[size++].weight;
    *total = sum;
    return size;
}

uint32_t berth__sampler_pick(struct berth_sampler *sampler, const float *logits)
{
    const struct berth_sampling *sampling = &sampler->sampling;
    struct candidate *candidates = sampler->candidates;
    size_t count = sampler->vocab;
    double total, target;

    if (!candidates)
        return largest_pick(logits, count);
    for (size_t i = 0; i < count; i++)
        candidates[i] = (struct candidate){logits[i], (uint32_t)i};
    if (sampling->top_k > 0 && sampling->top_k < count) {
        candidates_cut(candidates, count, sampling->top_k);
        count = sampling->top_k;
    }
    total = weights_form(candidates, count, sampling->temperature);
    if (sampling->top_p < 1)
        count = nucleus_cut(candidates, count, sampling->top_p, &total);
    target = uniform_draw(&sampler->state) * total;
    for (size_t i = 0; i + 1 < count; i++) {
        target -= candidates[i].weight;
        if (target < 0)
            return candidates[i].id;
    }
    /* Rounding, or logits that are no numbers. */
    return count > 0 ? candidates[count - 1].id : largest_pick(logits, sampler->vocab);
}
