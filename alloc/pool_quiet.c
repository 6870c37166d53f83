/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_quiet.h"

#include "alloc/clock.h"
#include "alloc/order.h"
#include "alloc/pool_parts.h"

#include <errno.h>
#include <sched.h>

int64_t berth__pool_patience_ns[BERTH_PATIENCE_COUNT] = {
    [BERTH_PATIENCE_SHORT] = 1000000000,
    [BERTH_PATIENCE_LONG] = 60000000000,
};

/* What others have waited for in vain, or do; NULL: nothing. */
static struct berth_quiet *join(struct berth_pool *pool)
{
    struct berth_quiet *quiet;

    berth__pool_lock(pool);
    quiet = pool->quiet;
    if (quiet)
        quiet->users++;
    berth__pool_unlock(pool);
    return quiet;
}

/* The pool remembers it, as long as its point has not passed. */
static void leave(struct berth_pool *pool, struct berth_quiet *quiet, bool has_passed)
{
    struct berth_order_point *point = NULL;

    berth__pool_lock(pool);
    if (has_passed && pool->quiet == quiet) {
        pool->quiet = NULL;
        quiet->users--;
    }
    if (--quiet->users == 0) {
        point = quiet->point;
        berth__slab_delete(&pool->quiet_slab, quiet);
    }
    berth__pool_unlock(pool);
    berth__order_done(point);
}

/* Where the pool remembers one already, this one is the calling thread's alone. */
static struct berth_quiet *make(struct berth_pool *pool, struct berth_order_point *point)
{
    struct berth_quiet *quiet;

    berth__pool_lock(pool);
    quiet = berth__slab_new(&pool->quiet_slab, sizeof(*quiet));
    if (quiet) {
        *quiet = (struct berth_quiet){.point = point, .users = 1};
        if (!pool->quiet) {
            pool->quiet = quiet;
            quiet->users++;
        }
    }
    berth__pool_unlock(pool);
    return quiet;
}

/* The pool's context, unless somebody may be about to destroy it. */
static berth_cu_context context_of(struct berth_pool *pool)
{
    berth_cu_context context;

    berth__pool_lock(pool);
    context = berth__pool_may_end(pool)
                  ? NULL
                  : atomic_load_explicit(&pool->context, memory_order_relaxed);
    berth__pool_unlock(pool);
    return context;
}

/* As berth__order_record(); -ESTALE for a context that is ending. */
static int record(struct berth_pool *pool, struct berth_order_point **ret)
{
    berth_cu_context context;
    int r = -ESTALE;

    if (!berth__order_enter())
        return -EBUSY;
    context = context_of(pool);
    if (context)
        r = berth__order_record(context, ret);
    berth__order_leave();
    return r;
}

/*
 * The same once nobody has the door shut who destroys a stream or a context, for which nobody need
 * wait as cuMemFree does.
 */
static int record_when_open(struct berth_pool *pool, enum berth_patience patience,
                            struct berth_order_point **ret)
{
    int64_t end = berth__clock_ns() + berth__pool_patience_ns[patience], now;
    int r;

    while ((r = record(pool, ret)) == -EBUSY && !berth__device_capturing() &&
           (now = berth__clock_ns()) < end) {
        berth__order_await_door(end - now);
        sched_yield();
    }
    return r;
}

/* As berth__order_query(), but that who cannot be asked just now is not done yet. */
static int query(const struct berth_quiet *quiet)
{
    int r = berth__order_query(quiet->point);

    return r == -EBUSY && !berth__device_capturing() ? 0 : r;
}

/* False: it was waited for so long already. */
static bool wait_begin(struct berth_pool *pool, struct berth_quiet *quiet,
                       enum berth_patience patience)
{
    int64_t now = berth__clock_ns(), waited;
    bool may_wait;

    berth__pool_lock(pool);
    waited = quiet->waited_ns + (quiet->waiters > 0 ? now - quiet->since : 0);
    may_wait = waited < berth__pool_patience_ns[patience];
    if (may_wait && quiet->waiters++ == 0)
        quiet->since = now;
    berth__pool_unlock(pool);
    return may_wait;
}

static void wait_end(struct berth_pool *pool, struct berth_quiet *quiet)
{
    int64_t now = berth__clock_ns();

    berth__pool_lock(pool);
    if (--quiet->waiters == 0)
        quiet->waited_ns += now - quiet->since;
    berth__pool_unlock(pool);
}

/*
 * As berth__order_query() answers, after waiting for so long if it must be. Who destroys the
 * context waits for its work, and then the memory is gone: that takes as long as it takes, and
 * nobody may ask about a point meanwhile.
 */
static int await(struct berth_pool *pool, struct berth_quiet *quiet, enum berth_patience patience)
{
    int r;

    while ((r = query(quiet)) == 0 && context_of(pool) && wait_begin(pool, quiet, patience)) {
        berth__order_wait(quiet->point);
        wait_end(pool, quiet);
    }
    return r;
}

/* What others waited for. 1: there is none, or it has passed. */
static int await_others(struct berth_pool *pool, enum berth_patience patience)
{
    struct berth_quiet *quiet = join(pool);
    int r = 1;

    if (quiet) {
        r = await(pool, quiet, patience);
        leave(pool, quiet, r != 0);
    }
    return r;
}

int berth__pool_await_quiet(struct berth_pool *pool, enum berth_patience patience)
{
    struct berth_order_point *point = NULL;
    struct berth_quiet *quiet;
    int r;

    /* Without it a point would be put into streams, which had to wait for each other for it. */
    if (!berth__driver.cuCtxRecordEvent)
        return -ENOTSUP;
    r = await_others(pool, patience);
    if (r != 1)
        return r;
    /* That has passed; what was queued since is asked for, too. */
    r = record_when_open(pool, patience, &point);
    if (r == -ESTALE || (r == -EBUSY && !berth__device_capturing()))
        return 0;
    if (r < 0)
        return r;
    quiet = make(pool, point);
    if (!quiet) {
        berth__order_done(point);
        return -ENOMEM;
    }
    r = await(pool, quiet, patience);
    leave(pool, quiet, r != 0);
    return r;
}

uint64_t berth__pool_await_given(struct berth_pool *pool)
{
    uint64_t given = atomic_load(&pool->given_in_order);
    uint64_t before = atomic_load(&pool->given_awaited), awaited = before;

    /* Both rise alone. Who comes while others wait for it waits for it, too. */
    if (given == before || berth__pool_await_quiet(pool, BERTH_PATIENCE_SHORT) != 1)
        return 0;
    while (awaited < given && !atomic_compare_exchange_weak(&pool->given_awaited, &awaited, given))
        ;
    return given > before ? given - before : 0;
}
