/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a thread that counts the primary context up and down, which stays, waits for no work of the
 * device, which may be waiting for this very thread. Method: a host function on a stream waits for
 * the release, while another thread needs memory that is cached, and Berth's cuMemFree waits for
 * the function. Seedless. The function waits less long than Berth does at most.
 */
#include "cuda_api.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MIB(n) ((size_t)(n) << 20)
#define WAIT_MAX_S 8
/* How often in a row a thread is seen to sleep that does not only wait for its turn. */
#define SLEEPS 200

static atomic_uint wrong;
static atomic_bool is_in_function, is_releasing, is_released;
static _Atomic pid_t needing_id;
static CUcontext primary;

#define CALL(call)                                                                                 \
    do {                                                                                           \
        CUresult result_ = (call);                                                                 \
        if (result_ != CUDA_SUCCESS && atomic_fetch_add(&wrong, 1) == 0)                           \
            fprintf(stderr, "%s answered %d\n", #call, (int)result_);                              \
    } while (0)

static void await_release(void *unused)
{
    const struct timespec step = {.tv_nsec = 1000000};
    struct timespec now, begin = {0};

    atomic_store(&is_in_function, true);
    do {
        nanosleep(&step, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (begin.tv_sec == 0 && atomic_load(&is_releasing))
            begin = now;
    } while (!atomic_load(&is_released) &&
             (begin.tv_sec == 0 || now.tv_sec - begin.tv_sec < WAIT_MAX_S));
    if (atomic_load(&is_released))
        return;
    fputs("the release waits for the device\n", stderr);
    atomic_fetch_add(&wrong, 1);
}

/* More than is left beside what is cached. */
static void *need_memory(void *unused)
{
    CUdeviceptr block = 0;

    CALL(cuCtxSetCurrent(primary));
    atomic_store(&needing_id, gettid());
    CALL(cuMemAlloc_v2(&block, MIB(18)));
    CALL(cuMemFree_v2(block));
    return NULL;
}

/* Until the thread sleeps, for the function above it, or, natively, has ended. */
static void await_sleep(void)
{
    char path[64], line[512];
    pid_t id;

    while ((id = atomic_load(&needing_id)) == 0)
        sched_yield();
    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)id);
    for (unsigned sleeps = 0; sleeps < SLEEPS; sched_yield()) {
        FILE *file = fopen(path, "r");
        const char *name_end;

        if (!file)
            return;
        name_end = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
        fclose(file);
        if (!name_end)
            return;
        sleeps = name_end[2] == 'S' ? sleeps + 1 : 0;
    }
}

int main(void)
{
    CUstream stream = NULL;
    CUdeviceptr block = 0;
    CUcontext again = NULL;
    pthread_t needing;

    CALL(cuInit(0));
    CALL(cuDevicePrimaryCtxRetain(&primary, 0));
    CALL(cuCtxSetCurrent(primary));
    CALL(cuMemAlloc_v2(&block, MIB(10)));
    CALL(cuMemFree_v2(block));
    CALL(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CALL(cuLaunchHostFunc(stream, await_release, NULL));
    while (!atomic_load(&is_in_function))
        sched_yield();
    if (pthread_create(&needing, NULL, need_memory, NULL) != 0)
        return 1;
    await_sleep();
    CALL(cuDevicePrimaryCtxRetain(&again, 0));
    atomic_store(&is_releasing, true);
    CALL(cuDevicePrimaryCtxRelease_v2(0));
    atomic_store(&is_released, true);
    pthread_join(needing, NULL);
    CALL(cuStreamDestroy_v2(stream));
    CALL(cuDevicePrimaryCtxRelease_v2(0));
    printf("%u wrong\n", atomic_load(&wrong));
    return atomic_load(&wrong) > 0;
}
