/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loans: device memory that belongs to somebody else, from which a tier of kind shared cuts blocks.
 *
 * A tier has at most one loan, a range of addresses that is mapped in this process. It becomes a
 * segment of the first context on its device that asks for a block of the tier, and stays that
 * context's until it is destroyed, or another one asks while no block lives in it. It is never
 * given back to the driver, counts as no cache of the device's, and where it has no room, or is
 * another context's, the request is answered with -ENOMEM: the next place of the rule is tried, and
 * counted as spilled.
 *
 * Synchronization: making and ending loans is the control thread's; the rest is any thread's. A
 * loan's state is one word, changed by compare-and-swap; while it is bound, under its pool's lock.
 */
#ifndef BERTH_ALLOC_POOL_BORROW_H
#define BERTH_ALLOC_POOL_BORROW_H

#include "alloc/device.h"

struct berth_loan {
    berth_tier_id tier;
    int device;
    uintptr_t base; /* both multiples of the granule */
    uint64_t size;
    berth_cu_context context; /* the only one that has it mapped; NULL: all of the device's */
};

/* What still lives in a loan. */
struct berth_loan_use {
    uint64_t blocks[BERTH_TAG_COUNT], bytes[BERTH_TAG_COUNT]; /* as held */
};

/* Blocks may be cut from it from now on. -EEXIST: the tier has one; -ENOSPC: its capacity is less.
 */
int berth__loan_make(const struct berth_loan *loan);

/*
 * Ends it unless blocks live in it: -EBUSY then, with *ret_use filled in. -ENOENT: there is none,
 * or its context was destroyed. After 0 nothing of Berth's refers to the addresses.
 */
int berth__loan_end(berth_tier_id tier, struct berth_loan_use *ret_use);

/* Its memory is in doubt: no more blocks are cut from it. Those that live stay the program's. */
void berth__loan_stop(berth_tier_id tier);

/* Whether a request for the tier is worth making. */
bool berth__loan_is_open(berth_tier_id tier);
bool berth__loan_exists(berth_tier_id tier);

/* False in a child that was forked from a process that used CUDA: nothing can be lent there. */
bool berth__loan_is_possible(void);

/* A context was destroyed: loans that only it had mapped are gone. */
void berth__loan_drop(berth_cu_context context);

#endif
