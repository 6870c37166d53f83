/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Index of the first range that ends after the address. */
static size_t range_index(const struct range_map *map, uint64_t address)
{
    size_t low = 0, high = map->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (map->ranges[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool range_overlaps(const struct range_map *map, uint64_t start, uint64_t size)
{
    size_t i = range_index(map, start);

    return i < map->count && map->ranges[i].start < start + size;
}

int range_add(struct range_map *map, uint64_t start, uint64_t size, void *owner)
{
    size_t i = range_index(map, start);

    if (range_overlaps(map, start, size))
        return -EEXIST;
    if (map->count == map->capacity) {
        size_t capacity = map->capacity ? map->capacity * 2 : 16;
        struct range *ranges = realloc(map->ranges, capacity * sizeof(*ranges));

        if (!ranges)
            return -ENOMEM;
        map->ranges = ranges;
        map->capacity = capacity;
    }
    memmove(map->ranges + i + 1, map->ranges + i, (map->count - i) * sizeof(*map->ranges));
    map->ranges[i] = (struct range){start, start + size, owner};
    map->count++;
    return 0;
}

bool range_remove(struct range_map *map, uint64_t start)
{
    size_t i = range_index(map, start);

    if (i == map->count || map->ranges[i].start != start)
        return false;
    map->count--;
    memmove(map->ranges + i, map->ranges + i + 1, (map->count - i) * sizeof(*map->ranges));
    return true;
}

const struct range *range_find(const struct range_map *map, uint64_t address)
{
    size_t i = range_index(map, address);

    return i < map->count && map->ranges[i].start <= address ? &map->ranges[i] : NULL;
}

uint64_t range_find_gap(const struct range_map *map, uint64_t from, uint64_t to, uint64_t size,
                        uint64_t alignment)
{
    uint64_t at = (from + alignment - 1) / alignment * alignment;

    for (size_t i = range_index(map, at); i < map->count; i++) {
        if (map->ranges[i].start >= at && map->ranges[i].start - at >= size)
            break;
        at = (map->ranges[i].end + alignment - 1) / alignment * alignment;
    }
    return at < to && to - at >= size ? at : 0;
}

void range_clear(struct range_map *map)
{
    free(map->ranges);
    *map = (struct range_map){0};
}
