/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A segment: one driver allocation, and the blocks that tile it.
 *
 *  SHARED   sub-allocated: many blocks; free neighbours are always merged
 *  WHOLE    one block, never split: its driver IPC handle is right for any importer
 *  FOREIGN  not the pool's: memory that the driver gave to the program itself, which is only
 *           accounted (pitched, managed, pinned, stream-ordered)
 *
 * Synchronization: `owner_lock` guards everything but base, size, kind and the owner, which a
 * reader of the page map may look at without it. A segment's record is never unmapped.
 */
#ifndef BERTH_ALLOC_SEGMENT_H
#define BERTH_ALLOC_SEGMENT_H

#include "alloc/block.h"
#include "alloc/block_slab.h"

enum berth_segment_kind { BERTH_SEGMENT_SHARED, BERTH_SEGMENT_WHOLE, BERTH_SEGMENT_FOREIGN };

struct berth_pool;

struct berth_segment {
    uintptr_t base;
    uint64_t size;
    enum berth_segment_kind kind;
    struct berth_pool *pool;           /* NULL for FOREIGN */
    struct berth_segment *prev, *next; /* the owner's list */
    struct berth_block *first;         /* the block at `base`; NULL for FOREIGN */
    struct berth_block **index;        /* SHARED: by granule, the block that starts there */
    uint64_t used_blocks;              /* blocks that are not FREE */
    uint64_t sync_memops_blocks;       /* blocks that carry BERTH_BLOCK_SYNC_MEMOPS */
    bool is_mapped;                    /* entered in the page map */
    /* FOREIGN only: */
    void *context; /* whose destruction destroys it; NULL when it outlives contexts */
    uint64_t requested;
    berth_tier_id tier;
    uint8_t tag;
};

/* Bytes of host memory that a SHARED segment's index takes. */
static inline size_t berth__segment_index_size(uint64_t size)
{
    return (size_t)(size >> BERTH_GRANULE_SHIFT) * sizeof(struct berth_block *);
}

/* Puts `block` at `address` with `size`, after `prev` (NULL: first), and indexes it. */
void berth__segment_place(struct berth_segment *segment, struct berth_block *block,
                          struct berth_block *prev, uintptr_t address, uint64_t size);

/* Cuts `block` to `size` bytes; `rest`, a fresh record, becomes its next neighbour. */
void berth__segment_split(struct berth_block *block, uint64_t size, struct berth_block *rest);

/* Takes `next`, the neighbour after `block`, into it. The record of `next` is the caller's again.
 */
void berth__segment_merge(struct berth_block *block, struct berth_block *next);

/* The block that contains `address`, which lies in the segment. */
struct berth_block *berth__segment_block(const struct berth_segment *segment, uintptr_t address);

/* Whether the blocks tile the segment, and no two free ones are neighbours. */
bool berth__segment_is_valid(const struct berth_segment *segment);

#endif
