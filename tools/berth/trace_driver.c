/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/trace_driver.h"

#include "alloc/stats.h"
#include "tools/berth/tool.h"

#include <dlfcn.h>
#include <string.h>

/* Of all names, those that a driver must have; the others are needed by some traces. */
static bool is_needed(const char *name)
{
    return strstr(name, "Async") == NULL && strstr(name, "Managed") == NULL &&
           strstr(name, "Stream") == NULL;
}

static int load_calls(const char *path, void *handle, struct berth_trace_driver *ret)
{
#define X(member, name, parameters)                                                                \
    *(void **)&ret->member = dlsym(handle, name);                                                  \
    if (!ret->member && is_needed(name))                                                           \
        return berth__tool_fail("trace replay: %s has no %s; expected a CUDA driver", path, name);
    BERTH_TRACE_CALLS(X)
#undef X
    return 0;
}

/* Whether the allocation call that the program gets is Berth's. */
static int find_pool(const char *path, struct berth_trace_driver *ret)
{
    Dl_info info = {0};

    ret->pool_stats = dlsym(RTLD_DEFAULT, "berth__tier_stats");
    if (!ret->pool_stats)
        return 0;
    if (!dladdr(*(void **)&ret->alloc, &info) || !info.dli_fname ||
        !strstr(info.dli_fname, "libberth.so"))
        return berth__tool_fail("trace replay: libberth.so does not serve %s; expected a driver "
                                "whose file is libcuda.so.1, or `--driver virtual`",
                                path);
    *(void **)&ret->pool_walk = dlsym(RTLD_DEFAULT, "berth__pool_walk");
    ret->is_pool = true;
    return 0;
}

int berth__trace_driver_open(const char *path, struct berth_trace_driver *ret)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    int r;

    memset(ret, 0, sizeof(*ret));
    if (!handle)
        return berth__tool_fail("trace replay: the driver cannot be loaded: %s", dlerror());
    r = load_calls(path, handle, ret);
    if (r == 0)
        r = find_pool(path, ret);
    if (r != 0)
        return r;
    *(void **)&ret->counters = dlsym(handle, "berth_virtual_counters");
    *(void **)&ret->reset_peak = dlsym(handle, "berth_virtual_reset_peak");
    ret->is_virtual = ret->counters && ret->reset_peak;
    r = ret->init(0);
    if (r != 0)
        return berth__tool_fail("trace replay: %s: cuInit answered %d; expected a machine with a "
                                "GPU, or `--driver virtual`",
                                path, r);
    return 0;
}

/* The pool's own account, of all tiers of device memory. */
static void pool_usage(const struct berth_tier_stats *stats, struct berth_trace_usage *ret)
{
    for (unsigned i = 0; i < BERTH_TIER_MAX; i++) {
        if (i == BERTH_TIER_PINNED || i == BERTH_TIER_DRAM)
            continue;
        ret->reserved += atomic_load_explicit(&stats[i].reserved, memory_order_relaxed);
        ret->allocations += atomic_load_explicit(&stats[i].backend_allocs, memory_order_relaxed);
        ret->frees += atomic_load_explicit(&stats[i].backend_frees, memory_order_relaxed);
    }
}

void berth__trace_driver_usage(const struct berth_trace_driver *driver,
                               struct berth_trace_usage *ret)
{
    struct berth_trace_counters counters = {0};
    size_t free_size = 0, total_size = 0;

    memset(ret, 0, sizeof(*ret));
    if (driver->is_virtual) {
        driver->counters(&counters);
        *ret = (struct berth_trace_usage){counters.used_peak, counters.allocations, counters.frees,
                                          counters.maps, counters.unmaps};
    } else if (driver->is_pool) {
        pool_usage(driver->pool_stats, ret);
    } else if (driver->get_info(&free_size, &total_size) == 0) {
        ret->reserved = total_size - free_size;
    }
}
