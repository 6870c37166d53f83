/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole files and devices that one process uses at a time.
 *
 * The lock belongs to the open file: it lasts as long as a descriptor of it, or a mapping that was
 * made through one. It keeps out other tiers (flock, which tells whose it is) and persistent stores
 * (locks of byte ranges; persist_place.h).
 */
#ifndef BERTH_PMEM_FILE_LOCK_H
#define BERTH_PMEM_FILE_LOCK_H

#include <stddef.h>

/* Takes the lock. 0, or -EBUSY or another -errno with one sentence in `why`, which says who has it
 * where the kernel tells. Keeps errno. */
int berth__file_lock(int fd, char *why, size_t why_size);
void berth__file_unlock(int fd);

#endif
