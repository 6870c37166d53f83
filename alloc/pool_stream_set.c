/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_stream_set.h"

#include <sched.h>

/* A block may be larger than the request by this fraction of it: an eighth. */
#define WASTE_SHIFT 3
/* Blocks of one class that are looked at: beyond it any that fits is as good. */
#define LOOK_MAX 64

static void set_lock(struct berth_stream_set *set)
{
    while (BERTH_UNLIKELY(atomic_flag_test_and_set_explicit(&set->lock, memory_order_acquire)))
        sched_yield();
}

static void set_unlock(struct berth_stream_set *set)
{
    atomic_flag_clear_explicit(&set->lock, memory_order_release);
}

static struct berth_stream_block *unlink_block(struct berth_stream_set *set, unsigned class,
                                               struct berth_stream_block **link)
{
    struct berth_stream_block *block = *link;

    *link = block->next;
    if (!set->first[class])
        set->filled[class / 64] &= ~((uint64_t)1 << (class % 64));
    set->cached -= berth__stream_block_size(block);
    if (set->cached < set->cached_low)
        set->cached_low = set->cached;
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

struct berth_stream_block *berth__stream_set_take(struct berth_stream_set *set, uint64_t size)
{
    uint64_t most = size > UINT64_MAX - (size >> WASTE_SHIFT) ? size : size + (size >> WASTE_SHIFT);
    unsigned class = berth__size_class(size), last = berth__size_class(most & ~(BERTH_GRANULE - 1));
    struct berth_stream_block *block = NULL;

    set_lock(set);
    for (; !block && class <= last; class ++)
        if ((set->filled[class / 64] >> (class % 64)) & 1)
            block = class_take(set, class, size, most);
    set_unlock(set);
    return block;
}

void berth__stream_set_put(struct berth_stream_set *set, struct berth_stream_block *block)
{
    unsigned class = berth__size_class(berth__stream_block_size(block));

    set_lock(set);
    block->next = set->first[class];
    set->first[class] = block;
    set->filled[class / 64] |= (uint64_t)1 << (class % 64);
    set->cached += berth__stream_block_size(block);
    set_unlock(set);
}

struct berth_stream_block *berth__stream_set_drain(struct berth_stream_set *set, uint64_t need)
{
    struct berth_stream_block *list = NULL;
    uint64_t bytes = 0;

    set_lock(set);
    /* Large ones first: few calls, and small ones are most likely to be needed again. */
    for (unsigned class = BERTH_SIZE_CLASS_COUNT; class -- > 0 && bytes < need;) {
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
