/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a policy means, and whether it can be meant: from the values of a file to the draft of a
 * table. Every mistake is complained about; what is only strange is warned of.
 */
#ifndef BERTH_TOOLS_POLICY_CHECK_H
#define BERTH_TOOLS_POLICY_CHECK_H

#include "pmem/table_build.h"
#include "tools/berth/policy_scan.h"

/* A rule as it was understood. */
struct berth_policy_rule {
    struct berth_rule_info info;
    const char **places;
    bool broken;    /* some value is wrong: comparing it with others would mislead */
    unsigned sides; /* that it speaks of */
};

/* A tier as it was understood. */
struct berth_policy_tier {
    struct berth_tier_config config;
    char *nodes; /* of config.nodes, or NULL */
    unsigned line;
    bool used;       /* some rule names it */
    bool kind_known; /* else config.kind means nothing */
};

struct berth_policy {
    struct berth_policy_tier *tiers;
    size_t tier_count;
    struct berth_site_info *sites;
    size_t site_count;
    struct berth_policy_rule *rules;
    size_t rule_count;
    struct berth_policy_statement **options;
    size_t option_count;
};

/*
 * Understands all sections. Strings in *ret belong to the document. 0 or -ENOMEM; mistakes and
 * warnings go to `complaints`, and *ret is complete only if there was no mistake.
 */
int berth__policy_understand(const struct berth_policy_document *document,
                             struct berth_complaints *complaints, struct berth_policy *ret);

void berth__policy_done(struct berth_policy *policy);

/* The policy as a table; as berth__draft_finish(). */
int berth__policy_encode(const struct berth_policy *policy, void **ret_bytes, size_t *ret_size,
                         char *why, size_t why_size);

#endif
