/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: memory is used again in the right order, and no earlier. Method: the pool and the streams
 * on the simulated driver, whose streams really run by themselves; a host function holds a stream
 * up until the test lets it go on. No case depends on how fast anything is.
 */
#include "alloc/cache.h"
#include "alloc/device_context.h"
#include "alloc/options.h"
#include "alloc/order.h"
#include "alloc/pool.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_lazy.h"
#include "alloc/pool_stream.h"
#include "alloc/tier_ops.h"

#include "cuda_api.h"
#include "order_fixture.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB(n) ((uint64_t)(n) << 20)

static void a_lazy_free_waits_for_the_work_before_it(void **state)
{
    uintptr_t block = alloc(SIZE);
    CUstream stream = busy_stream();

    assert_int_equal(berth__pool_free(block), 0);
    assert_int_equal(berth__pool_free(block), -EINVAL);
    assert_true(waiting() >= SIZE);
    assert_false(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_CLOSE));
    assert_false(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_LOOK));
    assert_true(waiting() >= SIZE);
    go_on();
    assert_true(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_LOOK));
    assert_int_equal(waiting(), 0);
    assert_int_equal(alloc(SIZE), block);
    assert_int_equal(berth__pool_free(block), 0);
    stream_delete(stream);
}

static CUstream idle_stream;

/* A driver whose points of a context do not see what streams do that were destroyed. */
static berth_cu_result record_elsewhere(berth_cu_context where, berth_cu_event event)
{
    return berth__driver.cuEventRecord(event, (berth_cu_stream)idle_stream);
}

static void a_lazy_free_waits_for_streams_that_are_no_more(void **state)
{
    berth_cu_result (*record)(berth_cu_context, berth_cu_event) = berth__driver.cuCtxRecordEvent;
    uintptr_t block = alloc(SIZE);

    idle_stream = stream_new();
    berth__driver.cuCtxRecordEvent = record_elsewhere;
    stream_delete(busy_stream());
    assert_int_equal(berth__pool_free(block), 0);
    assert_false(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_CLOSE));
    assert_true(waiting() >= SIZE);
    assert_int_equal(cuStreamSynchronize(idle_stream), 0);
    assert_false(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_LOOK));
    atomic_store(&may_go_on, true);
    while (!berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_LOOK))
        ;
    assert_int_equal(waiting(), 0);
    berth__driver.cuCtxRecordEvent = record;
    stream_delete(idle_stream);
}

static berth_cu_result (*query)(berth_cu_event event);
static atomic_bool is_asking, has_asked, may_answer;

/* The first one who asks about what is not done yet gets the answer late. */
static berth_cu_result query_slowly(berth_cu_event event)
{
    berth_cu_result result = query(event);

    if (result == BERTH_CU_NOT_READY && !atomic_exchange(&is_asking, true))
        while (!atomic_load(&may_answer))
            ;
    return result;
}

static void *ask(void *point)
{
    int r = berth__order_query(point);

    atomic_store(&has_asked, true);
    return (void *)(intptr_t)r;
}

static void two_that_ask_at_once_both_see_a_stream_that_is_no_more(void **state)
{
    berth_cu_result (*record)(berth_cu_context, berth_cu_event) = berth__driver.cuCtxRecordEvent;
    struct berth_order_point *first, *second;
    pthread_t thread;
    void *answer;

    idle_stream = stream_new();
    berth__driver.cuCtxRecordEvent = record_elsewhere;
    stream_delete(busy_stream());
    assert_int_equal(berth__order_record((berth_cu_context)context, &first), 0);
    assert_int_equal(berth__order_record((berth_cu_context)context, &second), 0);
    assert_int_equal(cuStreamSynchronize(idle_stream), 0);
    query = berth__driver.cuEventQuery;
    berth__driver.cuEventQuery = query_slowly;
    assert_int_equal(pthread_create(&thread, NULL, ask, first), 0);
    while (!atomic_load(&is_asking) && !atomic_load(&has_asked))
        ;
    assert_true(atomic_load(&is_asking));
    assert_int_equal(berth__order_query(second), 0);
    atomic_store(&may_answer, true);
    assert_int_equal(pthread_join(thread, &answer), 0);
    assert_ptr_equal(answer, NULL);
    atomic_store(&may_go_on, true);
    while (berth__order_query(second) != 1)
        ;
    assert_int_equal(berth__order_query(first), 1);
    berth__driver.cuEventQuery = query;
    berth__driver.cuCtxRecordEvent = record;
    berth__order_done(first);
    berth__order_done(second);
    stream_delete(idle_stream);
}

static void what_waits_is_used_before_the_driver_is_asked(void **state)
{
    uintptr_t block = alloc((uint64_t)8 << 20);
    struct berth_pool_audit before, after;

    assert_int_equal(berth__pool_free(block), 0);
    berth__pool_audit(&before);
    assert_int_equal(alloc((uint64_t)8 << 20), block);
    berth__pool_audit(&after);
    assert_int_equal(after.reserved, before.reserved);
    assert_int_equal(berth__pool_free(block), 0);
}

static void nothing_is_recorded_while_a_capture_is_open(void **state)
{
    CUstream stream = stream_new();
    uintptr_t block = alloc(SIZE);
    CUgraph graph = NULL;

    assert_int_equal(berth__pool_free(block), 0);
    berth__order_shut();
    assert_int_equal(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), 0);
    atomic_fetch_add(&berth__device_captures, 1);
    berth__order_open();
    assert_false(berth__order_enter());
    assert_false(berth__lazy_reclaim_all(pool_of_test(), BERTH_PATIENCE_LONG));
    assert_true(waiting() >= SIZE);
    /* The capture is still good. */
    assert_int_equal(cuStreamEndCapture(stream, &graph), 0);
    atomic_fetch_sub(&berth__device_captures, 1);
    assert_int_equal(cuGraphDestroy(graph), 0);
    assert_true(berth__lazy_reclaim_all(pool_of_test(), BERTH_PATIENCE_LONG));
    assert_int_equal(waiting(), 0);
    stream_delete(stream);
}

static void an_older_driver_records_each_stream(void **state)
{
    berth_cu_result (*record)(berth_cu_context, berth_cu_event) = berth__driver.cuCtxRecordEvent;
    uintptr_t block = alloc(SIZE);
    CUstream stream = busy_stream(), other = stream_new();

    berth__driver.cuCtxRecordEvent = NULL;
    assert_int_equal(berth__pool_free(block), 0);
    assert_false(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_CLOSE));
    assert_false(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_LOOK));
    go_on();
    assert_true(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_LOOK));
    assert_int_equal(waiting(), 0);
    /* A stream that nobody saw begin: from then on a free waits by itself. */
    assert_true(berth__lazy_is_possible((berth_cu_context)context, false));
    assert_int_equal(cuLaunchHostFunc(CU_STREAM_PER_THREAD, hold, NULL), 0);
    block = alloc_in(CU_STREAM_PER_THREAD, SIZE);
    free_in(CU_STREAM_PER_THREAD, block);
    assert_false(berth__lazy_is_possible((berth_cu_context)context, false));
    berth__driver.cuCtxRecordEvent = record;
    assert_true(berth__lazy_is_possible((berth_cu_context)context, false));
    stream_delete(stream);
    stream_delete(other);
}

/* A synchronisation tells what the point of a stream would have told. */
static void a_stream_that_ends_under_a_capture_is_made_up_for(void **state)
{
    CUstream stream = stream_new();

    assert_true(berth__lazy_is_possible((berth_cu_context)context, false));
    atomic_fetch_add(&berth__device_captures, 1);
    stream_delete(stream);
    atomic_fetch_sub(&berth__device_captures, 1);
    assert_false(berth__lazy_is_possible((berth_cu_context)context, false));
    assert_int_equal(berth__pool_free(alloc(SIZE)), 0);
    assert_int_equal(waiting(), 0);
    assert_true(berth__lazy_is_possible((berth_cu_context)context, false));
}

/*
 * Who asked whether points can be recorded, and enters the door later, may find that a stream was
 * lost meanwhile: no point says when its work is done.
 */
static void a_stream_that_is_lost_behind_an_answer_is_in_no_point(void **state)
{
    struct berth_order_point *point = NULL, *probed = NULL;
    uintptr_t block = alloc(SIZE);

    assert_int_equal(berth__order_probe((berth_cu_context)context, &probed), 1);
    assert_true(berth__order_is_known((berth_cu_context)context));
    atomic_fetch_add(&berth__device_captures, 1);
    stream_delete(busy_stream());
    atomic_fetch_sub(&berth__device_captures, 1);
    assert_int_equal(berth__order_record((berth_cu_context)context, &point), -ENOTSUP);
    assert_null(point);
    assert_int_equal(berth__order_probe((berth_cu_context)context, &probed), -ENOTSUP);
    atomic_store(&may_go_on, true);
    assert_int_equal(berth__pool_free(block), 0);
    assert_int_equal(berth__order_probe((berth_cu_context)context, &probed), 1);
    berth__order_done(probed);
}

static int count_visit(struct berth_stream *stream, void *argument)
{
    ++*(unsigned *)argument;
    return 0;
}

static unsigned visits(void)
{
    unsigned count = 0;

    berth__stream_each_cached(count_visit, &count);
    return count;
}

/* Streams whose handles have one hash are visited together: how many those are is chance. */
static void streams_without_cached_blocks_are_passed_over(void **state)
{
    enum { STREAMS = 200, FREED = 10 };
    CUstream stream[STREAMS];
    uintptr_t block[STREAMS];
    unsigned before, left;

    visits();
    assert_int_equal(visits(), 0);
    for (unsigned i = 0; i < STREAMS; i++) {
        stream[i] = stream_new();
        block[i] = alloc_in(stream[i], SIZE);
    }
    assert_int_equal(visits(), 0);
    for (unsigned i = 0; i < FREED; i++)
        free_in(stream[i], block[i]);
    before = visits();
    assert_in_range(before, FREED, STREAMS / 2);
    for (unsigned i = 1; i < FREED; i++)
        block[i] = alloc_in(stream[i], SIZE);
    assert_int_equal(visits(), before);
    left = visits();
    assert_in_range(left, 1, before - 1);
    block[0] = alloc_in(stream[0], SIZE);
    for (unsigned i = 0; i < STREAMS; i++) {
        free_in(stream[i], block[i]);
        stream_delete(stream[i]);
    }
    go_on();
    visits();
    assert_int_equal(visits(), 0);
}

static berth_cu_result refuse_event(berth_cu_context where, berth_cu_event event)
{
    return 719;
}

static berth_cu_result refuse_wait(void)
{
    return 700;
}

/* Open batches may then have half of what may wait: where a device was quick they have all. */
static void be_slow(void)
{
    uintptr_t block = alloc(SIZE);
    CUstream stream = busy_stream();

    assert_int_equal(berth__pool_free(block), 0);
    assert_false(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_CLOSE));
    go_on();
    assert_true(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_LOOK));
    stream_delete(stream);
}

static void a_point_that_fails_is_what_cuMemFree_answers(void **state)
{
    berth_cu_result (*record)(berth_cu_context, berth_cu_event) = berth__driver.cuCtxRecordEvent;
    berth_cu_result (*synchronise)(void) = berth__driver.cuCtxSynchronize;
    uintptr_t small, large;

    be_slow();
    small = alloc((uint64_t)8 << 20);
    set_option("waiting-max", "32M");
    large = alloc((uint64_t)12 << 20);
    assert_int_equal(berth__pool_free(small), 0);
    berth__driver.cuCtxRecordEvent = refuse_event;
    berth__driver.cuCtxSynchronize = refuse_wait;
    /* Too large for the open batch: it is closed. */
    assert_int_equal(berth__device_result(berth__pool_free(large)), 700);
    assert_true(waiting() >= (uint64_t)8 << 20 && waiting() < (uint64_t)12 << 20);
    berth__driver.cuCtxSynchronize = synchronise;
    /* Without points a free waits for the context. */
    assert_int_equal(berth__pool_free(large), 0);
    assert_int_equal(berth__pool_free(large), -EINVAL);
    berth__driver.cuCtxRecordEvent = record;
}

static void what_waits_has_a_cap(void **state)
{
    uintptr_t block[32];

    set_option("waiting-max", "1M");
    for (unsigned i = 0; i < 32; i++)
        block[i] = alloc((uint64_t)100 << 10);
    for (unsigned i = 0; i < 32; i++) {
        assert_int_equal(berth__pool_free(block[i]), 0);
        assert_true(waiting() <= BERTH_MIB);
    }
}

/* A large block that a thread kept could not join its neighbours. */
static void among_all_sizes_a_large_block_goes_to_the_pool(void **state)
{
    uintptr_t large, small;

    set_option("segments", "shared");
    large = alloc(SIZE);
    small = alloc(512);
    assert_int_equal(berth__pool_free(large), 0);
    assert_int_equal(berth__pool_free(small), 0);
    berth__lazy_reclaim_pools();
    assert_non_null(berth__cache_thread.last);
    assert_int_equal(berth__cache_thread.last->bytes, 512);
    set_option("segments", "own");
}

static void a_destroyed_context_takes_what_waits_along(void **state)
{
    berth_cu_context gone;
    CUcontext made = NULL;
    struct berth_pool_audit audit;

    assert_int_equal(cuCtxCreate_v4(&made, NULL, 0, 0), 0);
    use_context(made);
    gone = (berth_cu_context)made;
    assert_int_equal(berth__pool_free(alloc(SIZE)), 0);
    assert_int_equal(berth__pool_free(alloc((uint64_t)80 << 20)), 0);
    assert_int_equal(berth__pool_free(alloc((uint64_t)80 << 20)), 0);
    berth__pool_drop_begin(gone);
    berth__stream_drop_begin(gone);
    assert_int_equal(cuCtxDestroy_v2(made), 0);
    berth__stream_drop_end(gone, true, berth__stream_retire_idle);
    berth__stream_context_gone(gone);
    berth__pool_drop_end(gone, true);
    use_context(context);
    berth__pool_audit(&audit);
    assert_int_equal(audit.reserved, 0);
    assert_int_equal(audit.waiting, 0);
}

#define TRIES 64

static void what_waits_is_had_although_nobody_may_ask(void **state)
{
    struct berth_tier *tier = berth__tier(BERTH_TIER_DEVICE);
    CUcontext made = NULL;
    uintptr_t block[8], large;

    atomic_store(&tier->capacity, (uint64_t)16 << 20);
    for (unsigned i = 0; i < 8; i++)
        block[i] = alloc((uint64_t)2 << 20);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(berth__pool_free(block[i]), 0);
    assert_false(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_LOOK));
    /* Another thread is about to destroy a context, and then does, which takes its time. */
    berth__order_shut();
    for (unsigned i = 4; i < 8; i++)
        assert_int_equal(berth__pool_free(block[i]), 0);
    assert_true(cuCtxCreate_v4(&made, NULL, 0, 0) == 0 && cuCtxPopCurrent_v2(NULL) == 0);
    berth__stream_drop_begin((berth_cu_context)made);
    berth__order_open();
    large = alloc((uint64_t)12 << 20);
    assert_int_equal(waiting(), 0);
    assert_true(cuCtxDestroy_v2(made) == 0 && berth__pool_free(large) == 0);
    berth__stream_drop_end((berth_cu_context)made, true, berth__stream_retire_idle);
    atomic_store(&tier->capacity, 0);
}

static void what_a_dying_context_had_is_the_next_ones(void **state)
{
    struct berth_foreign foreign = {.size = SIZE, .tier = BERTH_TIER_DEVICE};
    CUstream stream = stream_new();
    CUcontext made = NULL;
    uintptr_t doomed, other, third, block[TRIES];
    unsigned count = 0;

    assert_int_equal(cuCtxCreate_v4(&made, NULL, 0, 0), 0);
    use_context(made);
    doomed = alloc(SIZE);
    other = alloc((uint64_t)8 << 20);
    third = alloc((uint64_t)4 << 20);
    berth__pool_drop_begin((berth_cu_context)made);
    berth__stream_drop_begin((berth_cu_context)made);
    assert_int_equal(cuCtxDestroy_v2(made), 0);
    /* Others get its addresses before the call has returned. */
    use_context(context);
    do {
        assert_true(count < TRIES);
        block[count++] = alloc_in(stream, SIZE);
    } while (block[count - 1] != doomed);
    assert_int_equal(berth__tier_reserve(BERTH_TIER_DEVICE, SIZE), 0);
    foreign.address = other;
    berth__foreign_add(&foreign);
    assert_int_equal(berth__pool_free(doomed), BERTH_POOL_FORWARD);
    assert_int_equal(berth__pool_free(other), BERTH_POOL_FORWARD);
    /* What a graph is given has no record. */
    berth__pool_forget_at(third, SIZE);
    assert_int_equal(berth__pool_free(third), BERTH_POOL_FORWARD);
    berth__stream_drop_end((berth_cu_context)made, true, berth__stream_retire_idle);
    berth__stream_context_gone((berth_cu_context)made);
    berth__pool_drop_end((berth_cu_context)made, true);
    while (count > 0)
        free_in(stream, block[--count]);
    assert_int_equal(berth__foreign_remove(other, &foreign), 0);
    berth__foreign_cancel(foreign.tier, foreign.size);
    stream_delete(stream);
}

static unsigned records_made;

static berth_cu_result count_record(berth_cu_context where, berth_cu_event event)
{
    records_made++;
    return 709;
}

static void a_dying_context_is_asked_for_nothing(void **state)
{
    berth_cu_result (*record)(berth_cu_context, berth_cu_event) = berth__driver.cuCtxRecordEvent;
    CUcontext made = NULL;

    assert_int_equal(cuCtxCreate_v4(&made, NULL, 0, 0), 0);
    use_context(made);
    assert_int_equal(berth__pool_free(alloc(SIZE)), 0);
    use_context(context);
    berth__driver.cuCtxRecordEvent = count_record;
    berth__pool_drop_begin((berth_cu_context)made);
    berth__lazy_reclaim_pools();
    assert_int_equal(records_made, 0);
    berth__driver.cuCtxRecordEvent = record;
    berth__stream_drop_begin((berth_cu_context)made);
    assert_int_equal(cuCtxDestroy_v2(made), 0);
    berth__stream_drop_end((berth_cu_context)made, true, berth__stream_retire_idle);
    berth__pool_drop_end((berth_cu_context)made, true);
}

/* Whether the driver is told depends on how many blocks of a segment have the mark. */
static void a_block_that_is_freed_lazily_takes_its_mark_along(void **state)
{
    uintptr_t first = alloc(SIZE), second = alloc(SIZE);

    assert_true(berth__pool_set_sync_memops(first, true));
    assert_true(berth__pool_set_sync_memops(second, true));
    assert_false(berth__pool_set_sync_memops(first, false));
    assert_true(berth__pool_set_sync_memops(first, true));
    assert_int_equal(berth__pool_free(first), 0);
    assert_true(berth__pool_set_sync_memops(second, false));
    assert_int_equal(berth__pool_free(second), 0);
}

static void a_stream_gets_its_own_block_back_at_once(void **state)
{
    CUstream stream = busy_stream();
    uintptr_t block = alloc_in(stream, SIZE);
    struct berth_block_view view;

    assert_int_equal(berth__stream_find_block(block + 5, &view), 0);
    assert_int_equal(view.requested, SIZE);
    free_in(stream, block);
    assert_int_equal(berth__stream_free(block, (berth_cu_stream)stream), -EINVAL);
    assert_int_equal(berth__stream_find_block(block, &view), -EFAULT);
    assert_int_equal(alloc_in(stream, SIZE), block);
    assert_int_equal(berth__stream_free(block + 512, (berth_cu_stream)stream), -EINVAL);
    free_in(stream, block);
    go_on();
    stream_delete(stream);
}

static void another_stream_waits_or_finds_it_idle(void **state)
{
    CUstream first = busy_stream(), second = stream_new();
    uint64_t waits = berth__stream_counts.waiting_reuses, idle = berth__stream_counts.idle_reuses;
    uintptr_t block = alloc_in(first, SIZE), other;

    free_in(first, block);
    /* What the first one does may wait for the second: not while there is other memory. */
    other = alloc_in(second, SIZE);
    assert_int_not_equal(other, block);
    assert_int_equal(cuStreamQuery(second), 0);
    refuse_in_order(1);
    assert_int_equal(alloc_in(second, SIZE), block);
    assert_int_equal(berth__stream_counts.waiting_reuses, waits + 1);
    /* What is queued in the second one now comes after the first one's work. */
    assert_int_equal(cuStreamQuery(second), CUDA_ERROR_NOT_READY);
    go_on();
    free_in(second, other);
    free_in(second, block);
    assert_int_equal(alloc_in(first, SIZE), block);
    assert_int_equal(berth__stream_counts.idle_reuses, idle + 1);
    free_in(first, block);
    stream_delete(first);
    stream_delete(second);
}

static void a_program_can_forbid_dependencies(void **state)
{
    CUstream first = busy_stream(), second = stream_new();
    CUmemoryPool pool = NULL;
    uintptr_t block = alloc_in(first, SIZE), other;
    int value = 0;

    assert_int_equal(cuDeviceGetDefaultMemPool(&pool, 0), 0);
    berth__stream_attribute_set((berth_cu_pool)pool, BERTH_CU_POOL_REUSE_DEPENDENCIES, &value);
    free_in(first, block);
    refuse_in_order(1);
    other = alloc_in(second, SIZE);
    assert_int_not_equal(other, block);
    assert_int_equal(refusals, 1);
    value = 1;
    berth__stream_attribute_set((berth_cu_pool)pool, BERTH_CU_POOL_REUSE_DEPENDENCIES, &value);
    free_in(second, other);
    go_on();
    stream_delete(first);
    stream_delete(second);
}

static void a_destroyed_stream_keeps_its_blocks_until_its_work_is_done(void **state)
{
    CUstream first = busy_stream(), second = stream_new();
    uintptr_t block = alloc_in(first, SIZE), other;
    struct berth_stream_audit audit;

    free_in(first, block);
    stream_delete(first);
    other = alloc_in(second, SIZE);
    assert_int_not_equal(other, block);
    berth__stream_audit(&audit);
    assert_true(audit.retired >= SIZE);
    free_in(second, other);
    /* The work of a stream that is no more is in no synchronisation: its point says when. */
    atomic_store(&may_go_on, true);
    do {
        berth__stream_release(0);
        berth__stream_audit(&audit);
    } while (audit.reserved > 0);
    stream_delete(second);
}

static berth_cu_result nothing_to_do(berth_cu_stream stream)
{
    return BERTH_CU_SUCCESS;
}

/* Whoever had the handle before was destroyed unseen: what is asked of it tells of another one. */
static void a_handle_that_comes_again_is_another_stream(void **state)
{
    CUstream first = busy_stream(), second = stream_new();
    uintptr_t block = alloc_in(first, SIZE), other;

    free_in(first, block);
    berth__stream_made((berth_cu_stream)first);
    berth__driver.cuStreamQuery = nothing_to_do;
    other = alloc_in(second, SIZE);
    assert_int_not_equal(other, block);
    free_in(second, other);
    go_on();
    stream_delete(first);
    stream_delete(second);
}

static void *free_in_own_stream(void *argument)
{
    uintptr_t *block = argument;

    if (cuCtxSetCurrent(context) != 0)
        return NULL;
    *block = alloc_in(CU_STREAM_PER_THREAD, SIZE);
    free_in(CU_STREAM_PER_THREAD, *block);
    return argument;
}

static void default_streams_are_not_one_another(void **state)
{
    pthread_t thread;
    uintptr_t theirs = 0, mine;
    void *result = NULL;

    /* Two threads' own streams, and the legacy one: each has its set. */
    mine = alloc_in(CU_STREAM_PER_THREAD, SIZE);
    free_in(CU_STREAM_PER_THREAD, mine);
    assert_int_equal(pthread_create(&thread, NULL, free_in_own_stream, &theirs), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_non_null(result);
    assert_int_not_equal(theirs, mine);
    assert_int_equal(alloc_in(CU_STREAM_PER_THREAD, SIZE), mine);
    free_in(CU_STREAM_PER_THREAD, mine);
}

static pthread_key_t late_key;
static uintptr_t late_block, next_block;
static atomic_int late_step;

static void await_step(int step)
{
    while (atomic_load(&late_step) < step)
        ;
}

/* Runs after Berth has seen the thread end. The simulated driver has forgotten its context. */
static void free_late(void *argument)
{
    if (cuCtxSetCurrent(context) != 0 || cuLaunchHostFunc(CU_STREAM_PER_THREAD, hold, NULL) != 0)
        abort();
    atomic_store(&late_step, 1);
    await_step(2);
    if (berth__stream_free(late_block, BERTH_STREAM_PER_THREAD) != 0)
        abort();
    atomic_store(&late_step, 3);
    await_step(4);
}

static void *end_late(void *argument)
{
    use_context(context);
    late_block = alloc_in(CU_STREAM_PER_THREAD, SIZE);
    pthread_setspecific(late_key, &late_block);
    return NULL;
}

static void *come_next(void *argument)
{
    await_step(1);
    use_context(context);
    free_in(CU_STREAM_PER_THREAD, alloc_in(CU_STREAM_PER_THREAD, 3 * SIZE));
    atomic_store(&late_step, 2);
    await_step(3);
    next_block = alloc_in(CU_STREAM_PER_THREAD, SIZE);
    atomic_store(&late_step, 4);
    free_in(CU_STREAM_PER_THREAD, next_block);
    return NULL;
}

static void a_thread_that_ends_frees_in_no_other_threads_stream(void **state)
{
    pthread_t first, second;

    /* Berth's own key comes first, and so does its destructor. */
    free_in(CU_STREAM_PER_THREAD, alloc_in(CU_STREAM_PER_THREAD, SIZE));
    berth__stream_release(0);
    assert_int_equal(pthread_key_create(&late_key, free_late), 0);
    assert_int_equal(pthread_create(&first, NULL, end_late, NULL), 0);
    assert_int_equal(pthread_create(&second, NULL, come_next, NULL), 0);
    assert_int_equal(pthread_join(second, NULL), 0);
    atomic_store(&may_go_on, true);
    assert_int_equal(pthread_join(first, NULL), 0);
    assert_int_not_equal(next_block, late_block);
    pthread_key_delete(late_key);
}

/* Another thread may destroy the context: nothing is asked of it outside the door. */
static void cached_blocks_are_released_without_a_synchronisation(void **state)
{
    berth_cu_result (*synchronise)(void) = berth__driver.cuCtxSynchronize;
    CUstream stream = stream_new();

    free_in(stream, alloc_in(stream, SIZE));
    berth__driver.cuCtxSynchronize = refuse_wait;
    assert_true(berth__stream_release(0) >= SIZE);
    berth__driver.cuCtxSynchronize = synchronise;
    stream_delete(stream);
}

/* A block that an idle allocation of more bytes than it needs has served; `*ret_rest` lives, too.
 */
static uintptr_t larger_block(uintptr_t *ret_rest)
{
    struct berth_block_view view;
    uintptr_t idle, block;

    set_option("free", "sync");
    *ret_rest = alloc(MIB(128));
    idle = alloc(MIB(20));
    assert_int_equal(berth__pool_free(idle), 0);
    block = alloc(MIB(16));
    assert_int_equal(block, idle);
    assert_int_equal(berth__pool_find(block, &view), 0);
    assert_int_equal(view.held, MIB(20));
    return block;
}

/* No thread's cache takes such a block: its way back is another one than that of most. */
static void a_block_that_holds_more_waits_for_the_work_before_it(void **state)
{
    uintptr_t rest, block = larger_block(&rest);
    CUstream stream = busy_stream();

    set_option("free", "lazy");
    assert_int_equal(berth__pool_free(block), 0);
    assert_int_equal(waiting(), MIB(20));
    assert_false(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_CLOSE));
    assert_false(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_LOOK));
    assert_int_equal(waiting(), MIB(20));
    go_on();
    assert_true(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_LOOK));
    assert_int_equal(waiting(), 0);
    assert_int_equal(berth__pool_free(rest), 0);
    stream_delete(stream);
}

static berth_cu_result (*synchronise_once)(void);
static unsigned synchronisations;

static berth_cu_result count_wait(void)
{
    synchronisations++;
    return synchronise_once();
}

static void a_block_that_holds_more_is_freed_behind_a_synchronisation(void **state)
{
    uintptr_t rest, block = larger_block(&rest);

    synchronise_once = berth__driver.cuCtxSynchronize;
    berth__driver.cuCtxSynchronize = count_wait;
    synchronisations = 0;
    assert_int_equal(berth__pool_free(block), 0);
    assert_int_equal(synchronisations, 1);
    assert_int_equal(berth__pool_free(rest), 0);
    assert_int_equal(synchronisations, 2);
    berth__driver.cuCtxSynchronize = synchronise_once;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, before_each, after_each)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_lazy_free_waits_for_the_work_before_it),
        CASE(a_block_that_holds_more_waits_for_the_work_before_it),
        CASE(a_block_that_holds_more_is_freed_behind_a_synchronisation),
        CASE(a_lazy_free_waits_for_streams_that_are_no_more),
        CASE(two_that_ask_at_once_both_see_a_stream_that_is_no_more),
        CASE(what_waits_is_used_before_the_driver_is_asked),
        CASE(nothing_is_recorded_while_a_capture_is_open),
        CASE(a_stream_that_ends_under_a_capture_is_made_up_for),
        CASE(a_stream_that_is_lost_behind_an_answer_is_in_no_point),
        CASE(streams_without_cached_blocks_are_passed_over),
        CASE(cached_blocks_are_released_without_a_synchronisation),
        CASE(an_older_driver_records_each_stream),
        CASE(a_point_that_fails_is_what_cuMemFree_answers),
        CASE(what_waits_has_a_cap),
        CASE(among_all_sizes_a_large_block_goes_to_the_pool),
        CASE(a_destroyed_context_takes_what_waits_along),
        CASE(what_waits_is_had_although_nobody_may_ask),
        CASE(what_a_dying_context_had_is_the_next_ones),
        CASE(a_dying_context_is_asked_for_nothing),
        CASE(a_block_that_is_freed_lazily_takes_its_mark_along),
        CASE(a_stream_gets_its_own_block_back_at_once),
        CASE(another_stream_waits_or_finds_it_idle),
        CASE(a_program_can_forbid_dependencies),
        CASE(a_destroyed_stream_keeps_its_blocks_until_its_work_is_done),
        CASE(a_handle_that_comes_again_is_another_stream),
        CASE(default_streams_are_not_one_another),
        CASE(a_thread_that_ends_frees_in_no_other_threads_stream),
    };

    return cmocka_run_group_tests(tests, up, NULL);
}
