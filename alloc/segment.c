/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/segment.h"

#include "alloc/page_map.h"

static size_t granule_of(const struct berth_segment *segment, uintptr_t address)
{
    return (size_t)((address - segment->base) >> BERTH_GRANULE_SHIFT);
}

void berth__segment_place(struct berth_segment *segment, struct berth_block *block,
                          struct berth_block *prev, uintptr_t address, uint64_t size)
{
    block->segment = segment;
    block->address = address;
    block->size = size;
    block->prev = prev;
    block->next = prev ? prev->next : segment->first;
    if (block->next)
        block->next->prev = block;
    if (prev)
        prev->next = block;
    else
        segment->first = block;
    if (segment->index)
        segment->index[granule_of(segment, address)] = block;
}

void berth__segment_split(struct berth_block *block, uint64_t size, struct berth_block *rest)
{
    uint64_t rest_size = block->size - size;

    block->size = size;
    berth__segment_place(block->segment, rest, block, block->address + size, rest_size);
}

void berth__segment_merge(struct berth_block *block, struct berth_block *next)
{
    struct berth_segment *segment = block->segment;

    segment->index[granule_of(segment, next->address)] = NULL;
    block->size += next->size;
    block->next = next->next;
    if (block->next)
        block->next->prev = block;
}

struct berth_block *berth__segment_block(const struct berth_segment *segment, uintptr_t address)
{
    size_t at;

    if (!segment->index)
        return segment->first;
    /* Blocks tile the segment, and one starts at granule 0: the search ends. */
    for (at = granule_of(segment, address); !segment->index[at]; at--)
        ;
    return segment->index[at];
}

bool berth__segment_is_valid(const struct berth_segment *segment)
{
    uintptr_t at = segment->base;
    uint64_t used = 0, indexed = 0, blocks = 0;
    bool was_free = false;

    for (const struct berth_block *block = segment->first; block; block = block->next) {
        bool is_free = block->state == BERTH_BLOCK_FREE;

        if (block->segment != segment || block->address != at || block->size == 0 ||
            (block->next && block->next->prev != block) || (was_free && is_free))
            return false;
        if (berth__segment_block(segment, at + block->size - 1) != block)
            return false;
        used += !is_free;
        was_free = is_free;
        at += block->size;
        blocks++;
    }
    if (segment->index) {
        for (size_t i = 0; i < segment->size >> BERTH_GRANULE_SHIFT; i++)
            indexed += segment->index[i] != NULL;
        if (indexed != blocks)
            return false;
    }
    return at == segment->base + segment->size && used == segment->used_blocks &&
           (!segment->is_mapped || berth__page_map_covers(segment->base, segment->size, segment));
}
