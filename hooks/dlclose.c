/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dlclose(), after which another library may lie where the closed one did, at the same return
 * addresses (dlclose(3): "the object may be unloaded"). What is kept by address is looked over here
 * at once: which site a path is, how its frames are read, and what a glance says. A library that
 * the C library closes itself is noticed when the next new path is met.
 *
 * Unlike dlopen(), dlclose() does not depend on who calls it. Compiled into both preload libraries;
 * where both are loaded, the second finds nothing left to do.
 */
#include "alloc/module.h"
#include "alloc/site.h"
#include "alloc/thread.h"
#include "hooks/frame_walk.h"
#ifdef BERTH_MALLOC_SIDE
#include "pmem/glance.h"
#endif

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>

typedef int (*dlclose_fn)(void *handle);

BERTH_EXPORT int dlclose(void *handle);

/* The next library's, which may be another wrapper; threads that race store the same address. */
static dlclose_fn find_next(void)
{
    static _Atomic(dlclose_fn) next;
    dlclose_fn function = atomic_load_explicit(&next, memory_order_relaxed);

    if (!function) {
        *(void **)&function = dlsym(RTLD_NEXT, "dlclose");
        atomic_store_explicit(&next, function, memory_order_relaxed);
    }
    return function;
}

static void look_over(void)
{
    uint64_t gone = berth__module_gone_count();

    berth__site_refresh();
    if (berth__module_gone_count() == gone)
        return;
    berth__frame_walk_forget();
#ifdef BERTH_MALLOC_SIDE
    berth__glance_forget();
#endif
}

int dlclose(void *handle)
{
    dlclose_fn next = find_next();
    int saved_errno, r = next ? next(handle) : -1;

    /* Without sites nothing is kept. */
    if (r != 0 || berth__site_count() <= 1 || berth__thread.inside)
        return r;
    saved_errno = errno;
    berth__thread.inside++;
    look_over();
    berth__thread.inside--;
    errno = saved_errno;
    return r;
}
