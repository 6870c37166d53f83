/* SPDX-License-Identifier: Apache-2.0 */
/* Which NUMA nodes the pages of a range are on: mbind(2), as raw system calls. */
#ifndef BERTH_PMEM_NODE_BIND_H
#define BERTH_PMEM_NODE_BIND_H

#include "alloc/types.h"

#include <stddef.h>

/*
 * Has the pages of the range be on the nodes of the tier, which is of kind numa, those that are
 * there already and those to come. -EBUSY where one cannot, because it is pinned; -ENOMEM: the
 * nodes are full; some may have moved then. 0 or another negative errno.
 */
int berth__node_bind(berth_tier_id tier, void *address, size_t size);

/*
 * Has the pages to come be from anywhere, as the program's others. Those that are on the tier's
 * nodes go to others that have processors, or else to any others. -EBUSY where one cannot, because
 * it is pinned or the others are full; some may have moved then. 0 or another negative errno.
 */
int berth__node_unbind(berth_tier_id tier, void *address, size_t size);

#endif
