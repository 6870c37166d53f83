/* SPDX-License-Identifier: Apache-2.0 */
/* An event: the fence of the op that recorded it last; while a stream is
 * captured, the graph nodes it stands for. Synchronization: the state lock. */
#ifndef BERTH_FAKE_EVENT_H
#define BERTH_FAKE_EVENT_H

#include "op.h"

struct event {
    struct event *next; /* in its context's list */
    struct context *context;
    unsigned flags;
    struct fence *fence;       /* NULL before the first record: counts as done */
    uint64_t capture_id;       /* the capture it was recorded in last; 0: none */
    struct graph_node **nodes; /* what a capturing stream that waits will depend on */
    size_t nodes_count;
};

void event_free_all(struct context *context);

#endif
