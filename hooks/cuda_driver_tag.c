/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/cuda_driver_tag.h"

#include "alloc/describe.h"
#include "alloc/limit.h"
#include "alloc/options.h"
#include "alloc/pool_class.h"
#include "alloc/pool_stream.h"
#include "alloc/size_class.h"
#include "alloc/stats.h"
#include "alloc/thread.h"
#include "alloc/tier_ops.h"
#include "hooks/callsite.h"
#include "hooks/cuda_driver_trace.h"
#include "ipc/shared_tier.h"
#include "pmem/gate.h"
#include "pmem/table.h"

#include <errno.h>

/*
 * What the table in force says; without one, the thread's tag and no place. The classifier guesses
 * for the blocks that it will follow alone.
 */
static berth_site_id decide(uint64_t size, const void *return_address, bool is_followed,
                            struct berth_decision *ret)
{
    struct berth_request request = {
        .side = BERTH_SIDE_DEVICE,
        .size = size,
        .tag = berth__pool_class_told(),
        .sequence = berth__thread.sequence,
    };

    /* Smaller blocks do not count. */
    if (size >= berth__option(BERTH_OPTION_RECORD_THRESHOLD))
        berth__thread.sequence++;
    if (berth__table_version() == 0 && BERTH_LIKELY(!is_followed) &&
        size < atomic_load_explicit(&berth__gate.device_site_threshold, memory_order_relaxed)) {
        ret->version = 0;
        ret->rule = BERTH_RULE_NONE;
        ret->tag = request.tag;
        ret->tagged_by = request.tag == BERTH_TAG_UNTAGGED ? BERTH_TAGGED_NONE : BERTH_TAGGED_API;
        ret->place_count = 0;
        return 0;
    }
    berth__thread.inside++;
    if (size >= atomic_load_explicit(&berth__gate.device_site_threshold, memory_order_relaxed))
        request.site = berth__callsite_capture(berth__hook_caller(return_address));
    if (is_followed && request.tag == BERTH_TAG_UNTAGGED)
        request.guess =
            berth__pool_class_guess(size, berth__hook_caller(return_address), request.site);
    berth__table_decide(&request, ret);
    berth__thread.inside--;
    return request.site;
}

enum berth_tag berth__cuda_tag(uint64_t size, const void *return_address)
{
    struct berth_decision decision;

    decide(size, return_address, false, &decision);
    return decision.tag;
}

/* Whether nobody but the thread itself has a say in the block: no table, classifier or limit. */
static inline bool is_plain(uint64_t size)
{
    return berth__table_version() == 0 && !berth__pool_class_on && berth__option_limits() == 0 &&
           size < atomic_load_explicit(&berth__gate.device_site_threshold, memory_order_relaxed);
}

static inline void request_plain(uint64_t size, struct berth_pool_request *ret)
{
    enum berth_tag tag = berth__tag_current();

    *ret = (struct berth_pool_request){
        .tier = BERTH_TIER_DEVICE,
        .size = size,
        .tag = tag,
        .tagged_by = tag == BERTH_TAG_UNTAGGED ? BERTH_TAGGED_NONE : BERTH_TAGGED_API,
        .rule = BERTH_RULE_NONE,
    };
    if (size >= berth__option(BERTH_OPTION_RECORD_THRESHOLD))
        berth__thread.sequence++;
}

static void request_decided(uint64_t size, const void *return_address,
                            struct berth_pool_request *ret)
{
    bool is_followed = berth__pool_class_follows(size);
    struct berth_decision decision;

    ret->size = size;
    ret->tier = BERTH_TIER_DEVICE;
    ret->site = decide(size, return_address, is_followed, &decision);
    ret->tag = decision.tag;
    ret->tagged_by = decision.tagged_by;
    ret->table_version = decision.version;
    ret->rule = decision.rule;
    ret->noted = BERTH_TAG_UNTAGGED;
    ret->follow = NULL;
    if (BERTH_UNLIKELY(is_followed)) {
        ret->noted = berth__tag_current();
        ret->follow = berth__hook_caller(return_address);
    }
}

void berth__cuda_request(uint64_t size, const void *return_address, struct berth_pool_request *ret)
{
    if (BERTH_LIKELY(is_plain(size)))
        request_plain(size, ret);
    else
        request_decided(size, return_address, ret);
}

static int alloc_in(const struct berth_pool_request *request, uintptr_t *ret_address)
{
    int r;

    switch (berth__tier(request->tier)->kind) {
    case BERTH_KIND_DEVICE:
        return berth__pool_alloc(request, ret_address);
    case BERTH_KIND_SHARED:
        r = berth__pool_borrow(request, ret_address);
        if (r < 0)
            berth__shared_tier_missed(request->tier);
        return r;
    default:
        return -ENOMEM; /* a kind that no pool here serves */
    }
}

/* Whether the next place is to be tried. */
static bool is_full(int r)
{
    return r == -ENOMEM || r == -ENOSPC || r == -EDQUOT;
}

/* Tries the decision's place at `index`; counts what it could not take. */
static int try_place(const struct berth_decision *decision, unsigned index,
                     struct berth_pool_request *request, uintptr_t *ret_address)
{
    int r;

    request->tier = decision->places[index];
    r = alloc_in(request, ret_address);
    if (!is_full(r))
        return r;
    berth__table_count_spill(decision, request->tier, request->size);
    berth__stats_spill(request->tier, request->size);
    return r;
}

/* A block in the first of the places from `first` on that has room, else in tier `device`. */
static int place(const struct berth_decision *decision, unsigned first,
                 struct berth_pool_request *request, uintptr_t *ret_address)
{
    bool default_tried = false;
    int r = -ENOMEM;

    for (unsigned i = first; i < decision->place_count; i++) {
        default_tried |= decision->places[i] == BERTH_TIER_DEVICE;
        r = try_place(decision, i, request, ret_address);
        if (!is_full(r))
            return r;
    }
    request->tier = BERTH_TIER_DEVICE;
    return default_tried ? r : berth__pool_alloc(request, ret_address);
}

/*
 * The same where the process or the tag has a limit. What a block holds beyond its size is known
 * once it is there: one that is over the limit by that is given back.
 */
static int place_within(const struct berth_decision *decision, unsigned first,
                        struct berth_pool_request *request, uintptr_t *ret_address)
{
    uint64_t held = berth__size_round(request->size);
    uint64_t excess = berth__limit_excess();
    struct berth_block_view view;
    int r;

    if (excess > 0 && berth__pool_release_some(BERTH_POOL_ALL_DEVICES, excess) < excess &&
        berth__limit_excess() > 0) {
        berth__limit_refuse(BERTH_LIMIT_PROCESS, request->size);
        return -EDQUOT;
    }
    r = berth__limit_enter(request->tag, held);
    if (r < 0) {
        berth__limit_refuse(request->tag, request->size);
        return r;
    }
    r = place(decision, first, request, ret_address);
    berth__limit_leave(request->tag, held);
    if (r == -EDQUOT)
        berth__limit_refuse(BERTH_LIMIT_PROCESS, request->size);
    if (r == 0 && berth__pool_find(*ret_address, &view) == 0 &&
        !berth__limit_holds(request->tag, held, view.held) && berth__pool_free(*ret_address) == 0) {
        berth__limit_refuse(request->tag, request->size);
        return -EDQUOT;
    }
    return r;
}

/* The same, but what is borrowed is not the process's to limit. */
static int place_limited(const struct berth_decision *decision, struct berth_pool_request *request,
                         uintptr_t *ret_address)
{
    unsigned first = 0;
    uintptr_t address;
    int r;

    if (request->size == 0)
        return BERTH_POOL_FORWARD;
    for (; first < decision->place_count &&
           berth__tier(decision->places[first])->kind == BERTH_KIND_SHARED;
         first++) {
        r = try_place(decision, first, request, ret_address);
        if (!is_full(r))
            return r;
    }
    r = place_within(decision, first, request, &address);
    if (r == 0)
        *ret_address = address;
    return r;
}

static int alloc_decided(uint64_t size, const void *return_address, uintptr_t *ret_address)
{
    bool is_followed = berth__pool_class_follows(size);
    struct berth_decision decision;
    struct berth_pool_request request = {.size = size, .tier = BERTH_TIER_DEVICE};
    int r;

    request.site = decide(size, return_address, is_followed, &decision);
    request.tag = decision.tag;
    request.tagged_by = decision.tagged_by;
    request.table_version = decision.version;
    request.rule = decision.rule;
    if (BERTH_UNLIKELY(is_followed)) {
        request.follow = berth__hook_caller(return_address);
        request.noted = berth__tag_current();
    }
    r = BERTH_LIKELY(!berth__limit_is_set(request.tag))
            ? place(&decision, 0, &request, ret_address)
            : place_limited(&decision, &request, ret_address);
    berth__pool_class_tend();
    return r;
}

int berth__cuda_alloc(uint64_t size, const void *return_address, uintptr_t *ret_address)
{
    struct berth_pool_request request;

    if (BERTH_UNLIKELY(!is_plain(size)))
        return alloc_decided(size, return_address, ret_address);
    request_plain(size, &request);
    return berth__pool_alloc(&request, ret_address);
}

int berth__cuda_detail(const void *p, struct berth_block_detail *ret)
{
    struct berth_block_view view;

    if (berth__pool_find((uintptr_t)p, &view) < 0 &&
        berth__stream_find_block((uintptr_t)p, &view) < 0)
        return -ENOENT;
    *ret = (struct berth_block_detail){
        .base = view.base,
        .requested = view.requested,
        .held = view.held,
        .side = BERTH_SIDE_DEVICE,
        .tier = view.tier,
        .tag = view.tag,
        .tagged_by = view.tagged_by,
        .site = view.site,
        .rule = view.rule,
        .version = view.table_version,
        .age_ns = view.age_ns,
        .class_number = view.class_number,
    };
    return 0;
}

int berth__cuda_describe(const void *p, struct berth_block_info *ret)
{
    struct berth_block_detail detail;
    int r = berth__cuda_detail(p, &detail);

    if (r < 0)
        return r;
    berth__table_describe(&detail, ret);
    return 0;
}
