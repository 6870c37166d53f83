/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges of the program's host memory whose pages a driver uses behind the kernel's page tables:
 * what was registered with CUDA. Their pages must not change.
 *
 * A range is entered before the driver is asked, and leaves after it was told to let go. Any
 * thread, and no lock: an entry is taken by one compare-and-swap, and a table that was made stays.
 */
#ifndef BERTH_ALLOC_HELD_RANGE_H
#define BERTH_ALLOC_HELD_RANGE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * So many ranges take no memory; for more, tables are made, each twice as large as the one before,
 * for a thousand million ranges in all. Without memory for one, everything counts as held from then
 * on.
 */
#define BERTH_HELD_RANGES_FIRST 1024
#define BERTH_HELD_TABLES_MAX 20

void berth__held_range_add(const void *address, size_t size);
/* By where it begins, whatever its size; nothing happens for one that was not entered. */
void berth__held_range_remove(const void *address);
/*
 * Exactly this one: another one may begin at the same address, because it was there before and this
 * one was refused, or because another thread entered it as soon as the driver had let this one go.
 */
void berth__held_range_undo(const void *address, size_t size);
/* Whether part of [address, address + size) is held. */
bool berth__held_range_overlaps(const void *address, size_t size);

#endif
