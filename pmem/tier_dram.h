/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tiers of kind dram: ordinary memory. The built-in one always exists, and holds the blocks that
 * are accounted one by one; a policy may name others, with a capacity of their own.
 */
#ifndef BERTH_PMEM_TIER_DRAM_H
#define BERTH_PMEM_TIER_DRAM_H

#include "alloc/tier_ops.h"

/* Gives the built-in tier its verbs, and registers the maker of others. */
void berth__tier_dram_register(void);

/* In a forked child, which has none of the threads that may have held the tiers' lock. */
void berth__tier_dram_in_child(void);

#endif
