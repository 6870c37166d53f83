/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/plan_file.h"

#include "alloc/size_class.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define refuse(...) (snprintf(why, why_size, __VA_ARGS__), -EINVAL)

_Static_assert(sizeof(struct berth_plan_header) == 56, "part of the file's layout");
_Static_assert(sizeof(struct berth_plan_lane) == 16, "part of the file's layout");
_Static_assert(sizeof(struct berth_plan_entry) == 16, "part of the file's layout");

/* Each word is mixed in by a multiplication and a fold, so that one wrong bit changes all. */
static uint64_t mix(uint64_t sum, uint64_t word)
{
    sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return sum ^ sum >> 29;
}

uint64_t berth__plan_file_checksum(const void *bytes, size_t size)
{
    const size_t skipped = offsetof(struct berth_plan_header, checksum);
    uint64_t sum = size;

    for (size_t at = 0; at + sizeof(uint64_t) <= size; at += sizeof(uint64_t)) {
        uint64_t word;

        memcpy(&word, (const char *)bytes + at, sizeof(word));
        sum = mix(sum, at == skipped ? 0 : word);
    }
    return sum;
}

static bool is_granular(uint64_t bytes)
{
    return (bytes & (BERTH_GRANULE - 1)) == 0;
}

static int check_header(const struct berth_plan_header *header, uint64_t size, char *why,
                        size_t why_size)
{
    static const char magic[sizeof(header->magic)] = BERTH_PLAN_MAGIC;

    if (memcmp(header->magic, magic, sizeof(magic)) != 0)
        return refuse("it does not begin as a plan of this version; expected what `berth trace "
                      "plan` writes");
    if (header->lane_count > BERTH_PLAN_LANES_MAX || header->entry_count > BERTH_PLAN_ENTRIES_MAX)
        return refuse("it has more lanes or entries than a plan may; expected at most %d and %llu",
                      BERTH_PLAN_LANES_MAX, (unsigned long long)BERTH_PLAN_ENTRIES_MAX);
    if (size != sizeof(*header) + header->lane_count * sizeof(struct berth_plan_lane) +
                    header->entry_count * sizeof(struct berth_plan_entry))
        return refuse("its size, %llu bytes, is not that of its contents; is it cut short?",
                      (unsigned long long)size);
    if (header->peak == 0 || header->peak > BERTH_PLAN_PEAK_MAX || !is_granular(header->peak))
        return refuse("its peak is %llu; expected a multiple of %llu bytes up to 128 TiB",
                      (unsigned long long)header->peak, (unsigned long long)BERTH_GRANULE);
    return 0;
}

static int check_lanes(const struct berth_plan_view *view, char *why, size_t why_size)
{
    uint64_t next = 0;

    for (uint32_t i = 0; i < view->header->lane_count; i++) {
        const struct berth_plan_lane *lane = &view->lanes[i];

        if (lane->first != next || lane->count > view->header->entry_count - next ||
            lane->loop_begin > lane->loop_end || lane->loop_end > lane->count)
            return refuse("lane %u is not among the entries", i);
        next += lane->count;
    }
    if (next != view->header->entry_count)
        return refuse("entries are in no lane");
    return 0;
}

static int check_entries(const struct berth_plan_view *view, char *why, size_t why_size)
{
    uint64_t peak = view->header->peak;

    for (uint64_t i = 0; i < view->header->entry_count; i++) {
        const struct berth_plan_entry *entry = &view->entries[i];

        if (entry->size == 0 || !is_granular(entry->size))
            return refuse("entry %llu has a size that no block has", (unsigned long long)i);
        if (entry->offset != BERTH_PLAN_NOWHERE &&
            (!is_granular(entry->offset) || entry->size > peak ||
             entry->offset > peak - entry->size))
            return refuse("entry %llu is outside the segment", (unsigned long long)i);
    }
    return 0;
}

int berth__plan_file_open(const void *bytes, size_t size, struct berth_plan_view *ret, char *why,
                          size_t why_size)
{
    struct berth_plan_view view = {.header = bytes};
    int r;

    if (size < sizeof(*view.header))
        return refuse("it is %zu bytes long; expected a plan of `berth trace plan`", size);
    r = check_header(view.header, size, why, why_size);
    if (r < 0)
        return r;
    if (berth__plan_file_checksum(bytes, size) != view.header->checksum)
        return refuse("its checksum is wrong; it was changed or damaged");
    view.lanes = (const void *)(view.header + 1);
    view.entries = (const void *)(view.lanes + view.header->lane_count);
    r = check_lanes(&view, why, why_size);
    if (r == 0)
        r = check_entries(&view, why, why_size);
    if (r == 0)
        *ret = view;
    return r;
}
