/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host memory for the pool's own records: objects of one size, cut from mmapped chunks.
 *
 * Never malloc: the program's allocator may be the one that is being served. Chunks are never
 * unmapped and an object's memory keeps its type for ever, so that a reader of the page map that
 * comes too late still reads a record, and finds out under the record's lock.
 *
 * Synchronization: the owner's lock.
 */
#ifndef BERTH_ALLOC_BLOCK_SLAB_H
#define BERTH_ALLOC_BLOCK_SLAB_H

#include <stddef.h>

struct berth_slab {
    void *spare; /* list of returned objects, linked through their first word */
    char *fresh; /* never used yet: [fresh, fresh_end) */
    char *fresh_end;
    char *pages; /* likewise, for runs */
    char *pages_end;
};

/* A zeroed object of `size` bytes (always the same for one slab), or NULL without memory. */
void *berth__slab_new(struct berth_slab *slab, size_t size);
/* The same, but one that was returned has its bytes still, save those of the first word. */
void *berth__slab_take(struct berth_slab *slab, size_t size);
void berth__slab_delete(struct berth_slab *slab, void *object);

/*
 * Objects of a slab for one user, in OS pages that no other user's lie in: two processors that
 * write to one cache line in turn wait for each other, and so they do for the lines that they fetch
 * ahead of what they use, which are those of the same OS page. Empty when zeroed; what is left of
 * it is its user's for ever.
 */
struct berth_slab_run {
    char *next, *end;
};
/* As berth__slab_take(), from the run; from what was returned before a new run is begun. */
void *berth__slab_take_near(struct berth_slab *slab, struct berth_slab_run *run, size_t size);

/* Zeroed OS pages, or NULL. Tests replace the function to take memory away. */
extern void *(*berth__slab_map)(size_t size);
void berth__slab_unmap(void *pages, size_t size);

#endif
