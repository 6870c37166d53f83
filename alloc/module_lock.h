/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lock of the loader's list, watched from outside.
 *
 * glibc resets some of the loader's locks in a forked child, but not the one that dlopen(),
 * dlclose() and dl_iterate_phdr() hold while the list changes or is read. A child that was made at
 * such a moment has it locked for ever. Nothing tells whether it is held; so it is looked for where
 * the loader keeps its state (_rtld_global), as the one mutex that this thread owns while it is in
 * a dl_iterate_phdr() callback, and not afterwards.
 */
#ifndef BERTH_ALLOC_MODULE_LOCK_H
#define BERTH_ALLOC_MODULE_LOCK_H

#include <stdbool.h>

/* Looks for the lock. Before threads exist or on the control thread, outside any allocation. */
void berth__module_lock_find(void);

/* Whether some thread has the lock at this moment; false where it was not found. */
bool berth__module_lock_is_held(void);

/*
 * Whether this thread has it: a signal handler has come into the loader while it changes the list,
 * or we are called from a callback of the program's. False where it was not found.
 */
bool berth__module_lock_is_mine(void);

#endif
