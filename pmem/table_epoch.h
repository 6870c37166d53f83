/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Knowing when nobody reads an old table any more.
 *
 * A reader adds 1 to "entered" before it looks at the table and 1 to "left" afterwards: no lock, no
 * loop, no system call, so it may be anywhere, a signal handler inside malloc included. Counters
 * are in stripes, so that threads seldom share a cache line, and in two phases, so that a steady
 * stream of new readers cannot keep a writer waiting: a writer turns the phase and then waits only
 * for those that entered before.
 */
#ifndef BERTH_PMEM_TABLE_EPOCH_H
#define BERTH_PMEM_TABLE_EPOCH_H

#include "alloc/types.h"

#include <stdatomic.h>
#include <stdbool.h>

/* log2 of the number of stripes: above the number of threads that allocate large blocks at once. */
#define BERTH_EPOCH_STRIPE_SHIFT 6
#define BERTH_EPOCH_STRIPES (1 << BERTH_EPOCH_STRIPE_SHIFT)

struct berth_epoch_stripe {
    _Atomic uint64_t entered[2];
    _Atomic uint64_t left[2];
} __attribute__((aligned(64)));

struct berth_epoch {
    _Atomic unsigned phase; /* written under the writer's lock */
    struct berth_epoch_stripe stripe[BERTH_EPOCH_STRIPES];
};

/* Where a reader entered; it leaves there. */
struct berth_epoch_token {
    struct berth_epoch_stripe *stripe;
    unsigned phase;
};

struct berth_epoch_token berth__epoch_enter(struct berth_epoch *epoch);
void berth__epoch_leave(struct berth_epoch_token token);

/*
 * Waits until every reader that entered before the call has left. Writers call it one at a time.
 * False when some reader did not leave within `timeout_ms`: a thread that was cancelled, or jumped
 * out of a signal handler, in the middle of an allocation never will.
 */
bool berth__epoch_wait(struct berth_epoch *epoch, unsigned timeout_ms);

/* In a forked child: the other threads are gone, and with them what they had entered. */
void berth__epoch_reset(struct berth_epoch *epoch);

#endif
