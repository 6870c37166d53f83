/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tiers of whatever kind whose memory is reserved huge pages (hugetlb): `huge-pages = always`, and
 * directories of a hugetlbfs.
 *
 * An unnamed file of huge pages, mapped shared into the tier's window in pieces of one page
 * (chunks.h). The pages of a piece are taken when it is mapped, so that an empty pool is seen when
 * memory is asked for. Private ones would be taken from a forked child when its parent writes and
 * the pool is empty; so a child has a copy, which is in ordinary memory.
 */
#ifndef BERTH_PMEM_TIER_HUGE_H
#define BERTH_PMEM_TIER_HUGE_H

#include "alloc/tier_ops.h"
#include "pmem/node_memory.h"

#include <stdbool.h>

/*
 * Makes the tier, on these nodes if they are not NULL. 0, or -errno with one sentence in `why`,
 * when no huge pages can be had: the maker may then do without.
 */
int berth__tier_huge_make(struct berth_tier *tier, berth_tier_id id,
                          const struct berth_tier_config *config,
                          const struct berth_node_choice *nodes, char *why, size_t why_size);

/* Whether it was made here. */
bool berth__tier_huge_serves(const struct berth_tier *tier);

/* Says that the tier does without, and why. */
void berth__tier_huge_say_without(const struct berth_tier *tier, const char *why);

#endif
