/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/plan/plan_make.h"

#include "alloc/size_class.h"
#include "tools/berth/tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What steps laid over each other may need, of what the run needs. */
#define FOLD_COST_MAX 1.0025
/* So many steps of the run are taken for one, where blocks outlive a step. */
#define STEPS_MAX 8

/* A run whose steps are laid over each other: what comes before them, one step, what follows. */
struct fold {
    const struct berth_plan_run *run;
    uint32_t begin, end; /* calls that repeat: [begin, end) */
    uint32_t period;
    uint32_t count;                       /* entries */
    struct berth_packing_buffer *buffers; /* by entry; lower == upper: no place */
    uint32_t *threads;                    /* by entry */
};

/* The entry of a call; and of the time after all of them. */
static uint32_t entry_of(const struct fold *fold, uint32_t call)
{
    if (call < fold->begin)
        return call;
    if (call < fold->end)
        return fold->begin + (call - fold->begin) % fold->period;
    return call - (fold->end - fold->begin) + fold->period;
}

/* The life of a call in the time of entries. False for one that would meet itself. */
static bool fold_life(const struct fold *fold, uint32_t call, uint32_t *ret_lower,
                      uint32_t *ret_upper)
{
    uint32_t upper = fold->run->calls[call].upper;
    uint32_t step_end = fold->begin + fold->period;
    bool is_in_step = call >= fold->begin && call < fold->end;

    *ret_lower = entry_of(fold, call);
    if (is_in_step && upper - call > fold->period && fold->end - call > fold->period)
        return false;
    if (upper > fold->end || fold->period == 0)
        *ret_upper = fold->period == 0 ? upper : entry_of(fold, upper);
    else if (is_in_step)
        *ret_upper = *ret_lower + (upper - call);
    else
        *ret_upper = upper <= step_end ? upper : step_end;
    if (is_in_step && upper <= fold->end && *ret_upper > step_end) {
        /* Into the next step: it keeps its place in all of them. */
        *ret_lower = fold->begin;
        *ret_upper = step_end;
    }
    return true;
}

static void fold_call(struct fold *fold, uint32_t call)
{
    uint32_t entry = entry_of(fold, call), lower, upper;
    struct berth_packing_buffer *buffer = &fold->buffers[entry];

    fold->threads[entry] = fold->run->calls[call].thread;
    if (!fold_life(fold, call, &lower, &upper)) {
        /* UINT32_MAX marks it for all repetitions. */
        *buffer = (struct berth_packing_buffer){UINT32_MAX, UINT32_MAX, 0};
        return;
    }
    if (buffer->lower == UINT32_MAX)
        return;
    if (buffer->size == 0)
        *buffer = (struct berth_packing_buffer){lower, upper, 0};
    buffer->size = fold->run->calls[call].size;
    if (lower < buffer->lower)
        buffer->lower = lower;
    if (upper > buffer->upper)
        buffer->upper = upper;
}

static void fold_init(struct fold *fold, const struct berth_plan_run *run,
                      const struct berth_plan_repeat *repeat)
{
    uint32_t spared = repeat->times > 0 ? (repeat->times - 1) * repeat->period : 0;

    *fold = (struct fold){
        .run = run,
        .begin = repeat->times > 0 ? repeat->begin : run->count,
        .end = repeat->times > 0 ? repeat->begin + repeat->times * repeat->period : run->count,
        .period = repeat->times > 0 ? repeat->period : 0,
        .count = run->count - spared,
    };
    fold->buffers = berth__tool_realloc(NULL, ((size_t)fold->count + 1) * sizeof(*fold->buffers));
    fold->threads = berth__tool_realloc(NULL, ((size_t)fold->count + 1) * sizeof(*fold->threads));
    memset(fold->buffers, 0, ((size_t)fold->count + 1) * sizeof(*fold->buffers));
    for (uint32_t i = 0; i < run->count; i++)
        fold_call(fold, i);
}

static void fold_done(struct fold *fold)
{
    free(fold->buffers);
    free(fold->threads);
}

static bool has_place(const struct fold *fold, uint32_t call)
{
    return fold->buffers[entry_of(fold, call)].lower != UINT32_MAX;
}

/* The most bytes that live at once in the run, of those calls that have a place, or have none. */
static uint64_t max_live_of(const struct fold *fold, bool is_placed)
{
    uint64_t *dying = berth__tool_realloc(NULL, ((size_t)fold->run->count + 1) * sizeof(*dying));
    uint64_t live = 0, max_live = 0;

    memset(dying, 0, ((size_t)fold->run->count + 1) * sizeof(*dying));
    for (uint32_t i = 0; i < fold->run->count; i++) {
        live -= dying[i];
        if (has_place(fold, i) != is_placed)
            continue;
        live += fold->run->calls[i].size;
        dying[fold->run->calls[i].upper] += fold->run->calls[i].size;
        if (live > max_live)
            max_live = live;
    }
    free(dying);
    return max_live;
}

/* The most bytes that live at once in the fold, of those entries that have a place. */
static uint64_t packed_live_of(const struct fold *fold)
{
    int64_t *change = berth__tool_realloc(NULL, ((size_t)fold->count + 1) * sizeof(*change));
    int64_t live = 0, max_live = 0;

    memset(change, 0, ((size_t)fold->count + 1) * sizeof(*change));
    for (uint32_t i = 0; i < fold->count; i++) {
        const struct berth_packing_buffer *buffer = &fold->buffers[i];

        if (buffer->lower == UINT32_MAX)
            continue;
        change[buffer->lower] += (int64_t)buffer->size;
        change[buffer->upper] -= (int64_t)buffer->size;
    }
    for (uint32_t i = 0; i < fold->count; i++) {
        live += change[i];
        if (live > max_live)
            max_live = live;
    }
    free(change);
    return (uint64_t)max_live;
}

/* Offsets by entry, BERTH_PLAN_NOWHERE for those without a place. */
static int fold_pack(const struct fold *fold, const struct berth_packing_limits *limits,
                     uint64_t *offsets, struct berth_plan_made *made)
{
    struct berth_packing_buffer *buffers =
        berth__tool_realloc(NULL, ((size_t)fold->count + 1) * sizeof(*buffers));
    uint64_t *packed = berth__tool_realloc(NULL, ((size_t)fold->count + 1) * sizeof(*packed));
    uint64_t peak;
    size_t count = 0, pair[2];
    int r;

    for (uint32_t i = 0; i < fold->count; i++)
        if (fold->buffers[i].lower != UINT32_MAX)
            buffers[count++] = fold->buffers[i];
    made->left_out = fold->count - (uint32_t)count;
    r = count == 0 ? -ERANGE : berth__packing_solve(buffers, count, limits, packed, &made->packing);
    if (r == 0)
        r = berth__packing_check(buffers, count, packed, &peak, pair);
    for (uint32_t i = fold->count; i-- > 0 && r == 0;)
        offsets[i] = fold->buffers[i].lower == UINT32_MAX ? BERTH_PLAN_NOWHERE : packed[--count];
    free(buffers);
    free(packed);
    return r;
}

static uint64_t call_size_of_entry(const struct fold *fold, uint32_t entry)
{
    uint32_t call = entry;

    if (fold->period > 0 && entry >= fold->begin + fold->period)
        call = entry - fold->period + (fold->end - fold->begin);
    return fold->run->calls[call].size;
}

/* Writes the entries of a thread, or of ALL_THREADS; returns how many. */
#define ALL_THREADS UINT32_MAX

static uint32_t write_lane(const struct fold *fold, const uint64_t *offsets, uint32_t thread,
                           struct berth_plan_lane *ret, struct berth_plan_entry *entries)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < fold->count; i++) {
        if (i == fold->begin)
            ret->loop_begin = ret->loop_end = count;
        if (fold->period > 0 && i == fold->begin + fold->period)
            ret->loop_end = count;
        if (thread == ALL_THREADS || fold->threads[i] == thread)
            entries[count++] = (struct berth_plan_entry){call_size_of_entry(fold, i), offsets[i]};
    }
    if (fold->period > 0 && fold->count == fold->begin + fold->period)
        ret->loop_end = count;
    if (fold->count <= fold->begin)
        ret->loop_begin = ret->loop_end = count;
    ret->count = count;
    return count;
}

static int fold_write(const struct fold *fold, const uint64_t *offsets,
                      struct berth_plan_made *made)
{
    uint32_t lane_count = fold->run->threads > 1 ? 1 + fold->run->threads : 1, entry_count = 0;
    size_t size = sizeof(struct berth_plan_header) + lane_count * sizeof(struct berth_plan_lane) +
                  (lane_count > 1 ? 2 : 1) * fold->count * sizeof(struct berth_plan_entry);
    struct berth_plan_header *header = berth__tool_realloc(NULL, size);
    struct berth_plan_lane *lanes = (void *)(header + 1);
    struct berth_plan_entry *entries = (void *)(lanes + lane_count);
    struct berth_plan_view view;
    char why[BERTH_PLAN_WHY_MAX];

    memset(header, 0, size);
    for (uint32_t lane = 0; lane < lane_count; lane++) {
        lanes[lane].first = entry_count;
        entry_count += write_lane(fold, offsets, lane == 0 ? ALL_THREADS : lane - 1, &lanes[lane],
                                  entries + entry_count);
    }
    /* The calls of threads beyond the last lane are in the first one alone. */
    size = (size_t)((char *)(entries + entry_count) - (char *)header);
    memcpy(header->magic, BERTH_PLAN_MAGIC, sizeof(BERTH_PLAN_MAGIC));
    header->device = fold->run->device;
    header->lane_count = lane_count;
    header->entry_count = entry_count;
    header->peak = made->packing.peak;
    header->max_live = made->run_max_live;
    header->checksum = berth__plan_file_checksum(header, size);
    made->bytes = header;
    made->size = size;
    made->entries = fold->count;
    return berth__plan_file_open(header, size, &view, why, sizeof(why)) < 0 ? -ERANGE : 0;
}

/* What a plan with these steps needs at least, with what has no place in it. */
static uint64_t need_of(const struct berth_plan_run *run, const struct berth_plan_repeat *repeat,
                        bool *ret_left_out)
{
    struct fold fold;
    uint64_t need, left_out;

    fold_init(&fold, run, repeat);
    left_out = max_live_of(&fold, false);
    need = packed_live_of(&fold) + left_out;
    fold_done(&fold);
    *ret_left_out = left_out > 0;
    return need;
}

/*
 * Takes one, two or more steps for one that ends at `end`, those that are left over first: what
 * follows the steps then follows the last of them.
 */
static bool choose_steps(const struct berth_plan_run *run, uint32_t end, bool may_leave_out,
                         double most, struct berth_plan_repeat *repeat)
{
    for (uint32_t steps = 1; steps <= STEPS_MAX; steps++) {
        uint32_t period = repeat->period * steps, times = (end - repeat->first) / period;
        struct berth_plan_repeat several = {end - times * period, period, times, repeat->first,
                                            repeat->end};
        bool is_left_out;

        if (times < 2)
            break;
        if ((double)need_of(run, &several, &is_left_out) > most || (is_left_out && !may_leave_out))
            continue;
        *repeat = several;
        return true;
    }
    return false;
}

struct berth_plan_repeat berth__plan_repeat_choose(const struct berth_plan_run *run)
{
    const struct berth_plan_repeat none = {.times = 0};
    struct berth_plan_repeat repeat = berth__plan_repeat_find(run);
    uint32_t cut = repeat.begin + repeat.times * repeat.period;
    bool is_left_out;
    double most = (double)need_of(run, &none, &is_left_out) * FOLD_COST_MAX;

    if (repeat.times == 0)
        return none;
    /* Cut where the steps end: the call after them tells that they have. */
    if (choose_steps(run, repeat.end, false, most, &repeat))
        return repeat;
    /* A run that was cut short in the midst of its steps will go on: where least lives. */
    if (repeat.end == run->count && (choose_steps(run, cut, false, most, &repeat) ||
                                     choose_steps(run, cut, true, most, &repeat)))
        return repeat;
    return none;
}

int berth__plan_make(const struct berth_plan_run *run, const struct berth_plan_repeat *repeat,
                     const struct berth_packing_limits *limits, struct berth_plan_made *ret)
{
    struct berth_plan_made made = {.bytes = NULL};
    struct fold fold;
    uint64_t *offsets;
    int r;

    fold_init(&fold, run, repeat);
    offsets = berth__tool_realloc(NULL, ((size_t)fold.count + 1) * sizeof(*offsets));
    r = fold_pack(&fold, limits, offsets, &made);
    if (r == 0) {
        made.run_max_live = max_live_of(&fold, true);
        r = fold_write(&fold, offsets, &made);
    }
    if (r == 0)
        *ret = made;
    else
        free(made.bytes);
    free(offsets);
    fold_done(&fold);
    return r;
}
