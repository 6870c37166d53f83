/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of the libraries that follow another one in the search order, without dlsym. */
#ifndef BERTH_HOOKS_REAL_MODULE_H
#define BERTH_HOOKS_REAL_MODULE_H

#include <stdbool.h>

/*
 * The function of this name in the first library that has one after the library that contains
 * `address`, or NULL: what RTLD_NEXT means to a caller there. Never calls malloc.
 */
void *berth__real_module_next(const char *name, const void *address);

/* The same after this library itself, or else in any other. */
void *berth__real_module_next_own(const char *name);

/* Whether the file name of a loaded library begins with `prefix`. Never calls malloc. */
bool berth__real_module_is_loaded(const char *prefix);

#endif
