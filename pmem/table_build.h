/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a table: from a policy file (tools), or from another table with changes (control thread).
 *
 * A draft is a table that can still grow. It lives in malloc's memory: a thread of Berth's that
 * uses one raises berth__thread.inside first. Strings are copied. What is added is checked when the
 * draft is finished, by berth__table_open() itself, so that a draft cannot make a table that would
 * be refused later.
 */
#ifndef BERTH_PMEM_TABLE_BUILD_H
#define BERTH_PMEM_TABLE_BUILD_H

#include "pmem/table_format.h"

struct berth_table_draft;

struct berth_table_draft *berth__draft_new(void);
void berth__draft_free(struct berth_table_draft *draft); /* NULL is nothing */

/* Each appends one entry. 0 or -ENOMEM; the draft is unchanged then. */
int berth__draft_add_option(struct berth_table_draft *draft, const char *name, const char *value);
int berth__draft_add_tier(struct berth_table_draft *draft, const struct berth_tier_config *tier,
                          unsigned line);
int berth__draft_add_site(struct berth_table_draft *draft, const struct berth_site_info *site);
/* `places` has rule->place_count names, which need not exist yet. */
int berth__draft_add_rule(struct berth_table_draft *draft, const struct berth_rule_info *rule,
                          const char *const *places);

/*
 * The draft as a table, in memory that the caller frees with free(). 0, -ENOMEM, or -EINVAL with
 * one sentence in `why`.
 */
int berth__draft_finish(struct berth_table_draft *draft, void **ret_bytes, size_t *ret_size,
                        char *why, size_t why_size);

/* One change of a table: of a rule, or of a tier. What is not given stays as it is. */
struct berth_table_change {
    const char *rule; /* the rule to change, or NULL */
    const char *tier; /* the tier to change, or NULL */

    const char *const *places; /* rule: NULL, or `place_count` names of tiers in order */
    unsigned place_count;
    const uint64_t *min_size; /* rule */
    const uint64_t *max_size; /* rule */
    const uint64_t *capacity; /* tier; 0 = what the backend has */
};

/*
 * A new table: the one in `bytes` with all changes, or none. Memory and errors as
 * berth__draft_finish(); -ENOENT when a change names what the table does not have.
 */
int berth__table_patch(const void *bytes, size_t size, const struct berth_table_change *changes,
                       size_t change_count, void **ret_bytes, size_t *ret_size, char *why,
                       size_t why_size);

/* Whether a table has a rule for host blocks, or a tier for persistent ones; false for bytes that
 * are no table. */
bool berth__table_bytes_host_rule(const void *bytes, size_t size);

#endif
