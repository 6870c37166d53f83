/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page map: which segment contains an address.
 *
 * A radix tree over all 64-bit addresses in granules of 512 bytes, 11 bits per level. An entry at
 * any level may be a segment that covers everything below it, so that a large segment takes few
 * entries. Nodes, once made, stay.
 *
 * Synchronization: berth__page_map_find() takes no lock and may run at any time. Its answer is a
 * hint until it is asked again under the lock of the segment's owner: entries of a segment change
 * only under that lock. Writers exclude each other by the map's own lock, which ranks below it.
 */
#ifndef BERTH_ALLOC_PAGE_MAP_H
#define BERTH_ALLOC_PAGE_MAP_H

#include <stdbool.h>
#include <stdint.h>

struct berth_segment;

/* The segment that contains `address`, or NULL. */
struct berth_segment *berth__page_map_find(uintptr_t address);

/* The segment with the lowest addresses that reach `address` or lie behind it, or NULL. A hint. */
struct berth_segment *berth__page_map_next(uintptr_t address);

/*
 * Enters `segment` for every granule that [base, base + size) touches. -ENOMEM; or -EEXIST with the
 * segment that is in the way in *ret_other. Nothing is changed on failure.
 */
int berth__page_map_insert(uintptr_t base, uint64_t size, struct berth_segment *segment,
                           struct berth_segment **ret_other);

/* Takes out those granules of the range that are entered for `segment`. */
void berth__page_map_remove(uintptr_t base, uint64_t size, struct berth_segment *segment);

/* Whether exactly the granules of the range belong to `segment`; slow. */
bool berth__page_map_covers(uintptr_t base, uint64_t size, const struct berth_segment *segment);

#endif
