/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a run repeats itself: calls [begin, begin + times * period) are `times` times the same
 * `period` calls, by size and thread.
 */
#ifndef BERTH_TOOLS_PLAN_REPEAT_H
#define BERTH_TOOLS_PLAN_REPEAT_H

#include "tools/plan/plan_run.h"

struct berth_plan_repeat {
    uint32_t begin, period, times; /* `times` is 0 when nothing repeats, else at least 2 */
    uint32_t first, end;           /* the calls that go on so, cut at any place */
};

/* The repetition that covers most of the run, cut where least is carried over from step to step. */
struct berth_plan_repeat berth__plan_repeat_find(const struct berth_plan_run *run);

#endif
