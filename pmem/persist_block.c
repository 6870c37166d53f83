/* SPDX-License-Identifier: Apache-2.0 */
/* The blocks of a persistent store: found, created, committed, detached. */
#include "pmem/persist_store_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Large blocks begin where a huge page can. */
#define HUGE_ALIGNMENT ((uint64_t)2 << 20)
/* Contents of a file are read in pieces of this size to be checked. */
#define CHECK_PIECE ((size_t)1 << 20)

static void *reserve(const struct berth_persist_store *store, uint64_t size)
{
    uint64_t alignment = store->super.granule;

    if (size >= HUGE_ALIGNMENT && alignment < HUGE_ALIGNMENT)
        alignment = HUGE_ALIGNMENT;
    return store->addresses->reserve(size, alignment);
}

static int map_extents(const struct berth_persist_store *store,
                       const struct berth_persist_extent *extents, size_t count, int protection,
                       char *p)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < count; i++) {
        r = berth__persist_place_map(&store->place, extents[i].offset, extents[i].size, protection,
                                     p);
        p += extents[i].size;
    }
    return r;
}

static void block_free(struct berth_persist_block *block)
{
    free(block->name);
    free(block->extents);
    free(block);
}

static struct berth_persist_block *block_new(struct berth_persist_store *store, const char *name,
                                             uint64_t size)
{
    struct berth_persist_block *block = calloc(1, sizeof(*block));

    if (!block)
        return NULL;
    block->store = store;
    block->name = strdup(name);
    block->size = size;
    block->held = berth__persist_held(size, store->super.granule);
    block->references = 1;
    if (block->name)
        return block;
    free(block);
    return NULL;
}

static int block_map(struct berth_persist_block *block, int protection)
{
    const struct berth_persist_store *store = block->store;
    int r;

    block->p = reserve(store, block->held);
    if (!block->p)
        return -ENOMEM;
    r = map_extents(store, block->extents, block->extent_count, protection, block->p);
    if (r < 0)
        store->addresses->release(block->p, block->held);
    return r;
}

static void block_link(struct berth_persist_block *block)
{
    block->next = block->store->blocks;
    block->store->blocks = block;
}

static struct berth_persist_sum sum_of(const void *p, uint64_t size)
{
    struct berth_persist_sum sum = berth__persist_sum_start();

    berth__persist_sum_add(&sum, p, size);
    return sum;
}

/* By reading, so that a medium's error, or its end, is an answer and no signal. */
static int sum_file(const struct berth_persist_store *store,
                    const struct berth_persist_extent *extents, size_t count, uint64_t left,
                    struct berth_persist_sum *ret)
{
    struct berth_persist_sum sum = berth__persist_sum_start();
    char *piece = malloc(CHECK_PIECE);
    int r = piece ? 0 : -ENOMEM;

    for (size_t i = 0; r == 0 && i < count; i++) {
        uint64_t at = extents[i].offset, end = at + extents[i].size;

        while (r == 0 && at < end && left > 0) {
            uint64_t want = left < end - at ? left : end - at;
            size_t now = want < CHECK_PIECE ? (size_t)want : CHECK_PIECE;

            r = berth__persist_place_read(&store->place, at, piece, now);
            if (r == 0)
                berth__persist_sum_add(&sum, piece, now);
            at += now;
            left -= now;
        }
    }
    free(piece);
    if (r == 0)
        *ret = sum;
    return r == -EINVAL ? -EIO : r;
}

/* The sum of a mapped block's contents. */
static int sum_contents(const struct berth_persist_block *block, struct berth_persist_sum *ret)
{
    if (!block->store->place.is_device)
        return sum_file(block->store, block->extents, block->extent_count, block->size, ret);
    *ret = sum_of(block->p, block->size);
    return 0;
}

/* 0, -EBADMSG, or the error of the medium. */
static int verify_contents(const struct berth_persist_block *block,
                           const struct berth_persist_entry *entry)
{
    struct berth_persist_sum sum;
    int r = sum_contents(block, &sum);

    if (r < 0)
        return r;
    return berth__persist_sum_equal(&sum, &entry->sum) ? 0 : -EBADMSG;
}

static int find_in_directory(struct berth_persist_store *store,
                             const struct berth_persist_entry *entry, bool verify,
                             struct berth_persist_block **ret_block)
{
    struct berth_persist_block *block;
    int r;

    block = block_new(store, entry->name, entry->size);
    if (!block)
        return -ENOMEM;
    block->committed = true;
    block->extent_count = entry->extent_count;
    block->extents = calloc(entry->extent_count + 1, sizeof(block->extents[0]));
    r = block->extents ? 0 : -ENOMEM;
    if (r == 0) {
        memcpy(block->extents, entry->extents, entry->extent_count * sizeof(block->extents[0]));
        r = block_map(block, PROT_READ);
    }
    if (r < 0) {
        block_free(block);
        return r;
    }
    r = verify ? verify_contents(block, entry) : 0;
    if (r < 0) {
        store->addresses->release(block->p, block->held);
        block_free(block);
        return r;
    }
    block_link(block);
    *ret_block = block;
    return 0;
}

static bool is_being_filled(const struct berth_persist_store *store, const char *name)
{
    for (const struct berth_persist_block *block = store->blocks; block; block = block->next)
        if (!block->committed && strcmp(block->name, name) == 0)
            return true;
    return false;
}

/* The medium still reaches as far as the blocks do, or the program would meet a SIGBUS. */
static int check_reach(struct berth_persist_store *store, const char *name,
                       const struct berth_persist_extent *extents, size_t count)
{
    int r = berth__persist_place_measure(&store->place);

    for (size_t i = 0; r == 0 && i < count; i++)
        if (extents[i].offset + extents[i].size > store->place.size)
            r = -EINVAL;
    if (r == -EINVAL)
        snprintf(store->why, sizeof(store->why),
                 "the block '%s' lies beyond the end, which was cut off", name);
    return r;
}

int berth__persist_store_find(struct berth_persist_store *store, const char *name, bool verify,
                              struct berth_persist_block **ret_block)
{
    struct berth_persist_block *block;
    const struct berth_persist_entry *entry;
    int r;

    block = berth__persist_store_mapped(store, name);
    if (block) {
        block->references++;
        *ret_block = block;
        return 0;
    }
    r = store->failed ? -EIO : berth__persist_store_refresh(store);
    if (r < 0)
        return r;
    entry = berth__persist_directory_find(&store->directory, name);
    if (entry) {
        r = check_reach(store, entry->name, entry->extents, entry->extent_count);
        return r < 0 ? r : find_in_directory(store, entry, verify, ret_block);
    }
    return is_being_filled(store, name) ? -EBUSY : -ENOENT;
}

static void give_back(struct berth_persist_store *store, const struct berth_persist_block *block)
{
    berth__persist_store_give_extents(store, block->extents, block->extent_count);
}

/* One extent that huge pages can map, where there is one. */
static int take_extents(struct berth_persist_block *block)
{
    struct berth_extent_table *space = &block->store->space;
    uint64_t offset;

    if (block->held >= HUGE_ALIGNMENT && space->granule < HUGE_ALIGNMENT) {
        block->extents = calloc(1, sizeof(block->extents[0]));
        if (!block->extents)
            return -ENOMEM;
        if (berth__extent_table_take_one(space, block->held, HUGE_ALIGNMENT, &offset) == 0) {
            block->extents[0] = (struct berth_persist_extent){offset, block->held};
            block->extent_count = 1;
            return 0;
        }
        free(block->extents);
        block->extents = NULL;
    }
    return berth__extent_table_take_any(space, block->held, &block->extents, &block->extent_count);
}

/* Space on the medium, mapped and zero. */
static int block_provide(struct berth_persist_block *block)
{
    struct berth_persist_store *store = block->store;
    bool all_zero = true;
    int r;

    r = take_extents(block);
    if (r < 0)
        return r;
    for (size_t i = 0; r == 0 && i < block->extent_count; i++) {
        bool zero = false;

        r = berth__persist_place_provide(&store->place, block->extents[i].offset,
                                         block->extents[i].size, &zero);
        all_zero &= zero;
    }
    if (r == 0)
        r = block_map(block, PROT_READ | PROT_WRITE);
    if (r < 0) {
        give_back(store, block);
        return r;
    }
    if (!all_zero)
        memset(block->p, 0, block->held);
    return 0;
}

int berth__persist_store_create(struct berth_persist_store *store, const char *name, uint64_t size,
                                bool replace, struct berth_persist_block **ret_block)
{
    struct berth_persist_block *block;
    int r;

    if (!berth__persist_name_is_valid(name))
        return -EINVAL;
    if (size > (uint64_t)INT64_MAX / 2)
        return -ENOSPC;
    if (is_being_filled(store, name))
        return -EBUSY;
    r = berth__persist_store_begin_write(store);
    if (r < 0)
        return r;
    if (!replace && berth__persist_directory_find(&store->directory, name)) {
        berth__persist_store_end_write(store);
        return -EEXIST;
    }
    block = block_new(store, name, size);
    r = block ? block_provide(block) : -ENOMEM;
    if (r < 0) {
        if (block)
            block_free(block);
        berth__persist_store_end_write(store);
        return r;
    }
    block->replaces = replace;
    block_link(block);
    *ret_block = block;
    return 0;
}

/* What the block becomes in the directory; its strings are the entry's own. */
static int make_entry(const struct berth_persist_block *block, struct berth_persist_entry *ret)
{
    struct berth_persist_entry entry = {
        .name = strdup(block->name),
        .size = block->size,
        .created = (int64_t)time(NULL),
        .extents = calloc(block->extent_count + 1, sizeof(entry.extents[0])),
        .extent_count = block->extent_count,
    };

    int r = entry.name && entry.extents ? sum_contents(block, &entry.sum) : -ENOMEM;

    if (r < 0) {
        berth__persist_entry_done(&entry);
        return r;
    }
    memcpy(entry.extents, block->extents, block->extent_count * sizeof(entry.extents[0]));
    *ret = entry;
    return 0;
}

/* The one that the new block has replaced: its space is free once it is not mapped here. */
static void retire(struct berth_persist_store *store, const char *name,
                   const struct berth_persist_extent *extents, size_t count)
{
    struct berth_persist_block *mapped = berth__persist_store_mapped(store, name);

    if (mapped)
        mapped->gone = true;
    else
        berth__persist_store_give_extents(store, extents, count);
}

/* Puts the block in the directory, and the one of its name out of it. */
static int enter(struct berth_persist_store *store, struct berth_persist_block *block,
                 struct berth_persist_entry *entry)
{
    struct berth_persist_entry *old = berth__persist_directory_find(&store->directory, block->name);
    struct berth_persist_extent *extents;
    size_t count;
    int r;

    if (!old)
        return berth__persist_store_commit_directory(store, NULL, entry);
    r = berth__persist_place_lock(&store->place, BERTH_PERSIST_LOCK_USERS, F_WRLCK);
    if (r < 0)
        return r;
    count = old->extent_count;
    extents = calloc(count + 1, sizeof(extents[0]));
    if (extents)
        memcpy(extents, old->extents, count * sizeof(extents[0]));
    r = extents ? berth__persist_store_commit_directory(store, old, entry) : -ENOMEM;
    if (r == 0)
        retire(store, block->name, extents, count);
    free(extents);
    berth__persist_place_lock(&store->place, BERTH_PERSIST_LOCK_USERS, F_RDLCK);
    return r;
}

/*
 * It is not known whether the block was committed: what it holds on the medium must stay what was
 * summed. The program goes on with a copy; without memory for one the block stays read-only.
 */
static void leave_medium(struct berth_persist_block *block)
{
    void *copy =
        mmap(NULL, block->held, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (copy == MAP_FAILED)
        return;
    memcpy(copy, block->p, block->held);
    if (mremap(copy, block->held, block->held, MREMAP_MAYMOVE | MREMAP_FIXED, block->p) ==
        MAP_FAILED)
        munmap(copy, block->held);
}

int berth__persist_store_commit(struct berth_persist_store *store,
                                struct berth_persist_block *block)
{
    struct berth_persist_entry entry;
    int r;

    if (block->committed)
        return 0;
    r = store->failed ? -EIO : check_reach(store, block->name, block->extents, block->extent_count);
    if (r < 0)
        return r;
    /* From here on the contents are what will be summed. */
    if (mprotect(block->p, block->held, PROT_READ) < 0)
        return -errno;
    r = berth__persist_media_persist(store->media, block->p, block->held);
    if (r == 0)
        r = make_entry(block, &entry);
    if (r == 0) {
        r = enter(store, block, &entry);
        if (r < 0)
            berth__persist_entry_done(&entry);
    }
    if (r < 0) {
        if (!store->failed)
            mprotect(block->p, block->held, PROT_READ | PROT_WRITE);
        else
            leave_medium(block);
        return r;
    }
    block->committed = true;
    berth__persist_store_end_write(store);
    return 0;
}

void berth__persist_store_detach(struct berth_persist_store *store,
                                 struct berth_persist_block *block)
{
    struct berth_persist_block **link = &store->blocks;

    if (--block->references > 0)
        return;
    while (*link != block)
        link = &(*link)->next;
    *link = block->next;
    store->addresses->release(block->p, block->held);
    /* After an error nobody knows whether the directory has the block: its space stays taken. */
    if ((!block->committed || block->gone) && !store->failed)
        give_back(store, block);
    block_free(block);
    berth__persist_store_end_write(store);
}

struct berth_persist_block *berth__persist_store_block_at(const struct berth_persist_store *store,
                                                          const void *p)
{
    struct berth_persist_block *block = store->blocks;

    while (block && (uintptr_t)p - (uintptr_t)block->p >= block->held)
        block = block->next;
    return block;
}

int berth__persist_store_check(struct berth_persist_store *store,
                               const struct berth_persist_entry *entry)
{
    struct berth_persist_sum sum;
    void *p;
    int r;

    if (!store->place.is_device) {
        r = sum_file(store, entry->extents, entry->extent_count, entry->size, &sum);
    } else {
        uint64_t held = berth__persist_held(entry->size, store->super.granule);

        p = reserve(store, held);
        if (!p)
            return -ENOMEM;
        r = map_extents(store, entry->extents, entry->extent_count, PROT_READ, p);
        if (r == 0)
            sum = sum_of(p, entry->size);
        store->addresses->release(p, held);
    }
    if (r < 0)
        return r;
    return berth__persist_sum_equal(&sum, &entry->sum) ? 0 : -EBADMSG;
}
