/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tiers of kind numa: private memory of given NUMA nodes, CXL and dax-kmem nodes included.
 *
 * Each piece of the window gets its policy when it is mapped, before a page of it is touched; the
 * policy of the thread, which numactl may have set, is not changed.
 *
 * To the kernel, a node that is full and a policy that allows no other means that a process must
 * die (MPOL_BIND and the OOM killer). So where other nodes have memory too, a bound tier looks at
 * what its nodes have left before it commits, and takes the pages at once: a full node is seen when
 * memory is asked for, and the block goes to the next place.
 */
#ifndef BERTH_PMEM_TIER_NUMA_H
#define BERTH_PMEM_TIER_NUMA_H

#include "alloc/tier_ops.h"

#include <stdbool.h>

void berth__tier_numa_register(void);

/*
 * A forked child and its parent copy each page that one of them writes, and no commit sees it.
 * Where the nodes have no room for that, and in the child, what is there now may be copied to other
 * nodes rather than end a process. In the parent before a fork; in the child.
 */
void berth__tier_numa_before_fork(void);
void berth__tier_numa_in_child(void);

/* Whether the kernel keeps memory to the tier's nodes. Else there are no others, and it need not.
 */
bool berth__tier_numa_keeps(const struct berth_tier *tier);

/*
 * Before pages are moved to the tier's nodes, and after that: looks whether there is room for so
 * many bytes, which count as taken until they are. 0 or -ENOMEM.
 */
int berth__tier_numa_expect(const struct berth_tier *tier, size_t size);
void berth__tier_numa_arrived(const struct berth_tier *tier, size_t size);

/*
 * Has the kernel take the pages of a block that nobody has touched yet, before somebody else takes
 * the nodes' last ones. 0 or negative errno; the block's contents stay.
 */
int berth__tier_numa_take_rest(const struct berth_tier *tier, void *address, size_t size);

#endif
