/* SPDX-License-Identifier: Apache-2.0 */
/* An op: one piece of a stream's work, with a fence that says when it is
 * done. A graph node keeps an op and runs it again at each launch.
 * Synchronization: the state lock, except that run() is called without it. */
#ifndef BERTH_FAKE_OP_H
#define BERTH_FAKE_OP_H

#include "cuda_abi.h"

#include <stdbool.h>

struct fence {
    unsigned refs;
    bool done;
    int64_t done_ns; /* CLOCK_MONOTONIC, once done */
};

struct op {
    struct op *next;
    unsigned shares;             /* further nodes that have it: clones of its node */
    void (*run)(void *payload);  /* NULL: only the order matters */
    void (*drop)(void *payload); /* gives up what the payload holds; may be NULL */
    CUgraphNodeType type;
    struct fence *fence;
    struct fence **needs; /* what must be done before this runs */
    size_t needs_count;
    size_t needs_capacity;
    _Alignas(max_align_t) unsigned char payload[];
};

struct fence *fence_new(void);
struct fence *fence_ref(struct fence *fence);
void fence_unref(struct fence *fence);
void fence_finish(struct fence *fence);
/* Waits until it is done, giving the lock up meanwhile. */
void fence_wait(struct fence *fence);

/* The payload is zeroed. NULL when memory is out. */
struct op *op_new(CUgraphNodeType type, size_t payload_size, void (*run)(void *payload),
                  void (*drop)(void *payload));
/* A finished fence is no need and is not kept. 0 or -ENOMEM. */
int op_need(struct op *op, struct fence *fence);
/* For one more node, which gives it up by op_free(). */
struct op *op_share(struct op *op);
void op_free(struct op *op);

#endif
