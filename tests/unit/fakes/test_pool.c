/* SPDX-License-Identifier: Apache-2.0 */
/* Stream-ordered allocation: which memory is used again, when, and what the
 * pool says about itself. */
#include "fixture.h"

#define MIB (1ULL << 20)

static cuuint64_t pool_value(CUmemoryPool pool, CUmemPool_attribute attribute)
{
    cuuint64_t value = 0;

    assert_ok(cuMemPoolGetAttribute(pool, attribute, &value));
    return value;
}

static CUmemoryPool default_pool(void)
{
    CUmemoryPool pool;

    assert_ok(cuDeviceGetDefaultMemPool(&pool, 0));
    return pool;
}

static void the_same_stream_reuses_at_once_another_does_not(void **state)
{
    CUstream a, b;
    struct gate gate = GATE_INIT;
    CUdeviceptr first, again, other;

    assert_ok(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
    assert_ok(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
    assert_ok(cuLaunchHostFunc(a, gate_pass, &gate));
    assert_ok(cuMemAllocAsync(&first, 4 * MIB, a));
    assert_ok(cuMemFreeAsync(first, a));
    assert_ok(cuMemAllocAsync(&other, 4 * MIB, b));
    assert_int_not_equal(other, first);
    assert_ok(cuMemAllocAsync(&again, 4 * MIB, a));
    assert_int_equal(again, first);
    assert_ok(cuMemFreeAsync(again, a));
    gate_open(&gate);
    assert_ok(cuStreamSynchronize(a));
    assert_ok(cuMemFreeAsync(other, b));
    assert_int_equal(cuMemFreeAsync(other, b), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuStreamSynchronize(b));
    assert_ok(cuStreamDestroy_v2(a));
    assert_ok(cuStreamDestroy_v2(b));
}

static void another_stream_waits_when_there_is_nothing_else(void **state)
{
    CUstream a, b;
    struct gate gate = GATE_INIT;
    CUdeviceptr first, second;

    assert_ok(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
    assert_ok(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
    assert_ok(cuMemAllocAsync(&first, 48 * MIB, a));
    assert_ok(cuLaunchHostFunc(a, gate_pass, &gate));
    assert_ok(cuMemFreeAsync(first, a));
    assert_ok(cuMemAllocAsync(&second, 48 * MIB, b));
    assert_int_equal(second, first);
    assert_int_equal(cuStreamQuery(b), CUDA_ERROR_NOT_READY);
    gate_open(&gate);
    assert_ok(cuStreamSynchronize(b));
    assert_ok(cuMemFreeAsync(second, b));
    assert_ok(cuStreamSynchronize(b));
    assert_ok(cuStreamDestroy_v2(a));
    assert_ok(cuStreamDestroy_v2(b));
}

/* Most of the device waits in one block, which serves many: none of them takes all of it. */
static void a_part_of_what_waits_is_enough(void **state)
{
    CUstream a, b;
    struct gate gate = GATE_INIT;
    CUdeviceptr first, part[10];

    assert_ok(cuStreamCreate(&a, CU_STREAM_NON_BLOCKING));
    assert_ok(cuStreamCreate(&b, CU_STREAM_NON_BLOCKING));
    assert_ok(cuMemAllocAsync(&first, 40 * MIB, a));
    assert_ok(cuLaunchHostFunc(a, gate_pass, &gate));
    assert_ok(cuMemFreeAsync(first, a));
    for (int i = 0; i < 10; i++) {
        assert_ok(cuMemAllocAsync(&part[i], 5 * MIB, b));
        assert_ok(cuMemsetD8Async(part[i], (unsigned char)i, 5 * MIB, b));
    }
    gate_open(&gate);
    assert_ok(cuStreamSynchronize(b));
    for (int i = 0; i < 10; i++) {
        unsigned char ends[2] = {99, 99};

        assert_ok(cuMemcpyDtoH_v2(&ends[0], part[i], 1));
        assert_ok(cuMemcpyDtoH_v2(&ends[1], part[i] + 5 * MIB - 1, 1));
        assert_int_equal(ends[0], i);
        assert_int_equal(ends[1], i);
        assert_ok(cuMemFreeAsync(part[i], b));
    }
    assert_ok(cuCtxSynchronize());
    assert_int_equal(pool_value(default_pool(), CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 0);
    assert_ok(cuStreamDestroy_v2(a));
    assert_ok(cuStreamDestroy_v2(b));
}

static void unused_memory_goes_back_at_a_synchronisation(void **state)
{
    CUmemoryPool pool = default_pool();
    cuuint64_t keep = 64 * MIB, none = 0;
    CUdeviceptr pointer;

    assert_ok(cuMemAllocAsync(&pointer, 8 * MIB, NULL));
    assert_int_equal(pool_value(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 8 * MIB);
    assert_int_equal(pool_value(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 8 * MIB);
    assert_ok(cuMemFreeAsync(pointer, NULL));
    assert_int_equal(pool_value(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT), 0);
    assert_ok(cuStreamSynchronize(NULL));
    assert_int_equal(pool_value(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 0);
    assert_ok(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep));
    assert_ok(cuMemAllocAsync(&pointer, 8 * MIB, NULL));
    assert_ok(cuMemFreeAsync(pointer, NULL));
    assert_ok(cuStreamSynchronize(NULL));
    assert_int_equal(pool_value(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 8 * MIB);
    assert_ok(cuMemPoolTrimTo(pool, 0));
    assert_int_equal(pool_value(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), 0);
    assert_ok(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &none));
    assert_true(pool_value(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH) >= 8 * MIB);
    assert_ok(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &none));
    assert_int_equal(pool_value(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH), 0);
}

static void a_pool_of_its_own_can_become_the_devices(void **state)
{
    CUmemPoolProps props = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                            .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0},
                            .maxSize = 8 * MIB};
    CUmemoryPool pool, current, of_pointer;
    CUdeviceptr pointer, more;

    assert_ok(cuMemPoolCreate(&pool, &props));
    assert_ok(cuDeviceSetMemPool(0, pool));
    assert_ok(cuDeviceGetMemPool(&current, 0));
    assert_ptr_equal(current, pool);
    assert_ok(cuMemAllocAsync(&pointer, 5 * MIB, NULL));
    assert_ok(cuPointerGetAttribute(&of_pointer, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, pointer));
    assert_ptr_equal(of_pointer, pool);
    assert_int_equal(cuMemAllocFromPoolAsync(&more, 5 * MIB, pool, NULL), CUDA_ERROR_OUT_OF_MEMORY);
    /* Destroyed while in use: the block stays until it is freed. */
    assert_ok(cuMemPoolDestroy(pool));
    assert_int_equal(cuMemPoolTrimTo(pool, 0), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuDeviceGetMemPool(&current, 0));
    assert_ptr_equal(current, default_pool());
    assert_ok(cuMemcpyHtoD_v2(pointer, "x", 2));
    assert_ok(cuMemFreeAsync(pointer, NULL));
    assert_ok(cuCtxSynchronize());
    assert_int_equal(cuMemPoolDestroy(default_pool()), CUDA_ERROR_INVALID_VALUE);
}

static void free_and_alloc_forms_can_be_mixed(void **state)
{
    size_t before, now, total;
    CUdeviceptr pointer;

    assert_ok(cuMemGetInfo_v2(&before, &total));
    assert_ok(cuMemAlloc_v2(&pointer, 4 * MIB));
    assert_ok(cuMemFreeAsync(pointer, NULL));
    assert_int_equal(cuMemFree_v2(pointer), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuStreamSynchronize(NULL));
    assert_ok(cuMemGetInfo_v2(&now, &total));
    assert_int_equal(now, before);
    assert_ok(cuMemAllocAsync(&pointer, 4 * MIB, NULL));
    assert_ok(cuMemFree_v2(pointer));
    assert_ok(cuStreamSynchronize(NULL));
    assert_ok(cuMemGetInfo_v2(&now, &total));
    assert_int_equal(now, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_stream_reuses_at_once_another_does_not),
        cmocka_unit_test(another_stream_waits_when_there_is_nothing_else),
        cmocka_unit_test(a_part_of_what_waits_is_enough),
        cmocka_unit_test(unused_memory_goes_back_at_a_synchronisation),
        cmocka_unit_test(a_pool_of_its_own_can_become_the_devices),
        cmocka_unit_test(free_and_alloc_forms_can_be_mixed),
    };

    return cmocka_run_group_tests(tests, use_device_0, NULL);
}
