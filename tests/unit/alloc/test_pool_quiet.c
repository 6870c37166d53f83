/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: nobody waits for the device longer than alloc/pool_quiet.h says, however many threads ask,
 * and whoever has the door of alloc/order.h shut meanwhile; and what is nearest is given back
 * first. Method: the simulated driver with a stream that is held up; its calls are counted, and a
 * pause of a thread that waits is where other threads have their turn.
 */
#include "order_fixture.h"

#include "alloc/limit.h"
#include "alloc/order.h"
#include "alloc/pool.h"
#include "alloc/pool_lazy.h"
#include "alloc/pool_parts.h"
#include "alloc/pool_stream.h"
#include "alloc/tier_ops.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define MIB(n) ((uint64_t)(n) << 20)

/* Called at each pause; NULL: for nothing. */
static void (*_Atomic at_pause)(void);
static atomic_uint pauses;

int __real_clock_nanosleep(clockid_t clock, int flags, const struct timespec *time,
                           struct timespec *rest);
int __wrap_clock_nanosleep(clockid_t clock, int flags, const struct timespec *time,
                           struct timespec *rest);

int __wrap_clock_nanosleep(clockid_t clock, int flags, const struct timespec *time,
                           struct timespec *rest)
{
    void (*call)(void) = atomic_load(&at_pause);

    atomic_fetch_add(&pauses, 1);
    if (call)
        call();
    return __real_clock_nanosleep(clock, flags, time, rest);
}

static atomic_uint records, frees, waits;
static struct berth_driver real;

static berth_cu_result count_record(berth_cu_context of, berth_cu_event event)
{
    atomic_fetch_add(&records, 1);
    return real.cuCtxRecordEvent(of, event);
}

/* What is held up never ends by itself: the case would. */
static berth_cu_result count_free(berth_cu_address address)
{
    atomic_fetch_add(&frees, 1);
    atomic_store(&may_go_on, true);
    return real.cuMemFree_v2(address);
}

static berth_cu_result count_wait(void)
{
    atomic_fetch_add(&waits, 1);
    atomic_store(&may_go_on, true);
    return real.cuCtxSynchronize();
}

static int set_up(void **state)
{
    int r = before_each(state);

    real = berth__driver;
    berth__driver.cuCtxRecordEvent = count_record;
    berth__driver.cuMemFree_v2 = count_free;
    berth__driver.cuCtxSynchronize = count_wait;
    atomic_store(&records, 0);
    atomic_store(&frees, 0);
    atomic_store(&waits, 0);
    return r;
}

static int tear_down(void **state)
{
    atomic_store(&at_pause, NULL);
    berth__driver = real;
    atomic_store(&berth__tier(BERTH_TIER_DEVICE)->capacity, 0);
    set_option("device-limit", "0");
    use_context(context);
    return after_each(state);
}

/* Memory that is cached since the device was last idle, and a stream that is held up after that. */
static CUstream cache_and_hold(uint64_t size)
{
    uintptr_t block = alloc(size);

    set_option("free", "sync");
    assert_int_equal(berth__pool_free(block), 0);
    assert_int_equal(berth__pool_cached(0), size);
    atomic_store(&waits, 0);
    atomic_store(&may_go_on, false);
    return busy_stream();
}

static void *wait_long(void *result)
{
    *(int *)result = berth__pool_await_quiet(pool_of_test(), BERTH_PATIENCE_LONG);
    return NULL;
}

static void await_pause(unsigned before)
{
    while (atomic_load(&pauses) == before)
        ;
}

/* What was waited for in vain stays so for others while somebody waits longer. */
static void what_one_waited_for_in_vain_another_does_not_wait_for(void **state)
{
    CUstream stream = cache_and_hold(MIB(4));
    unsigned before;
    pthread_t thread;
    int result = -1;

    assert_int_equal(berth__pool_await_quiet(pool_of_test(), BERTH_PATIENCE_SHORT), 0);
    assert_int_equal(atomic_load(&records), 1);
    before = atomic_load(&pauses);
    assert_int_equal(pthread_create(&thread, NULL, wait_long, &result), 0);
    await_pause(before);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(berth__pool_await_quiet(pool_of_test(), BERTH_PATIENCE_SHORT), 0);
    assert_int_equal(atomic_load(&records), 1);
    go_on();
    pthread_join(thread, NULL);
    assert_int_equal(result, 1);
    assert_int_equal(atomic_load(&records), 2);
    assert_null(pool_of_test()->quiet);
    stream_delete(stream);
}

/* Who destroys the context waits for its work, which may wait for what this thread does next. */
static void a_context_that_ends_is_not_waited_for(void **state)
{
    CUstream stream = cache_and_hold(MIB(4));
    berth_cu_context of = (berth_cu_context)context;
    unsigned before = atomic_load(&pauses);
    struct timespec end;
    pthread_t thread;
    int result = -1;

    assert_int_equal(pthread_create(&thread, NULL, wait_long, &result), 0);
    await_pause(before);
    berth__pool_drop_begin(of);
    berth__stream_drop_begin(of);
    /* Half of what it would wait for the work. */
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 30;
    assert_int_equal(pthread_timedjoin_np(thread, NULL, &end), 0);
    assert_int_equal(result, 0);
    berth__stream_drop_end(of, false, berth__stream_retire_idle);
    berth__pool_drop_end(of, false);
    go_on();
    stream_delete(stream);
}

#define THREADS 4

/* Threads that begin at the same time wait at the same time: together no longer than one would. */
static void those_who_wait_at_once_share_the_time(void **state)
{
    CUstream stream = cache_and_hold(MIB(4));
    const struct berth_quiet *quiet;
    pthread_t thread[THREADS];
    int result[THREADS];
    unsigned before;

    before = atomic_load(&pauses);
    assert_int_equal(pthread_create(&thread[0], NULL, wait_long, &result[0]), 0);
    await_pause(before);
    for (unsigned i = 1; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, wait_long, &result[i]), 0);
    quiet = pool_of_test()->quiet;
    assert_non_null(quiet);
    for (unsigned waiters = 0; waiters < THREADS;) {
        berth__pool_lock(pool_of_test());
        waiters = quiet->waiters;
        berth__pool_unlock(pool_of_test());
    }
    assert_int_equal(atomic_load(&records), 1);
    go_on();
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(result[i], 1);
    }
    assert_null(pool_of_test()->quiet);
    stream_delete(stream);
}

/* The door stays shut until so many pauses were made. */
static unsigned shut_until;

static void open_late(void)
{
    if (atomic_load(&pauses) < shut_until)
        return;
    atomic_store(&at_pause, NULL);
    berth__order_open();
}

static void shut_for(unsigned count)
{
    berth__order_shut();
    shut_until = atomic_load(&pauses) + count;
    atomic_store(&at_pause, open_late);
}

/* Another thread destroys a stream: no reason to free what the driver would wait for. */
static void a_shut_door_is_no_reason_to_free(void **state)
{
    CUstream stream = cache_and_hold(MIB(4));

    shut_for(4);
    assert_int_equal(berth__pool_release_soon(0, UINT64_MAX), 0);
    assert_null(atomic_load(&at_pause));
    assert_int_equal(atomic_load(&frees), 0);
    assert_int_equal(atomic_load(&waits), 0);
    go_on();
    atomic_store(&frees, 0);
    assert_int_equal(berth__pool_release_soon(0, UINT64_MAX), MIB(4));
    assert_int_equal(atomic_load(&frees), 1);
    stream_delete(stream);
}

static berth_cu_result not_yet(berth_cu_event event)
{
    return BERTH_CU_NOT_READY;
}

/* Nor to wait for more than what was queued before the memory was freed. */
static void a_shut_door_is_no_reason_to_synchronise(void **state)
{
    struct berth_tier *tier = berth__tier(BERTH_TIER_DEVICE);
    uintptr_t block = alloc(MIB(8));
    CUstream stream;

    atomic_store(&tier->capacity, MIB(8));
    assert_int_equal(berth__pool_free(block), 0);
    berth__driver.cuEventQuery = not_yet;
    assert_false(berth__lazy_reclaim(pool_of_test(), BERTH_LAZY_CLOSE));
    berth__driver.cuEventQuery = real.cuEventQuery;
    stream = busy_stream();
    /* So many that who gives it a moment only gives up. */
    shut_for(400);
    assert_int_equal(alloc(MIB(8)), block);
    assert_null(atomic_load(&at_pause));
    assert_int_equal(atomic_load(&waits), 0);
    assert_int_equal(berth__pool_free(block), 0);
    atomic_store(&tier->capacity, 0);
    go_on();
    stream_delete(stream);
}

static void *free_block(void *block)
{
    return berth__pool_free((uintptr_t)block) == 0 ? block : NULL;
}

static atomic_bool has_freed;

static void *free_and_say(void *block)
{
    void *result = free_block(block);

    atomic_store(&has_freed, true);
    return result;
}

/* Long enough for who waits a second only to give up; then what was queued before is done. */
static void go_on_late(void)
{
    struct timespec now;
    static int64_t begin;
    int64_t ns;

    clock_gettime(CLOCK_MONOTONIC, &now);
    ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    if (begin == 0)
        begin = ns;
    if (ns - begin < 1200000000)
        return;
    assert_false(atomic_load(&has_freed));
    atomic_store(&at_pause, NULL);
    atomic_store(&may_go_on, true);
}

/* cuMemFree would wait for just this work, and no shorter. */
static void a_free_waits_for_the_cap_however_long(void **state)
{
    uintptr_t block[4];
    CUstream stream;
    pthread_t thread;
    void *result;

    set_option("waiting-max", "8M");
    for (unsigned i = 0; i < 4; i++)
        block[i] = alloc(MIB(4));
    stream = busy_stream();
    assert_int_equal(berth__pool_free(block[0]), 0);
    assert_int_equal(berth__pool_free(block[1]), 0);
    atomic_store(&has_freed, false);
    atomic_store(&at_pause, go_on_late);
    assert_int_equal(pthread_create(&thread, NULL, free_and_say, (void *)block[2]), 0);
    pthread_join(thread, &result);
    assert_non_null(result);
    assert_null(atomic_load(&at_pause));
    assert_in_range(waiting(), 0, MIB(8));
    assert_int_equal(berth__pool_free(block[3]), 0);
    stream_delete(stream);
}

static CUcontext other_context;

static void use_device(int device)
{
    if (device == 1 && !other_context)
        assert_int_equal(cuDevicePrimaryCtxRetain(&other_context, 1), 0);
    use_context(device == 1 ? other_context : context);
}

/* Caches so many bytes on each device, by cuMemAlloc, and more in the order of the stream. */
static void cache_everywhere(CUstream stream, uint64_t size, uint64_t in_order)
{
    set_option("free", "sync");
    for (int device = 1; device >= 0; device--) {
        use_device(device);
        assert_int_equal(berth__pool_free(alloc(size)), 0);
    }
    free_in(stream, alloc_in(stream, in_order));
}

/* What another device has cached is had when nothing else helps, and no more than is needed. */
static void what_is_nearest_is_given_back_first(void **state)
{
    CUstream stream = stream_new();
    uintptr_t block[3];

    cache_everywhere(stream, MIB(8), MIB(16));
    assert_int_equal(berth__pool_free(alloc(MIB(10))), 0);
    set_option("device-limit", "42M");
    block[0] = alloc_in(stream, MIB(10));
    assert_int_equal(berth__stream_cached(0), 0);
    assert_int_equal(berth__pool_cached(0), MIB(18));
    assert_int_equal(berth__pool_cached(1), MIB(8));
    block[1] = alloc_in(stream, MIB(12));
    assert_in_range(berth__pool_cached(0), 0, MIB(12));
    assert_int_equal(berth__pool_cached(1), MIB(8));
    block[2] = alloc_in(stream, MIB(20));
    assert_int_equal(berth__pool_cached(0), 0);
    assert_int_equal(berth__pool_cached(1), 0);
    for (unsigned i = 0; i < 3; i++)
        free_in(stream, block[i]);
    stream_delete(stream);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_one_waited_for_in_vain_another_does_not_wait_for),
        CASE(those_who_wait_at_once_share_the_time),
        CASE(a_context_that_ends_is_not_waited_for),
        CASE(a_shut_door_is_no_reason_to_free),
        CASE(a_shut_door_is_no_reason_to_synchronise),
        CASE(a_free_waits_for_the_cap_however_long),
        CASE(what_is_nearest_is_given_back_first),
    };

    return cmocka_run_group_tests(tests, up, NULL);
}
