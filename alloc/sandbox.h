/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sandbox: whether the program has limited its own system calls (seccomp).
 *
 * A system call that it does not make itself may then kill it. So nothing is opened, asked of the
 * kernel or started any more on the program's threads: memory is mapped and unmapped, as the C
 * library's malloc does in one thread. What was found out before stays.
 */
#ifndef BERTH_ALLOC_SANDBOX_H
#define BERTH_ALLOC_SANDBOX_H

#include "alloc/types.h"

#include <stdatomic.h>
#include <stdbool.h>

extern BERTH_SHARED _Atomic unsigned berth__sandboxes;

/* A filter is about to be installed; takes notes of what cannot be asked later. */
void berth__sandbox_enter(void);
/* It was not. */
void berth__sandbox_leave(void);

static inline bool berth__sandbox_is_on(void)
{
    return atomic_load_explicit(&berth__sandboxes, memory_order_relaxed) != 0;
}

#endif
