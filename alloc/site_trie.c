/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/site_trie.h"

#include "alloc/site_store.h"

#include <stddef.h>

#define NODE_MARK ((uintptr_t)1)

struct node {
    _Atomic uintptr_t slot[BERTH_SITE_TRIE_FAN];
};

static unsigned slot_index(uint64_t hash, unsigned shift)
{
    return (unsigned)(hash >> shift) & (BERTH_SITE_TRIE_FAN - 1);
}

static struct node *node_of(uintptr_t value)
{
    return (struct node *)(value & ~NODE_MARK); /* NOLINT: the mark is the lowest bit */
}

struct berth_site_entry *berth__site_trie_find(const struct berth_site_trie *trie, uint64_t hash)
{
    unsigned shift = 0;
    uintptr_t value =
        atomic_load_explicit(&trie->slot[slot_index(hash, shift)], memory_order_acquire);
    struct berth_site_entry *entry;

    while (value & NODE_MARK) {
        shift += BERTH_SITE_TRIE_BITS;
        value = atomic_load_explicit(&node_of(value)->slot[slot_index(hash, shift)],
                                     memory_order_acquire);
    }
    entry = (struct berth_site_entry *)value;
    return entry && entry->hash == hash ? entry : NULL;
}

static struct berth_site_entry *
chain_add(struct berth_site_entry *at, struct berth_site_entry *entry,
          bool (*same)(const struct berth_site_entry *, const struct berth_site_entry *))
{
    for (;;) {
        struct berth_site_entry *next = NULL;

        if (same(at, entry))
            return at;
        if (atomic_compare_exchange_strong_explicit(&at->next, &next, entry, memory_order_acq_rel,
                                                    memory_order_acquire))
            return entry;
        at = next;
    }
}

/* A node that holds `entry` at its level; two entries of unequal hash part at some level. */
static struct node *node_new(struct berth_site_entry *entry, unsigned shift)
{
    struct node *node = berth__site_store_alloc(sizeof(*node));

    if (node)
        atomic_init(&node->slot[slot_index(entry->hash, shift)], (uintptr_t)entry);
    return node;
}

struct berth_site_entry *
berth__site_trie_add(struct berth_site_trie *trie, struct berth_site_entry *entry,
                     bool (*same)(const struct berth_site_entry *, const struct berth_site_entry *))
{
    unsigned shift = 0;
    _Atomic uintptr_t *slot = &trie->slot[slot_index(entry->hash, shift)];

    for (;;) {
        uintptr_t value = atomic_load_explicit(slot, memory_order_acquire);
        struct berth_site_entry *other = (struct berth_site_entry *)value;
        struct node *node;

        if (value & NODE_MARK) {
            shift += BERTH_SITE_TRIE_BITS;
            slot = &node_of(value)->slot[slot_index(entry->hash, shift)];
            continue;
        }
        if (other && other->hash == entry->hash)
            return chain_add(other, entry, same);
        if (!other) {
            if (atomic_compare_exchange_strong_explicit(slot, &value, (uintptr_t)entry,
                                                        memory_order_acq_rel, memory_order_acquire))
                return entry;
            continue;
        }
        node = node_new(other, shift + BERTH_SITE_TRIE_BITS);
        if (!node)
            return NULL;
        /* Whoever loses has lost a node's worth of memory; its next look finds the winner's. */
        atomic_compare_exchange_strong_explicit(slot, &value, (uintptr_t)node | NODE_MARK,
                                                memory_order_acq_rel, memory_order_acquire);
    }
}
