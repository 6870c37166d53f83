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
#include "pmem/chunks.h"
#include "pmem/file_full.h"
#include "pmem/page_set.h"

#include <stdbool.h>
#include <sys/types.h>

struct berth_tier_file {
    berth_tier_id id;
    int fd;
    dev_t device; /* what `fd` was when it was opened */
    ino_t inode;
    void *anchor;   /* an OS page of it that is never touched; see berth__tier_file_adopt() */
    int map_flags;  /* of its mappings; with MAP_SYNC where the filesystem has it */
    uintptr_t base; /* of the window */
    enum berth_fork_rule fork;
    uint64_t fork_copy_max;
    struct berth_page_set committed;
    struct berth_file_full full; /* of the filesystem that `fd` lies in */
    struct berth_tier *tier;
    /*
     * Not a file of its own, whose offsets are the window's, but a device or the like. A forked
     * child's copy is a file in memory; from then on the tier is one of kind file there.
     */
    bool is_foreign;
    struct berth_chunks *chunks; /* of a foreign one */
    size_t piece;    /* what is mapped and unmapped as a whole: an OS page, or a foreign one's */
    bool in_memory;  /* this is such a child */
    bool asks_room;  /* the file is in memory, which is asked for before it is taken */
    bool is_on_disk; /* its pages are the kernel's cache of it; see file_pages.h */
    /* This is a child that shares it (fork = share): it gives back no page, which its parent may
     * have in use by now, whoever asks. */
    bool is_parents;
};

void berth__tier_file_register(void);

/* The file tier with this id, or NULL: any tier that is mapped shared. */
struct berth_tier_file *berth__tier_file(berth_tier_id id);

/*
 * For makers of tiers that are mapped shared: fills in the tier's entry, whose window is open, and
 * makes it known, so that forks copy the tier. `foreign` is NULL for a file. 0 or -errno with
 * one sentence in `why`; `fd` stays the caller's then.
 */
int berth__tier_file_enter(struct berth_tier *tier, berth_tier_id id,
                           const struct berth_tier_config *config, int fd,
                           struct berth_chunks *foreign, char *why, size_t why_size);
/* In a forked child that has its copy: the tier is a file from now on. */
void berth__tier_file_serve(struct berth_tier_file *file);
/* Moves a descriptor out of the program's way. Returns the new one, or the old where it cannot. */
int berth__tier_file_move(int fd);

/* An unnamed file in the directory, mode 0600, its number out of the program's way. -errno. */
int berth__tier_file_open(const char *directory);
/* The same in ordinary memory, for a child's copy that has no room elsewhere. -errno. */
int berth__tier_file_open_memory(void);
/* Another file for this tier, where such a tier has its files. */
int berth__tier_file_open_again(const struct berth_tier_file *file);
/* Whether the tier's descriptor still is the tier's file. */
bool berth__tier_file_has_descriptor(const struct berth_tier_file *file);
/*
 * Takes `fd` as the tier's file from now on. 0 or -errno. A page of it stays mapped: were the
 * descriptor closed while nothing else of the file is mapped, a filesystem could give its number to
 * another file, which would then be taken for it.
 */
int berth__tier_file_adopt(struct berth_tier_file *file, int fd);
/* In a forked child: the file is the parent's, and nothing of it is to be held. */
void berth__tier_file_release(struct berth_tier_file *file);
/* Maps the tier's file at `address`, which lies in its window. 0 or -errno; -ESTALE: and it is not
 * known whether the addresses still are the window's. */
int berth__tier_file_map(const struct berth_tier_file *file, void *address, size_t size);
/* Makes the filesystem provide [offset, offset + size) of `fd`. 0 or -errno (-ENOSPC). */
int berth__tier_file_allocate(int fd, size_t offset, size_t size);

#endif
