/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's NUMA memory policies, by raw system calls.
 *
 * Only policies of address ranges are set, never that of a thread: what numactl or the program
 * itself has set stays as it is for everything else.
 */
#ifndef BERTH_PMEM_MEMPOLICY_H
#define BERTH_PMEM_MEMPOLICY_H

#include "alloc/types.h"
#include "pmem/node_set.h"

/*
 * Pages of the range that are touched from now on come from the nodes. 0 or -errno: -EINVAL when
 * the process may use none of them, -ENOSYS for a kernel without NUMA, -EPERM where a sandbox
 * forbids it. `*ret_first_only` says that the kernel can prefer one node alone, and took the first.
 */
int berth__mempolicy_set(void *address, size_t size, const struct berth_node_set *nodes,
                         enum berth_numa_mode mode, bool *ret_first_only);

/* The nodes on which this process may have memory (its cpuset). 0 or -errno. */
int berth__mempolicy_allowed(struct berth_node_set *ret);

#endif
