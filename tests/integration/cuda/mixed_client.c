/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: one program that reaches the driver in every way, and whose every allocation Berth sees.
 * Method: each way makes a number of calls of its own, says so, and waits for a line on stdin, so
 * that mixed.py can ask Berth between two ways. Linked to the driver and to the shared runtime; its
 * libraries are linked to the driver, and contain the static runtime (mixed_library.c).
 */
#include "mixed_work.h"
#include "runtime/runtime_api.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static void *driver;
static CUresult (*resolve_v1)(const char *, void **, int, cuuint64_t);
static CUresult (*resolve_v2)(const char *, void **, int, cuuint64_t,
                              CUdriverProcAddressQueryResult *);
static CUresult (*resolve_ptsz)(const char *, void **, int, cuuint64_t,
                                CUdriverProcAddressQueryResult *);

static void *by_dlsym(const struct mixed_name *name)
{
    return dlsym(driver, name->symbol);
}

/* mixed.py lets it run on the driver whose names have a version. */
static void *by_dlvsym(const struct mixed_name *name)
{
    return dlvsym(driver, name->symbol, "libcuda.so.1");
}

static void *by_default(const struct mixed_name *name)
{
    return dlsym(RTLD_DEFAULT, name->symbol);
}

static void *by_next(const struct mixed_name *name)
{
    return dlsym(RTLD_NEXT, name->symbol);
}

static void *by_proc_v1(const struct mixed_name *name)
{
    void *found = NULL;

    return resolve_v1(name->name, &found, name->version, 0) == 0 ? found : NULL;
}

static void *by_proc_v2(const struct mixed_name *name)
{
    void *found = NULL;

    return resolve_v2(name->name, &found, name->version, 0, NULL) == 0 ? found : NULL;
}

static void *by_proc_per_thread(const struct mixed_name *name)
{
    void *found = NULL;

    return resolve_v2(name->name, &found, name->version,
                      CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, NULL) == 0
               ? found
               : NULL;
}

static void *by_proc_ptsz(const struct mixed_name *name)
{
    void *found = NULL;

    return resolve_ptsz(name->name, &found, name->version, 0, NULL) == 0 ? found : NULL;
}

static void *by_entry(const struct mixed_name *name)
{
    void *found = NULL;

    return cudaGetDriverEntryPoint(name->name, &found, 0, NULL) == 0 ? found : NULL;
}

static void *by_entry_ptsz(const struct mixed_name *name)
{
    void *found = NULL;

    return cudaGetDriverEntryPoint_ptsz(name->name, &found, 0, NULL) == 0 ? found : NULL;
}

static void *by_entry_version(const struct mixed_name *name)
{
    void *found = NULL;

    return cudaGetDriverEntryPointByVersion(name->name, &found, (unsigned)name->version, 0, NULL) ==
                   0
               ? found
               : NULL;
}

static void *by_entry_version_ptsz(const struct mixed_name *name)
{
    void *found = NULL;

    return cudaGetDriverEntryPointByVersion_ptsz(name->name, &found, (unsigned)name->version, 0,
                                                 NULL) == 0
               ? found
               : NULL;
}

static int by_link(int count)
{
    struct mixed_calls calls;

    mixed_linked(&calls);
    return mixed_work(&calls, count);
}

/* A library that is opened, by its own look-ups and its own copy of the runtime. */
static int by_library(const char *function, int flags, int count)
{
    void *library = dlopen("libmixed_library.so", RTLD_NOW | RTLD_LOCAL | flags);
    int (*work)(int count) = NULL;

    if (library)
        *(void **)&work = dlsym(library, function);
    if (!work)
        return printf("libmixed_library.so: %s\n", dlerror()) > 0;
    return work(count);
}

static int by_shared_runtime(int count)
{
    return mixed_runtime_work(count);
}

static void *thread_main(void *wrong)
{
    CUcontext context;
    struct mixed_calls calls;

    *(int *)wrong = cuDevicePrimaryCtxRetain(&context, 0) != 0 || cuCtxSetCurrent(context) != 0;
    *(int *)wrong += by_link(7);
    *(int *)wrong += mixed_find(&calls, by_dlsym) || mixed_work(&calls, 6);
    return NULL;
}

static int by_thread(void)
{
    pthread_t thread;
    int wrong = 1;

    if (pthread_create(&thread, NULL, thread_main, &wrong) == 0)
        pthread_join(thread, NULL);
    return wrong;
}

static int said(const char *way, int wrong)
{
    char line[16];

    printf("%s %d\n", way, wrong);
    fflush(stdout);
    /* mixed.py has asked what it wanted to know. */
    return !fgets(line, sizeof(line), stdin) || wrong;
}

static int found_ways(void)
{
    static const struct {
        const char *way;
        void *(*find)(const struct mixed_name *name);
        int count;
    } ways[] = {
        {"dlsym", by_dlsym, 3},
        {"dlvsym", by_dlvsym, 4},
        {"RTLD_DEFAULT", by_default, 5},
        {"RTLD_NEXT", by_next, 6},
        {"cuGetProcAddress", by_proc_v1, 7},
        {"cuGetProcAddress_v2", by_proc_v2, 8},
        {"cuGetProcAddress_v2, per-thread default stream", by_proc_per_thread, 9},
        {"cuGetProcAddress_v2_ptsz", by_proc_ptsz, 10},
        {"cudaGetDriverEntryPoint", by_entry, 11},
        {"cudaGetDriverEntryPoint_ptsz", by_entry_ptsz, 12},
        {"cudaGetDriverEntryPointByVersion", by_entry_version, 13},
        {"cudaGetDriverEntryPointByVersion_ptsz", by_entry_version_ptsz, 14},
    };
    int wrong = 0;

    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        struct mixed_calls calls;

        wrong += said(ways[i].way,
                      mixed_find(&calls, ways[i].find) || mixed_work(&calls, ways[i].count));
    }
    return wrong;
}

int main(void)
{
    CUcontext context;
    int wrong;

    driver = dlopen("libcuda.so.1", RTLD_NOW);
    *(void **)&resolve_v1 = dlsym(driver, "cuGetProcAddress");
    *(void **)&resolve_v2 = dlsym(driver, "cuGetProcAddress_v2");
    *(void **)&resolve_ptsz = dlsym(driver, "cuGetProcAddress_v2_ptsz");
    wrong = cuInit(0) != 0 || cuDevicePrimaryCtxRetain(&context, 0) != 0 ||
            cuCtxSetCurrent(context) != 0;
    wrong += said("begin", wrong);
    wrong += said("-lcuda", by_link(2));
    wrong += found_ways();
    wrong += said("shared cudart", by_shared_runtime(15));
    wrong += said("static cudart in an opened library", by_library("library_runtime", 0, 16));
    wrong += said("opened library, -lcuda", by_library("library_link", 0, 17));
    wrong += said("opened library, dlsym", by_library("library_dlsym", 0, 18));
    wrong += said("thread, -lcuda and dlsym", by_thread());
    return wrong != 0;
}
