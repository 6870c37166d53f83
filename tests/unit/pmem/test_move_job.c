/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs that meet others: orders that come while a job waits for the program's quiescent step, or
 * works in one, and signals that arrive there.
 */
#include "alloc/move_door.h"
#include "alloc/sandbox.h"
#include "alloc/tier_ops.h"
#include "pmem/gate.h"
#include "pmem/host.h"
#include "pmem/jemalloc.h"
#include "pmem/move.h"
#include "pmem/move_fault.h"
#include "pmem/residency.h"
#include "tests/unit/pmem/move_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT 4
#define SIZE (200 * KIB)

static unsigned char *blocks[COUNT];

/* Has a job wait for a quiescent step, of which it moves blocks to `to`. */
static void have_job_wait(berth_tier_id to)
{
    struct berth_move_order order = {.from = BERTH_TIER_NONE, .to = to};
    struct berth_move_state state;
    uint64_t number;

    assert_int_equal(berth__move_door->start(&order, &number), 0);
    berth__move_door->run(NULL);
    berth__move_door->read(&state);
    assert_true(state.waits_for_quiet);
    assert_int_equal(state.result[BERTH_MOVE_QUIET].blocks, COUNT);
}

static int start(void **state)
{
    int r = fixture_start(state);

    if (r == 0 && fixture_disk() && !fixture_live_why)
        for (int i = 0; i < COUNT; i++) {
            blocks[i] = fixture_get(SIZE);
            fixture_fill(blocks[i], SIZE, (unsigned)i);
            assert_int_equal(fixture_move(blocks[i], tier_disk, false), BERTH_MOVE_MOVED);
        }
    return r;
}

static void needs_blocks(void)
{
    if (!blocks[0])
        skip();
}

static void blocks_are_right_in(const char *tier)
{
    for (int i = 0; i < COUNT; i++) {
        assert_string_equal(fixture_tier_of(blocks[i]), tier);
        assert_true(fixture_is_filled(blocks[i], SIZE, (unsigned)i));
    }
}

static int started_meanwhile;
static struct berth_move_state seen_meanwhile;

/* Another agent's order, in the middle of the first block's copy. */
static int start_meanwhile(enum berth_move_call call)
{
    struct berth_move_order order = {.from = BERTH_TIER_NONE, .to = BERTH_TIER_DRAM};
    uint64_t number;

    if (call == BERTH_CALL_READ && started_meanwhile == 0) {
        started_meanwhile = berth__move_door->start(&order, &number);
        berth__move_door->read(&seen_meanwhile);
    }
    return 0;
}

static void no_job_begins_while_a_quiescent_step_works_at_one(void **state)
{
    struct berth_move_state now;

    (void)state;
    needs_blocks();
    have_job_wait(tier_shm);
    started_meanwhile = 0;
    berth__move_inject = start_meanwhile;
    assert_int_equal(berth__move_door->quiet(), COUNT);
    berth__move_inject = NULL;
    assert_int_equal(started_meanwhile, -EBUSY);
    assert_true(seen_meanwhile.is_running);
    berth__move_door->read(&now);
    assert_false(now.is_running || now.waits_for_quiet);
    assert_int_equal(now.result[BERTH_MOVE_MOVED].blocks, COUNT);
    assert_int_equal(now.done.blocks, COUNT);
    blocks_are_right_in("shm");
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(fixture_move(blocks[i], tier_disk, false), BERTH_MOVE_MOVED);
}

static void a_step_does_nothing_while_a_job_is_to_begin(void **state)
{
    struct berth_move_order order = {.from = BERTH_TIER_NONE, .to = BERTH_TIER_DRAM};
    uint64_t number;

    (void)state;
    needs_blocks();
    have_job_wait(tier_shm);
    assert_int_equal(berth__move_door->start(&order, &number), 0);
    assert_int_equal(berth__move_door->quiet(), 0);
    berth__move_door->run(NULL);
    blocks_are_right_in("disk");
    assert_int_equal(berth__move_door->quiet(), COUNT);
    blocks_are_right_in("dram");
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(fixture_move(blocks[i], tier_disk, false), BERTH_MOVE_MOVED);
}

static void *step_when_told_to_end(void *ret)
{
    assert_int_equal(pthread_cancel(pthread_self()), 0);
    *(int *)ret = berth__move_door->quiet();
    return ret;
}

/* Files are opened and read on the way, at each of which it could end. */
static void a_thread_that_was_told_to_end_makes_its_step(void **state)
{
    struct berth_move_state now;
    pthread_t thread;
    int moved = -1;
    void *result;

    (void)state;
    needs_blocks();
    have_job_wait(tier_shm);
    assert_int_equal(pthread_create(&thread, NULL, step_when_told_to_end, &moved), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, &moved);
    assert_int_equal(moved, COUNT);
    berth__move_door->read(&now);
    assert_false(now.is_running || now.waits_for_quiet);
    blocks_are_right_in("shm");
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(fixture_move(blocks[i], tier_disk, false), BERTH_MOVE_MOVED);
}

static uint64_t copied_meanwhile;

static int read_meanwhile(enum berth_move_call call)
{
    struct berth_move_state now;

    if (call == BERTH_CALL_SWAP) {
        berth__move_door->read(&now);
        copied_meanwhile += now.copied;
    }
    return 0;
}

static void it_is_told_how_far_the_block_on_its_way_is(void **state)
{
    struct berth_move_state now;

    (void)state;
    needs_blocks();
    have_job_wait(tier_shm);
    berth__move_inject = read_meanwhile;
    assert_int_equal(berth__move_door->quiet(), COUNT);
    berth__move_inject = NULL;
    assert_true(copied_meanwhile >= COUNT * SIZE && copied_meanwhile < COUNT * (SIZE + 64 * KIB));
    berth__move_door->read(&now);
    assert_int_equal(now.copied, 0);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(fixture_move(blocks[i], tier_disk, false), BERTH_MOVE_MOVED);
}

static volatile sig_atomic_t handled, handled_within;

static void handle(int number)
{
    (void)number;
    handled++;
}

static int raise_meanwhile(enum berth_move_call call)
{
    if (call == BERTH_CALL_SWAP) {
        raise(SIGUSR1);
        handled_within |= handled > 0;
    }
    return 0;
}

/* A handler may fork, or touch what is half moved: it waits. */
static void signals_wait_for_the_end_of_a_step(void **state)
{
    (void)state;
    needs_blocks();
    have_job_wait(tier_shm);
    signal(SIGUSR1, handle);
    berth__move_inject = raise_meanwhile;
    assert_int_equal(berth__move_door->quiet(), COUNT);
    berth__move_inject = NULL;
    assert_false(handled_within);
    assert_int_equal(handled, 1);
    blocks_are_right_in("shm");
}

/* Nothing moves there, and the map of those that could may not be there yet. */
static void blocks_of_a_sandbox_are_no_movable_ones(void **state)
{
    unsigned char *before = fixture_get(SIZE), *p;

    (void)state;
    atomic_fetch_add(&berth__sandboxes, 1);
    p = fixture_get(SIZE);
    atomic_fetch_sub(&berth__sandboxes, 1);
    assert_true(berth__is_movable(before));
    assert_false(berth__gate_owns(p) && berth__is_movable(p));
    berth__host_free(before);
    berth_je_dallocx(p, 0); /* as it is in no window either */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_job_begins_while_a_quiescent_step_works_at_one),
        cmocka_unit_test(a_step_does_nothing_while_a_job_is_to_begin),
        cmocka_unit_test(a_thread_that_was_told_to_end_makes_its_step),
        cmocka_unit_test(it_is_told_how_far_the_block_on_its_way_is),
        cmocka_unit_test(blocks_of_a_sandbox_are_no_movable_ones),
        /* The last, because ThreadSanitizer takes all that follows it for its handler's. */
        cmocka_unit_test(signals_wait_for_the_end_of_a_step),
    };

    return cmocka_run_group_tests(tests, start, NULL);
}
