/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy of a file tier's memory for a forked child: a second unnamed file in the same directory,
 * which the child maps over the window at the same addresses.
 *
 * It is begun before the fork, when it can still be refused, and takes its space then; it is filled
 * at the last moment, while jemalloc is locked; the child takes it, the parent drops it.
 * What is too large to be copied shares the original's blocks until one side writes, where the
 * filesystem can (xfs, btrfs). Where the directory has no room for a copy, or is gone, the copy is
 * in ordinary memory: a full tier must not keep a program from forking. Nor must a program that has
 * no descriptor left, or may write no large file: its child's copy is a mapping without a file, in
 * which the tier grows no more; a tier that holds nothing begins anew in the child instead. No
 * function here calls malloc.
 */
#ifndef BERTH_PMEM_FILE_COPY_H
#define BERTH_PMEM_FILE_COPY_H

#include "pmem/tier_file.h"

struct berth_file_copy {
    int fd;                  /* -1: there is none, see `mapping` */
    bool clone;              /* the filesystem shares blocks */
    bool in_memory;          /* not in the tier's directory */
    bool shares_descriptors; /* with the parent: the child may neither close nor open any */
    void *mapping; /* without a file, as large as what the tier has used; NULL if that is nothing */
    size_t mapping_size;
};

/*
 * 0; -EFBIG over the tier's fork_copy_max; -ENOSPC, or another errno, where memory is short too. A
 * child that shares its parent's descriptors (CLONE_FILES) would find that of a copy closed, and so
 * has one without a file.
 */
int berth__file_copy_begin(const struct berth_tier_file *file, bool shares_descriptors,
                           struct berth_file_copy *ret);
int berth__file_copy_fill(const struct berth_tier_file *file, struct berth_file_copy *copy);
void berth__file_copy_drop(struct berth_file_copy *copy);
/* In the child: from here on the tier is the copy. 0 or -errno, which the child cannot survive. */
int berth__file_copy_take(struct berth_tier_file *file, struct berth_file_copy *copy);

#endif
