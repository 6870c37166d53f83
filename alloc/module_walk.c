/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/module_walk.h"

#include "alloc/types.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

/* Sequentially consistent: each side raises its own count before it looks at the other's. */
struct walk_state {
    _Atomic unsigned walking; /* threads in a walk */
    _Atomic unsigned forking; /* threads in a fork */
    _Atomic bool watched;
};

extern BERTH_SHARED struct walk_state berth__module_walk_state;
struct walk_state berth__module_walk_state;
#define state (&berth__module_walk_state)

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Whether the count fell to 0 in time. */
static bool wait_for_none(_Atomic unsigned *count)
{
    int64_t end = 0;

    while (atomic_load(count) != 0) {
        if (end == 0)
            end = now_ms() + BERTH_MODULE_WALK_WAIT_MS;
        else if (now_ms() > end)
            return false;
        sched_yield();
    }
    return true;
}

void berth__module_walk_begin(void)
{
    int saved_errno = errno;
    bool waited = true;

    for (;;) {
        atomic_fetch_add(&state->walking, 1);
        if (BERTH_LIKELY(atomic_load(&state->forking) == 0) || !waited)
            break;
        atomic_fetch_sub(&state->walking, 1);
        waited = wait_for_none(&state->forking);
    }
    errno = saved_errno;
}

void berth__module_walk_end(void)
{
    atomic_fetch_sub(&state->walking, 1);
}

void berth__module_walk_fork_prepare(void)
{
    atomic_fetch_add(&state->forking, 1);
    wait_for_none(&state->walking);
}

void berth__module_walk_fork_parent(void)
{
    atomic_fetch_sub(&state->forking, 1);
}

/* Of all threads, the child has only the one that forked. */
void berth__module_walk_fork_child(void)
{
    atomic_store(&state->walking, 0);
    atomic_store(&state->forking, 0);
}

int berth__module_walk_watch_fork(void)
{
    if (atomic_exchange(&state->watched, true))
        return 0;
    if (pthread_atfork(berth__module_walk_fork_prepare, berth__module_walk_fork_parent,
                       berth__module_walk_fork_child) == 0)
        return 0;
    atomic_store(&state->watched, false);
    return -ENOMEM;
}
