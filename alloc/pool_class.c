/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_class.h"

#include "alloc/block_index.h"
#include "alloc/classifier.h"
#include "alloc/page_map.h"
#include "alloc/pool_parts.h"
#include "alloc/site_account.h"
#include "alloc/stats.h"
#include "alloc/thread.h"

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

/* With the lock held, for a block that is LIVE and counted with its old tag. */
static void retag_locked(struct berth_block *block, enum berth_tag tag)
{
    berth_tier_id tier = atomic_load_explicit(&block->pool->tier, memory_order_relaxed);
    enum berth_tag was = (enum berth_tag)block->tag;
    const struct berth_site_block counted = {block->site, tier, was, block->requested, block->size};

    if (was == tag || (block->site != 0 && !berth__site_account_move(&counted, tier, tag)))
        return;
    berth__stats_retag_in(tier, tag, block->requested, block->size);
    berth__stats_retag_out(tier, was, block->requested, block->size);
    __atomic_store_n(&block->tag, (uint8_t)tag, __ATOMIC_RELAXED);
    __atomic_store_n(&block->tagged_by, (uint8_t)BERTH_TAGGED_CLASSIFIER, __ATOMIC_RELAXED);
}

static void retag(uintptr_t address, size_t held, uint32_t number, enum berth_tag tag)
{
    struct berth_block *block = berth__pool_disabled() ? NULL : find_record(address);

    (void)held;
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

enum berth_tag berth__pool_class_told(void)
{
    if (BERTH_UNLIKELY(berth__pool_class_on) &&
        berth__option(BERTH_OPTION_CLASSIFIER) == BERTH_CLASSIFIER_BLIND)
        return BERTH_TAG_UNTAGGED;
    return berth__tag_current();
}

bool berth__pool_class_follows(uint64_t size)
{
    return BERTH_UNLIKELY(berth__pool_class_on) &&
           size >= berth__option(BERTH_OPTION_RECORD_THRESHOLD);
}

enum berth_tag berth__pool_class_guess(uint64_t size, const void *caller, berth_site_id site)
{
    return berth__classifier_guess(classifier(), size, caller, site);
}

void berth__pool_class_tend(void)
{
    if (BERTH_UNLIKELY(berth__pool_class_on))
        berth__classifier_tend(classifier());
}

void berth__pool_class_enter(struct berth_block *block, const struct berth_pool_request *request)
{
    const struct berth_class_birth birth = {
        .address = berth__block_address(block),
        .size = request->size,
        .held = block->size,
        .caller = request->follow,
        .site = request->site,
        .tag = request->tag,
        .tagged_by = request->tagged_by,
        .noted = request->noted,
    };

    atomic_store_explicit(&block->class_number, berth__classifier_born(classifier(), &birth),
                          memory_order_relaxed);
}

void berth__pool_class_leave_slowly(struct berth_block *block)
{
    uint32_t number;

    berth__pool_class_lock();
    number = atomic_exchange_explicit(&block->class_number, 0, memory_order_relaxed);
    berth__pool_class_unlock();
    berth__classifier_died(classifier(), number);
}

void berth__pool_class_filled(uintptr_t address, uint64_t size)
{
    struct berth_block_view view;

    if (size > 0 && berth__pool_find(address, &view) == 0 && view.class_number != 0)
        berth__classifier_filled(classifier(), view.class_number, size);
}
