/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_stream_set.h"

#include "alloc/limit.h"

#include <sched.h>

/* A block may be larger than the request by this fraction of it: an eighth. */
#define WASTE_SHIFT 3
/* Blocks of one class that are looked at: beyond it any that fits is as good. */
#define LOOK_MAX 64

/* Numbers for blocks that a set takes at once. */
#define IDS 4096

static inline void set_lock(struct berth_stream_set *set)
{
    /* Sequentially consistent for berth__stream_now(). */
    while (BERTH_UNLIKELY(atomic_exchange(&set->lock, 1) != 0))
        sched_yield();
}

static inline void set_unlock(struct berth_stream_set *set)
{
    atomic_store_explicit(&set->lock, 0, memory_order_release);
}

static inline void set_count(struct berth_stream_set *set, uint64_t cached)
{
    set->cached = cached;
    if (cached < set->cached_low)
        set->cached_low = cached;
    atomic_store_explicit(&set->part.cached, cached, memory_order_relaxed);
}

static struct berth_stream_block *unlink_block(struct berth_stream_set *set, unsigned class,
                                               struct berth_stream_block **link)
{
    struct berth_stream_block *block = *link;

    *link = block->next;
    if (!set->first[class])
        set->filled[class / 64] &= ~((uint64_t)1 << (class % 64));
    set_count(set, set->cached - berth__stream_block_size(block));
    return block;
}

/* The smallest block of the class between the two sizes; of equal ones the one freed last. */
static struct berth_stream_block *class_take(struct berth_stream_set *set, unsigned class,
                                             uint64_t size, uint64_t most)
{
    struct berth_stream_block **best = NULL, **link = &set->first[class];

    for (unsigned looked = 0; *link && looked < LOOK_MAX; link = &(*link)->next, looked++) {
        uint64_t room = berth__stream_block_size(*link);

        if (room == size) {
            best = link;
            break;
        }
        if (room > size && room <= most && (!best || room < berth__stream_block_size(*best)))
            best = link;
    }
    return best ? unlink_block(set, class, best) : NULL;
}

/* With the lock held. Where the process or the tag has a limit, nothing of it is to be wasted. */
static struct berth_stream_block *take(struct berth_stream_set *set, uint64_t size,
                                       enum berth_tag tag)
{
    unsigned class = berth__size_class(size), last;
    struct berth_stream_block *block = set->first[class];
    uint64_t most;

    if (BERTH_LIKELY(block && berth__stream_block_size(block) == size))
        return unlink_block(set, class, &set->first[class]);
    block = NULL;
    most = berth__limit_is_set(tag) || size > UINT64_MAX - (size >> WASTE_SHIFT)
               ? size
               : size + (size >> WASTE_SHIFT);
    for (last = berth__size_class(most & ~(BERTH_GRANULE - 1)); !block && class <= last; class += 1)
        if ((set->filled[class / 64] >> (class % 64)) & 1)
            block = class_take(set, class, size, most);
    return block;
}

static void put(struct berth_stream_set *set, struct berth_stream_block *block)
{
    unsigned class = berth__size_class(berth__stream_block_size(block));

    block->next = set->first[class];
    set->first[class] = block;
    set->filled[class / 64] |= (uint64_t)1 << (class % 64);
    set_count(set, set->cached + berth__stream_block_size(block));
    if (BERTH_UNLIKELY(!set->is_listed && set->listed_in[0])) {
        set->is_listed = true;
        for (unsigned i = 0; i < 2; i++)
            atomic_fetch_add_explicit(set->listed_in[i], 1, memory_order_release);
    }
}

void berth__stream_set_unlist(struct berth_stream_set *set)
{
    set_lock(set);
    if (set->is_listed && set->cached == 0) {
        set->is_listed = false;
        for (unsigned i = 0; i < 2; i++)
            atomic_fetch_sub_explicit(set->listed_in[i], 1, memory_order_relaxed);
    }
    set_unlock(set);
}

/* With the lock held: the block is the program's. */
static void hand_out(struct berth_stream_set *set, struct berth_stream_block *block,
                     const struct berth_pool_request *request)
{
    if (BERTH_UNLIKELY(set->next_id == set->last_id)) {
        set->next_id = berth__block_ids(IDS);
        set->last_id = set->next_id + IDS;
    }
    atomic_store_explicit(&block->id, set->next_id++, memory_order_relaxed);
    atomic_store_explicit(&block->requested, request->size, memory_order_relaxed);
    atomic_store_explicit(&block->tag, (uint8_t)request->tag, memory_order_relaxed);
    atomic_store_explicit(&block->site, request->site, memory_order_relaxed);
    atomic_store_explicit(&block->rule, request->rule, memory_order_relaxed);
    atomic_store_explicit(&block->table_version, request->table_version, memory_order_relaxed);
    atomic_store_explicit(&block->tagged_by, (uint8_t)request->tagged_by, memory_order_relaxed);
    if (BERTH_UNLIKELY(request->site != 0))
        berth__stream_site_enter(block);
    if (BERTH_UNLIKELY(request->follow != NULL))
        berth__stream_class_enter(block, request);
    atomic_store_explicit(&block->state, BERTH_STREAM_BLOCK_LIVE, memory_order_release);
    berth__stats_part_alloc(&set->part, request->tag, request->size,
                            berth__stream_block_size(block));
}

struct berth_stream_block *berth__stream_set_take(struct berth_stream_set *set, uint64_t size,
                                                  enum berth_tag tag)
{
    struct berth_stream_block *block;

    set_lock(set);
    block = take(set, size, tag);
    set_unlock(set);
    return block;
}

void berth__stream_set_put(struct berth_stream_set *set, struct berth_stream_block *block)
{
    set_lock(set);
    put(set, block);
    set_unlock(set);
}

struct berth_stream_block *berth__stream_set_serve(struct berth_stream_set *set, uint64_t size,
                                                   const struct berth_pool_request *request)
{
    struct berth_stream_block *block;

    set_lock(set);
    block = take(set, size, request->tag);
    if (block)
        hand_out(set, block, request);
    set_unlock(set);
    return block;
}

void berth__stream_set_hand_out(struct berth_stream_set *set, struct berth_stream_block *block,
                                const struct berth_pool_request *request)
{
    set_lock(set);
    hand_out(set, block, request);
    set_unlock(set);
}

void berth__stream_set_take_back(struct berth_stream_set *set, struct berth_stream_block *block)
{
    berth__stream_class_leave(block);
    set_lock(set);
    berth__stats_part_free(&set->part,
                           (enum berth_tag)atomic_load_explicit(&block->tag, memory_order_relaxed),
                           atomic_load_explicit(&block->requested, memory_order_relaxed),
                           berth__stream_block_size(block));
    berth__stream_site_leave(block);
    block->freed = berth__stream_now();
    put(set, block);
    set_unlock(set);
}

struct berth_stream_block *berth__stream_set_drain(struct berth_stream_set *set, uint64_t need)
{
    struct berth_stream_block *list = NULL;
    uint64_t bytes = 0;

    set_lock(set);
    /* Large ones first: few calls, and small ones are most likely to be needed again. */
    for (unsigned left = BERTH_SIZE_CLASS_COUNT; left > 0 && bytes < need; left--) {
        unsigned class = left - 1;

        while (set->first[class] && bytes < need) {
            struct berth_stream_block *block = unlink_block(set, class, &set->first[class]);

            bytes += berth__stream_block_size(block);
            block->next = list;
            list = block;
        }
    }
    set_unlock(set);
    return list;
}

struct berth_stream_block *berth__stream_set_drain_done(struct berth_stream_set *set, uint64_t need,
                                                        uint64_t before)
{
    struct berth_stream_block *list = NULL;
    uint64_t bytes = 0;

    set_lock(set);
    for (unsigned left = BERTH_SIZE_CLASS_COUNT; left > 0 && bytes < need; left--) {
        unsigned class = left - 1;
        struct berth_stream_block **link = &set->first[class];

        while (*link && bytes < need) {
            struct berth_stream_block *block = *link;

            if (block->freed >= before) {
                link = &block->next;
                continue;
            }
            unlink_block(set, class, link);
            bytes += berth__stream_block_size(block);
            block->next = list;
            list = block;
        }
    }
    set_unlock(set);
    return list;
}

unsigned berth__stream_set_look(struct berth_stream_set *set, unsigned most,
                                struct berth_stream_span *ret)
{
    unsigned count = 0;

    set_lock(set);
    for (unsigned left = set->cached > 0 ? BERTH_SIZE_CLASS_COUNT : 0; left > 0; left--) {
        const struct berth_stream_block *block = set->first[left - 1];

        for (; block && count < most; block = block->next) {
            uintptr_t base = block->segment.base;

            ret[count++] = (struct berth_stream_span){base, base + block->segment.size};
        }
    }
    set_unlock(set);
    return count;
}

uint64_t berth__stream_set_cached(struct berth_stream_set *set, uint64_t *ret_low)
{
    uint64_t cached;

    set_lock(set);
    cached = set->cached;
    *ret_low = set->cached_low;
    set->cached_low = cached;
    set_unlock(set);
    return cached;
}
