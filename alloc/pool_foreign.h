/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the driver gave to the program itself: pitched, managed, pinned, of memory pools of
 * its own, and what is allocated where the pool serves nothing.
 *
 * The pool does not serve it, but it is in the account, one segment each: reserved and held are
 * what the program asked for. What cannot be recorded (no host memory, a range that is recorded
 * already) is simply not accounted; the program never notices.
 *
 * The records have a lock of their own, which ranks like a pool's. Any thread.
 */
#ifndef BERTH_ALLOC_POOL_FOREIGN_H
#define BERTH_ALLOC_POOL_FOREIGN_H

#include "alloc/device.h"
#include "alloc/segment.h"

/* What a foreign record says. */
struct berth_foreign {
    uintptr_t address;
    uint64_t size;
    berth_tier_id tier;
    enum berth_tag tag;
    void *context; /* whose destruction ends it; NULL when it outlives contexts */
};

/*
 * Takes the bytes of the tier's capacity before the driver is asked, and promises them of the tag's
 * limit; neither looks at the address. 0, or -ENOSPC when even without what the pools cache in the
 * tier there is no room, -EDQUOT when the process's limit has none, or the tag's. Then either
 * berth__foreign_add() keeps them or berth__foreign_cancel() gives them back, and after that
 * berth__foreign_settle() is given what the promise was made for.
 */
int berth__foreign_reserve(const struct berth_foreign *foreign);
void berth__foreign_settle(const struct berth_foreign *foreign);
/* The same without a look at the tag's limit, which the caller has looked at. */
int berth__foreign_make_room(berth_tier_id tier, uint64_t size);
void berth__foreign_cancel(berth_tier_id tier, uint64_t size);
void berth__foreign_add(const struct berth_foreign *foreign);

/*
 * Takes the record of exactly this address out, before the driver frees it, because afterwards the
 * address may be somebody else's at once. -ENOENT if there is none. The bytes stay in the account
 * until berth__foreign_cancel(); if the driver refuses, berth__foreign_restore() undoes it.
 */
int berth__foreign_remove(uintptr_t address, struct berth_foreign *ret);
void berth__foreign_restore(const struct berth_foreign *foreign);

/* The context was destroyed. */
void berth__foreign_drop(const void *context);
/* The page map found that the driver has given this record's memory to somebody else. */
void berth__foreign_forget(struct berth_segment *segment);

/* The record of exactly this address, which stays. -ENOENT if there is none. */
int berth__foreign_peek(uintptr_t address, struct berth_foreign *ret);

/* In a forked child: nothing is recorded any more. */
void berth__foreign_disable(void);

#endif
