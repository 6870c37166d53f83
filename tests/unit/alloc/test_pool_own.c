/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: where large blocks have driver allocations of their own, a pool keeps not much more than
 * lived, every such block can still be exported, and a program that repeats itself is left alone by
 * the driver. Expectations follow from alloc/pool_own.h.
 */
#include "device_mock.h"
#include "pool_fixture.h"

#include "alloc/limit.h"
#include "alloc/pool.h"
#include "alloc/pool_own.h"
#include "alloc/tier_ops.h"

#include <errno.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define TAG_LIMIT "device-limit-weight" /* of the tag that pool_get() gives */

static int set_up(void **state)
{
    pool_set_up(state);
    mock_set_capacity(GIB(64));
    pool_set_option("spare", "25");
    return 0;
}

static int tear_down(void **state)
{
    pool_set_option("device-limit", "0");
    pool_set_option(TAG_LIMIT, "0");
    pool_set_option("device-limit-kv", "0");
    pool_set_option("spare", "100");
    berth__driver.cuMemGetInfo_v2 = NULL;
    return pool_tear_down(state);
}

#define OWN(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static uint64_t reserved(void)
{
    struct berth_pool_audit audit;

    berth__pool_audit(&audit);
    return audit.reserved;
}

static void touch(uint64_t size)
{
    pool_put(pool_get(size));
}

/* Two large blocks at once, of any sizes; the most that was reserved over the most that lived. */
static double reserved_over_live(unsigned steps)
{
    uint64_t most_reserved = 0, most_live = 0;
    unsigned seed = 1;

    for (unsigned i = 0; i < steps; i++) {
        uint64_t a = MIB(500) + MIB(4) * (uint64_t)(rand_r(&seed) % 400),
                 b = MIB(100) + MIB(4) * (uint64_t)(rand_r(&seed) % 100);
        uintptr_t first = pool_get(a), second = pool_get(b);

        if (most_live < a + b)
            most_live = a + b;
        if (most_reserved < reserved())
            most_reserved = reserved();
        pool_put(first);
        pool_put(second);
    }
    return (double)most_reserved / (double)most_live;
}

static void sizes_that_vary_leave_little_behind(void **state)
{
    assert_true(reserved_over_live(200) <= 1.3);
}

static void the_option_says_how_much(void **state)
{
    static const char *const options[] = {"0", "25", "100"};
    double shares[3];

    for (unsigned i = 0; i < 3; i++) {
        mock_set_current(mock_context(i));
        pool_set_option("spare", options[i]);
        shares[i] = reserved_over_live(30);
        berth__pool_release_cached(0);
    }
    assert_true(shares[0] <= 1.1 && shares[1] <= 1.3 && shares[1] > shares[0]);
    assert_true(shares[2] <= 2 && shares[2] > shares[1]);
}

/* Blocks in use hold, all together, half of what ever lived beyond what they need. */
static void few_blocks_are_too_large(void **state)
{
    uintptr_t a = pool_get(MIB(700)), b;
    struct berth_block_view view;

    pool_put(a);
    b = pool_get(MIB(300));
    assert_int_equal(berth__pool_find(b, &view), 0);
    assert_int_equal(view.held, MIB(300));
    pool_put(b);
}

static void what_is_large_enough_serves_again(void **state)
{
    uintptr_t a = pool_get(MIB(400)), b;
    struct berth_block_view view;

    pool_put(a);
    b = pool_get(MIB(300));
    assert_int_equal(b, a);
    assert_int_equal(mock_calls(MOCK_ALLOC), 1);
    assert_int_equal(berth__pool_find(b, &view), 0);
    assert_true(view.is_whole);
    assert_int_equal(view.requested, MIB(300));
    assert_int_equal(view.held, MIB(400));
    assert_int_equal(berth__pool_find(b + MIB(300), &view), -EFAULT);
    /* Exported, it goes back as one that was made for its size. */
    berth__pool_set_exported(b);
    pool_put(b);
    assert_int_equal(mock_calls(MOCK_FREE), 1);
    assert_int_equal(reserved(), 0);
}

static uint64_t held(uintptr_t address)
{
    struct berth_block_view view;

    assert_int_equal(berth__pool_find(address, &view), 0);
    return view.held;
}

/* What all blocks of a program ask for is within its limit: so is what they hold. */
static void where_there_is_a_limit_blocks_hold_what_they_need(void **state)
{
    static const char *const limits[] = {"device-limit-kv", "device-limit", TAG_LIMIT};

    for (unsigned i = 0; i < 3; i++) {
        uintptr_t a, b;

        mock_set_current(mock_context(i));
        pool_set_option(limits[i], "4G");
        touch(MIB(400));
        a = pool_get(MIB(300));
        assert_int_equal(held(a), MIB(300));
        touch(MIB(112));
        b = pool_get(MIB(102));
        assert_int_equal(held(b), MIB(102));
        pool_put(a);
        pool_put(b);
        pool_set_option(limits[i], "0");
    }
}

static size_t device_left; /* as the driver says */
static unsigned asked;

static berth_cu_result get_info(size_t *left, size_t *total)
{
    asked++;
    *left = device_left;
    *total = GIB(64);
    return 0;
}

/* The same, less what was taken of it. */
static berth_cu_result get_true_info(size_t *left, size_t *total)
{
    berth_cu_result result = get_info(left, total);

    *left -= mock_bytes();
    return result;
}

/* What a block of 300 MiB holds where 400 are idle, of a context without others. */
static uint64_t held_where_400_are_idle(unsigned context)
{
    uint64_t bytes;
    uintptr_t block;

    mock_set_current(mock_context(context));
    touch(MIB(400));
    block = pool_get(MIB(300));
    bytes = held(block);
    pool_put(block);
    berth__pool_release_cached(0);
    return bytes;
}

/* Blocks may hold a 16th of what is left beyond what they need: others lack it. */
static void what_is_left_of_the_device_may_be_needed(void **state)
{
    berth__driver.cuMemGetInfo_v2 = get_info;
    device_left = MIB(2000);
    assert_int_equal(held_where_400_are_idle(0), MIB(400));
    device_left = MIB(1999);
    assert_int_equal(held_where_400_are_idle(1), MIB(300));
    device_left = 0;
    assert_int_equal(held_where_400_are_idle(2), MIB(300));
}

static void what_is_left_of_the_capacity_may_be_needed(void **state)
{
    struct berth_tier *tier = berth__tier(BERTH_TIER_DEVICE);

    tier->capacity = MIB(2000);
    assert_int_equal(held_where_400_are_idle(0), MIB(400));
    tier->capacity = MIB(1999);
    assert_int_equal(held_where_400_are_idle(1), MIB(300));
}

/* Memory that the program had by other calls since the pool asked the driver. */
static void what_others_take_is_left_no_more(void **state)
{
    berth__driver.cuMemGetInfo_v2 = get_info;
    device_left = MIB(2000);
    for (unsigned is_back = 0; is_back < 2; is_back++) {
        uintptr_t block;

        mock_set_current(mock_context(is_back));
        touch(MIB(400));
        assert_int_equal(berth__limit_take(MIB(1)), 0);
        if (is_back)
            berth__limit_give(MIB(1));
        block = pool_get(MIB(300));
        assert_int_equal(held(block), is_back ? MIB(400) : MIB(300));
        pool_put(block);
        berth__pool_release_cached(0);
        if (!is_back)
            berth__limit_give(MIB(1));
    }
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* A program that begins asks for a hundred pieces in a row: one answer does for many. */
static void one_answer_serves_many_pieces(void **state)
{
    uintptr_t blocks[100];
    int64_t begin;

    berth__driver.cuMemGetInfo_v2 = get_true_info;
    device_left = GIB(64);
    asked = 0;
    begin = now_ns();
    for (unsigned i = 0; i < 100; i++)
        blocks[i] = pool_get(MIB(3));
    assert_int_equal(mock_calls(MOCK_ALLOC), 100);
    assert_in_range(asked, 1, 1 + (now_ns() - begin) / BERTH_OWN_ASK_NS);
    for (unsigned i = 0; i < 100; i++)
        pool_put(blocks[i]);
}

/* Others may have had it, or given it back. */
static void where_too_little_is_left_the_driver_is_asked_each_time(void **state)
{
    uintptr_t blocks[10];

    berth__driver.cuMemGetInfo_v2 = get_info;
    device_left = MIB(4);
    asked = 0;
    for (unsigned i = 0; i < 10; i++) {
        blocks[i] = pool_get(MIB(6));
        assert_int_equal(asked, i + 1);
    }
    for (unsigned i = 0; i < 10; i++)
        pool_put(blocks[i]);
}

/* Whether it is the answer of the last time or a new one: as what_is_left_of_the_device... */
static void what_was_taken_since_is_left_no_more(void **state)
{
    static const uint64_t left[] = {MIB(2800), MIB(2799)};

    berth__driver.cuMemGetInfo_v2 = get_true_info;
    for (unsigned i = 0; i < 2; i++) {
        uintptr_t live;

        mock_set_current(mock_context(i));
        device_left = left[i];
        live = pool_get(MIB(800));
        assert_int_equal(held_where_400_are_idle(i), i == 0 ? MIB(400) : MIB(300));
        pool_put(live);
        berth__pool_release_cached(0);
    }
}

/* It would hold more than four times what it needs; so much lives that this alone is the reason. */
static void what_is_much_too_large_does_not(void **state)
{
    uintptr_t most = pool_get(GIB(4)), a = pool_get(MIB(1000)), b, c;

    pool_put(a);
    b = pool_get(MIB(100));
    assert_int_equal(held(b), MIB(100));
    c = pool_get(MIB(250));
    assert_int_equal(held(c), MIB(1000));
    pool_put(b);
    pool_put(c);
    pool_put(most);
}

static void what_was_used_last_stays(void **state)
{
    for (unsigned is_first = 0; is_first < 2; is_first++) {
        uint64_t frees;
        uintptr_t a, b;

        mock_set_current(mock_context(is_first));
        frees = mock_calls(MOCK_FREE);
        touch(MIB(100));
        touch(MIB(110));
        touch(is_first ? MIB(100) : MIB(110));
        assert_int_equal(reserved(), MIB(210));
        a = pool_get(MIB(24));
        b = pool_get(MIB(24));
        assert_int_equal(reserved(), is_first ? MIB(148) : MIB(158));
        assert_int_equal(mock_calls(MOCK_FREE), frees + 1);
        pool_put(a);
        pool_put(b);
        berth__pool_release_cached(0);
    }
}

/* What the 120 MiB would serve, the 140 do, too. */
static void what_the_new_one_serves_as_well_goes_first(void **state)
{
    touch(MIB(100));
    touch(MIB(120));
    assert_int_equal(reserved(), MIB(220));
    touch(MIB(140));
    assert_int_equal(reserved(), MIB(240));
}

static void step(void)
{
    uintptr_t blocks[8];

    touch(MIB(1000));
    for (unsigned i = 0; i < 8; i++)
        blocks[i] = pool_get(MIB(120));
    for (unsigned i = 0; i < 8; i++)
        pool_put(blocks[i]);
}

/* Each step needs 1000 MiB, and the pool 1960; the option allows 1250, or 2000. */
static void steps_that_are_alike_need_no_driver(void **state)
{
    for (unsigned is_enough = 0; is_enough < 2; is_enough++) {
        uint64_t calls;

        mock_set_current(mock_context(is_enough));
        pool_set_option("spare", is_enough ? "100" : "25");
        for (unsigned i = 0; i < 8; i++)
            step();
        calls = pool_driver_calls();
        for (unsigned i = 0; i < 2; i++)
            step();
        if (is_enough)
            assert_int_equal(pool_driver_calls(), calls);
        else
            assert_true(pool_driver_calls() >= calls + 2);
        assert_in_range(reserved(), 1, is_enough ? MIB(1960) : MIB(1250));
        berth__pool_release_cached(0);
    }
}

/* Each is larger than all before, so that nothing that went back would have served it. */
static void what_is_new_earns_nothing(void **state)
{
    uintptr_t a = pool_get(MIB(1000)), b = pool_get(MIB(1000));

    pool_set_option("spare", "100");
    pool_put(a);
    pool_put(b);
    for (unsigned i = 1; i < 10; i++) {
        touch(MIB(1000) + i * MIB(4));
        assert_in_range(reserved(), MIB(1000), MIB(2128));
    }
}

static void a_driver_that_keeps_memory_costs_only_that(void **state)
{
    touch(MIB(100));
    touch(MIB(120));
    mock_fail(MOCK_FREE, 1, 719);
    touch(MIB(140));
    assert_int_equal(reserved(), MIB(360));
    touch(MIB(150)); /* 232 MiB are too much then: 140, and 120 */
    assert_int_equal(reserved(), MIB(250));
}

/* What was asked for in vain never lived. */
static void what_is_refused_is_no_measure(void **state)
{
    uintptr_t address = 0;

    touch(MIB(200));
    mock_set_capacity(GIB(1));
    assert_int_equal(pool_try_alloc(GIB(2), &address), -ENOMEM);
    mock_set_capacity(GIB(64));
    touch(MIB(200));
    touch(MIB(150));
    touch(MIB(100));
    assert_in_range(reserved(), MIB(200), MIB(456));
    touch(MIB(260));
    assert_in_range(reserved(), MIB(260), MIB(516));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        OWN(sizes_that_vary_leave_little_behind),
        OWN(the_option_says_how_much),
        OWN(few_blocks_are_too_large),
        OWN(what_is_large_enough_serves_again),
        OWN(where_there_is_a_limit_blocks_hold_what_they_need),
        OWN(what_is_left_of_the_device_may_be_needed),
        OWN(what_is_left_of_the_capacity_may_be_needed),
        OWN(one_answer_serves_many_pieces),
        OWN(where_too_little_is_left_the_driver_is_asked_each_time),
        OWN(what_was_taken_since_is_left_no_more),
        OWN(what_others_take_is_left_no_more),
        OWN(what_is_much_too_large_does_not),
        OWN(what_was_used_last_stays),
        OWN(what_the_new_one_serves_as_well_goes_first),
        OWN(steps_that_are_alike_need_no_driver),
        OWN(what_is_new_earns_nothing),
        OWN(a_driver_that_keeps_memory_costs_only_that),
        OWN(what_is_refused_is_no_measure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
