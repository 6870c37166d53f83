/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A start map: at which granules of a segment blocks start, one bit each.
 *
 * Words of bits in levels: a bit of a higher level says whether the word below it has any. So the
 * last start at or before a granule is found in as many steps as there are levels, whatever the
 * distance; and a map of zeros, which costs no memory until it is written, is an empty one.
 *
 * Synchronization: the lock of the segment's owner.
 */
#ifndef BERTH_ALLOC_START_MAP_H
#define BERTH_ALLOC_START_MAP_H

#include <stddef.h>
#include <stdint.h>

/* Bytes that the map of `count` granules takes. */
size_t berth__start_map_size(uint64_t count);

/* `map` is of `count` granules, and `at` is one of them. */
void berth__start_map_set(uint64_t *map, uint64_t count, uint64_t at);
void berth__start_map_clear(uint64_t *map, uint64_t count, uint64_t at);

#define BERTH_START_NONE UINT64_MAX
/* The last start at or before `at`, or BERTH_START_NONE. */
uint64_t berth__start_map_before(const uint64_t *map, uint64_t count, uint64_t at);

/* How many starts there are; slow. */
uint64_t berth__start_map_count(const uint64_t *map, uint64_t count);

#endif
