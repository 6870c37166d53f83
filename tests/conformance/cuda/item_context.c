/* SPDX-License-Identifier: Apache-2.0 */
/* Checklist items 27 to 30: peers, contexts, devices. See item.h. */
#include "item.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef int (*runtime_alloc)(void **pointer, size_t size);
typedef int (*runtime_free)(void *pointer);
typedef int (*runtime_call)(void);

static void copy_both_ways(const char *when, CUdeviceptr here, CUdeviceptr there,
                           unsigned char mark)
{
    EXPECT(cuMemsetD8_v2(here, mark, KIB(64)) == 0 && cuCtxSynchronize() == 0);
    SEEN("%s: copy %d", when, cuMemcpyDtoD_v2(there, here, KIB(64)));
    EXPECT(cuCtxSynchronize() == 0);
    printf(" holds %d\n", check_holds(there, KIB(64), mark));
}

void item_27_peer_access(void)
{
    CUdeviceptr here, before[2], after[2];
    CUcontext second;
    int can = 0;

    check_up();
    second = check_second_device();
    if (!second)
        return;
    SEEN("can: %d", cuDeviceCanAccessPeer(&can, 0, 1));
    printf(" %d\n", can);
    here = check_alloc(KIB(64));
    EXPECT(cuCtxSetCurrent(second) == 0);
    before[0] = check_alloc(KIB(64));
    before[1] = check_alloc(MIB(4));
    /* Memory that was freed before peers were enabled, and serves again afterwards. */
    EXPECT(cuMemFree_v2(check_alloc(KIB(64))) == 0 && cuMemFree_v2(check_alloc(MIB(4))) == 0);
    EXPECT(cuCtxSetCurrent(check_context) == 0);
    SEEN("enable: %d", cuCtxEnablePeerAccess(second, 0));
    printf(" again %d\n", cuCtxEnablePeerAccess(second, 0));
    EXPECT(cuCtxSetCurrent(second) == 0);
    after[0] = check_alloc(KIB(64));
    after[1] = check_alloc(MIB(4));
    EXPECT(cuCtxSetCurrent(check_context) == 0);
    for (unsigned i = 0; i < 2; i++) {
        copy_both_ways("memory from before", here, before[i], (unsigned char)(i + 1));
        copy_both_ways("and back", before[i], here, (unsigned char)(i + 3));
        copy_both_ways("memory from after", here, after[i], (unsigned char)(i + 5));
        SEEN("fills by the other device: %d", cuMemsetD8_v2(before[i], 1, KIB(64)));
        printf(" %d", cuMemsetD8_v2(after[i], 2, KIB(64)));
        EXPECT(cuCtxSynchronize() == 0);
        printf(" hold %d", check_holds(before[i], KIB(64), 1));
        printf(" %d\n", check_holds(after[i], KIB(64), 2));
        SEEN("frees: %d", cuMemFree_v2(before[i]));
        printf(" %d\n", cuMemFree_v2(after[i]));
    }
    SEEN("disable: %d", cuCtxDisablePeerAccess(second));
    printf(" again %d\n", cuCtxDisablePeerAccess(second));
}

static void reset_device(void)
{
    CUdeviceptr p, q;

    check_up();
    p = check_alloc(KIB(4));
    q = check_alloc(MIB(4));
    EXPECT(cuMemFree_v2(check_alloc(MIB(3))) == 0 && cuMemFree_v2(check_alloc(KIB(3))) == 0);
    SEEN("reset: %d\n", cuDevicePrimaryCtxReset_v2(0));
    EXPECT(cuDevicePrimaryCtxRetain(&check_context, 0) == 0 && cuCtxSetCurrent(check_context) == 0);
    SEEN("stale: %d %d\n", cuMemFree_v2(p), cuMemFree_v2(q));
    p = check_alloc(KIB(4));
    check_fill(p, KIB(4), 3);
    SEEN("new: %d", check_holds(p, KIB(4), 3));
    printf(" free %d\n", cuMemFree_v2(p));
    p = check_alloc(KIB(4));
    SEEN("release: %d", cuDevicePrimaryCtxRelease_v2(0));
    printf(" stale %d\n", cuMemFree_v2(p));
}

static void destroy_context(void)
{
    CUdeviceptr p, q, next = 0, ordered = 0;
    CUcontext second = NULL;
    CUstream stream;

    check_up();
    EXPECT(cuCtxCreate_v2(&second, 0, 0) == 0);
    p = check_alloc(KIB(4));
    q = check_alloc(MIB(4));
    stream = check_stream();
    EXPECT(cuMemAllocAsync(&ordered, KIB(8), stream) == 0 && cuStreamSynchronize(stream) == 0);
    EXPECT(cuMemFree_v2(check_alloc(KIB(7))) == 0);
    SEEN("destroy: %d", cuCtxDestroy_v2(second));
    printf(" again %d\n", cuCtxDestroy_v2(second));
    SEEN("allocate in it: %d", cuCtxSetCurrent(second));
    printf(" %d\n", cuMemAlloc_v2(&next, KIB(7)));
    EXPECT(cuCtxSetCurrent(check_context) == 0);
    SEEN("stale: %d %d\n", cuMemFree_v2(p), cuMemFree_v2(q));
    /* Memory of the device's pool outlives the context. */
    check_fill(ordered, KIB(8), 5);
    SEEN("stream-ordered: %d", check_holds(ordered, KIB(8), 5));
    printf(" free %d\n", cuMemFreeAsync(ordered, NULL));
    SEEN("destroy the primary context: %d\n", cuCtxDestroy_v2(check_context));
    EXPECT(cuMemFree_v2(check_alloc(KIB(4))) == 0);
}

static pthread_barrier_t turns;
static CUcontext doomed;

/* Has the context current, and memory of it cached, while another thread destroys it. */
static void *live_in_doomed(void *user)
{
    CUdeviceptr p = 0;
    CUcontext current = NULL;

    EXPECT(cuCtxSetCurrent(doomed) == 0);
    EXPECT(cuMemFree_v2(check_alloc(KIB(4))) == 0);
    EXPECT(cuMemFree_v2(check_alloc(MIB(3))) == 0);
    pthread_barrier_wait(&turns);
    pthread_barrier_wait(&turns);
    SEEN("in a context that is gone: %d %d", cuMemAlloc_v2(&p, KIB(4)), cuMemAlloc_v2(&p, MIB(3)));
    printf(" current %d", cuCtxGetCurrent(&current));
    printf(" %d\n", current == doomed);
    pthread_barrier_wait(&turns);
    pthread_barrier_wait(&turns);
    SEEN("after another was made: %d", cuCtxSetCurrent(doomed));
    printf(" %d\n", cuMemAlloc_v2(&p, KIB(4)));
    return NULL;
}

static void destroy_under_another_thread(void)
{
    pthread_t thread;
    CUcontext next = NULL, left;

    check_up();
    EXPECT(pthread_barrier_init(&turns, NULL, 2) == 0);
    EXPECT(cuCtxCreate_v2(&doomed, 0, 0) == 0 && cuCtxPopCurrent_v2(&left) == 0);
    EXPECT(pthread_create(&thread, NULL, live_in_doomed, NULL) == 0);
    pthread_barrier_wait(&turns);
    SEEN("destroy: %d\n", cuCtxDestroy_v2(doomed));
    pthread_barrier_wait(&turns);
    pthread_barrier_wait(&turns);
    EXPECT(cuCtxCreate_v2(&next, 0, 0) == 0);
    doomed = next;
    pthread_barrier_wait(&turns);
    pthread_join(thread, NULL);
    EXPECT(cuMemFree_v2(check_alloc(KIB(4))) == 0);
}

static void *live_through_reset(void *user)
{
    CUdeviceptr p = 0;
    CUresult result;

    EXPECT(cuCtxSetCurrent(check_context) == 0);
    EXPECT(cuMemFree_v2(check_alloc(KIB(4))) == 0);
    pthread_barrier_wait(&turns);
    pthread_barrier_wait(&turns);
    result = cuMemAlloc_v2(&p, KIB(4));
    SEEN("in a context that was reset: %d", result);
    if (result == 0)
        check_fill(p, KIB(4), 9);
    printf(" free %d\n", cuMemFree_v2(p));
    return NULL;
}

static void reset_under_another_thread(void)
{
    pthread_t thread;

    check_up();
    EXPECT(pthread_barrier_init(&turns, NULL, 2) == 0);
    EXPECT(pthread_create(&thread, NULL, live_through_reset, NULL) == 0);
    pthread_barrier_wait(&turns);
    SEEN("reset: %d\n", cuDevicePrimaryCtxReset_v2(0));
    pthread_barrier_wait(&turns);
    pthread_join(thread, NULL);
}

static void reset_by_runtime(void)
{
    runtime_alloc allocate;
    runtime_free release;
    runtime_call reset;
    void *small = NULL, *large = NULL;

    if (!check_runtime_up())
        return;
    allocate = (runtime_alloc)check_runtime_function("cudaMalloc");
    release = (runtime_free)check_runtime_function("cudaFree");
    reset = (runtime_call)check_runtime_function("cudaDeviceReset");
    for (int round = 0; round < 2; round++) {
        SEEN("cudaMalloc: %d %d", allocate(&small, 5000), allocate(&large, MIB(5)));
        printf(" cudaDeviceReset: %d", reset());
        printf(" stale: %d %d\n", release(small), release(large));
    }
    SEEN("cudaMalloc: %d", allocate(&small, 5000));
    printf(" cudaFree: %d\n", release(small));
}

void item_28_context_end(void)
{
    check_in_child("reset", reset_device);
    check_in_child("destroyed", destroy_context);
    check_in_child("destroyed under another thread", destroy_under_another_thread);
    check_in_child("reset under another thread", reset_under_another_thread);
    check_in_child("by the runtime", reset_by_runtime);
}

static CUcontext owner_of(CUdeviceptr p)
{
    CUcontext owner = NULL;

    EXPECT(cuPointerGetAttribute(&owner, CU_POINTER_ATTRIBUTE_CONTEXT, p) == 0);
    return owner;
}

struct green_calls {
    CUresult (*resource)(CUdevice, CUdevResource *, int);
    CUresult (*describe)(CUdevResourceDesc *, CUdevResource *, unsigned);
    CUresult (*create)(CUgreenCtx *, CUdevResourceDesc, CUdevice, unsigned);
    CUresult (*convert)(CUcontext *, CUgreenCtx);
    CUresult (*destroy)(CUgreenCtx);
    CUresult (*stream)(CUstream *, CUgreenCtx, unsigned, int);
};

static bool find_green_calls(struct green_calls *calls)
{
    *(void **)&calls->resource = check_driver_function("cuDeviceGetDevResource", 12040);
    *(void **)&calls->describe = check_driver_function("cuDevResourceGenerateDesc", 12040);
    *(void **)&calls->create = check_driver_function("cuGreenCtxCreate", 12040);
    *(void **)&calls->convert = check_driver_function("cuCtxFromGreenCtx", 12040);
    *(void **)&calls->destroy = check_driver_function("cuGreenCtxDestroy", 12040);
    *(void **)&calls->stream = check_driver_function("cuGreenCtxStreamCreate", 12050);
    return calls->resource && calls->describe && calls->create && calls->convert && calls->destroy;
}

static void work_slowly(void *user)
{
    usleep(20000);
}

/* Of a green context and the primary one: memory of the current is written by late work of the
 * other. */
static void late_work_of_other(CUstream other)
{
    CUdeviceptr p = check_alloc(KIB(64)), next[3];
    size_t wrong = 0;

    EXPECT(cuLaunchHostFunc(other, work_slowly, NULL) == 0);
    EXPECT(cuMemsetD8Async(p, 0xee, KIB(64), other) == 0);
    EXPECT(cuMemFree_v2(p) == 0);
    for (size_t i = 0; i < COUNT(next); i++) {
        next[i] = check_alloc(KIB(64));
        check_fill(next[i], KIB(64), 0x11);
    }
    EXPECT(cuStreamSynchronize(other) == 0);
    for (size_t i = 0; i < COUNT(next); i++) {
        wrong += !check_holds(next[i], KIB(64), 0x11);
        EXPECT(cuMemFree_v2(next[i]) == 0);
    }
    SEEN("blocks written late: %zu\n", wrong);
}

/* The primary context is current, whose memory a green one's streams use, and in whose order. */
static void use_green_stream(const struct green_calls *calls, CUgreenCtx green, CUstream stream)
{
    CUstream green_stream = NULL, left = NULL;

    if (!calls->stream)
        return;
    /* That one is left to the end of its context. */
    EXPECT(calls->stream(&left, green, CU_STREAM_NON_BLOCKING, 0) == 0);
    SEEN("written late: %zu\n", check_written_late(MIB(3), stream, left));
    EXPECT(calls->stream(&green_stream, green, CU_STREAM_NON_BLOCKING, 0) == 0);
    late_work_of_other(green_stream);
    SEEN("in its order, written late: %zu", check_written_late(KIB(70), green_stream, stream));
    printf(" the other way round: %zu", check_written_late(KIB(70), stream, green_stream));
    printf(" both: %zu\n", check_written_late(KIB(70), green_stream, green_stream));
    SEEN("destroy its stream: %d\n", cuStreamDestroy_v2(green_stream));
}

static void use_green_context(void)
{
    CUdevResourceDesc description = NULL;
    CUdevResource resource;
    struct green_calls calls;
    CUdeviceptr p, q;
    CUgreenCtx green = NULL;
    CUcontext context = NULL, left;
    CUstream stream;
    size_t before;

    check_up();
    if (!find_green_calls(&calls))
        return;
    stream = check_stream();
    EXPECT(cuMemFree_v2(check_alloc(KIB(4))) == 0);
    /* So that as many small blocks are cached at the end, by which pieces are said to be free. */
    late_work_of_other(stream);
    before = check_free_memory();
    EXPECT(calls.resource(0, &resource, CU_DEV_RESOURCE_TYPE_SM) == 0);
    EXPECT(calls.describe(&description, &resource, 1) == 0);
    SEEN("create: %d", calls.create(&green, description, 0, CU_GREEN_CTX_DEFAULT_STREAM));
    printf(" convert %d", calls.convert(&context, green));
    printf(" push %d\n", cuCtxPushCurrent_v2(context));
    late_work_of_other(stream);
    p = check_alloc(KIB(4));
    q = check_alloc(MIB(3));
    check_pattern(p, KIB(4), 1);
    check_pattern(q, MIB(3), 2);
    EXPECT(cuMemFree_v2(check_alloc(MIB(9))) == 0 && cuMemFree_v2(check_alloc(KIB(9))) == 0);
    SEEN("pop: %d\n", cuCtxPopCurrent_v2(&left));
    use_green_stream(&calls, green, stream);
    SEEN("destroy: %d\n", calls.destroy(green));
    SEEN("contents: %d %d", check_has_pattern(p, KIB(4), 1), check_has_pattern(q, MIB(3), 2));
    printf(" free %d", cuMemFree_v2(p));
    printf(" %d\n", cuMemFree_v2(q));
    SEEN("given back: %d", check_free_memory() == before);
    printf(" %d\n", cuMemFree_v2(check_alloc(before / MIB(2) * MIB(2))));
}

void item_29_contexts_own_memory(void)
{
    CUcontext contexts[3], left;
    CUdeviceptr p[3][2];

    check_in_child("a green context", use_green_context);
    check_up();
    contexts[0] = check_context;
    EXPECT(cuCtxCreate_v2(&contexts[1], 0, 0) == 0 && cuCtxPopCurrent_v2(&left) == 0);
    EXPECT(cuCtxCreate_v2(&contexts[2], 0, 0) == 0 && cuCtxPopCurrent_v2(&left) == 0);
    for (unsigned i = 0; i < 3; i++) {
        EXPECT(cuCtxPushCurrent_v2(contexts[i]) == 0);
        /* What another context has cached is not for this one. */
        EXPECT(cuMemFree_v2(check_alloc(MIB(3))) == 0 && cuMemFree_v2(check_alloc(KIB(4))) == 0);
        p[i][0] = check_alloc(KIB(4));
        p[i][1] = check_alloc(MIB(3));
        check_pattern(p[i][0], KIB(4), i);
        check_pattern(p[i][1], MIB(3), i + 10);
        EXPECT(cuCtxPopCurrent_v2(&left) == 0);
    }
    for (unsigned i = 0; i < 3; i++)
        SEEN("of its own context: %d %d\n", owner_of(p[i][0]) == contexts[i],
             owner_of(p[i][1]) == contexts[i]);
    SEEN("destroy the second: %d\n", cuCtxDestroy_v2(contexts[1]));
    SEEN("the others: %d %d %d %d\n", check_has_pattern(p[0][0], KIB(4), 0),
         check_has_pattern(p[0][1], MIB(3), 10), check_has_pattern(p[2][0], KIB(4), 2),
         check_has_pattern(p[2][1], MIB(3), 12));
    for (unsigned i = 0; i < 3; i++)
        SEEN("frees: %d %d\n", cuMemFree_v2(p[i][0]), cuMemFree_v2(p[i][1]));
    SEEN("destroy the third: %d\n", cuCtxDestroy_v2(contexts[2]));
}

static void describe_device(int ordinal)
{
    char name[100] = "", bus[32] = "";
    int major = 0, minor = 0, integrated = 9;
    size_t total = 0;
    CUuuid uuid = {{0}};
    unsigned sum = 0;

    SEEN("device %d: %d", ordinal, cuDeviceGetName(name, sizeof(name), ordinal));
    printf(" '%s'", name);
    printf(" %d", cuDeviceGetUuid_v2(&uuid, ordinal));
    for (size_t i = 0; i < sizeof(uuid); i++)
        sum = sum * 31 + (unsigned char)uuid.bytes[i];
    printf(" uuid %08x", sum);
    printf(" %d", cuDeviceGetPCIBusId(bus, sizeof(bus), ordinal));
    printf(" bus %s", bus);
    printf(" %d", cuDeviceComputeCapability(&major, &minor, ordinal));
    printf(" %d.%d", major, minor);
    printf(" %d", cuDeviceTotalMem_v2(&total, ordinal));
    printf(" total %zu", total);
    printf(" %d", cuDeviceGetAttribute(&integrated, (CUdevice_attribute)18, ordinal));
    printf(" integrated %d\n", integrated);
}

static void describe_devices(void)
{
    int count = 0, version = 0;

    EXPECT(cuInit(0) == 0);
    SEEN("version: %d", cuDriverGetVersion(&version));
    printf(" %d\n", version);
    SEEN("count: %d", cuDeviceGetCount(&count));
    printf(" %d\n", count);
    for (int i = 0; i < count; i++)
        describe_device(i);
    if (count == 0)
        return;
    check_up();
    EXPECT(cuMemFree_v2(check_alloc(KIB(4))) == 0);
    describe_device(0);
}

static void describe_second_only(void)
{
    setenv("CUDA_VISIBLE_DEVICES", "1", 1);
    describe_devices();
}

void item_30_device_identity(void)
{
    check_in_child("all", describe_devices);
    check_in_child("CUDA_VISIBLE_DEVICES=1", describe_second_only);
}
