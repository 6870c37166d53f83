/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot that a process has handed over (ipc/snapshot_format.h), checked and in memory. */
#ifndef BERTH_TOOLS_SNAPSHOT_DATA_H
#define BERTH_TOOLS_SNAPSHOT_DATA_H

#include "ipc/snapshot_format.h"

#include <stddef.h>

/* Room for any reason. */
#define BERTH_SNAPSHOT_WHY_MAX 256

struct berth_snapshot_segment {
    struct berth_segment_row row; /* of a known device */
    struct berth_block_row *block;
};

struct berth_snapshot_name {
    char *function; /* "symbol+0x1f", or "+0x2e0" where there is none */
    char *module;
};

struct berth_snapshot_path {
    uint32_t site;
    uint32_t count;
    struct berth_snapshot_name *frame;
};

struct berth_snapshot_setting {
    char *name, *value;
};

struct berth_snapshot {
    struct berth_snapshot_header header;
    struct berth_snapshot_segment *segment; /* by address */
    size_t segments, segment_room;
    struct berth_trace_record *record; /* oldest first */
    size_t records;
    struct berth_snapshot_path *path; /* by site */
    size_t paths, path_room;
    struct berth_snapshot_setting *setting;
    size_t settings, setting_room;
    unsigned devices; /* one more than the highest */
};

/*
 * Reads a whole snapshot. Blocks tile their segments, numbers are within what they may be. 0, or
 * -EINVAL with the reason in `why`; it is to be freed in both cases.
 */
int berth__snapshot_parse(const void *bytes, size_t size, struct berth_snapshot *ret,
                          char why[BERTH_SNAPSHOT_WHY_MAX]);
void berth__snapshot_done(struct berth_snapshot *snapshot);

/* The segment that contains the address, or NULL. */
const struct berth_snapshot_segment *berth__snapshot_find(const struct berth_snapshot *snapshot,
                                                          uint64_t address);
/* The index of a site's path, or SIZE_MAX. */
size_t berth__snapshot_find_path(const struct berth_snapshot *snapshot, uint32_t site);

/* Whether a record is of memory that a snapshot has: on a device. */
bool berth__snapshot_has_kind(const struct berth_trace_record *record);

#endif
