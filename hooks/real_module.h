/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of the libraries that follow another one in the search order, without dlsym. */
#ifndef BERTH_HOOKS_REAL_MODULE_H
#define BERTH_HOOKS_REAL_MODULE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The function of this name in the first library that has one after the library that contains
 * `address`, or NULL: what RTLD_NEXT means to a caller there. Never calls malloc.
 */
void *berth__real_module_next(const char *name, const void *address);

/* The same after this library itself, or else in any other. */
void *berth__real_module_next_own(const char *name);

/*
 * The functions of these names (NULL where there is none) in the first loaded library whose file
 * name begins with `prefix` and that has the first of them. False if there is no such library.
 */
bool berth__real_module_symbols(const char *prefix, const char *const *names, void **ret_found,
                                size_t count);

#endif
