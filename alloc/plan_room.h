/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Room for a call that did not get a place of its plan: what the plan has no use for as long as
 * the call lives.
 *
 * How long that is, nobody knows. But where the call is an entry that became larger, or whose place
 * was taken, that place is planned again only for what comes after it: until then it is taken to
 * live. A call that is not in the plan is taken for the entry nearby that has about its size. Room
 * is then what none of the entries until that moment lies in; if the guess was wrong the call is in
 * the way of some, which costs memory and nothing else.
 *
 * Synchronization: that of alloc/plan_follow.h.
 */
#ifndef BERTH_ALLOC_PLAN_ROOM_H
#define BERTH_ALLOC_PLAN_ROOM_H

#include "alloc/plan_follow.h"

/* The segment is looked at in so many parts: one counts as used where any of its bytes is. */
#define BERTH_PLAN_PARTS 4096

struct berth_plan_room {
    uint64_t part;                              /* bytes */
    uint64_t used[BERTH_PLAN_PARTS / 64];       /* by part, one bit each */
    uint16_t before[BERTH_PLAN_PARTS / 64 + 1]; /* derived: how many there are in lower words */
};

/*
 * For the last call of the lane, which got no place: what is used until it is over; or, with
 * `within`, what those entries use that lie in that range, wherever else they lie. False where the
 * call is like no entry nearby, or lives too long to say, or is smaller than a part: that costs
 * little elsewhere, and may be in the way of much.
 */
bool berth__plan_room_see(const struct berth_plan_follow *follow, uint32_t lane,
                          const struct berth_plan_entry *within, struct berth_plan_room *ret);

/* Bytes that are used, in whole parts. */
uint64_t berth__plan_room_used(const struct berth_plan_room *room);

/*
 * Where within [begin, end), offsets in the segment that are at least `size` apart, a call of that
 * size is best: how good the place is, the less the better, or UINT64_MAX if there is none.
 *
 *  fit    in the smallest room that is large enough: its size
 *  least  anywhere: in how many parts that are used
 */
typedef uint64_t (*berth_plan_room_function)(const struct berth_plan_room *room, uint64_t begin,
                                             uint64_t end, uint64_t size, uint64_t *ret_offset);
uint64_t berth__plan_room_fit(const struct berth_plan_room *room, uint64_t begin, uint64_t end,
                              uint64_t size, uint64_t *ret_offset);
uint64_t berth__plan_room_least(const struct berth_plan_room *room, uint64_t begin, uint64_t end,
                                uint64_t size, uint64_t *ret_offset);

#endif
