/* SPDX-License-Identifier: Apache-2.0 */
/* A table as people and programs read it. */
#ifndef BERTH_TOOLS_POLICY_SHOW_H
#define BERTH_TOOLS_POLICY_SHOW_H

#include "alloc/quantity.h"
#include "pmem/table_format.h"

#include <stdio.h>

/* Aligned columns: tiers, sites, rules, options. */
void berth__policy_show_table(const struct berth_table_view *view, FILE *to);

/* Policy text that compiles to the same table again (its lines are its own). */
void berth__policy_show_text(const struct berth_table_view *view, FILE *to);

/* One JSON object. 0 or -ENOMEM. */
int berth__policy_show_json(const struct berth_table_view *view, FILE *to);

/* How long freed memory is kept, as a policy says it: "never", "0", "10s". May return `buffer`. */
const char *berth__policy_decay_text(int64_t ms, char buffer[BERTH_QUANTITY_TEXT_MAX]);

#endif
