/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/fork_turn.h"

#include <stddef.h>

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
