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
#include "device_mock.h"

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

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

static uint64_t held_in_cells(void)
{
    uint64_t held = 0;

    for (unsigned tag = 0; tag < BERTH_TAG_COUNT; tag++)
        held += berth__tier_stats[BERTH_TIER_DEVICE].cell[tag].held;
    return held;
}

/* Whether the account, the walk over the pools and the driver say the same. */
static void assert_adds_up(void)
{
    const struct berth_tier_stats *stats = &berth__tier_stats[BERTH_TIER_DEVICE];
    struct berth_pool_audit audit;

    berth__pool_audit(&audit);
    assert_true(berth__pools_are_valid());
    assert_int_equal(audit.held, held_in_cells());
    assert_int_equal(audit.cached, stats->cached);
    assert_int_equal(audit.reserved, stats->reserved);
    assert_int_equal(audit.reserved, audit.held + audit.cached + audit.waiting);
    assert_int_equal(audit.reserved, mock_bytes());
    assert_int_equal(audit.segments, mock_allocations());
    assert_int_equal(mock_depth() > 1, 0);
}

static int set_up(void **state)
{
    for (unsigned i = 0; i < 4; i++)
        berth__pool_drop(mock_context(i));
    mock_reset(GIB(1));
    mock_set_current(mock_context(0));
    berth__tier(BERTH_TIER_DEVICE)->capacity = 0;
    atomic_store(&berth__device_captures, 0);
    return 0;
}

static int tear_down(void **state)
{
    assert_adds_up();
    return 0;
}

static int try_alloc(uint64_t size, uintptr_t *ret)
{
    struct berth_pool_request request = {.size = size, .tag = BERTH_TAG_WEIGHT};
    int r = berth__pool_alloc(&request, ret);

    assert_adds_up();
    return r;
}

static uintptr_t alloc(uint64_t size)
{
    uintptr_t address = 0;

    assert_int_equal(try_alloc(size, &address), 0);
    assert_int_equal(address % 512, 0);
    return address;
}

static void release(uintptr_t address)
{
    assert_int_equal(berth__pool_free(address), 0);
    assert_adds_up();
}

static void size_zero_and_no_context_are_the_drivers(void **state)
{
    uintptr_t address = 42;

    assert_int_equal(try_alloc(0, &address), BERTH_POOL_FORWARD);
    assert_int_equal(try_alloc(UINT64_MAX, &address), BERTH_POOL_FORWARD);
    mock_set_current(NULL);
    assert_int_equal(try_alloc(100, &address), BERTH_POOL_FORWARD);
    assert_int_equal(address, 42);
    assert_int_equal(mock_calls(MOCK_ALLOC), 0);
}

static void small_blocks_share_a_segment(void **state)
{
    uintptr_t a = alloc(1), b = alloc(512), c = alloc(KIB(100));

    assert_int_equal(mock_calls(MOCK_ALLOC), 1);
    assert_int_equal(mock_bytes(), MIB(2));
    assert_int_equal(b - a, 512);
    assert_int_equal(c - b, 512);
    memset((void *)c, 7, KIB(100));
    release(b);
    release(a);
    release(c);
    assert_int_equal(mock_calls(MOCK_FREE), 0);
    assert_int_equal(berth__pool_cached(0), MIB(2));
    /* Neighbours were merged: the whole segment is one free block again. */
    assert_int_equal(alloc(MIB(2) - 512), a);
    release(a);
}

static void segments_grow_to_the_option(void **state)
{
    uintptr_t blocks[96];

    for (int i = 0; i < 96; i++)
        blocks[i] = alloc(MIB(1));
    /* 2 + 2 + 4 + 8 + 16 + 32 + 32 MiB. */
    assert_int_equal(mock_calls(MOCK_ALLOC), 7);
    for (int i = 0; i < 96; i++)
        release(blocks[i]);
}

static void whole_blocks_are_reused_within_an_eighth(void **state)
{
    uintptr_t a = alloc(MIB(18)), b;
    struct berth_block_view view;

    release(a);
    assert_int_equal(mock_calls(MOCK_FREE), 0);
    b = alloc(MIB(16));
    assert_int_equal(b, a);
    assert_int_equal(berth__pool_find(b + MIB(16) - 1, &view), 0);
    assert_int_equal(view.requested, MIB(16));
    assert_int_equal(view.held, MIB(18));
    assert_true(view.is_whole);
    assert_int_equal(berth__pool_find(b + MIB(16), &view), -EFAULT);
    release(b);
    b = alloc(MIB(14));
    assert_int_not_equal(b, a);
    assert_int_equal(mock_calls(MOCK_ALLOC), 2);
    release(b);
}

/* What the driver takes is asked for, so that nothing is missing while it is cached. */
static void whole_blocks_are_what_the_driver_takes(void **state)
{
    uintptr_t a = alloc(2700000), b;

    assert_int_equal(mock_bytes(), MIB(4));
    release(a);
    b = alloc(MIB(2) + 1);
    assert_int_equal(b, a);
    release(b);
    b = alloc(MIB(2));
    assert_int_not_equal(b, a);
    release(b);
    berth__pool_release_cached(0);
    /* Where there is no room for that, the request itself is tried. */
    mock_set_capacity(MIB(3));
    release(alloc(2700000));
    assert_int_equal(mock_bytes(), 2700288);
    berth__tier(BERTH_TIER_DEVICE)->capacity = MIB(5);
    mock_set_capacity(MIB(20));
    release(alloc(MIB(5)));
    assert_int_equal(mock_bytes(), MIB(5));
}

static void best_fit_takes_the_smallest_and_lowest(void **state)
{
    uintptr_t a = alloc(KIB(64)), gap1 = alloc(512), b = alloc(KIB(32)), gap2 = alloc(512);
    uintptr_t c = alloc(KIB(32)), gap3 = alloc(512);

    release(c);
    release(a);
    release(b);
    assert_int_equal(alloc(KIB(20)), b);
    assert_int_equal(alloc(KIB(20)), c);
    assert_int_equal(alloc(KIB(20)), a);
    release(gap1);
    release(gap2);
    release(gap3);
}

static void freed_and_interior_addresses_are_refused(void **state)
{
    uintptr_t a = alloc(KIB(4)), b = alloc(MIB(4));

    assert_int_equal(berth__pool_free(a + 512), -EINVAL);
    assert_int_equal(berth__pool_free(a + 1), -EINVAL);
    assert_int_equal(berth__pool_free(b + MIB(2)), -EINVAL);
    assert_int_equal(mock_calls(MOCK_SYNC), 0);
    release(a);
    release(b);
    assert_int_equal(berth__pool_free(a), -EINVAL);
    assert_int_equal(berth__pool_free(b), -EINVAL);
    assert_int_equal(berth__pool_free((uintptr_t)0x10), BERTH_POOL_FORWARD);
    assert_int_equal(mock_calls(MOCK_SYNC), 2);
}

static void each_free_synchronises_its_own_context(void **state)
{
    uintptr_t a = alloc(KIB(4)), b;

    mock_set_current(mock_context(2));
    b = alloc(MIB(3));
    release(a);
    assert_int_equal(mock_calls(MOCK_PUSH), 1);
    assert_int_equal(mock_calls(MOCK_SYNC), 1);
    mock_set_current(NULL);
    release(b);
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
    leaving = alloc(512);
    mock_during = free_and_alloc_inside;
    release(leaving);
    assert_int_equal(answers[0], -EINVAL);
    assert_int_equal(answers[1], -EFAULT);
    leaving = alloc(MIB(2));
    mock_during = free_and_alloc_inside;
    berth__pool_set_exported(leaving);
    release(leaving);
    assert_int_equal(answers[0], BERTH_POOL_FORWARD);
}

static void cache_is_given_back_before_out_of_memory(void **state)
{
    uintptr_t a, b = 0;

    mock_set_capacity(MIB(16));
    a = alloc(MIB(6));
    release(a);
    a = alloc(MIB(3));
    release(a);
    a = alloc(KIB(1));
    release(a);
    assert_int_equal(mock_bytes(), MIB(12));
    b = alloc(MIB(16));
    assert_int_equal(mock_bytes(), MIB(16));
    assert_int_equal(mock_calls(MOCK_FREE), 3);
    a = 5;
    assert_int_equal(try_alloc(MIB(4), &a), -ENOMEM);
    assert_int_equal(a, 5);
    release(b);
}

/* What need not go back serves the next request without the driver. */
static void no_more_is_given_back_than_is_needed(void **state)
{
    static const uint64_t sizes[] = {MIB(4), MIB(8), MIB(2), MIB(16)};
    uintptr_t blocks[4], a;

    mock_set_capacity(MIB(30));
    for (int i = 0; i < 4; i++)
        blocks[i] = alloc(sizes[i]);
    for (int i = 0; i < 4; i++)
        release(blocks[i]);
    a = alloc(MIB(6)); /* 8 MiB are enough */
    assert_int_equal(mock_calls(MOCK_FREE), 1);
    assert_int_equal(mock_bytes(), MIB(28));
    release(a);
    a = alloc(MIB(20)); /* none is enough: 4 and 2 and 16 MiB are the oldest */
    assert_int_equal(mock_calls(MOCK_FREE), 4);
    assert_int_equal(mock_bytes(), MIB(26));
    release(a);
    /* The driver keeps the one that would be enough: others do. */
    mock_set_capacity(MIB(26));
    mock_fail(MOCK_FREE, 1, 719);
    a = alloc(MIB(4));
    release(a);
    /* A tier with no room for what the driver takes has room for the request. */
    berth__pool_release_cached(0);
    berth__tier(BERTH_TIER_DEVICE)->capacity = MIB(5);
    release(alloc(MIB(2)));
    release(alloc(MIB(5)));
    assert_int_equal(mock_bytes(), MIB(5));
}

static void other_contexts_of_the_device_give_back_too(void **state)
{
    uintptr_t a = alloc(MIB(8));

    mock_set_capacity(MIB(10));
    release(a);
    mock_set_current(mock_context(2));
    release(alloc(MIB(4))); /* another device: stays */
    mock_set_current(mock_context(1));
    release(alloc(MIB(10)));
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

static void *alloc_in_thread(void *size)
{
    struct berth_pool_request request = {.size = (uintptr_t)size};
    uintptr_t address = 0;
    int r;

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
    release(alloc(MIB(8)));
    atomic_store(&allocations_refused, 0);
    atomic_store(&release_may_end, false);
    mock_during = stay_in_free;
    for (uintptr_t i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, alloc_in_thread, (void *)MIB(4));
    while (atomic_load(&allocations_refused) < 2)
        sched_yield();
    for (int i = 0; i < 400000; i++)
        sched_yield();
    atomic_store(&release_may_end, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], &refused[i]);
    mock_during = NULL;
    assert_null(refused[0]);
    assert_null(refused[1]);
}

static void a_full_device_still_serves_small_blocks(void **state)
{
    uintptr_t a, b;

    mock_set_capacity(MIB(8) + KIB(4));
    a = alloc(MIB(8));
    b = alloc(KIB(3));
    assert_int_equal(mock_bytes(), MIB(8) + KIB(3));
    release(b);
    release(a);
}

static void capacity_of_the_tier_is_honoured(void **state)
{
    uintptr_t a, b = 0;

    berth__tier(BERTH_TIER_DEVICE)->capacity = MIB(8);
    a = alloc(MIB(6));
    assert_int_equal(try_alloc(MIB(3), &b), -ENOSPC);
    assert_int_equal(berth__device_result(-ENOSPC), BERTH_CU_OUT_OF_MEMORY);
    release(a);
    b = alloc(MIB(8));
    assert_int_equal(mock_bytes(), MIB(8));
    release(b);
}

static int alloc_in(berth_tier_id tier, uint64_t size, uintptr_t *ret)
{
    struct berth_pool_request request = {.size = size, .tier = tier};

    return berth__pool_alloc(&request, ret);
}

/* What other tiers have cached is no help against a capacity, and stays where it serves. */
static void a_full_tier_gives_back_its_own_cache_only(void **state)
{
    const struct berth_tier_config config = {
        .name = "few", .path = "", .kind = BERTH_KIND_DEVICE, .capacity = MIB(8)};
    uintptr_t kept = alloc(MIB(4)), a = 0, b = 0;
    berth_tier_id few;
    char why[200];

    berth__device_register();
    assert_int_equal(berth__tier_ensure(&config, &few, why, sizeof(why)), 0);
    assert_int_equal(berth__pool_free(kept), 0);
    assert_int_equal(alloc_in(few, MIB(2), &b), 0);
    assert_int_equal(berth__pool_free(b), 0);
    assert_int_equal(alloc_in(few, MIB(6), &a), 0);
    assert_int_equal(mock_calls(MOCK_FREE), 0);
    assert_int_equal(alloc_in(few, MIB(10), &b), -ENOSPC); /* not even without its cache */
    assert_int_equal(mock_calls(MOCK_FREE), 0);
    assert_int_equal(alloc_in(few, KIB(1), &b), 0);
    assert_int_equal(mock_calls(MOCK_FREE), 1);
    assert_int_equal(alloc_in(few, MIB(4), &kept), -ENOSPC);
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
    release(alloc(MIB(6)));
    assert_int_equal(berth__foreign_reserve(BERTH_TIER_DEVICE, MIB(9)), -ENOSPC);
    assert_int_equal(mock_calls(MOCK_FREE), 0);
    assert_int_equal(berth__foreign_reserve(BERTH_TIER_DEVICE, MIB(4)), 0);
    assert_int_equal(mock_calls(MOCK_FREE), 1);
    berth__foreign_cancel(BERTH_TIER_DEVICE, MIB(4));
}

static void exported_blocks_never_enter_the_cache(void **state)
{
    uintptr_t a = alloc(MIB(2));

    berth__pool_set_exported(a);
    release(a);
    assert_int_equal(mock_calls(MOCK_FREE), 1);
    assert_int_equal(mock_calls(MOCK_SYNC), 0);
    assert_int_equal(berth__pool_cached(0), 0);
    assert_int_equal(berth__pool_free(a), BERTH_POOL_FORWARD);
}

static void a_failed_free_changes_nothing(void **state)
{
    uintptr_t a = alloc(MIB(2)), b = alloc(512);
    struct berth_block_view view;

    berth__pool_set_exported(a);
    mock_fail(MOCK_FREE, 1, 700);
    assert_int_equal(berth__device_result(berth__pool_free(a)), 700);
    assert_adds_up();
    assert_int_equal(berth__pool_find(a, &view), 0);
    mock_fail(MOCK_SYNC, 1, 4);
    assert_int_equal(berth__device_result(berth__pool_free(b)), 4);
    assert_adds_up();
    assert_int_equal(berth__pool_find(b, &view), 0);
    release(a);
    release(b);
}

static void block_ids_are_new_for_each_allocation(void **state)
{
    uintptr_t a = alloc(512);
    struct berth_block_view first, second;

    assert_int_equal(berth__pool_find(a, &first), 0);
    release(a);
    assert_int_equal(alloc(512), a);
    assert_int_equal(berth__pool_find(a, &second), 0);
    assert_int_not_equal(first.id, second.id);
    assert_int_equal(second.tag, BERTH_TAG_WEIGHT);
    release(a);
}

static void a_destroyed_context_takes_its_blocks_along(void **state)
{
    uintptr_t a = alloc(512), b = alloc(MIB(4)), c = alloc(MIB(3));
    uint64_t frees = mock_calls(MOCK_FREE);
    struct berth_block_view view;

    release(c);
    mock_set_current(mock_context(1));
    c = alloc(KIB(700));
    mock_destroy(mock_context(0));
    berth__pool_drop(mock_context(0));
    assert_adds_up();
    assert_int_equal(berth__pool_find(a, &view), -ENOENT);
    assert_int_equal(berth__pool_free(b), BERTH_POOL_FORWARD);
    assert_int_equal(mock_calls(MOCK_FREE), frees);
    release(c);
}

/* Another thread's new context has the handle before the destruction has returned. */
static void a_new_context_of_the_same_handle_starts_afresh(void **state)
{
    uintptr_t cached = alloc(MIB(2)), small, whole;
    struct berth_block_view view;

    alloc(512);
    release(cached);
    berth__pool_drop_begin(mock_context(0));
    mock_destroy(mock_context(0));
    mock_create(mock_context(0));
    assert_int_equal(berth__pool_release_cached(0), 0); /* not by calls in the new context */
    small = 0;
    whole = 0;
    assert_int_equal(alloc_in(BERTH_TIER_DEVICE, 512, &small), 0);
    assert_int_equal(alloc_in(BERTH_TIER_DEVICE, MIB(2), &whole), 0);
    memset((void *)small, 1, 512);
    memset((void *)whole, 2, MIB(2));
    berth__pool_drop_end(mock_context(0), true);
    assert_adds_up();
    assert_int_equal(berth__pool_find(whole, &view), 0);
    assert_int_equal(berth__pool_find(small, &view), 0);
    release(small);
    release(whole);
    /* A destruction that fails leaves everything as it was. */
    berth__pool_drop_begin(mock_context(0));
    berth__pool_drop_end(mock_context(0), false);
    assert_int_equal(alloc(MIB(2)), whole);
    release(whole);
}

static void an_unseen_destruction_is_found_by_its_addresses(void **state)
{
    uintptr_t a = alloc(MIB(4)), b;

    mock_destroy(mock_context(0));
    mock_set_current(mock_context(1));
    /* The kernel gives the same addresses again; the pool believes the driver. */
    b = 0;
    for (int i = 0; i < 64 && b != a; i++) {
        struct berth_pool_request request = {.size = MIB(4)};

        assert_int_equal(berth__pool_alloc(&request, &b), 0);
    }
    assert_int_equal(b, a);
    assert_adds_up();
}

static void captures_are_left_to_the_driver(void **state)
{
    uintptr_t shared = alloc(512), whole = alloc(MIB(2)), cached = alloc(MIB(2)), captured;
    uintptr_t none = 1;

    release(cached);
    atomic_store(&berth__device_captures, 1);
    /* The driver forbids it in this thread. */
    mock_capture_answer = 900;
    assert_int_equal(berth__device_result(try_alloc(512, &none)), 900);
    assert_int_equal(berth__device_result(berth__pool_free(shared)), 900);
    assert_int_equal(berth__device_result(berth__pool_free(whole)), 900);
    assert_int_equal(none, 1);
    assert_adds_up();
    /* The driver allows it (relaxed): nothing cached is used, nothing is synchronised. */
    mock_capture_answer = 0;
    captured = alloc(MIB(2));
    assert_int_not_equal(captured, cached);
    release(shared);
    release(whole);
    assert_int_equal(berth__pool_free(shared), -EINVAL);
    assert_int_equal(mock_calls(MOCK_SYNC), 1);
    atomic_store(&berth__device_captures, 0);
    /* What was freed in the capture comes back with the next synchronisation. */
    assert_int_not_equal(alloc(512), shared);
    release(captured);
    assert_int_not_equal(mock_calls(MOCK_FREE), 0);
    release(alloc(KIB(1)));
    assert_int_equal(alloc(512), shared);
}

static void memory_out_in_a_capture_gives_the_cache_back(void **state)
{
    uintptr_t a;

    mock_set_capacity(MIB(8));
    release(alloc(MIB(6)));
    atomic_store(&berth__device_captures, 1);
    a = alloc(MIB(6));
    assert_int_equal(mock_calls(MOCK_FREE), 1);
    release(a);
    atomic_store(&berth__device_captures, 0);
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
    uintptr_t shared = alloc(512), whole = alloc(MIB(2));

    atomic_store(&berth__device_captures, 1);
    mock_capture_answer = 900;
    assert_int_equal(berth__pool_free_in_order(shared, free_in_order, NULL), 0);
    assert_int_equal(freed_in_order, 0);
    assert_adds_up();
    assert_int_equal(berth__pool_free_in_order(shared, free_in_order, NULL), -EINVAL);
    mock_fail(MOCK_FREE, 1, 719);
    assert_int_equal(berth__device_result(berth__pool_free_in_order(whole, free_in_order, NULL)),
                     719);
    assert_adds_up();
    assert_int_equal(berth__pool_free_in_order(whole, free_in_order, NULL), 0);
    assert_int_equal(freed_in_order, whole);
    assert_int_equal(mock_calls(MOCK_SYNC), 0);
    mock_capture_answer = 0;
    atomic_store(&berth__device_captures, 0);
    release(alloc(KIB(1)));
    assert_int_equal(alloc(512), shared);
}

static void synchronous_copies_are_marked_per_block(void **state)
{
    uintptr_t a = alloc(512), b = alloc(512), whole = alloc(MIB(2));
    struct berth_block_view view;

    assert_true(berth__pool_set_sync_memops(a, true));
    assert_true(berth__pool_set_sync_memops(b, true));
    assert_false(berth__pool_set_sync_memops(a, false));
    assert_int_equal(berth__pool_find(a, &view), 0);
    assert_false(view.is_sync_memops);
    assert_int_equal(berth__pool_find(b, &view), 0);
    assert_true(view.is_sync_memops);
    release(b);
    assert_true(berth__pool_set_sync_memops(a, false));
    assert_true(berth__pool_set_sync_memops(whole, true));
    release(whole);
    assert_int_equal(mock_calls(MOCK_FREE), 1);
    release(a);
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

    assert_int_equal(berth__foreign_reserve(BERTH_TIER_PINNED, 1000), 0);
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
    uintptr_t a = alloc(KIB(4)), other = 0;
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
    release(a);
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
        set_up(NULL);
    }
    berth__slab_map = map;
}

/* A workload that reaches every driver call; stops at the first error and undoes what it did. */
static uint64_t calls_made[MOCK_CALL_COUNT];

static int workload(void)
{
    uintptr_t small = 0, whole = 0, large = 0;
    int r = try_alloc(KIB(3), &small), r2;

    if (r == 0)
        r = try_alloc(MIB(5), &whole);
    if (r == 0) {
        mock_set_current(mock_context(2));
        r = berth__pool_free(whole);
        mock_set_current(mock_context(0));
        whole = r == 0 ? 0 : whole;
    }
    if (r == 0)
        r = try_alloc(MIB(12), &large); /* only by giving the cache back */
    assert_adds_up();
    for (int i = 0; i < MOCK_CALL_COUNT; i++)
        calls_made[i] = mock_calls((enum mock_call)i);
    mock_fail_none();
    r2 = small ? berth__pool_free(small) : 0;
    assert_int_equal(r2, 0);
    r2 = whole ? berth__pool_free(whole) : 0;
    assert_int_equal(r2, 0);
    r2 = large ? berth__pool_free(large) : 0;
    assert_int_equal(r2, 0);
    assert_adds_up();
    return r;
}

static void every_driver_call_may_fail(void **state)
{
    for (int call = 0; call < MOCK_CALL_COUNT; call++) {
        for (unsigned nth = 1;; nth++) {
            struct berth_pool_audit audit;
            int r;

            set_up(NULL);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(size_zero_and_no_context_are_the_drivers),
        TEST(small_blocks_share_a_segment),
        TEST(segments_grow_to_the_option),
        TEST(whole_blocks_are_reused_within_an_eighth),
        TEST(whole_blocks_are_what_the_driver_takes),
        TEST(best_fit_takes_the_smallest_and_lowest),
        TEST(freed_and_interior_addresses_are_refused),
        TEST(each_free_synchronises_its_own_context),
        TEST(no_lock_is_held_while_the_driver_waits),
        TEST(cache_is_given_back_before_out_of_memory),
        TEST(no_more_is_given_back_than_is_needed),
        TEST(other_contexts_of_the_device_give_back_too),
        TEST(memory_on_its_way_back_is_waited_for),
        TEST(a_full_device_still_serves_small_blocks),
        TEST(capacity_of_the_tier_is_honoured),
        TEST(a_full_tier_gives_back_its_own_cache_only),
        TEST(foreign_memory_takes_the_place_of_cached),
        TEST(exported_blocks_never_enter_the_cache),
        TEST(a_failed_free_changes_nothing),
        TEST(block_ids_are_new_for_each_allocation),
        TEST(a_destroyed_context_takes_its_blocks_along),
        TEST(a_new_context_of_the_same_handle_starts_afresh),
        TEST(an_unseen_destruction_is_found_by_its_addresses),
        TEST(captures_are_left_to_the_driver),
        TEST(memory_out_in_a_capture_gives_the_cache_back),
        TEST(blocks_are_freed_in_stream_order_beside_a_capture),
        TEST(synchronous_copies_are_marked_per_block),
        TEST(foreign_memory_is_accounted),
        TEST(a_forked_child_touches_no_lock),
        cmocka_unit_test_setup(without_host_memory_the_driver_serves, set_up),
        TEST(every_driver_call_may_fail),
        TEST(driver_codes_survive_the_way_through),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
