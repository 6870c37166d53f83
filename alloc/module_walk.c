/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/module_walk.h"

#include "alloc/clock.h"
#include "alloc/fork_turn.h"
#include "alloc/module_lock.h"
#include "alloc/types.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

/* Sequentially consistent: each side raises its own count before it looks at the other's. */
struct walk_state {
    _Atomic unsigned walking; /* threads in a walk */
    _Atomic unsigned forking; /* threads in a fork */
    _Atomic bool watched;
    _Atomic bool hopeless; /* a child whose lock is held by a thread that it does not have */
};

extern BERTH_SHARED struct walk_state berth__module_walk_state;
struct walk_state berth__module_walk_state;
#define state (&berth__module_walk_state)

static bool none_is_forking(void)
{
    return atomic_load(&state->forking) == 0;
}

/* Nor in the loader's list for the program: it would leave the child without call paths. */
static bool none_is_walking(void)
{
    return atomic_load(&state->walking) == 0 && !berth__module_lock_is_held();
}

/* Whether it came to be so in time. */
static bool wait_until(bool (*is_so)(void))
{
    int64_t end = 0;

    while (!is_so()) {
        if (end == 0)
            end = berth__clock_ms() + BERTH_MODULE_WALK_WAIT_MS;
        else if (berth__clock_ms() > end)
            return false;
        sched_yield();
    }
    return true;
}

bool berth__module_walk_begin(void)
{
    int saved_errno = errno;
    bool waited = true;

    if (BERTH_UNLIKELY(atomic_load_explicit(&state->hopeless, memory_order_relaxed)))
        return false;
    for (;;) {
        atomic_fetch_add(&state->walking, 1);
        if (BERTH_LIKELY(atomic_load(&state->forking) == 0) || !waited)
            break;
        atomic_fetch_sub(&state->walking, 1);
        waited = wait_until(none_is_forking);
    }
    errno = saved_errno;
    return true;
}

void berth__module_walk_end(void)
{
    atomic_fetch_sub(&state->walking, 1);
}

/* Of forks that this thread is amid; see fork_turn.h. */
static __thread unsigned forks;

static void fork_prepare(void)
{
    struct berth_fork_turn turn;

    if (berth__fork_turn_prepare(&turn, &forks)) {
        atomic_fetch_add(&state->forking, 1);
        wait_until(none_is_walking);
    }
    berth__fork_turn_over(&turn);
}

static void fork_parent(void)
{
    struct berth_fork_turn turn;

    if (berth__fork_turn_parent(&turn, &forks))
        atomic_fetch_sub(&state->forking, 1);
    berth__fork_turn_over(&turn);
}

/* Of all threads, the child has only the one that forked. */
static void fork_child(void)
{
    struct berth_fork_turn turn;

    berth__fork_turn_child(&turn, &forks);
    atomic_store(&state->walking, 0);
    atomic_store(&state->forking, 0);
    if (berth__module_lock_is_held())
        atomic_store(&state->hopeless, true);
    berth__fork_turn_over(&turn);
}

int berth__module_walk_watch_fork(void)
{
    if (atomic_exchange(&state->watched, true))
        return 0;
    berth__module_lock_find();
    if (pthread_atfork(fork_prepare, fork_parent, fork_child) == 0)
        return 0;
    atomic_store(&state->watched, false);
    return -ENOMEM;
}
