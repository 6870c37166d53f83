/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/page_map.h"

#include "alloc/block_slab.h"
#include "alloc/size_class.h"
#include "alloc/types.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#define NODE_SHIFT 11
#define NODE_ENTRIES (1u << NODE_SHIFT)
#define NODE_MASK (NODE_ENTRIES - 1)
#define ROOT_SHIFT (4 * NODE_SHIFT) /* 5 levels: 55 bits of granule number */

_Static_assert(ROOT_SHIFT + NODE_SHIFT + BERTH_GRANULE_SHIFT == 64, "every address has an entry");

/* 0: nothing; lowest bit set: the segment at entry - 1; else the node below. */
struct node {
    _Atomic uintptr_t entry[NODE_ENTRIES];
};

static struct node root;
static pthread_mutex_t map_lock = PTHREAD_MUTEX_INITIALIZER;

static inline uintptr_t entry_load(const struct node *node, unsigned index)
{
    return atomic_load_explicit(&node->entry[index], memory_order_acquire);
}

static inline void entry_store(struct node *node, unsigned index, uintptr_t value)
{
    atomic_store_explicit(&node->entry[index], value, memory_order_release);
}

static inline struct berth_segment *entry_segment(uintptr_t entry)
{
    return (struct berth_segment *)(entry - 1);
}

struct berth_segment *berth__page_map_find(uintptr_t address)
{
    uint64_t granule = (uint64_t)address >> BERTH_GRANULE_SHIFT;
    const struct node *node = &root;

    for (int shift = ROOT_SHIFT;; shift -= NODE_SHIFT) {
        uintptr_t entry = entry_load(node, (unsigned)(granule >> shift) & NODE_MASK);

        if (entry == 0)
            return NULL;
        if (entry & 1)
            return entry_segment(entry);
        node = (const struct node *)entry;
    }
}

/* The first segment of the node's entries from that of `granule` on. */
static struct berth_segment *node_next(const struct node *node, int shift, uint64_t granule)
{
    for (unsigned i = (unsigned)(granule >> shift) & NODE_MASK; i < NODE_ENTRIES; i++) {
        uintptr_t entry = entry_load(node, i);
        struct berth_segment *found = NULL;

        if (entry & 1)
            found = entry_segment(entry);
        else if (entry != 0)
            found = node_next((const struct node *)entry, shift - NODE_SHIFT, granule);
        if (found)
            return found;
        granule = 0; /* all that is below the next entry */
    }
    return NULL;
}

struct berth_segment *berth__page_map_next(uintptr_t address)
{
    return node_next(&root, ROOT_SHIFT, (uint64_t)address >> BERTH_GRANULE_SHIFT);
}

/* One writer's errand: granules first..last change from `from` to `to`. */
struct change {
    uint64_t first, last;
    uintptr_t from, to;
    uintptr_t other; /* the entry that was in the way */
};

static int node_change(struct node *node, int shift, uint64_t first, uint64_t last,
                       struct change *change);

/* The part [first, last] of the granules of one entry. */
static int entry_change(struct node *node, unsigned index, int shift, uint64_t first, uint64_t last,
                        struct change *change)
{
    uint64_t below = ((uint64_t)1 << shift) - 1;
    bool all = (first & below) == 0 && (last & below) == below;
    uintptr_t entry = entry_load(node, index);

    if (all && entry == change->from) {
        entry_store(node, index, change->to);
        return 0;
    }
    if (entry & 1) {
        change->other = entry;
        return change->to == 0 ? 0 : -EEXIST;
    }
    if (entry == 0) {
        struct node *made;

        if (change->to == 0)
            return 0;
        made = berth__slab_map(sizeof(*made));
        if (!made)
            return -ENOMEM;
        entry = (uintptr_t)made;
        entry_store(node, index, entry);
    }
    return node_change((struct node *)entry, shift - NODE_SHIFT, first, last, change);
}

static int node_change(struct node *node, int shift, uint64_t first, uint64_t last,
                       struct change *change)
{
    uint64_t below = ((uint64_t)1 << shift) - 1;

    for (;;) {
        uint64_t end = first | below;
        int r;

        if (end > last)
            end = last;
        r = entry_change(node, (unsigned)(first >> shift) & NODE_MASK, shift, first, end, change);
        if (r < 0)
            return r;
        if (end == last)
            return 0;
        first = end + 1;
    }
}

static struct change change_make(uintptr_t base, uint64_t size, uintptr_t from, uintptr_t to)
{
    return (struct change){
        .first = (uint64_t)base >> BERTH_GRANULE_SHIFT,
        .last = ((uint64_t)base + (size - 1)) >> BERTH_GRANULE_SHIFT,
        .from = from,
        .to = to,
    };
}

int berth__page_map_insert(uintptr_t base, uint64_t size, struct berth_segment *segment,
                           struct berth_segment **ret_other)
{
    struct change add = change_make(base, size, 0, (uintptr_t)segment | 1);
    struct change undo = change_make(base, size, (uintptr_t)segment | 1, 0);
    int r;

    if (size == 0 || (uint64_t)base + (size - 1) < base)
        return -EINVAL;
    pthread_mutex_lock(&map_lock);
    r = node_change(&root, ROOT_SHIFT, add.first, add.last, &add);
    if (r < 0)
        node_change(&root, ROOT_SHIFT, undo.first, undo.last, &undo);
    pthread_mutex_unlock(&map_lock);
    if (r == -EEXIST)
        *ret_other = entry_segment(add.other);
    return r;
}

void berth__page_map_remove(uintptr_t base, uint64_t size, struct berth_segment *segment)
{
    struct change undo = change_make(base, size, (uintptr_t)segment | 1, 0);

    pthread_mutex_lock(&map_lock);
    node_change(&root, ROOT_SHIFT, undo.first, undo.last, &undo);
    pthread_mutex_unlock(&map_lock);
}

/* Whether the segment is that of all granules first..last of the node. */
static bool node_covers(const struct node *node, int shift, uint64_t first, uint64_t last,
                        const struct berth_segment *segment)
{
    uint64_t below = ((uint64_t)1 << shift) - 1;

    for (;;) {
        uintptr_t entry = entry_load(node, (unsigned)(first >> shift) & NODE_MASK);
        uint64_t end = (first | below) < last ? first | below : last;

        if (entry & 1 ? entry_segment(entry) != segment
                      : entry == 0 || !node_covers((const struct node *)entry, shift - NODE_SHIFT,
                                                   first, end, segment))
            return false;
        if (end == last)
            return true;
        first = end + 1;
    }
}

bool berth__page_map_covers(uintptr_t base, uint64_t size, const struct berth_segment *segment)
{
    uint64_t last = (uint64_t)base + (size - 1);

    if (!node_covers(&root, ROOT_SHIFT, (uint64_t)base >> BERTH_GRANULE_SHIFT,
                     last >> BERTH_GRANULE_SHIFT, segment))
        return false;
    return (base < BERTH_GRANULE || berth__page_map_find(base - BERTH_GRANULE) != segment) &&
           (last > UINT64_MAX - BERTH_GRANULE ||
            berth__page_map_find((uintptr_t)(last + BERTH_GRANULE)) != segment);
}
