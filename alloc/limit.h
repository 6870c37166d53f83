/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits: how much device memory the process may take from the driver, and blocks of one tag hold.
 *
 * They are the options device-limit and device-limit-TAG, 0 for none, and may change at any time.
 * What would go over one is refused: to the program, CUDA's out-of-memory error, and a count here.
 *
 * The process's limit bounds what all tiers of kind `device` have reserved together: the pools'
 * segments, and memory of other kinds that is accounted there (pitched, stream-ordered, ...). What
 * is cached is given back before anything is refused. A tag's limit bounds what its blocks in these
 * tiers hold. Memory of managed and of host kinds is not the device's and not limited.
 *
 * Any thread; no lock.
 */
#ifndef BERTH_ALLOC_LIMIT_H
#define BERTH_ALLOC_LIMIT_H

#include "alloc/options.h"

#include <stdbool.h>

/* The process's own among the limits; else they are counted by tag. */
#define BERTH_LIMIT_PROCESS BERTH_TAG_COUNT

/* The limit in force, in bytes; 0: none. */
uint64_t berth__limit(unsigned which);
/* The option that says it. */
enum berth_option berth__limit_option(unsigned which);
/* What counts against it now. */
uint64_t berth__limit_used(unsigned which);

/*
 * Takes `size` bytes of what the process may reserve, or -EDQUOT; and gives them back. For
 * berth__tier_reserve() alone.
 */
int berth__limit_take(uint64_t size);
void berth__limit_give(uint64_t size);

/* Bytes by which the process is over its limit: it was lowered meanwhile. */
uint64_t berth__limit_excess(void);

/*
 * Around an allocation of a tag: berth__limit_enter() promises room for `held` bytes, or answers
 * -EDQUOT; once the block is in the account, or there is none, berth__limit_leave() takes the
 * promise back. Between them other threads see the bytes twice for a moment, never less than once.
 */
int berth__limit_enter(enum berth_tag tag, uint64_t held);
void berth__limit_leave(enum berth_tag tag, uint64_t held);
/*
 * Whether a block of `held` bytes, for which `kept` were promised, may stay: always if it holds no
 * more than that; else if what the tag's blocks hold, together with what others were promised, is
 * within the limit. For who has left: whoever was let in before the block was in the account did
 * not see how much more it holds, and its own memory may come later.
 */
bool berth__limit_holds(enum berth_tag tag, uint64_t kept, uint64_t held);
/* Whether either is needed: one load where there are no limits. */
static inline bool berth__limit_is_set(enum berth_tag tag)
{
    return (berth__option_limits() & (1u << tag | 1u << BERTH_LIMIT_PROCESS)) != 0;
}

/* Counts a request that a limit refused. */
void berth__limit_refuse(unsigned which, uint64_t size);
struct berth_limit_counts {
    uint64_t blocks, bytes;
};
struct berth_limit_counts berth__limit_refused(unsigned which);

#endif
