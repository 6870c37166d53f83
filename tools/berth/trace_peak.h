/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the pool's memory is, at the moment at which most of it is reserved: `berth trace replay
 * --peak`. The preloaded pool is looked at from within the process that replays, each time that
 * more is reserved than before.
 */
#ifndef BERTH_TOOLS_TRACE_PEAK_H
#define BERTH_TOOLS_TRACE_PEAK_H

#include "tools/berth/trace_driver.h"

/*
 * X(name, "what it is"): bytes, which together are all that the pool has then, but for what it had
 * just before the call returned.
 */
#define BERTH_TRACE_PEAK_PARTS(X)                                                                  \
    X(live, "what the program asked for and has")                                                  \
    X(rounding, "what such blocks hold beyond that, where they share segments")                    \
    X(alone, "the same of blocks that have a segment alone, which the driver rounds up")           \
    X(idle, "shared segments in which nothing lives")                                              \
    X(idle_alone, "free segments of single blocks")                                                \
    X(ends, "free blocks at the end of shared segments in which something lives")                  \
    X(gaps_small, "other free blocks there of up to 64 KiB")                                       \
    X(gaps_medium, "of up to 1 MiB")                                                               \
    X(gaps_large, "and of more")                                                                   \
    X(threads, "blocks that threads keep")                                                         \
    X(waiting, "blocks that were freed and are not ready for reuse")                               \
    X(plan_free, "what is free in the memory of a plan")

struct berth_trace_peak {
    uint64_t reserved; /* the most so far */
#define X(name, what) uint64_t name;
    BERTH_TRACE_PEAK_PARTS(X)
#undef X
    uint64_t segments, segments_alone; /* how many */
};

/* Looks at the pool if more is reserved than at the last look. */
void berth__trace_peak_look(const struct berth_trace_driver *driver, struct berth_trace_peak *peak);

/* One more member, "peak", of an object of JSON on standard output. */
void berth__trace_peak_print(const struct berth_trace_peak *peak);

#endif
