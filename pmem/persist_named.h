/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The named tiers of this process: file and dax tiers whose policy gives them a name, each with the
 * store that it keeps.
 *
 * A store is opened when the program first asks for a block of its tier, never before: a shell
 * that starts the program has the same policy, and must not hold the lock. It stays open until
 * the process ends. In a forked child there are none: the stores are the parent's.
 *
 * Blocks are mapped in the window of the persistent home, so that free() and its like know them.
 */
#ifndef BERTH_PMEM_PERSIST_NAMED_H
#define BERTH_PMEM_PERSIST_NAMED_H

#include "alloc/types.h"
#include "pmem/persist_store.h"

/*
 * The store of the tier, opened if need be; with `create` also made. 0; -ENODEV if the tier has no
 * name, or its path leads to nothing that could be a store; -ENOENT if there is none; else -errno.
 * But for a tier without a name, and for -ENOENT, it is said in one line on stderr. No lock of ours
 * is held.
 */
int berth__persist_named_open(berth_tier_id tier, bool create,
                              struct berth_persist_store **ret_store);
/* The store of the tier, if it is open; NULL else. */
struct berth_persist_store *berth__persist_named_store(berth_tier_id tier);
/* Whether the tier has a name. */
bool berth__persist_named_is(berth_tier_id tier);

/* What guards the stores, and the addresses of their blocks. */
void berth__persist_named_lock(void);
void berth__persist_named_unlock(void);
/* Whether this process has inherited its stores by a fork: they are not its own to change. */
bool berth__persist_named_inherited(void);

#endif
