/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/table_epoch.h"

#include "alloc/thread.h"

#include <time.h>

/* Thread blocks lie OS pages apart; the multiplication spreads what little differs. */
static struct berth_epoch_stripe *own_stripe(struct berth_epoch *epoch)
{
    uint64_t hash = ((uintptr_t)&berth__thread >> 6) * UINT64_C(0x9e3779b97f4a7c15);

    return &epoch->stripe[hash >> (64 - BERTH_EPOCH_STRIPE_SHIFT)];
}

struct berth_epoch_token berth__epoch_enter(struct berth_epoch *epoch)
{
    struct berth_epoch_token token = {
        .stripe = own_stripe(epoch),
        .phase = atomic_load_explicit(&epoch->phase, memory_order_relaxed) & 1,
    };

    /*
     * Sequentially consistent, as are the reader's load of the table, the writer's exchange of it
     * and the writer's loads below: a writer that does not see this addition has exchanged the
     * table before the reader loads it.
     */
    atomic_fetch_add(&token.stripe->entered[token.phase], 1);
    return token;
}

void berth__epoch_leave(struct berth_epoch_token token)
{
    atomic_fetch_add_explicit(&token.stripe->left[token.phase], 1, memory_order_release);
}

/* "left" is read first: a reader that comes and goes in between makes the sums differ, not agree.
 */
static bool phase_is_empty(struct berth_epoch *epoch, unsigned phase)
{
    uint64_t left = 0;
    uint64_t entered = 0;

    for (unsigned i = 0; i < BERTH_EPOCH_STRIPES; i++)
        left += atomic_load(&epoch->stripe[i].left[phase]);
    for (unsigned i = 0; i < BERTH_EPOCH_STRIPES; i++)
        entered += atomic_load(&epoch->stripe[i].entered[phase]);
    return left == entered;
}

static bool wait_for_phase(struct berth_epoch *epoch, unsigned phase, unsigned *budget_us)
{
    const unsigned pause_us = 50;
    const struct timespec pause = {0, pause_us * 1000};

    while (!phase_is_empty(epoch, phase)) {
        if (*budget_us < pause_us)
            return false;
        /* Sleeping, not yielding: the reader may have a lower priority than this thread. */
        nanosleep(&pause, NULL);
        *budget_us -= pause_us;
    }
    return true;
}

bool berth__epoch_wait(struct berth_epoch *epoch, unsigned timeout_ms)
{
    unsigned phase = atomic_load(&epoch->phase) & 1;
    unsigned budget_us = timeout_ms * 1000;

    /*
     * A reader may have read the phase long ago and enter only now, so the phase that is about to
     * be used must be empty of such before the turn, and the other one after it.
     */
    if (!wait_for_phase(epoch, phase ^ 1, &budget_us))
        return false;
    atomic_store(&epoch->phase, phase ^ 1);
    return wait_for_phase(epoch, phase, &budget_us);
}

void berth__epoch_reset(struct berth_epoch *epoch)
{
    for (unsigned i = 0; i < BERTH_EPOCH_STRIPES; i++)
        for (unsigned phase = 0; phase < 2; phase++) {
            atomic_store(&epoch->stripe[i].entered[phase], 0);
            atomic_store(&epoch->stripe[i].left[phase], 0);
        }
}
