/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the program has protected otherwise (mprotect) of the memory that a tier's file lies behind:
 * guard pages, what is only read, code. A forked child maps its copy of the file over all of it,
 * where it must be protected as before.
 *
 * Of the child, which has one thread: asked before the first copy is mapped, set when all are.
 */
#ifndef BERTH_PMEM_FORK_PROTECTION_H
#define BERTH_PMEM_FORK_PROTECTION_H

#include <stddef.h>

struct berth_fork_range;

struct berth_fork_protection {
    struct berth_fork_range *range;
    size_t count, capacity;
};

/*
 * Takes notes of what can be seen: nothing where /proc or a descriptor cannot be had, or in a
 * sandbox.
 */
void berth__fork_protection_take(struct berth_fork_protection *ret);

/* Protects again what is in the notes, and lets go of them. */
void berth__fork_protection_set(struct berth_fork_protection *protection);

#endif
