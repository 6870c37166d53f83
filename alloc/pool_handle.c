/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_handle.h"

#include "alloc/block_slab.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

/* One piece of memory. Alive while anything refers to it. */
struct berth_handle_node {
    uint64_t size;
    uint64_t uses; /* references, mappings, and calls that are about to end one */
    const void *context;
    berth_tier_id tier;
    uint8_t tag;
};

/* A name of a node, or a mapping of it. */
struct entry {
    uint64_t key;  /* handle, or address */
    uint64_t size; /* of a mapping */
    uint64_t references;
    struct berth_handle_node *node;
    bool is_leaving; /* the driver is being asked to unmap it */
};

/* Entries ordered by key, in OS pages of our own: programs have thousands, and few calls. */
struct list {
    struct entry *entries;
    size_t count, capacity;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list named[BERTH_HANDLE_KINDS], mapped;
static struct berth_slab slab;
static atomic_bool disabled;

#define LIST_CAPACITY_FIRST 128

/* The first entry whose key is not below `key`. */
static size_t list_search(const struct list *list, uint64_t key)
{
    size_t low = 0, high = list->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (list->entries[middle].key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct entry *list_find(struct list *list, uint64_t key)
{
    size_t at = list_search(list, key);

    return at < list->count && list->entries[at].key == key ? &list->entries[at] : NULL;
}

static bool list_grow(struct list *list)
{
    size_t capacity = list->capacity ? 2 * list->capacity : LIST_CAPACITY_FIRST;
    struct entry *entries = berth__slab_map(capacity * sizeof(*entries));

    if (!entries)
        return false;
    if (list->count > 0)
        memcpy(entries, list->entries, list->count * sizeof(*entries));
    berth__slab_unmap(list->entries, list->capacity * sizeof(*entries));
    list->entries = entries;
    list->capacity = capacity;
    return true;
}

static bool list_add(struct list *list, const struct entry *entry)
{
    size_t at;

    if (list->count == list->capacity && !list_grow(list))
        return false;
    at = list_search(list, entry->key);
    memmove(&list->entries[at + 1], &list->entries[at],
            (list->count - at) * sizeof(list->entries[0]));
    list->entries[at] = *entry;
    list->count++;
    return true;
}

static void list_remove(struct list *list, struct entry *entry)
{
    size_t at = (size_t)(entry - list->entries);

    memmove(entry, entry + 1, (list->count - at - 1) * sizeof(*entry));
    list->count--;
}

static void node_unuse(struct berth_handle_node *node, uint64_t uses)
{
    node->uses -= uses;
    if (node->uses > 0)
        return;
    berth__stats_free(node->tier, (enum berth_tag)node->tag, node->size, node->size);
    berth__tier_release(node->tier, node->size);
    berth__slab_delete(&slab, node);
}

static bool is_disabled(void)
{
    return atomic_load_explicit(&disabled, memory_order_relaxed);
}

/* An older entry by the same key is of memory that went by a way without a hook. */
static void forget_stale(struct list *list, uint64_t key)
{
    struct entry *entry = list_find(list, key);
    struct berth_handle_node *node;
    uint64_t references;

    if (!entry)
        return;
    node = entry->node;
    references = entry->references;
    list_remove(list, entry);
    node_unuse(node, references);
}

static bool add(const struct berth_handle *handle)
{
    struct berth_handle_node *node = berth__slab_new(&slab, sizeof(*node));
    const struct entry entry = {.key = handle->value, .references = 1, .node = node};

    if (!node)
        return false;
    forget_stale(&named[handle->kind], handle->value);
    if (!list_add(&named[handle->kind], &entry)) {
        berth__slab_delete(&slab, node);
        return false;
    }
    *node = (struct berth_handle_node){
        .size = handle->size,
        .uses = 1,
        .context = handle->context,
        .tier = handle->tier,
        .tag = (uint8_t)handle->tag,
    };
    berth__stats_alloc(handle->tier, handle->tag, handle->size, handle->size);
    return true;
}

void berth__handle_add(const struct berth_handle *handle)
{
    bool is_added = false;

    if (!is_disabled() && handle->size > 0) {
        pthread_mutex_lock(&lock);
        is_added = add(handle);
        pthread_mutex_unlock(&lock);
    }
    if (!is_added)
        berth__tier_release(handle->tier, handle->size);
}

void berth__handle_begin(enum berth_handle_kind kind, uint64_t value, struct berth_handle_end *ret)
{
    struct entry *entry;

    *ret = (struct berth_handle_end){.kind = kind, .value = value};
    if (is_disabled())
        return;
    pthread_mutex_lock(&lock);
    entry = list_find(&named[kind], value);
    if (entry) {
        ret->node = entry->node;
        if (--entry->references == 0)
            list_remove(&named[kind], entry);
    }
    pthread_mutex_unlock(&lock);
}

void berth__handle_end(const struct berth_handle_end *end)
{
    if (!end->node)
        return;
    pthread_mutex_lock(&lock);
    node_unuse(end->node, 1);
    pthread_mutex_unlock(&lock);
}

void berth__handle_undo(const struct berth_handle_end *end)
{
    const struct entry again = {.key = end->value, .references = 1, .node = end->node};
    struct entry *entry;

    if (!end->node)
        return;
    pthread_mutex_lock(&lock);
    entry = list_find(&named[end->kind], end->value);
    if (entry && entry->node == end->node)
        entry->references++;
    else if (entry || !list_add(&named[end->kind], &again))
        node_unuse(end->node, 1);
    pthread_mutex_unlock(&lock);
}

void berth__handle_map(uint64_t value, uintptr_t address, uint64_t size)
{
    struct entry *entry;

    if (is_disabled())
        return;
    pthread_mutex_lock(&lock);
    entry = list_find(&named[BERTH_HANDLE_MEMORY], value);
    if (entry) {
        const struct entry mapping = {
            .key = address, .size = size, .references = 1, .node = entry->node};

        entry->node->uses++;
        forget_stale(&mapped, address);
        if (!list_add(&mapped, &mapping))
            mapping.node->uses--;
    }
    pthread_mutex_unlock(&lock);
}

/* The mapping that contains the address, or NULL. */
static struct entry *mapping_at(uintptr_t address)
{
    size_t at = list_search(&mapped, address);
    struct entry *entry;

    if (at == mapped.count || mapped.entries[at].key != address) {
        if (at == 0)
            return NULL;
        at--;
    }
    entry = &mapped.entries[at];
    return address - entry->key < entry->size ? entry : NULL;
}

void berth__handle_retained(uint64_t value, uintptr_t address)
{
    const struct entry *mapping;
    struct entry *entry;

    if (is_disabled())
        return;
    pthread_mutex_lock(&lock);
    mapping = mapping_at(address);
    entry = list_find(&named[BERTH_HANDLE_MEMORY], value);
    if (mapping && entry && entry->node == mapping->node) {
        entry->references++;
        entry->node->uses++;
    } else if (mapping && !entry) {
        const struct entry name = {.key = value, .references = 1, .node = mapping->node};

        if (list_add(&named[BERTH_HANDLE_MEMORY], &name))
            name.node->uses++;
    }
    pthread_mutex_unlock(&lock);
}

static void mark_mappings(uintptr_t address, uint64_t size, bool is_leaving)
{
    if (is_disabled())
        return;
    pthread_mutex_lock(&lock);
    for (size_t i = list_search(&mapped, address);
         i < mapped.count && mapped.entries[i].key - address < size; i++)
        mapped.entries[i].is_leaving = is_leaving;
    pthread_mutex_unlock(&lock);
}

void berth__handle_unmap_begin(uintptr_t address, uint64_t size)
{
    mark_mappings(address, size, true);
}

void berth__handle_unmap_undo(uintptr_t address, uint64_t size)
{
    mark_mappings(address, size, false);
}

void berth__handle_unmap_end(uintptr_t address, uint64_t size)
{
    if (is_disabled())
        return;
    pthread_mutex_lock(&lock);
    for (size_t i = list_search(&mapped, address);
         i < mapped.count && mapped.entries[i].key - address < size;) {
        struct berth_handle_node *node = mapped.entries[i].node;

        /* Somebody may have mapped other memory there already. */
        if (!mapped.entries[i].is_leaving) {
            i++;
            continue;
        }
        list_remove(&mapped, &mapped.entries[i]);
        node_unuse(node, 1);
    }
    pthread_mutex_unlock(&lock);
}

void berth__handle_drop(const void *context)
{
    struct list *arrays = &named[BERTH_HANDLE_ARRAY];

    if (!context || is_disabled())
        return;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < arrays->count;) {
        struct entry *entry = &arrays->entries[i];
        struct berth_handle_node *node = entry->node;

        if (node->context != context) {
            i++;
            continue;
        }
        /* An array has one reference, always. */
        list_remove(arrays, entry);
        node_unuse(node, 1);
    }
    pthread_mutex_unlock(&lock);
}

void berth__handle_disable(void)
{
    atomic_store(&disabled, true);
}
