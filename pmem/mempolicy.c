/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/mempolicy.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MPOL_F_STATIC_NODES
#define MPOL_F_STATIC_NODES (1 << 15)
#endif
#define PREFERRED_MANY 5 /* Linux 5.15 */

/*
 * Node numbers mean the machine's own, also when the process is moved to another cpuset: the kernel
 * would else map them to other nodes.
 */
static int set_range(void *address, size_t size, const struct berth_node_set *nodes, int mode)
{
    int saved_errno = errno;
    /* The kernel counts one bit more than it reads. */
    unsigned long end = berth__node_set_end(nodes) + 1;
    int r = 0;

    if (syscall(SYS_mbind, address, size, mode | MPOL_F_STATIC_NODES, nodes->bits, end, 0) < 0)
        r = -errno;
    errno = saved_errno;
    return r;
}

int berth__mempolicy_set(void *address, size_t size, const struct berth_node_set *nodes,
                         enum berth_numa_mode mode, bool *ret_first_only)
{
    int r;

    *ret_first_only = false;
    if (mode == BERTH_NUMA_BIND)
        return set_range(address, size, nodes, MPOL_BIND);
    if (berth__node_set_count(nodes) == 1)
        return set_range(address, size, nodes, MPOL_PREFERRED);
    r = set_range(address, size, nodes, PREFERRED_MANY);
    if (r != -EINVAL)
        return r;
    *ret_first_only = true;
    return set_range(address, size, nodes, MPOL_PREFERRED);
}

int berth__mempolicy_allowed(struct berth_node_set *ret)
{
    int saved_errno = errno;
    int r = 0;

    memset(ret, 0, sizeof(*ret));
    if (syscall(SYS_get_mempolicy, NULL, ret->bits, (unsigned long)BERTH_NODES_MAX, NULL,
                MPOL_F_MEMS_ALLOWED) < 0)
        r = -errno;
    errno = saved_errno;
    return r;
}
