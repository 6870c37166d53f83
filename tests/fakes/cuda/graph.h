/* SPDX-License-Identifier: Apache-2.0 */
/* A graph: ops with dependencies, in an order that respects them, to be run
 * again and again. Synchronization: the state lock. */
#ifndef BERTH_FAKE_GRAPH_H
#define BERTH_FAKE_GRAPH_H

#include "op.h"

struct graph_node {
    struct op *op;
    struct graph_node **needs;
    size_t needs_count;
    unsigned long long mark; /* of the search that met it last */
};

struct graph {
    unsigned refs;             /* the program's handle and every executable made from it */
    struct graph_node **nodes; /* each after those it needs */
    size_t count;
    size_t capacity;
};

struct graph *graph_new(void);
void graph_unref(struct graph *graph);
/* Takes the op in any case. NULL when memory is out. */
struct graph_node *graph_add(struct graph *graph, struct op *op, struct graph_node *const *needs,
                             size_t needs_count);
/* Whether every node of `nodes` is one of `ends` or needed by one of them. */
bool graph_is_behind(struct graph *graph, struct graph_node *const *nodes, size_t nodes_count,
                     struct graph_node *const *ends, size_t ends_count);

#endif
