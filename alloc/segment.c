/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/segment.h"

#include "alloc/block_index.h"
#include "alloc/page_map.h"

#include <string.h>

static uint64_t granules_of(const struct berth_segment *segment)
{
    return segment->size >> BERTH_GRANULE_SHIFT;
}

static uint64_t granule_of(const struct berth_segment *segment, uintptr_t address)
{
    return (uint64_t)(address - segment->base) >> BERTH_GRANULE_SHIFT;
}

struct berth_segment *berth__segment_new(struct berth_slab *slab, struct berth_pool *pool)
{
    struct berth_segment *segment = berth__slab_take(slab, sizeof(*segment));
    const size_t behind = offsetof(struct berth_segment, pool) + sizeof(segment->pool);

    if (!segment)
        return NULL;
    memset(segment, 0, offsetof(struct berth_segment, pool));
    memset((char *)segment + behind, 0, sizeof(*segment) - behind);
    if (segment->pool != pool)
        segment->pool = pool;
    return segment;
}

/* Segments up to this size, which is that of the most, have their start maps from a slab. */
#define STARTS_SLAB_MAX (2 * BERTH_MIB)

uint64_t *berth__segment_starts_new(struct berth_slab *slab, uint64_t size)
{
    if (size <= STARTS_SLAB_MAX)
        return berth__slab_new(slab, berth__start_map_size(STARTS_SLAB_MAX >> BERTH_GRANULE_SHIFT));
    return berth__slab_map(berth__start_map_size(size >> BERTH_GRANULE_SHIFT));
}

void berth__segment_starts_delete(struct berth_slab *slab, uint64_t *starts, uint64_t size)
{
    if (!starts)
        return;
    if (size <= STARTS_SLAB_MAX)
        berth__slab_delete(slab, starts);
    else
        berth__slab_unmap(starts, berth__start_map_size(size >> BERTH_GRANULE_SHIFT));
}

int berth__segment_map(struct berth_segment *segment, struct berth_segment **ret_other)
{
    int r = berth__page_map_insert(segment->base, segment->size, segment, ret_other);

    if (r < 0)
        return r;
    for (struct berth_block *block = segment->first; block; block = block->next)
        berth__block_index_insert(block);
    segment->is_mapped = true;
    return 0;
}

void berth__segment_unmap(struct berth_segment *segment)
{
    /* In this order: once the page map is free of it, others enter blocks at the same addresses. */
    for (struct berth_block *block = segment->first; block; block = block->next)
        berth__block_index_remove(block);
    berth__page_map_remove(segment->base, segment->size, segment);
    segment->is_mapped = false;
}

void berth__segment_place(struct berth_segment *segment, struct berth_block *block,
                          struct berth_block *prev, uintptr_t address, uint64_t size)
{
    block->segment = segment;
    block->is_whole = segment->kind == BERTH_SEGMENT_WHOLE;
    block->size = size;
    block->prev = prev;
    block->next = prev ? prev->next : segment->first;
    if (block->next)
        block->next->prev = block;
    if (prev)
        prev->next = block;
    else
        segment->first = block;
    berth__block_set(block, address, BERTH_BLOCK_FREE);
    if (segment->starts)
        berth__start_map_set(segment->starts, granules_of(segment), granule_of(segment, address));
    if (segment->is_mapped)
        berth__block_index_insert(block);
}

void berth__segment_split(struct berth_block *block, uint64_t size, struct berth_block *rest)
{
    uint64_t rest_size = block->size - size;

    block->size = size;
    berth__segment_place(block->segment, rest, block, berth__block_address(block) + size,
                         rest_size);
}

void berth__segment_split_front(struct berth_block *block, uint64_t size, struct berth_block *front)
{
    struct berth_segment *segment = block->segment;
    uintptr_t address = berth__block_address(block);

    if (segment->is_mapped)
        berth__block_index_remove(block);
    block->size -= size;
    berth__block_set(block, address + size, berth__block_state(block));
    if (segment->starts)
        berth__start_map_set(segment->starts, granules_of(segment),
                             granule_of(segment, address + size));
    if (segment->is_mapped)
        berth__block_index_insert(block);
    berth__segment_place(segment, front, block->prev, address, size);
}

void berth__segment_merge(struct berth_block *block, struct berth_block *next)
{
    struct berth_segment *segment = block->segment;

    if (segment->starts)
        berth__start_map_clear(segment->starts, granules_of(segment),
                               granule_of(segment, berth__block_address(next)));
    if (segment->is_mapped)
        berth__block_index_remove(next);
    block->size += next->size;
    block->next = next->next;
    if (block->next)
        block->next->prev = block;
}

struct berth_block *berth__segment_block(const struct berth_segment *segment, uintptr_t address)
{
    uint64_t at;

    if (!segment->starts)
        return segment->first;
    /* Blocks tile the segment, and one starts at granule 0: there is an answer. */
    at = berth__start_map_before(segment->starts, granules_of(segment),
                                 granule_of(segment, address));
    return berth__block_index_find(segment->base + (at << BERTH_GRANULE_SHIFT));
}

static bool block_is_valid(const struct berth_segment *segment, const struct berth_block *block,
                           uintptr_t at)
{
    return block->segment == segment && berth__block_address(block) == at && block->size > 0 &&
           block->is_whole == (segment->kind == BERTH_SEGMENT_WHOLE) &&
           (!block->next || block->next->prev == block) &&
           (!segment->is_mapped || berth__segment_block(segment, at + block->size - 1) == block);
}

bool berth__segment_is_valid(const struct berth_segment *segment)
{
    uintptr_t at = segment->base;
    uint64_t used = 0, blocks = 0;
    bool was_free = false;

    for (const struct berth_block *block = segment->first; block; block = block->next) {
        bool is_free = berth__block_state(block) == BERTH_BLOCK_FREE;

        if ((was_free && is_free) || !block_is_valid(segment, block, at))
            return false;
        used += !is_free;
        was_free = is_free;
        at += block->size;
        blocks++;
    }
    if (segment->starts && berth__start_map_count(segment->starts, granules_of(segment)) != blocks)
        return false;
    return at == segment->base + segment->size && used == segment->used_blocks &&
           (!segment->is_mapped || berth__page_map_covers(segment->base, segment->size, segment));
}
