/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what the pool has cached is never why a request fails, and no more of it is given back than
 * the request needs. Method: as in test_pool.c, on a driver or a tier that is nearly full.
 */
#include "alloc/pool.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_parts.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"
#include "device_mock.h"
#include "pool_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void cache_is_given_back_before_out_of_memory(void **state)
{
    uintptr_t a, b = 0;

    mock_set_capacity(MIB(16));
    a = pool_get(MIB(3));
    pool_put(a);
    a = pool_get(MIB(6));
    pool_put(a);
    a = pool_get(KIB(1));
    pool_put(a);
    assert_int_equal(mock_bytes(), MIB(12));
    b = pool_get(MIB(16));
    assert_int_equal(mock_bytes(), MIB(16));
    assert_int_equal(mock_calls(MOCK_FREE), 3);
    a = 5;
    assert_int_equal(pool_try_alloc(MIB(4), &a), -ENOMEM);
    assert_int_equal(a, 5);
    pool_put(b);
}

/* What need not go back serves the next request without the driver. */
static void no_more_is_given_back_than_is_needed(void **state)
{
    static const uint64_t sizes[] = {MIB(4), MIB(8), MIB(2), MIB(16)};
    uintptr_t blocks[4], a;

    pool_set_option("device-limit", "1G"); /* so that none takes one that is too large */
    mock_set_capacity(MIB(30));
    for (int i = 0; i < 4; i++)
        blocks[i] = pool_get(sizes[i]);
    for (int i = 0; i < 4; i++)
        pool_put(blocks[i]);
    a = pool_get(MIB(6)); /* 8 MiB are enough */
    assert_int_equal(mock_calls(MOCK_FREE), 1);
    assert_int_equal(mock_bytes(), MIB(28));
    pool_put(a);
    a = pool_get(MIB(20)); /* none is enough: 4 and 2 and 16 MiB are the oldest */
    assert_int_equal(mock_calls(MOCK_FREE), 4);
    assert_int_equal(mock_bytes(), MIB(26));
    pool_put(a);
    /* The driver keeps the one that would be enough: others do. */
    mock_set_capacity(MIB(26));
    mock_fail(MOCK_FREE, 1, 719);
    a = pool_get(MIB(4));
    pool_put(a);
    /* A tier with no room for what the driver takes has room for the request. */
    berth__pool_release_cached(0);
    berth__tier(BERTH_TIER_DEVICE)->capacity = MIB(5);
    pool_put(pool_get(MIB(2)));
    pool_put(pool_get(MIB(5)));
    assert_int_equal(mock_bytes(), MIB(5));
    pool_set_option("device-limit", "0");
}

static void other_contexts_of_the_device_give_back_too(void **state)
{
    uintptr_t a = pool_get(MIB(8));

    mock_set_capacity(MIB(10));
    pool_put(a);
    mock_set_current(mock_context(2));
    pool_put(pool_get(MIB(4))); /* another device: stays */
    mock_set_current(mock_context(1));
    pool_put(pool_get(MIB(10)));
    assert_int_equal(mock_calls(MOCK_FREE), 1);
    assert_int_equal(berth__pool_cached(1), MIB(4));
}

static atomic_int allocations_refused;
static atomic_bool release_may_end;

/* The thread that gives memory back stays in cuMemFree, as behind a long kernel. */
static void stay_in_free(enum mock_call call)
{
    if (call == MOCK_ALLOC)
        atomic_fetch_add(&allocations_refused, 1);
    while (call == MOCK_FREE && !atomic_load(&release_may_end))
        sched_yield();
}

static _Atomic pid_t releasing_id, keeping_id, allocating_id[2];

static char thread_mode(_Atomic pid_t *id)
{
    char path[64], line[512];
    FILE *file;

    while (atomic_load(id) == 0)
        sched_yield();
    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)atomic_load(id));
    file = fopen(path, "r");
    if (!file)
        return 'X'; /* it has ended */
    assert_non_null(fgets(line, sizeof(line), file));
    fclose(file);
    return strrchr(line, ')')[2];
}

/* Until the thread sleeps: nobody else has a lock that it needs. */
static void await_sleep(_Atomic pid_t *id)
{
    while (thread_mode(id) != 'S')
        sched_yield();
}

static void *alloc_in_thread(void *id)
{
    struct berth_pool_request request = {.size = MIB(2)};
    uintptr_t address = 0;
    int r;

    atomic_store((_Atomic pid_t *)id, gettid());
    mock_set_current(mock_context(0));
    r = berth__pool_alloc(&request, &address);
    return r == 0 && berth__pool_free(address) == 0 ? NULL : &release_may_end;
}

/* Another thread has the cache in its hands: its memory is not out, only on its way. */
static void memory_on_its_way_back_is_waited_for(void **state)
{
    pthread_t threads[2];
    void *refused[2];

    mock_set_capacity(MIB(8));
    pool_put(pool_get(MIB(8)));
    atomic_store(&allocations_refused, 0);
    atomic_store(&release_may_end, false);
    mock_during = stay_in_free;
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, alloc_in_thread, &allocating_id[i]);
    while (atomic_load(&allocations_refused) < 2)
        sched_yield();
    /* The other one is in the driver, and never sleeps. */
    while (thread_mode(&allocating_id[0]) != 'S' && thread_mode(&allocating_id[1]) != 'S')
        sched_yield();
    atomic_store(&release_may_end, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], &refused[i]);
    mock_during = NULL;
    assert_null(refused[0]);
    assert_null(refused[1]);
}

static atomic_bool is_in_free, is_kept;

static void stay_in_free_for_long(enum mock_call call)
{
    if (call != MOCK_FREE)
        return;
    atomic_store(&is_in_free, true);
    stay_in_free(call);
}

static void *release_in_thread(void *unused)
{
    atomic_store(&releasing_id, gettid());
    return (void *)(uintptr_t)berth__pool_release_cached(0);
}

/* A thread that needs memory, and sleeps until what it may wait for has come to an end. */
static pthread_t start_release(void)
{
    pthread_t releasing;

    atomic_store(&releasing_id, 0);
    pthread_create(&releasing, NULL, release_in_thread, NULL);
    await_sleep(&releasing_id);
    return releasing;
}

static void *keep_in_thread(void *context)
{
    atomic_store(&keeping_id, gettid());
    berth__pool_keep_begin(context, context == mock_context(2));
    atomic_store(&is_kept, true);
    return NULL;
}

/*
 * What another thread has in its hands would be freed after the context has ended, and be
 * somebody else's by then: a context that may end waits for that.
 */
static void a_context_that_may_end_waits_for_what_is_on_its_way(void **state)
{
    pthread_t releasing, keeping;

    pool_put(pool_get(MIB(8)));
    atomic_store(&is_kept, false);
    atomic_store(&is_in_free, false);
    atomic_store(&release_may_end, false);
    atomic_store(&keeping_id, 0);
    mock_during = stay_in_free_for_long;
    pthread_create(&releasing, NULL, release_in_thread, NULL);
    while (!atomic_load(&is_in_free))
        sched_yield();
    pthread_create(&keeping, NULL, keep_in_thread, mock_context(0));
    while (!atomic_load(&is_kept) && thread_mode(&keeping_id) != 'S')
        sched_yield();
    assert_false(atomic_load(&is_kept));
    atomic_store(&release_may_end, true);
    pthread_join(releasing, NULL);
    pthread_join(keeping, NULL);
    mock_during = NULL;
    assert_true(atomic_load(&is_kept));
    berth__pool_keep_end(0);
}

/* Nor is anything of it given back meanwhile; other contexts' memory is, and this one's after. */
static void a_context_that_may_end_keeps_its_memory(void **state)
{
    void *released = NULL;
    pthread_t releasing;

    pool_put(pool_get(MIB(8)));
    berth__pool_keep_begin(mock_context(0), 0);
    assert_int_equal(berth__pool_release_some(0, MIB(8)), 0);
    assert_int_equal(mock_calls(MOCK_FREE), 0);
    mock_set_current(mock_context(1));
    pool_put(pool_get(MIB(4)));
    assert_int_equal(berth__pool_release_some(0, MIB(8)), MIB(4));
    assert_int_equal(mock_calls(MOCK_FREE), 1);
    /* Whoever needs it gets it as soon as it is known to stay. */
    releasing = start_release();
    berth__pool_keep_end(0);
    pthread_join(releasing, &released);
    assert_int_equal((uintptr_t)released, MIB(8));
}

/* What another context needs is there as soon as this one has gone with its memory. */
static void what_goes_with_its_context_is_had(void **state)
{
    void *released = NULL;
    pthread_t releasing;

    pool_put(pool_get(MIB(8)));
    berth__pool_keep_begin(mock_context(0), 0);
    releasing = start_release();
    mock_destroy(mock_context(0));
    berth__pool_drop(mock_context(0));
    berth__pool_keep_end(0);
    pthread_join(releasing, &released);
    assert_int_equal((uintptr_t)released, MIB(8));
    assert_int_equal(mock_calls(MOCK_FREE), 0);
}

/* Less than who needs memory waits at most, which is for what never comes. */
#define JOIN_MAX_S 8

static void *join_soon(pthread_t thread)
{
    struct timespec end;
    void *ret = NULL;

    /* Not pthread_clockjoin_np(), which ThreadSanitizer does not know. */
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += JOIN_MAX_S;
    assert_int_equal(pthread_timedjoin_np(thread, &ret, &end), 0);
    return ret;
}

/* Nor is anything refused that a context which is being destroyed is about to leave. */
static void what_a_destroyed_context_leaves_is_had(void **state)
{
    pthread_t releasing;

    for (int is_destroyed = 0; is_destroyed < 2; is_destroyed++) {
        pool_put(pool_get(MIB(8)));
        berth__pool_drop_begin(mock_context(0));
        /* As by a program that destroys it twice. */
        berth__pool_drop_begin(mock_context(0));
        releasing = start_release();
        if (is_destroyed)
            mock_destroy(mock_context(0));
        berth__pool_drop_end(mock_context(0), is_destroyed);
        assert_int_equal((uintptr_t)join_soon(releasing), MIB(8));
        assert_int_equal(mock_calls(MOCK_FREE), 1);
        berth__pool_drop_end(mock_context(0), false);
    }
}

/* A context that is retained and released again and again is in nobody's way for ever. */
static void who_waited_has_a_turn(void **state)
{
    void *released = NULL;
    pthread_t releasing;

    pool_put(pool_get(MIB(8)));
    berth__pool_keep_begin(mock_context(0), 0);
    releasing = start_release();
    berth__pool_keep_end(0);
    berth__pool_keep_begin(mock_context(0), 0);
    assert_int_equal(mock_calls(MOCK_FREE), 1);
    berth__pool_keep_end(0);
    pthread_join(releasing, &released);
    assert_int_equal((uintptr_t)released, MIB(8));
}

static void *release_everywhere(void *unused)
{
    atomic_store(&releasing_id, gettid());
    return (void *)(uintptr_t)berth__pool_release_cached(BERTH_POOL_ALL_DEVICES);
}

/* 4 MiB are cached on device 0 and 8 on device 1, and a context of each is about to end. */
static void begin_to_end_both(void)
{
    mock_set_current(mock_context(2));
    pool_put(pool_get(MIB(8)));
    mock_set_current(mock_context(0));
    pool_put(pool_get(MIB(4)));
    berth__pool_keep_begin(mock_context(0), 0);
    berth__pool_keep_begin(mock_context(2), 1);
}

/*
 * Both devices' contexts are kept; as the one's is let go it is to be kept anew, and then the
 * other's is let go. Whether whoever looks for memory of both had its turn between the two.
 */
static bool has_turn_between(void)
{
    unsigned frees = mock_calls(MOCK_FREE);
    pthread_t releasing, keeping;
    bool had_turn;

    begin_to_end_both();
    atomic_store(&releasing_id, 0);
    pthread_create(&releasing, NULL, release_everywhere, NULL);
    await_sleep(&releasing_id);
    berth__pool_keep_end(0);
    atomic_store(&is_kept, false);
    atomic_store(&keeping_id, 0);
    pthread_create(&keeping, NULL, keep_in_thread, mock_context(0));
    while (!atomic_load(&is_kept) && thread_mode(&keeping_id) != 'S')
        sched_yield();
    berth__pool_keep_end(1);
    join_soon(keeping);
    had_turn = mock_calls(MOCK_FREE) == frees + 2;
    berth__pool_keep_end(0);
    assert_int_equal((uintptr_t)join_soon(releasing), MIB(12));
    return had_turn;
}

/* Two that are reset again and again are in nobody's way for ever, either. */
static void who_waits_for_two_contexts_has_a_turn(void **state)
{
    unsigned turns = 0;

    /* A machine may be so busy that who lets the other one go comes too late. */
    for (unsigned i = 0; i < 20 && turns == 0; i++)
        turns += has_turn_between();
    assert_int_not_equal(turns, 0);
}

static void *release_elsewhere(void *unused)
{
    return (void *)(uintptr_t)berth__pool_release_cached(1);
}

/* That a context is ending, or may be, keeps nobody waiting who needs another device's memory. */
static void another_device_is_not_waited_for(void **state)
{
    pthread_t releasing;

    pool_put(pool_get(MIB(8)));
    for (int is_destroyed = 0; is_destroyed < 2; is_destroyed++) {
        if (is_destroyed)
            berth__pool_drop_begin(mock_context(0));
        else
            berth__pool_keep_begin(mock_context(0), 0);
        pthread_create(&releasing, NULL, release_elsewhere, NULL);
        assert_null(join_soon(releasing));
        assert_int_equal(mock_calls(MOCK_FREE), 0);
        if (is_destroyed)
            berth__pool_drop_end(mock_context(0), false);
        else
            berth__pool_keep_end(0);
    }
}

static unsigned kept_by_driver;

/* Another device's context is released and retained while the driver is asked, which keeps it all.
 */
static berth_cu_result keep_and_refuse(berth_cu_address address)
{
    kept_by_driver++;
    berth__pool_keep_begin(mock_context(2), 1);
    berth__pool_keep_end(1);
    return BERTH_CU_INVALID_VALUE;
}

/* Nor is there a second look for what is kept there. */
static void what_is_kept_elsewhere_is_not_looked_at_again(void **state)
{
    berth_cu_result (*free_memory)(berth_cu_address) = berth__driver.cuMemFree_v2;

    mock_set_current(mock_context(2));
    pool_put(pool_get(MIB(8)));
    mock_set_current(mock_context(0));
    pool_put(pool_get(MIB(8)));
    kept_by_driver = 0;
    berth__driver.cuMemFree_v2 = keep_and_refuse;
    assert_int_equal(berth__pool_release_cached(0), 0);
    berth__driver.cuMemFree_v2 = free_memory;
    assert_int_equal(kept_by_driver, 1);
}

/* Nor does the end of a context wait for whose turn it is there. */
static void a_turn_elsewhere_is_not_waited_for(void **state)
{
    pthread_t releasing, keeping;
    void *released = NULL;

    mock_set_current(mock_context(2));
    pool_put(pool_get(MIB(8)));
    mock_set_current(mock_context(0));
    pool_put(pool_get(MIB(8)));
    atomic_store(&is_kept, false);
    atomic_store(&is_in_free, false);
    atomic_store(&release_may_end, false);
    mock_during = stay_in_free_for_long;
    berth__pool_keep_begin(mock_context(0), 0);
    releasing = start_release();
    berth__pool_keep_end(0);
    while (!atomic_load(&is_in_free))
        sched_yield();
    pthread_create(&keeping, NULL, keep_in_thread, mock_context(2));
    join_soon(keeping);
    assert_true(atomic_load(&is_kept));
    atomic_store(&release_may_end, true);
    pthread_join(releasing, &released);
    mock_during = NULL;
    assert_int_equal((uintptr_t)released, MIB(8));
    berth__pool_keep_end(1);
}

/* Two devices' contexts may end at the same time, and one is known to stay before the other. */
static void each_device_keeps_its_own(void **state)
{
    begin_to_end_both();
    assert_int_equal(berth__pool_release_some(0, MIB(4)), 0);
    assert_int_equal(berth__pool_release_some(1, MIB(8)), 0);
    berth__pool_keep_end(1);
    assert_int_equal(berth__pool_release_some(0, MIB(4)), 0);
    assert_int_equal(berth__pool_release_some(1, MIB(8)), MIB(8));
    berth__pool_keep_end(0);
    assert_int_equal(berth__pool_release_some(0, MIB(4)), MIB(4));
}

static void a_full_device_still_serves_small_blocks(void **state)
{
    uintptr_t a, b;

    mock_set_capacity(MIB(8) + KIB(4));
    a = pool_get(MIB(8));
    b = pool_get(KIB(3));
    assert_int_equal(mock_bytes(), MIB(8) + KIB(3));
    pool_put(b);
    pool_put(a);
}

static void capacity_of_the_tier_is_honoured(void **state)
{
    uintptr_t a, b = 0;

    berth__tier(BERTH_TIER_DEVICE)->capacity = MIB(8);
    a = pool_get(MIB(6));
    assert_int_equal(pool_try_alloc(MIB(3), &b), -ENOSPC);
    assert_int_equal(berth__device_result(-ENOSPC), BERTH_CU_OUT_OF_MEMORY);
    pool_put(a);
    b = pool_get(MIB(8));
    assert_int_equal(mock_bytes(), MIB(8));
    pool_put(b);
}

/* What other tiers have cached is no help against a capacity, and stays where it serves. */
static void a_full_tier_gives_back_its_own_cache_only(void **state)
{
    const struct berth_tier_config config = {
        .name = "few", .path = "", .kind = BERTH_KIND_DEVICE, .capacity = MIB(8)};
    uintptr_t kept = pool_get(MIB(4)), a = 0, b = 0;
    berth_tier_id few;
    char why[200];

    berth__device_register();
    assert_int_equal(berth__tier_ensure(&config, &few, why, sizeof(why)), 0);
    assert_int_equal(berth__pool_free(kept), 0);
    assert_int_equal(pool_try_alloc_in(few, MIB(2), &b), 0);
    assert_int_equal(berth__pool_free(b), 0);
    assert_int_equal(pool_try_alloc_in(few, MIB(6), &a), 0);
    assert_int_equal(mock_calls(MOCK_FREE), 0);
    assert_int_equal(pool_try_alloc_in(few, MIB(10), &b), -ENOSPC); /* not even without its cache */
    assert_int_equal(mock_calls(MOCK_FREE), 0);
    assert_int_equal(pool_try_alloc_in(few, KIB(1), &b), 0);
    assert_int_equal(mock_calls(MOCK_FREE), 1);
    assert_int_equal(pool_try_alloc_in(few, MIB(4), &kept), -ENOSPC);
    assert_int_equal(berth__pool_cached(0), MIB(4) + MIB(2) - KIB(1));
    assert_int_equal(berth__pool_free(a), 0);
    assert_int_equal(berth__pool_free(b), 0);
    berth__pool_drop(mock_context(0));
    mock_destroy(mock_context(0));
}

/* Memory that the driver gives to the program itself meets the same capacity. */
static void foreign_memory_takes_the_place_of_cached(void **state)
{
    berth__tier(BERTH_TIER_DEVICE)->capacity = MIB(8);
    pool_put(pool_get(MIB(6)));
    assert_int_equal(pool_reserve_foreign(BERTH_TIER_DEVICE, MIB(9)), -ENOSPC);
    assert_int_equal(mock_calls(MOCK_FREE), 0);
    assert_int_equal(pool_reserve_foreign(BERTH_TIER_DEVICE, MIB(4)), 0);
    assert_int_equal(mock_calls(MOCK_FREE), 1);
    berth__foreign_cancel(BERTH_TIER_DEVICE, MIB(4));
}

static void memory_out_in_a_capture_gives_the_cache_back(void **state)
{
    uintptr_t a;

    mock_set_capacity(MIB(8));
    pool_put(pool_get(MIB(6)));
    atomic_store(&berth__device_captures, 1);
    a = pool_get(MIB(6));
    assert_int_equal(mock_calls(MOCK_FREE), 1);
    pool_put(a);
    atomic_store(&berth__device_captures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(cache_is_given_back_before_out_of_memory),
        TEST(no_more_is_given_back_than_is_needed),
        TEST(other_contexts_of_the_device_give_back_too),
        TEST(memory_on_its_way_back_is_waited_for),
        TEST(a_context_that_may_end_waits_for_what_is_on_its_way),
        TEST(a_context_that_may_end_keeps_its_memory),
        TEST(what_goes_with_its_context_is_had),
        TEST(what_a_destroyed_context_leaves_is_had),
        TEST(who_waited_has_a_turn),
        TEST(who_waits_for_two_contexts_has_a_turn),
        TEST(another_device_is_not_waited_for),
        TEST(a_turn_elsewhere_is_not_waited_for),
        TEST(each_device_keeps_its_own),
        TEST(what_is_kept_elsewhere_is_not_looked_at_again),
        TEST(a_full_device_still_serves_small_blocks),
        TEST(capacity_of_the_tier_is_honoured),
        TEST(a_full_tier_gives_back_its_own_cache_only),
        TEST(foreign_memory_takes_the_place_of_cached),
        TEST(memory_out_in_a_capture_gives_the_cache_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
