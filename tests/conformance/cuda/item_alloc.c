/* SPDX-License-Identifier: Apache-2.0 */
/* Checklist items 1 to 6: what an allocation answers. See item.h. */
#include "item.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef int (*runtime_alloc)(void **pointer, size_t size);
typedef int (*runtime_free)(void *pointer);
typedef int (*runtime_error)(void);

void item_01_zero_size(void)
{
    CUdeviceptr p = 42;

    SEEN("before cuInit: %d\n", cuMemAlloc_v2(&p, 0));
    EXPECT(cuInit(0) == 0);
    SEEN("without a context: %d\n", cuMemAlloc_v2(&p, 0));
    check_up();
    SEEN("size 0: %d\n", cuMemAlloc_v2(&p, 0));
    SEEN("no out argument: %d %d\n", cuMemAlloc_v2(NULL, 512), cuMemAlloc_v2(NULL, 0));
    SEEN("stream-ordered: %d\n", cuMemAllocAsync(&p, 0, NULL));
    SEEN("managed: %d\n", cuMemAllocManaged(&p, 0, CU_MEM_ATTACH_GLOBAL));
    if (check_runtime_up()) {
        runtime_alloc allocate = (runtime_alloc)check_runtime_function("cudaMalloc");
        runtime_error last = (runtime_error)check_runtime_function("cudaGetLastError");
        void *pointer = &p;

        SEEN("cudaMalloc: %d", allocate(&pointer, 0));
        printf(" null %d", pointer == NULL);
        printf(" last error %d\n", last());
    }
}

void item_02_alignment(void)
{
    static const size_t sizes[] = {1,      3,          255,  256,   257,    511,
                                   512,    513,        4095, 65537, 700000, MIB(1) + 1,
                                   MIB(2), MIB(2) + 1, 5000, 10001, 77777};
    CUdeviceptr all[COUNT(sizes)];
    size_t pitch = 0;

    check_up();
    /* Once fresh, once from what was freed. */
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < COUNT(sizes); i++) {
            all[i] = check_alloc(sizes[i]);
            check_fill(all[i], sizes[i], (unsigned char)i);
        }
        for (size_t i = 0; i < COUNT(sizes); i++) {
            SEEN("%zu: at 512 %d", sizes[i], all[i] % 512 == 0);
            printf(" whole %d", check_holds(all[i], sizes[i], (unsigned char)i));
            printf(" free %d\n", cuMemFree_v2(all[i]));
        }
    }
    SEEN("pitched: %d", cuMemAllocPitch_v2(&all[0], &pitch, 513, 3, 4));
    printf(" at 512 %d pitch %zu\n", all[0] % 512 == 0, pitch);
    SEEN("stream-ordered: %d", cuMemAllocAsync(&all[1], 5, NULL));
    printf(" at 512 %d\n", all[1] % 512 == 0);
}

#define MARK 0xa5

static void leave_marks(void)
{
    check_up();
    for (int i = 0; i < 8; i++)
        check_fill(check_alloc(MIB(4) + KIB(i)), MIB(4), MARK);
    for (int i = 0; i < 64; i++)
        check_fill(check_alloc(KIB(16)), KIB(16), MARK);
}

static void look_for_marks(void)
{
    size_t found = 0;

    check_up();
    for (int i = 0; i < 8; i++)
        found += check_count(check_alloc(MIB(4) + KIB(i)), MIB(4), MARK) == MIB(4);
    for (int i = 0; i < 64; i++)
        found += check_count(check_alloc(KIB(16)), KIB(16), MARK) == KIB(16);
    SEEN("blocks with another process's bytes: %zu\n", found);
}

void item_03_not_cleared(void)
{
    check_in_child("the first", leave_marks);
    check_in_child("the second", look_for_marks);
}

/* What is wrong besides is told first, however much was asked for. */
static void too_much_and_wrong(void)
{
    CUmemAllocationProp here = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
    CUmemGenericAllocationHandle handle;
    CUdeviceptr p = 0;
    CUcontext current = NULL;
    void *host = NULL;

    SEEN("managed, of no kind: %d\n", cuMemAllocManaged(&p, SIZE_MAX, 9));
    SEEN("no multiple: %d\n", cuMemCreate(&handle, SIZE_MAX, &here, 0));
    EXPECT(cuCtxGetCurrent(&current) == 0 && cuCtxSetCurrent(NULL) == 0);
    SEEN("without a context: %d\n", cuMemAlloc_v2(&p, SIZE_MAX));
    SEEN("in stream order: %d\n", cuMemAllocAsync(&p, SIZE_MAX, NULL));
    SEEN("managed: %d\n", cuMemAllocManaged(&p, SIZE_MAX, CU_MEM_ATTACH_GLOBAL));
    SEEN("of the host: %d\n", cuMemAllocHost_v2(&host, SIZE_MAX));
    SEEN("the host's own: %d\n", cuMemHostRegister_v2(&host, SIZE_MAX, 0));
    EXPECT(cuCtxSetCurrent(current) == 0);
}

void item_04_failure_leaves_state(void)
{
    CUdeviceptr p = 0, kept;

    check_up();
    kept = check_alloc(KIB(40));
    check_pattern(kept, KIB(40), 4);
    SEEN("more than there is: %d\n", cuMemAlloc_v2(&p, (size_t)1 << 50));
    /* What such a size is rounded to is none of the small ones that are cached. */
    for (size_t size = 1; size <= KIB(4); size *= 2)
        EXPECT(cuMemFree_v2(check_alloc(size)) == 0);
    SEEN("more than 64 bits: %d\n", cuMemAlloc_v2(&p, SIZE_MAX));
    SEEN("a little more: %d\n", cuMemAlloc_v2(&p, SIZE_MAX - 510));
    SEEN("nearly: %d\n", cuMemAlloc_v2(&p, SIZE_MAX - MIB(2)));
    SEEN("half of 64 bits: %d\n", cuMemAlloc_v2(&p, SIZE_MAX / 2 + 1));
    too_much_and_wrong();
    SEEN("the next call: %d\n", cuMemFree_v2(check_alloc(KIB(4))));
    SEEN("large: %d\n", cuMemFree_v2(check_alloc(MIB(9))));
    SEEN("the contents: %d\n", check_has_pattern(kept, KIB(40), 4));
    SEEN("idle: %d\n", cuCtxSynchronize());
    if (check_runtime_up()) {
        runtime_alloc allocate = (runtime_alloc)check_runtime_function("cudaMalloc");
        runtime_error last = (runtime_error)check_runtime_function("cudaGetLastError");
        runtime_error peek = (runtime_error)check_runtime_function("cudaPeekAtLastError");
        void *pointer = NULL;

        SEEN("cudaMalloc: %d", allocate(&pointer, (size_t)1 << 50));
        printf(" peek %d", peek());
        printf(" last %d", last());
        printf(" then %d\n", last());
        SEEN("cudaMalloc: %d", allocate(&pointer, 4096));
        printf(" last %d\n", last());
    }
}

static void cached_then_whole(void)
{
    size_t tenth = check_free_memory() / 10;
    CUdeviceptr p[8], big;

    for (size_t i = 0; i < COUNT(p); i++)
        p[i] = check_alloc(tenth + i * 512);
    for (size_t i = 0; i < COUNT(p); i++)
        EXPECT(cuMemFree_v2(p[i]) == 0);
    big = check_alloc(tenth * 9);
    SEEN("too much: %d\n", cuMemAlloc_v2(&p[0], tenth * 2));
    EXPECT(cuMemFree_v2(big) == 0);
    big = check_alloc(tenth * 9);
    EXPECT(cuMemFree_v2(big) == 0);
}

/* What is cached never makes another kind of memory fail that the driver would have given. */
void item_05_cache_before_failure(void)
{
    CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                      .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
    CUmemGenericAllocationHandle handle = 0;
    CUdeviceptr p, small[200];
    size_t pitch, most;

    check_up();
    cached_then_whole();
    most = check_free_memory() / 10 * 9 / MIB(2) * MIB(2);
    for (size_t i = 0; i < COUNT(small); i++)
        small[i] = check_alloc(KIB(60));
    for (size_t i = 0; i < COUNT(small); i++)
        EXPECT(cuMemFree_v2(small[i]) == 0);
    SEEN("after small ones: %d\n", cuMemFree_v2(check_alloc(most)));
    SEEN("physical memory: %d", cuMemCreate(&handle, most, &properties, 0));
    printf(" release %d\n", cuMemRelease(handle));
    EXPECT(cuMemFree_v2(check_alloc(most)) == 0);
    SEEN("pitched: %d", cuMemAllocPitch_v2(&p, &pitch, most / 1024, 1024, 4));
    printf(" free %d\n", cuMemFree_v2(p));
    EXPECT(cuMemFree_v2(check_alloc(most)) == 0);
    SEEN("managed: %d", cuMemAllocManaged(&p, most, CU_MEM_ATTACH_GLOBAL));
    printf(" free %d\n", cuMemFree_v2(p));
    EXPECT(cuMemFree_v2(check_alloc(most)) == 0);
    SEEN("stream-ordered: %d", cuMemAllocAsync(&p, most, NULL));
    printf(" free %d\n", cuMemFreeAsync(p, NULL));
    EXPECT(cuCtxSynchronize() == 0);
    SEEN("and back: %d\n", cuMemFree_v2(check_alloc(most)));
}

struct array_descriptor {
    size_t width, height;
    int format;
    unsigned channels;
};

static void array_kinds(void)
{
    CUresult (*create)(void **, const struct array_descriptor *);
    CUresult (*destroy)(void *);
    struct array_descriptor descriptor = {1000, 10, 0x20 /* float */, 1};
    void *array = NULL;

    *(void **)&create = check_driver_function("cuArrayCreate", 3020);
    *(void **)&destroy = check_driver_function("cuArrayDestroy", 2000);
    if (!create || !destroy)
        return;
    SEEN("array: %d", create(&array, &descriptor));
    printf(" destroy %d\n", destroy(array));
    descriptor.channels = 3;
    SEEN("three channels: %d\n", create(&array, &descriptor));
}

/* Linear and pitched memory of the pool's can be read through a texture, as any of the driver's. */
static void texture_kinds(void)
{
    CUresult (*create)(CUtexObject *, const CUDA_RESOURCE_DESC *, const void *, const void *);
    CUresult (*destroy)(CUtexObject);
    static const size_t sizes[] = {4, 1000, KIB(64), MIB(2), MIB(5) + 4};
    const float any_texture[32] = {0}; /* larger than CUDA_TEXTURE_DESC, all defaults */
    CUDA_RESOURCE_DESC resource;
    CUtexObject texture = 0;
    CUdeviceptr p;

    *(void **)&create = check_driver_function("cuTexObjectCreate", 5000);
    *(void **)&destroy = check_driver_function("cuTexObjectDestroy", 5000);
    if (!create || !destroy)
        return;
    for (size_t i = 0; i < 2 * COUNT(sizes); i++) {
        size_t size = sizes[i % COUNT(sizes)];

        p = check_alloc(size);
        memset(&resource, 0, sizeof(resource));
        resource.resType = CU_RESOURCE_TYPE_LINEAR;
        resource.res.linear.devPtr = p;
        resource.res.linear.format = CU_AD_FORMAT_FLOAT;
        resource.res.linear.numChannels = 1;
        resource.res.linear.sizeInBytes = size;
        SEEN("linear texture of %zu: %d", size, create(&texture, &resource, any_texture, NULL));
        printf(" destroy %d", destroy(texture));
        printf(" free %d\n", cuMemFree_v2(p));
    }
    p = check_alloc(KIB(64));
    memset(&resource, 0, sizeof(resource));
    resource.resType = CU_RESOURCE_TYPE_PITCH2D;
    resource.res.pitch2D.devPtr = p;
    resource.res.pitch2D.format = CU_AD_FORMAT_FLOAT;
    resource.res.pitch2D.numChannels = 1;
    resource.res.pitch2D.width = 100;
    resource.res.pitch2D.height = 100;
    resource.res.pitch2D.pitchInBytes = 512;
    SEEN("texture of rows: %d", create(&texture, &resource, any_texture, NULL));
    printf(" destroy %d\n", destroy(texture));
    SEEN("free: %d\n", cuMemFree_v2(p));
}

/* A file's pages as device memory, which cuMemFree ends. */
static void external_kinds(void)
{
    CUresult (*import)(CUexternalMemory *, const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *);
    CUresult (*map)(CUdeviceptr *, CUexternalMemory, const CUDA_EXTERNAL_MEMORY_BUFFER_DESC *);
    CUresult (*destroy)(CUexternalMemory);
    CUDA_EXTERNAL_MEMORY_HANDLE_DESC handle = {.type = CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD,
                                               .size = MIB(4)};
    CUDA_EXTERNAL_MEMORY_BUFFER_DESC buffer = {.offset = MIB(2), .size = KIB(64)};
    CUexternalMemory memory = NULL;
    CUdeviceptr p = 0, base = 0;
    size_t size = 0;
    CUresult result;

    *(void **)&import = check_driver_function("cuImportExternalMemory", 10000);
    *(void **)&map = check_driver_function("cuExternalMemoryGetMappedBuffer", 10000);
    *(void **)&destroy = check_driver_function("cuDestroyExternalMemory", 10000);
    handle.handle.fd = memfd_create("external", MFD_CLOEXEC);
    if (!import || !map || !destroy || ftruncate(handle.handle.fd, MIB(4)) < 0)
        return;
    /* A GPU's driver takes no file's pages; then this is all there is to see. */
    result = import(&memory, &handle);
    SEEN("external: %d\n", result);
    if (result != 0)
        return;
    SEEN("buffer: %d\n", map(&p, memory, &buffer));
    check_fill(p, KIB(64), 0x4d);
    SEEN("range: %d", cuMemGetAddressRange_v2(&base, &size, p + 100));
    printf(" %d %zu\n", base == p, size);
    SEEN("inside: %d\n", cuMemFree_v2(p + 512));
    SEEN("in stream order: %d\n", cuMemFreeAsync(p, NULL));
    SEEN("holds: %d", check_holds(p, KIB(64), 0x4d));
    printf(" free %d", cuMemFree_v2(p));
    printf(" again %d", cuMemFree_v2(p));
    printf(" destroy %d\n", destroy(memory));
}

static void host_kinds(void)
{
    static char own[3 * 4096];
    void *host = NULL, *mapped = NULL;
    unsigned flags = 99;
    CUdeviceptr p = 0;

    SEEN("host: %d\n", cuMemAllocHost_v2(&host, 5000));
    SEEN("mapped: %d\n",
         cuMemHostAlloc(&mapped, 5000, CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_PORTABLE));
    SEEN("flags: %d", cuMemHostGetFlags(&flags, mapped));
    printf(" %#x\n", flags);
    memset(mapped, 0x3c, 5000);
    SEEN("device pointer: %d", cuMemHostGetDevicePointer_v2(&p, mapped, 0));
    printf(" holds %d\n", check_holds(p, 5000, 0x3c));
    SEEN("host, size 0: %d\n", cuMemAllocHost_v2(&host, 0));
    SEEN("register: %d\n", cuMemHostRegister_v2(own + 100, 5000, 0));
    SEEN("twice: %d\n", cuMemHostRegister_v2(own + 100, 5000, 0));
    SEEN("unregister: %d\n", cuMemHostUnregister(own + 100));
    SEEN("again: %d\n", cuMemHostUnregister(own + 100));
    SEEN("free: %d\n", cuMemFreeHost(mapped));
    SEEN("again: %d\n", cuMemFreeHost(mapped));
}

void item_06_other_kinds(void)
{
    static const unsigned widths[] = {1, 100, 512, 513, 1000, 70000};
    CUdeviceptr pitched = 0, managed = 0;
    size_t pitch = 0;

    check_up();
    for (size_t i = 0; i < COUNT(widths); i++) {
        SEEN("pitched %u: %d", widths[i],
             cuMemAllocPitch_v2(&pitched, &pitch, widths[i], 7, i % 2 ? 4 : 16));
        printf(" pitch %zu", pitch);
        check_fill(pitched, pitch * 7, 9);
        printf(" holds %d", check_holds(pitched, pitch * 7, 9));
        printf(" free %d\n", cuMemFree_v2(pitched));
    }
    SEEN("element of 3: %d\n", cuMemAllocPitch_v2(&pitched, &pitch, 100, 7, 3));
    SEEN("height 0: %d\n", cuMemAllocPitch_v2(&pitched, &pitch, 100, 0, 4));
    SEEN("no pitch: %d\n", cuMemAllocPitch_v2(&pitched, NULL, 100, 7, 4));
    SEEN("managed: %d\n", cuMemAllocManaged(&managed, MIB(1), CU_MEM_ATTACH_GLOBAL));
    memset((void *)(uintptr_t)managed, 0x6b, MIB(1));
    SEEN("holds: %d", check_holds(managed, MIB(1), 0x6b));
    printf(" free %d\n", cuMemFree_v2(managed));
    SEEN("managed, no flag: %d\n", cuMemAllocManaged(&managed, MIB(1), 0));
    host_kinds();
    array_kinds();
    texture_kinds();
    external_kinds();
}
