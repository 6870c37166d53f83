/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of the libraries that follow this one in the search order, without dlsym. */
#ifndef BERTH_HOOKS_REAL_MODULE_H
#define BERTH_HOOKS_REAL_MODULE_H

/*
 * The function of this name in the first such library that has one, or NULL. Never calls malloc.
 */
void *berth__real_module_next(const char *name);

#endif
