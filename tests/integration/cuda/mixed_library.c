/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library that mixed_client.c opens: linked to the driver, and with a CUDA runtime of its own
 * inside, as cuBLAS and NCCL have one.
 */
#include "mixed_work.h"

#include <dlfcn.h>

#define LIBRARY_EXPORT __attribute__((visibility("default")))

LIBRARY_EXPORT int library_runtime(int count);
LIBRARY_EXPORT int library_link(int count);
LIBRARY_EXPORT int library_dlsym(int count);

int library_runtime(int count)
{
    return mixed_runtime_work(count);
}

int library_link(int count)
{
    struct mixed_calls calls;

    mixed_linked(&calls);
    return mixed_work(&calls, count);
}

static void *driver;

static void *find(const struct mixed_name *name)
{
    return dlsym(driver, name->symbol);
}

int library_dlsym(int count)
{
    struct mixed_calls calls;

    driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    return !driver || mixed_find(&calls, find) || mixed_work(&calls, count);
}
