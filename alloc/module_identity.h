/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tells one build of a module from another: two of one plug-in may follow each other at one
 * address, by one path, and the names of the first are not the second's.
 *
 * Read from the module's memory while it is known to be loaded.
 */
#ifndef BERTH_ALLOC_MODULE_IDENTITY_H
#define BERTH_ALLOC_MODULE_IDENTITY_H

#include <link.h>
#include <stddef.h>
#include <stdint.h>

/* A hash of the build id of the module, which is mapped at [start, end); 0 where it has none. */
uint64_t berth__module_identity_build(const struct dl_phdr_info *info, uintptr_t start,
                                      uintptr_t end);

/* `build` where there is one, else a hash of what can be seen of the module. */
uint64_t berth__module_identity(const struct dl_phdr_info *info, uintptr_t start, uintptr_t end,
                                uint64_t build);

/* A hash of the bytes. */
uint64_t berth__module_identity_hash(const void *bytes, size_t size);

#endif
