/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A segment: one driver allocation, and the blocks that tile it.
 *
 *  SHARED   sub-allocated: many blocks; free neighbours are always merged
 *  WHOLE    one block, never split: its driver IPC handle is right for any importer
 *  BORROWED sub-allocated like SHARED, but somebody else's: never given to the driver
 *  RANGE    as SHARED, in a range of addresses (alloc/range.h): some blocks are holes
 *  FOREIGN  not the pool's: memory that the driver gave to the program itself, which is only
 *           accounted (pitched, managed, pinned, of the program's own pools)
 *  STREAM   not the pool's: a stream-ordered block, see pool_stream.h
 *
 * Synchronization: `owner_lock` guards everything but base, size, kind and the owner, which a
 * reader of the page map may look at without it. A segment's record is never unmapped.
 */
#ifndef BERTH_ALLOC_SEGMENT_H
#define BERTH_ALLOC_SEGMENT_H

#include "alloc/block.h"
#include "alloc/block_slab.h"
#include "alloc/start_map.h"

enum berth_segment_kind {
    BERTH_SEGMENT_SHARED,
    BERTH_SEGMENT_WHOLE,
    BERTH_SEGMENT_BORROWED,
    BERTH_SEGMENT_RANGE,
    BERTH_SEGMENT_FOREIGN,
    BERTH_SEGMENT_STREAM
};

struct berth_pool;
struct berth_range;

/* A block's place in the sketch of a turn; see alloc/pool_step.h. */
struct berth_step_place {
    struct berth_block *block;
    uint32_t turn;
};

struct berth_segment {
    uintptr_t base;
    uint64_t size;
    enum berth_segment_kind kind;
    struct berth_pool *pool;           /* NULL for FOREIGN and STREAM */
    struct berth_segment *prev, *next; /* the owner's list */
    struct berth_block *first;         /* the block at `base`; NULL for FOREIGN */
    uint64_t *starts;                  /* SHARED, BORROWED: the granules where blocks start */
    struct berth_range *range;         /* RANGE only */
    struct berth_step_place places[2]; /* WHOLE only: where it is sketched */
    bool is_joint;                     /* SHARED only: for large blocks alone; likewise */
    uint64_t used_blocks;              /* blocks that are not FREE */
    uint64_t look, unused_blocks;      /* for alloc/pool_obtain.c alone */
    uint64_t sync_memops_blocks;       /* blocks that carry BERTH_BLOCK_SYNC_MEMOPS */
    bool is_mapped;                    /* in the page map, and its blocks in the index */
    /* FOREIGN only: */
    void *context; /* whose destruction destroys it; NULL when it outlives contexts */
    uint64_t requested;
    berth_tier_id tier;
    uint8_t tag;
};

/*
 * A zeroed record of a pool's, or NULL without memory. It keeps its pool for ever: who found a
 * segment in the page map, and comes too late, asks the record for its pool before it takes a lock.
 */
struct berth_segment *berth__segment_new(struct berth_slab *slab, struct berth_pool *pool);

/*
 * An empty start map for a SHARED or BORROWED segment of `size` bytes, or NULL without memory; and
 * its end. Those of small segments come from the slab, because an OS page would be too much for
 * them.
 */
uint64_t *berth__segment_starts_new(struct berth_slab *slab, uint64_t size);
void berth__segment_starts_delete(struct berth_slab *slab, uint64_t *starts, uint64_t size);

/*
 * Enters the segment in the page map and its blocks in the block index, or takes them out: from
 * then on their addresses may be somebody else's. Errors as berth__page_map_insert().
 */
int berth__segment_map(struct berth_segment *segment, struct berth_segment **ret_other);
void berth__segment_unmap(struct berth_segment *segment);

/* Puts `block`, FREE, at `address` with `size`, after `prev` (NULL: first). */
void berth__segment_place(struct berth_segment *segment, struct berth_block *block,
                          struct berth_block *prev, uintptr_t address, uint64_t size);

/* Cuts `block` to `size` bytes; `rest`, a fresh record, becomes its next neighbour. */
void berth__segment_split(struct berth_block *block, uint64_t size, struct berth_block *rest);

/* The same the other way round: `front`, a fresh record, is the first `size` bytes of `block`. */
void berth__segment_split_front(struct berth_block *block, uint64_t size,
                                struct berth_block *front);

/* Takes `next`, the neighbour after `block`, into it. The record of `next` is the caller's again.
 */
void berth__segment_merge(struct berth_block *block, struct berth_block *next);

/* The block that contains `address`, which lies in the segment. */
struct berth_block *berth__segment_block(const struct berth_segment *segment, uintptr_t address);

/* Whether the blocks tile the segment, and no two free ones are neighbours. */
bool berth__segment_is_valid(const struct berth_segment *segment);

#endif
