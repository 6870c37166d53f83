/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what threads keep is found again at once, never what the pool lacks, never of another
 * context, and always in the account. Method: a pool over device_mock.h, threads that come and go.
 */
#include "alloc/cache.h"

#include "alloc/block_slab.h"
#include "alloc/device_context.h"
#include "alloc/pool.h"
#include "alloc/tier_ops.h"
#include "device_mock.h"
#include "pool_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MANY_THREADS 200
#define FEW 12 /* blocks */

static uint64_t kept(void)
{
    uint64_t bytes = 0;

    for (struct berth_cache *cache = berth__cache_thread.first; cache;
         cache = cache->next_of_thread)
        bytes += cache->bytes;
    return bytes;
}

static void a_block_comes_back_without_a_question_to_the_driver(void **state)
{
    const uint64_t sizes[] = {1, 512, KIB(60) + 1, MIB(2) - 1, MIB(2), MIB(3) + 5, MIB(30)};
    struct berth_pool_request request = {0};

    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uintptr_t first = pool_get(sizes[i]), again = 0;
        uint64_t asked = mock_calls(MOCK_CURRENT);

        pool_put(first);
        request.size = sizes[i];
        for (int round = 0; round < 20; round++) {
            assert_int_equal(berth__pool_alloc(&request, &again), 0);
            assert_int_equal(again, first);
            assert_int_equal(berth__pool_free(again), 0);
            assert_int_equal(berth__pool_free(again), -EINVAL);
        }
        if (mock_calls(MOCK_CURRENT) != asked)
            fail_msg("%llu bytes: the driver was asked", (unsigned long long)sizes[i]);
        pool_assert_adds_up();
    }
}

/* 2 MiB less one byte and 2 MiB hold the same, but only one of them can be exported. */
static void kinds_are_told_apart(void **state)
{
    struct berth_block_view view;
    uintptr_t shared = pool_get(MIB(2) - 1), whole;

    pool_put(shared);
    whole = pool_get(MIB(2));
    assert_true(whole != shared);
    assert_int_equal(berth__pool_find(whole, &view), 0);
    assert_true(view.is_whole);
    pool_put(whole);
}

static void what_a_thread_keeps_is_joined_before_the_driver_is_asked(void **state)
{
    uintptr_t block[16];
    uint64_t calls;

    for (int i = 0; i < 16; i++)
        block[i] = pool_get(KIB(128));
    calls = mock_calls(MOCK_ALLOC);
    for (int i = 0; i < 16; i++)
        pool_put(block[i]);
    assert_true(kept() > 0);
    pool_put(pool_get(KIB(1900)));
    assert_int_equal(mock_calls(MOCK_ALLOC), calls);
}

static void the_option_bounds_what_is_kept(void **state)
{
    uintptr_t block[40];

    pool_set_thread_cache("1M");
    for (int i = 0; i < 40; i++)
        block[i] = pool_get(KIB(64) + (uint64_t)(i % 8) * 512);
    for (int i = 0; i < 40; i++) {
        pool_put(block[i]);
        assert_true(kept() <= MIB(1));
    }
    assert_true(kept() > 0);
    pool_set_thread_cache("0");
    pool_put(pool_get(KIB(200)));
    assert_true(kept() <= MIB(1));
    berth__pool_release_cached(0);
    pool_put(pool_get(KIB(200)));
    assert_int_equal(kept(), 0);
}

/* More sizes than bins: some sets have no bin left, and the pool takes what is too much. */
static void any_number_of_sizes_is_served(void **state)
{
    static uintptr_t block[1000];

    for (unsigned i = 0; i < 1000; i++) {
        struct berth_pool_request request = {.size = (i + 1) * 512};

        assert_int_equal(berth__pool_alloc(&request, &block[i]), 0);
    }
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(berth__pool_free(block[i]), 0);
    pool_assert_adds_up();
    assert_true(kept() > 0 && kept() <= MIB(32));
}

static void *take_and_keep(void *argument)
{
    uintptr_t *address = argument;
    struct berth_pool_request request = {.size = KIB(700), .tag = BERTH_TAG_KV};

    mock_set_current(mock_context(0));
    assert_int_equal(berth__pool_alloc(&request, address), 0);
    assert_int_equal(berth__pool_free(*address), 0);
    assert_int_equal(kept(), KIB(700));
    return NULL;
}

static void *free_it(void *argument)
{
    mock_set_current(NULL);
    assert_int_equal(berth__pool_free(*(uintptr_t *)argument), 0);
    assert_int_equal(kept(), KIB(90));
    return NULL;
}

static void run_thread(void *(*run)(void *), void *argument)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, run, argument), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void a_thread_leaves_nothing_behind(void **state)
{
    uintptr_t theirs = 0, mine = pool_get(KIB(90));
    uint64_t calls;

    run_thread(take_and_keep, &theirs);
    pool_assert_adds_up();
    calls = mock_calls(MOCK_ALLOC);
    assert_int_equal(pool_get(KIB(700)), theirs);
    assert_int_equal(mock_calls(MOCK_ALLOC), calls);
    pool_put(theirs);
    /* A thread without a context may free, and keep until its end. */
    run_thread(free_it, &mine);
    pool_assert_adds_up();
    assert_int_equal(berth__pool_free(mine), -EINVAL);
}

struct keeper {
    pthread_barrier_t barrier;
    uint64_t size;
    uintptr_t address;
};

static void *keep_until_told(void *argument)
{
    struct keeper *keeper = argument;
    struct berth_pool_request request = {.size = keeper->size};

    mock_set_current(mock_context(0));
    assert_int_equal(berth__pool_alloc(&request, &keeper->address), 0);
    assert_int_equal(berth__pool_free(keeper->address), 0);
    pthread_barrier_wait(&keeper->barrier);
    pthread_barrier_wait(&keeper->barrier);
    return NULL;
}

static void take_what_is_kept(uint64_t size, bool is_out)
{
    struct keeper keeper = {.size = size};
    struct berth_pool_request request = {.size = size};
    uintptr_t address = 0;
    pthread_t thread;
    uint64_t freed, asked;

    pthread_barrier_init(&keeper.barrier, NULL, 2);
    assert_int_equal(pthread_create(&thread, NULL, keep_until_told, &keeper), 0);
    pthread_barrier_wait(&keeper.barrier);
    /* From here on: what waits would be taken anyhow. */
    if (is_out) {
        pool_set_option("free", "lazy");
        mock_set_capacity(mock_bytes());
    }
    freed = mock_calls(MOCK_FREE);
    asked = mock_calls(MOCK_ALLOC);
    assert_int_equal(berth__pool_alloc(&request, &address), 0);
    assert_int_equal(address, keeper.address);
    assert_int_equal(mock_calls(MOCK_FREE), freed);
    if (!is_out)
        assert_int_equal(mock_calls(MOCK_ALLOC), asked);
    mock_set_capacity(GIB(1));
    pool_set_option("free", "sync");
    pool_put(address);
    pthread_barrier_wait(&keeper.barrier);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_barrier_destroy(&keeper.barrier);
    berth__pool_release_cached(BERTH_POOL_ALL_DEVICES);
}

/*
 * Where frees are lazy, and while the pool is small, the driver is asked before another thread's
 * blocks are taken; when it has nothing they are had as they are, not by giving back and asking
 * anew.
 */
static void what_others_keep_is_had_where_memory_is_out(void **state)
{
    take_what_is_kept(MIB(2), true);
    take_what_is_kept(MIB(30), true);
}

/* Where each free synchronises a pool is no larger for the sake of its threads. */
static void what_others_keep_is_had_before_the_driver_is_asked(void **state)
{
    take_what_is_kept(MIB(2), false);
    take_what_is_kept(MIB(30), false);
}

static void a_dead_context_leaves_nothing_to_a_new_one(void **state)
{
    uintptr_t old = pool_get(KIB(64));

    pool_put(old);
    assert_int_equal(kept(), KIB(64));
    mock_destroy(mock_context(0));
    berth__pool_drop(mock_context(0));
    berth__context_changed_for_all();
    assert_int_equal(kept(), 0);
    mock_create(mock_context(0));
    mock_set_current(mock_context(0));
    assert_int_equal(mock_bytes(), 0);
    pool_put(pool_get(KIB(64)));
    assert_true(mock_bytes() > 0);
}

static void each_context_has_its_own(void **state)
{
    uintptr_t first = pool_get(KIB(64)), second;

    pool_put(first);
    mock_set_current(mock_context(2));
    second = pool_get(KIB(64));
    assert_true(second != first);
    pool_put(second);
    for (int i = 0; i < 10; i++) {
        mock_set_current(mock_context(i % 2 ? 2 : 0));
        assert_int_equal(pool_get(KIB(64)), i % 2 ? second : first);
        /* Freed while the other one is current. */
        mock_set_current(mock_context(i % 2 ? 0 : 2));
        pool_put(i % 2 ? second : first);
    }
}

static void an_unseen_switch_is_noticed(void **state)
{
    struct berth_pool_request request = {.size = KIB(64)};
    uintptr_t first = pool_get(KIB(64)), address = 0;
    int rounds = 0;

    pool_put(first);
    mock_switch_unseen(mock_context(2));
    do {
        assert_int_equal(berth__pool_alloc(&request, &address), 0);
        assert_int_equal(berth__pool_free(address), 0);
        assert_true(++rounds <= 300);
    } while (address == first);
    assert_false(berth__context_is_tracked());
    /* From now on each one is noticed. */
    mock_switch_unseen(mock_context(0));
    assert_int_equal(pool_get(KIB(64)), first);
    mock_switch_unseen(mock_context(2));
    assert_int_equal(pool_get(KIB(64)), address);
    pool_put(address);
    mock_switch_unseen(mock_context(0));
    pool_put(first);
}

/* A request that the cache cannot serve is compared at once. */
static void an_unseen_switch_is_noticed_on_a_miss(void **state)
{
    struct berth_block_view view;
    uintptr_t address;

    pool_put(pool_get(KIB(64)));
    mock_switch_unseen(mock_context(2));
    address = pool_get(KIB(65));
    assert_false(berth__context_is_tracked());
    assert_int_equal(berth__pool_find(address, &view), 0);
    mock_set_current(mock_context(2));
    berth__pool_release_cached(1);
    pool_put(address);
    assert_true(berth__pool_cached(1) > 0);
}

static uintptr_t get_workspace(uint64_t size)
{
    struct berth_pool_request request = {.size = size, .tag = BERTH_TAG_WORKSPACE};
    uintptr_t address = 0;

    assert_int_equal(berth__pool_alloc(&request, &address), 0);
    return address;
}

static void the_peak_of_one_thread_is_exact(void **state)
{
    struct berth_cell_reading cell;
    uintptr_t a = get_workspace(KIB(100)), b;

    pool_put(a);
    berth__stats_read(BERTH_TIER_DEVICE, BERTH_TAG_WORKSPACE, &cell);
    assert_int_equal(cell.peak_held, KIB(100));
    a = get_workspace(MIB(20));
    b = get_workspace(KIB(512));
    pool_put(a);
    pool_put(b);
    pool_put(get_workspace(MIB(4)));
    berth__stats_read(BERTH_TIER_DEVICE, BERTH_TAG_WORKSPACE, &cell);
    assert_int_equal(cell.held, 0);
    assert_int_equal(cell.allocs, 4);
    assert_int_equal(cell.frees, 4);
    assert_int_equal(cell.peak_held, MIB(20) + KIB(512));
}

static void the_peak_of_a_context_outlives_it(void **state)
{
    struct berth_pool_request request = {.size = MIB(1), .tag = BERTH_TAG_KV};
    struct berth_cell_reading cell;
    uintptr_t address;

    for (int i = 0; i < 3; i++)
        assert_int_equal(berth__pool_alloc(&request, &address), 0);
    mock_destroy(mock_context(0));
    berth__pool_drop(mock_context(0));
    mock_create(mock_context(0));
    mock_set_current(mock_context(0));
    berth__stats_read(BERTH_TIER_DEVICE, BERTH_TAG_KV, &cell);
    assert_int_equal(cell.held, 0);
    assert_int_equal(cell.peak_held, MIB(3));
}

static void a_pool_that_serves_another_tier_counts_there(void **state)
{
    struct berth_cell_reading before, after, other;
    struct berth_tier_config config = {.name = "second", .kind = BERTH_KIND_DEVICE};
    berth_tier_id tier;
    char why[256];
    uintptr_t address;

    assert_int_equal(berth__tier_ensure(&config, &tier, why, sizeof(why)), 0);
    pool_put(pool_get(KIB(64)));
    berth__stats_read(BERTH_TIER_DEVICE, BERTH_TAG_UNTAGGED, &before);
    mock_destroy(mock_context(0));
    berth__pool_drop(mock_context(0));
    mock_create(mock_context(0));
    mock_set_current(mock_context(0));
    assert_int_equal(pool_try_alloc_in(tier, KIB(64), &address), 0);
    berth__stats_read(tier, BERTH_TAG_UNTAGGED, &other);
    berth__stats_read(BERTH_TIER_DEVICE, BERTH_TAG_UNTAGGED, &after);
    assert_int_equal(other.held, KIB(64));
    assert_int_equal(other.allocs, 1);
    assert_int_equal(after.allocs, before.allocs);
    assert_int_equal(berth__pool_free(address), 0);
    assert_int_equal(berth__stats_cached(tier), MIB(2));
    berth__pool_release_cached(0);
}

static uint64_t mapped;
static void *(*map_really)(size_t size);

static void *map_and_count(size_t size)
{
    mapped += size;
    return map_really(size);
}

/* Goal: below 0.5 % of what is reserved, with blocks of 32 KiB and nothing known before. */
static void records_take_little(void **state)
{
    static uintptr_t block[16384];
    struct berth_pool_request request = {.size = KIB(32)};

    mapped = 0;
    map_really = berth__slab_map;
    berth__slab_map = map_and_count;
    for (unsigned i = 0; i < 16384; i++)
        assert_int_equal(berth__pool_alloc(&request, &block[i]), 0);
    berth__slab_map = map_really;
    print_message("%llu bytes of records for %llu reserved\n", (unsigned long long)mapped,
                  (unsigned long long)mock_bytes());
#ifndef __SANITIZE_THREAD__
    /* The sanitizer has the mock's segments lie far apart, in more leaves of the page map. */
    assert_true(mapped < mock_bytes() / 200);
#endif
    for (unsigned i = 0; i < 16384; i++)
        assert_int_equal(berth__pool_free(block[i]), 0);
}

struct few {
    pthread_barrier_t *barrier;
    uintptr_t block[FEW];
};

static void *take_few(void *argument)
{
    struct few *few = argument;
    struct berth_pool_request request = {.size = KIB(64)};

    mock_set_current(mock_context(0));
    for (unsigned i = 0; i < FEW; i++)
        assert_int_equal(berth__pool_alloc(&request, &few->block[i]), 0);
    pthread_barrier_wait(few->barrier);
    for (unsigned i = 0; i < FEW; i++)
        assert_int_equal(berth__pool_free(few->block[i]), 0);
    return NULL;
}

/* Goal: many threads that have few blocks each cost a page each. */
static void threads_with_few_blocks_take_little(void **state)
{
    static struct few few[MANY_THREADS];
    pthread_t threads[MANY_THREADS];
    pthread_barrier_t barrier;

    mapped = 0;
    map_really = berth__slab_map;
    berth__slab_map = map_and_count;
    pthread_barrier_init(&barrier, NULL, MANY_THREADS + 1);
    for (unsigned i = 0; i < MANY_THREADS; i++) {
        few[i].barrier = &barrier;
        assert_int_equal(pthread_create(&threads[i], NULL, take_few, &few[i]), 0);
    }
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < MANY_THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    pthread_barrier_destroy(&barrier);
    berth__slab_map = map_really;
    print_message("%llu bytes of records for %u threads\n", (unsigned long long)mapped,
                  (unsigned)MANY_THREADS);
#ifndef __SANITIZE_THREAD__
    /* Besides: the segments, and the tables that find them. */
    assert_true(mapped < (MANY_THREADS << 12) + KIB(768));
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(threads_with_few_blocks_take_little), /* before others leave records */
        TEST(a_block_comes_back_without_a_question_to_the_driver),
        TEST(kinds_are_told_apart),
        TEST(what_a_thread_keeps_is_joined_before_the_driver_is_asked),
        TEST(the_option_bounds_what_is_kept),
        TEST(any_number_of_sizes_is_served),
        TEST(a_thread_leaves_nothing_behind),
        TEST(what_others_keep_is_had_where_memory_is_out),
        TEST(what_others_keep_is_had_before_the_driver_is_asked),
        TEST(a_dead_context_leaves_nothing_to_a_new_one),
        TEST(each_context_has_its_own),
        TEST(an_unseen_switch_is_noticed),
        TEST(an_unseen_switch_is_noticed_on_a_miss),
        TEST(the_peak_of_one_thread_is_exact),
        TEST(the_peak_of_a_context_outlives_it),
        TEST(a_pool_that_serves_another_tier_counts_there),
        TEST(records_take_little),
    };

    berth__device_register();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
