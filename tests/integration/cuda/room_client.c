/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what the pool caches is given back before any call of the driver that takes device memory
 * is refused for want of it, and only then is the refusal the program's. Method: the first call of
 * each function is made to fail with OUT_OF_MEMORY while memory is cached, and the third while none
 * is. The arguments are none that work: every other answer says that the call was made again.
 */
#include "cuda_api.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CACHED ((size_t)64 << 20)

/* Wide enough for all of them; what is not used is not looked at. */
typedef CUresult (*any_function)(void *, void *, void *, void *, void *, void *, void *, void *,
                                 void *, void *, void *);

static const char *const names[] = {
    "cuMemCreate",
    "cuMemMap",
    "cuMemPoolCreate",
    "cuDevicePrimaryCtxRetain",
    "cuCtxSetLimit",
    "cuGreenCtxCreate",
    "cuGreenCtxStreamCreate",
    "cuEventCreate",
    "cuModuleLoadData",
    "cuModuleLoadDataEx",
    "cuModuleLoadFatBinary",
    "cuModuleGetFunction",
    "cuLibraryLoadData",
    "cuKernelGetFunction",
    "cuModuleGetGlobal_v2",
    "cuLibraryGetGlobal",
    "cuLibraryGetManaged",
    "cuFuncLoad",
    "cuGraphExecUpdate",
    "cuGraphExecUpdate_v2",
    "cuMulticastCreate",
    "cuMulticastAddDevice",
    "cuMulticastBindMem",
    "cuMulticastBindAddr",
    "cuCtxCreate_v2",
    "cuCtxCreate_v3",
    "cuCtxCreate_v4",
    "cuStreamCreate",
    "cuStreamCreateWithPriority",
    "cuGraphInstantiate_v2",
    "cuGraphInstantiateWithFlags",
    "cuGraphUpload",
    "cuGraphUpload_ptsz",
    "cuGraphLaunch",
    "cuGraphLaunch_ptsz",
    "cuLaunchKernel",
    "cuLaunchKernel_ptsz",
    "cuLaunchCooperativeKernel",
    "cuLaunchCooperativeKernel_ptsz",
    "cuLaunchKernelEx",
    "cuLaunchKernelEx_ptsz",
};
#define NAME_COUNT (sizeof(names) / sizeof(names[0]))

static CUresult call(const char *name)
{
    any_function function;

    *(void **)&function = dlsym(RTLD_DEFAULT, name);
    if (!function) {
        printf("%s: not found\n", name);
        exit(1);
    }
    return function(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
}

/* Tells the driver, before it is initialised, which calls are to fail. */
static void plan_failures(void)
{
    char plan[NAME_COUNT * 80] = "";

    for (size_t i = 0; i < NAME_COUNT; i++) {
        char *end = plan + strlen(plan);
        /* What main() has called once; or Berth, for the point behind which it gives memory back.
         */
        unsigned before = strcmp(names[i], "cuDevicePrimaryCtxRetain") == 0 ||
                          strcmp(names[i], "cuEventCreate") == 0;

        snprintf(end, sizeof(plan) - (size_t)(end - plan), "%s%s:%u=2,%s:%u=2", i ? "," : "",
                 names[i], before + 1, names[i], before + 3);
    }
    setenv("BERTH_FAKE_FAIL", plan, 1);
}

int main(void)
{
    size_t before, after, total;
    CUcontext context;
    CUdeviceptr p;
    int failed = 0;

    plan_failures();
    if (cuInit(0) != 0 || cuDevicePrimaryCtxRetain(&context, 0) != 0 ||
        cuCtxSetCurrent(context) != 0 || cuMemGetInfo_v2(&before, &total) != 0)
        return 1;
    for (size_t i = 0; i < NAME_COUNT; i++) {
        CUresult cached, empty;

        if (cuMemAlloc_v2(&p, CACHED) != 0 || cuMemFree_v2(p) != 0)
            return 1;
        cached = call(names[i]);
        empty = call(names[i]);
        if (cached == CUDA_ERROR_OUT_OF_MEMORY || empty != CUDA_ERROR_OUT_OF_MEMORY) {
            printf("%s: %d with memory cached, %d without\n", names[i], cached, empty);
            failed = 1;
        }
    }
    if (cuMemGetInfo_v2(&after, &total) != 0 || after != before)
        failed = 1;
    return failed;
}
