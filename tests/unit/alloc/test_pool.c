/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the device pool serves from its cache, answers as the driver would, leaks nothing, and its
 * account adds up at every point. Method: a driver of a few lines (device_mock.h) whose calls fail
 * one after the other. Each test starts with no context alive in the pool.
 */
#include "alloc/block_slab.h"
#include "alloc/pool.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_parts.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"
#include "alloc/unseen.h"
#include "device_mock.h"
#include "pool_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void size_zero_and_no_context_are_the_drivers(void **state)
{
    uintptr_t address = 42;

    assert_int_equal(pool_try_alloc(0, &address), BERTH_POOL_FORWARD);
    assert_int_equal(pool_try_alloc(UINT64_MAX, &address), BERTH_POOL_FORWARD);
    mock_set_current(NULL);
    assert_int_equal(pool_try_alloc(100, &address), BERTH_POOL_FORWARD);
    assert_int_equal(address, 42);
    assert_int_equal(mock_calls(MOCK_ALLOC), 0);
}

static void small_blocks_share_a_segment(void **state)
{
    uintptr_t a = pool_get(1), b = pool_get(512), c = pool_get(KIB(100));

    assert_int_equal(mock_calls(MOCK_ALLOC), 1);
    assert_int_equal(mock_bytes(), MIB(2));
    assert_int_equal(b - a, 512);
    assert_int_equal(c - b, 512);
    memset((void *)c, 7, KIB(100));
    pool_put(b);
    pool_put(a);
    pool_put(c);
    assert_int_equal(mock_calls(MOCK_FREE), 0);
    assert_int_equal(berth__pool_cached(0), MIB(2));
    /* Neighbours were merged: the whole segment is one free block again. */
    assert_int_equal(pool_get(MIB(2) - 512), a);
    pool_put(a);
}

static void segments_grow_to_the_option(void **state)
{
    uintptr_t blocks[96];

    for (int i = 0; i < 96; i++)
        blocks[i] = pool_get(MIB(1));
    /* 2 + 2 + 4 + 8 + 16 + 32 + 32 MiB. */
    assert_int_equal(mock_calls(MOCK_ALLOC), 7);
    for (int i = 0; i < 96; i++)
        pool_put(blocks[i]);
}

static void whole_blocks_are_reused_for_somewhat_less(void **state)
{
    uintptr_t a = pool_get(MIB(18)), b;
    struct berth_block_view view;

    pool_put(a);
    assert_int_equal(mock_calls(MOCK_FREE), 0);
    b = pool_get(MIB(16));
    assert_int_equal(b, a);
    assert_int_equal(berth__pool_find(b + MIB(16) - 1, &view), 0);
    assert_int_equal(view.requested, MIB(16));
    assert_int_equal(view.held, MIB(18));
    assert_true(view.is_whole);
    assert_int_equal(berth__pool_find(b + MIB(16), &view), -EFAULT);
    pool_put(b);
    b = pool_get(MIB(10));
    assert_int_equal(b, a);
    pool_put(b);
    /* It would hold more than half of all that ever lived beyond what it needs. */
    b = pool_get(MIB(8));
    assert_int_not_equal(b, a);
    assert_int_equal(mock_calls(MOCK_ALLOC), 2);
    pool_put(b);
}

/* What the driver takes is asked for, so that nothing is missing while it is cached. */
static void whole_blocks_are_what_the_driver_takes(void **state)
{
    uintptr_t a = pool_get(2700000), b;

    assert_int_equal(mock_bytes(), MIB(4));
    pool_put(a);
    b = pool_get(MIB(2) + 1);
    assert_int_equal(b, a);
    pool_put(b);
    pool_set_option("device-limit", "4G"); /* where it counts, no block holds more */
    b = pool_get(MIB(2));
    assert_int_not_equal(b, a);
    pool_put(b);
    pool_set_option("device-limit", "0");
    berth__pool_release_cached(0);
    /* Where there is no room for that, the request itself is tried. */
    mock_set_capacity(MIB(3));
    pool_put(pool_get(2700000));
    assert_int_equal(mock_bytes(), 2700288);
    berth__tier(BERTH_TIER_DEVICE)->capacity = MIB(5);
    mock_set_capacity(MIB(20));
    pool_put(pool_get(MIB(5)));
    assert_int_equal(mock_bytes(), MIB(5));
}

static void best_fit_takes_the_smallest_and_lowest(void **state)
{
    uintptr_t a = pool_get(KIB(64)), gap1 = pool_get(512), b = pool_get(KIB(32)),
              gap2 = pool_get(512);
    uintptr_t c = pool_get(KIB(32)), gap3 = pool_get(512);

    pool_set_thread_cache("0");
    pool_put(c);
    pool_put(a);
    pool_put(b);
    assert_int_equal(pool_get(KIB(20)), b);
    assert_int_equal(pool_get(KIB(20)), c);
    assert_int_equal(pool_get(KIB(20)), a);
    pool_put(gap1);
    pool_put(gap2);
    pool_put(gap3);
}

static void freed_and_interior_addresses_are_refused(void **state)
{
    uintptr_t a = pool_get(KIB(4)), b = pool_get(MIB(4));

    assert_int_equal(berth__pool_free(a + 512), -EINVAL);
    assert_int_equal(berth__pool_free(a + 1), -EINVAL);
    assert_int_equal(berth__pool_free(b + MIB(2)), -EINVAL);
    assert_int_equal(mock_calls(MOCK_SYNC), 0);
    pool_put(a);
    pool_put(b);
    assert_int_equal(berth__pool_free(a), -EINVAL);
    assert_int_equal(berth__pool_free(b), -EINVAL);
    assert_int_equal(berth__pool_free((uintptr_t)0x10), BERTH_POOL_FORWARD);
    assert_int_equal(mock_calls(MOCK_SYNC), 2);
}

static void each_free_synchronises_its_own_context(void **state)
{
    uintptr_t a = pool_get(KIB(4)), b;

    mock_set_current(mock_context(2));
    b = pool_get(MIB(3));
    pool_put(a);
    assert_int_equal(mock_calls(MOCK_PUSH), 1);
    assert_int_equal(mock_calls(MOCK_SYNC), 1);
    mock_set_current(NULL);
    pool_put(b);
    assert_int_equal(mock_calls(MOCK_PUSH), 2);
    assert_int_equal(mock_depth(), 0);
}

static uintptr_t leaving;
static int answers[2];

static void free_and_alloc_inside(enum mock_call call)
{
    struct berth_pool_request request = {.size = 512};
    struct berth_block_view view;
    uintptr_t other = 0;

    mock_during = NULL;
    answers[0] = berth__pool_free(leaving);
    answers[1] = berth__pool_find(leaving, &view);
    /* With a lock held over the driver's call this would never return. */
    assert_int_equal(berth__pool_alloc(&request, &other), 0);
    assert_int_not_equal(other, leaving);
    assert_int_equal(berth__pool_free(other), 0);
}

static void no_lock_is_held_while_the_driver_waits(void **state)
{
    leaving = pool_get(512);
    mock_during = free_and_alloc_inside;
    pool_put(leaving);
    assert_int_equal(answers[0], -EINVAL);
    assert_int_equal(answers[1], -EFAULT);
    leaving = pool_get(MIB(2));
    mock_during = free_and_alloc_inside;
    berth__pool_set_exported(leaving);
    pool_put(leaving);
    assert_int_equal(answers[0], BERTH_POOL_FORWARD);
}

static void exported_blocks_never_enter_the_cache(void **state)
{
    uintptr_t a = pool_get(MIB(2));

    berth__pool_set_exported(a);
    pool_put(a);
    assert_int_equal(mock_calls(MOCK_FREE), 1);
    assert_int_equal(mock_calls(MOCK_SYNC), 0);
    assert_int_equal(berth__pool_cached(0), 0);
    assert_int_equal(berth__pool_free(a), BERTH_POOL_FORWARD);
}

static void a_failed_free_changes_nothing(void **state)
{
    uintptr_t a = pool_get(MIB(2)), b = pool_get(512);
    struct berth_block_view view;

    berth__pool_set_exported(a);
    mock_fail(MOCK_FREE, 1, 700);
    assert_int_equal(berth__device_result(berth__pool_free(a)), 700);
    pool_assert_adds_up();
    assert_int_equal(berth__pool_find(a, &view), 0);
    mock_fail(MOCK_SYNC, 1, 4);
    assert_int_equal(berth__device_result(berth__pool_free(b)), 4);
    pool_assert_adds_up();
    assert_int_equal(berth__pool_find(b, &view), 0);
    pool_put(a);
    pool_put(b);
}

static void block_ids_are_new_for_each_allocation(void **state)
{
    uintptr_t a = pool_get(512);
    struct berth_block_view first, second;

    assert_int_equal(berth__pool_find(a, &first), 0);
    pool_put(a);
    assert_int_equal(pool_get(512), a);
    assert_int_equal(berth__pool_find(a, &second), 0);
    assert_int_not_equal(first.id, second.id);
    assert_int_equal(second.tag, BERTH_TAG_WEIGHT);
    pool_put(a);
}

static void a_destroyed_context_takes_its_blocks_along(void **state)
{
    uintptr_t a = pool_get(512), b = pool_get(MIB(4)), c = pool_get(MIB(3));
    uint64_t frees = mock_calls(MOCK_FREE);
    struct berth_block_view view;

    pool_put(c);
    mock_set_current(mock_context(1));
    c = pool_get(KIB(700));
    mock_destroy(mock_context(0));
    berth__pool_drop(mock_context(0));
    pool_assert_adds_up();
    assert_int_equal(berth__pool_find(a, &view), -ENOENT);
    assert_int_equal(berth__pool_free(b), BERTH_POOL_FORWARD);
    assert_int_equal(mock_calls(MOCK_FREE), frees);
    pool_put(c);
}

/* Another thread's new context has the handle before the destruction has returned. */
static void a_new_context_of_the_same_handle_starts_afresh(void **state)
{
    uintptr_t cached = pool_get(MIB(2)), small, whole;
    struct berth_block_view view;

    pool_get(512);
    pool_put(cached);
    berth__pool_drop_begin(mock_context(0));
    mock_destroy(mock_context(0));
    mock_create(mock_context(0));
    assert_int_equal(berth__pool_release_cached(0), 0); /* not by calls in the new context */
    small = 0;
    whole = 0;
    assert_int_equal(pool_try_alloc_in(BERTH_TIER_DEVICE, 512, &small), 0);
    assert_int_equal(pool_try_alloc_in(BERTH_TIER_DEVICE, MIB(2), &whole), 0);
    memset((void *)small, 1, 512);
    memset((void *)whole, 2, MIB(2));
    berth__pool_drop_end(mock_context(0), true);
    pool_assert_adds_up();
    assert_int_equal(berth__pool_find(whole, &view), 0);
    assert_int_equal(berth__pool_find(small, &view), 0);
    pool_put(small);
    pool_put(whole);
    /* A destruction that fails leaves everything as it was. */
    berth__pool_drop_begin(mock_context(0));
    berth__pool_drop_end(mock_context(0), false);
    assert_int_equal(pool_get(MIB(2)), whole);
    pool_put(whole);
}

static void a_destruction_in_doubt_is_none_that_was_not_seen(void **state)
{
    struct berth_pool_request request = {.size = MIB(4)};
    uint64_t cases = berth__unseen_cases(BERTH_UNSEEN_FREE);
    uintptr_t a = pool_get(MIB(4)), b = 0;

    berth__pool_doubt_begin();
    mock_destroy(mock_context(0));
    mock_set_current(mock_context(1));
    for (int i = 0; i < 64 && b != a; i++)
        assert_int_equal(berth__pool_alloc(&request, &b), 0);
    assert_int_equal(b, a);
    assert_int_equal(berth__unseen_cases(BERTH_UNSEEN_FREE), cases);
    berth__pool_drop(mock_context(0));
    berth__pool_doubt_end();
    pool_assert_adds_up();
}

static void an_unseen_destruction_is_found_by_its_addresses(void **state)
{
    uintptr_t a = pool_get(MIB(4)), b;

    mock_destroy(mock_context(0));
    mock_set_current(mock_context(1));
    /* The kernel gives the same addresses again; the pool believes the driver. */
    b = 0;
    for (int i = 0; i < 64 && b != a; i++) {
        struct berth_pool_request request = {.size = MIB(4)};

        assert_int_equal(berth__pool_alloc(&request, &b), 0);
    }
    assert_int_equal(b, a);
    pool_assert_adds_up();
}

static void captures_are_left_to_the_driver(void **state)
{
    uintptr_t shared = pool_get(512), whole = pool_get(MIB(2)), cached = pool_get(MIB(2)), captured;
    uintptr_t none = 1;

    pool_put(cached);
    atomic_store(&berth__device_captures, 1);
    /* The driver forbids it in this thread. */
    mock_capture_answer = 900;
    assert_int_equal(berth__device_result(pool_try_alloc(512, &none)), 900);
    assert_int_equal(berth__device_result(berth__pool_free(shared)), 900);
    assert_int_equal(berth__device_result(berth__pool_free(whole)), 900);
    assert_int_equal(none, 1);
    pool_assert_adds_up();
    /* The driver allows it (relaxed): nothing cached is used, nothing is synchronised. */
    mock_capture_answer = 0;
    captured = pool_get(MIB(2));
    assert_int_not_equal(captured, cached);
    pool_put(shared);
    pool_put(whole);
    assert_int_equal(berth__pool_free(shared), -EINVAL);
    assert_int_equal(mock_calls(MOCK_SYNC), 1);
    atomic_store(&berth__device_captures, 0);
    /* What was freed in the capture comes back with the next synchronisation. */
    assert_int_not_equal(pool_get(512), shared);
    pool_put(captured);
    assert_int_not_equal(mock_calls(MOCK_FREE), 0);
    pool_put(pool_get(KIB(1)));
    assert_int_equal(pool_get(512), shared);
}

static void a_capture_may_begin_while_a_block_is_freed(void **state)
{
    uintptr_t block = pool_get(512);

    /* Another thread's capture was not counted yet; the driver would not mind cuMemFree. */
    mock_fail(MOCK_SYNC, 1, 900);
    assert_int_equal(berth__pool_free(block), 0);
    assert_int_equal(berth__pool_free(block), -EINVAL);
    assert_int_not_equal(pool_get(512), block);
    pool_assert_adds_up();
    pool_put(pool_get(KIB(1)));
    assert_int_equal(pool_get(512), block);
}

static berth_cu_address freed_in_order;

static berth_cu_result free_in_order(berth_cu_address address, berth_cu_stream stream)
{
    int mode = mock_capture_answer;
    berth_cu_result result;

    /* What cuMemFree may not do now, cuMemFreeAsync may. */
    freed_in_order = address;
    mock_capture_answer = 0;
    result = berth__driver.cuMemFree_v2(address);
    mock_capture_answer = mode;
    return result;
}

static void blocks_are_freed_in_stream_order_beside_a_capture(void **state)
{
    uintptr_t shared = pool_get(512), whole = pool_get(MIB(2));

    atomic_store(&berth__device_captures, 1);
    mock_capture_answer = 900;
    assert_int_equal(berth__pool_free_in_order(shared, free_in_order, NULL), 0);
    assert_int_equal(freed_in_order, 0);
    pool_assert_adds_up();
    assert_int_equal(berth__pool_free_in_order(shared, free_in_order, NULL), -EINVAL);
    mock_fail(MOCK_FREE, 1, 719);
    assert_int_equal(berth__device_result(berth__pool_free_in_order(whole, free_in_order, NULL)),
                     719);
    pool_assert_adds_up();
    assert_int_equal(berth__pool_free_in_order(whole, free_in_order, NULL), 0);
    assert_int_equal(freed_in_order, whole);
    assert_int_equal(mock_calls(MOCK_SYNC), 0);
    mock_capture_answer = 0;
    atomic_store(&berth__device_captures, 0);
    pool_put(pool_get(KIB(1)));
    assert_int_equal(pool_get(512), shared);
}

static void synchronous_copies_are_marked_per_block(void **state)
{
    uintptr_t a = pool_get(512), b = pool_get(512), whole = pool_get(MIB(2));
    struct berth_block_view view;

    assert_true(berth__pool_set_sync_memops(a, true));
    assert_true(berth__pool_set_sync_memops(b, true));
    assert_false(berth__pool_set_sync_memops(a, false));
    assert_int_equal(berth__pool_find(a, &view), 0);
    assert_false(view.is_sync_memops);
    assert_int_equal(berth__pool_find(b, &view), 0);
    assert_true(view.is_sync_memops);
    pool_put(b);
    assert_true(berth__pool_set_sync_memops(a, false));
    assert_true(berth__pool_set_sync_memops(whole, true));
    pool_put(whole);
    assert_int_equal(mock_calls(MOCK_FREE), 1);
    pool_put(a);
}

static void foreign_memory_is_accounted(void **state)
{
    const struct berth_cell *cell = &berth__tier_stats[BERTH_TIER_PINNED].cell[BERTH_TAG_KV];
    struct berth_foreign foreign = {.address = (uintptr_t)0x7000000000,
                                    .size = 1000,
                                    .tier = BERTH_TIER_PINNED,
                                    .tag = BERTH_TAG_KV,
                                    .context = mock_context(0)};
    struct berth_foreign found;

    assert_int_equal(pool_reserve_foreign(BERTH_TIER_PINNED, 1000), 0);
    berth__foreign_add(&foreign);
    assert_int_equal(cell->held, 1000);
    assert_int_equal(berth__pool_free(foreign.address), BERTH_POOL_FORWARD);
    assert_int_equal(berth__foreign_remove(foreign.address + 512, &found), -ENOENT);
    assert_int_equal(berth__foreign_remove(foreign.address, &found), 0);
    assert_int_equal(cell->held, 0);
    assert_int_equal(berth__tier_stats[BERTH_TIER_PINNED].reserved, 1000);
    berth__foreign_restore(&found);
    assert_int_equal(cell->held, 1000);
    berth__foreign_drop(mock_context(1));
    assert_int_equal(cell->held, 1000);
    berth__foreign_drop(mock_context(0));
    assert_int_equal(cell->held, 0);
    assert_int_equal(berth__tier_stats[BERTH_TIER_PINNED].reserved, 0);
    assert_int_equal(berth__foreign_remove(foreign.address, &found), -ENOENT);
}

/* The state that fork leaves when another thread was in the pool: its lock is held for ever. */
static void a_forked_child_touches_no_lock(void **state)
{
    struct berth_pool_request request = {.size = 512};
    struct berth_pool_audit audit;
    struct berth_block_view view;
    uintptr_t a = pool_get(KIB(4)), other = 0;
    int status = -1;
    pid_t pid;

    berth__pool_lock(atomic_load(&berth__pool_first));
    pid = fork();
    if (pid == 0) {
        alarm(20);
        berth__pool_disable();
        berth__pool_audit(&audit);
        berth__pool_set_exported(a);
        berth__pool_drop(mock_context(0));
        _exit(!(berth__pool_alloc(&request, &other) == BERTH_POOL_FORWARD &&
                berth__pool_free(a) == BERTH_POOL_FORWARD &&
                berth__pool_find(a, &view) == -ENOENT && berth__pool_cached(0) == 0 &&
                berth__pool_release_cached(0) == 0 && audit.segments == 0));
    }
    berth__pool_unlock(atomic_load(&berth__pool_first));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    pool_put(a);
}

/* Fresh contexts, so that records are not left from earlier tests. */
static unsigned pages_left;
static void *(*map)(size_t size);

static void *map_some(size_t size)
{
    return pages_left > 0 && pages_left-- ? map(size) : NULL;
}

static void without_host_memory_the_driver_serves(void **state)
{
    map = berth__slab_map;
    berth__slab_map = map_some;
    for (unsigned n = 0; n < 6; n++) {
        uintptr_t addresses[300];
        unsigned served = 0;

        pages_left = n;
        for (int i = 0; i < 300; i++) {
            struct berth_pool_request request = {.size = i % 3 ? 512 : MIB(2)};
            int r = berth__pool_alloc(&request, &addresses[served]);

            assert_true(r == 0 || r == BERTH_POOL_FORWARD);
            served += r == 0;
        }
        assert_true(berth__pools_are_valid());
        for (unsigned i = 0; i < served; i++) {
            int r = berth__pool_free(addresses[i]);

            assert_true(r == 0 || r == BERTH_POOL_FORWARD);
        }
        pool_set_up(NULL);
    }
    berth__slab_map = map;
}

/* A workload that reaches every driver call; stops at the first error and undoes what it did. */
static uint64_t calls_made[MOCK_CALL_COUNT];

static int workload(void)
{
    uintptr_t small = 0, whole = 0, large = 0;
    int r = pool_try_alloc(KIB(3), &small), r2;

    if (r == 0)
        r = pool_try_alloc(MIB(5), &whole);
    if (r == 0) {
        mock_set_current(mock_context(2));
        r = berth__pool_free(whole);
        mock_set_current(mock_context(0));
        whole = r == 0 ? 0 : whole;
    }
    if (r == 0)
        r = pool_try_alloc(MIB(12), &large); /* only by giving the cache back */
    pool_assert_adds_up();
    for (int i = 0; i < MOCK_CALL_COUNT; i++)
        calls_made[i] = mock_calls((enum mock_call)i);
    mock_fail_none();
    r2 = small ? berth__pool_free(small) : 0;
    assert_int_equal(r2, 0);
    r2 = whole ? berth__pool_free(whole) : 0;
    assert_int_equal(r2, 0);
    r2 = large ? berth__pool_free(large) : 0;
    assert_int_equal(r2, 0);
    pool_assert_adds_up();
    return r;
}

static void every_driver_call_may_fail(void **state)
{
    for (int call = 0; call < MOCK_CALL_COUNT; call++) {
        for (unsigned nth = 1;; nth++) {
            struct berth_pool_audit audit;
            int r;

            pool_set_up(NULL);
            mock_set_capacity(MIB(15));
            mock_fail((enum mock_call)call, nth, 719);
            r = workload();
            berth__pool_audit(&audit);
            assert_int_equal(audit.live_blocks, 0);
            if (nth > calls_made[call]) {
                assert_int_equal(r, 0);
                break;
            }
            /* The program sees the driver's code, or nothing where it does not matter. */
            if (call == MOCK_ALLOC || call == MOCK_SYNC)
                assert_int_equal(berth__device_result(r), 719);
            if (r < 0 && berth__device_result(r) != BERTH_CU_OUT_OF_MEMORY)
                assert_int_equal(berth__device_result(r), 719);
        }
    }
}

static void driver_codes_survive_the_way_through(void **state)
{
    for (int code = 0; code <= 1000; code++)
        assert_int_equal(berth__device_result(berth__device_error(code)), code);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(size_zero_and_no_context_are_the_drivers),
        TEST(small_blocks_share_a_segment),
        TEST(segments_grow_to_the_option),
        TEST(whole_blocks_are_reused_for_somewhat_less),
        TEST(whole_blocks_are_what_the_driver_takes),
        TEST(best_fit_takes_the_smallest_and_lowest),
        TEST(freed_and_interior_addresses_are_refused),
        TEST(each_free_synchronises_its_own_context),
        TEST(no_lock_is_held_while_the_driver_waits),
        TEST(exported_blocks_never_enter_the_cache),
        TEST(a_failed_free_changes_nothing),
        TEST(block_ids_are_new_for_each_allocation),
        TEST(a_destroyed_context_takes_its_blocks_along),
        TEST(a_new_context_of_the_same_handle_starts_afresh),
        TEST(a_destruction_in_doubt_is_none_that_was_not_seen),
        TEST(an_unseen_destruction_is_found_by_its_addresses),
        TEST(captures_are_left_to_the_driver),
        TEST(a_capture_may_begin_while_a_block_is_freed),
        TEST(blocks_are_freed_in_stream_order_beside_a_capture),
        TEST(synchronous_copies_are_marked_per_block),
        TEST(foreign_memory_is_accounted),
        TEST(a_forked_child_touches_no_lock),
        cmocka_unit_test_setup(without_host_memory_the_driver_serves, pool_set_up),
        TEST(every_driver_call_may_fail),
        TEST(driver_codes_survive_the_way_through),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
