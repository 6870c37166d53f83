/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quiet: whether the driver would have memory back soon. cuMemFree waits for all work of its
 * context, and that may wait for what the very thread does next that asks for memory, which no
 * allocation of the driver's waits for. So before segments go back for the sake of an allocation,
 * the work that is queued so far is waited for by a point (alloc/order.h), for a bounded time.
 *
 * What has been waited for in vain is remembered with its point: as long as that has not passed,
 * nobody waits for it anew. Threads that come meanwhile share the point, and the time that it has
 * been waited for, by one of them or by several at once, counts for all of them.
 *
 * Synchronization: the pool's lock; the point itself is written before others see it.
 */
#ifndef BERTH_ALLOC_POOL_QUIET_H
#define BERTH_ALLOC_POOL_QUIET_H

#include <stdint.h>

struct berth_order_point;
struct berth_pool;

struct berth_quiet {
    struct berth_order_point *point;
    unsigned users;    /* threads that ask about it, and the pool as long as it remembers it */
    unsigned waiters;  /* of them, those that wait at the moment */
    int64_t since;     /* when the first of these began to: ns of the monotonic clock */
    int64_t waited_ns; /* before that */
};

enum berth_patience {
    BERTH_PATIENCE_SHORT, /* there is other memory: a second */
    BERTH_PATIENCE_LONG,  /* there is none: a minute, beyond the longest work that is likely */
    BERTH_PATIENCE_COUNT
};

/*
 * How long that is. Only tests change it, before there are threads: where a machine has other work,
 * a second may be over before another thread has run at all.
 */
extern int64_t berth__pool_patience_ns[BERTH_PATIENCE_COUNT];

/*
 * Called without the lock. 1: a point that was recorded since the call began has passed; 0: not in
 * that time, or nobody could be asked for so long, or the context is ending. An error where nobody
 * can tell: while a capture is open, where the driver cannot record a point of a context (before
 * CUDA 12.5), or one would not tell everything.
 */
int berth__pool_await_quiet(struct berth_pool *pool, enum berth_patience patience);

/*
 * What the driver was given in the order of streams, it has once the work before is done: waits for
 * that as above, once for each, but a second only, because the driver would refuse at once. Returns
 * the bytes; 0 if there is none, or it did not pass in time.
 */
uint64_t berth__pool_await_given(struct berth_pool *pool);

#endif
