/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directory of a store in memory: its committed blocks, by name.
 *
 * Read from the directory that the commit record names, and written as the next generation: all of
 * it each time, to the place of the one that is not in force. The caller synchronises.
 */
#ifndef BERTH_PMEM_PERSIST_DIRECTORY_H
#define BERTH_PMEM_PERSIST_DIRECTORY_H

#include "pmem/persist_extent.h"
#include "pmem/persist_format.h"
#include "pmem/persist_media.h"

#include <stdbool.h>

/* A committed block. */
struct berth_persist_entry {
    char *name;
    uint64_t size, generation;
    int64_t created;
    struct berth_persist_sum sum;
    struct berth_persist_extent *extents; /* in the order of the contents */
    size_t extent_count;
};

struct berth_persist_directory {
    uint64_t generation;
    struct berth_persist_entry *entries; /* in the order in which they were committed */
    size_t count;
};

/* Gives what the entry points to back. */
void berth__persist_entry_done(struct berth_persist_entry *entry);

/* How many bytes of a directory's place count, by its head: as many as are read. */
size_t berth__persist_directory_size(const struct berth_persist_head *head,
                                     const struct berth_persist_super *super);
/*
 * Reads the directory of this generation from a copy of these bytes, which nobody writes to.
 * `limit` is where the blocks must end. 0; -EINVAL with the reason when anything is damaged;
 * -ENOMEM.
 */
int berth__persist_directory_read(const void *place, uint64_t generation,
                                  const struct berth_persist_super *super, uint64_t limit,
                                  struct berth_persist_directory *ret, char *why, size_t why_size);
void berth__persist_directory_done(struct berth_persist_directory *directory);

/* The entry of this name, or NULL; valid until the directory changes. */
struct berth_persist_entry *
berth__persist_directory_find(const struct berth_persist_directory *directory, const char *name);

/*
 * Makes a new generation durable: without the entry `drop` (NULL: none), and with `add` as its
 * last (NULL: none), whose generation is set and which then belongs to the directory. 0; -ENOSPC
 * when the records would not fit; -ENOMEM; -EOVERFLOW after 2^32 generations; or the medium's
 * error, after which the medium holds the old or the new state and `*ret_unknown` is true. On any
 * error the directory in memory is as it was.
 */
int berth__persist_directory_commit(struct berth_persist_directory *directory, void *base,
                                    const struct berth_persist_super *super,
                                    const struct berth_persist_media *media,
                                    const struct berth_persist_entry *drop,
                                    struct berth_persist_entry *add, bool *ret_unknown);

/* A granule's worth of bytes for each that is begun. */
uint64_t berth__persist_held(uint64_t size, uint64_t granule);

#endif
