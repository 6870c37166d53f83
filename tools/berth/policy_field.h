/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One option of a section: finding it, and reading what it says.
 *
 * Each reader leaves *ret alone when the option is missing or wrong. It returns false only when it
 * is wrong, which it has then complained about.
 */
#ifndef BERTH_TOOLS_POLICY_FIELD_H
#define BERTH_TOOLS_POLICY_FIELD_H

#include "alloc/types.h"
#include "tools/berth/policy_scan.h"

struct berth_policy_field {
    const struct berth_policy_section *section;
    struct berth_complaints *complaints;
};

/* The statement of this name, or NULL. */
const struct berth_policy_statement *berth__field_find(const struct berth_policy_field *field,
                                                       const char *name);

/* Its line, or the section's when it is missing. */
unsigned berth__field_line(const struct berth_policy_field *field, const char *name);

/* Its one value; NULL when it is missing or broken. */
const struct berth_policy_value *berth__field_value(const struct berth_policy_field *field,
                                                    const char *name);

bool berth__field_size(const struct berth_policy_field *field, const char *name, uint64_t *ret);
bool berth__field_side(const struct berth_policy_field *field, enum berth_side *ret);
/* One tag or a list of them, as a set; an empty list is wrong. */
bool berth__field_tags(const struct berth_policy_field *field, unsigned *ret);
bool berth__field_fork(const struct berth_policy_field *field, enum berth_fork_rule *ret);
/*
 * A choice by name. `from_name` gives its number or a negative errno; `what` and `expected` are for
 * the complaint: "'x' is no WHAT; expected EXPECTED".
 */
bool berth__field_choice(const struct berth_policy_field *field, const char *name,
                         int (*from_name)(const char *), const char *what, const char *expected,
                         int *ret);
/* NUMA nodes, one text or a list, as the one text of the set, which the caller frees. */
bool berth__field_nodes(const struct berth_policy_field *field, char **ret);
bool berth__field_decay(const struct berth_policy_field *field, int64_t *ret_ms);
/* "3", "0-99" or "100-" (to any). */
bool berth__field_sequence(const struct berth_policy_field *field, uint64_t *ret_first,
                           uint64_t *ret_last);
bool berth__field_pattern(const struct berth_policy_field *field, const char *name,
                          const char **ret);
bool berth__field_thread(const struct berth_policy_field *field, const char **ret);
/* min-size and max-size together. */
bool berth__field_sizes(const struct berth_policy_field *field, uint64_t *ret_min,
                        uint64_t *ret_max);

#endif
