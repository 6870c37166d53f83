/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says of a mapping of this process: /proc/self/smaps and numa_maps. */
#ifndef BERTH_TESTS_VM_MAPPING_H
#define BERTH_TESTS_VM_MAPPING_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

struct mapping {
    uintptr_t start, end;
    uint64_t offset; /* of `start` in the file or device */
    bool shared;
    char path[PATH_MAX]; /* "" where it is ordinary memory */
    char flags[256];     /* two letters each, as smaps abbreviates them */
    uint64_t huge_kib;   /* of it, in huge pages of any sort */
};

/* The mapping that `p` lies in. 0, or -ENOENT. */
int mapping_find(const void *p, struct mapping *ret);

/* Whether the kernel keeps this two-letter flag for the mapping; "sf" is MAP_SYNC. */
bool mapping_has_flag(const struct mapping *mapping, const char *flag);

/* The policy of the mapping that `p` lies in, as numa_maps has it ("bind:1"). 0, or -ENOENT. */
int mapping_policy(const void *p, char *ret, unsigned ret_size);

/* Where `p` lies in the file or device. */
uint64_t mapping_offset(const struct mapping *mapping, const void *p);

#endif
