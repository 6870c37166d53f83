/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/plan_follow.h"

#include <string.h>

/* So near to the cursor a call is taken for the entry by its size alone... */
#define WINDOW_NEAR 4
/* ...and so far from it, or from a beginning, when the call before agrees as well. */
#define WINDOW_FAR 64
#define WINDOW_BEGIN 4
/* The whole lane is searched at this many calls in a row that were not found, and at each double.
 */
#define LOST_FIRST 4

/* So many calls are watched before the threads' lanes are joined or parted; then twice as many. */
#define WATCHED_FIRST 512
#define WATCHED_LAST (1u << 20)
/* This part of them, in tenths, must have got their places for all to stay as it is. */
#define WATCHED_TENTHS 9

/* How many of the last calls were not in the plan: each counts a 64th less than the next one. */
#define UNLIKE_SHIFT 6
#define UNLIKE_ONE ((uint32_t)1 << 16)
#define UNLIKE_MAX (UNLIKE_ONE / 2)

/* A lane that is followed, and what is asked of it. */
struct walk {
    const struct berth_plan_lane *lane;
    const struct berth_plan_entry *entries; /* the lane's */
    struct berth_plan_cursor *cursor;
    uint64_t size;
    berth_plan_take_function take;
    void *context;
    uint32_t seen; /* the first entry, plus 1, of this size that could not be taken, or 0 */
    bool was_seen; /* there was one, be it far away */
};

void berth__plan_follow_init(struct berth_plan_follow *follow, const struct berth_plan_view *view)
{
    memset(follow, 0, sizeof(*follow));
    follow->view = *view;
    follow->window_size = WATCHED_FIRST;
    /* The first call decides. */
    follow->unlike = UNLIKE_MAX - (UNLIKE_ONE >> UNLIKE_SHIFT) / 2;
}

uint32_t berth__plan_follow_lane(const struct berth_plan_follow *follow, uint32_t thread)
{
    return follow->is_apart ? thread + 1 : 0;
}

bool berth__plan_follow_is_alike(const struct berth_plan_follow *follow)
{
    return follow->unlike <= UNLIKE_MAX;
}

/* Counts a call, and joins or parts the lanes when too many failed. */
static void watch(struct berth_plan_follow *follow, bool is_hit)
{
    follow->window_hits += is_hit;
    if (++follow->window_calls < follow->window_size)
        return;
    if (follow->view.header->lane_count > 1 &&
        follow->window_hits < follow->window_calls / 10 * WATCHED_TENTHS) {
        follow->is_apart = !follow->is_apart;
        if (follow->window_size < WATCHED_LAST)
            follow->window_size *= 2;
    }
    follow->window_calls = 0;
    follow->window_hits = 0;
}

uint32_t berth__plan_follow_after(const struct berth_plan_lane *lane, uint32_t at)
{
    at++;
    if (at == lane->loop_end && lane->loop_begin < lane->loop_end)
        return lane->loop_begin;
    return at == lane->count ? 0 : at;
}

/* The call was entry `at`, or would have been. */
static void go_on(struct walk *walk, uint32_t at)
{
    walk->cursor->next = berth__plan_follow_after(walk->lane, at);
    walk->cursor->is_at_end =
        at + 1 == walk->lane->count && (walk->lane->loop_end < walk->lane->count ||
                                        walk->lane->loop_begin == walk->lane->loop_end);
}

static bool try_entry(struct walk *walk, uint32_t at)
{
    const struct berth_plan_entry *entry = &walk->entries[at];

    if (entry->size != walk->size)
        return false;
    if (entry->offset == BERTH_PLAN_NOWHERE ||
        !walk->take(walk->context, entry->offset, entry->size)) {
        if (walk->seen == 0)
            walk->seen = at + 1;
        walk->was_seen = true;
        return false;
    }
    go_on(walk, at);
    return true;
}

/* The nearest entry of the size, ahead or back. */
static bool try_near(struct walk *walk)
{
    uint32_t ahead = walk->cursor->next, back = walk->cursor->next;

    for (uint32_t i = 0; i < WINDOW_NEAR; i++) {
        ahead = berth__plan_follow_after(walk->lane, ahead);
        if (try_entry(walk, ahead) || (back > 0 && try_entry(walk, --back)))
            return true;
    }
    return false;
}

static bool recent_matches(const struct walk *walk, uint32_t at, uint32_t count)
{
    if (at + 1 < count)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (walk->entries[at - i].size != walk->cursor->recent[i])
            return false;
    return true;
}

/* Entries from `at` on, of whose size two calls were in a row. */
static bool try_pairs(struct walk *walk, uint32_t at, uint32_t count)
{
    for (uint32_t i = 0; i < count && at < walk->lane->count; i++) {
        if (recent_matches(walk, at, 2) && try_entry(walk, at))
            return true;
        at = berth__plan_follow_after(walk->lane, at);
    }
    return false;
}

/* Where steps are taken to repeat, the run may as well go on, or begin again. */
static bool try_after_steps(struct walk *walk)
{
    const struct berth_plan_lane *lane = walk->lane;

    return walk->cursor->next == lane->loop_begin && lane->loop_begin < lane->loop_end &&
           ((lane->loop_end < lane->count && try_entry(walk, lane->loop_end)) ||
            try_entry(walk, 0));
}

static bool try_begin(struct walk *walk)
{
    return try_pairs(walk, walk->lane->loop_begin, WINDOW_BEGIN) ||
           try_pairs(walk, walk->lane->loop_end, WINDOW_BEGIN) || try_pairs(walk, 0, WINDOW_BEGIN);
}

static bool try_far(struct walk *walk)
{
    uint32_t next = walk->cursor->next;

    return try_pairs(walk, next, WINDOW_FAR) || try_begin(walk) ||
           try_pairs(walk, next > WINDOW_FAR ? next - WINDOW_FAR : 0, WINDOW_FAR);
}

/* Looks for the last sizes in the whole lane, from the cursor on. */
static bool try_everywhere(struct walk *walk)
{
    uint32_t count = walk->lane->count, at = walk->cursor->next;

    for (uint32_t i = 0; i < count; i++) {
        if (recent_matches(walk, at, BERTH_PLAN_RECENT) && try_entry(walk, at))
            return true;
        if (++at == count)
            at = 0;
    }
    return false;
}

static bool is_power_of_two(uint32_t number)
{
    return (number & (number - 1)) == 0;
}

/* The call is not the one that is expected. */
static bool find_call(struct walk *walk, bool *ret_resynced)
{
    struct berth_plan_cursor *cursor = walk->cursor;

    if (try_after_steps(walk) || try_near(walk))
        return true;
    /* It is here, but its place is taken: what is like it elsewhere is another. */
    if (walk->seen > 0) {
        uint32_t seen = walk->seen;
        bool is_begun = try_begin(walk);

        walk->seen = seen;
        return is_begun;
    }
    if (try_far(walk))
        return true;
    cursor->lost++;
    *ret_resynced =
        cursor->lost >= LOST_FIRST && is_power_of_two(cursor->lost) && try_everywhere(walk);
    walk->seen = 0;
    return *ret_resynced;
}

/* Counts a call that was among the entries or not, wherever it comes to lie. */
static void note(struct berth_plan_follow *follow, bool is_known)
{
    follow->unlike -= follow->unlike >> UNLIKE_SHIFT;
    if (!is_known)
        follow->unlike += UNLIKE_ONE >> UNLIKE_SHIFT;
}

static void count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

bool berth__plan_follow_may_begin(const struct berth_plan_follow *follow, uint32_t lane_index,
                                  uint64_t size)
{
    const struct berth_plan_entry *entries;
    const struct berth_plan_lane *lane;

    /* A thread beyond the last lane has none. */
    if (lane_index >= follow->view.header->lane_count)
        return false;
    lane = &follow->view.lanes[lane_index];
    entries = &follow->view.entries[lane->first];
    return lane->count > 0 && entries[0].size == size &&
           (follow->is_over || entries[follow->cursors[lane_index].next].size != size);
}

void berth__plan_follow_rewind(struct berth_plan_follow *follow, uint32_t lane_index)
{
    for (uint32_t i = 0; i < follow->view.header->lane_count; i++) {
        follow->cursors[i].may_begin = true;
        follow->cursors[i].is_at_end = false;
        follow->cursors[i].calls = 0;
    }
    follow->cursors[lane_index].next = 0;
    follow->is_over = false;
}

bool berth__plan_follow_is_at_end(const struct berth_plan_follow *follow, uint32_t lane)
{
    return lane < follow->view.header->lane_count && follow->cursors[lane].is_at_end;
}

/*
 * One more call of the lane comes: whether all calls of the plan were made. Who came to the end
 * after less than half of the calls that lead there is lost, and not at it; nor is all over when a
 * thread has done what little it had to do.
 */
static bool was_last(const struct berth_plan_follow *follow, struct berth_plan_cursor *cursor)
{
    uint32_t most = follow->view.lanes[0].count;
    bool was = cursor->is_at_end && cursor->calls >= most / 2;

    if (cursor->is_at_end)
        cursor->calls = 0;
    else if (cursor->calls < UINT32_MAX)
        cursor->calls++;
    cursor->is_at_end = false;
    return was;
}

/* The call has no place in the plan. */
static bool pass_by(struct berth_plan_follow *follow, bool is_known)
{
    note(follow, is_known);
    count(is_known ? &follow->occupied : &follow->unknown);
    watch(follow, false);
    return false;
}

bool berth__plan_follow_call(struct berth_plan_follow *follow, uint32_t lane_index, uint64_t size,
                             berth_plan_take_function take, void *context)
{
    struct walk walk = {.size = size, .take = take, .context = context};
    struct berth_plan_cursor *cursor;
    bool is_resynced = false, is_expected, is_after_last;

    if (follow->is_over || lane_index >= follow->view.header->lane_count ||
        follow->view.lanes[lane_index].count == 0)
        return pass_by(follow, false);
    walk.lane = &follow->view.lanes[lane_index];
    walk.entries = &follow->view.entries[walk.lane->first];
    walk.cursor = cursor = &follow->cursors[lane_index];
    memmove(&cursor->recent[1], &cursor->recent[0],
            sizeof(cursor->recent) - sizeof(cursor->recent[0]));
    cursor->recent[0] = size;
    cursor->passed = 0;
    is_after_last = was_last(follow, cursor);
    if (cursor->may_begin && berth__plan_follow_may_begin(follow, lane_index, size))
        cursor->next = 0;
    cursor->may_begin = false;
    is_expected = walk.entries[cursor->next].size == size;
    if (try_entry(&walk, cursor->next) ||
        (!is_after_last && !is_expected && find_call(&walk, &is_resynced))) {
        cursor->lost = 0;
        count(&follow->hits);
        note(follow, true);
        watch(follow, true);
        if (is_resynced)
            count(&follow->resyncs);
        return true;
    }
    if (is_after_last) {
        follow->is_over = true;
        return pass_by(follow, false);
    }
    if (walk.seen > 0) {
        cursor->passed = walk.seen;
        go_on(&walk, walk.seen - 1);
    }
    return pass_by(follow, walk.was_seen);
}

bool berth__plan_follow_was_occupied(const struct berth_plan_follow *follow, uint32_t lane)
{
    return !follow->is_over && lane < follow->view.header->lane_count &&
           follow->cursors[lane].passed > 0;
}

bool berth__plan_follow_again(struct berth_plan_follow *follow, uint32_t lane, uint64_t size,
                              berth_plan_take_function take, void *context)
{
    struct berth_plan_cursor *cursor = &follow->cursors[lane];
    const struct berth_plan_entry *entry;

    if (!berth__plan_follow_was_occupied(follow, lane))
        return false;
    entry = &follow->view.entries[follow->view.lanes[lane].first + cursor->passed - 1];
    /* Another thread may have called since: what was passed last is its call's. */
    if (entry->offset == BERTH_PLAN_NOWHERE || entry->size != size ||
        !take(context, entry->offset, entry->size))
        return false;
    cursor->passed = 0;
    count(&follow->hits);
    atomic_fetch_sub_explicit(&follow->occupied, 1, memory_order_relaxed);
    return true;
}
