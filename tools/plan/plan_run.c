/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/plan/plan_run.h"

#include "alloc/size_class.h"
#include "tools/berth/tool.h"

#include <stdlib.h>

#define DEVICES_MAX 65536 /* as many as an event can name */

static bool is_planned_kind(const struct berth_trace_event *event)
{
    return event->action == BERTH_TRACE_ALLOCATE && event->kind == BERTH_TRACE_DEVICE &&
           event->size > 0 && berth__size_round(event->size) != 0;
}

static uint32_t busiest_device(const struct berth_trace_log *log)
{
    double *bytes = berth__tool_realloc(NULL, DEVICES_MAX * sizeof(*bytes));
    uint32_t best = 0;

    for (uint32_t i = 0; i < DEVICES_MAX; i++)
        bytes[i] = 0;
    for (uint32_t i = 0; i < log->count; i++)
        if (is_planned_kind(&log->event[i]))
            bytes[log->event[i].device] += (double)log->event[i].size;
    for (uint32_t i = 1; i < DEVICES_MAX; i++)
        if (bytes[i] > bytes[best])
            best = i;
    free(bytes);
    return best;
}

/* The threads that have allocated, by first allocation. */
struct threads {
    uint64_t id[BERTH_PLAN_THREADS_MAX];
    uint32_t count;
};

static uint32_t thread_of(struct threads *threads, uint64_t thread)
{
    uint32_t i = 0;

    while (i < threads->count && threads->id[i] != thread)
        i++;
    if (i == threads->count && i < BERTH_PLAN_THREADS_MAX)
        threads->id[threads->count++] = thread;
    return i;
}

void berth__plan_run_init(const struct berth_trace_log *log, int device, uint32_t delay,
                          struct berth_plan_run *ret)
{
    uint32_t *call_of = berth__tool_realloc(NULL, ((size_t)log->count + 1) * sizeof(*call_of));
    struct threads threads = {.count = 0};
    struct berth_plan_run run = {
        .calls = berth__tool_realloc(NULL, ((size_t)log->count + 1) * sizeof(*run.calls)),
        .device = device < 0 ? busiest_device(log) : (uint32_t)device,
    };

    for (uint32_t i = 0; i < log->count; i++) {
        const struct berth_trace_event *event = &log->event[i];

        call_of[i] = UINT32_MAX;
        if (is_planned_kind(event) && event->device == run.device) {
            call_of[i] = run.count;
            run.calls[run.count++] = (struct berth_plan_call){
                berth__size_round(event->size), UINT32_MAX, thread_of(&threads, event->thread)};
        } else if (event->action == BERTH_TRACE_ALLOCATE) {
            run.others++;
        } else if (event->action == BERTH_TRACE_FREE && event->match != BERTH_TRACE_NONE &&
                   call_of[event->match] != UINT32_MAX) {
            run.calls[call_of[event->match]].upper =
                run.count > UINT32_MAX - delay ? UINT32_MAX : run.count + delay;
        }
    }
    for (uint32_t i = 0; i < run.count; i++)
        if (run.calls[i].upper > run.count)
            run.calls[i].upper = run.count;
    run.threads = threads.count;
    free(call_of);
    *ret = run;
}

void berth__plan_run_done(struct berth_plan_run *run)
{
    free(run->calls);
}
