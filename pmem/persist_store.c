/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/persist_store_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* A file's blocks may lie up to here; its filesystem is full long before. */
#define FILE_END ((uint64_t)1 << 62)
/* A reader whose directory is overwritten meanwhile looks again. */
#define READS_MAX 16

bool berth__persist_name_is_valid(const char *name)
{
    size_t length = strnlen(name, BERTH_PERSIST_NAME_MAX + 1);

    if (length == 0 || length > BERTH_PERSIST_NAME_MAX)
        return false;
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 127)
            return false;
    return true;
}

static int say_cut_off(struct berth_persist_store *store)
{
    snprintf(store->why, sizeof(store->why), "%s was cut off while it was in use",
             store->place.path);
    return -EINVAL;
}

/* Whoever touches a mapped page that the file does not have any more ends by a SIGBUS. */
static int check_head(struct berth_persist_store *store)
{
    int r = berth__persist_place_measure(&store->place);

    return r < 0 || store->place.size >= store->super.data_offset ? r : say_cut_off(store);
}

int berth__persist_store_read_head(struct berth_persist_store *store, uint64_t offset, void *to,
                                   size_t size)
{
    int r;

    if (store->place.is_device) {
        memcpy(to, store->head + offset, size);
        return 0;
    }
    r = berth__persist_place_read(&store->place, offset, to, size);
    return r == -EINVAL ? say_cut_off(store) : r;
}

/* From a copy: other processes write to the next generation's place, and to the one after. */
static int read_directory(struct berth_persist_store *store, uint64_t generation,
                          struct berth_persist_directory *ret)
{
    uint64_t offset = store->super.directory_offset[generation % 2];
    uint64_t limit = store->place.size & ~(store->super.granule - 1);
    struct berth_persist_head head;
    size_t size;
    char *copy;
    int r;

    r = berth__persist_store_read_head(store, offset, &head, sizeof(head));
    if (r < 0)
        return r;
    size = berth__persist_directory_size(&head, &store->super);
    copy = malloc(size);
    if (!copy)
        return -ENOMEM;
    r = berth__persist_store_read_head(store, offset, copy, size);
    if (r == 0)
        r = berth__persist_directory_read(copy, generation, &store->super, limit, ret, store->why,
                                          sizeof(store->why));
    free(copy);
    return r;
}

int berth__persist_store_refresh(struct berth_persist_store *store)
{
    struct berth_persist_directory fresh = {0};
    uint64_t generation;
    int r;

    for (int i = 0; i < READS_MAX; i++) {
        r = check_head(store);
        if (r == 0)
            r = berth__persist_store_read_head(store, BERTH_PERSIST_PAGE, store->page,
                                               sizeof(store->page));
        if (r < 0)
            return r;
        r = berth__persist_commit_read(&store->super, store->page, &generation, store->why,
                                       sizeof(store->why));
        if (r == 0 && generation == store->directory.generation)
            return 0;
        if (r == 0)
            r = read_directory(store, generation, &fresh);
        if (r == 0)
            break;
    }
    if (r < 0)
        return r;
    berth__persist_directory_done(&store->directory);
    store->directory = fresh;
    return 0;
}

static uint64_t last_end(const struct berth_persist_store *store)
{
    uint64_t end = store->super.data_offset;

    for (size_t i = 0; i < store->directory.count; i++) {
        const struct berth_persist_entry *entry = &store->directory.entries[i];

        for (size_t k = 0; k < entry->extent_count; k++)
            if (entry->extents[k].offset + entry->extents[k].size > end)
                end = entry->extents[k].offset + entry->extents[k].size;
    }
    return end;
}

/* Where the space for blocks ends. */
static uint64_t limit_of(const struct berth_persist_store *store)
{
    const struct berth_persist_super *super = &store->super;
    uint64_t end = store->place.is_device ? store->place.size & ~(super->granule - 1) : FILE_END;

    if (store->capacity > 0 && store->capacity < end - super->data_offset)
        end = super->data_offset + (store->capacity & ~(super->granule - 1));
    return end;
}

/* What is free, from the directory. Blocks that this process holds beside it keep the writer's
 * lock, and with it this table, alive. */
static int make_extent_table(struct berth_persist_store *store)
{
    uint64_t start = store->super.data_offset, used = last_end(store);
    uint64_t limit = limit_of(store);
    int r;

    berth__extent_table_done(&store->space);
    berth__extent_table_init(&store->space, store->super.granule);
    r = berth__extent_table_give(&store->space, start, (limit > used ? limit : used) - start);
    for (size_t i = 0; r == 0 && i < store->directory.count; i++) {
        const struct berth_persist_entry *entry = &store->directory.entries[i];

        for (size_t k = 0; r == 0 && k < entry->extent_count; k++)
            r = berth__extent_table_take(&store->space, entry->extents[k].offset,
                                         entry->extents[k].size);
    }
    /* A smaller capacity than before: what is there stays, and nothing new goes beyond it. */
    for (size_t i = store->space.count; r == 0 && i-- > 0;) {
        struct berth_persist_extent range = store->space.free[i];
        uint64_t keep = limit > range.offset ? limit - range.offset : 0;

        if (keep < range.size)
            r = berth__extent_table_take(&store->space, range.offset + keep, range.size - keep);
    }
    return r;
}

/* What a process that was killed had taken and not committed goes back to the filesystem. */
static void reclaim(struct berth_persist_store *store)
{
    uint64_t end = last_end(store);

    for (size_t i = 0; i < store->space.count; i++) {
        const struct berth_persist_extent *range = &store->space.free[i];

        if (range->offset < end)
            berth__persist_place_punch(&store->place, range->offset, range->size);
    }
    berth__persist_place_cut(&store->place, end);
}

int berth__persist_store_begin_write(struct berth_persist_store *store)
{
    int r;

    if (store->place.read_only)
        return -EROFS;
    if (store->failed)
        return -EIO;
    if (store->writing)
        return 0;
    r = berth__persist_place_lock(&store->place, BERTH_PERSIST_LOCK_WRITER, F_WRLCK);
    if (r < 0)
        return r;
    r = berth__persist_store_refresh(store);
    if (r == 0)
        r = make_extent_table(store);
    if (r < 0) {
        berth__persist_place_lock(&store->place, BERTH_PERSIST_LOCK_WRITER, F_UNLCK);
        return r;
    }
    reclaim(store);
    store->writing = true;
    return 0;
}

void berth__persist_store_end_write(struct berth_persist_store *store)
{
    if (!store->writing)
        return;
    for (const struct berth_persist_block *block = store->blocks; block; block = block->next)
        if (!block->committed || block->gone)
            return;
    if (!store->failed)
        berth__persist_place_cut(&store->place, last_end(store));
    store->writing = false;
    berth__persist_place_lock(&store->place, BERTH_PERSIST_LOCK_WRITER, F_UNLCK);
}

/* The head is read-only but for these moments: a program's stray store does not reach it. */
int berth__persist_store_commit_directory(struct berth_persist_store *store,
                                          const struct berth_persist_entry *drop,
                                          struct berth_persist_entry *add)
{
    bool unknown = false;
    int r = check_head(store);

    if (r < 0)
        return r;
    if (mprotect(store->head, store->head_size, PROT_READ | PROT_WRITE) < 0)
        return -errno;
    r = berth__persist_directory_commit(&store->directory, store->head, &store->super, store->media,
                                        drop, add, &unknown);
    mprotect(store->head, store->head_size, PROT_READ);
    /* The old state and the new one are both possible: nothing may be built on either. */
    if (unknown)
        store->failed = true;
    return r;
}

void berth__persist_store_give_extents(struct berth_persist_store *store,
                                       const struct berth_persist_extent *extents, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        berth__persist_place_punch(&store->place, extents[i].offset, extents[i].size);
        (void)berth__extent_table_give(&store->space, extents[i].offset, extents[i].size);
    }
}

struct berth_persist_block *berth__persist_store_mapped(const struct berth_persist_store *store,
                                                        const char *name)
{
    struct berth_persist_block *block = store->blocks;

    while (block && (block->gone || !block->committed || strcmp(block->name, name) != 0))
        block = block->next;
    return block;
}

int berth__persist_store_remove(struct berth_persist_store *store, const char *name)
{
    struct berth_persist_extent *extents = NULL;
    struct berth_persist_entry *entry;
    size_t count = 0;
    int r;

    r = berth__persist_store_begin_write(store);
    if (r < 0)
        return r;
    entry = berth__persist_directory_find(&store->directory, name);
    if (!entry)
        r = -ENOENT;
    else if (berth__persist_store_mapped(store, name))
        r = -EBUSY;
    else
        r = berth__persist_place_lock(&store->place, BERTH_PERSIST_LOCK_USERS, F_WRLCK);
    if (r == 0) {
        count = entry->extent_count;
        extents = calloc(count + 1, sizeof(extents[0]));
        if (extents)
            memcpy(extents, entry->extents, count * sizeof(extents[0]));
        r = extents ? berth__persist_store_commit_directory(store, entry, NULL) : -ENOMEM;
        if (r == 0)
            berth__persist_store_give_extents(store, extents, count);
        berth__persist_place_lock(&store->place, BERTH_PERSIST_LOCK_USERS, F_RDLCK);
    }
    free(extents);
    berth__persist_store_end_write(store);
    return r;
}

int berth__persist_store_list(struct berth_persist_store *store,
                              const struct berth_persist_directory **ret_directory)
{
    int r = berth__persist_store_refresh(store);

    if (r == 0)
        *ret_directory = &store->directory;
    return r;
}

void berth__persist_store_info(const struct berth_persist_store *store,
                               struct berth_persist_store_info *ret)
{
    uint64_t room = limit_of(store) - store->super.data_offset;

    *ret = (struct berth_persist_store_info){
        .path = store->place.path,
        .media = store->media->name,
        .super = &store->super,
        .generation = store->directory.generation,
        .is_device = store->place.is_device,
        .grows = !store->place.is_device,
    };
    for (size_t i = 0; i < store->directory.count; i++)
        ret->used += berth__persist_held(store->directory.entries[i].size, store->super.granule);
    if ((!ret->grows || store->capacity > 0) && room > ret->used)
        ret->free = room - ret->used;
}

const char *berth__persist_store_why(const struct berth_persist_store *store)
{
    return store->why;
}
