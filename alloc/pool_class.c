/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_class.h"

#include "alloc/block_index.h"
#include "alloc/classifier.h"
#include "alloc/page_map.h"
#include "alloc/pool_parts.h"
#include "alloc/pool_stream_set.h"
#include "alloc/site_account.h"
#include "alloc/stats.h"

bool berth__pool_class_on;

static pthread_mutex_t tag_lock = PTHREAD_MUTEX_INITIALIZER;

void berth__pool_class_lock(void)
{
    pthread_mutex_lock(&tag_lock);
}

void berth__pool_class_unlock(void)
{
    pthread_mutex_unlock(&tag_lock);
}

static struct berth_classifier *classifier(void)
{
    return berth__classifier(BERTH_SIDE_DEVICE);
}

/* The record of the block that starts at `address`, which may be another's once this returns. */
static struct berth_block *find_record(uintptr_t address)
{
    struct berth_block *block = berth__block_index_peek(address);
    struct berth_segment *segment;

    if (BERTH_LIKELY(block != NULL))
        return block;
    segment = berth__page_map_find(address);
    if (!segment || !segment->pool)
        return NULL;
    berth__pool_lock(segment->pool);
    if (berth__page_map_find(address) == segment)
        block = berth__segment_block(segment, address);
    berth__pool_unlock(segment->pool);
    return block;
}

/* Whether the block is counted by its site as `tag` from now on; one without a site is. */
static bool move_in_site(const struct berth_site_block *counted, berth_tier_id tier,
                         enum berth_tag tag)
{
    return counted->tag != tag &&
           (counted->site == 0 || berth__site_account_move(counted, tier, tag));
}

/* With the lock held, for a block that is LIVE and counted with its old tag. */
static void retag_locked(struct berth_block *block, enum berth_tag tag)
{
    berth_tier_id tier = atomic_load_explicit(&block->pool->tier, memory_order_relaxed);
    enum berth_tag was = (enum berth_tag)block->tag;
    const struct berth_site_block counted = {block->site, tier, was, block->requested, block->size};

    if (!move_in_site(&counted, tier, tag))
        return;
    berth__stats_retag_in(tier, tag, block->requested, block->size);
    berth__stats_retag_out(tier, was, block->requested, block->size);
    __atomic_store_n(&block->tag, (uint8_t)tag, __ATOMIC_RELAXED);
    __atomic_store_n(&block->tagged_by, (uint8_t)BERTH_TAGGED_CLASSIFIER, __ATOMIC_RELAXED);
}

/*
 * The record at `address` may be of another block by now, or of none, but stays a record: then its
 * number is another. Who frees the block changes its state first and takes its number under the
 * lock, before what is counted of it is read.
 */
static void retag_stream(struct berth_stream_block *block, uint32_t number, enum berth_tag tag)
{
    const struct berth_site_block counted = {
        atomic_load(&block->site), BERTH_TIER_DEVICE, (enum berth_tag)atomic_load(&block->tag),
        atomic_load(&block->requested), berth__stream_block_size(block)};

    if (atomic_load_explicit(&block->class_number, memory_order_relaxed) != number ||
        atomic_load_explicit(&block->state, memory_order_acquire) != BERTH_STREAM_BLOCK_LIVE ||
        !move_in_site(&counted, BERTH_TIER_DEVICE, tag))
        return;
    berth__stats_retag_in(BERTH_TIER_DEVICE, tag, counted.requested, counted.held);
    berth__stats_retag_out(BERTH_TIER_DEVICE, counted.tag, counted.requested, counted.held);
    atomic_store_explicit(&block->tag, (uint8_t)tag, memory_order_relaxed);
    atomic_store_explicit(&block->tagged_by, (uint8_t)BERTH_TAGGED_CLASSIFIER,
                          memory_order_relaxed);
}

static void retag(uintptr_t address, size_t held, uint32_t number, enum berth_tag tag)
{
    struct berth_segment *segment = berth__pool_disabled() ? NULL : berth__page_map_find(address);
    struct berth_block *block;

    (void)held;
    if (segment && segment->kind == BERTH_SEGMENT_STREAM) {
        berth__pool_class_lock();
        retag_stream(berth__stream_block_of(segment), number, tag);
        berth__pool_class_unlock();
        return;
    }
    block = berth__pool_disabled() ? NULL : find_record(address);
    if (!block)
        return;
    berth__pool_class_lock();
    /* Who frees it takes its number under the lock, and changes nothing else before. */
    if (atomic_load_explicit(&block->key, memory_order_acquire) == (address | BERTH_BLOCK_LIVE) &&
        atomic_load_explicit(&block->class_number, memory_order_relaxed) == number)
        retag_locked(block, tag);
    berth__pool_class_unlock();
}

void berth__pool_class_start(void)
{
    static const struct berth_classifier_ops ops = {.retag = retag, .tells_fills = true};

    if (berth__option(BERTH_OPTION_CLASSIFIER) == BERTH_CLASSIFIER_OFF)
        return;
    berth__classifier_start(BERTH_SIDE_DEVICE, &ops);
    berth__pool_class_on = berth__classifier_is_on(classifier());
}

enum berth_tag berth__pool_class_told_slowly(void)
{
    return berth__option(BERTH_OPTION_CLASSIFIER) == BERTH_CLASSIFIER_BLIND ? BERTH_TAG_UNTAGGED
                                                                            : berth__tag_current();
}

enum berth_tag berth__pool_class_guess(uint64_t size, const void *caller, berth_site_id site)
{
    return berth__classifier_guess(classifier(), size, caller, site);
}

void berth__pool_class_tend_slowly(void)
{
    berth__classifier_tend(classifier());
}

static uint32_t born(uintptr_t address, uint64_t held, const struct berth_pool_request *request)
{
    const struct berth_class_birth birth = {
        .address = address,
        .size = request->size,
        .held = held,
        .caller = request->follow,
        .site = request->site,
        .tag = request->tag,
        .tagged_by = request->tagged_by,
        .noted = request->noted,
    };

    return berth__classifier_born(classifier(), &birth);
}

void berth__pool_class_enter(struct berth_block *block, const struct berth_pool_request *request)
{
    atomic_store_explicit(&block->class_number,
                          born(berth__block_address(block), block->size, request),
                          memory_order_relaxed);
}

void berth__stream_class_enter(struct berth_stream_block *block,
                               const struct berth_pool_request *request)
{
    atomic_store_explicit(&block->class_number,
                          born(block->segment.base, berth__stream_block_size(block), request),
                          memory_order_relaxed);
}

void berth__pool_class_leave_slowly(_Atomic uint32_t *class_number)
{
    uint32_t number;

    berth__pool_class_lock();
    number = atomic_exchange_explicit(class_number, 0, memory_order_relaxed);
    berth__pool_class_unlock();
    berth__classifier_died(classifier(), number);
}

static bool find_followed(uintptr_t address, struct berth_block_view *ret)
{
    return (berth__pool_find(address, ret) == 0 || berth__stream_find_block(address, ret) == 0) &&
           ret->class_number != 0;
}

bool berth__pool_class_has(uintptr_t address)
{
    struct berth_block_view view;

    return find_followed(address, &view);
}

void berth__pool_class_filled(uintptr_t address, uint64_t size)
{
    struct berth_block_view view;

    if (size > 0 && find_followed(address, &view))
        berth__classifier_filled(classifier(), view.class_number, address - view.base, size);
}
