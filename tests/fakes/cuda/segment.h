/* SPDX-License-Identifier: Apache-2.0 */
/* A segment: device memory taken from a device in one piece, a multiple of
 * the granule. Small allocations share one; a large one has its own.
 * QUESTION(gpu): up to which size does the real driver place allocations in a
 * shared 2 MiB piece? Here: 1 MiB. Synchronization: the state lock. */
#ifndef BERTH_FAKE_SEGMENT_H
#define BERTH_FAKE_SEGMENT_H

#include "cuda_abi.h"
#include "range.h"

#define SEGMENT_SMALL_MAX (1ULL << 20)
#define SEGMENT_ALIGNMENT 512ULL
/* What freed memory is filled with: a pattern that no correct program sees. */
#define SEGMENT_POISON 0xdb

struct segment {
    struct segment *next;
    struct device *device;
    uint64_t base;
    uint64_t size;
    uint64_t used;        /* bytes in blocks: a full segment need not be searched */
    uint64_t search_from; /* nothing is free below */
    uint64_t serial;      /* never reused; part of IPC handles */
    bool is_shared;       /* may hold more than one block */
    struct range_map blocks;
};

struct segment_list {
    struct segment *head;
    struct device *device;
    uint64_t total; /* bytes of all its segments */
};

/* A block of `size` bytes, aligned, filled with the poison (a large one only
 * at both ends). With `segment_min` (a pool's list) blocks of every size share
 * segments, and a new one is at least that large if the device has it. */
CUresult segment_alloc(struct segment_list *list, uint64_t size, uint64_t segment_min,
                       uint64_t *ret_base, struct segment **ret_segment);
/* A segment that becomes empty goes back to the device, unless `keep`. */
void segment_free(struct segment_list *list, struct segment *segment, uint64_t base, bool keep);
void segment_free_all(struct segment_list *list);
/* Makes two blocks of the one at `base`, the first of `size` bytes; -ENOMEM. */
int segment_cut(struct segment *segment, uint64_t base, uint64_t size);
/* Gives back empty segments while more than `keep_bytes` are held. */
void segment_trim(struct segment_list *list, uint64_t keep_bytes);

#endif
