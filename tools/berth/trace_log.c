/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/trace_log.h"

#include "tools/berth/tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[BERTH_TRACE_KIND_COUNT] = {
#define X(identifier, name) [BERTH_TRACE_##identifier] = name,
    BERTH_TRACE_KINDS(X)
#undef X
};

const char *berth__trace_kind_name(unsigned kind)
{
    return kind < BERTH_TRACE_KIND_COUNT ? kind_names[kind] : NULL;
}

int berth__trace_kind_from_name(const char *name, size_t length)
{
    for (int i = 0; i < BERTH_TRACE_KIND_COUNT; i++)
        if (strlen(kind_names[i]) == length && memcmp(kind_names[i], name, length) == 0)
            return i;
    return -ENOENT;
}

void berth__trace_log_init(struct berth_trace_log *log)
{
    memset(log, 0, sizeof(*log));
    berth__trace_log_site(log, "", 0);
}

void berth__trace_log_done(struct berth_trace_log *log)
{
    for (uint32_t i = 0; i < log->site_count; i++)
        free(log->site[i]);
    free(log->site);
    free(log->site_slot);
    free(log->event);
    memset(log, 0, sizeof(*log));
}

struct berth_trace_event *berth__trace_log_add(struct berth_trace_log *log)
{
    struct berth_trace_event *event;

    if (log->count == log->room) {
        log->room = log->room < UINT32_MAX / 2 ? log->room * 2 + 1024 : UINT32_MAX;
        log->event = berth__tool_realloc(log->event, (size_t)log->room * sizeof(*log->event));
    }
    event = &log->event[log->count++];
    memset(event, 0, sizeof(*event));
    event->match = BERTH_TRACE_NONE;
    return event;
}

/* FNV-1a. */
static uint32_t hash_of(const char *name, size_t length)
{
    uint32_t hash = 0x811c9dc5;

    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)name[i]) * 0x01000193;
    return hash ^ hash >> 15;
}

/* Where the name is in the table, or the empty slot for it. */
static uint32_t *site_slot(const struct berth_trace_log *log, const char *name, size_t length)
{
    uint32_t mask = log->site_room * 2 - 1;
    uint32_t at = hash_of(name, length) & mask;

    for (; log->site_slot[at] != 0; at = (at + 1) & mask) {
        const char *other = log->site[log->site_slot[at] - 1];

        if (strlen(other) == length && memcmp(other, name, length) == 0)
            break;
    }
    return &log->site_slot[at];
}

static void grow_sites(struct berth_trace_log *log)
{
    log->site_room = log->site_room ? log->site_room * 2 : 64;
    log->site = berth__tool_realloc(log->site, log->site_room * sizeof(*log->site));
    free(log->site_slot);
    log->site_slot = berth__tool_realloc(NULL, log->site_room * 2 * sizeof(*log->site_slot));
    memset(log->site_slot, 0, log->site_room * 2 * sizeof(*log->site_slot));
    for (uint32_t i = 0; i < log->site_count; i++)
        *site_slot(log, log->site[i], strlen(log->site[i])) = i + 1;
}

uint32_t berth__trace_log_site(struct berth_trace_log *log, const char *name, size_t length)
{
    uint32_t *slot;

    if (log->site_count == log->site_room)
        grow_sites(log);
    slot = site_slot(log, name, length);
    if (*slot == 0) {
        log->site[log->site_count++] = berth__tool_format("%.*s", (int)length, name);
        *slot = log->site_count;
    }
    return *slot - 1;
}

/* The live allocation at each address: open addressing, the event's index plus one, 0 = empty. */
struct live_map {
    uint32_t *slot;
    size_t mask;
};

static size_t slot_of(const struct live_map *map, const struct berth_trace_event *event,
                      uint64_t address)
{
    size_t at = (size_t)((address * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & map->mask;

    while (map->slot[at] != 0 && event[map->slot[at] - 1].address != address)
        at = (at + 1) & map->mask;
    return at;
}

/* An allocation has ended: its slot stays, so that what was stored behind it is still found. */
static void end_allocation(struct berth_trace_log *log, uint32_t allocation, uint32_t by,
                           uint64_t *live)
{
    log->event[allocation].match = by;
    *live -= log->event[allocation].size;
}

static void match_allocation(struct berth_trace_log *log, struct live_map *map, uint32_t index,
                             uint64_t *live)
{
    const struct berth_trace_event *event = &log->event[index];
    size_t at = slot_of(map, log->event, event->address);
    uint32_t before = map->slot[at];

    if (before != 0 && log->event[before - 1].match == BERTH_TRACE_NONE) {
        end_allocation(log, before - 1, index, live);
        log->replaced++;
    }
    map->slot[at] = index + 1;
    log->allocations++;
    *live += event->size;
    if (*live > log->max_live) {
        log->max_live = *live;
        log->max_live_event = index;
    }
}

/* A block that was there when the trace began is an allocation, unless the trace has that. */
static bool is_known(struct berth_trace_log *log, const struct live_map *map, uint32_t index)
{
    struct berth_trace_event *event = &log->event[index];
    uint32_t before = map->slot[slot_of(map, log->event, event->address)];
    bool known = before != 0 && log->event[before - 1].match == BERTH_TRACE_NONE;

    event->action = known ? BERTH_TRACE_NOTHING : BERTH_TRACE_ALLOCATE;
    return known;
}

static void match_free(struct berth_trace_log *log, const struct live_map *map, uint32_t index,
                       uint64_t *live)
{
    struct berth_trace_event *event = &log->event[index];
    uint32_t before = map->slot[slot_of(map, log->event, event->address)];

    if (before == 0 || log->event[before - 1].match != BERTH_TRACE_NONE) {
        log->strange_frees++;
        return;
    }
    event->match = before - 1;
    event->size = log->event[before - 1].size;
    event->held = log->event[before - 1].held;
    end_allocation(log, before - 1, index, live);
}

void berth__trace_log_match(struct berth_trace_log *log)
{
    struct live_map map = {.mask = 1023};
    uint64_t live = 0;

    while (map.mask < (size_t)log->count * 2)
        map.mask = map.mask * 2 + 1;
    map.slot = berth__tool_realloc(NULL, (map.mask + 1) * sizeof(*map.slot));
    memset(map.slot, 0, (map.mask + 1) * sizeof(*map.slot));
    log->max_live = 0;
    log->max_live_event = log->allocations = log->leftovers = 0;
    log->strange_frees = log->replaced = 0;
    for (uint32_t i = 0; i < log->count; i++)
        log->event[i].match = BERTH_TRACE_NONE;
    for (uint32_t i = 0; i < log->count; i++) {
        if (log->event[i].action == BERTH_TRACE_EXISTING && is_known(log, &map, i))
            continue;
        if (log->event[i].action == BERTH_TRACE_ALLOCATE)
            match_allocation(log, &map, i, &live);
        else if (log->event[i].action == BERTH_TRACE_FREE)
            match_free(log, &map, i, &live);
    }
    for (uint32_t i = 0; i < log->count; i++)
        if (log->event[i].action == BERTH_TRACE_ALLOCATE && log->event[i].match == BERTH_TRACE_NONE)
            log->leftovers++;
    free(map.slot);
}
