/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A persistent store: blocks with names in a file or on a dax device, which outlive the process.
 *
 * A block is created (zero, writable, known to this process alone), filled, and committed: its
 * contents are made durable, then summed, and then the directory that lists it is. From then on it
 * is read-only, here and in every later process: what was summed is what is there. Whatever
 * happens at whatever instant, the next process finds the directory as it was before a commit
 * or a removal, or as it was after.
 *
 * Processes: many may have a store open and its blocks mapped; one of them at a time may add
 * blocks; a block goes away only while no other process has the store open. Nobody waits: -EBUSY.
 *
 * Not for two threads at once: the caller synchronises. Memory comes from malloc().
 */
#ifndef BERTH_PMEM_PERSIST_STORE_H
#define BERTH_PMEM_PERSIST_STORE_H

#include "pmem/persist_directory.h"
#include "pmem/persist_media.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct berth_persist_store;

/* Where blocks are mapped. The default: wherever the kernel likes. */
struct berth_persist_addresses {
    /* NULL: none are left. */
    void *(*reserve)(size_t size, size_t alignment);
    /* Nothing is mapped there any more. */
    void (*release)(void *p, size_t size);
};

struct berth_persist_options {
    const char *path;
    const char *name;  /* what the store must be called; "" = anything */
    bool create;       /* where nothing is, or a device is blank: makes a store of this name */
    bool overwrite;    /* with `create`: makes a store of a dax device whatever is on it */
    bool read_only;    /* neither adds nor removes anything; where the file allows no more */
    uint64_t capacity; /* of the blocks; 0 = what the medium has */
    const struct berth_persist_media *media;         /* NULL = as the mapping asks for */
    const struct berth_persist_addresses *addresses; /* NULL = the default */
};

struct berth_persist_block {
    struct berth_persist_block *next;
    struct berth_persist_store *store;
    char *name;
    void *p;
    uint64_t size; /* as asked for */
    uint64_t held;
    uint64_t note;       /* the caller's own */
    unsigned references; /* how often it was found */
    bool committed;
    bool replaces; /* at its commit the block of the same name goes */
    bool gone;     /* its entry is no more, but it is mapped here */
    struct berth_persist_extent *extents;
    size_t extent_count;
};

/*
 * 0 or -errno with the reason in `why` (BERTH_PERSIST_WHY_MAX), which names the path: -ENOENT
 * (nothing there, and not to be created), -EINVAL (no store, damaged, cut off, another version,
 * another name), -EBUSY (others are in the way), -ENOTSUP (a dax device without libpmem).
 */
int berth__persist_store_open(const struct berth_persist_options *options,
                              struct berth_persist_store **ret_store, char *why, size_t why_size);
/* Unmaps and forgets all blocks; those that were not committed are lost. */
void berth__persist_store_close(struct berth_persist_store *store);
/* In a forked child: lets go of the lock, which is the parent's, and of nothing else. */
void berth__persist_store_leave(struct berth_persist_store *store);

/*
 * Maps the committed block of this name. A second time: the same, with one reference more. 0;
 * -ENOENT; -EBUSY when the block of this name is being filled in this process; -EBADMSG, with
 * `verify`, when the contents are not what was committed; -EINVAL when the directory is damaged.
 */
int berth__persist_store_find(struct berth_persist_store *store, const char *name, bool verify,
                              struct berth_persist_block **ret_block);
/*
 * A new block, zero and writable. With `replace` a committed block of the name stays until this one
 * is committed, else it is -EEXIST. Also -EBUSY, -EROFS, -ENOSPC, -ENOMEM, -EIO after an error that
 * left the medium's state unknown, -EINVAL for a name that is empty, has control characters, or is
 * longer than BERTH_PERSIST_NAME_MAX.
 */
int berth__persist_store_create(struct berth_persist_store *store, const char *name, uint64_t size,
                                bool replace, struct berth_persist_block **ret_block);
/* 0; on failure the block is as it was, writable and not committed, and may be tried again. */
int berth__persist_store_commit(struct berth_persist_store *store,
                                struct berth_persist_block *block);
/* One reference less; the last one unmaps it, and gives up what was not committed. */
void berth__persist_store_detach(struct berth_persist_store *store,
                                 struct berth_persist_block *block);
/* Removes a committed block. -ENOENT, or -EBUSY while it is mapped here, or the store open
 * elsewhere. */
int berth__persist_store_remove(struct berth_persist_store *store, const char *name);

/* The committed blocks as of now; valid until the next call. 0 or -errno. */
int berth__persist_store_list(struct berth_persist_store *store,
                              const struct berth_persist_directory **ret_directory);
/* Reads a committed block's contents and compares. 0, -EBADMSG or -EIO. */
int berth__persist_store_check(struct berth_persist_store *store,
                               const struct berth_persist_entry *entry);

/* What a block's address belongs to in this store, or NULL. */
struct berth_persist_block *berth__persist_store_block_at(const struct berth_persist_store *store,
                                                          const void *p);

/* What is on the superblock, and how much of the medium is used and free. */
struct berth_persist_store_info {
    const char *path, *media;
    const struct berth_persist_super *super;
    uint64_t generation;
    uint64_t used; /* by committed blocks */
    uint64_t free; /* 0 when `grows` and no capacity was given */
    bool is_device, grows;
};
void berth__persist_store_info(const struct berth_persist_store *store,
                               struct berth_persist_store_info *ret);
/* The reason of the last -EINVAL of a call on this store. */
const char *berth__persist_store_why(const struct berth_persist_store *store);

bool berth__persist_name_is_valid(const char *name);

#endif
