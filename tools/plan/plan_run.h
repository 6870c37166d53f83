/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run as a plan sees it: the device allocations of a trace, each with its held size, its thread,
 * and its life, counted in allocations: it lives from its own until before the `upper`-th.
 *
 * Out of memory, the tool says so and exits.
 */
#ifndef BERTH_TOOLS_PLAN_RUN_H
#define BERTH_TOOLS_PLAN_RUN_H

#include "alloc/plan_file.h"
#include "tools/berth/trace_log.h"

/* Threads that can have a lane; the first lane is that of all. */
#define BERTH_PLAN_THREADS_MAX (BERTH_PLAN_LANES_MAX - 1)

struct berth_plan_call {
    uint64_t size;   /* held */
    uint32_t upper;  /* allocations that were made before its free; `count` without one */
    uint32_t thread; /* by first allocation, from 0; BERTH_PLAN_THREADS_MAX for any further one */
};

struct berth_plan_run {
    struct berth_plan_call *calls; /* in order; call i is made at time i */
    uint32_t count;
    uint32_t device;
    uint32_t threads;
    uint64_t others; /* allocations of other kinds or on other devices */
};

/*
 * Those calls of a trace that cuMemAlloc made on `device`, or, where that is negative, on the one
 * that most bytes were asked of. A block's life is prolonged by `delay` allocations.
 */
void berth__plan_run_init(const struct berth_trace_log *log, int device, uint32_t delay,
                          struct berth_plan_run *ret);
void berth__plan_run_done(struct berth_plan_run *run);

#endif
