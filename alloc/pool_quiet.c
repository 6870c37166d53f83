/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_quiet.h"

#include "alloc/order.h"
#include "alloc/pool_parts.h"

#include <errno.h>

/* Waits of berth__order_wait(), each of a second at most. */
static const unsigned waits_max[] = {
    [BERTH_PATIENCE_SHORT] = 1,
    [BERTH_PATIENCE_LONG] = 60,
};

static struct berth_quiet take(struct berth_pool *pool)
{
    struct berth_quiet quiet;

    berth__pool_lock(pool);
    quiet = pool->quiet;
    pool->quiet = (struct berth_quiet){0};
    berth__pool_unlock(pool);
    return quiet;
}

/* Of two threads that wait, one's is enough. */
static void remember(struct berth_pool *pool, struct berth_quiet quiet)
{
    berth__pool_lock(pool);
    if (!pool->quiet.point) {
        pool->quiet = quiet;
        quiet.point = NULL;
    }
    berth__pool_unlock(pool);
    berth__order_done(quiet.point);
}

/* As berth__order_query() answers, after waiting for so long if it must be. */
static int await(struct berth_quiet *quiet, enum berth_patience patience)
{
    int r;

    while ((r = berth__order_query(quiet->point)) == 0 && quiet->waits < waits_max[patience]) {
        quiet->waits++;
        berth__order_wait(quiet->point);
    }
    return r;
}

int berth__pool_await_quiet(struct berth_pool *pool, enum berth_patience patience)
{
    berth_cu_context context = atomic_load_explicit(&pool->context, memory_order_relaxed);
    struct berth_quiet quiet;
    bool is_new;
    int r;

    /* Without it a point would be put into streams, which had to wait for each other for it. */
    if (!berth__driver.cuCtxRecordEvent)
        return -ENOTSUP;
    quiet = take(pool);
    do {
        is_new = !quiet.point;
        r = is_new ? berth__order_record(context, &quiet.point) : 0;
        if (r < 0)
            return r;
        r = await(&quiet, patience);
        if (r == 0) {
            remember(pool, quiet);
            return 0;
        }
        berth__order_done(quiet.point);
        quiet = (struct berth_quiet){0};
        /* What others waited for has passed; what was queued since is asked for, too. */
    } while (!is_new && r == 1);
    return r;
}
