/* SPDX-License-Identifier: Apache-2.0 */
/* A library of the program's own that looks for what comes after it in the search order. */
#include <dlfcn.h>

void *next_symbol(const char *name);

void *next_symbol(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}
