/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the dlopen() and dlmopen() that the jumps in dlopen_*.S go on to: those of the next library
 * in the search order, which may be another wrapper. Compiled into both preload libraries, with
 * hidden visibility.
 */
#include <dlfcn.h>
#include <stddef.h>

extern void *berth__dlopen_next;
extern void *berth__dlmopen_next;
void *berth__dlopen_resolve(void);
void *berth__dlmopen_resolve(void);

/* NULL until the first call; threads that race store the same address. */
void *berth__dlopen_next;
void *berth__dlmopen_next;

static void *resolve(void **next, const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);

    __atomic_store_n(next, function, __ATOMIC_RELAXED);
    return function;
}

void *berth__dlopen_resolve(void)
{
    return resolve(&berth__dlopen_next, "dlopen");
}

void *berth__dlmopen_resolve(void)
{
    return resolve(&berth__dlmopen_next, "dlmopen");
}
