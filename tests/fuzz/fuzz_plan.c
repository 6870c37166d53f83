/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever the bytes of a plan are, they are refused or they are safe to follow.
 * Method: valid plans with seeded random damage, the checksum repaired most of the time so that the
 * damage reaches what lies behind it. What is accepted is followed by random calls: every range
 * that is asked for must lie in the segment, and a sanitizer sees what is read outside of the
 * lanes. Where a call got no place, room is looked for in any part of the segment, and beyond it.
 * LLVMFuzzerTestOneInput is libFuzzer's entry; built with -DBERTH_LIBFUZZER, main is left to it.
 */
#include "alloc/plan_follow.h"
#include "alloc/plan_room.h"
#include "alloc/size_class.h"
#include "tests/random_numbers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool take(void *context, uint64_t offset, uint64_t size)
{
    const struct berth_plan_view *view = context;

    if (size == 0 || offset % BERTH_GRANULE != 0 || size > view->header->peak ||
        offset > view->header->peak - size)
        abort();
    return random_below(4) != 0;
}

static unsigned long rooms; /* that were found */

/* What is used of a range is no more than of all; a place lies where it was looked for. */
static void look_for_room(const struct berth_plan_follow *follow, uint32_t lane, uint64_t size)
{
    static const berth_plan_room_function looks[] = {berth__plan_room_fit, berth__plan_room_least};
    uint64_t end = follow->view.header->peak + random_below(3) * BERTH_GRANULE, begin, used;
    static struct berth_plan_room room;

    if (!berth__plan_room_see(follow, lane, NULL, &room))
        return;
    used = berth__plan_room_used(&room);
    if (used > BERTH_PLAN_PARTS * room.part)
        abort();
    if (size > end)
        return;
    begin = random_below(end - size + 1);
    for (unsigned i = 0; i < sizeof(looks) / sizeof(looks[0]); i++) {
        struct berth_plan_entry place = {.size = size};
        uint64_t found = looks[i](&room, begin, end, size, &place.offset);

        if (found == UINT64_MAX)
            continue;
        if (place.offset < begin || place.offset > end - size)
            abort();
        if (berth__plan_room_see(follow, lane, &place, &room) &&
            berth__plan_room_used(&room) > used)
            abort();
        rooms++;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct berth_plan_follow follow;
    char why[BERTH_PLAN_WHY_MAX] = "";
    struct berth_plan_view view;
    /* Of its own, so that a sanitizer knows where it ends. */
    uint8_t *bytes = malloc(size + (size == 0));

    memcpy(bytes, data, size);
    if (berth__plan_file_open(bytes, size, &view, why, sizeof(why)) < 0) {
        if (why[0] == '\0')
            abort();
        free(bytes);
        return 0;
    }
    berth__plan_follow_init(&follow, &view);
    for (int i = 0; i < 300; i++) {
        uint32_t lane = berth__plan_follow_lane(&follow, random_below(3));
        uint64_t asked = (1 + random_below(8)) * BERTH_GRANULE;

        if (view.header->entry_count > 0 && random_below(2))
            asked = view.entries[random_below((uint32_t)view.header->entry_count)].size;
        if (berth__plan_follow_call(&follow, lane, asked, take, &view) ||
            berth__plan_follow_again(&follow, lane, asked, take, &view))
            continue;
        if (random_below(8) == 0)
            look_for_room(&follow, lane, asked);
    }
    free(bytes);
    return 1;
}

#ifndef BERTH_LIBFUZZER
#define ENTRIES_MAX 40

static size_t make_plan(uint8_t *bytes)
{
    struct berth_plan_header *header = (void *)bytes;
    struct berth_plan_lane *lanes = (void *)(header + 1);
    uint32_t lane_count = 1 + random_below(3), at = 0;
    struct berth_plan_entry *entries = (void *)(lanes + lane_count);

    *header = (struct berth_plan_header){BERTH_PLAN_MAGIC, 0, 0, lane_count, 0, 4096 * 512, 0};
    for (uint32_t i = 0; i < lane_count; i++) {
        uint32_t count = random_below(ENTRIES_MAX / 3);

        lanes[i] = (struct berth_plan_lane){at, count, count / 3, count};
        at += count;
    }
    for (uint32_t i = 0; i < at; i++)
        entries[i] = (struct berth_plan_entry){(1 + random_below(8)) * BERTH_GRANULE,
                                               random_below(4000) * BERTH_GRANULE};
    header->entry_count = at;
    return (size_t)((uint8_t *)(entries + at) - bytes);
}

static void damage(uint8_t *bytes, size_t size)
{
    static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff};

    for (uint32_t n = random_below(4); n > 0; n--) {
        size_t at = random_below((uint32_t)size);

        bytes[at] =
            random_below(2) ? edges[random_below(sizeof(edges))] : (uint8_t)random_below(256);
    }
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 20000, accepted = 0;
    _Alignas(8) static uint8_t bytes[8192];

    for (unsigned long i = 0; i < rounds; i++) {
        struct berth_plan_header *header = (void *)bytes;
        size_t size = make_plan(bytes);

        damage(bytes, size);
        if (random_below(8) == 0)
            size = random_below((uint32_t)size + 1);
        if (size >= sizeof(*header) && random_below(8) != 0)
            header->checksum = berth__plan_file_checksum(bytes, size);
        accepted += (unsigned long)LLVMFuzzerTestOneInput(bytes, size);
    }
    printf("%lu plans, %lu of them accepted and followed; %lu rooms\n", rounds, accepted, rooms);
    return accepted > rounds / 20 && rooms > rounds / 20 ? 0 : 1;
}
#endif
