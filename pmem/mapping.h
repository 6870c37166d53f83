/* SPDX-License-Identifier: Apache-2.0 */
/* How a range of addresses is mapped, as the kernel has it: the program may have changed it. */
#ifndef BERTH_PMEM_MAPPING_H
#define BERTH_PMEM_MAPPING_H

#include <stdbool.h>
#include <stddef.h>

/*
 * 0 when all of the range can be read and written and no more, is shared or private as said, and is
 * not locked. -EPERM: part of it is locked in memory (mlock); -EINVAL: part of it is mapped
 * otherwise; or another negative errno.
 */
int berth__mapping_check(const void *address, size_t size, bool is_shared);

/* Whether one mapping covers all of the range. 0; -EINVAL if none does; or another negative errno.
 */
int berth__mapping_check_whole(const void *address, size_t size);

#endif
