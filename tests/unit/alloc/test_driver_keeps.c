/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what the driver refuses leaves everything as it was. Method: the simulated driver, of which
 * one function is replaced by one that refuses, or says that the device cannot.
 */
#include "alloc/device_layout.h"
#include "alloc/device_vmm.h"
#include "alloc/pool_stream.h"

#include "order_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define DESCRIPTORS 103 /* CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED */

static unsigned refused;

static berth_cu_result refuse_later(berth_cu_address address, berth_cu_stream stream)
{
    refused++;
    return BERTH_CU_INVALID_VALUE;
}

static berth_cu_result refuse(berth_cu_address address)
{
    refused++;
    return BERTH_CU_INVALID_VALUE;
}

static void assert_is_served_again(CUstream stream, uintptr_t block)
{
    struct berth_block_view view = {0};

    assert_int_equal(berth__stream_cached(0), SIZE);
    assert_int_equal(berth__stream_find_block(block, &view), -EFAULT);
    assert_int_equal(alloc_in(stream, SIZE), block);
    assert_int_equal(berth__stream_find_block(block, &view), 0);
    assert_int_equal(view.base, block);
    assert_int_equal(berth__stream_cached(0), 0);
    free_in(stream, block);
    assert_int_equal(berth__stream_release(0), SIZE);
}

/* A cached block of a stream goes to the driver by either function; it stays where that refuses. */
static void a_stream_ordered_block_that_the_driver_keeps_is_served_again(void **state)
{
    berth_cu_result (*free_later)(berth_cu_address, berth_cu_stream) = berth__driver.cuMemFreeAsync;
    berth_cu_result (*free_now)(berth_cu_address) = berth__driver.cuMemFree_v2;
    CUstream stream = stream_new();
    uintptr_t block = alloc_in(stream, SIZE);

    refused = 0;
    free_in(stream, block);
    assert_int_equal(cuStreamSynchronize(stream), 0);
    berth__driver.cuMemFreeAsync = refuse_later;
    berth__driver.cuMemFree_v2 = refuse;
    assert_int_equal(berth__stream_release(0), 0);
    berth__driver.cuMemFreeAsync = free_later;
    berth__driver.cuMemFree_v2 = free_now;
    assert_int_not_equal(refused, 0);
    assert_is_served_again(stream, block);
    stream_delete(stream);
}

static int missing_attribute;
static berth_cu_result (*get_attribute)(int *, int, berth_cu_device);

static berth_cu_result answer_without(int *ret, int attribute, berth_cu_device device)
{
    berth_cu_result result = get_attribute(ret, attribute, device);

    if (attribute == missing_attribute)
        *ret = 0;
    return result;
}

/* Memory is shared by descriptors where the device has both: mapped memory, and descriptors of it.
 */
static void memory_is_shared_by_descriptors_where_the_device_can(void **state)
{
    static const int needed[] = {BERTH_CU_ATTRIBUTE_VMM, DESCRIPTORS};

    assert_true(berth__device_shares_descriptors(0));
    get_attribute = berth__driver.cuDeviceGetAttribute;
    berth__driver.cuDeviceGetAttribute = answer_without;
    for (unsigned i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        missing_attribute = needed[i];
        assert_false(berth__device_shares_descriptors(0));
    }
    missing_attribute = -1;
    assert_true(berth__device_shares_descriptors(0));
    berth__driver.cuDeviceGetAttribute = get_attribute;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, before_each, after_each)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_stream_ordered_block_that_the_driver_keeps_is_served_again),
        CASE(memory_is_shared_by_descriptors_where_the_device_can),
    };

    return cmocka_run_group_tests(tests, up, NULL);
}
