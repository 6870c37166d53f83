/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the process may have of memory: the limits of its control groups (cgroups), both kinds.
 *
 * A group that reaches its limit has a process killed. Who takes memory at once, rather than when
 * it is written, looks here first.
 */
#ifndef BERTH_PMEM_MEMORY_LIMIT_H
#define BERTH_PMEM_MEMORY_LIMIT_H

#include <stdint.h>

/* Which groups the process is in: a file, by its path from /sys. Tests put another here. */
extern const char *berth__memory_limit_groups;

/*
 * What is left of the tightest limit of the process's groups and of those that they are in,
 * counting what the kernel caches of files as free by half; UINT64_MAX if there is no limit. Keeps
 * errno.
 */
uint64_t berth__memory_limit_left(void);

#endif
