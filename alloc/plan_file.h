/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plan: where in one segment each allocation of a recorded run is to lie, found beforehand by
 * `berth trace plan`, so that the same run needs little more than what lives at once.
 *
 * The file: a header, the lanes, the entries, nothing else; in the machine's byte order. Lane 0 has
 * all allocations of the recorded run in order. Where several threads made them there is a further
 * lane for each, with its own ones again: the n-th thread that allocates has lane n, from 1. In a
 * lane the entries from loop_begin to before loop_end are repeated any number of times, in all
 * lanes together, before it goes on with what follows them.
 *
 * A reader trusts nothing: berth__plan_file_open() looks at every field. What it cannot see is
 * whether entries that live at once overlap; whoever follows a plan looks whether a range is free.
 */
#ifndef BERTH_ALLOC_PLAN_FILE_H
#define BERTH_ALLOC_PLAN_FILE_H

#include "alloc/types.h"

#include <stddef.h>

#define BERTH_PLAN_MAGIC "berth plan 1\n"

/* Named limits: a file beyond them is refused. */
#define BERTH_PLAN_LANES_MAX 64
#define BERTH_PLAN_ENTRIES_MAX ((uint64_t)1 << 26)
#define BERTH_PLAN_PEAK_MAX ((uint64_t)1 << 47) /* bytes */

#define BERTH_PLAN_NOWHERE UINT64_MAX /* the offset of an entry that the plan has no place for */

struct berth_plan_header {
    char magic[16];
    uint64_t checksum; /* berth__plan_file_checksum() of the file with 0 in this place */
    uint32_t device;   /* ordinal */
    uint32_t lane_count;
    uint64_t entry_count;
    uint64_t peak;     /* bytes: the segment; a multiple of the granule */
    uint64_t max_live; /* bytes of the recorded run, for those who compare */
};

struct berth_plan_lane {
    uint32_t first, count;         /* its entries; lanes follow each other without a gap */
    uint32_t loop_begin, loop_end; /* within them; equal when nothing is repeated */
};

struct berth_plan_entry {
    uint64_t size;   /* bytes: held, a multiple of the granule */
    uint64_t offset; /* likewise, or BERTH_PLAN_NOWHERE */
};

struct berth_plan_view {
    const struct berth_plan_header *header;
    const struct berth_plan_lane *lanes;
    const struct berth_plan_entry *entries;
};

/* Room for any reason. */
#define BERTH_PLAN_WHY_MAX 160

uint64_t berth__plan_file_checksum(const void *bytes, size_t size);

/*
 * Checks all of the bytes, which are aligned to 8 and stay the caller's. 0, or -EINVAL with "what
 * is wrong; what was expected" in `why`, and *ret is unchanged.
 */
int berth__plan_file_open(const void *bytes, size_t size, struct berth_plan_view *ret, char *why,
                          size_t why_size);

#endif
