/* SPDX-License-Identifier: Apache-2.0 */
/* A graph: ops with dependencies, in an order that respects them, to be run
 * again and again; a node may have a graph of its own in place of an op's work.
 * Synchronization: the state lock, but that a launch reads what it runs. */
#ifndef BERTH_FAKE_GRAPH_H
#define BERTH_FAKE_GRAPH_H

#include "op.h"

struct graph;

struct graph_node {
    struct op *op;
    struct graph *child; /* of a node of type GRAPH; else NULL */
    struct graph_node **needs;
    size_t needs_count;
    unsigned long long mark; /* of the search that met it last */
};

struct graph {
    unsigned refs;             /* the program's handle and every executable made from it */
    struct graph_node **nodes; /* each after those it needs */
    size_t count;
    size_t capacity;
    unsigned captures; /* that are open and put nodes into it */
    bool is_embedded;  /* in a node, with which it ends */
};

struct graph *graph_new(void);
void graph_unref(struct graph *graph);
/* Takes the op in any case. NULL when memory is out. */
struct graph_node *graph_add(struct graph *graph, struct op *op, struct graph_node *const *needs,
                             size_t needs_count);
/* The same for a call of the program's, whose arguments are looked at. */
CUresult graph_node_add(struct graph *graph, struct op *op, struct graph_node *const *needs,
                        size_t count, struct graph_node **ret_node);
/* A graph of its own with the same nodes, or NULL when memory is out. */
struct graph *graph_clone(const struct graph *graph);
/* The node does what a clone of the graph does. 0 or -ENOMEM. */
int graph_embed(struct graph_node *node, const struct graph *graph);
bool graph_has(const struct graph *graph, const struct graph_node *node);
/* The place of the node in the graph's order, which it is in. */
size_t graph_index(const struct graph *graph, const struct graph_node *node);
/* Runs the first `count` nodes; without the lock. */
void graph_run(const struct graph *graph, size_t count);
/* Whether every node of `nodes` is one of `ends` or needed by one of them. */
bool graph_is_behind(struct graph *graph, struct graph_node *const *nodes, size_t nodes_count,
                     struct graph_node *const *ends, size_t ends_count);

#endif
