/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_alone.h"
#include "alloc/pool_expand.h"
#include "alloc/pool_idle.h"
#include "alloc/pool_stream.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"

#include <errno.h>
#include <time.h>

/*
 * How long a thread that needs memory waits for others that are giving it back: cuMemFree waits
 * for the device, and the program would not have been refused natively. Not for ever, because the
 * device may be waiting for this very thread.
 */
#define RELEASE_WAIT_MAX_S 10
/* How long a context is not kept for the sake of those who wait for another one that is. */
#define TURN_WAIT_NS 100000000
#define NS_PER_S 1000000000

#define RELEASE_ALL UINT64_MAX /* bytes */

/* Whose memory is kept, by their devices; NULL: none's. See berth__pool_keep_begin(). */
static _Atomic(berth_cu_context) kept_contexts[BERTH_DEVICE_SLOTS];

static bool is_kept(const struct berth_pool *pool)
{
    int device = atomic_load_explicit(&pool->device, memory_order_relaxed);
    berth_cu_context kept = atomic_load(&kept_contexts[berth__device_slot(device)]);

    return kept && atomic_load(&pool->context) == kept;
}

bool berth__pool_may_end(const struct berth_pool *pool)
{
    return atomic_load_explicit(&pool->is_ending, memory_order_relaxed) || is_kept(pool);
}

/* Takes the segment of a free block that fills it out of all books but the account's `reserved`. */
static void detach(struct berth_pool *pool, struct berth_segment *segment,
                   struct berth_segment **list)
{
    berth__free_set_remove(berth__pool_set(pool, segment), segment->first);
    berth__idle_leave(pool, segment->first);
    berth__pool_count_cached(pool, -segment->size);
    berth__segment_unmap(segment);
    berth__pool_list_remove(pool, segment);
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
        detach(pool, enough->segment, &list);
        return list;
    }
    while (segment && segment->next)
        segment = segment->next;
    for (uint64_t bytes = 0; segment && bytes < need; segment = prev) {
        prev = segment->prev;
        if (segment->used_blocks > 0 || segment->kind == BERTH_SEGMENT_RANGE)
            continue;
        bytes += segment->size;
        detach(pool, segment, &list);
    }
    return list;
}

static void attach_free(struct berth_pool *pool, struct berth_segment *segment)
{
    berth__free_set_insert(berth__pool_set(pool, segment), segment->first);
    berth__idle_enter(pool, segment->first);
    berth__pool_count_cached(pool, segment->size);
}

/* The driver kept the segment: it is as it was, unless its context has gone meanwhile. */
static void attach_again(struct berth_pool *pool, struct berth_segment *segment,
                         uint64_t generation,
                         void (*attach)(struct berth_pool *pool, struct berth_segment *segment))
{
    struct berth_segment *other = NULL;

    if (pool->generation != generation || berth__segment_map(segment, &other) < 0) {
        berth__tier_release(pool->tier, segment->size);
        berth__pool_delete_segment(pool, segment);
        return;
    }
    berth__pool_list_add(pool, segment);
    attach(pool, segment);
}

/* Threads that wait for others to give memory back. */
static pthread_mutex_t release_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t release_done = PTHREAD_COND_INITIALIZER;
/* Synchronization: release_lock */
static uint64_t releases; /* that are done */
/* The threads that look for memory, see struct look. */
static struct look *looks;

void berth__pool_count_released(struct berth_pool *pool, uint64_t size)
{
    pthread_mutex_lock(&release_lock);
    atomic_fetch_sub_explicit(&pool->releasing, size, memory_order_relaxed);
    releases++;
    pthread_cond_broadcast(&release_done);
    pthread_mutex_unlock(&release_lock);
}

/* Segments that were detached, and of what. */
struct detached {
    struct berth_segment *list;
    berth_cu_context context;
    uint64_t generation;
    bool is_replaced; /* for the sake of another segment, see berth__own_note_gone() */
};

/* With the lock held; the segments are added by the caller. */
static struct detached detached_of(const struct berth_pool *pool)
{
    return (struct detached){
        .context = atomic_load_explicit(&pool->context, memory_order_relaxed),
        .generation = pool->generation,
    };
}

static bool segment_is_idle(const struct berth_segment *segment)
{
    return segment->used_blocks == 0 && segment->kind != BERTH_SEGMENT_RANGE;
}

/*
 * Whether the driver would have segments back in that time. Asked before they are detached: as long
 * as it is waited for they serve the program.
 */
static bool is_quiet(struct berth_pool *pool,
                     bool (*is_wanted)(const struct berth_segment *segment),
                     enum berth_patience patience)
{
    const struct berth_segment *segment;

    berth__pool_lock(pool);
    berth__cache_flush(pool);
    segment = pool->segments;
    while (segment && !is_wanted(segment))
        segment = segment->next;
    berth__pool_unlock(pool);
    return segment && berth__pool_await_quiet(pool, patience) != 0;
}

/* The bytes that the driver took. What it keeps goes back by `attach`. */
static uint64_t release_detached(struct berth_pool *pool, const struct detached *detached,
                                 void (*attach)(struct berth_pool *pool,
                                                struct berth_segment *segment))
{
    struct berth_segment *next;
    uint64_t released = 0;

    for (struct berth_segment *segment = detached->list; segment; segment = next) {
        uint64_t size = segment->size;
        int r = berth__device_free(detached->context, segment->base);

        next = segment->next;
        berth__pool_lock(pool);
        if (r < 0) {
            attach_again(pool, segment, detached->generation, attach);
        } else {
            berth__tier_release(pool->tier, size);
            berth__pool_delete_segment(pool, segment);
            if (detached->is_replaced)
                berth__own_note_gone(pool, size);
            released += size;
        }
        berth__pool_unlock(pool);
        berth__pool_count_released(pool, size);
    }
    return released;
}

uint64_t berth__pool_release_idle(struct berth_pool *pool, bool is_for_large)
{
    struct berth_segment *segment, *next;
    struct detached detached;

    if (!is_quiet(pool, segment_is_idle, BERTH_PATIENCE_SHORT))
        return 0;
    berth__pool_lock(pool);
    detached = detached_of(pool);
    for (segment = pool->segments; segment && !berth__pool_may_end(pool); segment = next) {
        next = segment->next;
        if (segment->used_blocks == 0 && segment->kind <= BERTH_SEGMENT_WHOLE &&
            berth__pool_is_for_large(segment) == is_for_large)
            detach(pool, segment, &detached.list);
    }
    berth__pool_unlock(pool);
    return release_detached(pool, &detached, attach_free);
}

/* The idle segment that was in use least recently, or NULL. */
static struct berth_segment *find_oldest(const struct berth_pool *pool)
{
    struct berth_segment *oldest = NULL;

    for (struct berth_segment *segment = pool->segments; segment; segment = segment->next)
        if (segment->used_blocks == 0 && segment->kind <= BERTH_SEGMENT_WHOLE &&
            (!oldest || berth__block_time(segment->first) < berth__block_time(oldest->first)))
            oldest = segment;
    return oldest;
}

/*
 * What is nearest below `size`: a request of that size would not find it, and for what it serves
 * there is the new one.
 */
static struct berth_segment *find_victim(const struct berth_pool *pool, uint64_t size)
{
    struct berth_block *block = berth__free_set_below(&pool->whole, size);

    return block ? block->segment : find_oldest(pool);
}

uint64_t berth__pool_replace(struct berth_pool *pool, uint64_t size, uint64_t need)
{
    struct berth_device_mode mode = berth__device_relax();
    struct berth_segment *segment;
    struct detached detached;
    uint64_t bytes = 0, released;
    bool may_free = is_quiet(pool, segment_is_idle, BERTH_PATIENCE_SHORT);

    berth__pool_lock(pool);
    detached = detached_of(pool);
    detached.is_replaced = true;
    while (may_free && bytes < need && !berth__pool_may_end(pool) &&
           (segment = find_victim(pool, size))) {
        bytes += segment->size;
        detach(pool, segment, &detached.list);
    }
    berth__pool_unlock(pool);
    released = release_detached(pool, &detached, attach_free);
    berth__device_restore(mode);
    return released;
}

static bool segment_waits(const struct berth_segment *segment)
{
    bool any = false;

    if (segment->kind != BERTH_SEGMENT_WHOLE && segment->kind != BERTH_SEGMENT_SHARED)
        return false;
    for (const struct berth_block *block = segment->first; block; block = block->next) {
        enum berth_block_state state = berth__block_state(block);

        if (state != BERTH_BLOCK_FREE && state != BERTH_BLOCK_WAITING)
            return false;
        any |= state == BERTH_BLOCK_WAITING;
    }
    return any;
}

/* The same as detach(), of a segment whose blocks keep their states. */
static void detach_waiting(struct berth_pool *pool, struct berth_segment *segment,
                           struct berth_segment **list)
{
    for (struct berth_block *block = segment->first; block; block = block->next) {
        if (berth__block_state(block) == BERTH_BLOCK_WAITING) {
            berth__lazy_remove(pool, block);
            berth__alone_leave(pool, block);
            continue;
        }
        berth__free_set_remove(berth__pool_set(pool, segment), block);
        berth__pool_count_cached(pool, -block->size);
    }
    berth__segment_unmap(segment);
    berth__pool_list_remove(pool, segment);
    segment->next = *list;
    *list = segment;
    atomic_fetch_add_explicit(&pool->releasing, segment->size, memory_order_relaxed);
}

/* Like blocks that were freed in a capture: until the next synchronisation. */
static void attach_waiting(struct berth_pool *pool, struct berth_segment *segment)
{
    for (struct berth_block *block = segment->first; block; block = block->next) {
        if (berth__block_state(block) == BERTH_BLOCK_WAITING) {
            block->id = pool->wait_epoch;
            block->waiting = pool->waiting;
            pool->waiting = block;
            continue;
        }
        berth__free_set_insert(berth__pool_set(pool, segment), block);
        berth__pool_count_cached(pool, block->size);
    }
}

/*
 * While a capture is open: segments in which nothing lives, but something waits of which nobody may
 * ask. The driver knows what it takes to have them back; it was asked for as much by the program.
 * Of pages of a range it does not: cuMemUnmap() waits for no work that uses them, and what
 * cuMemFree waits for cannot be asked for them. So what was freed in a range during a capture is
 * had after it.
 */
static uint64_t release_waiting(struct berth_pool *pool, uint64_t need)
{
    struct berth_segment *segment, *next;
    struct detached detached;
    uint64_t bytes = 0;

    if (!is_quiet(pool, segment_waits, BERTH_PATIENCE_LONG))
        return 0;
    berth__pool_lock(pool);
    berth__cache_shut(pool);
    detached = detached_of(pool);
    for (segment = pool->segments; segment && bytes < need && !berth__pool_may_end(pool);
         segment = next) {
        next = segment->next;
        if (!segment_waits(segment))
            continue;
        bytes += segment->size;
        detach_waiting(pool, segment, &detached.list);
    }
    berth__cache_open(pool);
    berth__pool_unlock(pool);
    return release_detached(pool, &detached, attach_waiting);
}

static uint64_t release_bytes(struct berth_pool *pool, uint64_t need, enum berth_patience patience)
{
    struct detached detached;
    uint64_t released;
    bool may_free;

    if (!berth__device_capturing())
        berth__lazy_reclaim_all(pool, patience);
    may_free = is_quiet(pool, segment_is_idle, patience);
    berth__pool_lock(pool);
    detached = detached_of(pool);
    berth__cache_flush(pool);
    if (may_free && !berth__pool_may_end(pool))
        detached.list = detach_cached(pool, need);
    berth__pool_unlock(pool);
    released = release_detached(pool, &detached, attach_free);
    if (released < need)
        released += berth__pool_shrink(pool, need == RELEASE_ALL ? need : need - released);
    return released;
}

uint64_t berth__pool_release_part(struct berth_pool *pool, uint64_t need)
{
    struct berth_device_mode mode = berth__device_relax();
    uint64_t released = release_bytes(pool, need, BERTH_PATIENCE_SHORT);

    berth__device_restore(mode);
    return released;
}

uint64_t berth__pool_release_all(struct berth_pool *pool)
{
    return berth__pool_release_part(pool, RELEASE_ALL);
}

/* The pools that are to give back, and how much. */
struct release {
    uint64_t need;      /* bytes that are enough, or RELEASE_ALL */
    int device;         /* or BERTH_POOL_ALL_DEVICES */
    berth_tier_id tier; /* or BERTH_TIER_NONE: any */
    enum berth_patience patience;
};

/* What is borrowed is not the driver's to take, and nothing that the device has less. */
static bool release_concerns(const struct release *release, const struct berth_pool *pool)
{
    return berth__tier(pool->tier)->kind != BERTH_KIND_SHARED &&
           (release->device == BERTH_POOL_ALL_DEVICES || pool->device == release->device) &&
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
    r = pthread_cond_clockwait(&release_done, &release_lock, CLOCK_MONOTONIC, end);
    pthread_setcancelstate(cancel_state, NULL);
    return r;
}

/* Monotonic: a clock that is set forwards or back must neither cut the wait short nor prolong it.
 */
static struct timespec deadline_in(time_t seconds, long nanoseconds)
{
    struct timespec end;

    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += seconds + (end.tv_nsec + nanoseconds) / NS_PER_S;
    end.tv_nsec = (end.tv_nsec + nanoseconds) % NS_PER_S;
    return end;
}

static struct timespec release_deadline(void)
{
    return deadline_in(RELEASE_WAIT_MAX_S, 0);
}

/* Until nobody is giving memory of the context back; not longer than until `end`. */
static void await_pools(berth_cu_context context, const struct timespec *end)
{
    pthread_mutex_lock(&release_lock);
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next)
        while (atomic_load(&pool->context) == context &&
               atomic_load_explicit(&pool->releasing, memory_order_relaxed) > 0 &&
               wait_released(end) == 0)
            ;
    pthread_mutex_unlock(&release_lock);
}

/*
 * A thread that looks for memory to give back, in its frames, from before it looks first until it
 * has it or gives up. See berth__pool_ending_begin().
 */
struct look {
    struct look *next;
    const struct release *release;
    int cancel_state;
    /* Synchronization: release_lock */
    uint64_t dropped; /* bytes of its pools that went with their context since */
    bool was_kept;    /* memory of its pools, when it began or since */
    bool is_turn;
};

/* With the lock held: whether some of the memory that it looks for may be given back by nobody. */
static bool is_kept_from(const struct release *release)
{
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next)
        if (release_concerns(release, pool) && (pool->endings > 0 || is_kept(pool)))
            return true;
    return false;
}

/* Whether it looks for memory of this context's, too. */
static bool concerns_context(const struct release *release, berth_cu_context context)
{
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next)
        if (atomic_load(&pool->context) == context && release_concerns(release, pool))
            return true;
    return false;
}

/* With the lock held: whether somebody's turn is at the context's memory, and waits for nobody. */
static bool is_turn_of(berth_cu_context context, bool or_waits)
{
    const struct look *look = looks;

    while (look && !(look->is_turn && concerns_context(look->release, context) &&
                     (or_waits || !is_kept_from(look->release))))
        look = look->next;
    return look != NULL;
}

/*
 * Who was in the way of others that needed memory lets them have their turn first. Where they wait
 * for what is kept besides, only a little: its end may wait for this very thread, but two devices
 * that are reset in turns would keep others from their turn for ever.
 */
static void keep(berth_cu_context context, int device, const struct timespec *end)
{
    const struct timespec soon = deadline_in(0, TURN_WAIT_NS);

    pthread_mutex_lock(&release_lock);
    while (is_turn_of(context, true))
        if (wait_released(&soon) != 0)
            break;
    while (is_turn_of(context, false))
        if (wait_released(end) != 0)
            break;
    atomic_store(&kept_contexts[berth__device_slot(device)], context);
    for (struct look *look = looks; look; look = look->next)
        look->was_kept |= concerns_context(look->release, context);
    pthread_mutex_unlock(&release_lock);
}

void berth__pool_keep_begin(berth_cu_context context, int device)
{
    struct timespec end = release_deadline();

    if (!context || berth__pool_disabled())
        return;
    keep(context, device, &end);
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next) {
        if (atomic_load(&pool->context) != context)
            continue;
        /* Who has looked before is counted among those who give back by now. */
        berth__pool_lock(pool);
        berth__pool_unlock(pool);
    }
    await_pools(context, &end);
}

void berth__pool_keep_end(int device)
{
    _Atomic(berth_cu_context) *kept = &kept_contexts[berth__device_slot(device)];

    if (!atomic_load(kept))
        return;
    pthread_mutex_lock(&release_lock);
    atomic_store(kept, NULL);
    pthread_cond_broadcast(&release_done);
    pthread_mutex_unlock(&release_lock);
}

static void ending_begin(struct berth_pool *pool)
{
    pthread_mutex_lock(&release_lock);
    pool->endings++;
    for (struct look *look = looks; look; look = look->next)
        look->was_kept |= release_concerns(look->release, pool);
    pthread_mutex_unlock(&release_lock);
}

void berth__pool_ending_end(struct berth_pool *pool)
{
    pthread_mutex_lock(&release_lock);
    pool->endings--;
    pthread_cond_broadcast(&release_done);
    pthread_mutex_unlock(&release_lock);
}

void berth__pool_ending_begin(berth_cu_context context)
{
    struct timespec end = release_deadline();
    bool was_ending;

    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next) {
        if (atomic_load(&pool->context) != context)
            continue;
        ending_begin(pool);
        berth__pool_lock(pool);
        was_ending = atomic_exchange(&pool->is_ending, true);
        berth__pool_unlock(pool);
        if (was_ending)
            berth__pool_ending_end(pool);
    }
    await_pools(context, &end);
}

void berth__pool_count_dropped(struct berth_pool *pool)
{
    uint64_t reserved = berth__pool_reserved(pool);

    pthread_mutex_lock(&release_lock);
    for (struct look *look = looks; look; look = look->next)
        if (release_concerns(look->release, pool))
            look->dropped += reserved;
    pthread_mutex_unlock(&release_lock);
}

/* A thread that was cancelled while it looks would leave its frames in the list. */
static void look_begin(struct look *look, const struct release *release)
{
    *look = (struct look){.release = release};
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &look->cancel_state);
    pthread_mutex_lock(&release_lock);
    look->was_kept = is_kept_from(release);
    look->next = looks;
    looks = look;
    pthread_mutex_unlock(&release_lock);
}

/* The bytes that went with their context meanwhile. */
static uint64_t look_end(struct look *look)
{
    struct look **link = &looks;

    pthread_mutex_lock(&release_lock);
    while (*link != look)
        link = &(*link)->next;
    *link = look->next;
    if (look->is_turn)
        pthread_cond_broadcast(&release_done);
    pthread_mutex_unlock(&release_lock);
    pthread_setcancelstate(look->cancel_state, NULL);
    return look->dropped;
}

/*
 * Waits until the contexts whose memory was kept since the look began are known to stay, or one has
 * gone with its own. Until look_end() that of no primary context is kept anew, or others that
 * retain and release one again and again would be in the way each time. False if none was kept;
 * then there is no turn.
 */
static bool turn_begin(struct look *look)
{
    struct timespec end = release_deadline();

    pthread_mutex_lock(&release_lock);
    look->is_turn = look->was_kept || is_kept_from(look->release);
    while (look->dropped == 0 && is_kept_from(look->release))
        if (wait_released(&end) != 0)
            break;
    pthread_mutex_unlock(&release_lock);
    return look->is_turn;
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
            released += release_bytes(pool, need == RELEASE_ALL ? need : need - released,
                                      release->patience);
    return released;
}

/* What waits in pools that are to give back becomes theirs to give, although a capture is open. */
static bool reclaim_relaxed(const struct release *release, bool may_wait)
{
    bool any = false;

    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next)
        any |= release_concerns(release, pool) && berth__lazy_reclaim_relaxed(pool, may_wait);
    return any;
}

static uint64_t release_beside_capture(const struct release *release, uint64_t need)
{
    uint64_t released;

    reclaim_relaxed(release, false);
    released = release_pools(release, need);
    if (released < need && reclaim_relaxed(release, true))
        released += release_pools(release, need == RELEASE_ALL ? need : need - released);
    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool && released < need;
         pool = pool->next)
        if (atomic_load(&pool->context) && release_concerns(release, pool))
            released += release_waiting(pool, need == RELEASE_ALL ? need : need - released);
    return released;
}

/* What the cache gives back is no part of what the program captures. */
static uint64_t release_relaxed(const struct release *release, uint64_t need)
{
    /* Not only if one is open: another thread may be about to begin one. */
    struct berth_device_mode mode = berth__device_relax();
    uint64_t released = mode.is_set && berth__device_capturing()
                            ? release_beside_capture(release, need)
                            : release_pools(release, need);

    berth__device_restore(mode);
    return released;
}

/* What waits there and cannot be asked about; see berth__lazy_settle(). */
static bool settle_pools(const struct release *release)
{
    bool any = false;

    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next)
        any |= release_concerns(release, pool) && berth__lazy_settle(pool);
    return any;
}

/* What is kept meanwhile is looked at once more when it no longer is. */
static uint64_t release_kept(const struct release *release)
{
    uint64_t released, dropped;
    struct look look;

    look_begin(&look, release);
    released = release_relaxed(release, release->need);
    if (released == 0 && turn_begin(&look))
        released = release_relaxed(release, release->need);
    dropped = look_end(&look);
    /* What has gone with its context is had, too. */
    return released > 0 ? released : dropped;
}

/* Where nothing else is left. */
static uint64_t await_given(const struct release *release)
{
    uint64_t bytes = 0;

    for (struct berth_pool *pool = atomic_load(&berth__pool_first); pool; pool = pool->next)
        if (release_concerns(release, pool))
            bytes += berth__pool_await_given(pool);
    return bytes;
}

static uint64_t release_run(const struct release *release)
{
    /* What the device would have by now is the first to go: nobody waits for that. */
    uint64_t released = release->tier == BERTH_TIER_NONE || release->tier == BERTH_TIER_DEVICE
                            ? berth__stream_release_done(release->device, release->need)
                            : 0;

    if (released == 0 || release->need == RELEASE_ALL)
        released += release_kept(release);
    /* The driver may have refused just those. */
    if (released == 0 && release->need != RELEASE_ALL)
        released = release_relaxed(release, RELEASE_ALL);
    if (released == 0 && settle_pools(release))
        released = release_relaxed(release, RELEASE_ALL);
    /* What is cached in the order of streams is the last to go: it costs a synchronisation. */
    if (released == 0)
        released = berth__stream_release(release->device);
    if (released == 0)
        released = await_releases(release);
    return released > 0 ? released : await_given(release);
}

uint64_t berth__pool_release_for(struct berth_pool *pool, int error, uint64_t size, uint64_t need)
{
    berth_tier_id tier = atomic_load_explicit(&pool->tier, memory_order_relaxed);
    uint64_t capacity = atomic_load_explicit(&berth__tier(tier)->capacity, memory_order_relaxed);
    const struct release of_device = {need, pool->device, BERTH_TIER_NONE, BERTH_PATIENCE_LONG};
    const struct release of_tier = {need, BERTH_POOL_ALL_DEVICES, tier, BERTH_PATIENCE_LONG};
    const struct release of_all = {need, BERTH_POOL_ALL_DEVICES, BERTH_TIER_NONE,
                                   BERTH_PATIENCE_LONG};

    if (error == -EDQUOT)
        return release_run(&of_all);
    if (error != -ENOSPC)
        return release_run(&of_device);
    return capacity != 0 && size > capacity ? 0 : release_run(&of_tier);
}

uint64_t berth__pool_release_cached(int device)
{
    const struct release release = {RELEASE_ALL, device, BERTH_TIER_NONE, BERTH_PATIENCE_LONG};

    return berth__pool_disabled() ? 0 : release_run(&release);
}

uint64_t berth__pool_release_some(int device, uint64_t need)
{
    const struct release release = {need, device, BERTH_TIER_NONE, BERTH_PATIENCE_LONG};

    return berth__pool_disabled() || need == 0 ? 0 : release_relaxed(&release, need);
}

uint64_t berth__pool_release_soon(int device, uint64_t need)
{
    const struct release release = {need, device, BERTH_TIER_NONE, BERTH_PATIENCE_SHORT};

    return berth__pool_disabled() ? 0 : release_relaxed(&release, need);
}

uint64_t berth__pool_release_tier(berth_tier_id tier)
{
    const struct release release = {RELEASE_ALL, BERTH_POOL_ALL_DEVICES, tier, BERTH_PATIENCE_LONG};

    return berth__pool_disabled() ? 0 : release_run(&release);
}
