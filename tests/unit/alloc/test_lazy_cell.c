/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a thread that frees and allocates the same few large blocks pays for few points, and is
 * given no block that work may still use. Method: pairs, counted, on a device that is idle, then at
 * work, captured, refusing, or gone.
 */
#include "order_fixture.h"

#include "alloc/options.h"
#include "alloc/order.h"
#include "alloc/pool.h"
#include "alloc/pool_lazy.h"
#include "alloc/pool_parts.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define LARGE (8 * BERTH_MIB)
#define PAIRS 8192

static uint64_t points(void)
{
    return atomic_load(&berth__lazy_counts.points);
}

static void pairs(unsigned count, uint64_t size)
{
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(berth__pool_free(alloc(size)), 0);
}

/* How many points `count` more pairs take, once the pool knows the program. */
static uint64_t points_of(unsigned count, uint64_t size)
{
    uint64_t before;

    pairs(PAIRS, size);
    before = points();
    pairs(count, size);
    return points() - before;
}

/* The same few large blocks again and again share points with some more, within what may wait. */
static void large_blocks_share_points(void **state)
{
    struct berth_pool_audit audit;
    uint64_t before;

    set_option("waiting-max", "256M");
    assert_true(points_of(1024, LARGE) <= 1024 / 32 + 1);
    berth__pool_audit(&audit);
    assert_true(audit.reserved <= 256 * BERTH_MIB);
    /* Memory that is wanted elsewhere is not had again for that. */
    berth__pool_release_cached(BERTH_POOL_ALL_DEVICES);
    before = points();
    pairs(2, LARGE);
    assert_int_equal(points(), before + 1);
}

static void blocks_of_which_few_may_wait_share_points(void **state)
{
    set_option("waiting-max", "256M");
    assert_true(points_of(64, 64 * BERTH_MIB) <= 64 / 4 + 1);
}

/* Lets the stream go on after some questions, as work that ends does. */
static unsigned queries;
static berth_cu_result (*event_query)(berth_cu_event event);

static berth_cu_result count_query(berth_cu_event event)
{
    berth_cu_result result = event_query(event);

    if (++queries == 4)
        atomic_store(&may_go_on, true);
    return result;
}

/* What a thread closes by itself is not its own before the work has passed. */
static void check_reuse(uint64_t size)
{
    enum { MORE = 2048 };
    static uintptr_t seen[MORE];
    unsigned count = 0;
    CUstream busy;

    pairs(PAIRS, size);
    atomic_store(&may_go_on, false);
    busy = busy_stream();
    queries = 0;
    event_query = berth__driver.cuEventQuery;
    berth__driver.cuEventQuery = count_query;
    while (count < MORE && !atomic_load(&may_go_on)) {
        uintptr_t block = alloc(size);

        for (unsigned i = 0; i < count && !atomic_load(&may_go_on); i++)
            assert_int_not_equal(block, seen[i]);
        seen[count++] = block;
        assert_int_equal(berth__pool_free(block), 0);
    }
    assert_true(count > 1 && count < MORE);
    berth__driver.cuEventQuery = event_query;
    go_on();
    stream_delete(busy);
}

static void no_block_is_used_again_while_work_may_use_it(void **state)
{
    set_option("waiting-max", "256M");
    check_reuse(LARGE);
    check_reuse(64 * BERTH_KIB);
}

static void nothing_is_closed_while_a_capture_is_open(void **state)
{
    const struct berth_pool_request request = {.size = LARGE, .tier = BERTH_TIER_DEVICE};
    struct berth_cache *cache;
    uintptr_t block;
    uint64_t before;

    set_option("waiting-max", "256M");
    pairs(PAIRS, LARGE);
    cache = berth__cache_peek(pool_of_test());
    assert_true(cache->lazy.enough > 0);
    while (cache->lazy.count < cache->lazy.enough / LARGE)
        pairs(1, LARGE);
    before = points();
    atomic_fetch_add(&berth__device_captures, 1);
    assert_false(berth__lazy_close_own(cache, LARGE));
    atomic_fetch_sub(&berth__device_captures, 1);
    assert_int_equal(points(), before);
    assert_int_equal(berth__pool_alloc(&request, &block), 0);
    assert_int_equal(berth__pool_free(block), 0);
}

static berth_cu_result refuse_event(berth_cu_context where, berth_cu_event event)
{
    return 719;
}

/* Then the context is synchronised, as by cuMemFree. */
static void a_point_that_fails_loses_nothing(void **state)
{
    berth_cu_result (*record)(berth_cu_context, berth_cu_event) = berth__driver.cuCtxRecordEvent;
    struct berth_pool_audit audit;

    set_option("waiting-max", "256M");
    pairs(PAIRS, LARGE);
    berth__driver.cuCtxRecordEvent = refuse_event;
    pairs(256, LARGE);
    berth__driver.cuCtxRecordEvent = record;
    pairs(256, LARGE);
    berth__pool_audit(&audit);
    assert_int_equal(audit.held, 0);
    assert_int_equal(audit.reserved, audit.cached + audit.waiting);
    assert_true(audit.reserved <= 256 * BERTH_MIB);
}

/* What another thread is asking about is not what a third is refused. */
static atomic_bool is_out, is_needed;
static berth_cu_result (*mem_alloc)(berth_cu_address *address, size_t size);
static pthread_t needy;

static berth_cu_result count_refusals(berth_cu_address *address, size_t size)
{
    berth_cu_result result = mem_alloc(address, size);

    if (result == CUDA_ERROR_OUT_OF_MEMORY)
        atomic_store(&is_out, true);
    return result;
}

static void *need_memory(void *argument)
{
    use_context(context);
    *(uintptr_t *)argument = alloc(BERTH_GIB / 4 * 3);
    return NULL;
}

static uintptr_t needed;

static berth_cu_result record_when_out(berth_cu_context where, berth_cu_event event)
{
    berth_cu_result result = cuCtxRecordEvent((CUcontext)where, (CUevent)event);

    if (!atomic_exchange(&is_needed, true)) {
        pthread_create(&needy, NULL, need_memory, &needed);
        while (!atomic_load(&is_out))
            ;
    }
    return result;
}

static void what_another_thread_asks_about_is_waited_for(void **state)
{
    berth_cu_result (*record)(berth_cu_context, berth_cu_event) = berth__driver.cuCtxRecordEvent;
    struct berth_cache *cache;

    /* All that the device has. */
    set_option("waiting-max", "1G");
    pairs(PAIRS, LARGE);
    cache = berth__cache_peek(pool_of_test());
    assert_true(cache->lazy.enough >= BERTH_GIB / 4 * 3);
    while (cache->lazy.count < cache->lazy.enough / LARGE)
        pairs(1, LARGE);
    mem_alloc = berth__driver.cuMemAlloc_v2;
    berth__driver.cuMemAlloc_v2 = count_refusals;
    berth__driver.cuCtxRecordEvent = record_when_out;
    assert_true(berth__lazy_close_own(cache, LARGE));
    pthread_join(needy, NULL);
    berth__driver.cuCtxRecordEvent = record;
    berth__driver.cuMemAlloc_v2 = mem_alloc;
    assert_int_not_equal(needed, 0);
    assert_int_equal(berth__pool_free(needed), 0);
}

#define PART (448 * BERTH_MIB) /* of which the device has two */
#define BEFORE_OTHERS 100      /* questions */
#define AFTER_OTHERS 1000      /* with pauses of up to a fifth of a millisecond */

static void *need_part(void *argument)
{
    use_context(context);
    *(uintptr_t *)argument = alloc(PART);
    return NULL;
}

/* The work goes on long after the other thread was refused. */
static berth_cu_result query_for_long(berth_cu_event event)
{
    berth_cu_result result = event_query(event);
    unsigned asked = __atomic_add_fetch(&queries, 1, __ATOMIC_RELAXED);

    if (asked == BEFORE_OTHERS)
        pthread_create(&needy, NULL, need_part, &needed);
    else if (asked >= BEFORE_OTHERS + AFTER_OTHERS)
        atomic_store(&may_go_on, true);
    return result;
}

/* A thread that waits for all that was freed does not have others refused, however long. */
static void what_another_thread_waits_for_is_waited_for(void **state)
{
    uintptr_t block = alloc(PART), other = alloc(PART);
    CUstream busy = busy_stream();

    set_option("waiting-max", "1G");
    /* So that the first thread waits before it asks the driver. */
    atomic_store(&pool_of_test()->lazy.allowance, 0);
    needed = 0;
    assert_int_equal(berth__pool_free(block), 0);
    assert_int_equal(berth__pool_free(other), 0);
    queries = 0;
    event_query = berth__driver.cuEventQuery;
    berth__driver.cuEventQuery = query_for_long;
    block = alloc(PART);
    pthread_join(needy, NULL);
    berth__driver.cuEventQuery = event_query;
    go_on();
    stream_delete(busy);
    assert_int_not_equal(needed, 0);
    assert_int_equal(berth__pool_free(needed), 0);
    assert_int_equal(berth__pool_free(block), 0);
}

#define LONG_S 6 /* more than one wait takes, or some */

/* The work takes long. */
static berth_cu_result query_for_seconds(berth_cu_event event)
{
    static time_t begin;
    berth_cu_result result = event_query(event);
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    if (begin == 0)
        begin = now.tv_sec;
    else if (now.tv_sec >= begin + LONG_S)
        atomic_store(&may_go_on, true);
    return result;
}

/* The driver's own free would have waited. */
static void long_work_is_waited_for(void **state)
{
    uintptr_t block = alloc(2 * PART);
    CUstream busy = busy_stream();

    set_option("waiting-max", "2G");
    assert_int_equal(berth__pool_free(block), 0);
    event_query = berth__driver.cuEventQuery;
    berth__driver.cuEventQuery = query_for_seconds;
    block = alloc(2 * PART);
    berth__driver.cuEventQuery = event_query;
    go_on();
    stream_delete(busy);
    assert_int_not_equal(block, 0);
    assert_int_equal(berth__pool_free(block), 0);
}

/* The context goes, by another thread, while this one asks: nothing of it is left or used. */
static CUcontext dying;

static berth_cu_result record_and_drop(berth_cu_context where, berth_cu_event event)
{
    berth_cu_result result = cuCtxRecordEvent((CUcontext)where, (CUevent)event);

    berth__pool_drop((berth_cu_context)dying);
    return result;
}

static void what_is_closed_goes_with_its_context(void **state)
{
    berth_cu_result (*record)(berth_cu_context, berth_cu_event) = berth__driver.cuCtxRecordEvent;
    struct berth_cache *cache;

    set_option("waiting-max", "256M");
    assert_int_equal(cuCtxCreate_v2(&dying, 0, 0), 0);
    use_context(dying);
    pairs(PAIRS, LARGE);
    cache = berth__cache_peek(pool_of_test());
    while (cache->lazy.count < cache->lazy.enough / LARGE)
        pairs(1, LARGE);
    berth__driver.cuCtxRecordEvent = record_and_drop;
    assert_false(berth__lazy_close_own(cache, LARGE));
    berth__driver.cuCtxRecordEvent = record;
    assert_int_equal(atomic_load(&cache->lazy.bytes), 0);
    assert_null(cache->lazy.blocks);
    assert_null(cache->lazy.closing);
    assert_int_equal(cuCtxDestroy_v2(dying), 0);
    berth__order_drop((berth_cu_context)dying);
    use_context(context);
    pairs(PAIRS, LARGE);
}

static unsigned asked_for;
static berth_cu_result (*mem_alloc)(berth_cu_address *address, size_t size);

static berth_cu_result count_alloc(berth_cu_address *address, size_t bytes)
{
    asked_for++;
    return mem_alloc(address, bytes);
}

/*
 * Where all share segments a pool that may not have more gives back what is idle, and what waits,
 * which is idle by then: the program's next block is to come from it instead.
 */
static void what_waits_in_shared_segments_does_not_go_to_the_driver_and_back(void **state)
{
    static const uint64_t sizes[] = {64 << 10, 200000, 1 << 20, 1500000, 3000000, 9000001};

    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        CUcontext own; /* of which nothing is known */

        assert_int_equal(cuCtxCreate_v2(&own, 0, 0), 0);
        use_context(own);
        pairs(PAIRS / 8, sizes[i]);
        asked_for = 0;
        mem_alloc = berth__driver.cuMemAlloc_v2;
        berth__driver.cuMemAlloc_v2 = count_alloc;
        pairs(PAIRS / 8, sizes[i]);
        berth__driver.cuMemAlloc_v2 = mem_alloc;
        assert_int_equal(asked_for, 0);
        berth__pool_drop((berth_cu_context)own);
        berth__order_drop((berth_cu_context)own);
        assert_int_equal(cuCtxDestroy_v2(own), 0);
        use_context(context);
    }
}

/* As another thread does that has to grow while this one asks about what waits. */
static struct berth_pool *growing;

static berth_cu_result query_while_another_grows(berth_cu_event event)
{
    berth__pool_lock(growing);
    growing->live_max++;
    berth__pool_unlock(growing);
    queries++;
    return event_query(event);
}

static void what_waits_is_no_growth(void **state)
{
    uint64_t live_max, noted[BERTH_ALONE_OCTAVES];
    CUcontext own;

    assert_int_equal(cuCtxCreate_v2(&own, 0, 0), 0);
    use_context(own);
    pairs(PAIRS / 8, 3000000);
    growing = pool_of_test();
    while (atomic_load(&growing->context) != (berth_cu_context)own)
        growing = growing->next;
    live_max = growing->live_max;
    growing->misses = 100;
    pairs(PAIRS / 8, 3000000);
    assert_int_equal(growing->live_max, live_max);
    assert_int_equal(growing->misses, 100);
    /* What is noted of a peak is forgotten with it. */
    growing->live_max = 1;
    memset(growing->rounding_max, 1, sizeof(growing->rounding_max));
    memcpy(noted, growing->rounding_max, sizeof(noted));
    pairs(PAIRS / 8, 3000000);
    assert_int_equal(growing->live_max, 1);
    assert_memory_equal(noted, growing->rounding_max, sizeof(noted));
    growing->live_max = live_max;
    event_query = berth__driver.cuEventQuery;
    berth__driver.cuEventQuery = query_while_another_grows;
    queries = 0;
    pairs(PAIRS / 8, 3000000);
    berth__driver.cuEventQuery = event_query;
    assert_true(queries > 1 && growing->live_max >= live_max + queries);
    berth__pool_drop((berth_cu_context)own);
    berth__order_drop((berth_cu_context)own);
    assert_int_equal(cuCtxDestroy_v2(own), 0);
    use_context(context);
}

static int before_sharing(void **state)
{
    set_option("segments", "shared");
    return before_each(state);
}

static int after_sharing(void **state)
{
    int r = after_each(state);

    set_option("segments", "own");
    return r;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, before_each, after_each)
#define SHARE(name) cmocka_unit_test_setup_teardown(name, before_sharing, after_sharing)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(large_blocks_share_points),
        CASE(blocks_of_which_few_may_wait_share_points),
        CASE(no_block_is_used_again_while_work_may_use_it),
        CASE(nothing_is_closed_while_a_capture_is_open),
        CASE(a_point_that_fails_loses_nothing),
        CASE(what_another_thread_asks_about_is_waited_for),
        CASE(what_another_thread_waits_for_is_waited_for),
        CASE(long_work_is_waited_for),
        CASE(what_is_closed_goes_with_its_context),
        SHARE(what_waits_in_shared_segments_does_not_go_to_the_driver_and_back),
        SHARE(what_waits_is_no_growth),
    };

    return cmocka_run_group_tests(tests, up, NULL);
}
