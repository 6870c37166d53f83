/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/block.h"

#include "alloc/block_index.h"

#define FILLED_WORDS (sizeof(((struct berth_free_set *)0)->filled) / sizeof(uint64_t))

uint64_t berth__block_ids(uint64_t count)
{
    /* Far above the driver's own small numbers, so that the two never meet. */
    static _Atomic uint64_t next_id = (uint64_t)1 << 62;

    return atomic_fetch_add_explicit(&next_id, count, memory_order_relaxed);
}

struct berth_block *berth__block_new(struct berth_slab *slab, struct berth_pool *pool)
{
    return berth__block_new_near(slab, pool, NULL);
}

struct berth_block *berth__block_new_near(struct berth_slab *slab, struct berth_pool *pool,
                                          struct berth_slab_run *run)
{
    struct berth_block *block;

    if (berth__block_index_promise() < 0)
        return NULL;
    block = run ? berth__slab_take_near(slab, run, sizeof(*block))
                : berth__slab_take(slab, sizeof(*block));
    if (!block) {
        berth__block_index_unpromise();
        return NULL;
    }
    /* Readers that are late may look at the key and the pool, and at nothing else. */
    block->prev = NULL;
    block->next = NULL;
    if (block->pool != pool)
        block->pool = pool;
    block->requested = 0;
    block->id = 0;
    block->is_whole = false;
    block->rounding = 0;
    atomic_store_explicit(&block->class_number, 0, memory_order_relaxed);
    atomic_store_explicit(&block->flags, 0, memory_order_relaxed);
    return block;
}

void berth__block_delete(struct berth_slab *slab, struct berth_block *block)
{
    atomic_store_explicit(&block->key, 0, memory_order_release);
    berth__slab_delete(slab, block);
    berth__block_index_unpromise();
}

static inline uint64_t priority(const struct berth_block *block)
{
    uint64_t hash = berth__block_address(block) * 0x9e3779b97f4a7c15u;

    return hash ^ (hash >> 29);
}

static inline bool orders_before(const struct berth_block *a, const struct berth_block *b)
{
    return a->size != b->size ? a->size < b->size
                              : berth__block_address(a) < berth__block_address(b);
}

void berth__free_set_insert(struct berth_free_set *set, struct berth_block *block)
{
    unsigned class = berth__size_class(block->size);
    struct berth_block **link = &set->root[class];
    struct berth_block **left = &block->left, **right = &block->right;
    struct berth_block *rest;

    while (*link && priority(*link) >= priority(block))
        link = orders_before(block, *link) ? &(*link)->left : &(*link)->right;
    rest = *link;
    *link = block;
    /* What was below the new place is split around the new block. */
    while (rest) {
        if (orders_before(rest, block)) {
            *left = rest;
            left = &rest->right;
            rest = *left;
        } else {
            *right = rest;
            right = &rest->left;
            rest = *right;
        }
    }
    *left = NULL;
    *right = NULL;
    set->filled[class / 64] |= (uint64_t)1 << (class % 64);
}

void berth__free_set_remove(struct berth_free_set *set, struct berth_block *block)
{
    unsigned class = berth__size_class(block->size);
    struct berth_block **link = &set->root[class];
    struct berth_block *left = block->left, *right = block->right;

    while (*link != block)
        link = orders_before(block, *link) ? &(*link)->left : &(*link)->right;
    while (left && right) {
        if (priority(left) >= priority(right)) {
            *link = left;
            link = &left->right;
            left = *link;
        } else {
            *link = right;
            link = &right->left;
            right = *link;
        }
    }
    *link = left ? left : right;
    block->left = NULL;
    block->right = NULL;
    if (!set->root[class])
        set->filled[class / 64] &= ~((uint64_t)1 << (class % 64));
}

/* The first class that is not empty, from `class` on; BERTH_SIZE_CLASS_COUNT if there is none. */
static unsigned next_filled(const struct berth_free_set *set, unsigned class)
{
    uint64_t word;
    unsigned at = class / 64;

    if (class >= BERTH_SIZE_CLASS_COUNT)
        return BERTH_SIZE_CLASS_COUNT;
    word = set->filled[at] & (~(uint64_t)0 << (class % 64));
    while (word == 0) {
        if (++at == FILLED_WORDS)
            return BERTH_SIZE_CLASS_COUNT;
        word = set->filled[at];
    }
    return at * 64 + (unsigned)__builtin_ctzll(word);
}

static struct berth_block *tree_fit(struct berth_block *block, uint64_t size)
{
    struct berth_block *best = NULL;

    while (block) {
        if (block->size >= size) {
            best = block;
            block = block->left;
        } else {
            block = block->right;
        }
    }
    return best;
}

struct berth_block *berth__free_set_fit(const struct berth_free_set *set, uint64_t size)
{
    unsigned class = berth__size_class(size);
    struct berth_block *best = tree_fit(set->root[class], size);

    if (best)
        return best;
    class = next_filled(set, class + 1);
    return class == BERTH_SIZE_CLASS_COUNT ? NULL : tree_fit(set->root[class], size);
}

static struct berth_block *tree_last(struct berth_block *block)
{
    while (block && block->right)
        block = block->right;
    return block;
}

/* The last block of the highest class below `class` that is not empty. */
static struct berth_block *last_below(const struct berth_free_set *set, unsigned class)
{
    while (class -- > 0)
        if (set->root[class])
            return tree_last(set->root[class]);
    return NULL;
}

struct berth_block *berth__free_set_last(const struct berth_free_set *set)
{
    return last_below(set, BERTH_SIZE_CLASS_COUNT);
}

struct berth_block *berth__free_set_before(const struct berth_free_set *set,
                                           const struct berth_block *block)
{
    unsigned class = berth__size_class(block->size);
    struct berth_block *at = set->root[class], *best = NULL;

    while (at) {
        if (orders_before(at, block)) {
            best = at;
            at = at->right;
        } else {
            at = at->left;
        }
    }
    return best ? best : last_below(set, class);
}

struct berth_block *berth__free_set_below(const struct berth_free_set *set, uint64_t size)
{
    unsigned class = berth__size_class(size);
    struct berth_block *at = set->root[class], *best = NULL;

    while (at) {
        if (at->size < size) {
            best = at;
            at = at->right;
        } else {
            at = at->left;
        }
    }
    return best ? best : last_below(set, class);
}

static bool tree_is_valid(const struct berth_block *block, unsigned class)
{
    if (!block)
        return true;
    if (berth__block_state(block) != BERTH_BLOCK_FREE || berth__size_class(block->size) != class)
        return false;
    if (block->left &&
        (!orders_before(block->left, block) || priority(block->left) > priority(block)))
        return false;
    if (block->right &&
        (!orders_before(block, block->right) || priority(block->right) > priority(block)))
        return false;
    return tree_is_valid(block->left, class) && tree_is_valid(block->right, class);
}

bool berth__free_set_is_valid(const struct berth_free_set *set)
{
    for (unsigned class = 0; class < BERTH_SIZE_CLASS_COUNT; class ++) {
        bool filled = (set->filled[class / 64] >> (class % 64)) & 1;

        if (filled != (set->root[class] != NULL) || !tree_is_valid(set->root[class], class))
            return false;
    }
    return true;
}
