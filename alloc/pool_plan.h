/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Following a plan in a pool of its own.
 *
 * With a plan (alloc/plan_file.h), the first context on its device gets a further pool with one
 * segment of the planned size. A call that the plan knows gets its place there if that is free, by
 * the rules of every pool: what is freed and not yet idle is not free. Another one, larger than
 * planned, or whose place is taken, or that the plan does not know, gets what the plan has no use
 * for as long as the call lives (alloc/plan_room.h), or what is in the way of less than its own
 * bytes; and else memory of the ordinary pool: where it was put into any gap there was, it was soon
 * in the way of what needs most, and replayed programs that deviated in one call of fifty needed
 * 1.11 times what lives on average instead of 1.05. Only where half of all calls are not planned,
 * so that the program is another, and where the driver has no more, any gap will do. Where the plan
 * is over and the program goes on, its segment is memory like any other, and what threads do not
 * keep comes from it first. The segment
 * goes back to the driver like any other that is wholly free when memory is short, and is asked for
 * again later. Nothing of it is kept by threads. While a stream is captured no plan is followed.
 *
 * A plan that cannot be had never stops the program.
 */
#ifndef BERTH_ALLOC_POOL_PLAN_H
#define BERTH_ALLOC_POOL_PLAN_H

#include "alloc/pool.h"

/*
 * Takes a copy of a plan's bytes. Once, before the program allocates. 0, -EINVAL or -ENOMEM with
 * one sentence in `why`.
 */
int berth__pool_plan_load(const void *bytes, size_t size, char *why, size_t why_size);

struct berth_pool_plan;
extern _Atomic(struct berth_pool_plan *) berth__pool_plan; /* NULL: none */

static inline bool berth__pool_plan_exists(void)
{
    return BERTH_UNLIKELY(atomic_load_explicit(&berth__pool_plan, memory_order_acquire) != NULL);
}

/* A block at its planned place: false when it has none, and the ordinary pool is to be asked. */
bool berth__pool_plan_alloc(const struct berth_pool_request *request, uintptr_t *ret_address);

/*
 * A block of the planned segment that may be in the plan's way, for a call that got none there: if
 * it `is_needed`, because the driver has no more; or if the program is another than the plan's, or
 * the plan is over. Called without a lock; what waits in the segment may be looked at.
 */
bool berth__pool_plan_lend(const struct berth_pool_request *request, uint64_t size, bool is_needed,
                           uintptr_t *ret_address);

/* What the plan takes that is followed in the context; 0: none is. Takes no lock. */
uint64_t berth__pool_plan_size(berth_cu_context context);

struct berth_pool_plan_reading {
    uint64_t peak, max_live;          /* bytes, as the plan says */
    bool is_followed;                 /* the segment was had at least once */
    uint64_t hits, unknown, occupied; /* calls; see alloc/plan_follow.h */
    uint64_t resyncs;
    uint64_t lent; /* blocks for calls that the plan does not know */
};

/* False without a plan. Takes no lock. */
bool berth__pool_plan_read(struct berth_pool_plan_reading *ret);

#endif
