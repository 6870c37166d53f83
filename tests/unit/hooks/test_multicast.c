/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: memory that the driver has bound to a multicast object is not served again, and what it has
 * not bound is. Method: the wrapper over a driver of the test's own, because the simulated devices
 * can have no such objects.
 */
#include "../alloc/device_mock.h"
#include "../alloc/pool_fixture.h"
#include "hooks/cuda_driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define OBJECT 77
#define PART ((size_t)MIB(4))

berth_cu_result berth__hook_cuMulticastBindAddr(uint64_t handle, size_t offset,
                                                berth_cu_address address, size_t size,
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

/* How often the driver gets memory back when a block is freed of which a part was to be bound. */
static uint64_t frees_after(berth_cu_result result, uint64_t inside)
{
    uintptr_t block = pool_get(MIB(16));
    uint64_t before;

    answer = result;
    berth__driver.cuMulticastBindAddr = driver_bind;
    assert_int_equal(berth__hook_cuMulticastBindAddr(OBJECT, PART, block + inside, PART, 0),
                     result);
    assert_int_equal(bound, block + inside);
    before = mock_calls(MOCK_FREE);
    pool_put(block);
    return mock_calls(MOCK_FREE) - before;
}

static void what_is_bound_goes_back_to_the_driver(void **state)
{
    assert_int_equal(frees_after(BERTH_CU_SUCCESS, 0), 1);
    assert_int_equal(frees_after(BERTH_CU_SUCCESS, MIB(4)), 1);
}

static void what_the_driver_refuses_to_bind_is_kept(void **state)
{
    assert_int_equal(frees_after(BERTH_CU_INVALID_VALUE, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_bound_goes_back_to_the_driver),
        TEST(what_the_driver_refuses_to_bind_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
