/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contents of a block, brought to other memory while the program may write to it: the part of
 * move.h that holds writers back.
 */
#ifndef BERTH_PMEM_MOVE_LIVE_H
#define BERTH_PMEM_MOVE_LIVE_H

#include "pmem/move.h"

/* A copy that is under way. */
struct berth_move_live {
    struct berth_mover *mover;
    char *from; /* the block */
    char *to;   /* as large; nobody else's */
    size_t size;
    struct berth_uffd uffd;
    bool is_watched;
    bool holds_forks;     /* from when the block is not what a child may find, to the end */
    char *parked;         /* where the block's pages are, when they were taken out of it; or NULL */
    unsigned long *dirty; /* bit per piece: written to since it was copied */
};

/* Reads a part of the block; never a signal, whatever is mapped there. 0 or negative errno. */
int berth__move_read(void *to, const void *from, size_t size);

/* Copies all of a block that nobody writes to, nor has registered for I/O. */
enum berth_move_result berth__move_copy_quiet(struct berth_mover *mover, void *to, const void *from,
                                              size_t size);

/*
 * Copies all of it. When that is MOVED, the copy is what the block contains, and whoever would
 * change that, or fork, waits until berth__move_live_end(); the caller puts the copy in its place,
 * or not.
 * `is_shared` says that the block is in a file.
 */
enum berth_move_result berth__move_live_copy(struct berth_move_live *live, bool is_shared);

/* Lets everybody go. Unless `swapped`, the block's own pages are put back before. */
void berth__move_live_end(struct berth_move_live *live, bool swapped);

#endif
