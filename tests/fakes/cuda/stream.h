/* SPDX-License-Identifier: Apache-2.0 */
/* A stream: a queue of ops and the thread that runs them in order. Every
 * stream has its own thread, started with its first op, so that work in two
 * streams really overlaps. Synchronization: the state lock. */
#ifndef BERTH_FAKE_STREAM_H
#define BERTH_FAKE_STREAM_H

#include "op.h"

#include <pthread.h>

#define STREAM_PRIORITY_LEAST 0
#define STREAM_PRIORITY_GREATEST (-5)

struct stream {
    struct stream *next; /* in its context's list */
    struct context *context;
    unsigned long long id; /* never reused, unlike the address */
    unsigned flags;
    int priority;
    bool is_legacy;
    uint64_t thread_serial; /* of the thread whose default stream it is; else 0 */
    struct op *head;
    struct op **tail;
    struct fence *last; /* of the op queued last; NULL before the first */
    pthread_cond_t wake;
    bool has_worker;
    bool is_closing;              /* destroyed; the worker frees it once the queue is empty */
    struct capture *capture;      /* the capture it takes part in; NULL otherwise */
    struct graph_node **frontier; /* capturing: the nodes that the next one depends on */
    size_t frontier_count;
};

/* A handle from the program: 0 and the two special ones mean the current
 * context's default streams. */
CUresult stream_resolve(CUstream handle, struct stream **ret_stream);
CUresult stream_legacy(struct context *context, struct stream **ret_stream);
/* Queues the op, or records it where the stream is being captured. Takes the
 * op in any case. */
CUresult stream_submit(struct stream *stream, struct op *op);
/* Waits for all that was queued before, giving the lock up meanwhile. */
void stream_wait(struct stream *stream);
CUresult stream_wait_all(struct context *context);
CUresult stream_create(struct stream **ret_stream, unsigned flags, int priority);
/* A non-blocking stream of the simulator's own. */
CUresult stream_create_in(struct context *context, struct stream **ret_stream);
void stream_close(struct stream *stream);
void stream_free_all(struct context *context);
void stream_forget_thread(uint64_t thread_serial);

#endif
