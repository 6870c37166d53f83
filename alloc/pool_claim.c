/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_claim.h"

#include <errno.h>

static uintptr_t end_of(const struct berth_block *block)
{
    return berth__block_address(block) + block->size;
}

static bool is_hole(const struct berth_block *block)
{
    return berth__block_state(block) == BERTH_BLOCK_HOLE;
}

/* Whether a place may use it. */
static bool is_usable(const struct berth_block *block)
{
    return block && (is_hole(block) || berth__block_state(block) == BERTH_BLOCK_FREE);
}

void berth__hole_remove(struct berth_pool *pool, struct berth_block *block)
{
    if (block->left)
        block->left->right = block->right;
    else
        pool->holes = block->right;
    if (block->right)
        block->right->left = block->left;
}

static void hole_insert(struct berth_pool *pool, struct berth_block *block)
{
    block->left = NULL;
    block->right = pool->holes;
    if (block->right)
        block->right->left = block;
    pool->holes = block;
}

/* `next`, of the same kind and in no list, goes into `block`. */
static void absorb(struct berth_pool *pool, struct berth_block *block, struct berth_block *next)
{
    block->segment->used_blocks--;
    berth__segment_merge(block, next);
    berth__block_delete(&pool->block_slab, next);
}

void berth__hole_put(struct berth_pool *pool, struct berth_block *block)
{
    struct berth_block *prev = block->prev;

    berth__block_set_state(block, BERTH_BLOCK_HOLE);
    if (block->next && is_hole(block->next)) {
        berth__hole_remove(pool, block->next);
        absorb(pool, block, block->next);
    }
    if (prev && is_hole(prev)) {
        berth__hole_remove(pool, prev);
        absorb(pool, prev, block);
        block = prev;
    }
    hole_insert(pool, block);
}

/* The end of the whole pages that [.., end) touches. */
static uintptr_t page_ceiling(const struct berth_range *range, uintptr_t end)
{
    uint64_t mask = berth__range_page_size(range) - 1;

    return range->base + (uintptr_t)((end - range->base + mask) & ~mask);
}

static uintptr_t page_floor(const struct berth_range *range, uintptr_t start)
{
    return range->base + (uintptr_t)((start - range->base) & ~(berth__range_page_size(range) - 1));
}

/*
 * How many empty pages [start, start + size) has, where `block` contains its start; UINT64_MAX
 * where something else is in the way.
 */
static uint64_t empty_pages(const struct berth_range *range, const struct berth_block *block,
                            uintptr_t start, uint64_t size)
{
    uintptr_t end = start + size;
    uint64_t pages = 0;

    for (; start < end; start = end_of(block), block = block->next) {
        uintptr_t stop;

        if (!is_usable(block))
            return UINT64_MAX;
        stop = end < end_of(block) ? end : end_of(block);
        if (is_hole(block))
            pages += (page_ceiling(range, stop) - page_floor(range, start)) >> range->page_shift;
    }
    return pages;
}

static void consider(const struct berth_range *range, struct berth_block *block, uintptr_t start,
                     struct berth_place *best)
{
    uint64_t pages = empty_pages(range, block, start, best->size);

    if (pages < best->empty_pages || (pages == best->empty_pages && start < best->start)) {
        best->empty_pages = pages;
        best->start = start;
        best->block = block;
    }
}

/* The place that ends where `block` does. */
static void consider_before(const struct berth_range *range, struct berth_block *block,
                            struct berth_place *best)
{
    uintptr_t end = end_of(block);

    if (end - range->base < best->size)
        return;
    while (is_usable(block) && end - berth__block_address(block) < best->size)
        block = block->prev;
    if (is_usable(block))
        consider(range, block, end - best->size, best);
}

/*
 * The bytes of free blocks and holes side by side, of which `hole` is one, and the first of them; 0
 * unless it is the first hole among them. Two free blocks are never neighbours, nor two holes.
 */
static uint64_t run_of(struct berth_block *hole, struct berth_block **ret_first)
{
    struct berth_block *first = is_usable(hole->prev) ? hole->prev : hole;
    uint64_t size = 0;

    if (first != hole && first->prev && is_hole(first->prev))
        return 0;
    for (const struct berth_block *block = first; is_usable(block); block = block->next)
        size += block->size;
    *ret_first = first;
    return size;
}

/* The smallest run with a hole that has room, the lowest of equals; UINT64_MAX: there is none. */
static uint64_t run_fit(const struct berth_pool *pool, uint64_t size,
                        struct berth_block **ret_first)
{
    uint64_t smallest = UINT64_MAX;

    for (struct berth_block *hole = pool->holes; hole; hole = hole->right) {
        struct berth_block *first = NULL;
        uint64_t run = run_of(hole, &first);

        if (run < size || run > smallest ||
            (run == smallest && berth__block_address(first) > berth__block_address(*ret_first)))
            continue;
        smallest = run;
        *ret_first = first;
    }
    return smallest;
}

static bool is_beside_hole(const struct berth_block *block)
{
    return (block->prev && is_hole(block->prev)) || (block->next && is_hole(block->next));
}

struct berth_block *berth__place_fit(struct berth_pool *pool, uint64_t size)
{
    struct berth_block *block = berth__free_set_fit(&pool->shared, size), *first = NULL;
    uint64_t run;

    if (!block || (block->size == size && !is_beside_hole(block)))
        return block;
    run = run_fit(pool, size, &first);
    while (block && block->size <= run && is_beside_hole(block))
        block = berth__free_set_fit(&pool->shared, block->size + BERTH_GRANULE);
    if (block && block->size <= run)
        return block;
    /* The smallest run may begin with memory enough. */
    return run != UINT64_MAX && !is_hole(first) && first->size >= size ? first : NULL;
}

/* At the begin of the smallest run: what is left of it stays in one piece. */
static void find_in_run(struct berth_pool *pool, struct berth_place *best)
{
    struct berth_block *first;

    if (run_fit(pool, best->size, &first) != UINT64_MAX)
        consider(pool->range->range, first, berth__block_address(first), best);
}

/* Where the fewest pages are empty, at either end of a hole or of a run. */
static void find_fullest(struct berth_pool *pool, struct berth_place *best)
{
    const struct berth_range *range = pool->range->range;

    for (struct berth_block *hole = pool->holes; hole; hole = hole->right) {
        struct berth_block *prev = is_usable(hole->prev) ? hole->prev : hole;
        struct berth_block *next = is_usable(hole->next) ? hole->next : hole;

        consider(range, prev, berth__block_address(prev), best);
        consider_before(range, next, best);
        if (prev != hole)
            consider(range, hole, berth__block_address(hole), best);
        if (next != hole)
            consider_before(range, hole, best);
    }
}

int berth__place_find(struct berth_pool *pool, uint64_t size, bool is_tight,
                      struct berth_place *ret)
{
    struct berth_place best = {.size = size, .empty_pages = UINT64_MAX};

    /* From here on no sum wraps. */
    if (size > pool->range->range->size)
        return -ENOMEM;
    if (is_tight)
        find_fullest(pool, &best);
    else
        find_in_run(pool, &best);
    if (best.empty_pages == UINT64_MAX)
        return -ENOMEM;
    *ret = best;
    return 0;
}

/* Takes a piece out of its set or list. */
static void piece_claim(struct berth_pool *pool, struct berth_block *block)
{
    if (is_hole(block)) {
        berth__hole_remove(pool, block);
        return;
    }
    berth__free_set_remove(&pool->shared, block);
    berth__pool_count_cached(pool, -block->size);
    block->segment->used_blocks++;
}

/* Puts a piece that was claimed back where it was. */
static void piece_put(struct berth_pool *pool, struct berth_block *block, bool was_hole)
{
    if (was_hole)
        berth__hole_put(pool, block);
    else
        berth__pool_put(pool, block);
}

/* Cuts a claimed piece in two; both count as used. */
static void piece_split(struct berth_block *block, uint64_t size, struct berth_block *rest,
                        enum berth_block_state state)
{
    berth__segment_split(block, size, rest);
    berth__block_set_state(rest, state);
    block->segment->used_blocks++;
}

/*
 * Claims the part of `block` that the place needs, whole pages of a hole; what is before it and
 * behind it stays as it is. Takes the records that it needs from *spare.
 */
static struct berth_block *part_claim(struct berth_pool *pool, const struct berth_place *place,
                                      struct berth_block *block, struct berth_block **spare)
{
    const struct berth_range *range = pool->range->range;
    bool was_hole = is_hole(block);
    uintptr_t start = place->start, end = place->start + place->size;

    if (was_hole) {
        start = page_floor(range, start);
        end = page_ceiling(range, end);
    }
    piece_claim(pool, block);
    berth__block_set_state(block, BERTH_BLOCK_MOVING);
    if (end < end_of(block)) {
        struct berth_block *rest = *spare;

        *spare = rest->waiting;
        piece_split(block, end - berth__block_address(block), rest, BERTH_BLOCK_MOVING);
        piece_put(pool, rest, was_hole);
    }
    if (start > berth__block_address(block)) {
        struct berth_block *rest = *spare;

        *spare = rest->waiting;
        piece_split(block, start - berth__block_address(block), rest, BERTH_BLOCK_MOVING);
        piece_put(pool, block, was_hole);
        block = rest;
    }
    return block;
}

/* `count` records, or NULL. */
static struct berth_block *records_new(struct berth_pool *pool, unsigned count)
{
    struct berth_block *list = NULL;

    while (count-- > 0) {
        struct berth_block *block = berth__block_new(&pool->block_slab, pool);

        if (!block) {
            while (list) {
                block = list->waiting;
                berth__block_delete(&pool->block_slab, list);
                list = block;
            }
            return NULL;
        }
        block->waiting = list;
        list = block;
    }
    return list;
}

static void records_delete(struct berth_pool *pool, struct berth_block *list)
{
    while (list) {
        struct berth_block *next = list->waiting;

        berth__block_delete(&pool->block_slab, list);
        list = next;
    }
}

int berth__place_claim(struct berth_pool *pool, struct berth_place *place)
{
    struct berth_block *spare = records_new(pool, 2), *block = place->block, *part;
    uintptr_t end = place->start + place->size;

    if (!spare)
        return -ENOBUFS;
    place->block = NULL;
    place->claimed = 0;
    do {
        part = part_claim(pool, place, block, &spare);
        if (!place->block)
            place->block = part;
        place->claimed += part->size;
        block = part->next;
    } while (end_of(part) < end);
    records_delete(pool, spare);
    return 0;
}

/* What is left of the claim beside the block becomes free. Without a record it is the block's. */
static struct berth_block *place_trim(struct berth_pool *pool, const struct berth_place *place,
                                      struct berth_block *block)
{
    uintptr_t end = place->start + place->size;
    struct berth_block *rest;

    if (end < end_of(block)) {
        rest = berth__block_new(&pool->block_slab, pool);
        if (rest) {
            piece_split(block, end - berth__block_address(block), rest, BERTH_BLOCK_MOVING);
            berth__pool_put(pool, rest);
        }
    }
    if (berth__block_address(block) < place->start) {
        rest = berth__block_new(&pool->block_slab, pool);
        if (rest) {
            piece_split(block, place->start - berth__block_address(block), rest,
                        BERTH_BLOCK_MOVING);
            berth__pool_put(pool, block);
            block = rest;
        }
    }
    return block;
}

struct berth_block *berth__place_settle(struct berth_pool *pool, const struct berth_place *place,
                                        bool is_filled)
{
    struct berth_block *block = place->block, *next;
    const struct berth_range *range = pool->range->range;
    uint64_t left = place->claimed;

    if (is_filled) {
        while (block->size < place->claimed)
            absorb(pool, block, block->next);
        block = place_trim(pool, place, block);
        block->segment->used_blocks--;
        berth__pool_count_cached(pool, block->size);
        return block;
    }
    for (; left > 0; block = next) {
        uint64_t page = berth__range_page(range, berth__block_address(block));

        next = block->next;
        left -= block->size;
        piece_put(pool, block, !(range->state[page] & BERTH_PAGE_OPEN));
    }
    return NULL;
}

/* Cuts `count` pages out of a free block, the last ones; NULL without records for it. */
static struct berth_block *victim_claim(struct berth_pool *pool, struct berth_block *block,
                                        uint64_t count)
{
    const struct berth_range *range = pool->range->range;
    struct berth_block *spare = records_new(pool, 2);
    struct berth_place place = {.size = count << range->page_shift};

    if (!spare)
        return NULL;
    place.start = page_floor(range, end_of(block)) - place.size;
    block = part_claim(pool, &place, block, &spare);
    records_delete(pool, spare);
    return block;
}

struct berth_block *berth__victims_claim(struct berth_pool *pool, uint64_t pages)
{
    struct berth_range *range = pool->range->range;
    struct berth_block *victims = NULL, *block = berth__free_set_last(&pool->shared), *next,
                       *victim;

    for (; block && pages > 0 && block->size >= berth__range_page_size(range); block = next) {
        uint64_t first, count;

        next = berth__free_set_before(&pool->shared, block);
        if (block->segment != pool->range)
            continue;
        count = berth__range_pages(range, berth__block_address(block), block->size, &first);
        if (count > pages)
            count = pages;
        victim = count > 0 ? victim_claim(pool, block, count) : NULL;
        if (!victim)
            continue;
        berth__range_close(range, berth__range_page(range, berth__block_address(victim)), count);
        victim->waiting = victims;
        victims = victim;
        pages -= count;
    }
    return victims;
}

struct berth_block *berth__kept_claim(struct berth_pool *pool, struct berth_block *victims)
{
    struct berth_range *range = pool->range->range;
    struct berth_block *hole = pool->holes, *next;

    if (!atomic_exchange_explicit(&range->has_kept, false, memory_order_relaxed))
        return victims;
    for (; hole; hole = next) {
        next = hole->right;
        if (!berth__range_has_memory(range, berth__range_page(range, berth__block_address(hole)),
                                     hole->size >> range->page_shift))
            continue;
        berth__hole_remove(pool, hole);
        berth__block_set_state(hole, BERTH_BLOCK_MOVING);
        hole->waiting = victims;
        victims = hole;
    }
    return victims;
}

void berth__victims_take_away(struct berth_range *range, struct berth_block *victims)
{
    for (; victims; victims = victims->waiting)
        berth__range_take_away(range, berth__range_page(range, berth__block_address(victims)),
                               victims->size >> range->page_shift);
}

uint64_t berth__victims_release(struct berth_range *range, struct berth_block *victims)
{
    uint64_t released = 0;

    for (; victims; victims = victims->waiting)
        released +=
            berth__range_release(range, berth__range_page(range, berth__block_address(victims)),
                                 victims->size >> range->page_shift);
    return released;
}

void berth__victims_settle(struct berth_pool *pool, struct berth_block *victims)
{
    struct berth_block *next;

    for (; victims; victims = next) {
        next = victims->waiting;
        berth__hole_put(pool, victims);
    }
}

void berth__place_abandon(struct berth_pool *pool, const struct berth_place *place)
{
    struct berth_block *block = place->block, *next;

    for (uint64_t left = place->claimed; left > 0; block = next) {
        next = block->next;
        left -= block->size;
        berth__block_delete(&pool->block_slab, block);
    }
}

void berth__victims_abandon(struct berth_pool *pool, struct berth_block *victims)
{
    records_delete(pool, victims);
}
