/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Following a plan: which entry of it an allocation is.
 *
 * Threads that wait for each other make their calls in the recorded order: then lane 0, of all of
 * them, is followed. Where that does not succeed, each thread follows its own lane; and back.
 *
 * Each lane has a cursor at the entry that is expected next. An allocation of its size is that
 * entry. Otherwise the program deviates, and the call is looked for nearby, ahead and back (some
 * were left out, or swapped); farther away, and at the beginning of the steps, of what follows them
 * and of all (it began again), there only where the call before agrees, and not far away where an
 * entry nearby has the size, but its place is taken. Where nothing is found the cursor stays: the
 * call is one more than planned. After several of these in a row the last sizes are looked for in
 * the whole lane.
 *
 * A plan is over when a call comes after its last entry that does not get the first one's place:
 * the program goes on where the recorded run did not. From there on no call is an entry, until the
 * run is made to begin again. A plan whose steps are taken to repeat to the end is never over.
 *
 * An entry counts as found only when its range can be taken, which is for the caller to say: a
 * wrong guess never harms the program, it only costs memory.
 *
 * Synchronization: the caller's lock, but for the counters, which anybody may read.
 */
#ifndef BERTH_ALLOC_PLAN_FOLLOW_H
#define BERTH_ALLOC_PLAN_FOLLOW_H

#include "alloc/plan_file.h"

#include <stdatomic.h>
#include <stdbool.h>

/* How many of the last sizes tell a place in the plan. */
#define BERTH_PLAN_RECENT 4

struct berth_plan_cursor {
    uint32_t next;                      /* within the lane: the entry that is expected */
    uint32_t lost;                      /* calls in a row that were not found */
    uint64_t recent[BERTH_PLAN_RECENT]; /* sizes, newest first */
    uint32_t passed;                    /* the entry, plus 1, that the last call could not take */
    uint32_t calls;                     /* since the run began, or many */
    bool may_begin;                     /* it began again in another lane since the last call */
    bool is_at_end;                     /* the last call was the last entry */
};

struct berth_plan_follow {
    struct berth_plan_view view;
    struct berth_plan_cursor cursors[BERTH_PLAN_LANES_MAX];
    bool is_apart; /* threads follow lanes of their own */
    bool is_over;
    /* By these it is decided: of the last calls, how many got their places. */
    uint32_t window_calls, window_hits, window_size;
    uint32_t unlike;           /* how many of the last calls were not planned, see ..._is_alike() */
    _Atomic uint64_t hits;     /* calls that got their place */
    _Atomic uint64_t unknown;  /* calls that are not in the plan, or not here */
    _Atomic uint64_t occupied; /* calls whose place was still taken, or that have none */
    _Atomic uint64_t resyncs;  /* times that the place in the plan was found again */
};

/* Tries to take [offset, offset + size) of the segment. */
typedef bool (*berth_plan_take_function)(void *context, uint64_t offset, uint64_t size);

/* Begins a plan that stays in memory. */
void berth__plan_follow_init(struct berth_plan_follow *follow, const struct berth_plan_view *view);

/* The entry after `at`: a step is taken to repeat, and the run to begin again. */
uint32_t berth__plan_follow_after(const struct berth_plan_lane *lane, uint32_t at);

/* Whether at least half of the last calls were planned, wherever they lie: what comes is known. */
bool berth__plan_follow_is_alike(const struct berth_plan_follow *follow);

/* The lane that the calls of a thread are of now; threads are counted from 0. */
uint32_t berth__plan_follow_lane(const struct berth_plan_follow *follow, uint32_t thread);

/*
 * Whether the next call of the lane is not the one expected, or the plan over, but may be the
 * first; where nothing lives at any place of the plan, it then is to begin the run again. Which
 * steps the last one left is no help: the sizes of weights are those of gradients, too, and are
 * found in the midst of steps. Other lanes begin again if their own next calls may be the first:
 * what this one has got by then lives.
 */
bool berth__plan_follow_may_begin(const struct berth_plan_follow *follow, uint32_t lane,
                                  uint64_t size);
void berth__plan_follow_rewind(struct berth_plan_follow *follow, uint32_t lane);
/* Whether the lane's last call was its last entry: the next one begins the run, or it is over. */
bool berth__plan_follow_is_at_end(const struct berth_plan_follow *follow, uint32_t lane);

/* The next call of a lane, of a held size: whether it got a place from `take`. */
bool berth__plan_follow_call(struct berth_plan_follow *follow, uint32_t lane, uint64_t size,
                             berth_plan_take_function take, void *context);

/* Whether the last call of the lane did not get the place that is its own, because it was taken. */
bool berth__plan_follow_was_occupied(const struct berth_plan_follow *follow, uint32_t lane);

/*
 * Once more for that call, of `size` bytes: false also where the last one is another thread's by
 * now, of another size.
 */
bool berth__plan_follow_again(struct berth_plan_follow *follow, uint32_t lane, uint64_t size,
                              berth_plan_take_function take, void *context);

#endif
