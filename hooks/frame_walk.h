/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walking up the calling thread's own stack, by frame rules that are kept.
 *
 * A rule is found once for each return address, by all threads together, in one word: so that a
 * walk costs 1 to 2 ns a frame, sets nothing up per thread, takes no lock and calls nothing. The
 * return addresses themselves are read from the stack each time: what is told is where the thread
 * is now, never what it was last time at the same depth.
 *
 * A rule that is kept may be that of a library that was closed, where another one is mapped now. So
 * a path that was never seen before is walked again by rules that are found anew, and where the two
 * differ all rules are forgotten (hooks/callsite.c).
 *
 * Nothing outside the thread's own stack is read.
 */
#ifndef BERTH_HOOKS_FRAME_WALK_H
#define BERTH_HOOKS_FRAME_WALK_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Where the thread's stack ends. `low` is the lowest address that it may grow to, less a guard of
 * `guard` bytes where the C library counts that as a part of the stack; versions differ.
 */
struct berth_stack {
    uintptr_t low, high;
    uintptr_t guard;
};

/*
 * The return addresses of this thread's calls, innermost first, beginning with the caller's own; at
 * most `count`. `is_fresh`: by rules that are found anew, and kept. 0 where the stack is another
 * one (a coroutine's, a signal's) or a frame has no rule: that is for libunwind.
 */
unsigned berth__frame_walk(const struct berth_stack *stack, const void **frames, unsigned count,
                           bool is_fresh);

/* Forgets all rules. */
void berth__frame_walk_forget(void);

#endif
