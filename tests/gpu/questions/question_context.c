/* SPDX-License-Identifier: Apache-2.0 */
/* Questions about contexts, streams' work and the driver's end. See question.h. */
#include "question.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define DELAY_MS 300

void question_08_reset_context_works(void)
{
    CUdeviceptr p = 0;

    check_up();
    p = check_alloc(KIB(4));
    SEEN("reset: %d\n", cuDevicePrimaryCtxReset_v2(0));
    SEEN("the old memory: %d\n", cuMemFree_v2(p));
    SEEN("alloc in the context that was current: %d", cuMemAlloc_v2(&p, KIB(4)));
    printf(" free %d\n", cuMemFree_v2(p));
}

void question_09_released_context(void)
{
    CUdeviceptr p = 0;
    size_t a, b;

    check_up();
    SEEN("release: %d\n", cuDevicePrimaryCtxRelease_v2(0));
    SEEN("alloc: %d info %d idle %d\n", cuMemAlloc_v2(&p, KIB(4)), cuMemGetInfo_v2(&a, &b),
         cuCtxSynchronize());
    SEEN("make it current: %d\n", cuCtxSetCurrent(check_context));
    SEEN("release again: %d\n", cuDevicePrimaryCtxRelease_v2(0));
}

static CUdeviceptr block;
static CUstream stream;
static CUresult answers[12];

static void call_each(void *user)
{
    CUdeviceptr p = 0;
    CUcontext context;
    size_t a, b;
    int count;

    answers[0] = cuMemAlloc_v2(&p, KIB(4));
    answers[1] = cuMemFree_v2(block);
    answers[2] = cuMemGetInfo_v2(&a, &b);
    answers[3] = cuMemGetAddressRange_v2(&p, &a, block);
    answers[4] = cuPointerGetAttribute(&context, CU_POINTER_ATTRIBUTE_CONTEXT, block);
    answers[5] = cuMemAllocAsync(&p, KIB(4), stream);
    answers[6] = cuMemFreeAsync(block, stream);
    answers[7] = cuCtxGetCurrent(&context);
    answers[8] = cuStreamQuery(stream);
    answers[9] = cuCtxSynchronize();
    answers[10] = cuDeviceGetCount(&count);
    answers[11] = cuMemsetD8Async(block, 1, 1, stream);
}

static void call_each_on(CUstream of, CUresult status, void *user)
{
    call_each(user);
}

static void show_answers(const char *what)
{
    SEEN("%s:", what);
    for (size_t i = 0; i < COUNT(answers); i++)
        printf(" %d", answers[i]);
    printf("\n");
}

void question_10_calls_in_callbacks(void)
{
    check_up();
    stream = check_stream();
    block = check_alloc(KIB(4));
    EXPECT(cuLaunchHostFunc(check_stream(), call_each, NULL) == 0 && cuCtxSynchronize() == 0);
    show_answers("cuLaunchHostFunc");
    block = check_alloc(KIB(4));
    EXPECT(cuStreamAddCallback(check_stream(), call_each_on, NULL, 0) == 0);
    EXPECT(cuCtxSynchronize() == 0);
    show_answers("cuStreamAddCallback");
}

static bool is_destructor_armed;

static void free_now(void)
{
    CUdeviceptr p = 0;

    SEEN("free %d alloc %d\n", cuMemFree_v2(block), cuMemAlloc_v2(&p, 1));
    fflush(stdout);
}

__attribute__((destructor)) static void at_the_end(void)
{
    if (is_destructor_armed)
        free_now();
}

static void exit_before(void)
{
    atexit(free_now);
    check_up();
    block = check_alloc(KIB(4));
    exit(0);
}

static void exit_after(void)
{
    check_up();
    atexit(free_now);
    block = check_alloc(KIB(4));
    exit(0);
}

static void exit_destructor(void)
{
    is_destructor_armed = true;
    check_up();
    block = check_alloc(KIB(4));
    exit(0);
}

void question_11_driver_at_exit(void)
{
    check_in_child("handler registered before cuInit", exit_before);
    check_in_child("handler registered after cuInit", exit_after);
    check_in_child("destructor of the program", exit_destructor);
}

/* Whether a free of `p` waits for work on `busy`, which is of any context. */
static void free_beside(const char *what, CUdeviceptr p, CUstream busy)
{
    question_delay(busy, DELAY_MS);
    question_start_clock();
    SEEN("%s: free %d", what, cuMemFree_v2(p));
    printf(" waited %d\n", question_waited(DELAY_MS));
    EXPECT(cuStreamSynchronize(busy) == 0);
}

void question_26_free_waits_for(void)
{
    CUdeviceptr p[8];
    CUcontext other = NULL, second = NULL, left;

    check_up();
    for (size_t i = 0; i < COUNT(p); i++)
        p[i] = check_alloc(i % 2 ? MIB(4) : KIB(4));
    free_beside("small, its own context", p[0], check_stream());
    free_beside("large, its own context", p[1], check_stream());
    EXPECT(cuCtxCreate_v2(&other, 0, 0) == 0);
    stream = check_stream();
    EXPECT(cuCtxPopCurrent_v2(&left) == 0);
    free_beside("small, another context of the device", p[2], stream);
    free_beside("large, another context of the device", p[3], stream);
    second = check_second_device();
    if (second) {
        EXPECT(cuCtxSetCurrent(second) == 0);
        stream = check_stream();
        EXPECT(cuCtxSetCurrent(check_context) == 0);
        free_beside("small, another device", p[4], stream);
        free_beside("large, another device", p[5], stream);
        SEEN("peer: %d\n", cuCtxEnablePeerAccess(second, 0));
        free_beside("small, a peer", p[6], stream);
        free_beside("large, a peer", p[7], stream);
    }
}

static _Atomic int callback_ran;

static void say_ran(void *user)
{
    callback_ran = 1;
}

void question_35_context_in_callback(void)
{
    check_up();
    stream = check_stream();
    block = check_alloc(KIB(4));
    EXPECT(cuMemFree_v2(check_alloc(KIB(4))) == 0);
    EXPECT(cuLaunchHostFunc(check_stream(), call_each, NULL) == 0 && cuCtxSynchronize() == 0);
    SEEN("cuCtxGetCurrent: %d, cuMemAlloc: %d, cuMemFree: %d\n", answers[7], answers[0],
         answers[1]);
}

void question_36_primary_handle_after_reset(void)
{
    CUcontext before, after = NULL;

    check_up();
    before = check_context;
    EXPECT(cuDevicePrimaryCtxReset_v2(0) == 0);
    EXPECT(cuDevicePrimaryCtxRetain(&after, 0) == 0);
    SEEN("after a reset the same: %d\n", after == before);
    EXPECT(cuDevicePrimaryCtxRelease_v2(0) == 0);
    cuDevicePrimaryCtxRelease_v2(0);
    EXPECT(cuDevicePrimaryCtxRetain(&after, 0) == 0);
    SEEN("after the last release the same: %d\n", after == before);
}

void question_37_destroyed_stream_is_waited_for(void)
{
    CUdeviceptr p;

    check_up();
    p = check_alloc(KIB(4));
    for (int i = 0; i < 2; i++) {
        callback_ran = 0;
        stream = check_stream();
        question_delay(stream, DELAY_MS);
        EXPECT(cuLaunchHostFunc(stream, say_ran, NULL) == 0 && cuStreamDestroy_v2(stream) == 0);
        SEEN("%s: %d", i ? "cuMemFree" : "cuCtxSynchronize",
             i ? cuMemFree_v2(p) : cuCtxSynchronize());
        printf(" the work is done %d\n", callback_ran);
        while (!callback_ran)
            usleep(1000);
    }
}

void question_41_memory_of_green_contexts(void)
{
    CUresult (*resource)(CUdevice, CUdevResource *, int);
    CUresult (*describe)(CUdevResourceDesc *, CUdevResource *, unsigned);
    CUresult (*create)(CUgreenCtx *, CUdevResourceDesc, CUdevice, unsigned);
    CUresult (*convert)(CUcontext *, CUgreenCtx);
    CUresult (*destroy)(CUgreenCtx);
    CUcontext context = NULL, owner = NULL, left;
    CUdevResourceDesc description = NULL;
    CUgreenCtx green = NULL;
    CUdevResource all;
    CUdeviceptr p;

    check_up();
    *(void **)&resource = check_driver_function("cuDeviceGetDevResource", 12040);
    *(void **)&describe = check_driver_function("cuDevResourceGenerateDesc", 12040);
    *(void **)&create = check_driver_function("cuGreenCtxCreate", 12040);
    *(void **)&convert = check_driver_function("cuCtxFromGreenCtx", 12040);
    *(void **)&destroy = check_driver_function("cuGreenCtxDestroy", 12040);
    if (!resource || !describe || !create || !convert || !destroy)
        return;
    EXPECT(resource(0, &all, CU_DEV_RESOURCE_TYPE_SM) == 0 && describe(&description, &all, 1) == 0);
    SEEN("create: %d", create(&green, description, 0, CU_GREEN_CTX_DEFAULT_STREAM));
    printf(" convert %d", convert(&context, green));
    printf(" push %d\n", cuCtxPushCurrent_v2(context));
    p = check_alloc(MIB(3));
    EXPECT(cuPointerGetAttribute(&owner, CU_POINTER_ATTRIBUTE_CONTEXT, p) == 0);
    SEEN("its memory is of the primary context %d, of the green one %d\n", owner == check_context,
         owner == context);
    EXPECT(cuCtxPopCurrent_v2(&left) == 0);
    free_beside("a free beside work of the primary context", p, check_stream());
    EXPECT(cuCtxPushCurrent_v2(context) == 0);
    p = check_alloc(MIB(3));
    check_fill(p, MIB(3), 41);
    EXPECT(cuCtxPopCurrent_v2(&left) == 0);
    SEEN("destroy: %d", destroy(green));
    printf(" the memory is there %d", cuMemcpyDtoH_v2(&all, p, sizeof(all)));
    printf(" free %d\n", cuMemFree_v2(p));
}

static void *delay_own_stream(void *unused)
{
    EXPECT(cuCtxSetCurrent(check_context) == 0);
    question_delay(CU_STREAM_PER_THREAD, DELAY_MS);
    return unused;
}

/* Whether an event of the whole context, recorded now, has passed at once. */
static void see_context_event(const char *whose)
{
    CUevent event;

    EXPECT(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING) == 0);
    SEEN("%s: record %d", whose, cuCtxRecordEvent(check_context, event));
    printf(" query %d\n", cuEventQuery(event));
    EXPECT(cuCtxSynchronize() == 0 && cuEventDestroy_v2(event) == 0);
}

void question_42_context_event_waits_for(void)
{
    pthread_t thread;

    check_up();
    stream = check_stream();
    question_delay(stream, DELAY_MS);
    see_context_event("a stream");
    question_delay(CU_STREAM_PER_THREAD, DELAY_MS);
    see_context_event("the thread's own default stream");
    EXPECT(pthread_create(&thread, NULL, delay_own_stream, NULL) == 0);
    EXPECT(pthread_join(thread, NULL) == 0);
    see_context_event("that of a thread that has ended");
    question_delay(stream, DELAY_MS);
    EXPECT(cuStreamDestroy_v2(stream) == 0);
    see_context_event("a stream that was destroyed");
}
