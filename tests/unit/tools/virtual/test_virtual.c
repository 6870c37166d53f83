/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the virtual driver's books are right: no address is given out twice, what is used never
 * exceeds the device and is nothing once everything is back, and wrong calls get CUDA's answers.
 * Method: its exported calls, with a device of 64 MiB, against a model of what must be used.
 */
#include "tools/virtual/calls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)

void berth_virtual_counters(struct berth_virtual_counters *ret);
void berth_virtual_reset_peak(void);
int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags,
                        int *status);

static uint64_t used(void)
{
    struct berth_virtual_counters counters;

    berth_virtual_counters(&counters);
    return counters.used;
}

static int begin(void **state)
{
    struct virtual_context *context;

    (void)state;
    setenv("BERTH_VIRTUAL_MEMORY", "67108864", 1);
    setenv("BERTH_VIRTUAL_DEVICES", "2", 1);
    assert_int_equal(cuMemAlloc_v2(&(address_t){0}, 1), CU_NOT_INITIALIZED);
    assert_int_equal(cuInit(0), CU_SUCCESS);
    assert_int_equal(cuMemAlloc_v2(&(address_t){0}, 1), CU_INVALID_CONTEXT);
    assert_int_equal(cuDevicePrimaryCtxRetain(&context, 0), CU_SUCCESS);
    return cuCtxSetCurrent(context);
}

static void small_ones_share_pieces(void **state)
{
    address_t address[4096];

    (void)state;
    for (int i = 0; i < 4096; i++) {
        assert_int_equal(cuMemAlloc_v2(&address[i], 1 + (size_t)i % 512), CU_SUCCESS);
        assert_int_equal(address[i] % 512, 0);
    }
    assert_int_equal(used(), 2 * MIB);
    for (int i = 0; i < 4096; i++)
        for (int j = 0; j < 16 && j < i; j++)
            assert_int_not_equal(address[i], address[i - 1 - j]);
    for (int i = 0; i < 4096; i++)
        assert_int_equal(cuMemFree_v2(address[(i * 17) % 4096]), CU_SUCCESS);
    assert_int_equal(used(), 0);
}

static void large_ones_take_whole_pieces(void **state)
{
    struct berth_virtual_counters counters;
    address_t address[3], none = 7;
    size_t free_size, total_size;

    (void)state;
    berth_virtual_reset_peak();
    assert_int_equal(cuMemAlloc_v2(&address[0], MIB + 1), CU_SUCCESS);
    assert_int_equal(used(), 2 * MIB);
    assert_int_equal(cuMemAlloc_v2(&address[1], 61 * MIB), CU_SUCCESS);
    assert_int_equal(cuMemAlloc_v2(&none, 1), CU_OUT_OF_MEMORY);
    assert_int_equal(none, 7);
    assert_int_equal(cuMemGetInfo_v2(&free_size, &total_size), CU_SUCCESS);
    assert_int_equal(free_size, 0);
    assert_int_equal(total_size, 64 * MIB);
    assert_int_equal(cuMemFree_v2(address[1] + 512), CU_INVALID_VALUE);
    assert_int_equal(cuMemFree_v2(address[1]), CU_SUCCESS);
    assert_int_equal(cuMemFree_v2(address[1]), CU_INVALID_VALUE);
    assert_int_equal(cuMemAlloc_v2(&address[2], 61 * MIB), CU_SUCCESS);
    assert_int_equal(address[2], address[1]);
    assert_int_equal(cuMemAlloc_v2(&none, 0), CU_INVALID_VALUE);
    assert_int_equal(cuMemAlloc_v2(&none, SIZE_MAX), CU_OUT_OF_MEMORY);
    cuMemFree_v2(address[0]);
    cuMemFree_v2(address[2]);
    berth_virtual_counters(&counters);
    assert_int_equal(counters.used, 0);
    assert_int_equal(counters.used_peak, 64 * MIB);
}

static void ranges_are_answered_by_any_address(void **state)
{
    address_t address, base;
    size_t size;

    (void)state;
    assert_int_equal(cuMemAlloc_v2(&address, 5000), CU_SUCCESS);
    assert_int_equal(cuMemGetAddressRange_v2(&base, &size, address + 4999), CU_SUCCESS);
    assert_int_equal(base, address);
    assert_int_equal(size, 5000);
    assert_int_equal(cuMemGetAddressRange_v2(&base, &size, address + 5000), CU_NOT_FOUND);
    assert_int_equal(cuMemFree_v2(address), CU_SUCCESS);
}

static void mapped_memory_is_used_until_its_last_user_is_gone(void **state)
{
    const int properties[8] = {1, 0, 1, 0};
    address_t base;
    uint64_t handle[2];

    (void)state;
    assert_int_equal(cuMemAddressReserve(&base, 8 * MIB, 0, 0, 0), CU_SUCCESS);
    assert_int_equal(used(), 0);
    assert_int_equal(cuMemCreate(&handle[0], MIB, properties, 0), CU_INVALID_VALUE);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(cuMemCreate(&handle[i], 2 * MIB, properties, 0), CU_SUCCESS);
        assert_int_equal(cuMemMap(base + 2 * MIB * (uint64_t)i, 2 * MIB, 0, handle[i], 0),
                         CU_SUCCESS);
    }
    assert_int_equal(cuMemMap(base + 8 * MIB, 2 * MIB, 0, handle[0], 0), CU_INVALID_VALUE);
    assert_int_equal(cuMemRelease(handle[0]), CU_SUCCESS);
    assert_int_equal(used(), 4 * MIB);
    assert_int_equal(cuMemUnmap(base, 4 * MIB), CU_SUCCESS);
    assert_int_equal(used(), 2 * MIB);
    assert_int_equal(cuMemRelease(handle[1]), CU_SUCCESS);
    assert_int_equal(used(), 0);
    assert_int_equal(cuMemUnmap(base, 4 * MIB), CU_INVALID_VALUE);
    assert_int_equal(cuMemAddressFree(base, 8 * MIB), CU_SUCCESS);
}

static void a_context_takes_its_memory_along(void **state)
{
    struct virtual_context *context, *before = virtual_current();
    address_t address, pooled;

    (void)state;
    assert_int_equal(cuCtxCreate_v2(&context, 0, 1), CU_SUCCESS);
    assert_ptr_equal(virtual_current(), context);
    assert_int_equal(cuMemAlloc_v2(&address, 3 * MIB), CU_SUCCESS);
    assert_int_equal(cuMemAllocAsync(&pooled, 3 * MIB, NULL), CU_SUCCESS);
    assert_int_equal(used(), 8 * MIB);
    assert_int_equal(cuCtxDestroy_v2(context), CU_SUCCESS);
    assert_int_equal(cuCtxDestroy_v2(context), CU_INVALID_CONTEXT);
    assert_ptr_equal(virtual_current(), before);
    assert_int_equal(used(), 4 * MIB); /* a pool's memory outlives contexts */
    assert_int_equal(cuMemFreeAsync(pooled, NULL), CU_SUCCESS);
    assert_int_equal(used(), 0);
}

static void names_are_found_by_their_newest_version(void **state)
{
    void *function = NULL;
    int status = 9;

    (void)state;
    assert_int_equal(cuGetProcAddress_v2("cuMemAlloc", &function, 13000, 0, &status), CU_SUCCESS);
    assert_ptr_equal(function, (void *)cuMemAlloc_v2);
    assert_int_equal(status, 0);
    assert_int_equal(cuGetProcAddress_v2("cuMemAllocAsync", &function, 13000, 0, NULL), CU_SUCCESS);
    assert_ptr_equal(function, (void *)cuMemAllocAsync);
    assert_int_equal(cuGetProcAddress_v2("cuLaunchKernel", &function, 13000, 0, &status),
                     CU_NOT_FOUND);
    assert_null(function);
    assert_int_equal(status, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_ones_share_pieces),
        cmocka_unit_test(large_ones_take_whole_pieces),
        cmocka_unit_test(ranges_are_answered_by_any_address),
        cmocka_unit_test(mapped_memory_is_used_until_its_last_user_is_gone),
        cmocka_unit_test(a_context_takes_its_memory_along),
        cmocka_unit_test(names_are_found_by_their_newest_version),
    };

    return cmocka_run_group_tests(tests, begin, NULL);
}
