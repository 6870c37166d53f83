/* SPDX-License-Identifier: Apache-2.0 */
/* What can be wrong between the sections of a policy: names, places, rules that never match. */
#ifndef BERTH_TOOLS_POLICY_CROSS_H
#define BERTH_TOOLS_POLICY_CROSS_H

#include "tools/berth/policy_check.h"

/* Sections and options that exist twice, and too many tiers. 0 or -ENOMEM. */
int berth__policy_check_names(const struct berth_policy_document *document,
                              struct berth_complaints *complaints);

/* Places that are no tier, that cannot serve the rule's side, or stand twice; tiers never used. */
void berth__policy_check_places(const struct berth_policy_document *document,
                                struct berth_policy *policy, struct berth_complaints *complaints);

/* Rules behind one that takes everything they could. */
void berth__policy_check_reach(const struct berth_policy *policy,
                               struct berth_complaints *complaints);

#endif
