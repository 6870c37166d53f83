/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/torch.h"

#include "alloc/block_slab.h"
#include "alloc/device_context.h"
#include "alloc/log.h"
#include "alloc/order.h"
#include "alloc/pool_stream.h"
#include "hooks/cuda_driver_export.h"
#include "hooks/torch_pool.h"

#include <errno.h>
#include <pthread.h>

/* A stream that uses a block besides the one that it was allocated for. */
struct use {
    struct use *next;
    uintptr_t address;
    berth_cu_stream stream;
};

/* A block that could not be freed while something was captured. */
struct deferred {
    struct deferred *next;
    uintptr_t address;
    int device;
    berth_cu_stream stream;
    struct use *uses;
};

/* What PyTorch allows itself on a device. */
struct limit {
    struct limit *next;
    int device;
    _Atomic uint64_t most; /* bytes; UINT64_MAX: no limit */
    _Atomic uint64_t live; /* bytes that were asked for and not freed, since there is a limit */
};

#define USE_SHIFT 8
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all below; innermost */
static struct use *uses[1u << USE_SHIFT];
static struct deferred *deferred_first;
static struct berth_slab use_slab, deferred_slab, limit_slab;
static _Atomic(struct limit *) limits;
/* Let the usual cases, no such thing, go without the lock. */
static atomic_uint use_count, deferred_count;

static struct use **bucket_of(uintptr_t address)
{
    return &uses[((address >> 9) * (uintptr_t)0x9e3779b97f4a7c15u) >> (64 - USE_SHIFT)];
}

static void use_delete_all(struct use *list)
{
    pthread_mutex_lock(&lock);
    while (list) {
        struct use *next = list->next;

        berth__slab_delete(&use_slab, list);
        list = next;
    }
    pthread_mutex_unlock(&lock);
}

/* Takes the uses of a block out, or only the one by `stream` unless that is NULL. */
static struct use *uses_take(uintptr_t address, const berth_cu_stream *stream)
{
    struct use **link = bucket_of(address), *list = NULL;

    if (atomic_load_explicit(&use_count, memory_order_acquire) == 0)
        return NULL;
    pthread_mutex_lock(&lock);
    while (*link) {
        struct use *use = *link;

        if (use->address != address || (stream && use->stream != *stream)) {
            link = &use->next;
            continue;
        }
        *link = use->next;
        use->next = list;
        list = use;
        atomic_fetch_sub(&use_count, 1);
    }
    pthread_mutex_unlock(&lock);
    return list;
}

void berth_torch_record_stream(void *block, berth_cu_stream stream)
{
    uintptr_t address = (uintptr_t)block;
    struct use **bucket = bucket_of(address), *use;

    if (berth__pool_is_off())
        return;
    pthread_mutex_lock(&lock);
    use = *bucket;
    while (use && (use->address != address || use->stream != stream))
        use = use->next;
    if (!use) {
        use = berth__slab_new(&use_slab, sizeof(*use));
        if (use) {
            *use = (struct use){*bucket, address, stream};
            *bucket = use;
            atomic_fetch_add(&use_count, 1);
        }
    }
    pthread_mutex_unlock(&lock);
}

void berth_torch_erase_stream(void *block, berth_cu_stream stream)
{
    if (!berth__pool_is_off())
        use_delete_all(uses_take((uintptr_t)block, &stream));
}

/*
 * In a forked child every lock is as some thread of the parent had it, and CUDA answers nothing
 * but errors: nothing is touched. Libraries free what they had there all the same.
 */
static bool is_usable(void)
{
    return !berth__pool_is_off() && berth__real_ready();
}

/* Where Berth was not preloaded, its hooks see neither captures nor switches of contexts. */
static bool is_unseen(void)
{
    return !berth__hook_initialised();
}

/* The device's primary context becomes current. */
static int device_enter(int device, bool *ret_pushed)
{
    berth_cu_context context;

    if (is_unseen())
        berth__context_changed();
    context = berth__device_primary(device);
    /* PyTorch keeps it retained; before its first use the count is ours, for the process's life. */
    if (!context && (!berth__driver.cuDevicePrimaryCtxRetain ||
                     berth__driver.cuDevicePrimaryCtxRetain(&context, device) != 0))
        return -ENODEV;
    return berth__device_enter(context, ret_pushed);
}

static struct limit *limit_of(int device)
{
    struct limit *limit = atomic_load_explicit(&limits, memory_order_acquire);

    while (limit && limit->device != device)
        limit = limit->next;
    return limit;
}

/* False: so much more is not allowed on the device. */
static bool limit_take(int device, size_t size)
{
    struct limit *limit = limit_of(device);
    uint64_t live = limit ? atomic_load(&limit->live) : 0;

    if (BERTH_LIKELY(!limit))
        return true;
    /* The count never takes in what is refused: a size that wraps it would empty it. */
    do {
        uint64_t most = atomic_load(&limit->most);

        if (live > most || size > most - live)
            return false;
    } while (!atomic_compare_exchange_weak(&limit->live, &live, live + size));
    return true;
}

/* Blocks from before there was a limit are not in the count, which never wraps. */
static void limit_give(int device, size_t size)
{
    struct limit *limit = limit_of(device);
    uint64_t live = limit ? atomic_load(&limit->live) : 0;

    while (limit &&
           !atomic_compare_exchange_weak(&limit->live, &live, live > size ? live - size : 0))
        ;
}

/*
 * Called with the device's context current, and nothing captured: `stream` waits for those that
 * used the block besides. False: not now.
 */
static bool wait_for_uses(const struct use *list, berth_cu_stream stream)
{
    bool is_ordered = true;

    if (!list)
        return true;
    if (!berth__order_enter())
        return false;
    for (const struct use *use = list; use && is_ordered; use = use->next) {
        struct berth_order_point *point = NULL;
        struct berth_stream *user, *own;

        if (berth__stream_find(use->stream ? use->stream : BERTH_STREAM_LEGACY, &user) < 0 ||
            berth__stream_find(stream ? stream : BERTH_STREAM_LEGACY, &own) < 0)
            continue; /* that stream is no more: nothing of it is left to wait for */
        is_ordered = berth__order_record_stream(atomic_load(&user->context),
                                                atomic_load(&user->handle), &point) == 0 &&
                     berth__order_make_wait(point, atomic_load(&own->context),
                                            atomic_load(&own->handle)) == 0;
        berth__order_done(point);
    }
    berth__order_leave();
    return is_ordered;
}

static bool is_captured(berth_cu_stream stream)
{
    int status = 0;

    return berth__driver.cuStreamIsCapturing &&
           berth__driver.cuStreamIsCapturing(stream, &status) == BERTH_CU_SUCCESS && status != 0;
}

static void give_up(uintptr_t address)
{
    static atomic_int said;

    berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_CUDA,
                    "a block of PyTorch's at %#llx could not be freed",
                    (unsigned long long)address);
}

/* False: while something is captured it cannot be done. `list` is the caller's. */
static bool free_now(uintptr_t address, int device, berth_cu_stream stream, const struct use *list)
{
    bool pushed = false, is_done = false;

    if (device_enter(device, &pushed) < 0)
        return true; /* the device is gone, and its memory */
    if (!berth__device_capturing() && !is_captured(stream) && wait_for_uses(list, stream)) {
        is_done = true;
        if (berth__hook_cuMemFreeAsync(address, stream) != BERTH_CU_SUCCESS &&
            berth__hook_cuMemFree_v2(address) != BERTH_CU_SUCCESS)
            give_up(address);
    }
    berth__device_leave(pushed);
    return is_done;
}

static void defer(uintptr_t address, int device, berth_cu_stream stream, struct use *list)
{
    struct deferred *deferred;

    pthread_mutex_lock(&lock);
    deferred = berth__slab_new(&deferred_slab, sizeof(*deferred));
    if (deferred) {
        *deferred = (struct deferred){deferred_first, address, device, stream, list};
        deferred_first = deferred;
        atomic_fetch_add(&deferred_count, 1);
    }
    pthread_mutex_unlock(&lock);
    if (!deferred) {
        use_delete_all(list);
        give_up(address);
    }
}

/* Frees what had to wait for the end of a capture. */
static void free_deferred(void)
{
    struct deferred *list, *next;

    if (BERTH_LIKELY(atomic_load_explicit(&deferred_count, memory_order_relaxed) == 0) ||
        berth__device_capturing())
        return;
    pthread_mutex_lock(&lock);
    list = deferred_first;
    deferred_first = NULL;
    pthread_mutex_unlock(&lock);
    for (; list; list = next) {
        next = list->next;
        if (free_now(list->address, list->device, list->stream, list->uses))
            use_delete_all(list->uses);
        else
            defer(list->address, list->device, list->stream, list->uses);
        pthread_mutex_lock(&lock);
        berth__slab_delete(&deferred_slab, list);
        pthread_mutex_unlock(&lock);
        atomic_fetch_sub(&deferred_count, 1);
    }
}

static berth_cu_result alloc_on_device(size_t size, int device, berth_cu_stream stream,
                                       const void *return_address, uintptr_t *ret)
{
    berth_cu_address address = 0;
    berth_cu_result result;
    int r = berth__torch_pool_alloc(size, device, stream, return_address, ret);

    if (r != -ENOENT)
        return berth__device_result(r);
    result = berth__hook_cuMemAllocAsync(&address, size, stream);
    if (result == BERTH_CU_NOT_SUPPORTED || result == BERTH_CU_NOT_FOUND)
        result = berth__hook_cuMemAlloc_v2(&address, size);
    *ret = (uintptr_t)address;
    return result;
}

void *berth_torch_alloc(size_t size, int device, berth_cu_stream stream)
{
    berth_cu_result result;
    uintptr_t block = 0;
    bool pushed = false;

    if (size == 0 || !is_usable())
        return NULL;
    free_deferred();
    if (!limit_take(device, size))
        return NULL;
    result = device_enter(device, &pushed) < 0 ? BERTH_CU_NO_DEVICE : BERTH_CU_SUCCESS;
    if (result == BERTH_CU_SUCCESS) {
        result = alloc_on_device(size, device, stream, __builtin_return_address(0), &block);
        berth__device_leave(pushed);
    }
    if (result != BERTH_CU_SUCCESS) {
        limit_give(device, size);
        return NULL;
    }
    return (void *)block;
}

void berth_torch_free(void *block, size_t size, int device, berth_cu_stream stream)
{
    uintptr_t address = (uintptr_t)block;
    struct use *list;

    if (!block || !is_usable())
        return;
    free_deferred();
    limit_give(device, size);
    list = uses_take(address, NULL);
    if (berth__torch_pool_free(address) || free_now(address, device, stream, list))
        use_delete_all(list);
    else
        defer(address, device, stream, list);
}

void berth_torch_init(int device_count)
{
    is_usable();
}

void berth_torch_reset(void)
{
    if (!is_usable())
        return;
    free_deferred();
    berth__stream_release(BERTH_POOL_ALL_DEVICES);
    berth__pool_release_cached(BERTH_POOL_ALL_DEVICES);
}

static struct limit *limit_make(int device)
{
    struct limit *limit;

    pthread_mutex_lock(&lock);
    limit = limit_of(device);
    if (!limit) {
        limit = berth__slab_new(&limit_slab, sizeof(*limit));
        if (limit) {
            limit->device = device;
            atomic_store(&limit->most, UINT64_MAX);
            limit->next = atomic_load(&limits);
            atomic_store_explicit(&limits, limit, memory_order_release);
        }
    }
    pthread_mutex_unlock(&lock);
    return limit;
}

void berth_torch_memory_fraction(double fraction, int device)
{
    size_t free_size = 0, total = 0;
    struct limit *limit;
    bool pushed = false;

    if (!is_usable() || !berth__driver.cuMemGetInfo_v2 || !(fraction >= 0) ||
        device_enter(device, &pushed) < 0)
        return;
    if (berth__driver.cuMemGetInfo_v2(&free_size, &total) == BERTH_CU_SUCCESS) {
        limit = limit_make(device);
        if (limit)
            atomic_store(&limit->most,
                         fraction >= 1 ? UINT64_MAX : (uint64_t)(fraction * (double)total));
    }
    berth__device_leave(pushed);
}

void *berth_torch_base_alloc(void *block, size_t *size)
{
    struct berth_block_view view;

    if (berth__pool_is_off())
        return block;
    if (berth__pool_find((uintptr_t)block, &view) < 0 &&
        berth__stream_find_block((uintptr_t)block, &view) < 0)
        return block;
    if (size)
        *size = view.requested;
    return (void *)view.base;
}

/* Unseen, the capture that follows begins and ends here. */
void berth_torch_begin_allocate_to_pool(int device, struct berth_torch_pool_id id, void *filter)
{
    if (!is_usable())
        return;
    free_deferred();
    if (is_unseen()) {
        berth__order_shut();
        berth__order_shut_to_waits();
        atomic_fetch_add(&berth__device_captures, 1);
        berth__order_open_to_waits();
        berth__order_open();
    }
    berth__torch_pool_begin(device, id);
}

void berth_torch_end_allocate_to_pool(int device, struct berth_torch_pool_id id)
{
    if (berth__pool_is_off())
        return;
    if (berth__torch_pool_end(device, id) && is_unseen())
        atomic_fetch_sub(&berth__device_captures, 1);
    free_deferred();
}

void berth_torch_release_pool(int device, struct berth_torch_pool_id id)
{
    if (!is_usable())
        return;
    berth__torch_pool_release(device, id);
    free_deferred();
}
