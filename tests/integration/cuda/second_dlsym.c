/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another library that wraps dlsym, as a monitoring tool might: preloaded before and after Berth.
 * It must be called, and the answers must stay right.
 */
#define _GNU_SOURCE 1
#include "tests/first_version.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned long calls;

__attribute__((visibility("default"))) void *dlsym(void *handle, const char *name)
{
    void *(*next)(void *, const char *);

    *(void **)&next = dlvsym(RTLD_NEXT, "dlsym", FIRST_VERSION);
    calls++;
    return next(handle, name);
}

__attribute__((destructor)) static void report(void)
{
    if (getenv("SECOND_DLSYM_REPORT"))
        fprintf(stderr, "second dlsym was called: %s\n", calls ? "yes" : "no");
}
