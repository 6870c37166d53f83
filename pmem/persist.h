/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Persistent blocks, as the program knows them: the functions berth_persist() and its like of
 * berth.h, and what free() and its like do with such a block.
 *
 * A name is looked for in every named tier, in the order of the policy; a new block is made in the
 * first that has room. "TIER:NAME" means this tier alone.
 *
 * Any thread. One lock, which is never held while the loader is asked for anything, guards the
 * stores; a forked child takes none, and changes nothing.
 */
#ifndef BERTH_PMEM_PERSIST_H
#define BERTH_PMEM_PERSIST_H

#include "alloc/types.h"
#include "pmem/window.h"

#include <stdbool.h>

/* Before the first table, on one thread: from then on the calls are served. */
void berth__persist_register(void);

/* Whether `p`, which lies in a window, is in that of persistent blocks. */
static inline bool berth__persist_owns(const void *p)
{
    return BERTH_UNLIKELY(berth__window_home(p) == BERTH_HOME_PERSISTENT);
}

/* free(): lets go of the block as berth_persist_detach() does. Any other address is left alone. */
void berth__persist_free(void *p);
/* The size that the program asked for; 0 for an address that is no block's first. */
size_t berth__persist_size(const void *p);

struct berth_block_detail;
/* What is told of an address in that window; -ENOENT if it is in no block. */
int berth__persist_detail(const void *p, struct berth_block_detail *ret);

#endif
