/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether there is memory for what is taken at once, rather than when it is written: files in
 * memory (tmpfs, memfd). The kernel looks for it by ending a process, this one perhaps, rather than
 * by saying no; so it is asked here before.
 *
 * Any thread; no lock. Calls no malloc, keeps errno, and needs little stack.
 */
#ifndef BERTH_PMEM_MEMORY_ROOM_H
#define BERTH_PMEM_MEMORY_ROOM_H

#include <stdbool.h>
#include <stdint.h>

/* Whether the machine, and the control groups of the process, have `size` bytes and some more. */
bool berth__memory_room_for(uint64_t size);

/* Whether the filesystem of this descriptor has its files in memory. */
bool berth__memory_room_is_asked(int fd);

#endif
