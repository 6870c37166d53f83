/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/order.h"
#include "alloc/page_map.h"
#include "alloc/pool_parts.h"
#include "alloc/pool_stream_set.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"

#include <errno.h>
#include <string.h>

/* How often what is at work is waited for (see berth__order_wait()) before memory is short. */
#define WAITS_MAX 10

static _Atomic(struct berth_stream_home *) homes;
static pthread_mutex_t homes_lock = PTHREAD_MUTEX_INITIALIZER;

static struct berth_stream_home *first_home(void)
{
    return atomic_load_explicit(&homes, memory_order_acquire);
}

struct berth_stream_home *berth__stream_homes(void)
{
    return first_home();
}

static struct berth_stream_home *home_find(int device)
{
    struct berth_stream_home *home = first_home();

    while (home && home->device != device)
        home = home->next;
    return home;
}

/* What the program may have set on the pool before Berth saw a stream of the device. */
static void home_read_attributes(struct berth_stream_home *home)
{
    int value = 1;

    if (!berth__driver.cuMemPoolGetAttribute)
        return;
    if (berth__driver.cuMemPoolGetAttribute(home->pool, BERTH_CU_POOL_REUSE_OPPORTUNISTIC,
                                            &value) == 0)
        atomic_store(&home->may_reuse_idle, value != 0);
    if (berth__driver.cuMemPoolGetAttribute(home->pool, BERTH_CU_POOL_REUSE_DEPENDENCIES, &value) ==
        0)
        atomic_store(&home->may_depend, value != 0);
}

/* Asks the driver for the device's pools. A device without any gets a home that serves nothing. */
static void home_init(struct berth_stream_home *home, int device)
{
    berth_cu_pool chosen = NULL;

    home->device = device;
    atomic_store(&home->may_reuse_idle, true);
    atomic_store(&home->may_depend, true);
    if (!berth__driver.cuDeviceGetDefaultMemPool || !berth__driver.cuDeviceGetMemPool ||
        !berth__driver.cuMemAllocAsync || !berth__driver.cuMemFreeAsync ||
        berth__driver.cuDeviceGetDefaultMemPool(&home->pool, device) != 0 ||
        berth__driver.cuDeviceGetMemPool(&chosen, device) != 0)
        return;
    home_read_attributes(home);
    atomic_store(&home->is_chosen, chosen == home->pool);
}

static struct berth_stream_home *home_make(int device)
{
    struct berth_stream_home fresh = {0};
    struct berth_stream_home *home;

    home_init(&fresh, device);
    pthread_mutex_lock(&homes_lock);
    home = home_find(device);
    if (!home) {
        home = berth__slab_map(sizeof(*home));
        if (home) {
            memcpy(home, &fresh, sizeof(fresh));
            pthread_mutex_init(&home->lock, NULL);
            berth__stats_part_add(&home->idle.part, BERTH_TIER_DEVICE);
            home->next = first_home();
            atomic_store_explicit(&homes, home, memory_order_release);
        }
    }
    pthread_mutex_unlock(&homes_lock);
    return home;
}

struct berth_stream_home *berth__stream_home(int device)
{
    struct berth_stream_home *home = home_find(device);

    return BERTH_LIKELY(home != NULL) ? home : home_make(device);
}

void berth__stream_pool_chosen(int device, berth_cu_pool pool)
{
    struct berth_stream_home *home = home_find(device);

    if (home)
        atomic_store(&home->is_chosen, home->pool && pool == home->pool);
}

static struct berth_stream_home *home_of_pool(berth_cu_pool pool)
{
    struct berth_stream_home *home = first_home();

    while (home && home->pool != pool)
        home = home->next;
    return pool ? home : NULL;
}

void berth__stream_attribute_set(berth_cu_pool pool, int attribute, const void *value)
{
    struct berth_stream_home *home = home_of_pool(pool);

    if (!home)
        return;
    if (attribute == BERTH_CU_POOL_REUSE_OPPORTUNISTIC) {
        atomic_store(&home->may_reuse_idle, *(const int *)value != 0);
    } else if (attribute == BERTH_CU_POOL_REUSE_DEPENDENCIES) {
        atomic_store(&home->may_depend, *(const int *)value != 0);
    } else if (attribute == BERTH_CU_POOL_USED_HIGH) {
        uint64_t cached = berth__stream_home_cached(home);
        uint64_t reserved = atomic_load(&home->reserved);

        atomic_store(&home->live_high, reserved - cached);
        atomic_store(&home->reserved_high, reserved);
        atomic_store(&home->told_high, 0);
    }
}

/* What the program uses of the pool by now, where `used` is what the driver says. */
static uint64_t used_now(struct berth_stream_home *home, uint64_t used)
{
    uint64_t none = berth__stream_home_cached(home) + berth__stream_home_excess(home);

    return used > none ? used - none : 0;
}

/*
 * The same of the most, where `most` is the driver's, to which it counts what is cached, too. Where
 * that is more than we ever had, the program has the rest by cuMemAllocFromPoolAsync. What is used
 * at the moment is in it in any case.
 */
static uint64_t used_high(struct berth_stream_home *home, uint64_t most)
{
    uint64_t now = 0, ours, high, told = atomic_load(&home->told_high);

    now = berth__driver.cuMemPoolGetAttribute(home->pool, BERTH_CU_POOL_USED_CURRENT, &now) == 0
              ? used_now(home, now)
              : 0;
    ours = atomic_load(&home->reserved_high);
    high = atomic_load(&home->live_high);
    if (most > ours)
        high += most - ours;
    else if (high > most)
        high = most;
    if (now > high)
        high = now;
    while (high > told && !atomic_compare_exchange_weak(&home->told_high, &told, high))
        ;
    return high > told ? high : told;
}

void berth__stream_attribute_correct(berth_cu_pool pool, int attribute, void *value)
{
    struct berth_stream_home *home = home_of_pool(pool);
    uint64_t *used = value;

    if (!home)
        return;
    if (attribute == BERTH_CU_POOL_USED_CURRENT)
        *used = used_now(home, *used);
    else if (attribute == BERTH_CU_POOL_USED_HIGH)
        *used = used_high(home, *used);
}

/* What the walk over streams adds up. */
struct sum {
    int device;
    uint64_t cached, low;
};

static int sum_stream(struct berth_stream *stream, void *argument)
{
    struct sum *sum = argument;
    uint64_t low;

    if (atomic_load(&stream->device) == sum->device) {
        sum->cached += berth__stream_set_cached(&stream->set, &low);
        sum->low += low;
    }
    return 0;
}

static uint64_t retired_bytes(struct berth_stream_home *home)
{
    uint64_t bytes = 0;

    pthread_mutex_lock(&home->lock);
    for (struct berth_stream_retired *retired = home->retired; retired; retired = retired->next)
        for (struct berth_stream_block *block = retired->blocks; block; block = block->next)
            bytes += berth__stream_block_size(block);
    pthread_mutex_unlock(&home->lock);
    return bytes;
}

uint64_t berth__stream_home_cached(struct berth_stream_home *home)
{
    uint64_t reserved = atomic_load(&home->reserved), low, live, high, retired;
    struct sum sum = {.device = home->device};

    retired = retired_bytes(home);
    sum.cached = berth__stream_set_cached(&home->idle, &low) + retired;
    sum.low = low + retired;
    berth__stream_each_cached(sum_stream, &sum);
    live = reserved > sum.low ? reserved - sum.low : 0;
    high = atomic_load(&home->live_high);
    while (live > high && !atomic_compare_exchange_weak(&home->live_high, &high, live))
        ;
    return sum.cached;
}

uint64_t berth__stream_cached(int device)
{
    uint64_t bytes = 0;

    if (berth__pool_disabled())
        return 0;
    for (struct berth_stream_home *home = first_home(); home; home = home->next)
        if (device == BERTH_POOL_ALL_DEVICES || home->device == device)
            bytes += berth__stream_home_cached(home);
    return bytes;
}

uint64_t berth__stream_obtainable(int device)
{
    struct berth_stream_home *home = berth__pool_disabled() ? NULL : home_find(device);
    uint64_t cached = home ? berth__stream_home_cached(home) : 0, has = 0, used = 0;

    /* Nothing is given back while a capture is open. */
    if (cached == 0 || berth__device_capturing())
        return 0;
    if (cached != atomic_load(&home->reserved))
        return berth__stream_home_whole(home);
    if (!berth__driver.cuMemPoolGetAttribute)
        return cached;
    if (berth__driver.cuMemPoolGetAttribute(home->pool, BERTH_CU_POOL_RESERVED_CURRENT, &has) !=
            0 ||
        berth__driver.cuMemPoolGetAttribute(home->pool, BERTH_CU_POOL_USED_CURRENT, &used) != 0)
        return 0;
    return used == cached ? has : 0;
}

void berth__stream_block_delete(struct berth_stream_block *block)
{
    struct berth_stream_home *home = block->home;

    pthread_mutex_lock(&home->lock);
    berth__slab_delete(&home->blocks, block);
    pthread_mutex_unlock(&home->lock);
}

/* A cached block that is in no set goes to the driver: its address may be anybody's from now on. */
static void block_detach(struct berth_stream_block *block)
{
    atomic_store(&block->state, BERTH_STREAM_BLOCK_LEAVING);
    berth__page_map_remove(block->segment.base, block->segment.size, &block->segment);
    block->segment.is_mapped = false;
}

/* The driver has it, or has kept it. */
static bool block_settle(struct berth_stream_block *block, int r)
{
    struct berth_segment *segment = &block->segment, *other = NULL;

    if (r < 0) {
        segment->is_mapped =
            berth__page_map_insert(segment->base, segment->size, segment, &other) == 0;
        atomic_store(&block->state, BERTH_STREAM_BLOCK_CACHED);
        return false;
    }
    atomic_fetch_sub(&block->home->reserved, segment->size);
    berth__tier_release(BERTH_TIER_DEVICE, segment->size);
    berth__stream_block_delete(block);
    return true;
}

/* Frees the blocks in the order of the stream; those that the driver keeps are left in the list. */
static uint64_t free_in_order(struct berth_stream_block **list, berth_cu_context context,
                              berth_cu_stream handle)
{
    struct berth_stream_block *kept = NULL, *next;
    uint64_t bytes = 0;
    bool pushed = false;

    if (!*list || berth__device_enter(context, &pushed) < 0)
        return 0;
    for (struct berth_stream_block *block = *list; block; block = next) {
        uint64_t size = berth__stream_block_size(block);
        int r;

        next = block->next;
        block_detach(block);
        r = berth__device_error(berth__driver.cuMemFreeAsync(block->segment.base, handle));
        if (block_settle(block, r)) {
            bytes += size;
        } else {
            block->next = kept;
            kept = block;
        }
    }
    berth__device_leave(pushed);
    *list = kept;
    return bytes;
}

static void put_all(struct berth_stream_set *set, struct berth_stream_block *list)
{
    while (list) {
        struct berth_stream_block *next = list->next;

        berth__stream_set_put(set, list);
        list = next;
    }
}

/* The same for blocks that no stream uses: the driver needs no order any more for them. */
static uint64_t free_idle(struct berth_stream_block **list, berth_cu_context context)
{
    struct berth_stream_block *kept = NULL, *next;
    uint64_t bytes = 0;

    for (struct berth_stream_block *block = *list; block; block = next) {
        uint64_t size = berth__stream_block_size(block);

        next = block->next;
        block_detach(block);
        if (block_settle(block, berth__device_free(context, block->segment.base))) {
            bytes += size;
        } else {
            block->next = kept;
            kept = block;
        }
    }
    *list = kept;
    return bytes;
}

/*
 * How much the driver's pool may keep once `freed` bytes have come back to it. What the program
 * lets it keep is for use again, which is what the cache did for these bytes: they are too many by
 * now, and go to the device. In the pool small blocks would be cut out of them, and as long as one
 * of those lives nothing else could have the rest.
 */
static uint64_t kept_by_pool(const struct berth_stream_home *home, uint64_t freed)
{
    uint64_t threshold = 0, has = 0;

    berth__driver.cuMemPoolGetAttribute(home->pool, BERTH_CU_POOL_RELEASE_THRESHOLD, &threshold);
    if (threshold == 0 ||
        berth__driver.cuMemPoolGetAttribute(home->pool, BERTH_CU_POOL_RESERVED_CURRENT, &has) != 0)
        return threshold;
    has = has > freed ? has - freed : 0;
    return has < threshold ? has : threshold;
}

/* Where memory is short the driver takes all that its pool does not use before it refuses. */
static void trim(const struct berth_stream_home *home, uint64_t freed, bool is_short)
{
    uint64_t keep;

    if (!berth__driver.cuMemPoolTrimTo || !berth__driver.cuMemPoolGetAttribute)
        return;
    keep = is_short ? 0 : kept_by_pool(home, freed);
    /* What fails may have told of something else: the driver would keep the memory. */
    if (berth__driver.cuMemPoolTrimTo(home->pool, keep) != BERTH_CU_SUCCESS)
        berth__driver.cuMemPoolTrimTo(home->pool, keep);
}

uint64_t berth__stream_free_idle(struct berth_stream_home *home, struct berth_stream_block *list,
                                 berth_cu_context context, struct berth_stream_set *set,
                                 bool is_short)
{
    /* A capture may have begun since somebody looked. */
    struct berth_device_mode mode = berth__device_relax();
    uint64_t freed = free_idle(&list, context);

    if (freed > 0)
        trim(home, freed, is_short);
    berth__device_restore(mode);
    put_all(set, list);
    return freed;
}

/*
 * In the stream's context. A blocking stream waits for what the legacy stream was given before, and
 * for what is freed here it was given nothing: work that uses a block may be the legacy stream's.
 */
static int query_blocking(berth_cu_stream handle)
{
    unsigned flags = 0;
    int r = berth__device_error(berth__driver.cuStreamQuery(handle));

    if (r == 0 && (!berth__driver.cuStreamGetFlags ||
                   berth__driver.cuStreamGetFlags(handle, &flags) != BERTH_CU_SUCCESS ||
                   (flags & BERTH_STREAM_NON_BLOCKING) == 0))
        r = berth__device_error(berth__driver.cuStreamQuery(BERTH_STREAM_LEGACY));
    return r;
}

/* The legacy stream waits for all blocking ones: it is idle where the whole context is. */
static int query_legacy(berth_cu_context context)
{
    struct berth_order_point *point = NULL;
    int r = berth__order_probe(context, &point);

    berth__order_done(point);
    return r == 0 ? -EAGAIN : r < 0 ? r : 0;
}

/*
 * Nothing is put into a stream for this: what is recorded in the legacy stream has blocking ones
 * wait for each other, and what is recorded in one of those has to wait for the legacy stream. A
 * program may go on only when such a stream, to which it has given nothing, is done.
 */
int berth__stream_query(const struct berth_stream *stream)
{
    berth_cu_context context = atomic_load(&stream->context);
    berth_cu_stream handle = atomic_load(&stream->handle);
    bool pushed = false;
    int r;

    if (handle == BERTH_STREAM_LEGACY)
        return query_legacy(context);
    r = berth__driver.cuStreamQuery ? berth__device_enter(context, &pushed) : -ENOTSUP;
    if (r < 0)
        return r;
    r = query_blocking(handle);
    berth__device_leave(pushed);
    return r;
}

int berth__stream_point(const struct berth_stream *stream, struct berth_order_point **ret)
{
    berth_cu_context context = atomic_load(&stream->context);
    berth_cu_stream handle = atomic_load(&stream->handle);
    bool pushed = false, is_alone;
    unsigned flags = 0;
    int r = berth__device_enter(context, &pushed);

    if (r < 0)
        return r;
    /* Beside work of its own, a stream's point is behind what the free was; else it would wait. */
    is_alone = !berth__driver.cuCtxRecordEvent ||
               (handle != BERTH_STREAM_LEGACY && berth__driver.cuStreamQuery &&
                berth__driver.cuStreamQuery(handle) == BERTH_CU_NOT_READY) ||
               (berth__driver.cuStreamGetFlags &&
                berth__driver.cuStreamGetFlags(handle, &flags) == BERTH_CU_SUCCESS &&
                (flags & BERTH_STREAM_NON_BLOCKING) != 0);
    berth__device_leave(pushed);
    return is_alone ? berth__order_record_stream(context, handle, ret)
                    : berth__order_record(context, ret);
}

enum business { IDLE, BUSY, HELD_UP /* idle itself, but what it is given waits for others */ };

/* Called inside the door. */
static enum business ask_for_business(const struct berth_stream *stream)
{
    bool pushed = false;
    int r;

    r = berth__stream_query(stream);
    if (r == 0)
        return IDLE;
    /* Where nobody can tell of the legacy stream, its own order has to do. */
    if ((r != -EAGAIN && atomic_load(&stream->handle) == BERTH_STREAM_LEGACY) ||
        !berth__driver.cuStreamQuery ||
        berth__device_enter(atomic_load(&stream->context), &pushed) < 0)
        return BUSY;
    r = berth__device_error(berth__driver.cuStreamQuery(atomic_load(&stream->handle)));
    berth__device_leave(pushed);
    return r == 0 ? HELD_UP : BUSY;
}

/* Of a stream that the program uses in this very call. */
static enum business business_of(const struct berth_stream *stream)
{
    enum business business;

    if (!berth__order_enter())
        return BUSY;
    business = ask_for_business(stream);
    berth__order_leave();
    return business;
}

/*
 * What is not known to be done: beside work of the stream its order has to do, by which the
 * driver's pool has the memory, and the device only when the program waits for the stream next.
 * Nothing is given to a stream that would only wait for others, as it need not natively.
 */
static uint64_t give_back(struct berth_stream_home *home, struct berth_stream *stream,
                          struct berth_stream_set *set, uint64_t need, bool is_short)
{
    struct berth_stream_block *list = berth__stream_set_drain(set, need);
    berth_cu_context context = atomic_load(&stream->context);
    enum business business;
    uint64_t freed = 0;

    if (!list)
        return 0;
    business = set == &home->idle ? IDLE : business_of(stream);
    if (business == IDLE)
        return berth__stream_free_idle(home, list, context, set, is_short);
    if (business == BUSY)
        freed = free_in_order(&list, context, atomic_load(&stream->handle));
    put_all(set, list);
    return freed;
}

uint64_t berth__stream_give_back(struct berth_stream_home *home, struct berth_stream *stream,
                                 uint64_t need, bool is_short)
{
    struct berth_stream_set *sets[] = {&stream->set, &home->idle};
    struct berth_stream_block *done =
        berth__stream_set_drain_done(&stream->set, need, berth__stream_done_before(stream));
    uint64_t freed = 0;

    if (done)
        freed = berth__stream_free_idle(home, done, atomic_load(&stream->context), &stream->set,
                                        is_short);
    for (size_t i = 0; i < 2 && freed < need; i++)
        freed += give_back(home, stream, sets[i], need - freed, is_short);
    if (freed < need)
        freed += berth__stream_home_release_done(home, need - freed, is_short);
    return freed;
}

static void retire_to(struct berth_stream_home *home, struct berth_stream_block *blocks,
                      berth_cu_context context, struct berth_order_point *point)
{
    struct berth_stream_retired *retired;

    pthread_mutex_lock(&home->lock);
    retired = berth__slab_new(&home->retirements, sizeof(*retired));
    if (retired) {
        *retired = (struct berth_stream_retired){home->retired, blocks, context, point};
        home->retired = retired;
    }
    pthread_mutex_unlock(&home->lock);
    if (retired)
        return;
    /* Without a record nobody can wait for them: they stay reserved, and are never used again. */
    berth__order_done(point);
}

/*
 * Called with the door shut, before the stream is destroyed. If its work cannot be given a point,
 * the driver gets the blocks, in the order of the stream. Blocks of one stream have one home.
 */
void berth__stream_retire(struct berth_stream *stream)
{
    struct berth_stream_block *blocks = berth__stream_set_drain(&stream->set, UINT64_MAX);
    berth_cu_context context = atomic_load(&stream->context);
    struct berth_order_point *point = NULL;

    if (!blocks)
        return;
    if (berth__device_capturing() ||
        berth__order_record_stream(context, atomic_load(&stream->handle), &point) < 0)
        free_in_order(&blocks, context, atomic_load(&stream->handle));
    if (blocks)
        retire_to(blocks->home, blocks, context, point);
}

/* The context is gone, and with it all work of the stream. */
void berth__stream_retire_idle(struct berth_stream *stream)
{
    struct berth_stream_block *blocks = berth__stream_set_drain(&stream->set, UINT64_MAX);

    if (blocks)
        put_all(&blocks->home->idle, blocks);
}

static struct berth_stream_retired *retired_take_all(struct berth_stream_home *home)
{
    struct berth_stream_retired *list;

    pthread_mutex_lock(&home->lock);
    list = home->retired;
    home->retired = NULL;
    pthread_mutex_unlock(&home->lock);
    return list;
}

static void retired_put(struct berth_stream_home *home, struct berth_stream_retired *retired)
{
    pthread_mutex_lock(&home->lock);
    retired->next = home->retired;
    home->retired = retired;
    pthread_mutex_unlock(&home->lock);
}

static void retired_end(struct berth_stream_home *home, struct berth_stream_retired *retired)
{
    berth__order_done(retired->point);
    put_all(&home->idle, retired->blocks);
    pthread_mutex_lock(&home->lock);
    berth__slab_delete(&home->retirements, retired);
    pthread_mutex_unlock(&home->lock);
}

/* Ends those of the list that have passed, as `has_passed` says. */
static bool retired_settle(struct berth_stream_home *home,
                           bool (*has_passed)(struct berth_stream_retired *retired,
                                              const void *argument),
                           const void *argument)
{
    struct berth_stream_retired *next;
    bool any = false;

    for (struct berth_stream_retired *retired = retired_take_all(home); retired; retired = next) {
        next = retired->next;
        if (has_passed(retired, argument)) {
            retired_end(home, retired);
            any = true;
        } else {
            retired_put(home, retired);
        }
    }
    return any;
}

static bool passed_now(struct berth_stream_retired *retired, const void *argument)
{
    return retired->point && berth__order_query(retired->point) == 1;
}

bool berth__stream_settle_retired(struct berth_stream_home *home)
{
    return retired_settle(home, passed_now, NULL);
}

static bool passed_after_wait(struct berth_stream_retired *retired, const void *argument)
{
    const struct berth_stream_home *home = argument;
    berth_cu_context context = retired->context;
    int r = -ETIMEDOUT;

    if (!context)
        context = berth__device_primary(home->device);
    if (!retired->point)
        return !context || berth__order_sync(context) == 0;
    /* Natively the program would have waited for all of it, or been refused. */
    for (unsigned i = 0; i < WAITS_MAX && r == -ETIMEDOUT; i++)
        r = berth__order_wait(retired->point);
    return r == 0;
}

static bool passed_with_context(struct berth_stream_retired *retired, const void *context)
{
    return retired->context == context;
}

void berth__stream_context_gone(berth_cu_context context)
{
    for (struct berth_stream_home *home = first_home(); home; home = home->next)
        retired_settle(home, passed_with_context, context);
}

/* Work of a green context's streams goes on, but by nothing of that context can it be told. */
void berth__stream_retire_green(struct berth_stream *stream)
{
    struct berth_stream_block *blocks = berth__stream_set_drain(&stream->set, UINT64_MAX);

    if (blocks)
        retire_to(blocks->home, blocks, NULL, NULL);
}

static bool told_by_primary(struct berth_stream_retired *retired, const void *context)
{
    if (retired->context == context) {
        berth__order_done(retired->point);
        retired->context = NULL;
        retired->point = NULL;
    }
    return false;
}

void berth__stream_green_gone(berth_cu_context context)
{
    for (struct berth_stream_home *home = first_home(); home; home = home->next)
        retired_settle(home, told_by_primary, context);
}

void berth__stream_retire_thread(struct berth_stream *stream)
{
    struct berth_stream_block *blocks = berth__stream_set_drain(&stream->set, UINT64_MAX);
    berth_cu_context context = atomic_load(&stream->context);
    struct berth_order_point *point = NULL;

    /* The stream's handle means nothing in other threads: the point is one of the context. */
    if (blocks) {
        berth__order_record(context, &point);
        retire_to(blocks->home, blocks, context, point);
    }
}

/*
 * Has everything that is cached in a stream wait as if the stream were destroyed, whoever may
 * destroy it or its context from now on. Inside the door the handles are good.
 */
static int drain_stream(struct berth_stream *stream, void *argument)
{
    const struct berth_stream_home *home = argument;
    struct berth_stream_block *blocks = NULL;
    berth_cu_context context = atomic_load(&stream->context);
    struct berth_order_point *point = NULL;

    if (atomic_load(&stream->device) != home->device || !berth__order_enter())
        return 0;
    if (atomic_load(&stream->state) == BERTH_STREAM_READY)
        blocks = berth__stream_set_drain(&stream->set, UINT64_MAX);
    if (blocks && (!berth__stream_is_reachable(stream) || berth__stream_point(stream, &point) < 0))
        berth__order_record(context, &point);
    berth__order_leave();
    if (blocks)
        retire_to(blocks->home, blocks, context, point);
    return 0;
}

static uint64_t release_home(struct berth_stream_home *home, bool is_trimmed)
{
    struct berth_stream_block *list;
    berth_cu_context context = NULL;
    uint64_t bytes;

    if (berth__device_capturing() || berth__device_current(&context) < 0)
        return 0;
    if (!context)
        context = berth__device_primary(home->device);
    if (!context || berth__stream_home_cached(home) == 0)
        return 0;
    berth__stream_each_cached(drain_stream, home);
    retired_settle(home, passed_after_wait, home);
    list = berth__stream_set_drain(&home->idle, UINT64_MAX);
    bytes = free_idle(&list, context);
    put_all(&home->idle, list);
    if (bytes > 0 && is_trimmed)
        trim(home, bytes, false);
    return bytes;
}

uint64_t berth__stream_release(int device)
{
    uint64_t bytes = 0;

    if (berth__pool_disabled())
        return 0;
    for (struct berth_stream_home *home = first_home(); home; home = home->next)
        if (device == BERTH_POOL_ALL_DEVICES || home->device == device)
            bytes += release_home(home, true);
    return bytes;
}

uint64_t berth__stream_release_pool(berth_cu_pool pool)
{
    struct berth_stream_home *home = berth__pool_disabled() ? NULL : home_of_pool(pool);

    return home ? release_home(home, false) : 0;
}

void berth__stream_audit(struct berth_stream_audit *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (berth__pool_disabled())
        return;
    for (struct berth_stream_home *home = first_home(); home; home = home->next) {
        uint64_t retired = retired_bytes(home);

        ret->reserved += atomic_load(&home->reserved);
        ret->cached += berth__stream_home_cached(home);
        ret->retired += retired;
    }
    ret->live = ret->reserved - ret->cached;
}

void (*const berth__stream_thread_ends)(struct berth_stream *stream) = berth__stream_retire_thread;
