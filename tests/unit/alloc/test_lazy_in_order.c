/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: blocks that are freed in the order of a stream, which no free may wait for, and that share
 * their segment, so that the driver cannot have them in that order, may be more than the cap; but
 * they are counted, and no allocation is refused for their sake. Method: a small device, and a
 * stream that goes on only when somebody is seen to wait.
 */
#include "order_fixture.h"

#include "alloc/order.h"
#include "alloc/pool.h"
#include "alloc/pool_lazy.h"
#include "alloc/pool_parts.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MIB(n) ((uint64_t)(n) << 20)
#define BLOCKS 40 /* most of the device */

static uintptr_t blocks[BLOCKS];

/* Frees them behind work that lasts until the test lets it go on. */
static CUstream free_behind_work(void)
{
    CUstream stream;

    set_option("waiting-max", "4M");
    for (unsigned i = 0; i < BLOCKS; i++)
        blocks[i] = alloc(MIB(1));
    stream = busy_stream();
    for (unsigned i = 0; i < BLOCKS; i++)
        assert_int_equal(berth__pool_free_later(blocks[i], berth__driver.cuMemFreeAsync,
                                                (berth_cu_stream)stream),
                         0);
    return stream;
}

static void what_nobody_may_wait_for_is_counted(void **state)
{
    CUstream stream = free_behind_work();

    assert_int_equal(waiting(), MIB(BLOCKS));
    assert_int_equal(berth__lazy_waiting(0), MIB(BLOCKS));
    go_on();
    stream_delete(stream);
}

/* The next free that may wait keeps what is closed within its share. */
static void a_free_that_may_wait_looks_after_it(void **state)
{
    uintptr_t block = alloc(MIB(1));
    CUstream stream = free_behind_work();

    atomic_store(&may_go_on, true);
    assert_int_equal(berth__pool_free(block), 0);
    assert_true(waiting() <= MIB(4));
    stream_delete(stream);
}

static uint64_t waits_before;

static void *go_on_when_awaited(void *argument)
{
    while (atomic_load(&berth__lazy_counts.waits) == waits_before)
        sched_yield();
    atomic_store(&may_go_on, true);
    return NULL;
}

static void it_is_waited_for_before_memory_is_out(void **state)
{
    CUstream stream = free_behind_work();
    uintptr_t large;
    pthread_t thread;

    waits_before = atomic_load(&berth__lazy_counts.waits);
    assert_int_equal(pthread_create(&thread, NULL, go_on_when_awaited, NULL), 0);
    large = alloc(MIB(48));
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(berth__pool_free(large), 0);
    stream_delete(stream);
}

/* Likewise in the order of another stream. */
static void it_is_waited_for_in_the_order_of_a_stream(void **state)
{
    CUstream stream = free_behind_work(), other = stream_new();
    uintptr_t large;
    pthread_t thread;

    waits_before = atomic_load(&berth__lazy_counts.waits);
    assert_int_equal(pthread_create(&thread, NULL, go_on_when_awaited, NULL), 0);
    large = alloc_in(other, MIB(48));
    assert_int_equal(pthread_join(thread, NULL), 0);
    free_in(other, large);
    stream_delete(stream);
    stream_delete(other);
}

static int ask_for(uint64_t size)
{
    const struct berth_pool_request request = {.size = size, .tier = BERTH_TIER_DEVICE};
    uintptr_t address;

    return berth__pool_alloc(&request, &address);
}

/* The work may wait for this thread: it is waited for once, and natively not at all. */
static void it_is_waited_for_in_vain_once(void **state)
{
    CUstream stream = free_behind_work();
    uint64_t before = atomic_load(&berth__lazy_counts.waits);

    assert_int_equal(ask_for(MIB(48)), -ENOMEM);
    assert_int_equal(atomic_load(&berth__lazy_counts.waits), before + 1);
    assert_int_equal(ask_for(MIB(48)), -ENOMEM);
    assert_int_equal(atomic_load(&berth__lazy_counts.waits), before + 1);
    go_on();
    stream_delete(stream);
}

static void *go_on_when_awaited_again(void *argument)
{
    while (atomic_load(&berth__lazy_counts.waits) < waits_before + 2)
        sched_yield();
    atomic_store(&may_go_on, true);
    return NULL;
}

/* What cuMemFree gave back natively has waited for the work, however long that takes. */
static void it_is_waited_for_again_for_the_sake_of_a_free(void **state)
{
    uintptr_t block = alloc(MIB(1));
    CUstream stream = free_behind_work();
    pthread_t thread;

    set_option("waiting-max", "64M");
    assert_int_equal(berth__pool_free(block), 0);
    waits_before = atomic_load(&berth__lazy_counts.waits);
    assert_int_equal(pthread_create(&thread, NULL, go_on_when_awaited_again, NULL), 0);
    assert_int_equal(berth__pool_free(alloc(MIB(48))), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    stream_delete(stream);
}

/* What was freed in the order of a stream is as old as it is, when idle memory makes room. */
static void it_is_replaced_when_it_is_the_oldest(void **state)
{
    CUstream stream = stream_new();
    struct berth_pool *pool;
    uintptr_t first, second;

    set_option("waiting-max", "64M");
    first = alloc(MIB(6));
    second = alloc(MIB(8));
    pool = pool_of_test();
    assert_int_equal(
        berth__pool_free_later(first, berth__driver.cuMemFreeAsync, (berth_cu_stream)stream), 0);
    assert_int_equal(berth__pool_free(second), 0);
    assert_int_equal(waiting(), MIB(14));
    go_on();
    assert_true(berth__lazy_reclaim_all(pool, BERTH_PATIENCE_LONG));
    assert_int_equal(berth__pool_replace(pool, 0, 1), MIB(6));
    stream_delete(stream);
}

static void *go_on_when_memory_is_short(void *argument)
{
    struct berth_pool *pool = pool_of_test();
    bool is_awaited;

    do {
        berth__pool_lock(pool);
        is_awaited = pool->quiet && pool->quiet->waiters > 0;
        berth__pool_unlock(pool);
        sched_yield();
    } while (!is_awaited);
    atomic_store(&may_go_on, true);
    return NULL;
}

/* More than may wait, of a block alone in its segment: that is the driver's, behind the same work.
 */
static CUstream give_behind_work(void)
{
    uintptr_t block;
    CUstream stream;

    set_option("waiting-max", "4M");
    block = alloc(MIB(48));
    stream = busy_stream();
    assert_int_equal(
        berth__pool_free_later(block, berth__driver.cuMemFreeAsync, (berth_cu_stream)stream), 0);
    assert_int_equal(waiting(), 0);
    return stream;
}

static void what_the_driver_was_given_is_waited_for(void **state)
{
    CUstream stream = give_behind_work();
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, go_on_when_memory_is_short, NULL), 0);
    assert_int_equal(berth__pool_free(alloc(MIB(48))), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    stream_delete(stream);
}

static void likewise_in_the_order_of_a_stream(void **state)
{
    CUstream stream = give_behind_work(), other = stream_new();
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, go_on_when_memory_is_short, NULL), 0);
    free_in(other, alloc_in(other, MIB(48)));
    assert_int_equal(pthread_join(thread, NULL), 0);
    stream_delete(stream);
    stream_delete(other);
}

struct asking {
    CUcontext context;
    uintptr_t address;
    int result;
};

static atomic_uint answered;

static void *ask(void *argument)
{
    const struct berth_pool_request request = {.size = MIB(20), .tier = BERTH_TIER_DEVICE};
    struct asking *asking = argument;

    use_context(asking->context);
    asking->result = berth__pool_alloc(&request, &asking->address);
    atomic_fetch_add(&answered, 1);
    return NULL;
}

/* Or somebody was answered, by then. */
static void await_waiters(unsigned count)
{
    struct berth_pool *pool = pool_of_test();
    bool is_awaited;

    do {
        berth__pool_lock(pool);
        is_awaited = pool->quiet && pool->quiet->waiters >= count;
        berth__pool_unlock(pool);
        sched_yield();
    } while (!is_awaited && atomic_load(&answered) == 0);
}

/* Who comes while another one waits for it is not refused for that. */
static void it_is_waited_for_by_all_who_need_it(void **state)
{
    struct asking asking[2] = {{.context = context}, {.context = context}};
    CUstream stream = give_behind_work();
    pthread_t threads[2];

    (void)state;
    atomic_store(&answered, 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, ask, &asking[i]), 0);
        await_waiters(i + 1);
    }
    atomic_store(&may_go_on, true);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(asking[i].result, 0);
        assert_int_equal(berth__pool_free(asking[i].address), 0);
    }
    stream_delete(stream);
}

/* Where another thread lets the work go on, it may be long until that one runs at all. */
static int before_patient(void **state)
{
    berth__pool_patience_ns[BERTH_PATIENCE_SHORT] = berth__pool_patience_ns[BERTH_PATIENCE_LONG];
    return before_each(state);
}

static int after_patient(void **state)
{
    berth__pool_patience_ns[BERTH_PATIENCE_SHORT] = 1000000000;
    return after_each(state);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, before_each, after_each)
#define PATIENT(name) cmocka_unit_test_setup_teardown(name, before_patient, after_patient)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_nobody_may_wait_for_is_counted),
        CASE(a_free_that_may_wait_looks_after_it),
        CASE(it_is_waited_for_before_memory_is_out),
        CASE(it_is_waited_for_in_the_order_of_a_stream),
        CASE(it_is_waited_for_in_vain_once),
        CASE(it_is_waited_for_again_for_the_sake_of_a_free),
        CASE(it_is_replaced_when_it_is_the_oldest),
        PATIENT(what_the_driver_was_given_is_waited_for),
        PATIENT(likewise_in_the_order_of_a_stream),
        PATIENT(it_is_waited_for_by_all_who_need_it),
    };

    return cmocka_run_group_tests(tests, up, NULL);
}
