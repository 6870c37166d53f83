/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much memory NUMA nodes have, as /sys tells it.
 */
#ifndef BERTH_PMEM_NODE_MEMORY_H
#define BERTH_PMEM_NODE_MEMORY_H

#include "pmem/node_set.h"

#include <stdbool.h>

/* What a policy asks for, and what of it there is. */
struct berth_node_choice {
    struct berth_node_set nodes;   /* that have memory, and that this process may use */
    struct berth_node_set missing; /* the others that were asked for */
    bool all; /* no other node has memory: a policy changes nothing, and need not work */
};

/*
 * Looks for the nodes of `text` on this machine. 0, or -ENODEV with one sentence in `why` when
 * there is none of them. The choice is large: a tier's is static.
 */
int berth__node_choose(const char *text, struct berth_node_choice *ret, char *why, size_t why_size);

/* The nodes that have memory; node 0 alone where the kernel has no NUMA. */
void berth__node_memory_all(struct berth_node_set *ret);

struct berth_node_memory {
    uint64_t total;
    /* What can be taken without the kernel looking for victims: free, and half of what it caches of
     * files. */
    uint64_t available;
};

/* Sums over the nodes of the set; those that cannot be read count as none. Keeps errno. */
void berth__node_memory_read(const struct berth_node_set *nodes, struct berth_node_memory *ret);

#endif
