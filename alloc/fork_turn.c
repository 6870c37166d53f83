/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/fork_turn.h"

#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* How long a lock that is another thread's is left alone. */
#define PAUSE_NS 100000

void berth__fork_turn_begin(struct berth_fork_turn *turn)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &turn->before);
}

void berth__fork_turn_over(const struct berth_fork_turn *turn)
{
    pthread_sigmask(SIG_SETMASK, &turn->before, NULL);
}

bool berth__fork_turn_prepare(struct berth_fork_turn *turn, unsigned *depth)
{
    berth__fork_turn_begin(turn);
    return (*depth)++ == 0;
}

void berth__fork_turn_pause(const struct berth_fork_turn *turn)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    int saved_errno = errno;
    struct berth_fork_turn waited;

    berth__fork_turn_over(turn);
    /* Not by nanosleep(), which is a cancellation point. */
    syscall(SYS_nanosleep, &pause, NULL);
    berth__fork_turn_begin(&waited);
    errno = saved_errno;
}

/* No signal may come between having the lock and counting that, so it is tried for. */
void berth__fork_turn_lock(const struct berth_fork_turn *turn, unsigned *depth,
                           pthread_mutex_t *mutex)
{
    while (pthread_mutex_trylock(mutex) != 0) {
        --*depth;
        berth__fork_turn_pause(turn);
        ++*depth;
    }
}

bool berth__fork_turn_parent(struct berth_fork_turn *turn, unsigned *depth)
{
    berth__fork_turn_begin(turn);
    return *depth > 0 && --*depth == 0;
}

bool berth__fork_turn_child(struct berth_fork_turn *turn, unsigned *depth)
{
    bool has_it = *depth > 0;

    berth__fork_turn_begin(turn);
    *depth = 0;
    return has_it;
}
