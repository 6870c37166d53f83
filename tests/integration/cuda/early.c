/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library whose constructor uses CUDA in a thread and waits for it, with the loader's lock held,
 * and whose destructor frees.
 */
#include "cuda_api.h"

#include <pthread.h>
#include <stdio.h>

int early_result(void);

static CUcontext context;
static CUdeviceptr kept;

static void *work(void *argument)
{
    CUdeviceptr p = 0;

    printf("init %d", cuInit(0));
    printf(" retain %d", cuDevicePrimaryCtxRetain(&context, 0));
    printf(" current %d", cuCtxSetCurrent(context));
    for (int i = 0; i < 10; i++)
        if (cuMemAlloc_v2(&p, 5000) != 0 || cuMemFree_v2(p) != 0)
            printf(" failed");
    printf(" kept %d\n", cuMemAlloc_v2(&kept, 5000));
    return NULL;
}

__attribute__((constructor)) static void early(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, work, NULL) == 0)
        pthread_join(thread, NULL);
}

int early_result(void)
{
    return kept != 0;
}

__attribute__((destructor)) static void late(void)
{
    CUresult result = cuMemFree_v2(kept);

    printf("destructor: %d\n", result);
    fflush(stdout);
}
