/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is done, as the program has seen by waiting. See berth__stream_wait_begin().
 *
 * Moments are numbers that each wait begins anew. A block that was freed at an earlier one than a
 * wait began at was used by no work that came to the driver after that: who frees has given the
 * work to the driver, takes the lock of the set, and then looks at the moment; who waits begins a
 * new one, and then calls the driver. Both are sequentially consistent, so of two who meet either
 * the wait is for that work, or the block is of the new moment.
 */
#include "alloc/device_context.h"
#include "alloc/order.h"
#include "alloc/pool_parts.h"
#include "alloc/pool_stream_set.h"

/* Each free reads it, each wait writes it. */
static _Alignas(64) _Atomic uint64_t moment = 1;

uint64_t berth__stream_now(void)
{
    return atomic_load(&moment);
}

uint64_t berth__stream_wait_begin(void)
{
    return berth__stream_homes() && !berth__pool_disabled() ? atomic_fetch_add(&moment, 1) + 1 : 0;
}

static void raise_to(_Atomic uint64_t *done, uint64_t to)
{
    uint64_t now = atomic_load_explicit(done, memory_order_relaxed);

    while (now < to && !atomic_compare_exchange_weak(done, &now, to))
        ;
}

void berth__stream_wait_end(uint64_t begin, berth_cu_context context, berth_cu_stream handle)
{
    struct berth_stream *stream;

    if (begin == 0)
        return;
    if (!handle) {
        berth__order_set_waited(context, begin);
        return;
    }
    stream = berth__stream_peek(handle);
    if (stream)
        raise_to(&stream->set.done_alone, begin);
}

/*
 * A blocking stream waits for what the legacy stream was given before it, but only once it is given
 * something itself: to wait for it is no wait for work of the legacy stream's. That one waits for
 * all of them, and is given a mark by each free.
 */
static bool is_enough_alone(const struct berth_stream *stream)
{
    berth_cu_stream handle = atomic_load(&stream->handle);
    bool pushed = false, is_enough;
    unsigned flags = 0;

    if (handle == BERTH_STREAM_LEGACY)
        return true;
    if (berth__stream_is_default(handle) || !berth__driver.cuStreamGetFlags ||
        berth__device_enter(atomic_load(&stream->context), &pushed) < 0)
        return false;
    is_enough = berth__driver.cuStreamGetFlags(handle, &flags) == BERTH_CU_SUCCESS &&
                (flags & BERTH_STREAM_NON_BLOCKING) != 0;
    berth__device_leave(pushed);
    return is_enough;
}

uint64_t berth__stream_done_before(const struct berth_stream *stream)
{
    uint64_t done = berth__order_waited(atomic_load(&stream->context));
    uint64_t alone = atomic_load(&stream->set.done_alone);

    return alone > done && is_enough_alone(stream) ? alone : done;
}

/* What release_done() collects of the streams of a device. */
struct collection {
    const struct berth_stream_home *home;
    struct berth_stream_block *list;
    uint64_t need, bytes;
};

static int collect(struct berth_stream *stream, void *argument)
{
    struct collection *collection = argument;
    struct berth_stream_block *list, *next;

    if (atomic_load(&stream->device) != collection->home->device)
        return 0;
    list = berth__stream_set_drain_done(&stream->set, collection->need - collection->bytes,
                                        berth__stream_done_before(stream));
    for (; list; list = next) {
        next = list->next;
        collection->bytes += berth__stream_block_size(list);
        list->next = collection->list;
        collection->list = list;
    }
    return collection->bytes >= collection->need;
}

uint64_t berth__stream_home_release_done(struct berth_stream_home *home, uint64_t need,
                                         bool is_short)
{
    struct collection collection = {.home = home, .need = need};
    berth_cu_context context = NULL;
    bool is_inside;

    if (berth__device_current(&context) < 0)
        return 0;
    if (!context)
        context = berth__device_primary(home->device);
    /* Nobody gets in while a capture is open. */
    is_inside = context && berth__order_enter();
    if (!is_inside)
        return 0;
    berth__stream_each_cached(collect, &collection);
    berth__order_leave();
    return collection.list
               ? berth__stream_free_idle(home, collection.list, context, &home->idle, is_short)
               : 0;
}

uint64_t berth__stream_release_done(int device, uint64_t need)
{
    uint64_t bytes = 0;

    if (berth__pool_disabled())
        return 0;
    for (struct berth_stream_home *home = berth__stream_homes(); home && bytes < need;
         home = home->next)
        if (device == BERTH_POOL_ALL_DEVICES || home->device == device)
            bytes += berth__stream_home_release_done(home, need - bytes, true);
    return bytes;
}
