/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/dlsym_next.h"

#include "hooks/real_module.h"

#include <stddef.h>

void *berth__dlsym_next;
void *berth__dlvsym_next;

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
