/* SPDX-License-Identifier: Apache-2.0 */
/* How a range of addresses is mapped, as the kernel has it: the program may have changed it. */
#ifndef BERTH_PMEM_MAPPING_H
#define BERTH_PMEM_MAPPING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a mapping allows, and whether it is shared; the kernel's numbers. */
#define BERTH_MAPPING_READABLE 0x01u
#define BERTH_MAPPING_WRITABLE 0x02u
#define BERTH_MAPPING_EXECUTABLE 0x04u
#define BERTH_MAPPING_SHARED 0x08u
#define BERTH_MAPPING_ALL 0x0fu

struct berth_mapping {
    uintptr_t start, end;
    unsigned flags;
};

/* Is told of one mapping; what is not 0 is the last. */
typedef int (*berth_mapping_fn)(void *context, const struct berth_mapping *mapping);

/*
 * Tells of each mapping in part of [start, end) that has all the flags in `wanted`, by address. 0;
 * what `see` answered; or negative errno. Allocates nothing and keeps errno.
 */
int berth__mapping_each(uintptr_t start, uintptr_t end, unsigned wanted, berth_mapping_fn see,
                        void *context);

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
