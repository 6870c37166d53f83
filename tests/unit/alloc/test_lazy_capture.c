/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a program that frees lazily and then captures a graph is refused no memory that the driver
 * would have had for it. Method: most of a small device was freed, and waits in each way there is;
 * then it is asked for again while a capture is open, in global mode, that no call may spoil.
 */
#include "order_fixture.h"

#include "alloc/block_slab.h"
#include "alloc/order.h"
#include "alloc/pool.h"
#include "alloc/pool_lazy.h"
#include "alloc/pool_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static uint64_t most_of_the_device(void)
{
    size_t free_bytes = 0, total = 0;

    assert_int_equal(cuMemGetInfo_v2(&free_bytes, &total), 0);
    return total / 4 * 3;
}

/* As the hooks do it, but that nothing is reclaimed before: another thread may free just then. */
static void begin_capture(CUstream stream)
{
    berth__order_shut();
    assert_int_equal(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), 0);
    atomic_fetch_add(&berth__device_captures, 1);
    berth__order_open();
}

static void end_capture(CUstream stream)
{
    CUgraph graph = NULL;

    /* It is still good. */
    assert_int_equal(cuStreamEndCapture(stream, &graph), 0);
    atomic_fetch_sub(&berth__device_captures, 1);
    assert_int_equal(cuGraphDestroy(graph), 0);
}

/* In relaxed mode, in which a program may allocate beside a capture. */
static uintptr_t alloc_relaxed(uint64_t size)
{
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    uintptr_t address;

    assert_int_equal(cuThreadExchangeStreamCaptureMode(&mode), 0);
    address = alloc(size);
    assert_int_equal(cuThreadExchangeStreamCaptureMode(&mode), 0);
    assert_int_equal(mode, CU_STREAM_CAPTURE_MODE_RELAXED);
    return address;
}

static void what_has_a_point_is_had_in_a_capture(void **state)
{
    CUstream stream = stream_new(), busy = busy_stream();
    uint64_t most = most_of_the_device();
    uintptr_t block = alloc(most);

    assert_int_equal(berth__pool_free(block), 0);
    assert_false(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_CLOSE));
    go_on();
    assert_int_equal(waiting(), most);
    begin_capture(stream);
    block = alloc_relaxed(most);
    end_capture(stream);
    assert_int_equal(berth__pool_free(block), 0);
    stream_delete(busy);
    stream_delete(stream);
}

/* Lets the stream go on once somebody asks the driver. */
static atomic_uint queries;

static berth_cu_result (*event_query)(berth_cu_event event);

static berth_cu_result count_query(berth_cu_event event)
{
    if (atomic_fetch_add(&queries, 1) > 2)
        atomic_store(&may_go_on, true);
    return event_query(event);
}

/*
 * Whoever frees the block while the stream is held up has not asked about the point often enough:
 * the driver would wait for the stream, and nobody would let that go on.
 */
static bool is_freed_early;
static berth_cu_result (*mem_free)(berth_cu_address address);

static berth_cu_result note_free(berth_cu_address address)
{
    if (!atomic_exchange(&may_go_on, true))
        is_freed_early = true;
    return mem_free(address);
}

/* The point has not passed when the memory is asked for, but soon. */
static void a_point_is_waited_for_in_a_capture(void **state)
{
    CUstream stream = stream_new(), busy = busy_stream();
    uint64_t most = most_of_the_device();
    uintptr_t block = alloc(most);

    assert_int_equal(berth__pool_free(block), 0);
    assert_false(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_CLOSE));
    begin_capture(stream);
    event_query = berth__driver.cuEventQuery;
    berth__driver.cuEventQuery = count_query;
    mem_free = berth__driver.cuMemFree_v2;
    berth__driver.cuMemFree_v2 = note_free;
    block = alloc_relaxed(most);
    berth__driver.cuMemFree_v2 = mem_free;
    berth__driver.cuEventQuery = event_query;
    end_capture(stream);
    assert_int_equal(berth__pool_free(block), 0);
    stream_delete(busy);
    stream_delete(stream);
    assert_true(atomic_load(&may_go_on));
    assert_false(is_freed_early);
}

/* Freed before the capture, and among few others, so that no point was recorded. */
static void what_has_no_point_is_had_in_a_capture(void **state)
{
    CUstream stream = stream_new();
    uint64_t most = most_of_the_device();
    uintptr_t block = alloc(most);

    assert_int_equal(berth__pool_free(block), 0);
    assert_int_equal(waiting(), most);
    begin_capture(stream);
    block = alloc_relaxed(most);
    end_capture(stream);
    assert_int_equal(berth__pool_free(block), 0);
    stream_delete(stream);
}

/* In relaxed mode: small blocks that fill most of the device. */
static uintptr_t small[256];

static void fill_and_free_in_capture(CUstream stream, uint64_t most)
{
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    unsigned count = 0;

    for (; count < most / BERTH_MIB; count++)
        small[count] = alloc(BERTH_MIB);
    begin_capture(stream);
    assert_int_equal(cuThreadExchangeStreamCaptureMode(&mode), 0);
    while (count-- > 0)
        assert_int_equal(berth__pool_free(small[count]), 0);
    assert_int_equal(cuThreadExchangeStreamCaptureMode(&mode), 0);
}

static void what_was_freed_in_a_capture_is_had_in_it(void **state)
{
    const char *const modes[] = {"sync", "lazy"};

    for (unsigned i = 0; i < 2; i++) {
        CUstream stream = stream_new();
        uint64_t most = most_of_the_device() / 4 * 3;
        uintptr_t block;

        set_option("free", modes[i]);
        fill_and_free_in_capture(stream, most);
        block = alloc_relaxed(most);
        end_capture(stream);
        assert_int_equal(berth__pool_free(block), 0);
        berth__pool_release_cached(BERTH_POOL_ALL_DEVICES);
        stream_delete(stream);
    }
}

static berth_cu_result refuse_free(berth_cu_address address)
{
    return 719;
}

/* What the driver keeps waits on, and is had after the capture. */
static void what_the_driver_keeps_in_a_capture_is_not_lost(void **state)
{
    berth_cu_result (*free_really)(berth_cu_address) = berth__driver.cuMemFree_v2;
    const struct berth_pool_request request = {.size = most_of_the_device(),
                                               .tier = BERTH_TIER_DEVICE};
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    struct berth_pool_audit audit;
    CUstream stream = stream_new();
    uintptr_t block = 0;

    fill_and_free_in_capture(stream, request.size);
    berth__pool_audit(&audit);
    berth__driver.cuMemFree_v2 = refuse_free;
    assert_int_equal(cuThreadExchangeStreamCaptureMode(&mode), 0);
    assert_int_not_equal(berth__pool_alloc(&request, &block), 0);
    assert_int_equal(cuThreadExchangeStreamCaptureMode(&mode), 0);
    berth__driver.cuMemFree_v2 = free_really;
    assert_true(berth__pools_are_valid());
    assert_int_equal(waiting(), audit.waiting);
    end_capture(stream);
    block = alloc(request.size);
    assert_int_equal(berth__pool_free(block), 0);
    stream_delete(stream);
}

/* Frees in relaxed mode, while a capture is open. */
static void free_in_capture(CUstream stream, uintptr_t block)
{
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;

    begin_capture(stream);
    assert_int_equal(cuThreadExchangeStreamCaptureMode(&mode), 0);
    assert_int_equal(berth__pool_free(block), 0);
    assert_int_equal(cuThreadExchangeStreamCaptureMode(&mode), 0);
    end_capture(stream);
}

static const char *const free_modes[] = {"sync", "lazy"};

/* Nothing but captures ever ends the wait of what was freed: no free synchronises. */
static void what_is_freed_in_captures_is_had_between_them(void **state)
{
    for (unsigned i = 0; i < 2; i++) {
        CUstream stream = stream_new();
        struct berth_pool_audit audit;

        set_option("free", free_modes[i]);
        for (unsigned round = 0; round < 8; round++) {
            free_in_capture(stream, alloc(4 * BERTH_MIB));
            berth__pool_audit(&audit);
            assert_int_equal(audit.reserved, 4 * BERTH_MIB);
        }
        stream_delete(stream);
        assert_int_equal(after_each(state), 0);
    }
}

static bool is_whole(uintptr_t block)
{
    struct berth_block_view view;

    assert_int_equal(berth__pool_find(block, &view), 0);
    return view.is_whole;
}

/* A capture begins at the moment at which a point is to be recorded, as the shut door says. */
static void the_pool_does_not_grow_while_points_cannot_be_had(void **state)
{
    for (unsigned i = 0; i < 2; i++) {
        CUstream stream = stream_new();
        uintptr_t block;

        set_option("free", free_modes[i]);
        free_in_capture(stream, alloc(4 * BERTH_MIB));
        berth__order_shut();
        block = alloc(4 * BERTH_MIB);
        assert_true(is_whole(block));
        assert_int_equal(waiting(), 4 * BERTH_MIB);
        /* It goes as it came. */
        berth__order_open();
        free_in_capture(stream, block);
        assert_int_equal(waiting(), 4 * BERTH_MIB);
        block = alloc(4 * BERTH_MIB);
        assert_false(is_whole(block));
        assert_int_equal(waiting(), 0);
        assert_int_equal(berth__pool_free(block), 0);
        stream_delete(stream);
        assert_int_equal(after_each(state), 0);
    }
}

/* The same where what waits was freed lazily, and closed at such a moment. */
static void a_batch_without_a_point_keeps_the_pool_from_growing(void **state)
{
    uintptr_t first = alloc(4 * BERTH_MIB), second = alloc(4 * BERTH_MIB), block;

    set_option("waiting-max", "8M");
    berth__order_shut();
    assert_int_equal(berth__pool_free(first), 0);
    assert_int_equal(berth__pool_free(second), 0);
    block = alloc(4 * BERTH_MIB);
    berth__order_open();
    assert_true(is_whole(block));
    assert_int_equal(waiting(), 8 * BERTH_MIB);
    assert_int_equal(berth__pool_free(block), 0);
    assert_int_equal(waiting(), 0);
}

/* Such a batch waits for what ends the wait of what was freed in a capture, and for no other. */
static void a_batch_without_a_point_ends_with_a_synchronisation(void **state)
{
    uintptr_t lazily = alloc(4 * BERTH_MIB), captured = alloc(4 * BERTH_MIB);
    uintptr_t last = alloc(4 * BERTH_MIB), block;
    CUstream stream = stream_new();

    free_in_capture(stream, captured);
    assert_int_equal(berth__pool_free(lazily), 0);
    berth__order_shut();
    block = alloc(4 * BERTH_MIB);
    berth__order_open();
    assert_int_equal(waiting(), 8 * BERTH_MIB);
    set_option("free", "sync");
    assert_int_equal(berth__pool_free(last), 0);
    assert_int_equal(waiting(), 0);
    assert_int_equal(berth__pool_free(block), 0);
    stream_delete(stream);
}

static void *map_nothing(size_t size)
{
    return NULL;
}

/* There is no memory for the batch, so that no point is had; then there is. */
static void the_pool_does_not_grow_while_batches_cannot_be_had(void **state)
{
    void *(*map_really)(size_t) = berth__slab_map;
    struct berth_pool *pool;
    struct berth_slab slab;
    CUstream stream = stream_new();
    uintptr_t block;

    free_in_capture(stream, alloc(4 * BERTH_MIB));
    pool = pool_of_test();
    slab = pool->lazy.slab;
    pool->lazy.slab = (struct berth_slab){0};
    berth__slab_map = map_nothing;
    assert_false(berth__lazy_point_waiting(pool));
    berth__slab_map = map_really;
    pool->lazy.slab = slab;
    assert_int_equal(waiting(), 4 * BERTH_MIB);
    assert_true(berth__lazy_point_waiting(pool));
    block = alloc(4 * BERTH_MIB);
    assert_false(is_whole(block));
    assert_int_equal(waiting(), 0);
    assert_int_equal(berth__pool_free(block), 0);
    stream_delete(stream);
}

static void *settle_and_map_nothing(size_t size)
{
    struct berth_pool *pool = pool_of_test();

    berth__pool_settle(pool, pool->wait_epoch++);
    berth__slab_map = map_nothing;
    return NULL;
}

/* Another thread that synchronises takes what waits, just before it would have got a point. */
static void what_another_thread_took_needs_no_point(void **state)
{
    void *(*map_really)(size_t) = berth__slab_map;
    struct berth_pool *pool;
    struct berth_slab slab;
    CUstream stream = stream_new();

    free_in_capture(stream, alloc(4 * BERTH_MIB));
    assert_int_equal(waiting(), 4 * BERTH_MIB);
    pool = pool_of_test();
    slab = pool->lazy.slab;
    pool->lazy.slab = (struct berth_slab){0};
    berth__slab_map = settle_and_map_nothing;
    assert_true(berth__lazy_point_waiting(pool));
    assert_ptr_equal(berth__slab_map, map_nothing);
    berth__slab_map = map_really;
    pool->lazy.slab = slab;
    assert_int_equal(waiting(), 0);
    stream_delete(stream);
}

/*
 * A stream that ended in a capture is in no point until the context was synchronised: by any free,
 * although none of the pool's blocks waits, in either mode.
 */
static void any_free_that_synchronises_finds_what_was_lost(void **state)
{
    for (unsigned i = 0; i < 2; i++) {
        CUstream stream = stream_new(), other = stream_new();
        uintptr_t block = alloc(4 * BERTH_MIB);

        set_option("free", free_modes[i]);
        assert_true(berth__order_is_known((berth_cu_context)context));
        begin_capture(stream);
        stream_delete(other);
        end_capture(stream);
        assert_false(berth__order_is_known((berth_cu_context)context));
        assert_int_equal(waiting(), 0);
        assert_int_equal(berth__pool_free(block), 0);
        assert_true(berth__order_is_known((berth_cu_context)context));
        stream_delete(stream);
        assert_int_equal(after_each(state), 0);
    }
}

/*
 * No point tells of a stream that ended in a capture: then the driver serves all that the pool has
 * not, and a free of that is what ends the wait.
 */
static void a_free_that_synchronises_ends_the_wait(void **state)
{
    for (unsigned i = 0; i < 2; i++) {
        CUstream stream = stream_new(), other = stream_new();
        uintptr_t block = alloc(4 * BERTH_MIB);

        set_option("free", free_modes[i]);
        begin_capture(stream);
        stream_delete(other);
        end_capture(stream);
        free_in_capture(stream, block);
        block = alloc(4 * BERTH_MIB);
        assert_true(is_whole(block));
        assert_int_equal(waiting(), 4 * BERTH_MIB);
        assert_int_equal(berth__pool_free(block), 0);
        assert_int_equal(waiting(), 0);
        assert_true(berth__order_is_known((berth_cu_context)context));
        block = alloc(4 * BERTH_MIB);
        assert_false(is_whole(block));
        assert_int_equal(berth__pool_free(block), 0);
        stream_delete(stream);
        assert_int_equal(after_each(state), 0);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, before_each, after_each)

static int before_expanding(void **state)
{
    set_option("segments", "expandable");
    return before_each(state);
}

static int after_expanding(void **state)
{
    int r = after_each(state);

    set_option("segments", "own");
    return r;
}

#define EXPAND(name) cmocka_unit_test_setup_teardown(name, before_expanding, after_expanding)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_has_a_point_is_had_in_a_capture),
        CASE(a_point_is_waited_for_in_a_capture),
        CASE(what_has_no_point_is_had_in_a_capture),
        CASE(what_was_freed_in_a_capture_is_had_in_it),
        CASE(what_the_driver_keeps_in_a_capture_is_not_lost),
        EXPAND(what_is_freed_in_captures_is_had_between_them),
        EXPAND(the_pool_does_not_grow_while_points_cannot_be_had),
        EXPAND(a_batch_without_a_point_keeps_the_pool_from_growing),
        EXPAND(a_batch_without_a_point_ends_with_a_synchronisation),
        EXPAND(the_pool_does_not_grow_while_batches_cannot_be_had),
        EXPAND(what_another_thread_took_needs_no_point),
        EXPAND(any_free_that_synchronises_finds_what_was_lost),
        EXPAND(a_free_that_synchronises_ends_the_wait),
    };

    return cmocka_run_group_tests(tests, up, NULL);
}
