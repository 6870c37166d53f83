/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever way a program takes to the driver, Berth serves it. Method: the same work through
 * the way that the first argument names; paths.py compares it natively and under Berth. Not linked
 * to the driver but in the build PATH_LINKED. Compiled without optimisation, so that no call here
 * is a jump by chance.
 */
#include "path_work.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#ifdef PATH_LINKED
/* path_next.c */
void *next_symbol(const char *name);
void next_report(void);

static int use_link(struct path *path)
{
    *path = (struct path){
        cuInit,          cuDevicePrimaryCtxRetain, cuCtxSetCurrent, cuMemAlloc_v2,
        cuMemFree_v2,    cuMemAllocAsync,          cuMemFreeAsync,  cuMemGetAddressRange_v2,
        cuMemcpyHtoD_v2, cuMemcpyDtoH_v2};
    return 0;
}

static void *find_default(const char *name, int version)
{
    return dlsym(RTLD_DEFAULT, name);
}

static void *find_next(const char *name, int version)
{
    return next_symbol(name);
}

static void *find_own_next(const char *name, int version)
{
    return dlsym(RTLD_NEXT, name);
}
#endif

static void *driver;

static void *(*plugin_symbol)(void *handle, const char *name);

static void *find_in_plugin(const char *name, int version)
{
    return plugin_symbol(driver, name);
}

static void *find_dlsym(const char *name, int version)
{
    return dlsym(driver, name);
}

static void *find_dlvsym(const char *name, int version)
{
    /* The driver's symbols carry no version; dlvsym then finds nothing, or takes any. */
    void *found = dlvsym(driver, name, "libcuda.so.1");

    return found ? found : dlsym(driver, name);
}

/* "cuMemAlloc_v2" -> "cuMemAlloc": the resolver chooses by the CUDA version. */
static const char *base_name(const char *name)
{
    static char base[64];
    size_t length = strlen(name);

    strcpy(base, name);
    if (length > 3 && strcmp(base + length - 3, "_v2") == 0)
        base[length - 3] = '\0';
    return base;
}

static void *find_proc_v1(const char *name, int version)
{
    CUresult (*get)(const char *, void **, int, cuuint64_t);
    void *found = NULL;

    *(void **)&get = dlsym(driver, "cuGetProcAddress");
    return get(base_name(name), &found, version, 0) == 0 ? found : NULL;
}

static cuuint64_t proc_flags;

static void *find_proc_v2(const char *name, int version)
{
    CUresult (*get)(const char *, void **, int, cuuint64_t, CUdriverProcAddressQueryResult *);
    CUdriverProcAddressQueryResult status = 9;
    void *found = NULL;

    *(void **)&get = dlsym(driver, "cuGetProcAddress_v2");
    return get(base_name(name), &found, version, proc_flags, &status) == 0 && status == 0 ? found
                                                                                          : NULL;
}

/* The resolver asked for the resolver, as runtimes do. */
static void *find_proc_of_itself(const char *name, int version)
{
    CUresult (*get)(const char *, void **, int, cuuint64_t, CUdriverProcAddressQueryResult *);
    void *found = NULL;

    *(void **)&get = find_proc_v2("cuGetProcAddress", 12000);
    return get(base_name(name), &found, version, proc_flags, NULL) == 0 ? found : NULL;
}

static int fill(struct path *path, void *(*find)(const char *name, int version))
{
    *(void **)&path->init = find("cuInit", 2000);
    *(void **)&path->retain = find("cuDevicePrimaryCtxRetain", 7000);
    *(void **)&path->set_current = find("cuCtxSetCurrent", 4000);
    *(void **)&path->allocate = find("cuMemAlloc_v2", 3020);
    *(void **)&path->release = find("cuMemFree_v2", 3020);
    *(void **)&path->allocate_async = find("cuMemAllocAsync", 11020);
    *(void **)&path->release_async = find("cuMemFreeAsync", 11020);
    *(void **)&path->range = find("cuMemGetAddressRange_v2", 3020);
    *(void **)&path->to_device = find("cuMemcpyHtoD_v2", 3020);
    *(void **)&path->to_host = find("cuMemcpyDtoH_v2", 3020);
    return 0;
}

static int choose(const char *way, struct path *path)
{
#ifdef PATH_LINKED
    if (strcmp(way, "link") == 0)
        return use_link(path);
    if (strcmp(way, "default") == 0)
        return fill(path, find_default);
    if (strcmp(way, "next") == 0)
        return fill(path, find_next);
    if (strcmp(way, "own-next") == 0)
        return fill(path, find_own_next);
    if (strcmp(way, "order") == 0) {
        next_report();
        return -1;
    }
#else
    if (strcmp(way, "absent") == 0) {
        /* Without a driver in the process there are no such names, Berth or not. */
        printf("default %d, program %d, next %d\n", dlsym(RTLD_DEFAULT, "cuMemAlloc_v2") != NULL,
               dlsym(dlopen(NULL, RTLD_LAZY), "cuMemAlloc_v2") != NULL,
               dlsym(RTLD_NEXT, "cuInit") != NULL);
        return -1;
    }
    driver = dlopen("libcuda.so.1", RTLD_NOW);
#endif
    if (strcmp(way, "deepbind") == 0) {
        void *plugin = dlopen("libpath_plugin.so", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);

        *(void **)&plugin_symbol = plugin ? dlsym(plugin, "plugin_symbol") : NULL;
        return plugin_symbol ? fill(path, find_in_plugin) : 1;
    }
    if (strcmp(way, "dlsym") == 0)
        return fill(path, find_dlsym);
    if (strcmp(way, "dlvsym") == 0)
        return fill(path, find_dlvsym);
    if (strcmp(way, "proc-v1") == 0)
        return fill(path, find_proc_v1);
    if (strcmp(way, "proc-v2") == 0)
        return fill(path, find_proc_v2);
    proc_flags = CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
    if (strcmp(way, "proc-ptsz") == 0)
        return fill(path, find_proc_v2);
    if (strcmp(way, "proc-of-itself") == 0)
        return fill(path, find_proc_of_itself);
    printf("no such way: %s\n", way);
    return 1;
}

int main(int argc, char **argv)
{
    struct path path;
    int r = choose(argc > 1 ? argv[1] : "", &path);

    return r < 0 ? 0 : r > 0 ? 1 : path_work(&path);
}
