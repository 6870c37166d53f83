/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_stream.h"

#include "alloc/birth.h"
#include "alloc/order.h"
#include "alloc/page_map.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_parts.h"
#include "alloc/pool_stream_set.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"

#include <errno.h>

/*
 * Cached blocks that do not fit are kept while all blocks together take no more than the most that
 * was ever live, and an eighth and this much besides: giving back and asking again is cheap in the
 * order of a stream, but a program that repeats itself should not have to.
 */
#define SLACK_SHIFT 3
#define SLACK (32 * BERTH_MIB)

struct berth_stream_counts berth__stream_counts;

/* A search for a block in the sets of other streams. */
struct search {
    const struct berth_stream *own;
    const struct berth_stream_home *home;
    uint64_t size;
    enum berth_tag tag;
    bool is_behind; /* its stream may be busy */
    struct berth_stream_block *found;
    struct berth_stream *stream; /* which freed it */
};

/* Called inside the door. The block leaves the set first: what is freed later is not looked at. */
static int search_stream(struct berth_stream *stream, void *argument)
{
    struct search *search = argument;
    struct berth_stream_block *block;

    if (stream == search->own || atomic_load(&stream->device) != search->home->device ||
        !berth__stream_is_reachable(stream))
        return 0;
    block = berth__stream_set_take(&stream->set, search->size, search->tag);
    if (!block)
        return 0;
    if (search->is_behind || block->freed < berth__stream_done_before(stream) ||
        berth__stream_query(stream) == 0) {
        search->found = block;
        search->stream = stream;
        return 1;
    }
    berth__stream_set_put(&stream->set, block);
    return 0;
}

static struct berth_stream_block *find_idle(const struct berth_stream_home *home,
                                            const struct berth_stream *stream, uint64_t size,
                                            enum berth_tag tag)
{
    struct search search = {.own = stream, .home = home, .size = size, .tag = tag};

    if (!berth__order_enter())
        return NULL;
    if (berth__stream_each_cached(search_stream, &search) != 0)
        atomic_fetch_add_explicit(&berth__stream_counts.idle_reuses, 1, memory_order_relaxed);
    berth__order_leave();
    return search.found;
}

/* Called inside the door: the stream `own` waits for the stream that freed the block. */
static bool depend(const struct search *search)
{
    struct berth_order_point *point = NULL;
    const struct berth_stream *other = search->stream;
    int r = berth__stream_point(other, &point);

    if (r < 0)
        return false;
    r = berth__order_make_wait(point, atomic_load(&search->own->context),
                               atomic_load(&search->own->handle));
    /* The event may be recorded anew: a wait that is queued is for what it stood for (cuda.h). */
    berth__order_done(point);
    return r == 0;
}

/*
 * A block whose stream is busy, behind a dependency. What that stream does may wait for what the
 * program does next, or for the stream that is given the block: as the driver does it, this is for
 * when there is no other memory.
 */
static struct berth_stream_block *find_behind(const struct berth_stream_home *home,
                                              const struct berth_stream *stream, uint64_t size,
                                              enum berth_tag tag)
{
    struct search search = {
        .own = stream, .home = home, .size = size, .tag = tag, .is_behind = true};

    if (!atomic_load(&home->may_depend) || !berth__order_enter())
        return NULL;
    if (berth__stream_each_cached(search_stream, &search) != 0) {
        if (depend(&search)) {
            atomic_fetch_add_explicit(&berth__stream_counts.waiting_reuses, 1,
                                      memory_order_relaxed);
        } else {
            berth__stream_set_put(&search.stream->set, search.found);
            search.found = NULL;
        }
    }
    berth__order_leave();
    return search.found;
}

/* A block that the stream did not free itself, and that no work uses any more. */
static struct berth_stream_block *find_elsewhere(struct berth_stream_home *home,
                                                 const struct berth_stream *stream, uint64_t size,
                                                 enum berth_tag tag)
{
    struct berth_stream_block *block;

    if (!atomic_load(&home->may_reuse_idle))
        return NULL;
    block = berth__stream_set_take(&home->idle, size, tag);
    if (!block && berth__stream_settle_retired(home))
        block = berth__stream_set_take(&home->idle, size, tag);
    return block ? block : find_idle(home, stream, size, tag);
}

/* Gives the record its place in the page map. False: the memory is good, the record is not. */
static bool enter(struct berth_stream_block *block)
{
    struct berth_segment *segment = &block->segment, *other = NULL;
    int r;

    if ((segment->base & (BERTH_GRANULE - 1)) != 0)
        return false;
    while ((r = berth__page_map_insert(segment->base, segment->size, segment, &other)) == -EEXIST)
        berth__pool_forget_stale(other, segment->base, segment->size);
    segment->is_mapped = r == 0;
    return r == 0;
}

static struct berth_stream_block *block_new(struct berth_stream_home *home, uint64_t size)
{
    struct berth_stream_block *block;

    pthread_mutex_lock(&home->lock);
    block = berth__slab_new(&home->blocks, sizeof(*block));
    pthread_mutex_unlock(&home->lock);
    if (!block)
        return NULL;
    block->segment.size = size;
    block->segment.kind = BERTH_SEGMENT_STREAM;
    block->home = home;
    return block;
}

/* Keeps what does not fit within bounds before more is asked for. */
static void make_room(struct berth_stream_home *home, struct berth_stream *stream, uint64_t size)
{
    uint64_t cached = berth__stream_home_cached(home);
    uint64_t reserved = atomic_load(&home->reserved);
    uint64_t live = reserved > cached ? reserved - cached + size : size;
    uint64_t high = atomic_load(&home->live_high);
    uint64_t limit = live > high ? live : high;

    limit += (limit >> SLACK_SHIFT) + SLACK;
    if (reserved + size > limit)
        berth__stream_give_back(home, stream, reserved + size - limit, false);
}

/* Takes the tier's capacity; what is cached in it gives way. */
static int reserve(berth_tier_id tier, int device, uint64_t size)
{
    int r = berth__tier_reserve(tier, size);

    if ((r == -ENOSPC || r == -EDQUOT) && berth__stream_release(device) > 0)
        r = berth__tier_reserve(tier, size);
    return r == -ENOSPC || r == -EDQUOT ? berth__foreign_make_room(tier, size) : r;
}

static int ask_driver(berth_cu_stream handle, uint64_t size, uintptr_t *ret)
{
    berth_cu_address address = 0;
    int r = berth__device_error(berth__driver.cuMemAllocAsync(&address, size, handle));

    if (r == 0)
        *ret = (uintptr_t)address;
    return r;
}

/* The same, and whatever is cached gives way. */
static int press_driver(const struct berth_stream_home *home, berth_cu_stream handle, uint64_t size,
                        uintptr_t *ret)
{
    int r;

    do {
        r = ask_driver(handle, size, ret);
    } while (r == -ENOMEM && berth__stream_release(home->device) > 0);
    while (r == -ENOMEM && (berth__pool_release_cached(home->device) > 0 ||
                            berth__stream_release(BERTH_POOL_ALL_DEVICES) > 0))
        r = ask_driver(handle, size, ret);
    return r;
}

static void count_reserved(struct berth_stream_home *home, uint64_t size)
{
    uint64_t reserved = atomic_fetch_add(&home->reserved, size) + size;
    uint64_t high = atomic_load(&home->reserved_high);

    while (reserved > high && !atomic_compare_exchange_weak(&home->reserved_high, &high, reserved))
        ;
}

/* `is_pressing`: what is cached gives way, and the device is waited for. */
static int grow(struct berth_stream_home *home, struct berth_stream *stream,
                const struct berth_pool_request *request, uint64_t size, bool is_pressing,
                uintptr_t *ret_address)
{
    struct berth_stream_block *block = block_new(home, size);
    berth_cu_stream handle = atomic_load(&stream->handle);
    int r;

    if (!block)
        return BERTH_POOL_FORWARD;
    r = is_pressing ? reserve(BERTH_TIER_DEVICE, home->device, size)
                    : berth__tier_reserve(BERTH_TIER_DEVICE, size);
    if (r < 0)
        goto err_block;
    r = is_pressing ? press_driver(home, handle, size, &block->segment.base)
                    : ask_driver(handle, size, &block->segment.base);
    if (r < 0)
        goto out_reserve;
    if (!enter(block)) {
        *ret_address = block->segment.base;
        goto out_reserve;
    }
    count_reserved(home, size);
    *ret_address = block->segment.base;
    berth__stream_set_hand_out(&stream->set, block, request);
    return 0;

out_reserve:
    berth__tier_release(BERTH_TIER_DEVICE, size);
err_block:
    berth__stream_block_delete(block);
    return r;
}

static bool is_short(int r)
{
    return r == -ENOMEM || r == -ENOSPC || r == -EDQUOT;
}

/*
 * Whether something was given back for a request that was refused with `error`, and nobody was
 * waited for long: of streams' memory, then of the device's, and what other devices have
 * only where that helps, which is when a capacity or a limit is full. So much is enough then; the
 * driver may need more to have it in one piece.
 */
static bool give_way(struct berth_stream_home *home, struct berth_stream *stream, uint64_t size,
                     int error)
{
    return berth__stream_give_back(home, stream, size, true) > 0 ||
           berth__pool_release_soon(home->device, error == -ENOMEM ? UINT64_MAX : size) > 0 ||
           (error != -ENOMEM && berth__pool_release_soon(BERTH_POOL_ALL_DEVICES, size) > 0);
}

/* No block is cached that may be used at once. */
static int obtain(struct berth_stream_home *home, struct berth_stream *stream,
                  const struct berth_pool_request *request, uint64_t size, uintptr_t *ret_address)
{
    struct berth_stream_block *block;
    int r;

    make_room(home, stream, size);
    do {
        r = grow(home, stream, request, size, false, ret_address);
    } while (is_short(r) && give_way(home, stream, size, r));
    if (!is_short(r))
        return r;
    block = find_behind(home, stream, size, request->tag);
    if (!block)
        return grow(home, stream, request, size, true, ret_address);
    berth__stream_set_hand_out(&stream->set, block, request);
    *ret_address = block->segment.base;
    return 0;
}

/* The home of a stream that may be served; NULL: the driver serves it. */
static struct berth_stream_home *home_of(struct berth_stream *stream)
{
    struct berth_stream_home *home = berth__stream_home(atomic_load(&stream->device));

    return home && atomic_load_explicit(&home->is_chosen, memory_order_relaxed) ? home : NULL;
}

int berth__stream_alloc(const struct berth_pool_request *request, berth_cu_stream handle,
                        uintptr_t *ret_address)
{
    uint64_t size = berth__size_round(request->size);
    struct berth_stream_home *home;
    struct berth_stream_block *block;
    struct berth_stream *stream;

    if (request->size == 0 || size == 0 || berth__pool_disabled() ||
        berth__stream_find(handle, &stream) < 0)
        return BERTH_POOL_FORWARD;
    home = home_of(stream);
    if (!home)
        return BERTH_POOL_FORWARD;
    block = berth__stream_set_serve(&stream->set, size, request);
    if (BERTH_UNLIKELY(!block)) {
        block = find_elsewhere(home, stream, size, request->tag);
        if (!block)
            return obtain(home, stream, request, size, ret_address);
        berth__stream_set_hand_out(&stream->set, block, request);
    }
    *ret_address = block->segment.base;
    return 0;
}

/* The block that begins at `address`, which a reader of the page map may come too late for. */
static int block_find(uintptr_t address, struct berth_stream_block **ret)
{
    struct berth_segment *segment = berth__page_map_find(address);

    if (!segment || segment->kind != BERTH_SEGMENT_STREAM || berth__pool_disabled())
        return -ENOENT;
    *ret = berth__stream_block_of(segment);
    return segment->base == address ? 0 : -EINVAL;
}

static bool block_change(struct berth_stream_block *block, int from, int to)
{
    return atomic_compare_exchange_strong(&block->state, &from, to);
}

bool berth__stream_mark(const struct berth_stream *stream)
{
    struct berth_order_point *point = NULL;
    int r;

    if (atomic_load_explicit(&stream->handle, memory_order_relaxed) != BERTH_STREAM_LEGACY)
        return true;
    if (!berth__order_enter())
        return false;
    r = berth__order_record_stream(atomic_load(&stream->context), BERTH_STREAM_LEGACY, &point);
    berth__order_leave();
    if (r == 0)
        berth__order_done(point);
    return r == 0;
}

int berth__stream_free(uintptr_t address, berth_cu_stream handle)
{
    struct berth_stream_block *block;
    struct berth_stream *stream;
    int r = block_find(address, &block);

    if (r < 0)
        return r;
    if (berth__stream_find(handle, &stream) < 0 ||
        BERTH_UNLIKELY(atomic_load_explicit(&block->is_last, memory_order_relaxed) ||
                       atomic_load_explicit(&stream->device, memory_order_relaxed) !=
                           block->home->device) ||
        BERTH_UNLIKELY(!berth__stream_mark(stream)))
        return BERTH_POOL_FORWARD;
    if (!block_change(block, BERTH_STREAM_BLOCK_LIVE, BERTH_STREAM_BLOCK_CACHED))
        return -EINVAL;
    berth__stream_set_take_back(&stream->set, block);
    return 0;
}

int berth__stream_leave_begin(uintptr_t address, struct berth_stream_block **ret)
{
    struct berth_stream_block *block;
    int r = block_find(address, &block);

    if (r < 0)
        return r;
    if (!block_change(block, BERTH_STREAM_BLOCK_LIVE, BERTH_STREAM_BLOCK_LEAVING))
        return -EINVAL;
    berth__page_map_remove(block->segment.base, block->segment.size, &block->segment);
    block->segment.is_mapped = false;
    *ret = block;
    return 0;
}

void berth__stream_leave_end(struct berth_stream_block *block, bool is_freed)
{
    struct berth_segment *segment = &block->segment, *other = NULL;

    if (!is_freed) {
        /* The driver kept it, so nobody else was given the address, and the nodes exist. */
        segment->is_mapped =
            berth__page_map_insert(segment->base, segment->size, segment, &other) == 0;
        atomic_store(&block->state, BERTH_STREAM_BLOCK_LIVE);
        return;
    }
    berth__stream_home_cached(block->home);
    berth__stream_class_leave(block);
    berth__stats_free(BERTH_TIER_DEVICE, (enum berth_tag)atomic_load(&block->tag),
                      atomic_load(&block->requested), segment->size);
    berth__stream_site_leave(block);
    atomic_fetch_sub(&block->home->reserved, segment->size);
    berth__tier_release(BERTH_TIER_DEVICE, segment->size);
    berth__stream_block_delete(block);
}

void berth__stream_set_last(uintptr_t base)
{
    struct berth_stream_block *block;

    if (block_find(base, &block) == 0)
        atomic_store_explicit(&block->is_last, true, memory_order_relaxed);
}

void berth__stream_forget(struct berth_segment *segment)
{
    struct berth_stream_block *block = berth__stream_block_of(segment);

    if (block_change(block, BERTH_STREAM_BLOCK_LIVE, BERTH_STREAM_BLOCK_LEAVING)) {
        berth__page_map_remove(segment->base, segment->size, segment);
        segment->is_mapped = false;
        berth__stream_leave_end(block, true);
    } else {
        /* Cached: it is in a set, whose memory the driver has given to somebody else. */
        berth__page_map_remove(segment->base, segment->size, segment);
    }
}

int berth__stream_find_block(uintptr_t address, struct berth_block_view *ret)
{
    struct berth_segment *segment = berth__page_map_find(address);
    struct berth_stream_block *block = berth__stream_block_of(segment);

    if (!segment || segment->kind != BERTH_SEGMENT_STREAM || berth__pool_disabled())
        return -ENOENT;
    if (atomic_load_explicit(&block->state, memory_order_acquire) != BERTH_STREAM_BLOCK_LIVE ||
        address - segment->base >= atomic_load(&block->requested))
        return -EFAULT;
    *ret = (struct berth_block_view){
        .tier = BERTH_TIER_DEVICE,
        .base = segment->base,
        .requested = atomic_load(&block->requested),
        .held = segment->size,
        .id = atomic_load(&block->id),
        .is_whole = true,
        .is_stream_ordered = true,
        .tag = (enum berth_tag)atomic_load(&block->tag),
        .tagged_by = (enum berth_tag_source)atomic_load(&block->tagged_by),
        .site = atomic_load(&block->site),
        .table_version = atomic_load(&block->table_version),
        .rule = atomic_load(&block->rule),
        .age_ns =
            atomic_load(&block->site) == 0 ? 0 : berth__birth_short_age(atomic_load(&block->birth)),
        .class_number = atomic_load_explicit(&block->class_number, memory_order_relaxed),
    };
    return 0;
}
