/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library of the program's own that looks for what comes after it in the search order, and one
 * function of its own that is also the C library's: RTLD_NEXT must never find that one.
 */
#include "tests/first_version.h"

#include <dlfcn.h>
#include <stdio.h>

void *next_symbol(const char *name);
const char *gnu_get_libc_version(void);
void next_report(void);

void *next_symbol(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

const char *gnu_get_libc_version(void)
{
    return "own";
}

void next_report(void)
{
    const char *(*next)(void), *(*versioned)(void), *(*first)(void);

    *(void **)&next = dlsym(RTLD_NEXT, "gnu_get_libc_version");
    *(void **)&versioned = dlvsym(RTLD_NEXT, "gnu_get_libc_version", FIRST_VERSION);
    *(void **)&first = dlsym(RTLD_DEFAULT, "gnu_get_libc_version");
    printf("next %s, versioned %s, first %s\n", next(), versioned(), first());
    printf("missing %d %d\n", dlsym(RTLD_NEXT, "no_such_function") != NULL,
           dlvsym(RTLD_NEXT, "gnu_get_libc_version", "GLIBC_0") != NULL);
    printf("cu but not the driver's: %d\n", dlsym(RTLD_NEXT, "cursed_function") != NULL);
}
