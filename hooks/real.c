/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/real.h"

#include "alloc/describe.h"
#include "alloc/log.h"
#include "alloc/pool.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_handle.h"
#include "alloc/thread.h"
#include "hooks/cuda_driver.h"
#include "hooks/cuda_driver_tag.h"
#include "hooks/dlsym_next.h"
#include "hooks/real_module.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

_Atomic bool berth__real_is_bound;

/*
 * A child inherits the parent's pools, but not its contexts: every call is then the driver's, which
 * refuses it or not. A child of a process that has not used CUDA starts afresh.
 */
static void forget_in_child(void)
{
    if (!berth__pool_in_use() && !berth__hook_initialised())
        return;
    berth__pool_disable();
    berth__foreign_disable();
    berth__handle_disable();
}

#define DRIVER_PREFIX "libcuda.so"
/* Berth's own driver without a device, for replays (tools/virtual). */
#define VIRTUAL_PREFIX "libberth-virtual.so"

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static bool is_prefix(const char *prefix, const char *name)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* The driver's handle if it is loaded in this namespace; that keeps it loaded. */
static void *find_driver(const void *address)
{
    void *handle = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    Dl_info info;

    if (!handle)
        handle = dlopen("libcuda.so", RTLD_LAZY | RTLD_NOLOAD);
    if (!handle && dladdr(address, &info) && info.dli_fname &&
        (is_prefix(DRIVER_PREFIX, base_name(info.dli_fname)) ||
         is_prefix(VIRTUAL_PREFIX, base_name(info.dli_fname))))
        handle = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    return handle;
}

/* Threads that race have found the same; one of them writes, the others wait for it. */
static void publish(const struct berth_driver *driver)
{
    static atomic_flag taken = ATOMIC_FLAG_INIT;

    if (!atomic_flag_test_and_set(&taken)) {
        berth__driver = *driver;
        berth__describe_device = berth__cuda_describe;
        berth__detail_device = berth__cuda_detail;
        pthread_atfork(NULL, NULL, forget_in_child);
        atomic_store_explicit(&berth__real_is_bound, true, memory_order_release);
    }
    while (!atomic_load_explicit(&berth__real_is_bound, memory_order_acquire))
        sched_yield();
}

/* The members of struct berth_driver, which are all pointers to functions, in their order. */
static const char *const driver_names[] = {
#define X(name, parameters) #name,
    BERTH_DRIVER_USED(X) BERTH_DRIVER_HOOKED(X)
#undef X
};
#define DRIVER_NAMES (sizeof(driver_names) / sizeof(driver_names[0]))

union driver_addresses {
    struct berth_driver driver;
    void *address[DRIVER_NAMES];
};
_Static_assert(sizeof(struct berth_driver) == DRIVER_NAMES * sizeof(void *), "one name each");

bool berth__real_bind(void)
{
    union driver_addresses found;

    if (atomic_load_explicit(&berth__real_is_bound, memory_order_acquire))
        return true;
    if (!berth__real_module_symbols(DRIVER_PREFIX, driver_names, found.address, DRIVER_NAMES) &&
        !berth__real_module_symbols(VIRTUAL_PREFIX, driver_names, found.address, DRIVER_NAMES))
        return false;
    publish(&found.driver);
    return true;
}

void berth__real_keep(const void *address)
{
    static atomic_bool kept;
    union driver_addresses found;
    void *handle;

    if (!address || atomic_load_explicit(&kept, memory_order_acquire))
        return;
    berth__thread.inside++;
    handle = find_driver(address);
    if (handle && !berth__real_bind()) {
        /* A library without the hash table that is read above: by dlsym, name for name. */
        for (size_t i = 0; i < DRIVER_NAMES; i++)
            found.address[i] = berth__real_dlsym(handle, driver_names[i]);
        publish(&found.driver);
    }
    if (handle)
        atomic_store_explicit(&kept, true, memory_order_release);
    berth__thread.inside--;
}
