/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/persist_extent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void berth__extent_table_init(struct berth_extent_table *table, uint64_t granule)
{
    *table = (struct berth_extent_table){.granule = granule};
}

void berth__extent_table_done(struct berth_extent_table *table)
{
    free(table->free);
    table->free = NULL;
    table->count = table->room = 0;
}

/* The first free range that ends after `offset`. */
static size_t range_after(const struct berth_extent_table *table, uint64_t offset)
{
    size_t low = 0, high = table->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct berth_persist_extent *range = &table->free[middle];

        if (range->offset + range->size > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static int make_room(struct berth_extent_table *table)
{
    size_t room = table->room ? 2 * table->room : 16;
    struct berth_persist_extent *grown;

    if (table->count < table->room)
        return 0;
    grown = realloc(table->free, room * sizeof(grown[0]));
    if (!grown)
        return -ENOMEM;
    table->free = grown;
    table->room = room;
    return 0;
}

static void insert_at(struct berth_extent_table *table, size_t at, uint64_t offset, uint64_t size)
{
    memmove(&table->free[at + 1], &table->free[at], (table->count - at) * sizeof(table->free[0]));
    table->free[at] = (struct berth_persist_extent){offset, size};
    table->count++;
}

static void delete_at(struct berth_extent_table *table, size_t at)
{
    table->count--;
    memmove(&table->free[at], &table->free[at + 1], (table->count - at) * sizeof(table->free[0]));
}

int berth__extent_table_give(struct berth_extent_table *table, uint64_t offset, uint64_t size)
{
    size_t at = range_after(table, offset);
    struct berth_persist_extent *next = at < table->count ? &table->free[at] : NULL;
    struct berth_persist_extent *before = at > 0 ? &table->free[at - 1] : NULL;

    if (size == 0)
        return 0;
    if (next && next->offset < offset + size)
        return -EINVAL;
    if (before && before->offset + before->size == offset) {
        before->size += size;
        if (next && next->offset == offset + size) {
            before->size += next->size;
            delete_at(table, at);
        }
        return 0;
    }
    if (next && next->offset == offset + size) {
        next->offset = offset;
        next->size += size;
        return 0;
    }
    if (make_room(table) < 0)
        return -ENOMEM;
    insert_at(table, at, offset, size);
    return 0;
}

int berth__extent_table_take(struct berth_extent_table *table, uint64_t offset, uint64_t size)
{
    size_t at = range_after(table, offset);
    struct berth_persist_extent range;

    if (size == 0)
        return 0;
    if (at == table->count || table->free[at].offset > offset)
        return -EINVAL;
    range = table->free[at];
    if (size > range.size - (offset - range.offset))
        return -EINVAL;
    if (offset > range.offset && offset + size < range.offset + range.size) {
        if (make_room(table) < 0)
            return -ENOMEM;
        table->free[at].size = offset - range.offset;
        insert_at(table, at + 1, offset + size, range.offset + range.size - offset - size);
    } else if (offset > range.offset) {
        table->free[at].size = offset - range.offset;
    } else if (size < range.size) {
        table->free[at].offset += size;
        table->free[at].size -= size;
    } else {
        delete_at(table, at);
    }
    return 0;
}

static uint64_t round_up(uint64_t value, uint64_t step)
{
    uint64_t over = value % step;

    return over ? value + (step - over) : value;
}

int berth__extent_table_take_one(struct berth_extent_table *table, uint64_t size,
                                 uint64_t alignment, uint64_t *ret_offset)
{
    uint64_t best_size = UINT64_MAX, best = 0;
    int r;

    for (size_t i = 0; i < table->count; i++) {
        const struct berth_persist_extent *range = &table->free[i];
        uint64_t skip = round_up(range->offset, alignment) - range->offset;

        if (range->size >= skip && range->size - skip >= size && range->size < best_size) {
            best_size = range->size;
            best = range->offset + skip;
        }
    }
    if (best_size == UINT64_MAX)
        return -ENOSPC;
    r = berth__extent_table_take(table, best, size);
    if (r == 0)
        *ret_offset = best;
    return r;
}

static size_t largest(const struct berth_extent_table *table)
{
    size_t best = 0;

    for (size_t i = 1; i < table->count; i++)
        if (table->free[i].size > table->free[best].size)
            best = i;
    return best;
}

/* No single range is large enough: the largest ones, until it is reached. */
static void gather(struct berth_extent_table *table, uint64_t size,
                   struct berth_persist_extent *extents, size_t *ret_count)
{
    size_t count = 0;

    while (size > 0) {
        struct berth_persist_extent range = table->free[largest(table)];

        if (range.size > size)
            range.size = size;
        /* It begins where a free range does: no range is split in two, and no room is needed. */
        (void)berth__extent_table_take(table, range.offset, range.size);
        extents[count++] = range;
        size -= range.size;
    }
    *ret_count = count;
}

int berth__extent_table_take_any(struct berth_extent_table *table, uint64_t size,
                                 struct berth_persist_extent **ret_extents, size_t *ret_count)
{
    struct berth_persist_extent *extents;
    int r;

    if (berth__extent_table_free_bytes(table) < size)
        return -ENOSPC;
    extents = calloc(table->count + 1, sizeof(extents[0]));
    if (!extents)
        return -ENOMEM;
    r = berth__extent_table_take_one(table, size, table->granule, &extents[0].offset);
    if (r == -ENOMEM) {
        free(extents);
        return r;
    }
    extents[0].size = size;
    *ret_count = 1;
    if (r < 0)
        gather(table, size, extents, ret_count);
    *ret_extents = extents;
    return 0;
}

uint64_t berth__extent_table_free_bytes(const struct berth_extent_table *table)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < table->count; i++)
        bytes += table->free[i].size;
    return bytes;
}
