/* SPDX-License-Identifier: Apache-2.0 */
#include "driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

struct driver driver;
struct driver_streams driver_streams[2];
__typeof__(&cuGetProcAddress_v2) driver_resolve;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static cudaError_t load_error;

/* A driver that lacks one of the calls is too old for this runtime. */
static void resolve(const char *name, int version, cuuint64_t flags, void *ret_entry)
{
    void *entry = NULL;

    if (driver_resolve(name, &entry, version, flags, NULL) != CUDA_SUCCESS || !entry)
        load_error = cudaErrorInsufficientDriver;
    memcpy(ret_entry, &entry, sizeof(entry));
}

static void load(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    void *entry = library ? dlsym(library, "cuGetProcAddress_v2") : NULL;

    if (!entry) {
        load_error = cudaErrorInsufficientDriver;
        return;
    }
    memcpy(&driver_resolve, &entry, sizeof(entry));
#define DRIVER(name, version, exported) resolve(#name, version, 0, &driver.name);
    DRIVER_CALLS
#undef DRIVER
    for (int per_thread = 0; per_thread < 2; per_thread++) {
        struct driver_streams *table = &driver_streams[per_thread];
        cuuint64_t flags = per_thread ? CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM
                                      : CU_GET_PROC_ADDRESS_LEGACY_STREAM;

#define DRIVER(name, version, exported) resolve(#name, version, flags, &table->name);
        DRIVER_STREAM_CALLS
#undef DRIVER
    }
}

cudaError_t driver_load(void)
{
    pthread_once(&once, load);
    return load_error;
}
