/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what a call without a place may be lent is what no entry lies in until the call's own place
 * is planned again, and where there is no such room, it is known what is least in the way. Method:
 * plans of any form, followed to any place, beside a look at all entries, one by one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc/plan_room.h"

#include <stdlib.h>
#include <string.h>

#define COUNT 200
#define GRANULE 512ull
/* So that a part is one granule. */
#define PEAK (BERTH_PLAN_PARTS * GRANULE - 1)
#define SIZE_MAX_GRANULES 400

static struct berth_plan_header header = {.lane_count = 1, .entry_count = COUNT, .peak = PEAK};
static struct berth_plan_lane lanes[3] = {{0, COUNT, 0, COUNT}};
static struct berth_plan_entry entries[COUNT];
static struct berth_plan_follow follow;
static bool is_busy;
static uint64_t random_state;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(random_state >> 33) % limit;
}

static bool take(void *context, uint64_t offset, uint64_t size)
{
    return !is_busy;
}

static int set_up(void **state)
{
    struct berth_plan_view view = {&header, lanes, entries};

    random_state = 1;
    is_busy = false;
    header.lane_count = 1;
    lanes[0] = (struct berth_plan_lane){0, COUNT, 0, COUNT};
    for (uint32_t i = 0; i < COUNT; i++) {
        uint64_t granules = 1 + random_below(SIZE_MAX_GRANULES);

        entries[i].size = granules * GRANULE;
        entries[i].offset = random_below(BERTH_PLAN_PARTS - (uint32_t)granules) * GRANULE;
    }
    berth__plan_follow_init(&follow, &view);
    return 0;
}

static void follow_to(uint32_t end)
{
    for (uint32_t i = 0; i < end; i++)
        assert_true(berth__plan_follow_call(&follow, 0, entries[i].size, take, NULL));
}

static bool overlap(const struct berth_plan_entry *entry, uint64_t begin, uint64_t end)
{
    return entry->offset < end && begin < entry->offset + entry->size;
}

/* By granule, whether it is used from after `at` until its place is planned again, in a loop. */
static void look_at_all(uint32_t at, const struct berth_plan_entry *within, bool *used)
{
    memset(used, 0, BERTH_PLAN_PARTS);
    for (uint32_t k = 1; k < COUNT; k++) {
        const struct berth_plan_entry *entry = &entries[(at + k) % COUNT];

        if (overlap(entry, entries[at].offset, entries[at].offset + entries[at].size))
            break;
        /* The run may end with the last entry. */
        if ((at + k) % COUNT == 0 && lanes[0].loop_begin == lanes[0].loop_end)
            break;
        if (!within || overlap(entry, within->offset, within->offset + within->size))
            memset(used + entry->offset / GRANULE, true, entry->size / GRANULE);
    }
}

static void check_room(const struct berth_plan_room *room, const bool *used)
{
    uint64_t count = 0;

    assert_int_equal(room->part, GRANULE);
    for (uint32_t i = 0; i < BERTH_PLAN_PARTS; i++) {
        assert_int_equal(room->used[i / 64] >> i % 64 & 1, used[i]);
        count += used[i];
    }
    assert_int_equal(berth__plan_room_used(room), count * GRANULE);
}

/* The smallest run of at least `size` granules in [begin, end); and the fewest used ones. */
static void search(const bool *used, uint32_t begin, uint32_t end, uint32_t size, uint64_t *ret_fit,
                   uint64_t *ret_least)
{
    uint32_t run = 0;

    *ret_fit = *ret_least = UINT64_MAX;
    for (uint32_t i = begin; i <= end; i++) {
        uint64_t count = 0;

        if (i < end && !used[i]) {
            run++;
        } else {
            if (run >= size && run * GRANULE < *ret_fit)
                *ret_fit = run * GRANULE;
            run = 0;
        }
        for (uint32_t k = 0; k < size && i + size <= end; k++)
            count += used[i + k];
        if (i + size <= end && count < *ret_least)
            *ret_least = count;
    }
}

static void check_searches(const struct berth_plan_room *room, const bool *used)
{
    uint32_t begin = random_below(BERTH_PLAN_PARTS - 1);
    uint32_t end = begin + 1 + random_below(BERTH_PLAN_PARTS - begin - 1);
    uint32_t size = 1 + random_below(end - begin < 300 ? end - begin : 300);
    uint64_t fit, least, offset = UINT64_MAX, count = 0;

    search(used, begin, end, size, &fit, &least);
    assert_int_equal(
        berth__plan_room_fit(room, begin * GRANULE, end * GRANULE, size * GRANULE, &offset), fit);
    if (fit < UINT64_MAX) {
        assert_in_range(offset, begin * GRANULE, (end - size) * GRANULE);
        for (uint32_t k = 0; k < size; k++)
            assert_false(used[offset / GRANULE + k]);
    }
    assert_int_equal(
        berth__plan_room_least(room, begin * GRANULE, end * GRANULE, size * GRANULE, &offset),
        least);
    assert_in_range(offset, begin * GRANULE, (end - size) * GRANULE);
    for (uint32_t k = 0; k < size; k++)
        count += used[offset / GRANULE + k];
    assert_int_equal(count, least);
}

static void room_is_what_no_entry_uses_until_the_place_is_planned_again(void **state)
{
    static bool used[BERTH_PLAN_PARTS];
    struct berth_plan_room room;

    for (uint32_t at = 0; at < COUNT; at++) {
        struct berth_plan_entry within = {GRANULE * 20, random_below(BERTH_PLAN_PARTS) * GRANULE};

        set_up(state);
        /* Without a loop, half of the times. */
        lanes[0].loop_end = at % 2 ? COUNT : 0;
        is_busy = false;
        follow_to(at);
        is_busy = true;
        assert_false(berth__plan_follow_call(&follow, 0, entries[at].size, take, NULL));
        random_state = at;
        look_at_all(at, NULL, used);
        assert_true(berth__plan_room_see(&follow, 0, NULL, &room));
        check_room(&room, used);
        for (int i = 0; i < 20; i++)
            check_searches(&room, used);
        look_at_all(at, &within, used);
        assert_true(berth__plan_room_see(&follow, 0, &within, &room));
        check_room(&room, used);
    }
}

/* By its size: up to twice that of the next entry, or of one soon after it, or half of it. */
static void a_call_is_taken_for_what_it_is_like(void **state)
{
    static bool used[BERTH_PLAN_PARTS];
    struct berth_plan_room room;

    for (uint32_t i = 0; i < COUNT; i++)
        entries[i].size = (1 + i % 3) * GRANULE;
    entries[50].size = 100 * GRANULE;
    entries[52].size = 30 * GRANULE;
    follow_to(50);
    assert_false(berth__plan_follow_call(&follow, 0, 200 * GRANULE, take, NULL));
    assert_true(berth__plan_room_see(&follow, 0, NULL, &room));
    look_at_all(50, NULL, used);
    check_room(&room, used);
    assert_false(berth__plan_follow_call(&follow, 0, 15 * GRANULE, take, NULL));
    assert_true(berth__plan_room_see(&follow, 0, NULL, &room));
    look_at_all(52, NULL, used);
    check_room(&room, used);
    assert_false(berth__plan_follow_call(&follow, 0, 202 * GRANULE, take, NULL));
    assert_false(berth__plan_room_see(&follow, 0, NULL, &room));
    assert_false(berth__plan_follow_call(&follow, 0, 12 * GRANULE, take, NULL));
    assert_false(berth__plan_room_see(&follow, 0, NULL, &room));
    /* What has no place has no time either at which that is planned again. */
    entries[50].offset = BERTH_PLAN_NOWHERE;
    assert_false(berth__plan_follow_call(&follow, 0, 200 * GRANULE, take, NULL));
    assert_false(berth__plan_room_see(&follow, 0, NULL, &room));
    assert_false(berth__plan_room_see(&follow, 1, NULL, &room));
}

/* Two threads; while the first one makes some calls, so does the other. */
static void what_other_threads_plan_is_no_room(void **state)
{
    struct berth_plan_view view = {&header, lanes, entries};
    struct berth_plan_room room;

    header.lane_count = 3;
    lanes[0] = (struct berth_plan_lane){0, 100, 0, 100};
    lanes[1] = (struct berth_plan_lane){100, 20, 0, 20};
    lanes[2] = (struct berth_plan_lane){120, 40, 0, 40};
    for (uint32_t i = 0; i < COUNT; i++)
        entries[i] = (struct berth_plan_entry){GRANULE, i * GRANULE};
    /* Four calls of the first thread later its place is planned again: eight of the other's, and
     * one that may be under way. */
    entries[100] = (struct berth_plan_entry){3 * GRANULE, 1000 * GRANULE};
    entries[105] = (struct berth_plan_entry){GRANULE, 1002 * GRANULE};
    berth__plan_follow_init(&follow, &view);
    assert_true(berth__plan_follow_call(&follow, 2, GRANULE, take, NULL));
    is_busy = true;
    assert_false(berth__plan_follow_call(&follow, 1, 3 * GRANULE, take, NULL));
    assert_true(berth__plan_room_see(&follow, 1, NULL, &room));
    for (uint32_t i = 0; i < BERTH_PLAN_PARTS; i++)
        assert_int_equal(room.used[i / 64] >> i % 64 & 1,
                         (i > 100 && i < 105) || (i > 120 && i <= 121 + 2 * 4));
}

#define CASE(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(room_is_what_no_entry_uses_until_the_place_is_planned_again),
        CASE(a_call_is_taken_for_what_it_is_like),
        CASE(what_other_threads_plan_is_no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
