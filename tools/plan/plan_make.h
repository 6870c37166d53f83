/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a plan of a run: one entry for each call, or for each call of a step that repeats; lives of
 * all repetitions laid over each other; then a packing of them.
 */
#ifndef BERTH_TOOLS_PLAN_MAKE_H
#define BERTH_TOOLS_PLAN_MAKE_H

#include "alloc/plan_file.h"
#include "tools/plan/packing.h"
#include "tools/plan/plan_repeat.h"

struct berth_plan_made {
    void *bytes; /* the file, to be freed */
    size_t size;
    uint32_t entries;
    uint32_t left_out;     /* entries without a place: they outlive a step */
    uint64_t run_max_live; /* bytes of the run, held, without what is left out */
    struct berth_packing_result packing;
};

/*
 * The repetition that a plan is best made with: none where laying steps over each other costs more
 * than it is worth, and several steps as one where blocks live longer than one.
 */
struct berth_plan_repeat berth__plan_repeat_choose(const struct berth_plan_run *run);

/*
 * 0, or what berth__packing_solve() says; -ERANGE where there is nothing to plan, or more than a
 * plan can hold.
 */
int berth__plan_make(const struct berth_plan_run *run, const struct berth_plan_repeat *repeat,
                     const struct berth_packing_limits *limits, struct berth_plan_made *ret);

#endif
