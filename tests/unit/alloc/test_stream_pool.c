/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the driver's pool, which blocks in the order of streams come from, is seen and chosen by
 * the program as natively. Method: the simulated driver, asked beside the cache.
 */
#include "order_fixture.h"

#include "alloc/order.h"
#include "alloc/pool.h"
#include "alloc/pool_stream.h"
#include "alloc/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void the_drivers_pool_is_seen_without_the_cache(void **state)
{
    CUstream stream = stream_new();
    CUmemoryPool pool = NULL;
    cuuint64_t used = 0;
    uintptr_t block = alloc_in(stream, SIZE);

    assert_int_equal(cuDeviceGetDefaultMemPool(&pool, 0), 0);
    free_in(stream, block);
    assert_int_equal(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used), 0);
    assert_true(used >= SIZE);
    berth__stream_attribute_correct((berth_cu_pool)pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used);
    assert_int_equal(used, 0);
    assert_true(berth__stream_release_pool((berth_cu_pool)pool) >= SIZE);
    assert_int_equal(cuMemPoolTrimTo(pool, 0), 0);
    assert_int_equal(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &used), 0);
    assert_int_equal(used, 0);
    stream_delete(stream);
}

static void a_pool_of_the_programs_own_is_the_drivers(void **state)
{
    const struct berth_pool_request request = {.size = SIZE, .tier = BERTH_TIER_DEVICE};
    CUstream stream = stream_new();
    CUmemoryPool pool = NULL;
    uintptr_t address = 0;

    /* Of a device whose streams were not seen before, Berth asks which pool it has. */
    free_in(stream, alloc_in(stream, SIZE));
    assert_int_equal(cuDeviceGetDefaultMemPool(&pool, 0), 0);
    berth__stream_pool_chosen(0, (berth_cu_pool)(void *)&pool);
    assert_int_equal(berth__stream_alloc(&request, (berth_cu_stream)stream, &address),
                     BERTH_POOL_FORWARD);
    berth__stream_pool_chosen(0, (berth_cu_pool)pool);
    free_in(stream, alloc_in(stream, SIZE));
    stream_delete(stream);
}

/* Its points are void then, but the work of a stream that it had may go on. */
static void the_end_of_a_green_context_tells_nothing_of_its_work(void **state)
{
    CUstream stream = busy_stream(), other = stream_new();
    uintptr_t block = alloc_in(stream, SIZE), next;

    free_in(stream, block);
    stream_delete(stream);
    berth__stream_green_gone((berth_cu_context)context);
    berth__order_drop((berth_cu_context)context);
    next = alloc_in(other, SIZE);
    assert_int_not_equal(next, block);
    go_on();
    assert_true(berth__stream_release(0) >= SIZE);
    free_in(other, next);
    stream_delete(other);
}

/* Its events went with it: what they stood for is done, and nobody may ask them. */
static void the_end_of_a_context_is_that_of_its_streams_work(void **state)
{
    struct berth_stream_audit audit;
    CUcontext made = NULL;
    CUstream stream;

    assert_int_equal(cuCtxCreate_v2(&made, 0, 0), 0);
    use_context(made);
    stream = busy_stream();
    free_in(stream, alloc_in(stream, SIZE));
    stream_delete(stream);
    atomic_store(&may_go_on, true);
    berth__stream_drop_begin((berth_cu_context)made);
    assert_int_equal(cuCtxDestroy_v2(made), 0);
    berth__stream_drop_end((berth_cu_context)made, true, berth__stream_retire_idle);
    use_context(context);
    berth__stream_release(0);
    berth__stream_audit(&audit);
    assert_int_equal(audit.reserved, 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, before_each, after_each)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(the_drivers_pool_is_seen_without_the_cache),
        CASE(a_pool_of_the_programs_own_is_the_drivers),
        CASE(the_end_of_a_green_context_tells_nothing_of_its_work),
        CASE(the_end_of_a_context_is_that_of_its_streams_work),
    };

    return cmocka_run_group_tests(tests, up, NULL);
}
