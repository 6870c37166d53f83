/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of a persistent store share: persist_store.c (the directory and the locks),
 * persist_store_open.c, persist_block.c.
 */
#ifndef BERTH_PMEM_PERSIST_STORE_PARTS_H
#define BERTH_PMEM_PERSIST_STORE_PARTS_H

#include "pmem/persist_place.h"
#include "pmem/persist_store.h"

struct berth_persist_store {
    struct berth_persist_place place;
    const struct berth_persist_media *media;
    const struct berth_persist_addresses *addresses;
    struct berth_persist_super super;
    struct berth_persist_directory directory;
    struct berth_extent_table space; /* what is free; true while `writing` */
    struct berth_persist_block *blocks;
    char *head; /* the medium's first `head_size` bytes */
    size_t head_size;
    uint64_t capacity;
    bool writing; /* this process has the writer's lock */
    bool failed;  /* what the medium holds is not known any more */
    char why[BERTH_PERSIST_WHY_MAX];
    _Alignas(uint64_t) unsigned char page[BERTH_PERSIST_PAGE]; /* of the head, to be looked at */
};

/* Copies a part of the head. 0, -ENOMEM, or -EINVAL with the reason in the store's `why`. */
int berth__persist_store_read_head(struct berth_persist_store *store, uint64_t offset, void *to,
                                   size_t size);
/* Reads the directory that is in force now, if it is another than the one that is known. 0,
 * -ENOMEM, -ESTALE, or -EINVAL with the reason in the store's `why`. */
int berth__persist_store_refresh(struct berth_persist_store *store);
/* Takes the writer's lock and makes `space` true. 0, -EBUSY, -EROFS, -EIO, ... */
int berth__persist_store_begin_write(struct berth_persist_store *store);
/* Lets go of it unless a block needs it. */
void berth__persist_store_end_write(struct berth_persist_store *store);
int berth__persist_store_commit_directory(struct berth_persist_store *store,
                                          const struct berth_persist_entry *drop,
                                          struct berth_persist_entry *add);
void berth__persist_store_give_extents(struct berth_persist_store *store,
                                       const struct berth_persist_extent *extents, size_t count);
/* The committed block of this name that is mapped here, or NULL. */
struct berth_persist_block *berth__persist_store_mapped(const struct berth_persist_store *store,
                                                        const char *name);

#endif
