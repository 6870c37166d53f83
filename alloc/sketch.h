/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sketch: a heap without memory. Sizes are placed in it by best fit as the pool places blocks in
 * one segment, in order to learn how large that segment would have to be.
 *
 * Synchronization: the owner's.
 */
#ifndef BERTH_ALLOC_SKETCH_H
#define BERTH_ALLOC_SKETCH_H

#include "alloc/segment.h"

/*
 * Chains of names. Who names places has blocks of 1 MiB and more: where all of a device of a TiB
 * were such, a chain would have 2048. Rehearsals (alloc/pool_settle.h) have smaller ones, too.
 */
#define BERTH_SKETCH_NAMES 512

struct berth_sketch {
    struct berth_segment segment; /* never mapped; without blocks: no sketch is being made */
    struct berth_free_set set;
    uint64_t height;        /* the end of the highest place that was ever used */
    struct berth_slab slab; /* its records */
    /* Places that have a name, by it, linked through `waiting`: see berth__sketch_enter(). */
    struct berth_block *named[BERTH_SKETCH_NAMES];
};

static inline bool berth__sketch_is_on(const struct berth_sketch *sketch)
{
    return sketch->segment.first != NULL;
}

/* Empties it and begins. -ENOBUFS without host memory: it is off then. */
int berth__sketch_begin(struct berth_sketch *sketch);
void berth__sketch_end(struct berth_sketch *sketch);

/* A place for a size, a multiple of the granule. NULL without host memory: it is off then. */
struct berth_block *berth__sketch_add(struct berth_sketch *sketch, uint64_t size);
void berth__sketch_remove(struct berth_sketch *sketch, struct berth_block *place);

/* The same for whoever has no room to keep the place: by a name that nobody else has. */
void berth__sketch_enter(struct berth_sketch *sketch, uint64_t name, uint64_t size);
/* Nothing if the name has no place. */
void berth__sketch_leave(struct berth_sketch *sketch, uint64_t name);

#endif
