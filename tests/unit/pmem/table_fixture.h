/* SPDX-License-Identifier: Apache-2.0 */
/* Tables for tests: short ways to write rules, and a host tier that needs no memory. */
#ifndef BERTH_TESTS_PMEM_TABLE_FIXTURE_H
#define BERTH_TESTS_PMEM_TABLE_FIXTURE_H

#include "pmem/table.h"
#include "pmem/table_build.h"

/* Tests set what they mean to test; what is 0 becomes "any" when it is added. */
#define RULE(...) ((struct berth_rule_info){__VA_ARGS__})
#define SITE(...) ((struct berth_site_info){__VA_ARGS__})
#define TIER(...) ((struct berth_tier_config){__VA_ARGS__})

struct table_bytes {
    void *bytes;
    size_t size;
};

/* Adds a rule whose places are the names that follow, up to a NULL. */
void draft_rule(struct berth_table_draft *draft, struct berth_rule_info rule, ...);
void draft_tier(struct berth_table_draft *draft, struct berth_tier_config tier);
void draft_site(struct berth_table_draft *draft, struct berth_site_info site);

/* Finishes and frees the draft; the test fails if it is refused. */
struct table_bytes draft_bytes(struct berth_table_draft *draft);
/* The same, and installs the table. */
void draft_install(struct berth_table_draft *draft);

/* Makes kind `file` available: its tiers commit nothing. */
void fixture_serve_files(void);

#endif
