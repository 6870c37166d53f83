/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tiers of kind file: memory that is a file in a directory of any filesystem (fsdax, tmpfs, disk).
 *
 * One unnamed file per tier, mapped shared into the tier's window as it grows; the offset in the
 * file is the offset in the window. Space is allocated before a block is handed out, so that a full
 * filesystem is seen then and never as SIGBUS; what is no longer needed is punched out.
 *
 * The descriptor lives in the program's table, where the program may close it, or even reuse its
 * number: before each use it is compared with the file that it was. Without it the tier does not
 * grow, but what it has stays usable.
 */
#ifndef BERTH_PMEM_TIER_FILE_H
#define BERTH_PMEM_TIER_FILE_H

#include "alloc/tier_ops.h"
#include "pmem/page_set.h"

#include <stdbool.h>
#include <sys/types.h>

struct berth_tier_file {
    berth_tier_id id;
    int fd;
    dev_t device; /* what `fd` was when it was opened */
    ino_t inode;
    int map_flags;  /* of its mappings; with MAP_SYNC where the filesystem has it */
    uintptr_t base; /* of the window */
    enum berth_fork_rule fork;
    uint64_t fork_copy_max;
    struct berth_page_set committed;
    const struct berth_tier *tier;
};

void berth__tier_file_register(void);

/* The file tier with this id, or NULL. */
struct berth_tier_file *berth__tier_file(berth_tier_id id);

/* An unnamed file in the directory, mode 0600, its number out of the program's way. -errno. */
int berth__tier_file_open(const char *directory);
/* The same in ordinary memory, for a child's copy that the directory has no room for. -errno. */
int berth__tier_file_open_memory(void);
/* Whether the tier's descriptor still is the tier's file. */
bool berth__tier_file_has_descriptor(const struct berth_tier_file *file);
/* Takes `fd` as the tier's file from now on. 0 or -errno. */
int berth__tier_file_adopt(struct berth_tier_file *file, int fd);
/* Maps the tier's file at `address`, which lies in its window. 0 or -errno. */
int berth__tier_file_map(const struct berth_tier_file *file, void *address, size_t size);
/* Makes the filesystem provide [offset, offset + size) of `fd`. 0 or -errno (-ENOSPC). */
int berth__tier_file_allocate(int fd, size_t offset, size_t size);

#endif
