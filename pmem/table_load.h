/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table as a process uses it: its bytes, with places resolved to tiers and room for counters.
 *
 * It lies in one mapping of its own, because it is made while malloc may be starting. Everything in
 * it is written before it is published and constant afterwards, except the counters and the cache
 * of sites, which are atomic. The installer owns it until it is published; then the state in
 * table.c does, which frees it when no reader is left.
 */
#ifndef BERTH_PMEM_TABLE_LOAD_H
#define BERTH_PMEM_TABLE_LOAD_H

#include "pmem/table.h"
#include "pmem/table_format.h"
#include "pmem/table_plan.h"
#include "pmem/table_site.h"

/* Plans that a site's row has room for (table_match.c). */
#define BERTH_TABLE_PLANS (2 + 2 * BERTH_TAG_COUNT)

/* A rule in force. Cache lines apart: the counters of busy rules do not disturb each other. */
struct berth_rule_state {
    _Atomic uint64_t matched_blocks, matched_bytes;
    _Atomic uint64_t spilled_blocks, spilled_bytes;
    unsigned sides;   /* of berth__table_rule_sides() */
    uint32_t pattern; /* index in the cache of sites, or BERTH_RULE_NONE */
    /* Tiers that exist and serve the side, in order, in `placed`: first host, then device. */
    uint64_t placed_first;
    unsigned host_count, device_count;
} __attribute__((aligned(64)));

struct berth_loaded_table {
    struct berth_loaded_table *next_retired; /* table.c's list; written under its lock */
    size_t mapped_size;
    uint64_t version;
    struct berth_table_view view;
    size_t bytes_size;
    const char *origin;
    size_t host_min_size;   /* smallest host block that a rule can match; SIZE_MAX = none */
    unsigned site_sides;    /* of which blocks a pattern can matter to */
    uint64_t missing_tiers; /* bit per tier of the table that could not be made */
    char (*missing_why)[BERTH_TABLE_WHY_MAX]; /* of each tier; "" for one that was made */
    const char **patterns; /* of the site sections, then of the rules that have one */
    struct berth_rule_state *rules;
    berth_tier_id *placed;
    struct berth_site_cache sites;
    struct berth_plan_arena plans;
};

/*
 * Copies and checks `bytes`, sets the options, makes the tiers, resolves the places. `before` is
 * the table in force (may be NULL): what could not be made then is not said again. 0, or -EINVAL or
 * -ENOMEM with one sentence in `why`; nothing is changed then.
 */
int berth__table_load(const void *bytes, size_t size, const char *origin,
                      const struct berth_loaded_table *before, struct berth_loaded_table **ret,
                      char *why, size_t why_size);

void berth__table_unload(struct berth_loaded_table *table);

#endif
