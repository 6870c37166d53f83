/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bindings: whose functions the loader bound the program's libraries to, where they link to the
 * driver. A library that was opened past Berth's dlopen() with RTLD_DEEPBIND calls the driver
 * itself; one with functions of the driver's names comes before Berth or behind it.
 */
#ifndef BERTH_HOOKS_BINDING_H
#define BERTH_HOOKS_BINDING_H

/*
 * Looks at all libraries of this namespace if there are other ones than the last time, and reports
 * what goes past Berth (alloc/unseen.h). Takes no lock but that of the loader's list.
 */
__attribute__((visibility("hidden"))) void berth__binding_check(void);

#endif
