/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/real.h"

#include "alloc/describe.h"
#include "alloc/log.h"
#include "alloc/pool.h"
#include "alloc/pool_foreign.h"
#include "alloc/thread.h"
#include "hooks/cuda_driver.h"
#include "hooks/cuda_driver_tag.h"
#include "hooks/real_module.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

void *berth__dlsym_next;
void *berth__dlvsym_next;
_Atomic bool berth__real_is_bound;

static void *resolve(void **next, const char *name)
{
    void *function = __atomic_load_n(next, __ATOMIC_RELAXED);

    if (!function) {
        function = berth__real_module_next_own(name);
        __atomic_store_n(next, function, __ATOMIC_RELAXED);
    }
    return function;
}

void *berth__dlsym_resolve(void)
{
    return resolve(&berth__dlsym_next, "dlsym");
}

void *berth__dlvsym_resolve(void)
{
    return resolve(&berth__dlvsym_next, "dlvsym");
}

void *berth__real_dlsym(void *handle, const char *name)
{
    void *(*function)(void *, const char *);

    *(void **)&function = berth__dlsym_resolve();
    return function ? function(handle, name) : NULL;
}

void *berth__real_dlvsym(void *handle, const char *name, const char *version)
{
    void *(*function)(void *, const char *, const char *);

    *(void **)&function = berth__dlvsym_resolve();
    return function ? function(handle, name, version) : NULL;
}

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
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* The driver's handle if it is loaded in this namespace; that keeps it loaded. */
static void *find_driver(const void *address)
{
    void *handle = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    Dl_info info;

    if (!handle)
        handle = dlopen("libcuda.so", RTLD_LAZY | RTLD_NOLOAD);
    if (!handle && address && dladdr(address, &info) && info.dli_fname &&
        strncmp(base_name(info.dli_fname), "libcuda.so", strlen("libcuda.so")) == 0)
        handle = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    return handle;
}

/* Each name's own address, past Berth's export of the same name. */
static void bind_all(void *handle, struct berth_driver *driver)
{
#define X(name, parameters) *(void **)&driver->name = berth__real_dlsym(handle, #name);
    BERTH_DRIVER_USED(X)
    BERTH_DRIVER_HOOKED(X)
#undef X
}

bool berth__real_bind(const void *address)
{
    static atomic_flag taken = ATOMIC_FLAG_INIT;
    struct berth_driver driver;
    void *handle;

    if (atomic_load_explicit(&berth__real_is_bound, memory_order_acquire))
        return true;
    berth__thread.inside++;
    handle = find_driver(address);
    if (handle) {
        bind_all(handle, &driver);
        /* Threads that race have found the same; one of them writes, the others wait for it. */
        if (!atomic_flag_test_and_set(&taken)) {
            berth__driver = driver;
            berth__describe_device = berth__cuda_describe;
            pthread_atfork(NULL, NULL, forget_in_child);
            atomic_store_explicit(&berth__real_is_bound, true, memory_order_release);
        }
        while (!atomic_load_explicit(&berth__real_is_bound, memory_order_acquire))
            sched_yield();
    }
    berth__thread.inside--;
    return handle != NULL;
}

/*
 * A program that links the driver is bound at once: later the first call may come from a thread for
 * which a constructor waits, and that holds the loader's lock. Others pay one look at the list.
 */
__attribute__((constructor)) static void bind_linked(void)
{
    if (berth__real_module_is_loaded("libcuda.so"))
        berth__real_bind(NULL);
}
