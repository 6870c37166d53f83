/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever call of the driver fails, a program sees what it would see without Berth, nothing
 * is lost, and the next call works. Method: a program that calls everything that Berth wraps, makes
 * each call again that failed, and prints every answer; fault.py lets it run with each call failing
 * in turn, natively and under Berth. In between it says what it has, and waits for a line.
 */
#include "fault_step.h"

#include <stdlib.h>
#include <string.h>

#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((size_t)(n) << 20)
#define SMALL 8
#define IMPOSSIBLE ((size_t)1 << 42)

/* What the elements of use_arrays() take. */
#define ARRAY_BYTES ((size_t)1000 * 300 * 8)
#define ARRAY_3D_BYTES ((size_t)64 * 64 * 64 * 8)
#define MIPMAPPED_BYTES ((size_t)(256 * 128 + 128 * 64 + 64 * 32) * 4)

/* What the program has of one kind, for the comparison with Berth's account. */
struct tally {
    size_t blocks, bytes;
};
static struct tally device, pinned;

static CUcontext context;
static CUstream stream, other;
static CUevent event;
static CUdeviceptr small[SMALL], whole, large, pitched, managed, ordered[2], pooled;
static CUmemoryPool pool;
static CUarray array, array_3d;
static CUmipmappedArray mipmapped;
static size_t pitched_size;
static void *host, *host_flags, *registered;
static struct {
    CUmemGenericAllocationHandle handle;
    CUdeviceptr address;
    size_t size;
} vmm = {.size = MIB(4)};

static void count(struct tally *tally, bool has_worked, size_t bytes)
{
    tally->blocks += has_worked;
    tally->bytes += has_worked ? bytes : 0;
}

static void uncount(struct tally *tally, bool has_worked, size_t bytes)
{
    tally->blocks -= has_worked;
    tally->bytes -= has_worked ? bytes : 0;
}

/* 0: it failed to the end. */
static void allocate(const char *what, CUdeviceptr *address, size_t size)
{
    bool has_worked;

    *address = 0;
    has_worked = STEP(what, cuMemAlloc_v2(address, size));
    count(&device, has_worked, size);
    if (!has_worked)
        *address = 0;
}

static void release(const char *what, CUdeviceptr *address, size_t size)
{
    if (!*address || !STEP(what, cuMemFree_v2(*address)))
        return;
    *address = 0;
    uncount(&device, true, size);
}

static size_t small_size(int i)
{
    return (size_t)700 << i;
}

/* Says what it has, and lets fault.py ask Berth about it. */
static void checkpoint(const char *name)
{
    char line[16];

    printf("= %s device %zu %zu pinned %zu %zu\n", name, device.blocks, device.bytes, pinned.blocks,
           pinned.bytes);
    fflush(stdout);
    if (!fgets(line, sizeof(line), stdin))
        exit(3);
}

static void begin(void)
{
    CUdevice first = 0;

    STEP("init", cuInit(0));
    STEP("device", cuDeviceGet(&first, 0));
    STEP("retain", cuDevicePrimaryCtxRetain(&context, 0));
    STEP("set current", cuCtxSetCurrent(context));
    STEP("stream", cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    STEP("priority stream", cuStreamCreateWithPriority(&other, 0, 0));
    STEP("event", cuEventCreate(&event, 0));
}

/* Memory of the pool: new segments, splits, reuse, a block that is read and written. */
static void use_blocks(void)
{
    unsigned char bytes[1000], copy[1000] = {0};

    for (int i = 0; i < SMALL; i++)
        allocate("small", &small[i], small_size(i));
    allocate("whole", &whole, MIB(3));
    allocate("large", &large, MIB(40));
    memset(bytes, 0x5a, sizeof(bytes));
    if (small[1])
        STEP("set", cuMemsetD8Async(small[1], 0x33, 700, stream));
    if (whole) {
        STEP("to device", cuMemcpyHtoD_v2(whole, bytes, sizeof(bytes)));
        STEP("to host", cuMemcpyDtoH_v2(copy, whole, sizeof(copy)));
        printf("same %d\n", memcmp(bytes, copy, sizeof(bytes)) == 0);
    }
    for (int i = 0; i < SMALL; i += 3)
        release("free small", &small[i], small_size(i));
    release("free whole", &whole, MIB(3));
    release("free large", &large, MIB(40));
    for (int i = 0; i < SMALL; i += 3)
        allocate("small again", &small[i], small_size(i));
    allocate("whole again", &whole, MIB(3));
    STEP("record", cuEventRecord(event, stream));
    STEP("wait event", cuStreamWaitEvent(other, event, 0));
    STEP("synchronize stream", cuStreamSynchronize(stream));
    STEP("synchronize", cuCtxSynchronize());
}

static void ask(bool is_exported)
{
    CUpointer_attribute list[2] = {CU_POINTER_ATTRIBUTE_RANGE_SIZE,
                                   CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
    size_t free_size, total, range = 0, size = 0;
    int ordinal = -1, on = 1, off = 0;
    void *values[2] = {&size, &ordinal};
    CUdeviceptr base;
    CUipcMemHandle handle;

    if (STEP("info", cuMemGetInfo_v2(&free_size, &total)))
        printf("total %zu\n", total);
    if (small[2] && STEP("range", cuMemGetAddressRange_v2(&base, &range, small[2] + 5)))
        printf("range %zu %zu\n", (size_t)(small[2] - base), range);
    if (small[2] && STEP("attributes", cuPointerGetAttributes(2, list, values, small[2] + 1)))
        printf("size %zu, device %d\n", size, ordinal);
    if (small[2])
        STEP("attribute", cuPointerGetAttribute(&range, CU_POINTER_ATTRIBUTE_RANGE_SIZE, small[2]));
    if (small[2]) {
        STEP("sync copies", cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, small[2]));
        STEP("no sync copies",
             cuPointerSetAttribute(&off, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, small[2]));
    }
    if (whole && is_exported)
        STEP("ipc", cuIpcGetMemHandle(&handle, whole));
}

static void use_other_kinds(void)
{
    const CUmemPoolProps properties = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                       .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
    size_t pitch = 0;

    if (STEP("pitch", cuMemAllocPitch_v2(&pitched, &pitch, 900, 100, 4)))
        count(&device, true, pitched_size = pitch * 100);
    count(&pinned, STEP("managed", cuMemAllocManaged(&managed, KIB(100), CU_MEM_ATTACH_GLOBAL)),
          KIB(100));
    count(&pinned, STEP("host", cuMemAllocHost_v2(&host, KIB(70))), KIB(70));
    count(&pinned, STEP("host flags", cuMemHostAlloc(&host_flags, KIB(50), 0)), KIB(50));
    registered = aligned_alloc(KIB(4), KIB(64));
    count(&pinned, STEP("register", cuMemHostRegister_v2(registered, KIB(64), 0)), KIB(64));
    count(&device, STEP("async", cuMemAllocAsync(&ordered[0], KIB(300), stream)), KIB(300));
    count(&device, STEP("async 0", cuMemAllocAsync(&ordered[1], MIB(5), NULL)), MIB(5));
    STEP("set async", cuMemsetD8Async(ordered[0], 7, KIB(300), stream));
    STEP("pool", cuMemPoolCreate(&pool, &properties));
    count(&device, STEP("from pool", cuMemAllocFromPoolAsync(&pooled, KIB(90), pool, stream)),
          KIB(90));
}

static void drop_other_kinds(void)
{
    uncount(&device, STEP("free async", cuMemFreeAsync(ordered[0], stream)), KIB(300));
    uncount(&device, STEP("free async 0", cuMemFreeAsync(ordered[1], NULL)), MIB(5));
    uncount(&device, STEP("free from pool", cuMemFreeAsync(pooled, stream)), KIB(90));
    STEP("synchronize", cuCtxSynchronize());
    STEP("destroy pool", cuMemPoolDestroy(pool));
    uncount(&pinned, STEP("unregister", cuMemHostUnregister(registered)), KIB(64));
    uncount(&pinned, STEP("free host flags", cuMemFreeHost(host_flags)), KIB(50));
    uncount(&pinned, STEP("free host", cuMemFreeHost(host)), KIB(70));
    uncount(&pinned, STEP("free managed", cuMemFree_v2(managed)), KIB(100));
    uncount(&device, STEP("free pitch", cuMemFree_v2(pitched)), pitched_size);
    free(registered);
}

static void use_vmm(void)
{
    const CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                            .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
    const CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, 0},
                                    CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUmemGenericAllocationHandle second = 0;

    count(&device, STEP("create", cuMemCreate(&vmm.handle, vmm.size, &properties, 0)), vmm.size);
    STEP("reserve", cuMemAddressReserve(&vmm.address, vmm.size, 0, 0, 0));
    STEP("map", cuMemMap(vmm.address, vmm.size, 0, vmm.handle, 0));
    STEP("access", cuMemSetAccess(vmm.address, vmm.size, &access, 1));
    STEP("set mapped", cuMemsetD8_v2(vmm.address, 1, vmm.size));
    if (STEP("handle of", cuMemRetainAllocationHandle(&second, (void *)(uintptr_t)vmm.address)))
        STEP("release second", cuMemRelease(second));
}

static void drop_vmm(void)
{
    CUmemGenericAllocationHandle again = 0;
    bool is_again =
        STEP("handle again", cuMemRetainAllocationHandle(&again, (void *)(uintptr_t)vmm.address));

    /* The mapping keeps the memory, and then the second reference does. */
    STEP("release", cuMemRelease(vmm.handle));
    checkpoint("mapped");
    STEP("unmap", cuMemUnmap(vmm.address, vmm.size));
    checkpoint("referred");
    STEP("free addresses", cuMemAddressFree(vmm.address, vmm.size));
    if (is_again)
        uncount(&device, STEP("release again", cuMemRelease(again)), vmm.size);
}

static void use_arrays(void)
{
    const CUDA_ARRAY_DESCRIPTOR flat = {1000, 300, CU_AD_FORMAT_FLOAT, 2};
    const CUDA_ARRAY3D_DESCRIPTOR deep = {64, 64, 64, CU_AD_FORMAT_HALF, 4, 0};
    const CUDA_ARRAY3D_DESCRIPTOR levels = {256, 128, 0, CU_AD_FORMAT_UNSIGNED_INT8, 4, 0};
    const CUDA_ARRAY3D_DESCRIPTOR none = {64, 64, 0, CU_AD_FORMAT_FLOAT, 3, 0};

    count(&device, STEP("array", cuArrayCreate_v2(&array, &flat)), ARRAY_BYTES);
    count(&device, STEP("array 3d", cuArray3DCreate_v2(&array_3d, &deep)), ARRAY_3D_BYTES);
    count(&device, STEP("mipmapped", cuMipmappedArrayCreate(&mipmapped, &levels, 3)),
          MIPMAPPED_BYTES);
    STEP("no array", cuArray3DCreate_v2(&(CUarray){0}, &none));
}

static void drop_arrays(void)
{
    uncount(&device, STEP("destroy array", cuArrayDestroy(array)), ARRAY_BYTES);
    uncount(&device, STEP("destroy mipmapped", cuMipmappedArrayDestroy(mipmapped)),
            MIPMAPPED_BYTES);
    uncount(&device, STEP("destroy array 3d", cuArrayDestroy(array_3d)), ARRAY_3D_BYTES);
}

/* Allocations and frees while a stream is captured, and a graph that has memory of its own. */
static void use_graph(void)
{
    CUgraph graph = NULL;
    CUgraphExec executable = NULL;
    CUdeviceptr node = 0, block = 0;

    STEP("capture", cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    if (STEP("async in capture", cuMemAllocAsync(&node, KIB(80), stream))) {
        STEP("set in capture", cuMemsetD8Async(node, 9, KIB(80), stream));
        STEP("free async in capture", cuMemFreeAsync(node, stream));
    }
    allocate("in capture", &block, KIB(30));
    release("free small in capture", &small[4], small_size(4));
    if (block)
        STEP("set block", cuMemsetD8Async(block, 4, KIB(30), stream));
    STEP("end capture", cuStreamEndCapture(stream, &graph));
    STEP("instantiate", cuGraphInstantiateWithFlags(&executable, graph, 0));
    STEP("upload", cuGraphUpload(executable, stream));
    STEP("launch", cuGraphLaunch(executable, stream));
    STEP("synchronize stream", cuStreamSynchronize(stream));
    STEP("destroy executable", cuGraphExecDestroy(executable));
    STEP("destroy graph", cuGraphDestroy(graph));
    release("free after capture", &block, KIB(30));
    allocate("small after capture", &small[4], small_size(4));
}

/* A context that takes memory along when it goes. */
static void use_context(void)
{
    CUcontext second = NULL, popped;
    const CUDA_ARRAY_DESCRIPTOR flat = {100, 30, CU_AD_FORMAT_FLOAT, 1};
    CUdeviceptr stays, goes;
    bool is_made = STEP("second context", cuCtxCreate_v2(&second, 0, 0));

    if (!is_made)
        return;
    allocate("stays", &stays, KIB(20));
    allocate("goes", &goes, MIB(4));
    STEP("array there", cuArrayCreate_v2(&(CUarray){0}, &flat));
    release("free goes", &goes, MIB(4));
    STEP("pop", cuCtxPopCurrent_v2(&popped));
    if (STEP("destroy", cuCtxDestroy_v2(second)))
        uncount(&device, stays != 0, KIB(20));
}

/* Nothing is left: the driver has all of its memory back, once what is cached is given back. */
static void end(void)
{
    unsigned free_size = 0, total = 0;
    CUdeviceptr never;

    for (int i = 0; i < SMALL; i++)
        release("free small", &small[i], small_size(i));
    release("free whole", &whole, MIB(3));
    STEP("synchronize", cuCtxSynchronize());
    STEP("impossible", cuMemAlloc_v2(&never, IMPOSSIBLE));
    /* The name of 2007, which Berth does not wrap: the driver's own answer. */
    if (STEP("driver's info", cuMemGetInfo(&free_size, &total)))
        printf("left %u\n", total - free_size);
}

static void reset(void)
{
    STEP("reset", cuDevicePrimaryCtxReset_v2(0));
    memset(small, 0, sizeof(small));
    device = pinned = (struct tally){0};
    STEP("set current", cuCtxSetCurrent(context));
    allocate("after reset", &small[0], KIB(10));
    allocate("whole after reset", &whole, MIB(6));
    release("free after reset", &small[0], KIB(10));
    release("free whole after reset", &whole, MIB(6));
    STEP("release context", cuDevicePrimaryCtxRelease_v2(0));
}

/* Usage: fault_client [no-ipc] */
int main(int argc, char **argv)
{
    begin();
    use_blocks();
    ask(argc == 1);
    checkpoint("blocks");
    use_other_kinds();
    use_vmm();
    use_arrays();
    checkpoint("kinds");
    use_graph();
    use_context();
    checkpoint("context");
    drop_vmm();
    drop_arrays();
    drop_other_kinds();
    end();
    checkpoint("end");
    STEP("destroy event", cuEventDestroy_v2(event));
    STEP("destroy stream", cuStreamDestroy_v2(stream));
    STEP("destroy priority stream", cuStreamDestroy_v2(other));
    reset();
    puts("done");
    return 0;
}
