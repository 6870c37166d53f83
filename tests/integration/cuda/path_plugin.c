/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin that its program opens with RTLD_DEEPBIND, and that looks the driver's functions up. */
#include <dlfcn.h>

void *plugin_symbol(void *handle, const char *name);

void *plugin_symbol(void *handle, const char *name)
{
    return dlsym(handle, name);
}
