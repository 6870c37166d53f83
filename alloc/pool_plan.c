/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_plan.h"

#include "alloc/device_context.h"
#include "alloc/log.h"
#include "alloc/plan_room.h"
#include "alloc/pool_idle.h"
#include "alloc/quantity.h"
#include "alloc/tier_ops.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* When the segment is gone, it is asked for again at each so-manieth call. */
#define RESERVE_AGAIN_CALLS 256

struct berth_pool_plan {
    struct berth_plan_follow follow; /* Synchronization: the pool's lock */
    uint64_t size;                   /* of the segment: the peak as the driver gives it */
    _Atomic(struct berth_pool *) pool;
    atomic_flag is_reserving; /* somebody is asking the driver for the segment */
    atomic_bool is_given_up;
    _Atomic uint32_t threads; /* that have a number */
    _Atomic uint64_t calls_without, lent;
};

_Atomic(struct berth_pool_plan *) berth__pool_plan;

/* Which thread it is that allocates, from 1; and a context that is known to be none of the plan's.
 */
static __thread struct {
    uint32_t number;
    berth_cu_context refused;
} planned_thread __attribute__((tls_model("initial-exec")));

int berth__pool_plan_load(const void *bytes, size_t size, char *why, size_t why_size)
{
    struct berth_plan_view view;
    struct berth_pool_plan *plan;
    char *memory;
    int r;

    if (size > SIZE_MAX - sizeof(*plan)) {
        snprintf(why, why_size, "it is too large");
        return -EINVAL;
    }
    memory = berth__slab_map(sizeof(*plan) + size);
    if (!memory) {
        snprintf(why, why_size, "there is no memory for its %zu bytes", size);
        return -ENOMEM;
    }
    plan = (void *)memory;
    memcpy(memory + sizeof(*plan), bytes, size);
    r = berth__plan_file_open(memory + sizeof(*plan), size, &view, why, why_size);
    if (r < 0) {
        berth__slab_unmap(memory, sizeof(*plan) + size);
        return r;
    }
    berth__plan_follow_init(&plan->follow, &view);
    plan->size = berth__pool_driver_size(view.header->peak);
    atomic_store_explicit(&berth__pool_plan, plan, memory_order_release);
    return 0;
}

static void give_up(struct berth_pool_plan *plan, int error)
{
    char size[BERTH_QUANTITY_TEXT_MAX], code[32];
    const char *why = strerrordesc_np(-error);

    atomic_store_explicit(&plan->is_given_up, true, memory_order_relaxed);
    if (!why) {
        snprintf(code, sizeof(code), "CUDA error %d", berth__device_result(error));
        why = code;
    }
    berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_POOL,
               "the %s of the plan cannot be had (%s); it is not followed",
               berth__quantity_format(plan->size, size), why);
}

/* Makes the pool for this context, the calling thread's, if it is on the plan's device and there is
 * none yet. */
static struct berth_pool *plan_begin(struct berth_pool_plan *plan, berth_cu_context context)
{
    struct berth_pool *pool = NULL;
    int device, r;

    if (berth__device_of_current(&device) < 0)
        return NULL;
    if ((uint32_t)device != plan->follow.view.header->device) {
        planned_thread.refused = context;
        return NULL;
    }
    pool = berth__pool_make_planned(context, device, BERTH_TIER_DEVICE);
    if (!pool)
        return NULL;
    r = berth__pool_add_segment(pool, plan->size, false);
    if (r < 0) {
        give_up(plan, r);
        return NULL;
    }
    berth__pool_lock(pool);
    memset(plan->follow.cursors, 0, sizeof(plan->follow.cursors));
    plan->follow.is_apart = false;
    plan->follow.is_over = false;
    berth__pool_unlock(pool);
    atomic_store_explicit(&plan->pool, pool, memory_order_release);
    return pool;
}

/* The pool that follows the plan in this context, or NULL. */
static struct berth_pool *plan_pool(struct berth_pool_plan *plan, berth_cu_context context)
{
    struct berth_pool *pool = atomic_load_explicit(&plan->pool, memory_order_acquire);
    berth_cu_context current =
        pool ? atomic_load_explicit(&pool->context, memory_order_acquire) : NULL;

    if (BERTH_LIKELY(current == context))
        return pool;
    if (current || planned_thread.refused == context ||
        atomic_load_explicit(&plan->is_given_up, memory_order_relaxed))
        return NULL;
    /* Whoever comes while another thread asks the driver is served by the ordinary pool. */
    if (atomic_flag_test_and_set_explicit(&plan->is_reserving, memory_order_acquire))
        return NULL;
    pool = atomic_load_explicit(&plan->pool, memory_order_acquire);
    if (!pool || !atomic_load_explicit(&pool->context, memory_order_acquire))
        pool = plan_begin(plan, context);
    else
        pool = NULL;
    atomic_flag_clear_explicit(&plan->is_reserving, memory_order_release);
    return pool;
}

/* A segment that went back to the driver is asked for again, now and then. */
static void plan_refill(struct berth_pool_plan *plan, struct berth_pool *pool)
{
    uint64_t calls = atomic_fetch_add_explicit(&plan->calls_without, 1, memory_order_relaxed) + 1;

    if (calls % RESERVE_AGAIN_CALLS != 0 ||
        atomic_load_explicit(&pool->releasing, memory_order_relaxed) > 0 ||
        atomic_flag_test_and_set_explicit(&plan->is_reserving, memory_order_acquire))
        return;
    berth__pool_add_segment(pool, plan->size, false);
    atomic_flag_clear_explicit(&plan->is_reserving, memory_order_release);
}

static uint32_t thread_number(struct berth_pool_plan *plan)
{
    if (BERTH_UNLIKELY(planned_thread.number == 0))
        planned_thread.number =
            1 + atomic_fetch_add_explicit(&plan->threads, 1, memory_order_relaxed);
    return planned_thread.number - 1;
}

struct taking {
    struct berth_pool *pool;
    const struct berth_pool_request *request;
    uintptr_t address;
};

/* Cuts [address, address + size) out of a free block that contains it. */
static struct berth_block *cut_out(struct berth_pool *pool, struct berth_block *block,
                                   uintptr_t address, uint64_t size)
{
    uint64_t before = address - berth__block_address(block);
    struct berth_block *middle = NULL, *rest = NULL;

    if (before > 0) {
        middle = berth__block_new(&pool->block_slab, pool);
        if (!middle)
            return NULL;
    }
    if (block->size - before > size) {
        rest = berth__block_new(&pool->block_slab, pool);
        if (!rest) {
            if (middle)
                berth__block_delete(&pool->block_slab, middle);
            return NULL;
        }
    }
    berth__free_set_remove(&pool->shared, block);
    berth__idle_leave(pool, block);
    if (middle) {
        berth__segment_split(block, before, middle);
        berth__free_set_insert(&pool->shared, block);
        block = middle;
    }
    if (rest) {
        berth__segment_split(block, size, rest);
        berth__free_set_insert(&pool->shared, rest);
    }
    return block;
}

/* With the pool's lock held: hands [offset, offset + size) of the segment out if all of it is free.
 */
static bool take_range(void *context, uint64_t offset, uint64_t size)
{
    struct taking *taking = context;
    struct berth_pool *pool = taking->pool;
    struct berth_segment *segment = pool->segments;
    struct berth_block *block;
    uintptr_t address;

    if (!segment || size > segment->size || offset > segment->size - size)
        return false;
    address = segment->base + offset;
    block = berth__segment_block(segment, address);
    if (!block || berth__block_state(block) != BERTH_BLOCK_FREE ||
        address - berth__block_address(block) + size > block->size)
        return false;
    block = cut_out(pool, block, address, size);
    if (!block)
        return false;
    berth__pool_hand_out(pool, block, taking->request);
    taking->address = address;
    return true;
}

/* The call's own place is taken: by blocks, perhaps, whose time has passed. */
static bool take_again(struct berth_pool_plan *plan, uint32_t lane, uint64_t size,
                       struct taking *taking)
{
    static const enum berth_lazy_step steps[] = {BERTH_LAZY_LOOK, BERTH_LAZY_CLOSE};
    struct berth_pool *pool = taking->pool;
    bool is_taken = false;

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && !is_taken; i++) {
        if (!berth__lazy_reclaim(pool, steps[i]))
            continue;
        berth__pool_lock(pool);
        is_taken = berth__plan_follow_again(&plan->follow, lane, size, take_range, taking);
        berth__pool_unlock(pool);
    }
    return is_taken;
}

/* With the lock held: the place that is best in all that is free; false if there is none. */
static bool find_best(const struct berth_pool *pool, const struct berth_plan_room *room,
                      berth_plan_room_function look, uint64_t size, uint64_t *ret_offset)
{
    struct berth_block *block = berth__free_set_last(&pool->shared);
    uint64_t best = UINT64_MAX;

    for (; block && block->size >= size; block = berth__free_set_before(&pool->shared, block)) {
        uint64_t begin = berth__block_address(block) - pool->segments->base, offset = 0;
        uint64_t found = look(room, begin, begin + block->size, size, &offset);

        if (found < UINT64_MAX && found <= best) {
            *ret_offset = offset;
            best = found;
        }
    }
    return best < UINT64_MAX;
}

/*
 * With the lock held, for a call without a place: what the plan has no use for as long as it lives,
 * or else what is in the way of less than the call's own bytes: all of these may have to lie
 * elsewhere then. Not where the program is another than the plan's, whose future says nothing then.
 */
static bool find_room(const struct berth_pool_plan *plan, const struct berth_pool *pool,
                      uint32_t lane, uint64_t size, uint64_t *ret_offset)
{
    const struct berth_plan_follow *follow = &plan->follow;
    struct berth_plan_room room;
    struct berth_plan_entry place = {.size = size};

    if (!berth__plan_follow_is_alike(follow) || !berth__plan_room_see(follow, lane, NULL, &room))
        return false;
    if (find_best(pool, &room, berth__plan_room_fit, size, ret_offset))
        return true;
    if (!find_best(pool, &room, berth__plan_room_least, size, &place.offset) ||
        !berth__plan_room_see(follow, lane, &place, &room) || berth__plan_room_used(&room) > size)
        return false;
    *ret_offset = place.offset;
    return true;
}

static bool take_room(struct berth_pool_plan *plan, berth_cu_context context, uint32_t lane,
                      uint64_t size, struct taking *taking)
{
    struct berth_pool *pool = taking->pool;
    uint64_t offset;
    bool is_taken;

    berth__pool_lock(pool);
    is_taken = pool->context == context && !pool->is_ending && pool->segments &&
               find_room(plan, pool, lane, size, &offset) && take_range(taking, offset, size);
    berth__pool_unlock(pool);
    if (is_taken)
        atomic_fetch_add_explicit(&plan->lent, 1, memory_order_relaxed);
    return is_taken;
}

/* With the lock held: whether all that is not free was freed, and waits for the device. */
static bool nothing_lives(const struct berth_pool *pool)
{
    return pool->segments && pool->segments->size - pool->cached <= berth__lazy_bytes(pool);
}

/* With the lock held, before a call: whether it begins the run again. */
static bool begins_again(const struct berth_pool_plan *plan, const struct berth_pool *pool,
                         uint32_t lane, uint64_t size)
{
    if (berth__plan_follow_is_at_end(&plan->follow, lane))
        return !pool->segments || nothing_lives(pool);
    return berth__plan_follow_may_begin(&plan->follow, lane, size) && nothing_lives(pool);
}

/* With the lock held: a block of the smallest gap that has room; false if there is none. */
static bool take_gap(const struct berth_pool_plan *plan, struct taking *taking, uint64_t size)
{
    struct berth_pool *pool = taking->pool;
    struct berth_block *block = berth__free_set_fit(&pool->shared, size);
    uintptr_t address;

    if (!block)
        return false;
    address = berth__block_address(block);
    /* Of its end while the plan may have a use for it: what is high is for fewer moments. */
    if (!plan->follow.is_over)
        address += block->size - size;
    return take_range(taking, address - pool->segments->base, size);
}

bool berth__pool_plan_alloc(const struct berth_pool_request *request, uintptr_t *ret_address)
{
    struct berth_pool_plan *plan = atomic_load_explicit(&berth__pool_plan, memory_order_acquire);
    uint64_t size = berth__size_round(request->size);
    struct taking taking = {.request = request};
    berth_cu_context context = NULL;
    uint32_t thread, lane = 0;
    bool is_taken = false, is_occupied = false, is_missing = false, is_over = false;

    if (size == 0 || request->tier != BERTH_TIER_DEVICE || berth__context_current(&context) < 0 ||
        !context)
        return false;
    taking.pool = plan_pool(plan, context);
    if (!taking.pool)
        return false;
    thread = thread_number(plan);
    berth__pool_lock(taking.pool);
    if (taking.pool->context == context && !taking.pool->is_ending) {
        lane = berth__plan_follow_lane(&plan->follow, thread);
        if (begins_again(plan, taking.pool, lane, size))
            berth__plan_follow_rewind(&plan->follow, lane);
        is_taken = berth__plan_follow_call(&plan->follow, lane, size, take_range, &taking);
        is_occupied = !is_taken && berth__plan_follow_was_occupied(&plan->follow, lane);
        is_missing = !taking.pool->segments;
        is_over = plan->follow.is_over;
        /* Smaller ones are what threads keep, elsewhere; and some are to have IPC handles. */
        if (is_over && size > BERTH_REHEARSED_OVER && !berth__pool_is_whole(size) &&
            take_gap(plan, &taking, size)) {
            atomic_fetch_add_explicit(&plan->lent, 1, memory_order_relaxed);
            is_taken = true;
        }
    }
    berth__pool_unlock(taking.pool);
    if (is_missing && !is_over)
        plan_refill(plan, taking.pool);
    else if (is_occupied && !is_taken)
        is_taken = take_again(plan, lane, size, &taking);
    if (!is_taken && !is_missing && !is_over)
        is_taken = take_room(plan, context, lane, size, &taking);
    if (is_taken)
        *ret_address = taking.address;
    return is_taken;
}

/* Whether it was lent; *ret_is_over: whether what waits in the segment is worth a look. */
static bool lend(struct berth_pool_plan *plan, struct taking *taking, berth_cu_context context,
                 uint64_t size, bool is_needed, bool *ret_is_over)
{
    struct berth_pool *pool = taking->pool;
    bool is_lent = false;

    *ret_is_over = false;
    berth__pool_lock(pool);
    if (pool->context == context && !pool->is_ending) {
        *ret_is_over = plan->follow.is_over;
        is_lent = (is_needed || (plan->follow.is_over && !berth__pool_is_whole(size)) ||
                   !berth__plan_follow_is_alike(&plan->follow)) &&
                  take_gap(plan, taking, size);
    }
    berth__pool_unlock(pool);
    if (is_lent)
        atomic_fetch_add_explicit(&plan->lent, 1, memory_order_relaxed);
    return is_lent;
}

bool berth__pool_plan_lend(const struct berth_pool_request *request, uint64_t size, bool is_needed,
                           uintptr_t *ret_address)
{
    static const enum berth_lazy_step steps[] = {BERTH_LAZY_LOOK, BERTH_LAZY_CLOSE};
    struct berth_pool_plan *plan = atomic_load_explicit(&berth__pool_plan, memory_order_acquire);
    struct taking taking = {.request = request};
    berth_cu_context context = NULL;
    bool is_over, is_lent;

    if (!plan || request->tier != BERTH_TIER_DEVICE || berth__context_current(&context) < 0 ||
        !context)
        return false;
    taking.pool = atomic_load_explicit(&plan->pool, memory_order_acquire);
    if (!taking.pool)
        return false;
    is_lent = lend(plan, &taking, context, size, is_needed, &is_over);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && !is_lent && is_over; i++)
        if (berth__lazy_reclaim(taking.pool, steps[i]))
            is_lent = lend(plan, &taking, context, size, is_needed, &is_over);
    if (is_lent)
        *ret_address = taking.address;
    return is_lent;
}

uint64_t berth__pool_plan_size(berth_cu_context context)
{
    struct berth_pool_plan *plan = atomic_load_explicit(&berth__pool_plan, memory_order_acquire);
    struct berth_pool *pool = plan ? atomic_load_explicit(&plan->pool, memory_order_acquire) : NULL;

    return pool && atomic_load_explicit(&pool->context, memory_order_acquire) == context
               ? plan->size
               : 0;
}

bool berth__pool_plan_read(struct berth_pool_plan_reading *ret)
{
    struct berth_pool_plan *plan = atomic_load_explicit(&berth__pool_plan, memory_order_acquire);

    if (!plan)
        return false;
    *ret = (struct berth_pool_plan_reading){
        .peak = plan->follow.view.header->peak,
        .max_live = plan->follow.view.header->max_live,
        .is_followed = atomic_load_explicit(&plan->pool, memory_order_relaxed) != NULL,
        .hits = atomic_load_explicit(&plan->follow.hits, memory_order_relaxed),
        .unknown = atomic_load_explicit(&plan->follow.unknown, memory_order_relaxed),
        .occupied = atomic_load_explicit(&plan->follow.occupied, memory_order_relaxed),
        .resyncs = atomic_load_explicit(&plan->follow.resyncs, memory_order_relaxed),
        .lent = atomic_load_explicit(&plan->lent, memory_order_relaxed),
    };
    return true;
}
