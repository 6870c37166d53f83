/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork() with tiers that a child would share.
 *
 * The hook of fork() begins an attempt, which may refuse it: an atfork handler could not. Then the
 * C library runs the handlers: Berth's stand in for jemalloc's, and call those first, so that the
 * copies are filled when every other handler has run and jemalloc is locked. In the child they take
 * the copies before anything else runs. A fork within the C library that does not pass a hook is
 * served by the handlers alone; where no copy can be had its child ends at once, because it would
 * write into its parent's memory.
 */
#ifndef BERTH_PMEM_FORK_H
#define BERTH_PMEM_FORK_H

#include "alloc/fork_turn.h"
#include "alloc/types.h"
#include "pmem/file_copy.h"

#include <stdatomic.h>
#include <stdbool.h>

/*
 * Registers Berth's handlers, where nothing was allocated yet: with the first allocation they are.
 * Called by whoever registers handlers, the call for Berth's own included.
 */
void berth__fork_set_handlers(void);

/* One fork of one thread; lives on that thread's stack. */
struct berth_fork {
    bool failed; /* a copy could not be filled: the child must not run */
    bool child;
    bool shares_descriptors; /* the child has the very descriptors of its parent */
    bool holds_moves;        /* without the C library's handlers: see berth__move_hold_for_fork() */
    struct berth_fork_turn turn; /* while it holds moves */
    int cancel_state;            /* the thread's, while the fork is under way */
    unsigned count;
    berth_tier_id tier[BERTH_TIER_MAX];
    struct berth_file_copy copy[BERTH_TIER_MAX];
};

/* 0, or -ENOMEM after one line on stderr: the fork must then be refused. */
int berth__fork_begin(struct berth_fork *attempt);
/* The same for a child that clone() makes with `flags`, and that runs on `stack`, which grows down
 * from there. */
int berth__fork_begin_clone(struct berth_fork *attempt, uint64_t flags, const void *stack);
/* Whether the child will have a copy, once it has taken that, of the memory where `p` lies now. */
bool berth__fork_copies(const void *p);
/* In the parent and in the child, after fork() came back. `pid` is fork()'s answer; 0 or -ENOMEM,
 * when the child had to be ended: the fork has then failed. */
int berth__fork_end(struct berth_fork *attempt, int pid);

/*
 * For what forks without the C library's handlers. In the parent, before: 0, or -ENOMEM after one
 * line, when berth__fork_end() must follow at once. In the child, first of all: it may end there.
 */
int berth__fork_fill(struct berth_fork *attempt);
void berth__fork_take(struct berth_fork *attempt);

/*
 * Whether the handlers have prepared a fork that this thread is about to make. A program that keeps
 * the list of handlers itself (Firefox, by a __register_atfork() of its own) runs them and then
 * calls clone(), where all has been done.
 */
bool berth__fork_is_prepared(void);

/*
 * A fork past all of these, by the program's own system call instruction, is seen when its child
 * first asks for memory of a tier, or gives some back, before that is done: a page that the kernel
 * wipes in children (MADV_WIPEONFORK) has lost its mark. The child takes its copies then, which is
 * said; what either process has written until then, both see.
 */
extern _Atomic(_Atomic unsigned *) berth__fork_mark;
void berth__fork_meet(void);

/* Whether this is such a child, which must do nothing with its tiers before. */
static inline bool berth__fork_is_unmet(void)
{
    _Atomic unsigned *mark = atomic_load_explicit(&berth__fork_mark, memory_order_relaxed);

    return atomic_load_explicit(mark, memory_order_relaxed) == 0;
}

static inline void berth__fork_look(void)
{
    if (BERTH_UNLIKELY(berth__fork_is_unmet()))
        berth__fork_meet();
}

/* Makes the mark, once; called with the first tier that children would share. */
void berth__fork_set_mark(void);

/* Whether a child was forked that has a tier's memory mapped as its parent has (fork = share). */
bool berth__fork_has_sharers(void);

#endif
