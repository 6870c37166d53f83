/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork()'s handlers of one lock, on a thread that may be interrupted amid a fork by a signal whose
 * handler forks, too: natively that works, and the lock's own thread would wait for itself.
 *
 * No signal comes in between taking the lock and counting that; of forks in one another, the
 * outermost takes the lock and gives it back. A child has it free, however many forks its thread
 * was amid: where the signal's handler returns there, the outer ones go on without it, because the
 * threads that could have it are the parent's.
 */
#ifndef BERTH_ALLOC_FORK_TURN_H
#define BERTH_ALLOC_FORK_TURN_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

/* All signals from here to berth__fork_turn_over(), on this thread. */
struct berth_fork_turn {
    sigset_t before;
};

/* `depth`: this thread's, of this lock; 0 at first. True: the lock is to be taken, given back. */
bool berth__fork_turn_prepare(struct berth_fork_turn *turn, unsigned *depth);
bool berth__fork_turn_parent(struct berth_fork_turn *turn, unsigned *depth);
bool berth__fork_turn_child(struct berth_fork_turn *turn, unsigned *depth);

/*
 * Takes what berth__fork_turn_prepare() says is to be taken. Signals come while others have it: one
 * of those may have been stopped by a signal, by who waits until this thread has had it, too.
 */
void berth__fork_turn_lock(const struct berth_fork_turn *turn, unsigned *depth,
                           pthread_mutex_t *mutex);

/* Lets signals come for a while, where what is waited for is not held: by the same reason. */
void berth__fork_turn_pause(const struct berth_fork_turn *turn);

/* After each of these, whatever it answered. All keep errno. */
void berth__fork_turn_over(const struct berth_fork_turn *turn);

/* Until it is over no signal comes: for locks that are had from one handler to the next. */
void berth__fork_turn_begin(struct berth_fork_turn *turn);

#endif
