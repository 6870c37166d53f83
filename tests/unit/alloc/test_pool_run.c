/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: where blocks of all sizes share segments, a thread that frees a block and allocates one of
 * its size again, over and over, leaves the pool alone; and everybody else finds memory there as if
 * that thread kept nothing. Method: pairs, with the pool's changes and the points counted; then
 * another size, another thread, work, a capture, or who wants the memory back.
 */
#include "order_fixture.h"

#include "alloc/options.h"
#include "alloc/order.h"
#include "alloc/pool.h"
#include "alloc/pool_lazy.h"
#include "alloc/pool_parts.h"
#include "alloc/pool_run.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define LARGE (8 * BERTH_MIB)
#define PAIRS 2048

static const uint64_t sizes[] = {64 << 10, 200000, 1 << 20, 3000000, LARGE, 32 * BERTH_MIB};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* Tests before have left others. */
static struct berth_pool *pool_of(CUcontext which)
{
    struct berth_pool *pool = atomic_load(&berth__pool_first);

    while (atomic_load(&pool->context) != (berth_cu_context)which)
        pool = pool->next;
    return pool;
}

static uint64_t points(void)
{
    return atomic_load(&berth__lazy_counts.points);
}

static void pairs(unsigned count, uint64_t size)
{
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(berth__pool_free(alloc(size)), 0);
}

static uint64_t reserved(void)
{
    struct berth_pool_audit audit;

    berth__pool_audit(&audit);
    return audit.reserved;
}

static void everything_back(void)
{
    assert_int_equal(cuCtxSynchronize(), 0);
    berth__pool_release_cached(BERTH_POOL_ALL_DEVICES);
    assert_int_equal(reserved(), 0);
}

static unsigned asked;

static berth_cu_result count_asked(berth_cu_context *ret)
{
    asked++;
    return cuCtxGetCurrent((CUcontext *)ret);
}

/* Nor is the driver asked for the context, as it is whenever a pool is looked into. */
static void a_pair_that_repeats_leaves_the_pool_alone(void **state)
{
    for (unsigned i = 0; i < SIZES; i++) {
        uint64_t changes, before;

        pairs(PAIRS, sizes[i]);
        changes = berth__pool_changes(pool_of(context));
        before = points();
        asked = 0;
        berth__driver.cuCtxGetCurrent = count_asked;
        pairs(PAIRS, sizes[i]);
        assert_true(asked <= PAIRS / 32);
        assert_int_equal(berth__pool_changes(pool_of(context)), changes);
        assert_true(points() - before <= PAIRS);
        /* Two of 1 MiB have room in the least that the driver gives, and some smaller ones. */
        if (sizes[i] <= BERTH_MIB)
            assert_true(points() - before <= PAIRS * sizes[i] / (2 * BERTH_MIB) * 10 / 9 + 1);
        assert_true(reserved() <= 2 * sizes[i] + 8 * BERTH_MIB);
        assert_true(berth__pools_are_valid());
        everything_back();
    }
}

/* Nor is anything kept of what may be part of something else. */
static void what_came_back_a_few_times_is_the_pools(void **state)
{
    for (unsigned i = 1; i < SIZES; i++) {
        for (unsigned pair = 0; pair < BERTH_RUN_BELIEF - 1; pair++) {
            pairs(1, sizes[i]);
            berth__lazy_reclaim(pool_of(context), BERTH_LAZY_CLOSE);
            assert_int_equal(berth__cache_peek(pool_of(context))->bytes, 0);
        }
        everything_back();
    }
}

/* What is reserved after pairs of a size and then blocks of others, in a pool that knows nothing.
 */
static uint64_t reserved_for_others(uint64_t size, const char *thread_cache)
{
    uintptr_t blocks[4], others[3];
    uint64_t bytes, usual = berth__option(BERTH_OPTION_THREAD_CACHE);
    CUcontext own;
    char text[32];

    assert_int_equal(cuCtxCreate_v2(&own, 0, 0), 0);
    use_context(own);
    if (thread_cache)
        set_option("thread-cache", thread_cache);
    for (unsigned i = 0; i < 4; i++)
        blocks[i] = alloc(4 * size);
    for (unsigned i = 0; i < 4; i += 2)
        assert_int_equal(berth__pool_free(blocks[i]), 0);
    pairs(PAIRS, size);
    for (unsigned i = 0; i < 3; i++)
        others[i] = alloc((i + 2) * size);
    bytes = reserved();
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(berth__pool_free(others[i]), 0);
    for (unsigned i = 1; i < 4; i += 2)
        assert_int_equal(berth__pool_free(blocks[i]), 0);
    snprintf(text, sizeof(text), "%llu", (unsigned long long)usual);
    set_option("thread-cache", text);
    berth__pool_drop((berth_cu_context)own);
    berth__order_drop((berth_cu_context)own);
    assert_int_equal(cuCtxDestroy_v2(own), 0);
    use_context(context);
    return bytes;
}

/* Another size needs no more than where threads keep nothing at all. */
static void another_size_finds_the_memory(void **state)
{
    for (unsigned i = 1; i < SIZES; i++)
        assert_true(reserved_for_others(sizes[i], NULL) <= reserved_for_others(sizes[i], "0"));
}

static void *take(void *size)
{
    use_context(context);
    return (void *)alloc(*(uint64_t *)size);
}

static void another_thread_finds_the_memory(void **state)
{
    uint64_t before, size;
    pthread_t thread;
    void *block;

    for (unsigned i = 0; i < SIZES; i++) {
        pairs(PAIRS, sizes[i]);
        before = reserved();
        size = sizes[i];
        assert_int_equal(pthread_create(&thread, NULL, take, &size), 0);
        assert_int_equal(pthread_join(thread, &block), 0);
        assert_int_equal(reserved(), before);
        assert_int_equal(berth__pool_free((uintptr_t)block), 0);
        everything_back();
    }
}

/* What the thread's cache has once all that waits is known to be idle. */
static uint64_t kept(void)
{
    berth__lazy_reclaim(pool_of(context), BERTH_LAZY_CLOSE);
    return berth__cache_peek(pool_of(context))->bytes;
}

static void only_a_run_is_kept(void **state)
{
    uintptr_t older = alloc(BERTH_MIB), smaller = alloc(BERTH_MIB / 2), block;
    uint64_t size = 3 * BERTH_MIB, before;
    pthread_t thread;
    void *other;

    pairs(PAIRS, BERTH_MIB);
    before = kept();
    assert_true(before > 0);
    pairs(1, BERTH_MIB);
    assert_int_equal(berth__pool_free(smaller), 0);
    assert_int_equal(kept(), before - BERTH_MIB);
    pairs(PAIRS, BERTH_MIB);
    before = kept();
    pairs(1, BERTH_MIB);
    assert_int_equal(berth__pool_free(older), 0);
    assert_int_equal(kept(), before - BERTH_MIB);
    /* Somebody else changes what is free. */
    pairs(PAIRS, BERTH_MIB);
    block = alloc(BERTH_MIB);
    assert_int_equal(pthread_create(&thread, NULL, take, &size), 0);
    assert_int_equal(pthread_join(thread, &other), 0);
    assert_int_equal(berth__pool_free(block), 0);
    assert_int_equal(kept(), 0);
    assert_int_equal(berth__pool_free((uintptr_t)other), 0);
}

static void without_caches_nothing_is_kept(void **state)
{
    set_option("thread-cache", "0");
    for (unsigned i = 0; i < SIZES; i++) {
        pairs(64, sizes[i]);
        assert_int_equal(kept(), 0);
    }
    set_option("thread-cache", "64M");
}

/* What the run keeps is first part of the free memory around it again. */
static void another_thread_is_served_as_if_nothing_were_kept(void **state)
{
    uintptr_t lowest = alloc(4 * LARGE);
    uint64_t size = 2 * BERTH_MIB;
    pthread_t thread;
    void *block;

    assert_int_equal(berth__pool_free(lowest), 0);
    pairs(PAIRS, BERTH_MIB);
    berth__lazy_reclaim(pool_of(context), BERTH_LAZY_CLOSE);
    assert_true(berth__cache_peek(pool_of(context))->bytes > 0);
    assert_int_equal(pthread_create(&thread, NULL, take, &size), 0);
    assert_int_equal(pthread_join(thread, &block), 0);
    assert_int_equal((uintptr_t)block, lowest);
    assert_int_equal(berth__pool_free((uintptr_t)block), 0);
}

/*
 * Requests that differ hold the same where they are alone: what the pool counts of each goes with
 * it. The larger block is there so that a pair is no step of its own.
 */
static void what_is_asked_for_may_differ(void **state)
{
    uintptr_t larger = alloc(16 * LARGE);

    pairs(PAIRS, LARGE);
    for (unsigned i = 0; i < 64; i++) {
        pairs(1 + i % 3, LARGE - (i % 5) * 200000);
        assert_true(berth__pools_are_valid());
    }
    pairs(PAIRS, LARGE);
    assert_true(berth__pools_are_valid());
    assert_int_equal(berth__pool_free(larger), 0);
}

/* Lets the stream go on after some questions, as work that ends does. */
static unsigned queries;
static berth_cu_result (*event_query)(berth_cu_event event);

static berth_cu_result count_query(berth_cu_event event)
{
    berth_cu_result result = event_query(event);

    if (++queries == 16)
        atomic_store(&may_go_on, true);
    return result;
}

static void no_block_is_used_again_while_work_may_use_it(void **state)
{
    enum { MORE = 2048 };
    static uintptr_t seen[MORE];
    CUstream busy;

    for (unsigned size = 0; size < SIZES; size++) {
        unsigned count = 0;

        pairs(PAIRS, sizes[size]);
        atomic_store(&may_go_on, false);
        busy = busy_stream();
        queries = 0;
        event_query = berth__driver.cuEventQuery;
        berth__driver.cuEventQuery = count_query;
        /* What was freed before may come back: it waited for nothing. */
        while (count < MORE && !atomic_load(&may_go_on)) {
            uintptr_t block = alloc(sizes[size]);

            for (unsigned i = 0; i < count && !atomic_load(&may_go_on); i++)
                assert_int_not_equal(block, seen[i]);
            seen[count++] = block;
            assert_int_equal(berth__pool_free(block), 0);
        }
        /* The largest is waited for rather than the pool grows. */
        assert_true(count > (sizes[size] <= LARGE) && count < MORE);
        berth__driver.cuEventQuery = event_query;
        go_on();
        stream_delete(busy);
        everything_back();
    }
}

static unsigned recorded;

static berth_cu_result count_record(berth_cu_context where, berth_cu_event event)
{
    recorded++;
    return cuCtxRecordEvent((CUcontext)where, (CUevent)event);
}

/* Nothing is asked of the driver meanwhile, and what waits stays where it is. */
static void a_capture_is_let_alone(void **state)
{
    berth_cu_result (*record)(berth_cu_context, berth_cu_event) = berth__driver.cuCtxRecordEvent;

    for (unsigned i = 0; i < SIZES; i++) {
        uintptr_t block, other;

        pairs(PAIRS, sizes[i]);
        block = alloc(sizes[i]);
        recorded = 0;
        berth__driver.cuCtxRecordEvent = count_record;
        atomic_fetch_add(&berth__device_captures, 1);
        other = alloc(sizes[i]);
        assert_int_not_equal(other, block);
        assert_int_equal(berth__pool_free(block), 0);
        block = alloc(sizes[i]);
        assert_int_not_equal(other, block);
        assert_int_equal(recorded, 0);
        atomic_fetch_sub(&berth__device_captures, 1);
        berth__driver.cuCtxRecordEvent = record;
        assert_int_equal(berth__pool_free(block), 0);
        assert_int_equal(berth__pool_free(other), 0);
        pairs(PAIRS, sizes[i]);
        everything_back();
    }
}

/* A point that cannot be had: the context is synchronised, as by cuMemFree. */
static berth_cu_result refuse_event(berth_cu_context where, berth_cu_event event)
{
    return 719;
}

static void a_point_that_fails_loses_nothing(void **state)
{
    berth_cu_result (*record)(berth_cu_context, berth_cu_event) = berth__driver.cuCtxRecordEvent;

    for (unsigned i = 0; i < SIZES; i++) {
        pairs(PAIRS, sizes[i]);
        berth__driver.cuCtxRecordEvent = refuse_event;
        pairs(64, sizes[i]);
        berth__driver.cuCtxRecordEvent = record;
        pairs(64, sizes[i]);
        assert_true(berth__pools_are_valid());
        everything_back();
    }
}

/* The cache of a thread that ends serves another, whose run is its own. */
static void *pairs_of_thread(void *size)
{
    use_context(context);
    pairs(PAIRS, *(uint64_t *)size);
    return NULL;
}

static void threads_come_and_go(void **state)
{
    uint64_t first = LARGE, second = BERTH_MIB;
    pthread_t threads[4];

    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(
                pthread_create(&threads[i], NULL, pairs_of_thread, i % 2 ? &first : &second), 0);
        for (unsigned i = 0; i < 4; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(berth__pools_are_valid());
    }
}

static int before_sharing(void **state)
{
    set_option("segments", "shared");
    return before_each(state);
}

static int before_expanding(void **state)
{
    set_option("segments", "expandable");
    return before_each(state);
}

static int after_sharing(void **state)
{
    int r = after_each(state);

    set_option("segments", "own");
    return r;
}

#define SHARE(name) cmocka_unit_test_setup_teardown(name, before_sharing, after_sharing)
#define EXPAND(name)                                                                               \
    {                                                                                              \
#name " (expandable)", name, before_expanding, after_sharing, NULL                         \
    }
#define BOTH(name) SHARE(name), EXPAND(name)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(a_pair_that_repeats_leaves_the_pool_alone),
        BOTH(what_came_back_a_few_times_is_the_pools),
        BOTH(another_size_finds_the_memory),
        BOTH(another_thread_finds_the_memory),
        BOTH(only_a_run_is_kept),
        BOTH(without_caches_nothing_is_kept),
        EXPAND(another_thread_is_served_as_if_nothing_were_kept),
        BOTH(what_is_asked_for_may_differ),
        BOTH(no_block_is_used_again_while_work_may_use_it),
        BOTH(a_capture_is_let_alone),
        BOTH(a_point_that_fails_loses_nothing),
        BOTH(threads_come_and_go),
    };

    return cmocka_run_group_tests(tests, up, NULL);
}
