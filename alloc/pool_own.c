/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_own.h"

#include "alloc/device_pages.h"
#include "alloc/limit.h"
#include "alloc/options.h"

/* A pool may have so much more in any case, unless the option is 0. */
#define SPARE_LEAST (256 * BERTH_MIB)
/*
 * It earns all that the option allows by so many times that it had to grow although less lived than
 * once before. Replayed: with all of it from the beginning, it keeps up to a 50th more in the end.
 */
#define MISSES_MAX 50
/*
 * Blocks in use may hold so much, of what ever lived, beyond what they need. Replayed: with a
 * seventh the driver is asked a tenth more often; with a half, no less often.
 */
#define OVERHEAD_DIVISOR 4
/*
 * And none does once so much of the device ever lived: what blocks hold beyond what they need is
 * lost to a program that comes to need all of it, which is a 16th then at most.
 */
#define DEVICE_DIVISOR 4

/* With the lock held: what the pool may have with `need` bytes more. */
static uint64_t reserved_most(struct berth_pool *pool, uint64_t need)
{
    uint64_t before = pool->live_max, live_max = berth__pool_live_max(pool, need), spare;
    uint64_t percent = berth__option(BERTH_OPTION_SPARE);

    if (live_max == before && pool->misses < MISSES_MAX)
        pool->misses++;
    spare = live_max / 100 * percent / MISSES_MAX * pool->misses;
    if (percent > 0 && spare < SPARE_LEAST)
        spare = SPARE_LEAST;
    return live_max + spare;
}

/* With the lock held: one that is larger than is good for anything but to be in use again. */
static struct berth_block *take_larger(struct berth_pool *pool, uint64_t size)
{
    struct berth_block *block = berth__free_set_fit(&pool->whole, size);
    uint64_t more = block ? block->size - berth__pool_driver_size(size) : 0;

    if (!block || block->size / 2 > size ||
        pool->overhead + more > pool->live_max / OVERHEAD_DIVISOR)
        return NULL;
    berth__free_set_remove(&pool->whole, block);
    return block;
}

/* Without the lock: whether blocks may hold more than they need: nobody is to lack it later on. */
static bool can_spare(const struct berth_pool *pool, enum berth_tag tag, uint64_t live_max)
{
    uint64_t total;

    return !berth__limit_is_set(tag) &&
           (berth__device_total(atomic_load_explicit(&pool->device, memory_order_relaxed), &total) <
                0 ||
            live_max <= total / DEVICE_DIVISOR);
}

static bool hand_out_larger(struct berth_pool *pool, const struct berth_pool_request *request,
                            uint64_t size, uintptr_t *ret_address)
{
    struct berth_block *block;

    berth__pool_lock(pool);
    block = take_larger(pool, size);
    if (block) {
        berth__pool_hand_out(pool, block, request);
        *ret_address = berth__block_address(block);
    }
    berth__pool_unlock(pool);
    return block != NULL;
}

bool berth__own_make_room(struct berth_pool *pool, const struct berth_pool_request *request,
                          uint64_t size, uint64_t need, bool is_whole, uintptr_t *ret_address)
{
    uint64_t most, with_need, live_max;

    berth__pool_lock(pool);
    most = reserved_most(pool, need);
    with_need = berth__pool_reserved(pool) + need;
    live_max = pool->live_max;
    berth__pool_unlock(pool);
    if (with_need <= most)
        return false;
    if (is_whole && can_spare(pool, request->tag, live_max) &&
        hand_out_larger(pool, request, size, ret_address))
        return true;
    berth__pool_release_oldest(pool, with_need - most);
    return false;
}
