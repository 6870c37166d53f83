/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of NUMA nodes, written as the kernel writes one: "0-2,5".
 *
 * The text is what policies, tables and tiers carry, because it has no largest node; the bits are
 * what mbind() is given. Calls no malloc.
 */
#ifndef BERTH_PMEM_NODE_SET_H
#define BERTH_PMEM_NODE_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One more than the highest node that mbind() takes: a page of bits. Kernels have 1024 at most. */
#define BERTH_NODES_MAX 32768

#define BERTH_NODE_WORDS (BERTH_NODES_MAX / (8 * sizeof(unsigned long)))

struct berth_node_set {
    unsigned long bits[BERTH_NODE_WORDS];
};

/* Room for any reason. */
#define BERTH_NODES_WHY_MAX 256

/* Room for a list of 1024 nodes with gaps, which is what a kernel can have. */
#define BERTH_NODES_TEXT_MAX 8192

/*
 * Adds what `text` names: numbers and ranges of them, joined by commas, "" being none. 0, or
 * -EINVAL with "what is wrong; what was expected" in `why`, and the set is undefined then.
 */
int berth__node_set_add(struct berth_node_set *set, const char *text, char *why, size_t why_size);

bool berth__node_set_has(const struct berth_node_set *set, unsigned node);

/* One more than the highest node in the set; 0 if it is empty. */
unsigned berth__node_set_end(const struct berth_node_set *set);

/* How many nodes it has. */
unsigned berth__node_set_count(const struct berth_node_set *set);

/*
 * The one text of the set: ascending, each node once, neighbours joined. Returns its length as
 * snprintf() does: what `size` has no room for is cut.
 */
size_t berth__node_set_text(const struct berth_node_set *set, char *text, size_t size);

#endif
