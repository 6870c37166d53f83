/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/order_wait.h"

#include "alloc/clock.h"
#include "alloc/order.h"
#include "alloc/pool_parts.h"

#include <sched.h>

/*
 * In which a call that was about to be made has begun: longer where other work has the processor,
 * which is seen by how long each yield takes, but not for ever: a thread of a higher priority may
 * have it. A second was too little where 25 threads shared a core.
 */
#define CALL_MAX_NS 100000000
#define CALL_YIELDS 2000
#define CALL_BUSY_MAX_NS 10000000000

/*
 * Each synchronising free passes it, so the count of who is inside lies in several places, that
 * threads need not share.
 */
#define WAITERS_SHIFT 4
static struct berth_order_waiters {
    _Alignas(64) _Atomic uint64_t count;
} waiters[1 << WAITERS_SHIFT];
static _Alignas(64) _Atomic uint64_t shut_to_waits;

/* In which of them the calling thread is counted. */
static struct berth_order_waiters *waiters_mine(void)
{
    uint64_t hash = (uintptr_t)&berth__cache_thread * 0x9e3779b97f4a7c15u;

    return &waiters[hash >> (64 - WAITERS_SHIFT)];
}

struct berth_order_waiters *berth__order_wait_enter(void)
{
    struct berth_order_waiters *mine = waiters_mine();

    for (;;) {
        atomic_fetch_add(&mine->count, 1);
        if (BERTH_LIKELY(atomic_load(&shut_to_waits) == 0 &&
                         atomic_load(&berth__device_captures) == 0))
            return mine;
        atomic_fetch_sub(&mine->count, 1);
        if (atomic_load(&berth__device_captures) > 0)
            return NULL;
        sched_yield();
    }
}

void berth__order_wait_leave(struct berth_order_waiters *mine)
{
    atomic_fetch_sub_explicit(&mine->count, 1, memory_order_release);
}

static bool anybody_waits(void)
{
    uint64_t count = 0;

    for (unsigned i = 0; i < 1 << WAITERS_SHIFT; i++)
        count += atomic_load(&waiters[i].count);
    return count > 0;
}

void berth__order_shut_to_waits(void)
{
    int64_t begin, waited = 0;

    atomic_fetch_add(&shut_to_waits, 1);
    if (!anybody_waits())
        return;
    begin = berth__clock_ns();
    for (unsigned yields = 0;
         anybody_waits() && !berth__pool_disabled() && waited < CALL_BUSY_MAX_NS &&
         (waited < CALL_MAX_NS || yields < CALL_YIELDS);
         yields++) {
        sched_yield();
        waited = berth__clock_ns() - begin;
    }
}

void berth__order_open_to_waits(void)
{
    atomic_fetch_sub(&shut_to_waits, 1);
}

int berth__order_sync(berth_cu_context context)
{
    struct berth_order_waiters *mine = berth__order_wait_enter();
    int r;

    if (!mine)
        return berth__device_error(BERTH_CU_CAPTURE_UNSUPPORTED);
    r = berth__device_sync(context);
    berth__order_wait_leave(mine);
    return r;
}
