/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the memory that a plan has is nobody's twice, whoever calls meanwhile, and is had before a
 * program is told that there is none. Method: a device that has little more than its plan; a driver
 * in whose calls another thread allocates.
 */
#include "order_fixture.h"

#include "alloc/device_context.h"
#include "alloc/order.h"
#include "alloc/plan_file.h"
#include "alloc/pool.h"
#include "alloc/pool_plan.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define ENTRIES_MAX 4

static struct {
    struct berth_plan_header header;
    struct berth_plan_lane lane;
    struct berth_plan_entry entries[ENTRIES_MAX];
} file;

static int plan_down(void **state)
{
    int r = after_each(state);

    atomic_store(&berth__pool_plan, NULL);
    return r;
}

static bool are_repeated = true; /* the entries of the next plan */

static void load(const struct berth_plan_entry *entries, unsigned count, uint64_t peak)
{
    char why[BERTH_PLAN_WHY_MAX];

    file.header = (struct berth_plan_header){BERTH_PLAN_MAGIC, 0, 0, 1, count, peak, 0};
    file.lane = (struct berth_plan_lane){0, count, 0, are_repeated ? count : 0};
    for (unsigned i = 0; i < count; i++)
        file.entries[i] = entries[i];
    file.header.checksum = berth__plan_file_checksum(&file, offsetof(__typeof__(file), entries) +
                                                                count * sizeof(*entries));
    atomic_store(&berth__pool_plan, NULL);
    assert_int_equal(
        berth__pool_plan_load(&file, offsetof(__typeof__(file), entries) + count * sizeof(*entries),
                              why, sizeof(why)),
        0);
}

static berth_cu_result (*real_query)(berth_cu_event event);
static uintptr_t others;

static void *call_between(void *context_of_test)
{
    use_context(context_of_test);
    others = alloc(KIB(64));
    return NULL;
}

static berth_cu_result query_while_another_calls(berth_cu_event event)
{
    pthread_t thread;

    berth__driver.cuEventQuery = real_query;
    assert_int_equal(pthread_create(&thread, NULL, call_between, context), 0);
    pthread_join(thread, NULL);
    return real_query(event);
}

/* The call's place waits to be idle; while that is asked, another thread follows the plan on. */
static void a_place_is_the_call_s_own(void **state)
{
    static const struct berth_plan_entry entries[] = {
        {KIB(2048), 0}, {KIB(1024), 0}, {KIB(64), 0}, {KIB(512), KIB(128)}};
    uintptr_t large, next;

    (void)state;
    set_option("free", "lazy");
    load(entries, 4, KIB(8192));
    assert_int_equal(berth__pool_free(alloc(KIB(2048))), 0);
    real_query = berth__driver.cuEventQuery;
    berth__driver.cuEventQuery = query_while_another_calls;
    others = 0;
    large = alloc(KIB(1024));
    assert_true(berth__driver.cuEventQuery == real_query && others != 0);
    next = alloc(KIB(512));
    assert_true(next >= large + KIB(1024) || next + KIB(512) <= large);
    assert_true(others >= large + KIB(1024) || others + KIB(64) <= large);
    assert_int_equal(berth__pool_free(large), 0);
    assert_int_equal(berth__pool_free(next), 0);
    assert_int_equal(berth__pool_free(others), 0);
}

static void free_in_capture(uintptr_t address)
{
    CUstream stream = stream_new();
    CUgraph graph = NULL;

    berth__order_shut();
    assert_int_equal(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED), 0);
    atomic_fetch_add(&berth__device_captures, 1);
    berth__order_open();
    assert_int_equal(berth__pool_free(address), 0);
    assert_int_equal(cuStreamEndCapture(stream, &graph), 0);
    atomic_fetch_sub(&berth__device_captures, 1);
    cuGraphDestroy(graph);
    stream_delete(stream);
}

/* All but 4 MiB of the plan's segment is free, or waits to be; the device has less than is asked.
 */
static void check_room(const char *how, void (*give_back)(uintptr_t address))
{
    static const struct berth_plan_entry entries[] = {{MIB(4), 0}, {MIB(30), MIB(4)}};
    const struct berth_pool_request request = {.size = MIB(20), .tier = BERTH_TIER_DEVICE};
    uintptr_t kept, large, p = 0;

    set_option("free", how);
    load(entries, 2, MIB(40));
    kept = alloc(MIB(4));
    large = alloc(MIB(30));
    give_back(large);
    assert_int_equal(berth__pool_alloc(&request, &p), 0);
    assert_int_equal(berth__pool_free(p), 0);
    assert_int_equal(berth__pool_free(kept), 0);
}

static void free_at_once(uintptr_t address)
{
    assert_int_equal(berth__pool_free(address), 0);
}

static void what_waits_in_the_plan_s_memory_is_had_before_there_is_none(void **state)
{
    (void)state;
    check_room("sync", free_at_once);
}

static void so_is_what_was_freed_lazily(void **state)
{
    (void)state;
    check_room("lazy", free_at_once);
}

static void so_is_what_was_freed_in_a_capture(void **state)
{
    (void)state;
    check_room("sync", free_in_capture);
}

static void so_is_what_was_freed_lazily_in_a_capture(void **state)
{
    (void)state;
    check_room("lazy", free_in_capture);
}

/* A plan that is over, with room for 20 MiB in it: whether the next call gets that. */
static bool is_lent_in_the_end(const char *segments, const char *free_way)
{
    static const struct berth_plan_entry entries[] = {{MIB(4), 0}, {MIB(20), MIB(4)}};
    uintptr_t kept, large, next;

    set_option("free", free_way);
    set_option("segments", segments);
    are_repeated = false;
    load(entries, 2, MIB(24));
    are_repeated = true;
    kept = alloc(MIB(4));
    large = alloc(MIB(20));
    assert_int_equal(large, kept + MIB(4));
    assert_int_equal(berth__pool_free(large), 0);
    next = alloc(MIB(18));
    assert_int_equal(berth__pool_free(next), 0);
    assert_int_equal(berth__pool_free(kept), 0);
    set_option("segments", "own");
    return next == large;
}

/* The call comes after the last one of the plan, and finds room where a block only waits. */
static void what_waits_is_looked_at_when_the_plan_is_over(void **state)
{
    (void)state;
    assert_true(is_lent_in_the_end("shared", "lazy"));
}

static void what_is_free_is_lent_when_the_plan_is_over(void **state)
{
    (void)state;
    assert_true(is_lent_in_the_end("shared", "sync"));
}

/* What is to have an allocation of its own has it, while there is memory for one. */
static void who_may_want_a_handle_is_lent_nothing(void **state)
{
    (void)state;
    assert_false(is_lent_in_the_end("own", "sync"));
}

static void so_it_is_where_frees_are_lazy(void **state)
{
    (void)state;
    assert_false(is_lent_in_the_end("own", "lazy"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, before_each, plan_down)
    const struct CMUnitTest tests[] = {
        TEST(a_place_is_the_call_s_own),
        TEST(what_waits_in_the_plan_s_memory_is_had_before_there_is_none),
        TEST(so_is_what_was_freed_lazily),
        TEST(so_is_what_was_freed_in_a_capture),
        TEST(so_is_what_was_freed_lazily_in_a_capture),
        TEST(what_waits_is_looked_at_when_the_plan_is_over),
        TEST(what_is_free_is_lent_when_the_plan_is_over),
        TEST(who_may_want_a_handle_is_lent_nothing),
        TEST(so_it_is_where_frees_are_lazy),
    };

    return cmocka_run_group_tests(tests, up, NULL);
}
