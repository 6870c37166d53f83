/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one loaded table says of a request.
 *
 * The first time that a site is met on a side with a tag, the rules that can matter are put in a
 * plan; from then on the answer costs a search among the bounds of their sizes. Where there is no
 * memory for that, rules are tried in turn, with the same answer.
 */
#ifndef BERTH_PMEM_TABLE_MATCH_H
#define BERTH_PMEM_TABLE_MATCH_H

#include "pmem/table_load.h"

/* Fills in tag, rule and places; `ret` says "nothing" before. Counts nothing. */
void berth__table_match(struct berth_loaded_table *table, const struct berth_request *request,
                        struct berth_decision *ret);

/* What berth__table_least_size() says, of this table. */
size_t berth__table_match_least(struct berth_loaded_table *table, const void *return_address,
                                size_t most);

/* Why one section, or rule, matches the request or does not, as berth__table_judge_rule(). */
enum berth_verdict berth__table_match_section(struct berth_loaded_table *table, uint32_t index,
                                              const struct berth_request *request);
enum berth_verdict berth__table_match_rule(struct berth_loaded_table *table, uint32_t index,
                                           const struct berth_request *request);

/* Where nobody else tags the block, the request's guess does. */
static inline void berth__table_take_guess(const struct berth_request *request,
                                           struct berth_decision *ret)
{
    if (BERTH_LIKELY(request->guess == BERTH_TAG_UNTAGGED) || ret->tag != BERTH_TAG_UNTAGGED)
        return;
    ret->tag = request->guess;
    ret->tagged_by = BERTH_TAGGED_CLASSIFIER;
}

/* The same answer by trying each rule in turn. */
void berth__table_match_in_turn(struct berth_loaded_table *table,
                                const struct berth_request *request, struct berth_decision *ret);

#endif
