/* SPDX-License-Identifier: Apache-2.0 */
/* The huge pages that the machine has reserved (hugetlb), and what gives them out. */
#ifndef BERTH_PMEM_HUGE_POOL_H
#define BERTH_PMEM_HUGE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether files in the directory are of huge pages. */
bool berth__huge_pool_is_directory(const char *path);

/* A number of the pool whose pages have this size, as the kernel calls it; 0 where it tells none.
 */
int64_t berth__huge_pool_number(uint64_t page, const char *name);

/*
 * How many pages a file on the filesystem of `fd`, a file or folder of huge pages, can come to
 * have: all that its pool has or may have. -errno and why, if that is none.
 */
int64_t berth__huge_pool_pages(int fd, uint64_t *ret_page, char *why, size_t why_size);

/* A file without a name, of huge pages of the usual size. Its descriptor, or -errno and why. */
int berth__huge_pool_open(char *why, size_t why_size);

#endif
