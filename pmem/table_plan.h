/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which rule is first for a size, without looking at the others.
 *
 * A plan is made once for each kind of request (site, side, tag) that a table meets. It cuts the
 * sizes at every bound of the rules that can matter, so that within one step the same rules match:
 * finding the step is a binary search, however many rules there are. A step lists rules up to the
 * first that needs nothing else; rules before that one also name a thread or a sequence range.
 *
 * Plans are built by readers, inside malloc: memory comes from mappings that live as long as the
 * table, taken without a lock.
 */
#ifndef BERTH_PMEM_TABLE_PLAN_H
#define BERTH_PMEM_TABLE_PLAN_H

#include "alloc/types.h"

#include <stdatomic.h>
#include <stdbool.h>

/*
 * Building takes time that grows with the square of the rules that can match one kind of request.
 * With more of them than this, there is no plan, and the rules are tried in turn.
 */
#define BERTH_PLAN_ENTRIES_MAX 4096

struct berth_plan_step {
    uint64_t max_size;     /* inclusive; the last step's is UINT64_MAX */
    uint32_t first, count; /* in `indexes` */
};

struct berth_plan {
    const uint32_t *indexes;
    uint32_t step_count;
    struct berth_plan_step step[];
};

/* A rule, or `site` section, that can match; in the table's order. */
struct berth_plan_entry {
    uint64_t min_size, max_size;
    uint32_t index;
    bool is_final; /* matches whenever the size does */
};

struct berth_plan_chunk;

/* Zero-initialised; the memory of all plans of one table. */
struct berth_plan_arena {
    _Atomic(struct berth_plan_chunk *) newest;
};

/* NULL: there is no memory, or there are too many entries. */
const struct berth_plan *berth__plan_build(struct berth_plan_arena *arena,
                                           const struct berth_plan_entry *entries, size_t count);

/* The step that a size is in. */
const struct berth_plan_step *berth__plan_find(const struct berth_plan *plan, uint64_t size);

void berth__plan_arena_done(struct berth_plan_arena *arena);

#endif
