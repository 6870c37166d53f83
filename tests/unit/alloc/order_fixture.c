/* SPDX-License-Identifier: Apache-2.0 */
#include "order_fixture.h"

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

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

CUcontext context;
atomic_bool may_go_on;

void use_context(CUcontext which)
{
    berth__context_changed();
    assert_int_equal(cuCtxSetCurrent(which), 0);
}

void set_option(const char *name, const char *value)
{
    char why[BERTH_OPTION_WHY_MAX];

    assert_int_equal(
        berth__option_set(name, strlen(name), value, strlen(value), BERTH_ORIGIN_ENVIRONMENT, why),
        0);
}

static void driver_load(void *driver)
{
#define X(name, parameters) *(void **)&berth__driver.name = dlsym(driver, #name);
    BERTH_DRIVER_USED(X)
    BERTH_DRIVER_HOOKED(X)
#undef X
}

int up(void **state)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);

    if (!driver || cuInit(0) != 0)
        return -1;
    driver_load(driver);
    berth__device_register();
    if (cuDevicePrimaryCtxRetain(&context, 0) != 0 || cuCtxSetCurrent(context) != 0)
        return -1;
    return 0;
}

int before_each(void **state)
{
    /* A case that failed has left what it put in the driver's place. */
    driver_load(dlopen("libcuda.so.1", RTLD_NOW));
    atomic_store(&may_go_on, false);
    set_option("free", "lazy");
    set_option("waiting-max", "1G");
    return 0;
}

/* Everything is given back, so that cases do not know of each other. */
int after_each(void **state)
{
    struct berth_pool_audit audit;
    struct berth_stream_audit ordered;

    atomic_store(&may_go_on, true);
    if (cuCtxSynchronize() != 0)
        return -1;
    berth__pool_release_cached(BERTH_POOL_ALL_DEVICES);
    berth__stream_release(BERTH_POOL_ALL_DEVICES);
    berth__pool_audit(&audit);
    berth__stream_audit(&ordered);
    return audit.reserved == 0 && ordered.reserved == 0 && berth__pools_are_valid() ? 0 : -1;
}

void hold(void *argument)
{
    while (!atomic_load(&may_go_on))
        ;
}

CUstream stream_new(void)
{
    CUstream stream = NULL;

    assert_int_equal(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING), 0);
    berth__stream_made((berth_cu_stream)stream);
    return stream;
}

void stream_delete(CUstream stream)
{
    struct berth_stream *record =
        berth__stream_destroy_begin((berth_cu_stream)stream, berth__stream_retire);
    CUresult result = cuStreamDestroy_v2(stream);

    berth__stream_destroy_end(record, result == 0);
    assert_int_equal(result, 0);
}

CUstream busy_stream(void)
{
    CUstream stream = stream_new();

    assert_int_equal(cuLaunchHostFunc(stream, hold, NULL), 0);
    return stream;
}

void go_on(void)
{
    atomic_store(&may_go_on, true);
    assert_int_equal(cuCtxSynchronize(), 0);
}

uintptr_t alloc(uint64_t size)
{
    const struct berth_pool_request request = {.size = size, .tier = BERTH_TIER_DEVICE};
    uintptr_t address = 0;

    assert_int_equal(berth__pool_alloc(&request, &address), 0);
    return address;
}

uintptr_t alloc_in(CUstream stream, uint64_t size)
{
    const struct berth_pool_request request = {.size = size, .tier = BERTH_TIER_DEVICE};
    uintptr_t address = 0;

    assert_int_equal(berth__stream_alloc(&request, (berth_cu_stream)stream, &address), 0);
    return address;
}

void free_in(CUstream stream, uintptr_t address)
{
    assert_int_equal(berth__stream_free(address, (berth_cu_stream)stream), 0);
}

unsigned refusals;
static unsigned refusals_max;
static berth_cu_result (*alloc_in_order)(berth_cu_address *address, size_t size,
                                         berth_cu_stream stream);

static berth_cu_result refuse(berth_cu_address *address, size_t size, berth_cu_stream stream)
{
    if (refusals == refusals_max)
        return alloc_in_order(address, size, stream);
    refusals++;
    return BERTH_CU_OUT_OF_MEMORY;
}

void refuse_in_order(unsigned count)
{
    alloc_in_order = berth__driver.cuMemAllocAsync;
    berth__driver.cuMemAllocAsync = refuse;
    refusals = 0;
    refusals_max = count;
}

struct berth_pool *pool_of_test(void)
{
    extern _Atomic(struct berth_pool *) berth__pool_first;

    return atomic_load(&berth__pool_first);
}

uint64_t waiting(void)
{
    struct berth_pool_audit audit;

    berth__pool_audit(&audit);
    return audit.waiting;
}
