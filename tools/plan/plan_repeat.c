/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/plan/plan_repeat.h"

#include "tools/berth/tool.h"

#include <stdlib.h>

/* From as many places of the run it is asked when the same calls come again. */
#define ANCHORS 15
/* So many calls in a row are the same calls when they are alike. */
#define GRAM 16
/* How many comparisons a whole search may take, times the length of the run. */
#define EFFORT 64
/* A block that lives longer than a step has no place in it. A repetition may have few of them. */
#define LEFT_OUT_MAX 0.02 /* of the bytes of a step */

struct search {
    const struct berth_plan_run *run;
    uint64_t *symbols; /* by call */
    uint64_t effort;
    uint32_t begin, period, length; /* the best so far; length 0 = none */
};

static uint64_t symbol_of(const struct berth_plan_run *run, uint32_t i, bool has_life)
{
    const struct berth_plan_call *call = &run->calls[i];
    uint64_t life = has_life ? call->upper - i : 0;

    return (call->size * UINT64_C(0x9e3779b97f4a7c15) + life) * UINT64_C(0xd6e8feb86659fd93) +
           call->thread;
}

/* How much of a repetition's bytes live for a period or longer. */
static double left_out(const struct berth_plan_run *run, uint32_t begin, uint32_t period,
                       uint32_t length)
{
    double all = 0, out = 0;

    for (uint32_t i = begin; i < begin + length; i++) {
        double bytes = (double)run->calls[i].size;

        all += bytes;
        if (run->calls[i].upper - i > period && begin + length - i > period)
            out += bytes;
    }
    return out / all;
}

/*
 * Whether calls [begin, end) are the program's steps: what follows them is not longer. Else it is
 * by chance that some calls came again, and what comes after them is not them once more.
 */
static bool is_most(const struct berth_plan_run *run, uint32_t begin, uint32_t end)
{
    return end - begin >= run->count - end;
}

/* Extends the repetition of calls [at, ...) at [at + period, ...) both ways, and keeps the best. */
static void try_period(struct search *search, uint32_t at, uint32_t period)
{
    uint32_t count = search->run->count, begin = at, end = at;

    while (begin > 0 && search->symbols[begin - 1] == search->symbols[begin - 1 + period])
        begin--;
    while (end + period < count && search->symbols[end] == search->symbols[end + period])
        end++;
    end += period;
    search->effort += end - begin;
    /* What is spared counts: of equally long ones the shorter period. */
    if (end - begin < 2 * period || !is_most(search->run, begin, end) ||
        (search->length > 0 && end - begin - period <= search->length - search->period) ||
        left_out(search->run, begin, period, end - begin) > LEFT_OUT_MAX)
        return;
    search->begin = begin;
    search->period = period;
    search->length = end - begin;
}

static bool gram_matches(const uint64_t *symbols, uint32_t a, uint32_t b)
{
    for (uint32_t k = 0; k < GRAM; k++)
        if (symbols[a + k] != symbols[b + k])
            return false;
    return true;
}

static void try_anchor(struct search *search, uint32_t at, uint64_t effort_max)
{
    uint32_t count = search->run->count;

    for (uint32_t other = at + 1; other + GRAM <= count; other++)
        if (gram_matches(search->symbols, at, other)) {
            try_period(search, at, other - at);
            if (search->effort > effort_max)
                return;
        }
}

static void set_symbols(struct search *search, bool has_life)
{
    for (uint32_t i = 0; i < search->run->count; i++)
        search->symbols[i] = symbol_of(search->run, i, has_life);
}

static void search_run(struct search *search)
{
    uint32_t count = search->run->count;

    search->effort = 0;
    for (uint32_t k = 0; k < ANCHORS && count >= 2 * GRAM; k++)
        try_anchor(search, (uint32_t)((uint64_t)(count - GRAM) * k / ANCHORS),
                   (uint64_t)count * EFFORT * (k + 1) / ANCHORS);
}

/* Bytes that live over each of the `period` places at which the steps could be cut. */
static double *carried_over(const struct search *search)
{
    double *carried = berth__tool_realloc(NULL, ((size_t)search->period + 1) * sizeof(*carried));
    double sum = 0;

    for (uint32_t x = 0; x <= search->period; x++)
        carried[x] = 0;
    for (uint32_t i = search->begin; i < search->begin + search->period; i++) {
        const struct berth_plan_call *call = &search->run->calls[i];
        uint32_t first = i - search->begin + 1, last = call->upper - search->begin - 1;

        /* Over the cuts first..last, of which those beyond the period are at its begin. */
        if (call->upper - i > search->period || last < first)
            continue;
        carried[first] += (double)call->size;
        if (last < search->period) {
            carried[last + 1] -= (double)call->size;
        } else {
            carried[0] += (double)call->size;
            carried[last - search->period + 1] -= (double)call->size;
        }
    }
    for (uint32_t x = 0; x < search->period; x++)
        carried[x] = sum += carried[x];
    return carried;
}

struct berth_plan_repeat berth__plan_repeat_find(const struct berth_plan_run *run)
{
    struct search search = {
        .run = run,
        .symbols = berth__tool_realloc(NULL, ((size_t)run->count + 1) * sizeof(*search.symbols)),
    };
    struct berth_plan_repeat repeat = {.times = 0};
    double *carried;
    uint32_t shift = 0;

    /* Lives tell steps apart better than sizes do, where they are the same in each step. */
    set_symbols(&search, true);
    search_run(&search);
    set_symbols(&search, false);
    /* The last step's may be cut by the end of the run, or by what follows. */
    if (search.length > 0)
        try_period(&search, search.begin, search.period);
    else
        search_run(&search);
    if (search.length > 0) {
        uint32_t shift_max = search.length - 2 * search.period;

        carried = carried_over(&search);
        for (uint32_t x = 1; x < search.period && x <= shift_max; x++)
            if (carried[x] < carried[shift])
                shift = x;
        repeat = (struct berth_plan_repeat){search.begin + shift, search.period,
                                            (search.length - shift) / search.period, search.begin,
                                            search.begin + search.length};
        free(carried);
    }
    free(search.symbols);
    return repeat;
}
