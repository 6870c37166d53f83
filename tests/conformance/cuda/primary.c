/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: threads that retain and release the primary context in turns, so that it ends and begins
 * again at the same handle, never get memory of a context that is gone. Method: each thread fills,
 * looks at and frees blocks of its own between the two; natively no call fails. Seedless: the
 * latency that the test adds to a call makes the moments meet.
 */
#include "cuda_api.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define THREADS 3
#define ROUNDS 200
#define BLOCKS 4
#define SIZE_STEP 50000

static atomic_uint wrong;

#define CALL(call)                                                                                 \
    do {                                                                                           \
        CUresult result_ = (call);                                                                 \
        if (result_ != CUDA_SUCCESS && atomic_fetch_add(&wrong, 1) == 0)                           \
            fprintf(stderr, "%s answered %d\n", #call, (int)result_);                              \
    } while (0)

static void use_memory(unsigned char seed)
{
    CUdeviceptr block[BLOCKS] = {0};
    unsigned char byte = 0;

    for (unsigned i = 0; i < BLOCKS; i++)
        CALL(cuMemAlloc_v2(&block[i], (size_t)SIZE_STEP * (i + 1)));
    for (unsigned i = 0; i < BLOCKS; i++)
        CALL(cuMemsetD8_v2(block[i], (unsigned char)(seed + i), (size_t)SIZE_STEP * (i + 1)));
    for (unsigned i = 0; i < BLOCKS; i++) {
        CALL(cuMemcpyDtoH_v2(&byte, block[i] + SIZE_STEP / 2, 1));
        if (byte != (unsigned char)(seed + i))
            atomic_fetch_add(&wrong, 1);
        CALL(cuMemFree_v2(block[i]));
    }
}

static void *run(void *argument)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        CUcontext context = NULL;

        CALL(cuDevicePrimaryCtxRetain(&context, 0));
        CALL(cuCtxSetCurrent(context));
        use_memory((unsigned char)round);
        CALL(cuCtxSetCurrent(NULL));
        CALL(cuDevicePrimaryCtxRelease_v2(0));
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    CUresult result = cuInit(0);

    if (result != CUDA_SUCCESS)
        return 1;
    for (unsigned i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, run, NULL);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("%u wrong\n", atomic_load(&wrong));
    return atomic_load(&wrong) == 0 ? 0 : 1;
}
