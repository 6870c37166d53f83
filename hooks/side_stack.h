/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Side stacks: what needs more stack than a thread may have left runs on one of Berth's own.
 *
 * A signal's stack or a coroutine's may be of 8 KiB, and nobody can say where it ends. Unwinders go
 * from a side stack on to the stack that it was entered from, by the tables of the switch.
 *
 * Lock-free; any thread, and signal handlers. Stacks are kept for the next one who needs one.
 */
#ifndef BERTH_HOOKS_SIDE_STACK_H
#define BERTH_HOOKS_SIDE_STACK_H

#include <stdbool.h>

/* False where no stack can be had: nothing was run. `work` returns; errno is as it leaves it. */
bool berth__side_stack_run(void (*work)(void *context), void *context);

/* Whether there is a way from one stack to another on this machine. */
#ifdef __x86_64__
#define BERTH_SIDE_STACKS 1
#else
#define BERTH_SIDE_STACKS 0
#endif

/* Runs `work` on the stack that grows down from `top`, a multiple of 16; only where there is a way.
 */
void berth__side_stack_enter(void (*work)(void *context), void *context, void *top)
    __attribute__((visibility("hidden")));

#endif
