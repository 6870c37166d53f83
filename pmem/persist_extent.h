/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The extent table: which ranges of a space are free.
 *
 * The space is a persistent store's medium, or the addresses that its blocks are mapped at. The
 * table is in memory only: a store's is made anew from its directory at each start, so that what
 * a process had taken and never committed is free again after its end.
 *
 * Ranges are multiples of a granule, sorted, and apart from each other. The caller synchronises.
 */
#ifndef BERTH_PMEM_PERSIST_EXTENT_H
#define BERTH_PMEM_PERSIST_EXTENT_H

#include <stddef.h>
#include <stdint.h>

struct berth_persist_extent {
    uint64_t offset, size;
};

struct berth_extent_table {
    struct berth_persist_extent *free; /* sorted by offset; neighbours never touch */
    size_t count, room;
    uint64_t granule;
};

void berth__extent_table_init(struct berth_extent_table *table, uint64_t granule);
void berth__extent_table_done(struct berth_extent_table *table);

/* Makes a range free. 0; -EINVAL if part of it is free already; -ENOMEM. */
int berth__extent_table_give(struct berth_extent_table *table, uint64_t offset, uint64_t size);
/* Takes this very range. 0; -EINVAL if it is not all free; -ENOMEM. */
int berth__extent_table_take(struct berth_extent_table *table, uint64_t offset, uint64_t size);

/*
 * Takes `size` bytes as one extent whose offset is a multiple of `alignment`, from the smallest
 * free range that holds it. 0, -ENOSPC or -ENOMEM.
 */
int berth__extent_table_take_one(struct berth_extent_table *table, uint64_t size,
                                 uint64_t alignment, uint64_t *ret_offset);
/*
 * Takes `size` bytes as one extent where that can be, else as few as the free ranges allow. The
 * array is the caller's to free(). 0, -ENOSPC or -ENOMEM; nothing is taken on failure.
 */
int berth__extent_table_take_any(struct berth_extent_table *table, uint64_t size,
                                 struct berth_persist_extent **ret_extents, size_t *ret_count);

uint64_t berth__extent_table_free_bytes(const struct berth_extent_table *table);

#endif
