/* SPDX-License-Identifier: Apache-2.0 */
/* A range map: disjoint address ranges, sorted, each with the object that
 * owns it. Holds the address window, every allocation a program can name and
 * the blocks of a segment. Synchronization: the caller's lock. */
#ifndef BERTH_FAKE_RANGE_H
#define BERTH_FAKE_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct range {
    uint64_t start;
    uint64_t end; /* first address after the range */
    void *owner;
};

struct range_map {
    struct range *ranges; /* sorted by start */
    size_t count;
    size_t capacity;
};

/* 0, -EEXIST where the new range overlaps one, -ENOMEM. */
int range_add(struct range_map *map, uint64_t start, uint64_t size, void *owner);
/* Removes the range that starts at `start`; false where there is none. */
bool range_remove(struct range_map *map, uint64_t start);
/* The range that contains the address, or NULL. */
const struct range *range_find(const struct range_map *map, uint64_t address);
bool range_overlaps(const struct range_map *map, uint64_t start, uint64_t size);
/* The lowest free place of `size` bytes inside [from, to); 0 where none. */
uint64_t range_find_gap(const struct range_map *map, uint64_t from, uint64_t to, uint64_t size,
                        uint64_t alignment);
void range_clear(struct range_map *map);

#endif
