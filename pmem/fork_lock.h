/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking jemalloc's locks for a fork, by a thread that may hold some of them already.
 *
 * A signal's handler may fork() wherever the signal came, amid malloc() too: a program that shows
 * where it crashed by starting another one does, and some fork at a timer's signal. The C library's
 * own allocator takes no lock where a program has one thread, so natively that works. jemalloc
 * would wait for the thread itself. So what the thread holds it is let have meanwhile; the code
 * that was interrupted goes on afterwards, in the parent under its locks, in the child alone.
 *
 * Another thread may have one lock and wait for one that this thread was interrupted with: neither
 * would ever go on. So a lock is waited for so long, and then left to the other thread, which does
 * not go on before the fork is over: the child has what that lock guards as it is where a thread
 * stops to wait. So is one in the end whose owner does not go on for a
 * reason that is not seen.
 *
 * Amid fork() itself no signal comes while jemalloc's locks are taken for it (pmem/fork.c), but
 * where one is another thread's, and is waited for; and Berth's other locks are taken by the
 * outermost of a thread's forks (alloc/fork_turn.h). A handler that forks amid that wait meets
 * locks that its own thread is just taking, as it does natively, where the C library waits for its
 * own.
 *
 * Called by jemalloc's handlers in Berth's stead (pmem/fork.c): by one thread after the other, as
 * the first of the locks is taken and given back.
 */
#ifndef BERTH_PMEM_FORK_LOCK_H
#define BERTH_PMEM_FORK_LOCK_H

#include "alloc/fork_turn.h"

#include <stdbool.h>

/*
 * Calls jemalloc's handler that takes all its locks, after berth__fork_turn_begin(turn); perhaps
 * the one that gives them back, and that again. True: this thread held some of them, and its arenas
 * and caches may be half changed.
 */
bool berth__fork_lock_take(void (*take)(void), void (*give_back)(void),
                           const struct berth_fork_turn *turn);

/* How long a lock is waited for before it is left to another thread. Only tests change it. */
extern int berth__fork_lock_patience_ms;

/*
 * For what the handler does before it takes the first: locks that no fork makes anew are not left
 * to anybody. Returns what was before. Outside a fork without effect.
 */
bool berth__fork_lock_be_patient(bool is_patient);

/*
 * Calls the handler that gives them back. What the thread had before stays its own; in the child,
 * where jemalloc makes its locks anew, nothing does.
 */
void berth__fork_lock_give_back(void (*give_back)(void));
void berth__fork_lock_renew(void (*renew)(void));

#endif
