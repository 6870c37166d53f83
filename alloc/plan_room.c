/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/plan_room.h"

#include "alloc/size_class.h"

#include <string.h>

/* So many entries ahead of the cursor a call may be like. */
#define ALIKE_WINDOW 4
/* Nobody looks farther ahead than this: it takes time, and what lives so long hardly ever ends. */
#define STEPS_MAX ((uint32_t)1 << 14)

#define NO_ENTRY UINT32_MAX

static bool is_alike(uint64_t size, uint64_t planned)
{
    return size / 2 <= planned && planned / 2 <= size;
}

/* The entry that the last call of the lane is taken for. */
static uint32_t entry_of_call(const struct berth_plan_lane *lane,
                              const struct berth_plan_entry *entries,
                              const struct berth_plan_cursor *cursor)
{
    uint32_t at = cursor->next;

    if (cursor->passed > 0)
        return cursor->passed - 1;
    for (uint32_t i = 0; i < ALIKE_WINDOW; i++) {
        if (is_alike(cursor->recent[0], entries[at].size))
            return at;
        at = berth__plan_follow_after(lane, at);
    }
    return NO_ENTRY;
}

static bool overlap(const struct berth_plan_entry *one, const struct berth_plan_entry *other)
{
    return other->offset != BERTH_PLAN_NOWHERE && one->offset < other->offset + other->size &&
           other->offset < one->offset + one->size;
}

/* What is marked, and of which entries: those in a range, if there is one. */
struct marking {
    struct berth_plan_room *room;
    const struct berth_plan_entry *within;
};

static void mark(const struct marking *marking, const struct berth_plan_entry *entry)
{
    struct berth_plan_room *room = marking->room;
    uint64_t last;

    if (entry->offset == BERTH_PLAN_NOWHERE ||
        (marking->within && !overlap(marking->within, entry)))
        return;
    last = (entry->offset + entry->size - 1) / room->part;
    for (uint64_t part = entry->offset / room->part; part <= last;) {
        uint64_t bits = UINT64_MAX << part % 64;

        if (part / 64 == last / 64)
            bits &= UINT64_MAX >> (63 - last % 64);
        room->used[part / 64] |= bits;
        part = (part / 64 + 1) * 64;
    }
}

/*
 * What comes after entry `at` until its place is planned again, or the run ends; so many entries,
 * or STEPS_MAX.
 */
static uint32_t mark_until_again(const struct marking *marking, const struct berth_plan_lane *lane,
                                 const struct berth_plan_entry *entries, uint32_t at)
{
    const struct berth_plan_entry *own = &entries[at];
    bool is_looped = lane->loop_begin == 0 && lane->loop_end > 0;
    uint32_t steps = 0;

    while (steps < lane->count && steps < STEPS_MAX) {
        at = berth__plan_follow_after(lane, at);
        if ((at == 0 && !is_looped) || overlap(own, &entries[at]))
            break;
        mark(marking, &entries[at]);
        steps++;
    }
    return steps;
}

/*
 * Other threads are taken to be as fast as each was in the run that was planned. False: that is too
 * much to look at.
 */
static bool mark_others(const struct marking *marking, const struct berth_plan_follow *follow,
                        uint32_t own, uint32_t steps)
{
    uint64_t left = STEPS_MAX;

    for (uint32_t i = 1; i < follow->view.header->lane_count; i++) {
        const struct berth_plan_lane *lane = &follow->view.lanes[i];
        uint64_t count = (uint64_t)steps * lane->count / follow->view.lanes[own].count + 1;
        uint32_t at = follow->cursors[i].next;

        if (i == own)
            continue;
        if (count > lane->count)
            count = lane->count;
        if (count > left)
            return false;
        left -= count;
        for (uint64_t k = 0; k < count; k++) {
            mark(marking, &follow->view.entries[lane->first + at]);
            at = berth__plan_follow_after(lane, at);
        }
    }
    return true;
}

bool berth__plan_room_see(const struct berth_plan_follow *follow, uint32_t lane_index,
                          const struct berth_plan_entry *within, struct berth_plan_room *ret)
{
    const struct marking marking = {ret, within};
    const struct berth_plan_lane *lane;
    const struct berth_plan_entry *entries;
    uint32_t at, steps;

    if (lane_index >= follow->view.header->lane_count || follow->view.lanes[lane_index].count == 0)
        return false;
    lane = &follow->view.lanes[lane_index];
    entries = &follow->view.entries[lane->first];
    memset(ret, 0, sizeof(*ret));
    ret->part = berth__size_round(follow->view.header->peak / BERTH_PLAN_PARTS + 1);
    at = entry_of_call(lane, entries, &follow->cursors[lane_index]);
    if (at == NO_ENTRY || entries[at].offset == BERTH_PLAN_NOWHERE ||
        follow->cursors[lane_index].recent[0] < ret->part)
        return false;
    steps = mark_until_again(&marking, lane, entries, at);
    if (steps == STEPS_MAX || (lane_index > 0 && !mark_others(&marking, follow, lane_index, steps)))
        return false;
    for (uint32_t i = 0; i < BERTH_PLAN_PARTS / 64; i++)
        ret->before[i + 1] = (uint16_t)(ret->before[i] + __builtin_popcountll(ret->used[i]));
    return true;
}

uint64_t berth__plan_room_used(const struct berth_plan_room *room)
{
    return room->before[BERTH_PLAN_PARTS / 64] * room->part;
}

static bool is_used(const struct berth_plan_room *room, uint64_t part)
{
    return part < BERTH_PLAN_PARTS && (room->used[part / 64] >> part % 64 & 1);
}

uint64_t berth__plan_room_fit(const struct berth_plan_room *room, uint64_t begin, uint64_t end,
                              uint64_t size, uint64_t *ret_offset)
{
    uint64_t best = UINT64_MAX;

    while (begin < end && end - begin >= size) {
        uint64_t part = begin / room->part, stop = begin;

        for (; stop < end && !is_used(room, part); part++)
            stop = (part + 1) * room->part;
        if (stop > end)
            stop = end;
        if (stop - begin >= size && stop - begin < best) {
            *ret_offset = begin;
            best = stop - begin;
        }
        begin = (part + 1) * room->part;
    }
    return best;
}

/* How many of the parts below `part` are used. */
static uint64_t used_below(const struct berth_plan_room *room, uint64_t part)
{
    uint64_t word = part / 64;

    if (part >= BERTH_PLAN_PARTS)
        return room->before[BERTH_PLAN_PARTS / 64];
    return room->before[word] +
           (uint64_t)__builtin_popcountll(room->used[word] & ((UINT64_C(1) << part % 64) - 1));
}

static uint64_t used_within(const struct berth_plan_room *room, uint64_t begin, uint64_t size)
{
    return used_below(room, (begin + size - 1) / room->part + 1) -
           used_below(room, begin / room->part);
}

uint64_t berth__plan_room_least(const struct berth_plan_room *room, uint64_t begin, uint64_t end,
                                uint64_t size, uint64_t *ret_offset)
{
    uint64_t least = used_within(room, end - size, size);

    *ret_offset = end - size;
    while (begin < end - size && least > 0) {
        uint64_t used = used_within(room, begin, size);

        if (used < least) {
            least = used;
            *ret_offset = begin;
        }
        begin = (begin / room->part + 1) * room->part;
    }
    return least;
}
