/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/limit.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/*
 * Built-in tiers exist from the start: constant-initialised, because malloc may be called before
 * any constructor. `made` says which of the others are complete, and is the readers' only
 * synchronisation: it is raised, with release order, after the entry is filled in.
 */
struct tier_registry {
    struct berth_tier tier[BERTH_TIER_MAX];
    _Atomic unsigned made;
    berth_tier_maker maker[BERTH_KIND_COUNT];
    pthread_mutex_t lock; /* one maker at a time */
};

extern BERTH_SHARED struct tier_registry berth__tier_registry;
struct tier_registry berth__tier_registry = {
    .tier =
        {
            [BERTH_TIER_DEVICE] = {"device", BERTH_KIND_DEVICE, BERTH_SIDE_DEVICE, 0, NULL, NULL,
                                   ""},
            [BERTH_TIER_PINNED] = {"pinned", BERTH_KIND_PINNED, BERTH_SIDE_HOST, 0, NULL, NULL, ""},
            [BERTH_TIER_DRAM] = {"dram", BERTH_KIND_DRAM, BERTH_SIDE_HOST, 0, NULL, NULL, ""},
        },
    .made = BERTH_TIER_DRAM + 1,
    .lock = PTHREAD_MUTEX_INITIALIZER,
};

void berth__tier_set_maker(enum berth_tier_kind kind, berth_tier_maker make)
{
    berth__tier_registry.maker[kind] = make;
}

unsigned berth__tier_count(void)
{
    return atomic_load_explicit(&berth__tier_registry.made, memory_order_acquire);
}

struct berth_tier *berth__tier(berth_tier_id id)
{
    return id < berth__tier_count() ? &berth__tier_registry.tier[id] : NULL;
}

berth_tier_id berth__tier_find(const char *name)
{
    unsigned count = berth__tier_count();

    for (unsigned i = 0; i < count; i++)
        if (strcmp(berth__tier_registry.tier[i].name, name) == 0)
            return (berth_tier_id)i;
    return BERTH_TIER_NONE;
}

static bool texts_differ(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") != 0;
}

const char *berth__tier_difference(const struct berth_tier *tier,
                                   const struct berth_tier_config *config)
{
    if (tier->kind != config->kind)
        return "kind";
    if (strcmp(tier->path, config->path) != 0)
        return "path";
    if (tier->fork != config->fork)
        return "fork";
    if (tier->fork_copy_max != config->fork_copy_max)
        return "fork-copy-max";
    if (tier->decay_ms != config->decay_ms)
        return "decay";
    if (texts_differ(tier->nodes, config->nodes))
        return "nodes";
    if (tier->numa != config->numa)
        return "numa";
    if (tier->huge_pages != config->huge_pages)
        return "huge-pages";
    if (tier->verify != config->verify)
        return "verify";
    if (texts_differ(tier->from, config->from))
        return "from";
    if (texts_differ(tier->segment, config->segment))
        return "name";
    if (tier->offset != config->offset)
        return "offset";
    return tier->size != config->size ? "size" : NULL;
}

static int update_tier(struct berth_tier *tier, const struct berth_tier_config *config, char *why,
                       size_t why_size)
{
    const char *difference = berth__tier_difference(tier, config);

    if (difference) {
        snprintf(why, why_size,
                 "it already exists with another %s, as kind %s%s%s; a running program cannot "
                 "change that",
                 difference, berth__kind_name(tier->kind), tier->path[0] ? " at " : "", tier->path);
        return -EEXIST;
    }
    atomic_store_explicit(&tier->capacity, config->capacity, memory_order_relaxed);
    return 0;
}

/* A copy that lives as long as the process; malloc may be the very thing that is starting. */
static const char *keep_text(const char *text)
{
    size_t size = text ? strlen(text) + 1 : 1;
    char *copy;

    if (size == 1)
        return "";
    copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return copy == MAP_FAILED ? NULL : memcpy(copy, text, size);
}

static void drop_text(const char *text)
{
    if (text && *text)
        munmap((void *)text, strlen(text) + 1);
}

static void drop_texts(const struct berth_tier *tier)
{
    drop_text(tier->path);
    drop_text(tier->nodes);
    drop_text(tier->from);
    drop_text(tier->segment);
}

static int keep_texts(struct berth_tier *tier, const struct berth_tier_config *config)
{
    tier->path = keep_text(config->path);
    tier->nodes = keep_text(config->nodes);
    tier->from = keep_text(config->from);
    tier->segment = keep_text(config->segment);
    if (tier->path && tier->nodes && tier->from && tier->segment)
        return 0;
    drop_texts(tier);
    return -ENOMEM;
}

/* Called with the lock held; the entry is invisible until `made` is raised. */
static int make_tier(berth_tier_id id, const struct berth_tier_config *config, char *why,
                     size_t why_size)
{
    struct berth_tier *tier = &berth__tier_registry.tier[id];
    berth_tier_maker make = berth__tier_registry.maker[config->kind];
    int r;

    if (!make) {
        snprintf(why, why_size, "nothing in this process serves kind %s",
                 berth__kind_name(config->kind));
        return -ENOTSUP;
    }
    if (strlen(config->name) >= sizeof(tier->name)) {
        snprintf(why, why_size, "its name is longer than %d characters", BERTH_NAME_MAX - 1);
        return -ENAMETOOLONG;
    }
    memset(tier, 0, sizeof(*tier));
    strcpy(tier->name, config->name);
    if (keep_texts(tier, config) < 0) {
        snprintf(why, why_size, "there is no memory for its path");
        return -ENOMEM;
    }
    tier->kind = config->kind;
    tier->capacity = config->capacity;
    tier->fork = config->fork;
    tier->fork_copy_max = config->fork_copy_max;
    tier->decay_ms = config->decay_ms;
    tier->numa = config->numa;
    tier->huge_pages = config->huge_pages;
    tier->verify = config->verify;
    tier->offset = config->offset;
    tier->size = config->size;
    r = make(tier, id, config, why, why_size);
    if (r < 0) {
        drop_texts(tier);
        return r;
    }
    atomic_store_explicit(&berth__tier_registry.made, id + 1u, memory_order_release);
    return 0;
}

int berth__tier_ensure(const struct berth_tier_config *config, berth_tier_id *ret_id, char *why,
                       size_t why_size)
{
    berth_tier_id id;
    int r;

    pthread_mutex_lock(&berth__tier_registry.lock);
    id = berth__tier_find(config->name);
    if (id != BERTH_TIER_NONE) {
        r = update_tier(&berth__tier_registry.tier[id], config, why, why_size);
    } else if (berth__tier_count() == BERTH_TIER_MAX) {
        snprintf(why, why_size, "this process already has %d tiers, the most there can be",
                 BERTH_TIER_MAX);
        r = -ENOSPC;
    } else {
        id = (berth_tier_id)berth__tier_count();
        r = make_tier(id, config, why, why_size);
    }
    pthread_mutex_unlock(&berth__tier_registry.lock);
    if (r == 0)
        *ret_id = id;
    return r;
}

int berth__tier_reserve(berth_tier_id id, uint64_t size)
{
    _Atomic uint64_t *reserved = &berth__tier_stats[id].reserved;
    uint64_t capacity =
        atomic_load_explicit(&berth__tier_registry.tier[id].capacity, memory_order_relaxed);
    uint64_t now = atomic_load_explicit(reserved, memory_order_relaxed);
    uint64_t next;

    do {
        if (__builtin_add_overflow(now, size, &next) || (capacity != 0 && next > capacity))
            return -ENOSPC;
    } while (!atomic_compare_exchange_weak_explicit(reserved, &now, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    if (berth__tier_registry.tier[id].kind == BERTH_KIND_DEVICE && berth__limit_take(size) < 0) {
        atomic_fetch_sub_explicit(reserved, size, memory_order_relaxed);
        return -EDQUOT;
    }
    atomic_fetch_add_explicit(&berth__tier_stats[id].backend_allocs, 1, memory_order_relaxed);
    return 0;
}

void berth__tier_reserve_beyond(berth_tier_id id, uint64_t size)
{
    atomic_fetch_add_explicit(&berth__tier_stats[id].reserved, size, memory_order_relaxed);
    atomic_fetch_add_explicit(&berth__tier_stats[id].backend_allocs, 1, memory_order_relaxed);
}

void berth__tier_release(berth_tier_id id, uint64_t size)
{
    atomic_fetch_sub_explicit(&berth__tier_stats[id].reserved, size, memory_order_relaxed);
    if (berth__tier_registry.tier[id].kind == BERTH_KIND_DEVICE)
        berth__limit_give(size);
    atomic_fetch_add_explicit(&berth__tier_stats[id].backend_frees, 1, memory_order_relaxed);
}
