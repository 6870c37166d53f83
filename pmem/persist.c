/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/persist.h"

#include "alloc/berth.h"
#include "alloc/describe.h"
#include "alloc/log.h"
#include "alloc/persistent.h"
#include "alloc/stats.h"
#include "alloc/thread.h"
#include "alloc/tier_ops.h"
#include "pmem/persist_named.h"
#include "pmem/table.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

/*
 * What is noted at a block: its tier, its tag, and whether it was taken off the tier's capacity. A
 * block that was found is there whatever the capacity is now.
 */
#define NOTE_RESERVED ((uint64_t)1 << 16)

/* How often a block that others make and remove meanwhile is looked for. */
#define OPENS_MAX 8

static berth_tier_id note_tier(uint64_t note)
{
    return (berth_tier_id)(note & 0xff);
}

static enum berth_tag note_tag(uint64_t note)
{
    return (enum berth_tag)(note >> 8 & 0xf);
}

/* Which tiers a name means, and what it is called there. */
struct target {
    berth_tier_id first, end;
    const char *name;
};

static struct target find_target(const char *name)
{
    struct target target = {0, (berth_tier_id)berth__tier_count(), name};
    const char *colon = strchr(name, ':');
    char tier_name[BERTH_NAME_MAX];
    berth_tier_id id;

    if (!colon || (size_t)(colon - name) >= sizeof(tier_name))
        return target;
    memcpy(tier_name, name, (size_t)(colon - name));
    tier_name[colon - name] = '\0';
    id = berth__tier_find(tier_name);
    if (id != BERTH_TIER_NONE && berth__persist_named_is(id))
        target = (struct target){id, (berth_tier_id)(id + 1), colon + 1};
    return target;
}

static void say_failed(berth_tier_id id, struct berth_persist_store *store, const char *name, int r)
{
    berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_TIER, "tier %s: the block '%s': %s",
               berth__tier(id)->name, name,
               r == -EBADMSG  ? "its contents are not what was committed"
               : r == -EINVAL ? berth__persist_store_why(store)
                              : strerrordesc_np(-r));
}

/* Called with the lock held, as all below. */
static void account(struct berth_persist_block *block, berth_tier_id id)
{
    enum berth_tag tag = berth__tag_current();

    if (block->references > 1)
        return;
    /* What a program keeps beyond its end is what it has learnt, unless it says otherwise. */
    if (tag == BERTH_TAG_UNTAGGED)
        tag = BERTH_TAG_WEIGHT;
    block->note = id | (uint64_t)tag << 8;
    if (berth__tier_reserve(id, block->held) == 0)
        block->note |= NOTE_RESERVED;
    berth__stats_alloc(id, tag, block->size, block->held);
}

static void detach(struct berth_persist_block *block)
{
    if (block->references == 1) {
        berth__stats_free(note_tier(block->note), note_tag(block->note), block->size, block->held);
        if (block->note & NOTE_RESERVED)
            berth__tier_release(note_tier(block->note), block->held);
    }
    berth__persist_store_detach(block->store, block);
}

/* 0, -ENOENT, -ENODEV where no tier has a name, or the error of the tier that could not be asked.
 */
static int find(const struct target *target, struct berth_persist_block **ret_block)
{
    int result = -ENODEV;

    for (berth_tier_id id = target->first; id < target->end; id++) {
        struct berth_persist_store *store;
        int r = berth__persist_named_open(id, false, &store);

        if (r == 0) {
            bool verify = berth__tier(id)->verify == BERTH_VERIFY_FULL;

            berth__persist_named_lock();
            r = berth__persist_store_find(store, target->name, verify, ret_block);
            if (r == 0)
                account(*ret_block, id);
            else if (r != -ENOENT && r != -EBUSY)
                say_failed(id, store, target->name, r);
            berth__persist_named_unlock();
        }
        if (r != -ENODEV && r != -ENOENT)
            return r;
        if (r == -ENOENT)
            result = r;
    }
    return result;
}

static int create_in(berth_tier_id id, const char *name, size_t size, bool replace, void **ret_p)
{
    struct berth_persist_store *store;
    struct berth_persist_block *block;
    int r = berth__persist_named_open(id, true, &store);

    if (r < 0)
        return r;
    berth__persist_named_lock();
    r = berth__persist_store_create(store, name, size, replace, &block);
    if (r == 0) {
        account(block, id);
        if (!(block->note & NOTE_RESERVED)) {
            detach(block);
            r = -ENOSPC;
        } else {
            *ret_p = block->p;
        }
    }
    berth__persist_named_unlock();
    return r;
}

static int create(const struct target *target, size_t size, bool replace, void **ret_p)
{
    int result = -ENODEV;

    for (berth_tier_id id = target->first; id < target->end; id++) {
        int r = create_in(id, target->name, size, replace, ret_p);

        if (r == 0)
            return 0;
        if (r != -ENODEV && (result == -ENODEV || result == -ENOSPC))
            result = r;
    }
    return result;
}

/*
 * Another process may commit a block of the name between our look and our attempt to make one, and
 * one more may remove it again: we look anew, but not for ever. Exactly one of block and *ret_p.
 */
static int find_or_create(const struct target *target, size_t size,
                          struct berth_persist_block **ret_block, void **ret_p)
{
    for (int i = 0; i < OPENS_MAX; i++) {
        int r = find(target, ret_block);

        if (r != -ENOENT)
            return r;
        r = create(target, size, false, ret_p);
        if (r != -EEXIST)
            return r;
    }
    return -EBUSY;
}

static int persist_open(const char *name, size_t size, void **ret_p, unsigned *ret_state)
{
    struct berth_persist_block *block = NULL;
    struct target target;
    int r;

    if (berth__persist_named_inherited())
        return -EPERM;
    target = find_target(name);
    if (!berth__persist_name_is_valid(target.name))
        return -EINVAL;
    r = find_or_create(&target, size, &block, ret_p);
    if (r < 0)
        return r;
    if (!block) {
        *ret_state = BERTH_PERSIST_CREATED;
        return 0;
    }
    if (block->size != size) {
        berth__persist_named_lock();
        detach(block);
        berth__persist_named_unlock();
        return -EEXIST;
    }
    *ret_p = block->p;
    *ret_state = BERTH_PERSIST_FOUND;
    return 0;
}

/* Where the block of the name is; else where a new one goes. */
static int persist_replace(const char *name, size_t size, void **ret_p)
{
    struct target target;

    if (berth__persist_named_inherited())
        return -EPERM;
    target = find_target(name);
    if (!berth__persist_name_is_valid(target.name))
        return -EINVAL;
    for (berth_tier_id id = target.first; id < target.end; id++) {
        const struct berth_persist_directory *directory;
        struct berth_persist_store *store;
        bool here = false;

        if (berth__persist_named_open(id, false, &store) < 0)
            continue;
        berth__persist_named_lock();
        if (berth__persist_store_list(store, &directory) == 0)
            here = berth__persist_directory_find(directory, target.name) != NULL;
        berth__persist_named_unlock();
        if (here)
            return create_in(id, target.name, size, true, ret_p);
    }
    return create(&target, size, true, ret_p);
}

static int persist_find(const char *name, void **ret_p, size_t *ret_size)
{
    struct berth_persist_block *block = NULL;
    struct target target;
    int r;

    if (berth__persist_named_inherited())
        return -EPERM;
    target = find_target(name);
    r = find(&target, &block);
    if (r < 0)
        return r;
    *ret_p = block->p;
    *ret_size = block->size;
    return 0;
}

static struct berth_persist_block *block_at(const void *p)
{
    for (unsigned id = 0; id < BERTH_TIER_MAX; id++) {
        struct berth_persist_store *store = berth__persist_named_store((berth_tier_id)id);
        struct berth_persist_block *block = store ? berth__persist_store_block_at(store, p) : NULL;

        if (block)
            return block;
    }
    return NULL;
}

static int persist_commit(void *p)
{
    struct berth_persist_block *block;
    int r = -EINVAL;

    if (berth__persist_named_inherited())
        return -EPERM;
    berth__persist_named_lock();
    block = block_at(p);
    if (block && block->p == p)
        r = berth__persist_store_commit(block->store, block);
    else
        block = NULL;
    if (block && r < 0 && r != -EBUSY)
        say_failed(note_tier(block->note), block->store, block->name, r);
    berth__persist_named_unlock();
    return r;
}

static int persist_detach(void *p)
{
    struct berth_persist_block *block;

    if (berth__persist_named_inherited())
        return -EPERM;
    berth__persist_named_lock();
    block = block_at(p);
    if (block && block->p == p)
        detach(block);
    else
        block = NULL;
    berth__persist_named_unlock();
    return block ? 0 : -EINVAL;
}

static int persist_remove(const char *name)
{
    struct target target;
    int result = -ENODEV;

    if (berth__persist_named_inherited())
        return -EPERM;
    target = find_target(name);
    for (berth_tier_id id = target.first; id < target.end; id++) {
        struct berth_persist_store *store;
        int r = berth__persist_named_open(id, false, &store);

        if (r == 0) {
            berth__persist_named_lock();
            r = berth__persist_store_remove(store, target.name);
            berth__persist_named_unlock();
        }
        if (r != -ENODEV && r != -ENOENT)
            return r;
        if (r == -ENOENT)
            result = r;
    }
    return result;
}

/* free() is no cancellation point; the file takes back what was never committed. */
void berth__persist_free(void *p)
{
    int cancel_state;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    (void)persist_detach(p);
    pthread_setcancelstate(cancel_state, NULL);
}

size_t berth__persist_size(const void *p)
{
    bool lock = !berth__persist_named_inherited();
    const struct berth_persist_block *block;
    size_t size;

    /* The lock of a child may be held by a thread that it does not have; nothing changes there. */
    if (lock)
        berth__persist_named_lock();
    block = block_at(p);
    size = block && block->p == p ? block->size : 0;
    if (lock)
        berth__persist_named_unlock();
    return size;
}

int berth__persist_detail(const void *p, struct berth_block_detail *ret)
{
    bool lock = !berth__persist_named_inherited();
    const struct berth_persist_block *block;

    if (lock)
        berth__persist_named_lock();
    block = block_at(p);
    if (block)
        *ret = (struct berth_block_detail){
            .base = (uintptr_t)block->p,
            .requested = block->size,
            .held = block->held,
            .side = BERTH_SIDE_HOST,
            .tier = note_tier(block->note),
            .tag = note_tag(block->note),
            .tagged_by = BERTH_TAGGED_API,
            .rule = BERTH_RULE_NONE,
            .offset = block->extents[0].offset,
        };
    if (lock)
        berth__persist_named_unlock();
    return block ? 0 : -ENOENT;
}

static const struct berth_persistent_calls calls = {
    .open = persist_open,
    .replace = persist_replace,
    .find = persist_find,
    .commit = persist_commit,
    .detach = persist_detach,
    .remove = persist_remove,
};

void berth__persist_register(void)
{
    berth__persistent_calls = &calls;
}
