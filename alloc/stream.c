/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/stream.h"

#include "alloc/block_slab.h"
#include "alloc/device_context.h"
#include "alloc/order.h"
#include "alloc/pool_parts.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define BUCKET_SHIFT 12
#define BUCKETS (1u << BUCKET_SHIFT)
/* So many buckets are passed over at once where no stream of theirs has cached blocks. */
#define GROUP_SHIFT 6
#define GROUPS (BUCKETS >> GROUP_SHIFT)

/* A thread remembers the streams that it used last. */
#define RECENT_SHIFT 3
#define RECENT (1u << RECENT_SHIFT)

struct recent {
    berth_cu_stream handle;
    berth_cu_context context; /* of default streams */
    uint64_t generation;
    struct berth_stream *stream;
};

static _Atomic(struct berth_stream *) buckets[BUCKETS];
static _Atomic uint32_t listed[BUCKETS], listed_groups[GROUPS]; /* see berth_stream_set */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;        /* writers; innermost */
static struct berth_slab slab;                                  /* Synchronization: `lock` */
static _Atomic uint64_t generation = 1; /* counts ends, so that no thread remembers too long */
static _Atomic uint64_t thread_serials;
static __thread struct recent recents[RECENT];
static __thread uint64_t thread_serial;
static pthread_key_t thread_key;
static pthread_once_t thread_once = PTHREAD_ONCE_INIT;

static unsigned hash_of(berth_cu_stream handle)
{
    return (unsigned)(((uintptr_t)handle * (uintptr_t)0x9e3779b97f4a7c15u) >> 40);
}

static bool is_ready(const struct berth_stream *stream)
{
    return atomic_load_explicit(&stream->state, memory_order_acquire) == BERTH_STREAM_READY;
}

static bool stream_is(const struct berth_stream *stream, berth_cu_stream handle,
                      berth_cu_context context, uint64_t thread)
{
    if (!is_ready(stream) || atomic_load(&stream->handle) != handle)
        return false;
    return !berth__stream_is_default(handle) ||
           (atomic_load(&stream->context) == context && atomic_load(&stream->thread) == thread);
}

static struct berth_stream *stream_look_up(berth_cu_stream handle, berth_cu_context context,
                                           uint64_t thread)
{
    struct berth_stream *stream =
        atomic_load_explicit(&buckets[hash_of(handle) % BUCKETS], memory_order_acquire);

    while (stream && !stream_is(stream, handle, context, thread))
        stream = stream->next;
    return stream;
}

/* Called with the lock held: a record that is nobody's, in the bucket of the handle. */
static struct berth_stream *record_new(berth_cu_stream handle)
{
    unsigned index = hash_of(handle) % BUCKETS;
    _Atomic(struct berth_stream *) *bucket = &buckets[index];
    struct berth_stream *stream = atomic_load(bucket);

    while (stream && atomic_load(&stream->state) != BERTH_STREAM_FREE)
        stream = stream->next;
    if (stream)
        return stream;
    stream = berth__slab_new(&slab, sizeof(*stream));
    if (stream) {
        berth__stats_part_add(&stream->set.part, BERTH_TIER_DEVICE);
        stream->set.listed_in[0] = &listed[index];
        stream->set.listed_in[1] = &listed_groups[index >> GROUP_SHIFT];
        stream->next = atomic_load(bucket);
        atomic_store_explicit(bucket, stream, memory_order_release);
    }
    return stream;
}

static struct berth_stream *stream_add(berth_cu_stream handle, berth_cu_context context, int device,
                                       uint64_t thread, bool is_made)
{
    struct berth_stream *stream;

    pthread_mutex_lock(&lock);
    stream = stream_look_up(handle, context, thread);
    if (!stream) {
        stream = record_new(handle);
        if (stream) {
            atomic_store(&stream->handle, handle);
            atomic_store(&stream->context, context);
            atomic_store(&stream->thread, thread);
            atomic_store(&stream->device, device);
            atomic_store(&stream->is_made, is_made);
            atomic_store_explicit(&stream->state, BERTH_STREAM_READY, memory_order_release);
        }
    }
    pthread_mutex_unlock(&lock);
    return stream;
}

/*
 * The thread may go on to use streams, in a destructor of the program's that runs later: to Berth
 * it is then another thread, and does not remember records that may be somebody else's by then.
 */
static void thread_done(void *serial)
{
    memset(recents, 0, sizeof(recents));
    thread_serial = 0;
    if (berth__pool_disabled())
        return;
    for (unsigned i = 0; i < BUCKETS; i++)
        for (struct berth_stream *stream = atomic_load(&buckets[i]); stream; stream = stream->next)
            if (is_ready(stream) && atomic_load(&stream->thread) == (uint64_t)(uintptr_t)serial) {
                berth__stream_thread_ends(stream);
                atomic_store(&stream->state, BERTH_STREAM_FREE);
            }
}

static void thread_key_make(void)
{
    pthread_key_create(&thread_key, thread_done);
}

static uint64_t thread_current(void)
{
    if (thread_serial == 0) {
        pthread_once(&thread_once, thread_key_make);
        thread_serial = atomic_fetch_add(&thread_serials, 1) + 1;
        pthread_setspecific(thread_key, (void *)(uintptr_t)thread_serial);
    }
    return thread_serial;
}

bool berth__stream_is_reachable(const struct berth_stream *stream)
{
    uint64_t thread = atomic_load_explicit(&stream->thread, memory_order_relaxed);

    return thread == 0 || thread == thread_serial;
}

static int device_of(berth_cu_context context, int *ret)
{
    bool pushed = false;
    int r = berth__device_enter(context, &pushed);

    if (r < 0)
        return r;
    r = berth__device_of_current(ret);
    berth__device_leave(pushed);
    return r;
}

/* A stream that was not seen before: a default one, or one that some other way has made. */
static int stream_find_slow(berth_cu_stream handle, berth_cu_context context,
                            struct berth_stream **ret)
{
    uint64_t thread = handle == BERTH_STREAM_PER_THREAD ? thread_current() : 0;
    struct berth_stream *stream = stream_look_up(handle, context, thread);
    int device, r;

    if (!stream) {
        if (!berth__stream_is_default(handle)) {
            if (!berth__driver.cuStreamGetCtx)
                return -ENOSYS;
            r = berth__device_error(berth__driver.cuStreamGetCtx(handle, &context));
            if (r < 0)
                return r;
            berth__order_set_unsure(context);
        }
        if (thread != 0)
            berth__order_set_unsure(context);
        r = device_of(context, &device);
        if (r < 0)
            return r;
        stream = stream_add(handle, context, device, thread, false);
        if (!stream)
            return -ENOMEM;
    }
    *ret = stream;
    return 0;
}

int berth__stream_find(berth_cu_stream handle, struct berth_stream **ret)
{
    struct recent *recent = &recents[hash_of(handle) % RECENT];
    uint64_t now = atomic_load_explicit(&generation, memory_order_acquire);
    berth_cu_context context = NULL;
    int r;

    if (berth__stream_is_default(handle)) {
        r = berth__context_current(&context);
        if (r < 0 || !context)
            return r < 0 ? r : -ENXIO;
    }
    if (BERTH_LIKELY(recent->handle == handle && recent->context == context &&
                     recent->generation == now)) {
        *ret = recent->stream;
        return 0;
    }
    r = stream_find_slow(handle, context, ret);
    if (r == 0)
        *recent = (struct recent){handle, context, now, *ret};
    return r;
}

struct berth_stream *berth__stream_peek(berth_cu_stream handle)
{
    berth_cu_context context = NULL;

    if (berth__stream_is_default(handle) &&
        (berth__context_current(&context) < 0 || !context ||
         (handle == BERTH_STREAM_PER_THREAD && thread_serial == 0)))
        return NULL;
    return stream_look_up(handle, context, handle == BERTH_STREAM_PER_THREAD ? thread_serial : 0);
}

/* The stream can no longer be found. */
static void stream_end(struct berth_stream *stream)
{
    atomic_store(&stream->state, BERTH_STREAM_ENDING);
    atomic_fetch_add(&generation, 1);
}

void berth__stream_made(berth_cu_stream handle)
{
    berth_cu_context context = NULL;
    struct berth_stream *stale;
    int device;

    if (berth__stream_is_default(handle) || berth__pool_disabled() ||
        berth__device_current(&context) < 0 || !context || berth__device_of_current(&device) < 0)
        return;
    /* The handle's last stream was destroyed in a way that no hook saw; its work may go on. */
    stale = stream_look_up(handle, NULL, 0);
    if (stale) {
        stream_end(stale);
        berth__stream_thread_ends(stale);
        atomic_store(&stale->state, BERTH_STREAM_FREE);
    }
    if (!stream_add(handle, context, device, 0, true))
        berth__order_set_unsure(context);
}

struct berth_stream *berth__stream_destroy_begin(berth_cu_stream handle,
                                                 void (*retire)(struct berth_stream *stream))
{
    struct berth_stream *stream;

    if (berth__stream_is_default(handle) || berth__pool_disabled())
        return NULL;
    berth__order_shut();
    stream = stream_look_up(handle, NULL, 0);
    if (!stream) {
        berth__order_open();
        return NULL;
    }
    stream_end(stream);
    retire(stream);
    berth__order_depart(atomic_load(&stream->context), handle);
    return stream;
}

void berth__stream_destroy_end(struct berth_stream *stream, bool is_destroyed)
{
    if (!stream)
        return;
    atomic_store(&stream->state, is_destroyed ? BERTH_STREAM_FREE : BERTH_STREAM_READY);
    berth__order_open();
}

static void each_of_context(berth_cu_context context, int state,
                            void (*visit)(struct berth_stream *stream))
{
    for (unsigned i = 0; i < BUCKETS; i++)
        for (struct berth_stream *stream = atomic_load(&buckets[i]); stream; stream = stream->next)
            if (atomic_load(&stream->state) == state && atomic_load(&stream->context) == context)
                visit(stream);
}

void berth__stream_drop_begin(berth_cu_context context)
{
    if (!context || berth__pool_disabled())
        return;
    berth__order_shut();
    each_of_context(context, BERTH_STREAM_READY, stream_end);
    if (berth__order_forbid(context))
        berth__order_open();
}

static void stream_free(struct berth_stream *stream)
{
    atomic_store(&stream->state, BERTH_STREAM_FREE);
}

static void stream_revive(struct berth_stream *stream)
{
    atomic_store(&stream->state, BERTH_STREAM_READY);
}

void berth__stream_drop_end(berth_cu_context context, bool is_destroyed,
                            void (*retire)(struct berth_stream *stream))
{
    if (!context || berth__pool_disabled())
        return;
    if (berth__order_is_forbidden(context))
        berth__order_shut();
    if (is_destroyed) {
        berth__order_drop(context);
        each_of_context(context, BERTH_STREAM_ENDING, retire);
    }
    each_of_context(context, BERTH_STREAM_ENDING, is_destroyed ? stream_free : stream_revive);
    berth__order_allow(context);
    berth__order_open();
}

static int each_cached_of(unsigned bucket,
                          int (*visit)(struct berth_stream *stream, void *argument), void *argument)
{
    int r = 0;

    for (struct berth_stream *stream = atomic_load(&buckets[bucket]); stream && r == 0;
         stream = stream->next) {
        if (is_ready(stream))
            r = visit(stream, argument);
        berth__stream_set_unlist(&stream->set);
    }
    return r;
}

int berth__stream_each_cached(int (*visit)(struct berth_stream *stream, void *argument),
                              void *argument)
{
    int r = 0;

    for (unsigned i = 0; i < BUCKETS && r == 0; i++) {
        if (atomic_load_explicit(&listed_groups[i >> GROUP_SHIFT], memory_order_acquire) == 0)
            i |= (1u << GROUP_SHIFT) - 1;
        else if (atomic_load_explicit(&listed[i], memory_order_acquire) > 0)
            r = each_cached_of(i, visit, argument);
    }
    return r;
}

int berth__stream_each_made(berth_cu_context context,
                            int (*visit)(struct berth_stream *stream, void *argument),
                            void *argument)
{
    int r = 0;

    for (unsigned i = 0; i < BUCKETS && r == 0; i++)
        for (struct berth_stream *stream = atomic_load(&buckets[i]); stream && r == 0;
             stream = stream->next)
            if (is_ready(stream) && atomic_load(&stream->is_made) &&
                atomic_load(&stream->context) == context)
                r = visit(stream, argument);
    return r;
}
