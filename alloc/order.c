/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/order.h"

#include "alloc/block_slab.h"
#include "alloc/clock.h"
#include "alloc/device_context.h"
#include "alloc/order_wait.h"
#include "alloc/pause.h"
#include "alloc/pool_parts.h"
#include "alloc/stream.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>

/*
 * How long a thread waits for a point. What it waits for was queued before memory was freed, which
 * natively would have waited too, or shortly after; but a kernel queued since may be waiting for
 * this thread.
 */
#define WAIT_MAX_NS 1000000000
#define WAIT_SPINS 64            /* queries without a pause: most waits are short */
#define WAIT_PAUSE_NS_MAX 200000 /* pauses double up to this */

/* The same for the door: a context that is being destroyed may be at work. */
#define SHUT_MAX_NS 10000000

#define EVENT_FLAGS 2 /* CU_EVENT_DISABLE_TIMING: recording such an event is cheapest */

/*
 * A context that events were made in. Never unmapped, and found again by its handle: a new context
 * at the same handle is another generation.
 */
struct berth_order_context {
    struct berth_order_context *next;
    berth_cu_context context;    /* Synchronization: written before it is listed */
    _Atomic uint64_t generation; /* counts the contexts that had this handle */
    atomic_bool is_unsure;       /* see berth__order_set_unsure() */
    _Atomic unsigned endings;    /* see berth__order_forbid(). Written with the door shut */
    /* Streams that ended and whose work could not be given a point; those known to be done. */
    _Atomic uint64_t lost, found;
    /* A moment before which all that was freed in its streams is done, see alloc/pool_stream.h. */
    _Atomic uint64_t waited;
    _Atomic uint64_t plain; /* it is known to be no green one: `generation` then, and 1 */
    /* What is above is read at each free, what is below is written with each point. */
    _Alignas(64) struct berth_order_point *spares; /* events in no use. Synchronization: `lock` */
    /*
     * Points of streams that were destroyed at work, each with the number of its end: whether the
     * driver's event for a context waits for such a stream, its manual does not say. By `lock`.
     */
    struct berth_order_point *departed;
    unsigned departed_out; /* those that are not listed, because a thread is asking. By `lock` */
    _Atomic uint64_t departures;
};

/* Each synchronising free reads it, so it lies where nothing changes. */
_Alignas(64) _Atomic uint64_t berth__order_losses;
static _Alignas(64) _Atomic(struct berth_order_context *) contexts;
/* Innermost: nothing is called under it. Held for so short that waiting for it is best done awake.
 */
static _Alignas(64) pthread_mutex_t lock = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
static struct berth_slab context_slab, point_slab; /* Synchronization: `lock` */

/* The door. Sequentially consistent, so that of two who meet one sees the other. */
static _Alignas(64) _Atomic uint64_t inside;
static _Atomic uint64_t shut;

bool berth__order_enter(void)
{
    atomic_fetch_add(&inside, 1);
    if (atomic_load(&shut) == 0 && atomic_load(&berth__device_captures) == 0)
        return true;
    atomic_fetch_sub(&inside, 1);
    return false;
}

/* For a thread in relaxed mode, whose questions no capture forbids. */
static bool enter_relaxed(void)
{
    atomic_fetch_add(&inside, 1);
    if (atomic_load(&shut) == 0)
        return true;
    atomic_fetch_sub(&inside, 1);
    return false;
}

void berth__order_leave(void)
{
    atomic_fetch_sub(&inside, 1);
}

void berth__order_shut(void)
{
    atomic_fetch_add(&shut, 1);
    /* Who was inside when a process forked never leaves in the child. */
    while (atomic_load(&inside) > 0 && !berth__pool_disabled())
        sched_yield();
}

void berth__order_open(void)
{
    atomic_fetch_sub(&shut, 1);
}

static struct berth_order_context *context_find(berth_cu_context context)
{
    struct berth_order_context *owner = atomic_load_explicit(&contexts, memory_order_acquire);

    while (owner && owner->context != context)
        owner = owner->next;
    return owner;
}

static struct berth_order_context *context_find_or_make(berth_cu_context context)
{
    struct berth_order_context *owner = context_find(context);

    if (BERTH_LIKELY(owner != NULL))
        return owner;
    pthread_mutex_lock(&lock);
    owner = context_find(context);
    if (!owner) {
        owner = berth__slab_new(&context_slab, sizeof(*owner));
        if (owner) {
            owner->context = context;
            owner->next = atomic_load_explicit(&contexts, memory_order_relaxed);
            atomic_store_explicit(&contexts, owner, memory_order_release);
        }
    }
    pthread_mutex_unlock(&lock);
    return owner;
}

static uint64_t generation_of(const struct berth_order_context *owner)
{
    return atomic_load_explicit(&owner->generation, memory_order_acquire);
}

/* Called inside the door: whether a thread is destroying the context. */
static bool is_ending(const struct berth_order_context *owner)
{
    return atomic_load_explicit(&owner->endings, memory_order_relaxed) > 0;
}

static bool point_is_current(const struct berth_order_point *point)
{
    return point->generation == generation_of(point->owner);
}

static int event_make(berth_cu_context context, berth_cu_event *ret)
{
    berth_cu_event event = NULL;
    bool pushed = false;
    int r;

    if (!berth__driver.cuEventCreate || !berth__driver.cuEventQuery)
        return -ENOTSUP;
    r = berth__device_enter(context, &pushed);
    if (r < 0)
        return r;
    r = berth__device_error(berth__driver.cuEventCreate(&event, EVENT_FLAGS));
    berth__device_leave(pushed);
    if (r == 0)
        *ret = event;
    return r;
}

static void point_delete(struct berth_order_point *point)
{
    pthread_mutex_lock(&lock);
    berth__slab_delete(&point_slab, point);
    pthread_mutex_unlock(&lock);
}

/* A point with an event that is nobody's. */
static int point_new(struct berth_order_context *owner, struct berth_order_point **ret)
{
    struct berth_order_point *point;
    bool is_spare;
    int r;

    pthread_mutex_lock(&lock);
    point = owner->spares;
    is_spare = point != NULL;
    if (is_spare)
        owner->spares = point->next;
    else
        point = berth__slab_new(&point_slab, sizeof(*point));
    pthread_mutex_unlock(&lock);
    if (!point)
        return -ENOMEM;
    point->next = NULL;
    point->departed = 0;
    if (!is_spare) {
        point->owner = owner;
        point->generation = generation_of(owner);
        r = event_make(owner->context, &point->event);
        if (r < 0) {
            point_delete(point);
            return r;
        }
    }
    *ret = point;
    return 0;
}

void berth__order_done(struct berth_order_point *point)
{
    struct berth_order_point *next;

    pthread_mutex_lock(&lock);
    for (; point; point = next) {
        struct berth_order_context *owner = point->owner;

        next = point->next;
        if (point_is_current(point)) {
            point->next = owner->spares;
            owner->spares = point;
        } else {
            berth__slab_delete(&point_slab, point);
        }
    }
    pthread_mutex_unlock(&lock);
}

int berth__order_record_stream(berth_cu_context context, berth_cu_stream stream,
                               struct berth_order_point **ret)
{
    struct berth_order_context *owner = context_find_or_make(context);
    struct berth_order_point *point;
    bool pushed = false;
    int r;

    if (!owner)
        return -ENOMEM;
    if (is_ending(owner))
        return -EBUSY;
    if (!berth__driver.cuEventRecord)
        return -ENOTSUP;
    r = point_new(owner, &point);
    if (r < 0)
        return r;
    r = berth__device_enter(context, &pushed);
    if (r == 0) {
        r = berth__device_error(berth__driver.cuEventRecord(point->event, stream));
        berth__device_leave(pushed);
    }
    if (r < 0)
        berth__order_done(point);
    else
        *ret = point;
    return r;
}

static int event_query(const struct berth_order_point *point)
{
    berth_cu_result result = berth__driver.cuEventQuery(point->event);

    if (result == BERTH_CU_NOT_READY)
        return 0;
    return result == BERTH_CU_SUCCESS ? 1 : berth__device_error(result);
}

/*
 * Takes out a departed stream's point that was numbered up to `last`, which departed_settle() must
 * follow. *ret_is_asked says whether another thread has taken one out and not settled it.
 */
static struct berth_order_point *departed_take(struct berth_order_context *owner, uint64_t last,
                                               bool *ret_is_asked)
{
    struct berth_order_point **link = &owner->departed, *point;

    pthread_mutex_lock(&lock);
    while (*link && (*link)->departed > last)
        link = &(*link)->next;
    point = *link;
    *ret_is_asked = owner->departed_out > 0;
    if (point) {
        *link = point->next;
        owner->departed_out++;
    }
    pthread_mutex_unlock(&lock);
    return point;
}

static void departed_put(struct berth_order_context *owner, struct berth_order_point *point)
{
    pthread_mutex_lock(&lock);
    point->next = owner->departed;
    owner->departed = point;
    pthread_mutex_unlock(&lock);
}

static void departed_settle(struct berth_order_context *owner, struct berth_order_point *point,
                            bool has_passed)
{
    if (!has_passed)
        departed_put(owner, point);
    pthread_mutex_lock(&lock);
    owner->departed_out--;
    pthread_mutex_unlock(&lock);
    if (has_passed) {
        point->next = NULL;
        berth__order_done(point);
    }
}

/*
 * Called inside the door: whether the streams that were destroyed before are done, too. While
 * another thread asks about one that is not listed meanwhile, nobody knows: then not yet.
 */
static int departed_query(struct berth_order_context *owner, uint64_t last)
{
    struct berth_order_point *point;
    bool is_asked = false;
    int r = 1;

    while (r == 1 && (point = departed_take(owner, last, &is_asked))) {
        r = point_is_current(point) ? event_query(point) : 1;
        departed_settle(owner, point, r == 1);
    }
    return r == 1 && is_asked ? 0 : r;
}

/* What berth__stream_each_made() collects: one event per stream. */
struct collection {
    berth_cu_context context;
    struct berth_order_point *points;
};

/* Whether the stream has done all that it was given: then it needs no event. */
static bool is_idle(berth_cu_context context, berth_cu_stream stream)
{
    bool pushed = false, is;

    if (!berth__driver.cuStreamQuery || berth__device_enter(context, &pushed) < 0)
        return false;
    is = berth__driver.cuStreamQuery(stream) == BERTH_CU_SUCCESS;
    berth__device_leave(pushed);
    return is;
}

static int collect_handle(struct collection *collection, berth_cu_stream handle, uint64_t departed)
{
    struct berth_order_point *point;
    int r;

    if (departed == 0 && is_idle(collection->context, handle))
        return 0;
    r = berth__order_record_stream(collection->context, handle, &point);
    if (r < 0)
        return r;
    point->departed = departed;
    point->next = collection->points;
    collection->points = point;
    return 0;
}

static int collect(struct berth_stream *stream, void *argument)
{
    return collect_handle(argument, stream->handle, 0);
}

/* One that has passed, and has no event: as if its context were another by now. */
static int point_passed(struct berth_order_context *owner, struct berth_order_point **ret)
{
    struct berth_order_point *point;

    pthread_mutex_lock(&lock);
    point = berth__slab_new(&point_slab, sizeof(*point));
    pthread_mutex_unlock(&lock);
    if (!point)
        return -ENOMEM;
    *point = (struct berth_order_point){.owner = owner, .generation = UINT64_MAX};
    *ret = point;
    return 0;
}

/*
 * One event per stream that is at work: the legacy default one, and all that the program has made.
 * The first is behind those that were destroyed, too, of which one may still be at work.
 */
static int record_streams(struct berth_order_context *owner, struct berth_order_point **ret)
{
    struct collection collection = {.context = owner->context};
    uint64_t departed = atomic_load(&owner->departures);
    int r;

    if (departed > 0 && departed_query(owner, departed) == 1)
        departed = 0;
    r = collect_handle(&collection, BERTH_STREAM_LEGACY, departed);
    if (r == 0)
        r = berth__stream_each_made(owner->context, collect, &collection);
    if (r == 0 && !collection.points)
        r = point_passed(owner, &collection.points);
    if (r < 0) {
        berth__order_done(collection.points);
        return r;
    }
    *ret = collection.points;
    return 0;
}

/* Whether a stream has ended without a point, and nobody has seen its work done. */
static bool has_lost(const struct berth_order_context *owner)
{
    return atomic_load_explicit(&owner->lost, memory_order_relaxed) !=
           atomic_load_explicit(&owner->found, memory_order_relaxed);
}

/*
 * Called inside the door. A stream is lost while that is shut: who asked outside, by
 * berth__order_is_known(), knows of those before only, and whether the driver's event for a context
 * is behind the work of one that is no more, its manual does not say.
 */
static int record_context(berth_cu_context context, struct berth_order_point **ret)
{
    struct berth_order_context *owner = context_find_or_make(context);
    struct berth_order_point *point;
    int r;

    if (!owner)
        return -ENOMEM;
    if (is_ending(owner))
        return -EBUSY;
    if (has_lost(owner))
        return -ENOTSUP;
    if (!berth__driver.cuCtxRecordEvent)
        return atomic_load(&owner->is_unsure) ? -ENOTSUP : record_streams(owner, ret);
    r = point_new(owner, &point);
    if (r < 0)
        return r;
    point->departed = atomic_load(&owner->departures);
    r = berth__device_error(berth__driver.cuCtxRecordEvent(context, point->event));
    if (r < 0)
        berth__order_done(point);
    else
        *ret = point;
    return r;
}

int berth__order_record(berth_cu_context context, struct berth_order_point **ret)
{
    int r;

    if (!berth__order_enter())
        return -EBUSY;
    r = record_context(context, ret);
    berth__order_leave();
    return r;
}

int berth__order_make_wait(const struct berth_order_point *point, berth_cu_context context,
                           berth_cu_stream stream)
{
    bool pushed = false;
    int r = berth__driver.cuStreamWaitEvent ? berth__device_enter(context, &pushed) : -ENOTSUP;

    if (r < 0)
        return r;
    for (; point && r == 0; point = point->next)
        if (is_ending(point->owner))
            r = -EBUSY;
        else if (point_is_current(point))
            r = berth__device_error(berth__driver.cuStreamWaitEvent(stream, point->event, 0));
    berth__device_leave(pushed);
    return r;
}

/* Called inside the door. */
static int query(const struct berth_order_point *point)
{
    int r = 1;

    for (; point && r == 1; point = point->next) {
        if (is_ending(point->owner))
            return -EBUSY;
        if (!point_is_current(point))
            continue;
        r = event_query(point);
        if (r == 1 && point->departed > 0)
            r = departed_query(point->owner, point->departed);
    }
    return r;
}

static int query_by(bool (*enter)(void), const struct berth_order_point *point)
{
    int r;

    if (!enter())
        return -EBUSY;
    r = query(point);
    berth__order_leave();
    return r;
}

/* Called inside the door. */
static int record_anew(berth_cu_context context, struct berth_order_point **point)
{
    struct berth_order_point *old = *point;

    if (!berth__driver.cuCtxRecordEvent)
        return -ENOTSUP;
    if (old && old->owner->context == context && point_is_current(old)) {
        if (is_ending(old->owner))
            return -EBUSY;
        if (has_lost(old->owner))
            return -ENOTSUP;
        old->departed = atomic_load(&old->owner->departures);
        return berth__device_error(berth__driver.cuCtxRecordEvent(context, old->event));
    }
    *point = NULL;
    berth__order_done(old);
    return record_context(context, point);
}

int berth__order_probe(berth_cu_context context, struct berth_order_point **point)
{
    int r;

    if (!berth__order_enter())
        return -EBUSY;
    r = record_anew(context, point);
    if (r == 0)
        r = query(*point);
    berth__order_leave();
    return r;
}

int berth__order_query(const struct berth_order_point *point)
{
    return query_by(berth__order_enter, point);
}

int berth__order_query_relaxed(const struct berth_order_point *point)
{
    return query_by(enter_relaxed, point);
}

/* A capture may begin while the calling thread is on its way into the driver. */
static bool has_passed_relaxed(const struct berth_order_point *point)
{
    struct berth_device_mode mode = berth__device_relax();
    bool has_passed = event_query(point) == 1;

    berth__device_restore(mode);
    return has_passed;
}

void berth__order_depart(berth_cu_context context, berth_cu_stream stream)
{
    struct berth_order_context *owner = context_find_or_make(context);
    struct berth_order_point *point;
    struct berth_order_waiters *mine;
    bool is_known, has_passed;

    if (!owner || !berth__driver.cuEventQuery)
        return;
    /* Who begins a capture shuts the first door, too, and does not wait for others who have. */
    mine = berth__order_wait_enter();
    is_known = mine && berth__order_record_stream(context, stream, &point) == 0;
    has_passed = is_known && has_passed_relaxed(point);
    if (mine)
        berth__order_wait_leave(mine);
    if (!is_known) {
        atomic_fetch_add(&owner->lost, 1);
        atomic_fetch_add(&berth__order_losses, 1);
    } else if (has_passed) {
        berth__order_done(point);
    } else {
        point->departed = atomic_fetch_add(&owner->departures, 1) + 1;
        departed_put(owner, point);
    }
}

static int wait_by(bool (*enter)(void), const struct berth_order_point *point)
{
    long pause_ns = 1000;
    int64_t begin = 0;

    for (unsigned spins = 0;; spins++) {
        int r = query_by(enter, point);
        /* The door is shut for a capture, or only while a stream or a context is destroyed. */
        bool is_shut =
            r == -EBUSY && (enter == enter_relaxed || atomic_load(&berth__device_captures) == 0);

        if (r != 0 && !is_shut)
            return r < 0 ? r : 0;
        if (spins < WAIT_SPINS) {
            sched_yield();
            continue;
        }
        if (begin == 0)
            begin = berth__clock_ns();
        else if (berth__clock_ns() >= begin + (is_shut ? SHUT_MAX_NS : WAIT_MAX_NS))
            return is_shut ? r : -ETIMEDOUT;
        berth__pause(pause_ns);
        if (pause_ns < WAIT_PAUSE_NS_MAX)
            pause_ns *= 2;
    }
}

int berth__order_wait(const struct berth_order_point *point)
{
    return wait_by(berth__order_enter, point);
}

int berth__order_wait_relaxed(const struct berth_order_point *point)
{
    return wait_by(enter_relaxed, point);
}

void berth__order_set_unsure(berth_cu_context context)
{
    struct berth_order_context *owner = context ? context_find_or_make(context) : NULL;

    if (owner && !atomic_load_explicit(&owner->is_unsure, memory_order_relaxed))
        atomic_store(&owner->is_unsure, true);
}

void berth__order_saw_unknown(berth_cu_stream stream)
{
    berth_cu_context context = NULL;
    struct berth_stream *seen;

    if (berth__stream_is_default(stream)) {
        if (berth__context_current(&context) == 0)
            berth__order_set_unsure(context);
    } else {
        berth__stream_find(stream, &seen);
    }
}

bool berth__order_is_known(berth_cu_context context)
{
    const struct berth_order_context *owner;

    owner = context_find(context);
    if (!owner)
        return true;
    return !has_lost(owner) && (berth__driver.cuCtxRecordEvent ||
                                !atomic_load_explicit(&owner->is_unsure, memory_order_relaxed));
}

uint64_t berth__order_lost_of(berth_cu_context context)
{
    const struct berth_order_context *owner = context_find(context);

    return owner ? atomic_load(&owner->lost) : 0;
}

void berth__order_synced(berth_cu_context context, uint64_t lost)
{
    struct berth_order_context *owner = context_find(context);
    uint64_t found = owner ? atomic_load(&owner->found) : lost;

    while (found < lost && !atomic_compare_exchange_weak(&owner->found, &found, lost))
        ;
}

void berth__order_set_waited(berth_cu_context context, uint64_t moment)
{
    struct berth_order_context *owner = context_find_or_make(context);
    uint64_t waited = owner ? atomic_load_explicit(&owner->waited, memory_order_relaxed) : moment;

    while (waited < moment && !atomic_compare_exchange_weak(&owner->waited, &waited, moment))
        ;
}

uint64_t berth__order_waited(berth_cu_context context)
{
    const struct berth_order_context *owner = context_find(context);

    return owner ? atomic_load(&owner->waited) : 0;
}

bool berth__order_is_plain(berth_cu_context context)
{
    struct berth_order_context *owner = context_find_or_make(context);
    uint64_t generation = owner ? generation_of(owner) : 0;
    bool pushed = false, is_green;

    if (!owner)
        return false;
    if (BERTH_LIKELY(atomic_load_explicit(&owner->plain, memory_order_acquire) == generation + 1))
        return true;
    if (berth__device_enter(context, &pushed) < 0)
        return false;
    is_green = berth__context_is_green();
    berth__device_leave(pushed);
    if (!is_green)
        atomic_store_explicit(&owner->plain, generation + 1, memory_order_release);
    return !is_green;
}

bool berth__order_forbid(berth_cu_context context)
{
    struct berth_order_context *owner = context_find_or_make(context);

    if (owner)
        atomic_fetch_add(&owner->endings, 1);
    return owner != NULL;
}

bool berth__order_is_forbidden(berth_cu_context context)
{
    const struct berth_order_context *owner = context_find(context);

    return owner && is_ending(owner);
}

void berth__order_allow(berth_cu_context context)
{
    struct berth_order_context *owner = context_find(context);

    if (owner && is_ending(owner))
        atomic_fetch_sub(&owner->endings, 1);
}

bool berth__order_await_door(int64_t patience_ns)
{
    long pause_ns = 1000;
    int64_t end = berth__clock_ns() + patience_ns;

    while (atomic_load(&shut) > 0) {
        if (atomic_load(&berth__device_captures) > 0 || berth__clock_ns() >= end)
            return false;
        berth__pause(pause_ns);
        if (pause_ns < WAIT_PAUSE_NS_MAX)
            pause_ns *= 2;
    }
    return atomic_load(&berth__device_captures) == 0;
}

void berth__order_drop(berth_cu_context context)
{
    struct berth_order_context *owner = context_find(context);
    struct berth_order_point *next;

    if (!owner)
        return;
    pthread_mutex_lock(&lock);
    atomic_fetch_add(&owner->generation, 1);
    atomic_store(&owner->is_unsure, false);
    atomic_store(&owner->found, atomic_load(&owner->lost));
    for (struct berth_order_point *point = owner->spares; point; point = next) {
        next = point->next;
        berth__slab_delete(&point_slab, point);
    }
    for (struct berth_order_point *point = owner->departed; point; point = next) {
        next = point->next;
        berth__slab_delete(&point_slab, point);
    }
    owner->spares = NULL;
    owner->departed = NULL;
    pthread_mutex_unlock(&lock);
}
