/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_borrow.h"

#include "alloc/pool_parts.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

/*
 *     NONE -> FREE      made
 *     FREE -> BINDING   a thread makes it a segment of its context's pool...
 *     BINDING -> BOUND  ...and has done so; the pool's lock is held
 *     BOUND -> FREE     the segment was forgotten: its context ended, or the loan does; likewise
 *     FREE -> NONE      ended
 */
enum loan_state { LOAN_NONE, LOAN_FREE, LOAN_BINDING, LOAN_BOUND };

struct loan {
    _Atomic int state;
    atomic_bool is_stopped;
    atomic_bool is_ending;  /* the control thread takes it back: whatever its context, it is FREE */
    struct berth_loan what; /* Synchronization: written while NONE */
    struct berth_pool *_Atomic pool; /* while BOUND; written before the state says so */
    struct berth_segment *segment;
};

static struct loan loans[BERTH_TIER_MAX];

static bool loan_move(struct loan *loan, int from, int to)
{
    return atomic_compare_exchange_strong(&loan->state, &from, to);
}

/* While no pool has it in its books, its bytes are cached in the tier alone. */
static void count_unbound(const struct loan *loan, uint64_t bytes)
{
    atomic_fetch_add_explicit(&berth__tier_stats[loan->what.tier].cached, bytes,
                              memory_order_relaxed);
}

int berth__loan_make(const struct berth_loan *what)
{
    struct loan *loan = &loans[what->tier];
    int r;

    if (atomic_load(&loan->state) != LOAN_NONE)
        return -EEXIST;
    if (what->size == 0 || ((what->base | what->size) & (BERTH_GRANULE - 1)) != 0)
        return -EINVAL;
    r = berth__tier_reserve(what->tier, what->size);
    if (r < 0)
        return r;
    loan->what = *what;
    loan->is_stopped = false;
    loan->is_ending = false;
    count_unbound(loan, what->size);
    atomic_store(&loan->state, LOAN_FREE);
    return 0;
}

/* FREE to NONE. */
static bool give_up(struct loan *loan)
{
    berth_tier_id tier = loan->what.tier;
    uint64_t size = loan->what.size;

    if (!loan_move(loan, LOAN_FREE, LOAN_NONE))
        return false;
    atomic_fetch_sub_explicit(&berth__tier_stats[tier].cached, size, memory_order_relaxed);
    berth__tier_release(tier, size);
    return true;
}

static void read_use(const struct berth_segment *segment, struct berth_loan_use *ret)
{
    memset(ret, 0, sizeof(*ret));
    for (const struct berth_block *block = segment->first; block; block = block->next) {
        if (berth__block_state(block) == BERTH_BLOCK_FREE)
            continue;
        ret->blocks[block->tag]++;
        ret->bytes[block->tag] += block->size;
    }
}

/* Takes the segment of a loan that was BOUND back from its pool, unless blocks live in it. */
static int unbind(struct loan *loan, struct berth_pool *pool, struct berth_loan_use *ret_use)
{
    int r = 0;

    berth__pool_lock(pool);
    berth__cache_shut(pool);
    if (atomic_load(&loan->state) == LOAN_BOUND && loan->pool == pool) {
        /* What only this context has mapped is no other's. */
        if (loan->segment->used_blocks > 0 || (loan->what.context && !loan->is_ending)) {
            read_use(loan->segment, ret_use);
            r = -EBUSY;
        } else {
            berth__pool_forget_segment(pool, loan->segment);
        }
    }
    berth__cache_open(pool);
    berth__pool_unlock(pool);
    return r;
}

/* What the program has freed is no reason to keep a loan. */
static void reclaim(struct berth_pool *pool)
{
    if (berth__device_capturing())
        return;
    berth__lazy_reclaim_all(pool, BERTH_PATIENCE_LONG);
    berth__pool_settle_waiting(pool);
}

int berth__loan_end(berth_tier_id tier, struct berth_loan_use *ret_use)
{
    struct loan *loan = &loans[tier];
    bool was_stopped = atomic_exchange(&loan->is_stopped, true);
    int r = 0;

    loan->is_ending = true;
    while (r == 0) {
        switch (atomic_load(&loan->state)) {
        case LOAN_NONE:
            r = -ENOENT;
            break;
        case LOAN_FREE:
            if (give_up(loan))
                return 0;
            break;
        case LOAN_BOUND:
            reclaim(loan->pool);
            r = unbind(loan, loan->pool, ret_use);
            break;
        default:
            sched_yield(); /* the thread that binds it makes no call that could wait */
            break;
        }
    }
    loan->is_ending = false;
    loan->is_stopped = was_stopped;
    return r;
}

void berth__loan_stop(berth_tier_id tier)
{
    loans[tier].is_stopped = true;
}

bool berth__loan_exists(berth_tier_id tier)
{
    return atomic_load(&loans[tier].state) != LOAN_NONE;
}

bool berth__loan_is_open(berth_tier_id tier)
{
    return berth__loan_exists(tier) && !atomic_load(&loans[tier].is_stopped);
}

void berth__loan_drop(berth_cu_context context)
{
    for (unsigned tier = 0; context && tier < BERTH_TIER_MAX; tier++)
        if (atomic_load(&loans[tier].state) == LOAN_FREE && loans[tier].what.context == context)
            give_up(&loans[tier]);
}

bool berth__loan_is_possible(void)
{
    return !berth__pool_disabled();
}

void berth__pool_unborrow(const struct berth_segment *segment)
{
    struct loan *loan = &loans[segment->pool->tier];

    count_unbound(loan, loan->what.size);
    atomic_store(&loan->state, LOAN_FREE);
    /* What only this context had mapped is gone with it. */
    if (loan->what.context && !loan->is_ending)
        give_up(loan);
}

/* With the lock held: the records of a segment to be, or NULL without memory. */
static struct berth_segment *segment_make(struct berth_pool *pool, const struct berth_loan *what,
                                          struct berth_block **ret_block)
{
    struct berth_segment *segment = berth__segment_new(&pool->segment_slab, pool);
    struct berth_block *block = berth__block_new(&pool->block_slab, pool);
    uint64_t *starts = berth__segment_starts_new(&pool->starts_slab, what->size);

    if (segment && block && starts) {
        segment->base = what->base;
        segment->size = what->size;
        segment->kind = BERTH_SEGMENT_BORROWED;
        segment->starts = starts;
        *ret_block = block;
        return segment;
    }
    if (starts)
        berth__segment_starts_delete(&pool->starts_slab, starts, what->size);
    if (block)
        berth__block_delete(&pool->block_slab, block);
    if (segment)
        berth__slab_delete(&pool->segment_slab, segment);
    return NULL;
}

/* With the lock held: makes a loan that is BINDING a segment of the pool. */
static int bind(struct berth_pool *pool, struct loan *loan)
{
    struct berth_segment *segment, *other = NULL;
    struct berth_block *block;

    segment = segment_make(pool, &loan->what, &block);
    if (!segment)
        return -ENOMEM;
    if (berth__segment_map(segment, &other) < 0) {
        berth__block_delete(&pool->block_slab, block);
        berth__pool_delete_segment(pool, segment);
        return -ENOMEM;
    }
    berth__segment_place(segment, block, NULL, segment->base, segment->size);
    berth__pool_list_add(pool, segment);
    count_unbound(loan, -loan->what.size);
    segment->used_blocks++;
    berth__pool_put(pool, block);
    loan->pool = pool;
    loan->segment = segment;
    atomic_store(&loan->state, LOAN_BOUND);
    return 0;
}

/* With the lock held: gives the pool the loan of its tier, if that is for it and nobody has it. */
static bool try_bind(struct berth_pool *pool, berth_cu_context context, struct loan *loan)
{
    /* The context may have been destroyed since it was looked up. */
    if (atomic_load_explicit(&pool->context, memory_order_relaxed) != context ||
        atomic_load_explicit(&pool->is_ending, memory_order_relaxed) ||
        !loan_move(loan, LOAN_FREE, LOAN_BINDING))
        return false;
    if (loan->what.device == pool->device &&
        (!loan->what.context || loan->what.context == context) && bind(pool, loan) == 0)
        return true;
    atomic_store(&loan->state, LOAN_FREE);
    return false;
}

/*
 * Makes the loan the pool's if it is for its context. One that another context has and uses no
 * longer is taken from it; two pools are never locked at once.
 */
static bool obtain(struct berth_pool *pool, berth_cu_context context, struct loan *loan)
{
    struct berth_loan_use ignored;
    struct berth_pool *other;
    bool is_bound;

    if (atomic_load(&loan->state) == LOAN_BOUND) {
        other = loan->pool;
        if (other == pool || atomic_load(&other->device) != atomic_load(&pool->device) ||
            unbind(loan, other, &ignored) < 0)
            return false;
    }
    berth__pool_lock(pool);
    is_bound = try_bind(pool, context, loan);
    berth__pool_unlock(pool);
    return is_bound;
}

/* A request that looks in a pool. */
struct wish {
    const struct berth_pool_request *request;
    uint64_t size;
    uintptr_t *ret_address;
};

static bool take(struct berth_pool *pool, void *argument)
{
    const struct wish *wish = argument;
    struct berth_block *block;

    berth__pool_lock(pool);
    block = berth__pool_take(pool, wish->size, false);
    if (!block && berth__cache_flush(pool))
        block = berth__pool_take(pool, wish->size, false);
    if (block) {
        berth__pool_hand_out(pool, block, wish->request);
        *wish->ret_address = berth__block_address(block);
    }
    berth__pool_unlock(pool);
    return block != NULL;
}

int berth__pool_borrow(const struct berth_pool_request *request, uintptr_t *ret_address)
{
    uint64_t size = berth__size_round(request->size);
    struct wish wish = {request, size, ret_address};
    berth_cu_context context = NULL;
    struct berth_pool *pool;

    if (request->size == 0 || berth__pool_disabled() || berth__device_current(&context) < 0 ||
        !context)
        return BERTH_POOL_FORWARD;
    /* A graph that is captured may be replayed when the memory is somebody else's again. */
    if (size == 0 || !berth__loan_is_open(request->tier) || berth__device_capturing())
        return -ENOMEM;
    pool = berth__pool_for(context, request->tier);
    if (!pool)
        return -ENOMEM;
    if (take(pool, &wish))
        return 0;
    if (obtain(pool, context, &loans[request->tier])
            ? take(pool, &wish)
            : berth__lazy_take(pool, size, BERTH_LAZY_NOWHERE, take, &wish))
        return 0;
    /* Where no point in the context's work can be recorded, it was synchronised. */
    berth__pool_settle_waiting(pool);
    return take(pool, &wish) ? 0 : -ENOMEM;
}
