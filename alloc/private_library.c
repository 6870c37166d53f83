/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/private_library.h"

#include <dlfcn.h>
#include <stddef.h>

void (*berth__private_library_lift)(void *handle);

/* RTLD_LOCAL: none of its names may come to serve the program. */
void *berth__private_library_open(const char *name, int flags)
{
    void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL | flags);

    if (handle && berth__private_library_lift)
        berth__private_library_lift(handle);
    return handle;
}
