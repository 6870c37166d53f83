/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The place of a persistent store: the file or dax device that it lies in, opened, locked, mapped.
 *
 * Locks belong to the open file: they last as long as a descriptor of it or a mapping that was made
 * from it. The head's mapping is, so that a program which closes descriptors that are not its own
 * does not unlock the store; it is not inherited, and a forked child closes its copy of the
 * descriptor, so that no child keeps the store locked after its parent. Blocks are mapped from
 * a second opening of the same file, because children do inherit those.
 *
 *     users    shared by every process that has the store open; exclusive while blocks go away
 *     writer   the one process that adds or removes blocks
 */
#ifndef BERTH_PMEM_PERSIST_PLACE_H
#define BERTH_PMEM_PERSIST_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct berth_persist_place {
    char *path;
    char *temporary; /* the name until it is published, where a file cannot be without; or NULL */
    int fd;
    dev_t device; /* what `fd` was when it was opened */
    ino_t inode;
    bool is_device; /* a dax device; else a file */
    bool read_only;
    bool is_direct;   /* mappings are MAP_SYNC or the device's own: flushing caches is enough */
    uint64_t size;    /* of the device; of the file as last seen */
    uint64_t granule; /* what offsets, sizes and addresses of mappings are multiples of */
};

enum berth_persist_lock { BERTH_PERSIST_LOCK_WRITER = 0, BERTH_PERSIST_LOCK_USERS = 1 };

/* Opens what is there. 0, -ENOENT, or -errno with the reason. */
int berth__persist_place_open(const char *path, bool read_only, struct berth_persist_place *ret,
                              char *why, size_t why_size);
/* A file without a name in the directory of `path`; berth__persist_place_publish() names it. */
int berth__persist_place_make(const char *path, struct berth_persist_place *ret, char *why,
                              size_t why_size);
/* 0, -EEXIST when somebody was faster, or -errno. What was made is durable then, name and all. */
int berth__persist_place_publish(struct berth_persist_place *place);
void berth__persist_place_close(struct berth_persist_place *place);

/* Takes a lock or changes its kind (F_RDLCK, F_WRLCK, F_UNLCK); -EBUSY if others are in the way. */
int berth__persist_place_lock(const struct berth_persist_place *place, enum berth_persist_lock lock,
                              int kind);

/* Whether the descriptor still is the store's; see above. 0 or -ESTALE. */
int berth__persist_place_verify(const struct berth_persist_place *place);
/* Looks at the file's size again. 0 or -errno. */
int berth__persist_place_measure(struct berth_persist_place *place);

/* Maps the first `size` bytes, read-only, not inherited by children. NULL with errno. */
void *berth__persist_place_map_head(const struct berth_persist_place *place, size_t size);
/* Maps [offset, offset + size) at `address`, over what is there. 0 or -errno. */
int berth__persist_place_map(const struct berth_persist_place *place, uint64_t offset,
                             uint64_t size, int protection, void *address);

/*
 * File: reads by a call and not by a mapping, so that what was cut off under us is an error and not
 * a SIGBUS. 0, -EINVAL when the file ends before, or -errno.
 */
int berth__persist_place_read(const struct berth_persist_place *place, uint64_t offset, void *to,
                              size_t size);

/*
 * File: makes the filesystem provide the range, which reads as zero then. Device: nothing is to be
 * done, and what was there stays. `*ret_zero` says which. 0 or -errno (-ENOSPC).
 */
int berth__persist_place_provide(struct berth_persist_place *place, uint64_t offset, uint64_t size,
                                 bool *ret_zero);
/* File: gives the range's space back to the filesystem, as far as that can be done. */
void berth__persist_place_punch(struct berth_persist_place *place, uint64_t offset, uint64_t size);
/* File: ends it there, where it is longer. */
void berth__persist_place_cut(struct berth_persist_place *place, uint64_t size);

#endif
