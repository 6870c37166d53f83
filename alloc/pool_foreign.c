/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_foreign.h"

#include "alloc/limit.h"
#include "alloc/page_map.h"
#include "alloc/pool.h"
#include "alloc/pool_stream.h"
#include "alloc/stats.h"
#include "alloc/thread.h"
#include "alloc/tier_ops.h"

#include <errno.h>
#include <pthread.h>

static pthread_mutex_t foreign_lock = PTHREAD_MUTEX_INITIALIZER;
static struct berth_segment *records;
static struct berth_slab slab;
static atomic_bool disabled;

int berth__foreign_make_room(berth_tier_id tier, uint64_t size)
{
    uint64_t capacity = atomic_load_explicit(&berth__tier(tier)->capacity, memory_order_relaxed);
    int r;

    do {
        r = berth__tier_reserve(tier, size);
    } while ((r == -ENOSPC && size <= capacity && berth__pool_release_tier(tier) > 0) ||
             (r == -EDQUOT && size <= berth__limit(BERTH_LIMIT_PROCESS) &&
              berth__pool_release_cached(BERTH_POOL_ALL_DEVICES) > 0));
    if (r == -EDQUOT)
        berth__limit_refuse(BERTH_LIMIT_PROCESS, size);
    return r;
}

/* Whether or not there is a limit, which may change meanwhile: the promise is taken back as made.
 */
static bool is_promised(const struct berth_foreign *foreign)
{
    return berth__tier(foreign->tier)->kind == BERTH_KIND_DEVICE;
}

int berth__foreign_reserve(const struct berth_foreign *foreign)
{
    int r = is_promised(foreign) ? berth__limit_enter(foreign->tag, foreign->size) : 0;

    if (r < 0) {
        berth__limit_refuse(foreign->tag, foreign->size);
        return r;
    }
    r = berth__foreign_make_room(foreign->tier, foreign->size);
    if (r < 0)
        berth__foreign_settle(foreign);
    return r;
}

void berth__foreign_settle(const struct berth_foreign *foreign)
{
    if (is_promised(foreign))
        berth__limit_leave(foreign->tag, foreign->size);
}

void berth__foreign_cancel(berth_tier_id tier, uint64_t size)
{
    berth__tier_release(tier, size);
}

static void unlink_record(struct berth_segment *segment)
{
    if (segment->is_mapped)
        berth__page_map_remove(segment->base, segment->size, segment);
    if (segment->prev)
        segment->prev->next = segment->next;
    else
        records = segment->next;
    if (segment->next)
        segment->next->prev = segment->prev;
    berth__stats_free(segment->tier, (enum berth_tag)segment->tag, segment->requested,
                      segment->requested);
    segment->is_mapped = false;
    segment->base = 0;
    berth__slab_delete(&slab, segment);
}

/* -EEXIST with what is in the way. */
static int link_record(const struct berth_foreign *foreign, struct berth_segment **ret_other)
{
    struct berth_segment *segment = berth__slab_new(&slab, sizeof(*segment));
    int r;

    if (!segment)
        return -ENOMEM;
    *segment = (struct berth_segment){
        .base = foreign->address,
        .size = foreign->size,
        .kind = BERTH_SEGMENT_FOREIGN,
        .context = foreign->context,
        .requested = foreign->size,
        .tier = foreign->tier,
        .tag = (uint8_t)foreign->tag,
        .next = records,
    };
    r = berth__page_map_insert(segment->base, segment->size, segment, ret_other);
    if (r < 0) {
        berth__slab_delete(&slab, segment);
        return r;
    }
    segment->is_mapped = true;
    if (records)
        records->prev = segment;
    records = segment;
    return 0;
}

static bool is_disabled(void)
{
    return atomic_load_explicit(&disabled, memory_order_relaxed);
}

void berth__foreign_add(const struct berth_foreign *foreign)
{
    struct berth_segment *other = NULL;
    int r = is_disabled() || foreign->size == 0 ? -EPERM : -EEXIST;

    while (r == -EEXIST) {
        pthread_mutex_lock(&foreign_lock);
        r = link_record(foreign, &other);
        if (r == 0)
            berth__stats_alloc(foreign->tier, foreign->tag, foreign->size, foreign->size);
        pthread_mutex_unlock(&foreign_lock);
        /* What is in the way is of memory that was freed by a path without a hook, or just now. */
        if (r == -EEXIST)
            berth__pool_forget_stale(other, foreign->address, foreign->size);
    }
    if (r < 0)
        berth__tier_release(foreign->tier, foreign->size);
}

/* Copies the record of exactly this address, and takes it out if that is asked for. */
static int look_up(uintptr_t address, bool is_removed, struct berth_foreign *ret)
{
    struct berth_segment *segment = berth__page_map_find(address);
    int r = -ENOENT;

    if (!segment || segment->kind != BERTH_SEGMENT_FOREIGN || is_disabled())
        return -ENOENT;
    pthread_mutex_lock(&foreign_lock);
    if (berth__page_map_find(address) == segment && segment->base == address) {
        *ret = (struct berth_foreign){
            .address = segment->base,
            .size = segment->requested,
            .tier = segment->tier,
            .tag = (enum berth_tag)segment->tag,
            .context = segment->context,
        };
        if (is_removed)
            unlink_record(segment);
        r = 0;
    }
    pthread_mutex_unlock(&foreign_lock);
    return r;
}

int berth__foreign_remove(uintptr_t address, struct berth_foreign *ret)
{
    return look_up(address, true, ret);
}

int berth__foreign_peek(uintptr_t address, struct berth_foreign *ret)
{
    return look_up(address, false, ret);
}

void berth__foreign_restore(const struct berth_foreign *foreign)
{
    berth__foreign_add(foreign);
}

void berth__foreign_drop(const void *context)
{
    struct berth_segment *next;

    if (!context || is_disabled())
        return;
    pthread_mutex_lock(&foreign_lock);
    for (struct berth_segment *segment = records; segment; segment = next) {
        next = segment->next;
        if (segment->context == context) {
            berth_tier_id tier = segment->tier;
            uint64_t size = segment->requested;

            unlink_record(segment);
            berth__tier_release(tier, size);
        }
    }
    pthread_mutex_unlock(&foreign_lock);
}

void berth__foreign_forget(struct berth_segment *segment)
{
    if (segment->kind == BERTH_SEGMENT_STREAM) {
        berth__stream_forget(segment);
        return;
    }
    pthread_mutex_lock(&foreign_lock);
    if (segment->is_mapped && berth__page_map_find(segment->base) == segment) {
        berth_tier_id tier = segment->tier;
        uint64_t size = segment->requested;

        unlink_record(segment);
        berth__tier_release(tier, size);
    }
    pthread_mutex_unlock(&foreign_lock);
}

void berth__foreign_disable(void)
{
    atomic_store(&disabled, true);
}
