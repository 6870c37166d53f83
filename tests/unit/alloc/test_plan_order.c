/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a place of a plan is given to the next call that is to have it only when the work that was
 * queued before the last one's free has passed. Method: a plan in which all calls have one place,
 * followed while a stream is at work, however the block was freed.
 */
#include "order_fixture.h"

#include "alloc/order.h"
#include "alloc/plan_file.h"
#include "alloc/pool.h"
#include "alloc/pool_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define ENTRIES 64
#define PLACE 0

static struct {
    struct berth_plan_header header;
    struct berth_plan_lane lane;
    struct berth_plan_entry entries[ENTRIES];
} file;

static int plan_load(void **state)
{
    char why[BERTH_PLAN_WHY_MAX];

    file.lane = (struct berth_plan_lane){0, ENTRIES, 0, ENTRIES};
    file.header.checksum = berth__plan_file_checksum(&file, sizeof(file));
    atomic_store(&berth__pool_plan, NULL);
    return before_each(state) == 0 &&
                   berth__pool_plan_load(&file, sizeof(file), why, sizeof(why)) == 0
               ? 0
               : -1;
}

static int plan_up(void **state)
{
    file.header = (struct berth_plan_header){BERTH_PLAN_MAGIC, 0, 0, 1, ENTRIES, SIZE, 0};
    for (unsigned i = 0; i < ENTRIES; i++)
        file.entries[i] = (struct berth_plan_entry){SIZE, PLACE};
    return plan_load(state);
}

/* One place beside the other, of sizes that differ; but for one, which is as large as the first. */
static int run_up(void **state)
{
    uint64_t at = 0;

    for (unsigned i = 0; i < ENTRIES; i++) {
        file.entries[i] =
            (struct berth_plan_entry){i == ENTRIES / 2 + 2 ? SIZE : SIZE + i * 512, at};
        at += file.entries[i].size;
    }
    file.header = (struct berth_plan_header){BERTH_PLAN_MAGIC, 0, 0, 1, ENTRIES, at, 0};
    return plan_load(state);
}

static int plan_down(void **state)
{
    int r = after_each(state);

    atomic_store(&berth__pool_plan, NULL);
    return r;
}

static uint64_t hits(void)
{
    struct berth_pool_plan_reading reading;

    assert_true(berth__pool_plan_read(&reading));
    return reading.hits;
}

/* `planned` was freed while the stream was at work: it is nobody's until go_on(), then planned. */
static void check_reuse(uintptr_t planned, CUstream busy)
{
    uintptr_t other[ENTRIES / 4];
    uint64_t before = hits();

    for (unsigned i = 0; i < ENTRIES / 4; i++) {
        other[i] = alloc(SIZE);
        assert_false(other[i] < planned + SIZE && planned < other[i] + SIZE);
    }
    assert_int_equal(hits(), before);
    go_on();
    for (unsigned i = 0; i < ENTRIES / 4; i++)
        assert_int_equal(berth__pool_free(other[i]), 0);
    other[0] = alloc(SIZE);
    assert_int_equal(other[0], planned);
    assert_int_equal(hits(), before + 1);
    assert_int_equal(berth__pool_free(other[0]), 0);
    stream_delete(busy);
}

static void a_place_waits_for_the_work_before_its_free(void **state)
{
    uintptr_t planned = alloc(SIZE);
    CUstream busy = busy_stream();

    assert_int_equal(hits(), 1);
    assert_int_equal(berth__pool_free(planned), 0);
    check_reuse(planned, busy);
}

/* The option is sync, but the caller, an extension's deallocator, is owed no synchronisation. */
static void a_place_that_is_freed_later_waits_too(void **state)
{
    uintptr_t planned = alloc(SIZE);
    CUstream busy = busy_stream();

    set_option("free", "sync");
    assert_int_equal(berth__pool_free_later(planned, NULL, NULL), 0);
    check_reuse(planned, busy);
}

/* Begun, with what is to be freed in it, while no stream is at work yet. */
static void a_place_that_is_freed_in_a_capture_waits_too(void **state)
{
    const char *const modes[] = {"lazy", "sync"};

    for (unsigned i = 0; i < 2; i++) {
        uintptr_t planned = alloc(SIZE);
        CUstream stream = stream_new(), busy = busy_stream();
        CUgraph graph = NULL;

        set_option("free", modes[i]);
        berth__order_shut();
        assert_int_equal(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED), 0);
        atomic_fetch_add(&berth__device_captures, 1);
        berth__order_open();
        assert_int_equal(berth__pool_free(planned), 0);
        assert_int_equal(cuStreamEndCapture(stream, &graph), 0);
        atomic_fetch_sub(&berth__device_captures, 1);
        assert_int_equal(cuGraphDestroy(graph), 0);
        stream_delete(stream);
        check_reuse(planned, busy);
        atomic_store(&may_go_on, false);
    }
}

/* The run ends in the midst of the plan; the next one's first size comes again near there. */
static void a_run_begins_again_where_nothing_lives(void **state)
{
    const char *const modes[] = {"sync", "lazy"};
    uintptr_t blocks[ENTRIES / 2], first = 0;

    for (unsigned i = 0; i < 2; i++) {
        set_option("free", modes[i]);
        for (unsigned k = 0; k < ENTRIES / 2; k++) {
            blocks[k] = alloc(file.entries[k].size);
            if (first == 0)
                first = blocks[0];
            assert_int_equal(blocks[k], first + file.entries[k].offset);
        }
        for (unsigned k = 0; k < ENTRIES / 2; k++)
            assert_int_equal(berth__pool_free(blocks[k]), 0);
    }
    /* Also behind what waits. */
    blocks[0] = alloc(SIZE);
    assert_int_equal(blocks[0], first);
    assert_int_equal(berth__pool_free(blocks[0]), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, plan_up, plan_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_place_waits_for_the_work_before_its_free),
        CASE(a_place_that_is_freed_later_waits_too),
        CASE(a_place_that_is_freed_in_a_capture_waits_too),
        cmocka_unit_test_setup_teardown(a_run_begins_again_where_nothing_lives, run_up, plan_down),
    };

    return cmocka_run_group_tests(tests, up, NULL);
}
