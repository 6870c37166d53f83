/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wrappers that the program gets instead of the driver's functions, under names that nobody can
 * interpose: berth__hook_<name> is exported as <name>.
 */
#ifndef BERTH_HOOKS_CUDA_DRIVER_H
#define BERTH_HOOKS_CUDA_DRIVER_H

#include "alloc/device.h"
#include "alloc/entry_path.h"

#define X(name, parameters)                                                                        \
    __attribute__((visibility("hidden"))) berth_cu_result berth__hook_##name parameters;
BERTH_DRIVER_HOOKED(X)
#undef X

/*
 * What the program gets for `address`, which is the answer to its question for `name` by `path`:
 * Berth's wrapper if the address is exactly the driver's own export that the wrapper stands for, or
 * another path's entry to the wrapper; else the address itself. `name` may be without its version
 * suffix.
 */
void *berth__cuda_replace(const char *name, void *address, enum berth_entry_path path);

/* Whether `address` is a wrapper, by any path. */
bool berth__cuda_is_wrapper(const void *address);

/* The driver's own function of that wrapper's name; NULL where it has none, or nothing is bound. */
void *berth__cuda_original(const char *name);

/* Whether this process has initialised the driver. */
bool berth__hook_initialised(void);

#endif
