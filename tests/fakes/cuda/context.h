/* SPDX-License-Identifier: Apache-2.0 */
/* A context: what a program's allocations, streams and events belong to. The
 * structure itself is never freed, so that a thread that still has a
 * destroyed one current is told so. Synchronization: the state lock. */
#ifndef BERTH_FAKE_CONTEXT_H
#define BERTH_FAKE_CONTEXT_H

#include "cuda_abi.h"
#include "segment.h"

#include <stdbool.h>

struct context {
    struct device *device;
    unsigned long long id;
    unsigned flags;
    bool is_primary;
    bool is_green;
    struct context *next_green;   /* of a green one: in its device's list */
    bool active;                  /* false: destroyed, or a primary that nobody retains */
    struct segment_list segments; /* cuMemAlloc memory */
    struct stream *streams;       /* every live one, default streams included */
    struct stream *legacy_stream; /* made on first use */
    struct stream *marker_stream; /* for cuCtxRecordEvent; made on first use */
    struct fence *barrier;        /* later work of every stream waits for it; or NULL */
    struct event *events;
    uint64_t peers; /* bit n: peer access to device n is enabled */
    size_t limits[CU_LIMIT_MAX];
};

/* The thread's current context. INVALID_CONTEXT where it has none. */
CUresult context_current(struct context **ret_context);
/* The given one, or the current one for NULL. */
CUresult context_resolve(struct context *given, struct context **ret_context);
/* The context that memory allocated in `context` is of: a green one's is the primary's. */
struct context *context_of_memory(struct context *context);
/* A green context retains its device's primary one. */
CUresult context_new_green(struct device *device, struct context **ret_context);
CUresult context_delete_green(struct context *context);
/* Waits for all work queued before, in every stream of the context; gives the
 * lock up meanwhile. */
CUresult context_wait(struct context *context);

#endif
