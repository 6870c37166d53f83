/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/symbol_name.h"

#include "tools/berth/tool.h"

#include <dlfcn.h>
#include <string.h>

/* As <cxxabi.h> declares it. */
typedef char *(*demangle_fn)(const char *name, char *buffer, size_t *length, int *status);

static demangle_fn find_demangle(void)
{
    static demangle_fn found;
    static int looked;
    void *library;

    if (looked)
        return found;
    looked = 1;
    library = dlopen("libstdc++.so.6", RTLD_NOW | RTLD_LOCAL);
    if (library)
        *(void **)&found = dlsym(library, "__cxa_demangle");
    return found;
}

char *berth__symbol_name(const char *symbol)
{
    demangle_fn demangle = strncmp(symbol, "_Z", 2) == 0 ? find_demangle() : NULL;
    int status = -1;
    char *name = demangle ? demangle(symbol, NULL, NULL, &status) : NULL;

    return name && status == 0 ? name : berth__tool_strdup(symbol);
}
