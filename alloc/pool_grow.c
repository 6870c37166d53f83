/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/options.h"
#include "alloc/page_map.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_parts.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"

#include <errno.h>
#include <time.h>

/* A smaller segment would waste device memory: the driver takes that much for it. */
#define SEGMENT_SIZE_MIN BERTH_DRIVER_PIECE

/*
 * How long a thread that needs memory waits for others that are giving it back: cuMemFree waits
 * for the device, and the program would not have been refused natively. Not for ever, because the
 * device may be waiting for this very thread.
 */
#define RELEASE_WAIT_MAX_S 10

#define RELEASE_ALL UINT64_MAX /* bytes */

/* A segment to be: everything that can fail for want of host memory is had before the driver. */
struct growth {
    struct berth_segment *segment;
    struct berth_block *block;
    uint64_t size;
    uint64_t generation; /* the pool's, when the driver was asked */
};

static void growth_undo(struct berth_pool *pool, struct growth *growth)
{
    struct berth_block **index = growth->segment ? growth->segment->index : NULL;

    berth__pool_lock(pool);
    if (growth->block)
        berth__slab_delete(&pool->block_slab, growth->block);
    if (growth->segment)
        berth__slab_delete(&pool->segment_slab, growth->segment);
    berth__pool_unlock(pool);
    berth__slab_unmap(index, berth__segment_index_size(growth->size));
}

static int growth_prepare(struct berth_pool *pool, uint64_t size, bool is_whole,
                          struct growth *growth)
{
    struct berth_segment *segment;

    berth__pool_lock(pool);
    *growth = (struct growth){
        .segment = berth__slab_new(&pool->segment_slab, sizeof(struct berth_segment)),
        .block = berth__slab_new(&pool->block_slab, sizeof(struct berth_block)),
        .size = size,
        .generation = pool->generation,
    };
    berth__pool_unlock(pool);
    segment = growth->segment;
    if (!segment || !growth->block)
        goto undo;
    segment->size = size;
    segment->pool = pool;
    segment->kind = is_whole ? BERTH_SEGMENT_WHOLE : BERTH_SEGMENT_SHARED;
    if (!is_whole) {
        segment->index = berth__slab_map(berth__segment_index_size(size));
        if (!segment->index)
            goto undo;
    }
    return 0;
undo:
    growth_undo(pool, growth);
    return -ENOBUFS;
}

static void list_add(struct berth_pool *pool, struct berth_segment *segment)
{
    segment->prev = NULL;
    segment->next = pool->segments;
    if (segment->next)
        segment->next->prev = segment;
    pool->segments = segment;
    if (segment->kind == BERTH_SEGMENT_SHARED)
        pool->shared_reserved += segment->size;
}

static void list_remove(struct berth_pool *pool, struct berth_segment *segment)
{
    if (segment->prev)
        segment->prev->next = segment->next;
    else
        pool->segments = segment->next;
    if (segment->next)
        segment->next->prev = segment->prev;
    if (segment->kind == BERTH_SEGMENT_SHARED)
        pool->shared_reserved -= segment->size;
}

void berth__pool_delete_segment(struct berth_pool *pool, struct berth_segment *segment)
{
    struct berth_block *block = segment->first;

    while (block) {
        struct berth_block *next = block->next;

        block->state = BERTH_BLOCK_FREE;
        block->id = 0;
        berth__slab_delete(&pool->block_slab, block);
        block = next;
    }
    berth__slab_unmap(segment->index, berth__segment_index_size(segment->size));
    segment->index = NULL;
    berth__slab_delete(&pool->segment_slab, segment);
}

static void waiting_remove(struct berth_pool *pool, const struct berth_block *block)
{
    struct berth_block **link = &pool->waiting;

    while (*link && *link != block)
        link = &(*link)->waiting;
    if (*link)
        *link = block->waiting;
}

void berth__pool_forget_segment(struct berth_pool *pool, struct berth_segment *segment)
{
    struct berth_free_set *set =
        segment->kind == BERTH_SEGMENT_WHOLE ? &pool->whole : &pool->shared;

    if (segment->is_mapped)
        berth__page_map_remove(segment->base, segment->size, segment);
    for (struct berth_block *block = segment->first; block; block = block->next) {
        switch (block->state) {
        case BERTH_BLOCK_FREE:
            berth__free_set_remove(set, block);
            berth__pool_count_cached(pool, -block->size);
            break;
        case BERTH_BLOCK_WAITING:
            waiting_remove(pool, block);
            break;
        default:
            berth__stats_free(pool->tier, (enum berth_tag)block->tag, block->requested,
                              block->size);
            break;
        }
    }
    list_remove(pool, segment);
    berth__tier_release(pool->tier, segment->size);
    berth__pool_delete_segment(pool, segment);
}

/*
 * The driver gave out an address that some segment still claims: that segment's context was
 * destroyed in a way that no hook saw.
 */
static void forget_stale(struct berth_segment *segment)
{
    struct berth_pool *pool = segment->pool;

    if (!pool) {
        berth__foreign_forget(segment);
        return;
    }
    berth__pool_lock(pool);
    if (segment->is_mapped && berth__page_map_find(segment->base) == segment)
        berth__pool_forget_segment(pool, segment);
    berth__pool_unlock(pool);
}

/* Enters the segment that the driver gave, and leaves with the lock held if that worked. */
static int growth_enter(struct berth_pool *pool, struct growth *growth, uintptr_t base)
{
    struct berth_segment *segment = growth->segment;

    segment->base = base;
    for (;;) {
        struct berth_segment *other = NULL;
        int r;

        berth__pool_lock(pool);
        if (pool->generation != growth->generation) {
            berth__pool_unlock(pool);
            return -ESTALE;
        }
        r = berth__page_map_insert(base, segment->size, segment, &other);
        if (r == 0) {
            segment->is_mapped = true;
            return 0;
        }
        berth__pool_unlock(pool);
        if (r != -EEXIST)
            return r;
        forget_stale(other);
    }
}

/* Adds a segment of `size` bytes and hands its first block out. -ENOMEM, -ENOSPC, -ENOBUFS, ... */
static int grow_by(struct berth_pool *pool, const struct berth_pool_request *request,
                   uint64_t block_size, uint64_t size, bool is_whole, bool is_captured,
                   uintptr_t *ret_address)
{
    struct growth growth;
    struct berth_block *block;
    uintptr_t base = 0;
    int r = growth_prepare(pool, size, is_whole, &growth);

    if (r < 0)
        return r;
    r = berth__tier_reserve(pool->tier, size);
    if (r < 0)
        goto undo_prepare;
    r = berth__device_alloc(size, &base);
    if (r < 0)
        goto undo_reserve;
    if ((base & (BERTH_GRANULE - 1)) != 0 || growth_enter(pool, &growth, base) < 0) {
        /* The memory is good, only the records are not: it is the program's, without an account. */
        berth__tier_release(pool->tier, size);
        growth_undo(pool, &growth);
        *ret_address = base;
        return 0;
    }
    /* The whole segment is one free block at first; the request is cut from it. */
    berth__segment_place(growth.segment, growth.block, NULL, base, size);
    list_add(pool, growth.segment);
    growth.segment->used_blocks++;
    berth__pool_put(pool, growth.block);
    block = growth.block;
    berth__free_set_remove(is_whole ? &pool->whole : &pool->shared, block);
    if (block->size > block_size && !is_whole) {
        struct berth_block *rest = berth__slab_new(&pool->block_slab, sizeof(*rest));

        if (rest) {
            berth__segment_split(block, block_size, rest);
            berth__free_set_insert(&pool->shared, rest);
        }
    }
    berth__pool_hand_out(pool, block, request);
    if (is_captured)
        block->flags = BERTH_BLOCK_CAPTURED;
    *ret_address = block->address;
    berth__pool_unlock(pool);
    return 0;

undo_reserve:
    berth__tier_release(pool->tier, size);
undo_prepare:
    growth_undo(pool, &growth);
    return r;
}

/*
 * Segments that are shared double from 2 MiB to the option segment-size, so that a small program
 * takes little and a large one asks seldom.
 */
static uint64_t shared_segment_size(struct berth_pool *pool, uint64_t block_size)
{
    uint64_t limit = berth__option(BERTH_OPTION_SEGMENT_SIZE);
    uint64_t size;

    berth__pool_lock(pool);
    size = pool->shared_reserved;
    berth__pool_unlock(pool);
    if (size > limit)
        size = limit;
    if (size < block_size)
        size = block_size;
    return berth__pool_driver_size(size < SEGMENT_SIZE_MIN ? SEGMENT_SIZE_MIN : size);
}

static bool is_out_of_memory(int r)
{
    return r == -ENOMEM || r == -ENOSPC;
}

/* Blocks that wait since a capture come free by a synchronisation, when no capture is open. */
static bool settle_waiting(struct berth_pool *pool)
{
    berth_cu_context context = atomic_load_explicit(&pool->context, memory_order_relaxed);
    uint64_t epoch;
    bool is_waiting;

    berth__pool_lock(pool);
    is_waiting = pool->waiting != NULL;
    epoch = pool->wait_epoch++;
    berth__pool_unlock(pool);
    if (!is_waiting || berth__device_capturing() || berth__device_sync(context) < 0)
        return false;
    berth__pool_lock(pool);
    berth__pool_settle(pool, epoch);
    berth__pool_unlock(pool);
    return true;
}

static bool take_cached(struct berth_pool *pool, const struct berth_pool_request *request,
                        uint64_t size, bool is_whole, uintptr_t *ret_address)
{
    struct berth_block *block;

    berth__pool_lock(pool);
    block = berth__pool_take(pool, size, is_whole);
    if (block) {
        berth__pool_hand_out(pool, block, request);
        *ret_address = block->address;
    }
    berth__pool_unlock(pool);
    return block != NULL;
}

static uint64_t release_for(struct berth_pool *pool, int error, uint64_t size, uint64_t need);

int berth__pool_grow(struct berth_pool *pool, const struct berth_pool_request *request,
                     uint64_t size, bool is_whole, bool is_captured, uintptr_t *ret_address)
{
    uint64_t least =
        berth__pool_driver_size(is_whole || size > SEGMENT_SIZE_MIN ? size : SEGMENT_SIZE_MIN);
    uint64_t target = is_whole ? least : shared_segment_size(pool, size);
    int r = grow_by(pool, request, size, target, is_whole, is_captured, ret_address);

    if (is_out_of_memory(r) && !is_captured && settle_waiting(pool) &&
        take_cached(pool, request, size, is_whole, ret_address))
        return 0;
    if (is_out_of_memory(r) && least < target)
        r = grow_by(pool, request, size, least, is_whole, is_captured, ret_address);
    while (is_out_of_memory(r) && release_for(pool, r, size, least) > 0)
        r = grow_by(pool, request, size, least, is_whole, is_captured, ret_address);
    /* At the very end the block alone may still find room. */
    if (is_out_of_memory(r) && size < least)
        r = grow_by(pool, request, size, size, is_whole, is_captured, ret_address);
    return r == -ENOBUFS ? BERTH_POOL_FORWARD : r;
}

/* Takes the segment of a free block that fills it out of all books but the account's `reserved`. */
static void detach(struct berth_pool *pool, struct berth_segment *segment,
                   struct berth_free_set *set, struct berth_segment **list)
{
    berth__free_set_remove(set, segment->first);
    berth__pool_count_cached(pool, -segment->size);
    berth__page_map_remove(segment->base, segment->size, segment);
    segment->is_mapped = false;
    list_remove(pool, segment);
    segment->next = *list;
    *list = segment;
    atomic_fetch_add_explicit(&pool->releasing, segment->size, memory_order_relaxed);
}

/*
 * Detaches cached segments of at least `need` bytes together if there are so many: the smallest
 * that is enough alone; else from the oldest on, which the program is least likely to need again.
 */
static struct berth_segment *detach_cached(struct berth_pool *pool, uint64_t need)
{
    struct berth_block *enough =
        need == RELEASE_ALL ? NULL : berth__free_set_fit(&pool->whole, need);
    struct berth_segment *list = NULL;
    struct berth_segment *segment = pool->segments, *prev;

    if (enough) {
        detach(pool, enough->segment, &pool->whole, &list);
        return list;
    }
    while (segment && segment->next)
        segment = segment->next;
    for (uint64_t bytes = 0; segment && bytes < need; segment = prev) {
        prev = segment->prev;
        if (segment->used_blocks > 0)
            continue;
        bytes += segment->size;
        detach(pool, segment, segment->kind == BERTH_SEGMENT_WHOLE ? &pool->whole : &pool->shared,
               &list);
    }
    return list;
}

/* The driver kept the segment: it is cached again, unless its context has gone meanwhile. */
static void attach_again(struct berth_pool *pool, struct berth_segment *segment,
                         uint64_t generation)
{
    struct berth_segment *other = NULL;

    if (pool->generation != generation ||
        berth__page_map_insert(segment->base, segment->size, segment, &other) < 0) {
        berth__tier_release(pool->tier, segment->size);
        berth__pool_delete_segment(pool, segment);
        return;
    }
    segment->is_mapped = true;
    list_add(pool, segment);
    berth__free_set_insert(segment->kind == BERTH_SEGMENT_WHOLE ? &pool->whole : &pool->shared,
                           segment->first);
    berth__pool_count_cached(pool, segment->size);
}

/* Threads that wait for others to give memory back. */
static pthread_mutex_t release_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t release_done = PTHREAD_COND_INITIALIZER;
static uint64_t releases; /* that are done. Synchronization: release_lock */

static void count_released(struct berth_pool *pool, uint64_t size)
{
    pthread_mutex_lock(&release_lock);
    atomic_fetch_sub_explicit(&pool->releasing, size, memory_order_relaxed);
    releases++;
    pthread_cond_broadcast(&release_done);
    pthread_mutex_unlock(&release_lock);
}

static uint64_t release_pool(struct berth_pool *pool, uint64_t need)
{
    struct berth_segment *list, *next;
    berth_cu_context context;
    uint64_t generation, released = 0;

    berth__pool_lock(pool);
    context = atomic_load_explicit(&pool->context, memory_order_relaxed);
    generation = pool->generation;
    list = atomic_load_explicit(&pool->is_ending, memory_order_relaxed) ? NULL
                                                                        : detach_cached(pool, need);
    berth__pool_unlock(pool);
    for (struct berth_segment *segment = list; segment; segment = next) {
        uint64_t size = segment->size;
        int r = berth__device_free(context, segment->base);

        next = segment->next;
        berth__pool_lock(pool);
        if (r < 0) {
            attach_again(pool, segment, generation);
        } else {
            berth__tier_release(pool->tier, size);
            berth__pool_delete_segment(pool, segment);
            released += size;
        }
        berth__pool_unlock(pool);
        count_released(pool, size);
    }
    return released;
}

/* The pools that are to give back, and how much. */
struct release {
    uint64_t need;      /* bytes that are enough, or RELEASE_ALL */
    int device;         /* or BERTH_POOL_ALL_DEVICES */
    berth_tier_id tier; /* or BERTH_TIER_NONE: any */
};

static bool release_concerns(const struct release *release, const struct berth_pool *pool)
{
    return (release->device == BERTH_POOL_ALL_DEVICES || pool->device == release->device) &&
           (release->tier == BERTH_TIER_NONE || pool->tier == release->tier);
}

static uint64_t bytes_releasing(const struct release *release)
{
    uint64_t bytes = 0;

    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next)
        if (release_concerns(release, pool))
            bytes += atomic_load_explicit(&pool->releasing, memory_order_relaxed);
    return bytes;
}

/* With the lock held. A thread that was cancelled while it waits would keep the lock for ever. */
static int wait_released(const struct timespec *end)
{
    int cancel_state, r;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    r = pthread_cond_timedwait(&release_done, &release_lock, end);
    pthread_setcancelstate(cancel_state, NULL);
    return r;
}

static struct timespec release_deadline(void)
{
    struct timespec end;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += RELEASE_WAIT_MAX_S;
    return end;
}

void berth__pool_await_releases(struct berth_pool *pool)
{
    struct timespec end;

    if (atomic_load_explicit(&pool->releasing, memory_order_relaxed) == 0)
        return;
    end = release_deadline();
    pthread_mutex_lock(&release_lock);
    while (atomic_load_explicit(&pool->releasing, memory_order_relaxed) > 0)
        if (wait_released(&end) != 0)
            break;
    pthread_mutex_unlock(&release_lock);
}

/* Waits until other threads have given something back; the bytes that they were at. */
static uint64_t await_releases(const struct release *release)
{
    uint64_t bytes = bytes_releasing(release);
    struct timespec end;
    uint64_t seen;

    if (bytes == 0)
        return 0;
    end = release_deadline();
    pthread_mutex_lock(&release_lock);
    seen = releases;
    /* What was done since the first look is as good as what others will do. */
    while (bytes_releasing(release) >= bytes && releases == seen) {
        if (wait_released(&end) != 0) {
            bytes = 0;
            break;
        }
    }
    pthread_mutex_unlock(&release_lock);
    return bytes;
}

static uint64_t release_pools(const struct release *release, uint64_t need)
{
    uint64_t released = 0;

    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool && released < need;
         pool = pool->next)
        if (atomic_load(&pool->context) && release_concerns(release, pool))
            released += release_pool(pool, need == RELEASE_ALL ? need : need - released);
    return released;
}

static uint64_t release_run(const struct release *release)
{
    int mode = BERTH_CU_CAPTURE_RELAXED;
    bool is_relaxed = berth__device_capturing() && berth__device_exchange_capture(&mode) == 0;
    uint64_t released = release_pools(release, release->need);

    /* The driver may have refused just those. */
    if (released == 0 && release->need != RELEASE_ALL)
        released = release_pools(release, RELEASE_ALL);
    if (is_relaxed)
        berth__device_exchange_capture(&mode);
    return released > 0 ? released : await_releases(release);
}

/* What the cache can do after `error`: a full device and a full tier are helped by other blocks. */
static uint64_t release_for(struct berth_pool *pool, int error, uint64_t size, uint64_t need)
{
    berth_tier_id tier = atomic_load_explicit(&pool->tier, memory_order_relaxed);
    uint64_t capacity = atomic_load_explicit(&berth__tier(tier)->capacity, memory_order_relaxed);
    const struct release of_device = {need, pool->device, BERTH_TIER_NONE};
    const struct release of_tier = {need, BERTH_POOL_ALL_DEVICES, tier};

    if (error != -ENOSPC)
        return release_run(&of_device);
    return capacity != 0 && size > capacity ? 0 : release_run(&of_tier);
}

uint64_t berth__pool_release_cached(int device)
{
    const struct release release = {RELEASE_ALL, device, BERTH_TIER_NONE};

    return berth__pool_disabled() ? 0 : release_run(&release);
}

uint64_t berth__pool_release_tier(berth_tier_id tier)
{
    const struct release release = {RELEASE_ALL, BERTH_POOL_ALL_DEVICES, tier};

    return berth__pool_disabled() ? 0 : release_run(&release);
}
