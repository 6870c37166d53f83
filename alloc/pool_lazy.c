/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_lazy.h"

#include "alloc/cache.h"
#include "alloc/options.h"
#include "alloc/order.h"
#include "alloc/pool_class.h"
#include "alloc/pool_lazy_batch.h"
#include "alloc/pool_lazy_cell.h"
#include "alloc/pool_lazy_own.h"
#include "alloc/pool_parts.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"

#include <errno.h>
#include <sched.h>
#include <time.h>

/* Beyond this part of what a pool has reserved an allocation waits for the device. */
#define WAIT_LEAST_SHIFT 6

/*
 * So long may others be asking the driver, who are in the way of a thread that needs memory; and
 * so long if one of them waits, which is a little longer than it does.
 */
#define OTHERS_MAX_NS 100000000
#define OTHERS_WAIT_MAX_NS 1500000000

/* So long at most may the door be shut: see berth__order_await_door(). */
#define DOOR_MAX_NS 10000000000

/* Keeps a pool's context from being destroyed, like bytes on their way to the driver. */
#define HOLD_BYTES 1

/* Written with each point, and beside nothing that is read at each call. */
_Alignas(64) struct berth_lazy_counts berth__lazy_counts;

bool berth__lazy_is_possible(berth_cu_context context, bool is_wanted)
{
    if (!is_wanted && berth__option(BERTH_OPTION_FREE) != BERTH_FREE_LAZY)
        return false;
    return berth__order_is_known(context);
}

uint64_t berth__lazy_room(void)
{
    return berth__lazy_is_tight() ? 0 : berth__option(BERTH_OPTION_WAITING_MAX);
}

static berth_cu_context context_of(const struct berth_pool *pool)
{
    return atomic_load_explicit(&pool->context, memory_order_relaxed);
}

/*
 * Closes what is open, or only that of `only`, for an allocation: often nothing is at work, and the
 * point has passed when it is asked the first time. True if blocks came free.
 */
static bool close_open(struct berth_pool *pool, struct berth_cache *only)
{
    struct berth_cache *cache = berth__cache_peek(pool);
    uint64_t enough =
        cache && berth__lazy_may_close_own(cache) ? berth__lazy_cell_bytes(&cache->lazy) : 0;
    struct berth_lazy_batch *batch = berth__lazy_batch_begin(pool, only, false);
    struct berth_order_point *point = NULL;
    bool has_passed;
    int r;

    if (!batch)
        return false;
    r = berth__order_record(context_of(pool), &point);
    if (r == 0)
        atomic_fetch_add_explicit(&berth__lazy_counts.points, 1, memory_order_relaxed);
    has_passed = r == 0 && berth__order_query(point) == 1;
    berth__lazy_set_prompt(pool, has_passed);
    if (cache)
        cache->lazy.enough = has_passed ? enough : 0;
    if (has_passed || (r != 0 && r != -EBUSY && berth__order_sync(context_of(pool)) == 0)) {
        batch->point = point;
        return berth__lazy_batch_settle(pool, batch);
    }
    berth__lazy_batch_end(pool, batch, point, NULL);
    return false;
}

/*
 * Closes what is open in a cache, or in all for NULL, with `own`, which the caller holds LEAVING.
 * Where no point can be recorded, the context is synchronised as cuMemFree does; if that fails too,
 * that is the answer, and `own` stays the caller's.
 */
static int close_batch(struct berth_pool *pool, struct berth_cache *only, struct berth_block *own)
{
    struct berth_lazy_batch *batch = berth__lazy_batch_begin(pool, only, true);
    struct berth_order_point *point = NULL;
    int r = -ENOMEM;

    if (batch)
        r = berth__order_record(context_of(pool), &point);
    if (r == 0 || (r == -EBUSY && batch)) {
        berth__lazy_batch_end(pool, batch, point, own);
        atomic_fetch_add_explicit(&berth__lazy_counts.points, r == 0, memory_order_relaxed);
        return 0;
    }
    r = berth__order_sync(context_of(pool));
    if (r < 0) {
        if (batch)
            berth__lazy_batch_end(pool, batch, NULL, NULL);
        return r;
    }
    berth__lazy_batch_pass(pool, batch, own);
    return 0;
}

/* Points pass in the order in which they were recorded, as good as always: stops at the first. */
static bool settle_passed(struct berth_pool *pool)
{
    struct berth_lazy_batch *batch;
    bool any = false;

    while (berth__lazy_batch_bytes(pool) > 0 &&
           (batch = berth__lazy_batch_take_oldest(pool, NULL))) {
        if (berth__order_query(batch->point) != 1) {
            berth__lazy_batch_end(pool, batch, batch->point, NULL);
            break;
        }
        any |= berth__lazy_batch_settle(pool, batch);
    }
    return any;
}

/* The same where what fits best may be any thread's. */
static bool look_tight(struct berth_pool *pool)
{
    bool any;

    if (BERTH_UNLIKELY(atomic_load_explicit(&pool->lazy.has_large, memory_order_relaxed)) &&
        atomic_exchange_explicit(&pool->lazy.has_large, false, memory_order_relaxed))
        return berth__lazy_reclaim(pool, BERTH_LAZY_CLOSE);
    if (berth__lazy_batch_bytes(pool) == 0)
        return false;
    any = settle_passed(pool);
    berth__lazy_set_prompt(pool, berth__lazy_batch_bytes(pool) == 0);
    return any;
}

bool berth__lazy_look_own(struct berth_pool *pool)
{
    struct berth_cache *cache = berth__cache_peek(pool);
    struct berth_lazy_batch *batch;
    bool has_passed;

    if (berth__lazy_is_tight())
        return look_tight(pool);
    batch = cache && berth__lazy_batch_bytes(pool) > 0 ? berth__lazy_batch_take_oldest(pool, cache)
                                                       : NULL;
    if (!batch)
        return false;
    has_passed = berth__order_query(batch->point) == 1;
    berth__lazy_set_prompt(pool, has_passed);
    if (has_passed)
        return berth__lazy_batch_settle(pool, batch);
    berth__lazy_batch_end(pool, batch, batch->point, NULL);
    return false;
}

/*
 * What one thread has waited for in vain may wait for what the program does next: others wait for
 * it only where there is no other memory. 1: blocks came free; 0: none of it was left; or an error.
 */
static int wait_oldest(struct berth_pool *pool, enum berth_patience patience)
{
    struct berth_lazy_batch *batch = berth__lazy_batch_take_oldest(pool, NULL);
    int r;

    if (!batch)
        return -ENOENT;
    if (batch->is_in_vain && patience == BERTH_PATIENCE_SHORT) {
        r = berth__order_query(batch->point) == 1 ? 0 : -ETIMEDOUT;
    } else {
        berth__pool_lock(pool);
        batch->is_awaited = true;
        berth__pool_unlock(pool);
        atomic_fetch_add_explicit(&berth__lazy_counts.waits, 1, memory_order_relaxed);
        r = berth__order_wait(batch->point);
        batch->is_in_vain = r == -ETIMEDOUT;
    }
    if (r == 0)
        return berth__lazy_batch_settle(pool, batch);
    berth__lazy_batch_end(pool, batch, batch->point, NULL);
    return r;
}

static bool is_in_order(const struct berth_block *list)
{
    while (list && list->id & BERTH_BLOCK_ID_IN_ORDER)
        list = list->waiting;
    return !list;
}

/*
 * Whether a cuMemFree may be among what waits in batches, of which another thread may have one. It
 * would natively have waited for as long as the work takes; what was freed in the order of a stream
 * nobody waits for, and memory is out at once where the work waits for the program.
 */
static bool waits_for_free(struct berth_pool *pool)
{
    bool is = false;

    berth__pool_lock(pool);
    for (const struct berth_lazy_batch *batch = pool->lazy.batches; batch && !is;
         batch = batch->next)
        is = batch->is_busy || !is_in_order(batch->blocks);
    berth__pool_unlock(pool);
    return is;
}

/*
 * Keeps what waits in closed batches within its share, however long that takes: all that is waited
 * for was queued before the frees, each of which natively waits for it; but for those in the order
 * of a stream, which do not. Under a capture it cannot be helped.
 */
static void keep_cap(struct berth_pool *pool, uint64_t most, bool may_wait)
{
    int r = 1;

    if (berth__lazy_is_tight())
        look_tight(pool);
    else if (berth__lazy_batch_bytes(pool) > most)
        settle_passed(pool);
    while (may_wait && berth__lazy_batch_bytes(pool) > most && (r > 0 || r == -ETIMEDOUT))
        r = wait_oldest(pool, BERTH_PATIENCE_LONG);
}

/*
 * Which open batches are closed when a block found no room in its thread's: that one, or all where
 * others have most of what is granted, so that a thread that rests does not hold it back.
 */
static struct berth_cache *full_cell(struct berth_cache *cache)
{
    uint64_t granted;
    bool is_starved;

    if (!cache)
        return NULL;
    granted = atomic_load_explicit(&cache->pool->lazy.granted, memory_order_relaxed);
    berth__cache_lock(cache);
    is_starved = berth__lazy_cell_count(cache) < BERTH_LAZY_BLOCKS_FEW &&
                 cache->lazy.granted < granted / BERTH_LAZY_BATCHES_SHARE;
    berth__cache_unlock(cache);
    return is_starved ? NULL : cache;
}

/* As cuMemFree does it: for a block that is too large to wait. */
static int free_now(struct berth_pool *pool, struct berth_block *block)
{
    int r = berth__order_sync(context_of(pool));

    if (r < 0)
        return r;
    berth__lazy_batch_pass(pool, NULL, block);
    return 0;
}

bool berth__lazy_has_room(struct berth_pool *pool, uint64_t size)
{
    uint64_t most = berth__option(BERTH_OPTION_WAITING_MAX);

    if (size > most / BERTH_LAZY_BATCHES_SHARE)
        return false;
    most = berth__lazy_left(most - size, berth__lazy_open_bytes(pool));
    if (berth__lazy_batch_bytes(pool) > most)
        settle_passed(pool);
    return berth__lazy_batch_bytes(pool) <= most;
}

/* Others may be looking at the block's id, see alloc/pool_query.c. */
static void set_id(struct berth_block *block, uint64_t id)
{
    __atomic_store_n(&block->id, id, __ATOMIC_RELAXED);
}

int berth__lazy_free(struct berth_block *block, bool may_wait)
{
    struct berth_pool *pool = block->pool;
    uint64_t most = berth__option(BERTH_OPTION_WAITING_MAX);
    struct berth_cache *cache = berth__cache_of(pool);
    uint64_t size = block->size;
    int r;

    if (BERTH_UNLIKELY(!may_wait))
        set_id(block, block->id | BERTH_BLOCK_ID_IN_ORDER);
    if (BERTH_LIKELY(cache && atomic_load_explicit(&block->flags, memory_order_relaxed) == 0 &&
                     berth__lazy_push(cache, block, most)))
        return 0;
    if (size <= most / BERTH_LAZY_BATCHES_SHARE || !may_wait) {
        keep_cap(pool, berth__lazy_left(berth__lazy_left(most, size), berth__lazy_open_bytes(pool)),
                 may_wait);
        r = close_batch(pool, full_cell(cache), block);
        keep_cap(pool, berth__lazy_left(most, berth__lazy_open_bytes(pool)), may_wait);
    } else {
        r = free_now(pool, block);
    }
    if (r < 0)
        set_id(block, block->id & ~BERTH_BLOCK_ID_IN_ORDER);
    if (r < 0 && !berth__device_speaks_of_capture(r)) {
        berth__pool_lock(pool);
        if (berth__block_state(block) == BERTH_BLOCK_LEAVING)
            berth__block_set_state(block, BERTH_BLOCK_LIVE);
        else
            berth__block_delete(&pool->block_slab, block);
        berth__pool_unlock(pool);
    }
    return r;
}

static uint64_t bytes_locked(struct berth_pool *pool)
{
    uint64_t bytes;

    berth__pool_lock(pool);
    bytes = berth__lazy_bytes(pool);
    berth__pool_unlock(pool);
    return bytes;
}

/* In open batches, closed ones, or since a capture. Without the lock: as of some moment just now.
 */
static bool something_waits(struct berth_pool *pool)
{
    return berth__lazy_batch_bytes(pool) > 0 ||
           atomic_load_explicit(&pool->lazy.granted, memory_order_relaxed) > 0 ||
           atomic_load_explicit(&pool->waiting, memory_order_relaxed);
}

/*
 * What is open in a context of which no point tells everything any more: its frees synchronise by
 * now, and so do those from before.
 */
static bool pass_open(struct berth_pool *pool)
{
    struct berth_lazy_batch *batch = berth__lazy_batch_begin(pool, NULL, false);

    if (!batch)
        return false;
    if (berth__order_sync(context_of(pool)) == 0)
        return berth__lazy_batch_settle(pool, batch);
    berth__lazy_batch_end(pool, batch, NULL, NULL);
    return false;
}

/* Freed during a capture, or closed while one was open. A batch that a thread works on gets one. */
static bool waits_without_point(struct berth_pool *pool)
{
    const struct berth_lazy_batch *batch;
    bool is;

    if (!something_waits(pool))
        return false;
    berth__pool_lock(pool);
    batch = pool->lazy.batches;
    while (batch && (batch->is_busy || batch->point))
        batch = batch->next;
    is = batch || pool->waiting;
    berth__pool_unlock(pool);
    return is;
}

bool berth__lazy_point_waiting(struct berth_pool *pool)
{
    struct berth_order_point *point = NULL;
    struct berth_lazy_batch *batch;
    int r;

    if (!waits_without_point(pool))
        return true;
    if (berth__device_capturing() || !berth__order_is_known(context_of(pool)))
        return false;
    batch = berth__lazy_batch_begin(pool, NULL, false);
    if (!batch)
        return !waits_without_point(pool);
    r = berth__order_record(context_of(pool), &point);
    if (r < 0) {
        berth__lazy_batch_undo(pool, batch);
        return false;
    }
    atomic_fetch_add_explicit(&berth__lazy_counts.points, 1, memory_order_relaxed);
    berth__lazy_batch_end(pool, batch, point, NULL);
    return true;
}

bool berth__lazy_reclaim(struct berth_pool *pool, enum berth_lazy_step step)
{
    bool any;

    if (!something_waits(pool))
        return false;
    switch (step) {
    case BERTH_LAZY_LOOK:
        return berth__lazy_is_tight() ? look_tight(pool)
                                      : berth__lazy_batch_bytes(pool) > 0 && settle_passed(pool);
    case BERTH_LAZY_CLOSE:
        if (berth__device_capturing())
            return false;
        any = berth__order_is_known(context_of(pool)) ? close_open(pool, NULL) : pass_open(pool);
        return settle_passed(pool) || any;
    default:
        return wait_oldest(pool, BERTH_PATIENCE_SHORT) > 0;
    }
}

/* Waiting, or closing small batches, for what cannot be enough helps nobody. */
static bool is_worth_waiting(struct berth_pool *pool, uint64_t size,
                             enum berth_lazy_elsewhere elsewhere)
{
    uint64_t bytes, reserved;

    berth__pool_lock(pool);
    bytes = berth__lazy_bytes(pool);
    reserved = berth__pool_reserved(pool);
    berth__pool_unlock(pool);
    return bytes >= size &&
           (elsewhere == BERTH_LAZY_NOWHERE ||
            (bytes > BERTH_LAZY_WAIT_LEAST && bytes > reserved >> WAIT_LEAST_SHIFT));
}

/* Whether the driver is to be asked for another `size` bytes before a batch is closed. */
static bool is_saving_points(struct berth_pool *pool, uint64_t size)
{
    uint64_t room = berth__lazy_room();
    bool is_saving;

    berth__pool_lock(pool);
    is_saving = berth__lazy_bytes(pool) + size <=
                    atomic_load_explicit(&pool->lazy.allowance, memory_order_relaxed) &&
                size <= room && berth__pool_reserved(pool) <= room - size;
    berth__pool_unlock(pool);
    return is_saving;
}

/* Whether what waits is others' as much as the calling thread's, which is rather to have its own.
 */
static bool is_apart(struct berth_pool *pool, uint64_t size)
{
    const struct berth_cache *own = berth__cache_peek(pool);
    uint64_t others = 0;
    bool is;

    berth__pool_lock(pool);
    for (const struct berth_cache *cache = pool->caches; cache; cache = cache->next)
        if (cache != own)
            others += berth__lazy_cell_bytes(&cache->lazy);
    is = own && others > 0 && berth__cache_is_apart(pool, size);
    if (others > 0 && !is)
        berth__cache_count_collection(pool);
    berth__pool_unlock(pool);
    return is;
}

/* Closes what is open, for a request of `size` bytes. */
static bool close_for(struct berth_pool *pool, uint64_t size)
{
    if (!something_waits(pool))
        return false;
    if (berth__device_capturing() || !berth__order_is_known(context_of(pool)) ||
        !is_apart(pool, size))
        return berth__lazy_reclaim(pool, BERTH_LAZY_CLOSE);
    return close_open(pool, berth__cache_peek(pool)) || settle_passed(pool);
}

bool berth__lazy_take(struct berth_pool *pool, uint64_t size, enum berth_lazy_elsewhere elsewhere,
                      bool (*take)(struct berth_pool *pool, void *argument), void *argument)
{
    if (berth__lazy_reclaim(pool, BERTH_LAZY_LOOK) && take(pool, argument))
        return true;
    if (elsewhere == BERTH_LAZY_CHEAP && !is_worth_waiting(pool, size, elsewhere))
        return false;
    if (elsewhere != BERTH_LAZY_NOWHERE && is_saving_points(pool, size))
        return false;
    if (close_for(pool, size) && take(pool, argument))
        return true;
    while (is_worth_waiting(pool, size, elsewhere) && berth__lazy_reclaim(pool, BERTH_LAZY_WAIT))
        if (take(pool, argument))
            return true;
    return false;
}

/* The pool's context, which nobody destroys before bytes are counted as released; or NULL. */
static berth_cu_context context_hold(struct berth_pool *pool)
{
    berth_cu_context context;

    berth__pool_lock(pool);
    context = berth__pool_may_end(pool) ? NULL : context_of(pool);
    if (context)
        atomic_fetch_add_explicit(&pool->releasing, HOLD_BYTES, memory_order_relaxed);
    berth__pool_unlock(pool);
    return context;
}

static bool reclaim_all(struct berth_pool *pool, enum berth_patience patience)
{
    bool any = berth__lazy_reclaim(pool, BERTH_LAZY_LOOK);

    any |= berth__lazy_reclaim(pool, BERTH_LAZY_CLOSE);
    if (patience == BERTH_PATIENCE_LONG && !waits_for_free(pool))
        patience = BERTH_PATIENCE_SHORT;
    while (wait_oldest(pool, patience) > 0)
        any = true;
    return any;
}

/*
 * How long other threads that ask about what waits, which nobody else can have meanwhile, may take
 * for it; 0: none asks.
 */
static int64_t others_patience(struct berth_pool *pool)
{
    int64_t patience = 0;

    berth__pool_lock(pool);
    for (const struct berth_lazy_batch *batch = pool->lazy.batches; batch; batch = batch->next)
        if (batch->is_busy && patience < OTHERS_WAIT_MAX_NS)
            patience = batch->is_awaited ? OTHERS_WAIT_MAX_NS : OTHERS_MAX_NS;
    for (struct berth_cache *cache = pool->caches; cache && patience == 0; cache = cache->next) {
        berth__cache_lock(cache);
        patience = cache->lazy.closing_bytes > 0 ? OTHERS_MAX_NS : 0;
        berth__cache_unlock(cache);
    }
    berth__pool_unlock(pool);
    return patience;
}

bool berth__lazy_await_others(struct berth_pool *pool)
{
    int64_t begin = 0, waited = 0, patience;
    struct timespec now;
    bool any = false;

    while ((patience = others_patience(pool)) > waited) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        waited = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
        if (begin == 0)
            begin = waited;
        waited -= begin;
        any = true;
        sched_yield();
    }
    return any;
}

bool berth__lazy_reclaim_all(struct berth_pool *pool, enum berth_patience patience)
{
    bool any;

    if (!something_waits(pool) || !context_hold(pool))
        return false;
    /* Memory is wanted elsewhere: nothing more is asked for to save points, until it is learnt
     * anew.
     */
    atomic_store_explicit(&pool->lazy.allowance, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->apart, 0, memory_order_relaxed);
    any = reclaim_all(pool, patience);
    berth__pool_count_released(pool, HOLD_BYTES);
    return any;
}

/* Whether points may be asked about, and a thread that did not learn enough has waited for them. */
static bool door_is_open(void)
{
    bool is_open = berth__order_enter();

    if (is_open)
        berth__order_leave();
    return is_open;
}

bool berth__lazy_settle(struct berth_pool *pool)
{
    if (berth__device_capturing() || bytes_locked(pool) == 0 ||
        (door_is_open() && !waits_without_point(pool)))
        return false;
    return berth__order_await_door(DOOR_MAX_NS) &&
           berth__lazy_reclaim_all(pool, BERTH_PATIENCE_LONG);
}

bool berth__lazy_reclaim_relaxed(struct berth_pool *pool, bool may_wait)
{
    struct berth_lazy_batch *batch;
    bool any = false;
    int r;

    if (berth__lazy_batch_bytes(pool) == 0 || !context_hold(pool))
        return false;
    while ((batch = berth__lazy_batch_take_oldest(pool, NULL))) {
        if (may_wait)
            r = berth__order_wait_relaxed(batch->point);
        else
            r = berth__order_query_relaxed(batch->point) == 1 ? 0 : -EBUSY;
        if (r < 0) {
            berth__lazy_batch_end(pool, batch, batch->point, NULL);
            break;
        }
        any |= berth__lazy_batch_settle(pool, batch);
    }
    berth__pool_count_released(pool, HOLD_BYTES);
    return any;
}

void berth__lazy_reclaim_pools(void)
{
    if (berth__pool_disabled() || berth__device_capturing())
        return;
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next)
        berth__lazy_reclaim_all(pool, BERTH_PATIENCE_LONG);
}

void berth__lazy_drop(struct berth_pool *pool)
{
    struct berth_lazy_batch *next;

    for (struct berth_cache *cache = pool->caches; cache; cache = cache->next) {
        berth__cache_lock(cache);
        berth__lazy_cell_drop(cache);
        berth__cache_unlock(cache);
    }
    atomic_store_explicit(&pool->lazy.allowance, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->apart, 0, memory_order_relaxed);
    pool->lazy.small_closes = 0;
    for (struct berth_lazy_batch *batch = pool->lazy.batches; batch; batch = next) {
        next = batch->next;
        berth__lazy_batch_empty(pool, batch);
        if (!batch->is_busy)
            berth__order_done(berth__lazy_batch_delete(pool, batch));
    }
}

void berth__lazy_remove(struct berth_pool *pool, const struct berth_block *block)
{
    struct berth_block *waiting = pool->waiting;
    bool found = berth__lazy_list_remove(&waiting, block);

    if (found)
        pool->waiting = waiting;

    for (struct berth_lazy_batch *batch = pool->lazy.batches; batch && !found;
         batch = batch->next) {
        found = berth__lazy_list_remove(&batch->blocks, block);
        if (found) {
            batch->bytes -= block->size;
            atomic_fetch_sub(&pool->lazy.batch_bytes, block->size);
        }
    }
    for (struct berth_cache *cache = pool->caches; cache && !found; cache = cache->next) {
        berth__cache_lock(cache);
        found = berth__lazy_cell_remove(cache, block);
        berth__cache_unlock(cache);
    }
}

uint64_t berth__lazy_bytes(const struct berth_pool *pool)
{
    uint64_t bytes = berth__lazy_batch_bytes(pool);

    for (const struct berth_cache *cache = pool->caches; cache; cache = cache->next)
        bytes += berth__lazy_cell_bytes(&cache->lazy);
    return bytes;
}

uint64_t berth__lazy_waiting(int device)
{
    uint64_t bytes = 0;

    if (berth__pool_disabled())
        return 0;
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next)
        if ((device == BERTH_POOL_ALL_DEVICES || atomic_load(&pool->device) == device) &&
            berth__tier(atomic_load(&pool->tier))->kind != BERTH_KIND_SHARED)
            bytes += bytes_locked(pool);
    return bytes;
}

uint64_t berth__lazy_waiting_tier(berth_tier_id tier)
{
    uint64_t bytes = 0;

    if (berth__pool_disabled())
        return 0;
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next)
        if (atomic_load(&pool->tier) == tier)
            bytes += bytes_locked(pool);
    return bytes;
}
