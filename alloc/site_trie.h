/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of entries by 64-bit hash, in which nothing ever moves or leaves: a trie that takes six
 * bits of the hash per level. Finding and adding are lock-free, and a reader never sees a table
 * being resized, which is why this is no open-addressing table. Entries of equal hash hang on one
 * chain, oldest first.
 */
#ifndef BERTH_ALLOC_SITE_TRIE_H
#define BERTH_ALLOC_SITE_TRIE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BERTH_SITE_TRIE_BITS 6
#define BERTH_SITE_TRIE_FAN (1u << BERTH_SITE_TRIE_BITS)

/* The first member of whatever is kept in a trie; memory of the site store, or as durable. */
struct berth_site_entry {
    uint64_t hash;
    _Atomic(struct berth_site_entry *) next; /* the next of equal hash */
};

/* Zero-initialised is empty. A slot holds 0, an entry, or a node with its lowest bit set. */
struct berth_site_trie {
    _Atomic uintptr_t slot[BERTH_SITE_TRIE_FAN];
};

/* The oldest entry of this hash, or NULL; follow `next` (acquire) for the others. */
struct berth_site_entry *berth__site_trie_find(const struct berth_site_trie *trie, uint64_t hash);

/*
 * Adds `entry`, whose hash is set and next is NULL, unless one that is the `same` is there. Returns
 * the one that is in the trie then, or NULL when there is no memory.
 */
struct berth_site_entry *berth__site_trie_add(struct berth_site_trie *trie,
                                              struct berth_site_entry *entry,
                                              bool (*same)(const struct berth_site_entry *,
                                                           const struct berth_site_entry *));

#endif
