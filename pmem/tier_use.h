/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The use of a tier: how much of what it has the program holds, by the account (alloc/stats.h).
 * Read without a lock: of blocks that come and go meanwhile, some are seen and some are not.
 */
#ifndef BERTH_PMEM_TIER_USE_H
#define BERTH_PMEM_TIER_USE_H

#include "alloc/types.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * So much, and a 32nd of the most that was ever held at once, may be kept besides what a program
 * has when it asks for new memory.
 */
#define BERTH_USE_IDLE_MIN ((uint64_t)2 << 20)

struct berth_tier_use {
    uint64_t held; /* by the program */
    uint64_t idle; /* what the tier has besides */
    uint64_t peak; /* the most that was held at once; of several tags, the sum of their peaks */
};

/* `more` bytes that are held are not counted yet. */
struct berth_tier_use berth__tier_use(berth_tier_id id, uint64_t more);

/*
 * Whether large pieces are kept that jemalloc would have given back by now, when a block of `more`
 * bytes did not find room in them: the tier has more than the program ever needed at once, and what
 * is wanted is as large, or most of it is idle.
 */
bool berth__tier_use_is_beyond(const struct berth_tier_use *use, uint64_t more);

/* Bytes of the tier that the program has; `*ret_frees`: how many blocks it ever gave back. */
uint64_t berth__tier_held(berth_tier_id id, uint64_t *ret_frees);

#endif
