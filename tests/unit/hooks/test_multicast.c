/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: memory that the driver has bound to a multicast object, or to an endpoint, is not served
 * again, and what it has not bound is. Method: the wrapper over a driver of the test's own, because
 * the simulated devices can have no such objects.
 */
#include "../alloc/device_mock.h"
#include "../alloc/pool_fixture.h"
#include "hooks/cuda_driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define OBJECT 77
#define DEVICE 3
#define PART ((size_t)MIB(4))

berth_cu_result berth__hook_cuMulticastBindAddr(uint64_t handle, size_t offset,
                                                berth_cu_address address, size_t size,
                                                uint64_t flags);

berth_cu_result berth__hook_cuMulticastBindAddr_v2(uint64_t handle, berth_cu_device device,
                                                   size_t offset, berth_cu_address address,
                                                   size_t size, uint64_t flags);
berth_cu_result berth__hook_cuLogicalEndpointBindAddr(uint64_t endpoint, berth_cu_device device,
                                                      uint64_t offset, void *address, uint64_t size,
                                                      uint64_t flags);

static berth_cu_result answer;
static berth_cu_address bound; /* as the driver was told */

static berth_cu_result driver_bind(uint64_t handle, size_t offset, berth_cu_address address,
                                   size_t size, uint64_t flags)
{
    assert_int_equal(handle, OBJECT);
    assert_int_equal(offset, PART);
    assert_int_equal(size, PART);
    assert_int_equal(flags, 0);
    bound = address;
    return answer;
}

static berth_cu_result driver_bind_of(uint64_t handle, berth_cu_device device, size_t offset,
                                      berth_cu_address address, size_t size, uint64_t flags)
{
    assert_int_equal(device, DEVICE);
    return driver_bind(handle, offset, address, size, flags);
}

static berth_cu_result driver_bind_endpoint(uint64_t handle, berth_cu_device device,
                                            uint64_t offset, void *address, uint64_t size,
                                            uint64_t flags)
{
    return driver_bind_of(handle, device, offset, (uintptr_t)address, size, flags);
}

static berth_cu_result bind(uintptr_t address)
{
    berth__driver.cuMulticastBindAddr = driver_bind;
    return berth__hook_cuMulticastBindAddr(OBJECT, PART, address, PART, 0);
}

static berth_cu_result bind_of(uintptr_t address)
{
    berth__driver.cuMulticastBindAddr_v2 = driver_bind_of;
    return berth__hook_cuMulticastBindAddr_v2(OBJECT, DEVICE, PART, address, PART, 0);
}

static berth_cu_result bind_endpoint(uintptr_t address)
{
    berth__driver.cuLogicalEndpointBindAddr = driver_bind_endpoint;
    return berth__hook_cuLogicalEndpointBindAddr(OBJECT, DEVICE, PART, (void *)address, PART, 0);
}

static berth_cu_result (*const ways[])(uintptr_t address) = {bind, bind_of, bind_endpoint};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

/* How often the driver gets memory back when a block is freed of which a part was to be bound. */
static uint64_t frees_after(berth_cu_result (*way)(uintptr_t address), berth_cu_result result,
                            uint64_t inside)
{
    uintptr_t block = pool_get(MIB(16));
    uint64_t before;

    answer = result;
    assert_int_equal(way(block + inside), result);
    assert_int_equal(bound, block + inside);
    before = mock_calls(MOCK_FREE);
    pool_put(block);
    return mock_calls(MOCK_FREE) - before;
}

static void what_is_bound_goes_back_to_the_driver(void **state)
{
    for (unsigned i = 0; i < WAYS; i++) {
        assert_int_equal(frees_after(ways[i], BERTH_CU_SUCCESS, 0), 1);
        assert_int_equal(frees_after(ways[i], BERTH_CU_SUCCESS, MIB(4)), 1);
    }
}

static void what_the_driver_refuses_to_bind_is_kept(void **state)
{
    for (unsigned i = 0; i < WAYS; i++)
        assert_int_equal(frees_after(ways[i], BERTH_CU_INVALID_VALUE, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_bound_goes_back_to_the_driver),
        TEST(what_the_driver_refuses_to_bind_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
