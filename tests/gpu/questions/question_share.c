/* SPDX-License-Identifier: Apache-2.0 */
/* Questions about mappings, handles for other processes, and entry points. See question.h. */
#include "question.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DELAY_MS 300

static const CUmemLocation here = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
static size_t granule;

static CUmemGenericAllocationHandle create(size_t size)
{
    CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED, .location = here};
    CUmemGenericAllocationHandle handle = 0;

    EXPECT(cuMemGetAllocationGranularity(&granule, &properties, 0) == 0);
    EXPECT(cuMemCreate(&handle, size * granule, &properties, 0) == 0);
    return handle;
}

static CUdeviceptr reserve(size_t size)
{
    CUdeviceptr p = 0;

    EXPECT(cuMemAddressReserve(&p, size * granule, 0, 0, 0) == 0);
    return p;
}

void question_16_map_over_a_mapping(void)
{
    CUmemGenericAllocationHandle first, second;
    CUdeviceptr p;

    check_up();
    first = create(1);
    second = create(1);
    p = reserve(2);
    SEEN("map: %d", cuMemMap(p, granule, 0, first, 0));
    printf(" the same again %d", cuMemMap(p, granule, 0, first, 0));
    printf(" another over it %d\n", cuMemMap(p, granule, 0, second, 0));
}

void question_17_unmap_waits(void)
{
    CUmemAccessDesc access = {here, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUmemGenericAllocationHandle handle;
    CUdeviceptr p;

    check_up();
    handle = create(1);
    p = reserve(1);
    EXPECT(cuMemMap(p, granule, 0, handle, 0) == 0 && cuMemSetAccess(p, granule, &access, 1) == 0);
    check_fill(p, granule, 1);
    question_delay(check_stream(), DELAY_MS);
    question_start_clock();
    SEEN("unmap: %d", cuMemUnmap(p, granule));
    printf(" waited %d\n", question_waited(DELAY_MS));
}

void question_18_access_to_a_part(void)
{
    CUmemAccessDesc access = {here, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUmemGenericAllocationHandle handle;
    CUdeviceptr p;

    check_up();
    handle = create(2);
    p = reserve(2);
    EXPECT(cuMemMap(p, 2 * granule, 0, handle, 0) == 0);
    SEEN("the first granule: %d", cuMemSetAccess(p, granule, &access, 1));
    printf(" the second: %d", cuMemSetAccess(p + granule, granule, &access, 1));
    printf(" both: %d\n", cuMemSetAccess(p, 2 * granule, &access, 1));
    SEEN("unmap one: %d", cuMemUnmap(p, granule));
    printf(" both: %d\n", cuMemUnmap(p, 2 * granule));
}

void question_19_handle_of_interior(void)
{
    static const size_t sizes[] = {KIB(4), MIB(4)};

    check_up();
    for (size_t i = 0; i < COUNT(sizes); i++) {
        CUdeviceptr p = check_alloc(sizes[i]);
        CUipcMemHandle base, inside;
        CUresult result;

        memset(&inside, 0, sizeof(inside));
        SEEN("%zu: base %d", sizes[i], cuIpcGetMemHandle(&base, p));
        result = cuIpcGetMemHandle(&inside, p + 512);
        printf(" inside %d the same %d\n", result, memcmp(&base, &inside, sizeof(base)) == 0);
    }
}

void question_20_open_own_handle(void)
{
    CUipcMemHandle handle;
    CUdeviceptr opened = 0;

    check_up();
    EXPECT(cuIpcGetMemHandle(&handle, check_alloc(MIB(4))) == 0);
    SEEN("open: %d\n", cuIpcOpenMemHandle_v2(&opened, handle, 1));
}

/* Opens what comes on standard input; argument "look": how much it sees, and whose. */
int question_peer(const char *mode)
{
    CUipcMemHandle handle;
    CUdeviceptr p = 0, base = 0;
    size_t size = 0;
    CUresult result;

    check_up();
    while (fread(&handle, sizeof(handle), 1, stdin) == 1) {
        result = cuIpcOpenMemHandle_v2(&p, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
        printf("open %d", result);
        if (result == 0 && strcmp(mode, "look") == 0) {
            unsigned char first = 0;

            EXPECT(cuMemGetAddressRange_v2(&base, &size, p) == 0);
            EXPECT(cuMemcpyDtoH_v2(&first, p, 1) == 0);
            printf(" size %zu first byte %d", size, first);
        }
        printf("\n");
    }
    return 0;
}

void question_21_open_freed_handle(void)
{
    static const size_t sizes[] = {KIB(4), MIB(4)};
    struct check_peer peer = check_peer_start("open", NULL, true);

    check_up();
    for (size_t i = 0; i < COUNT(sizes); i++) {
        CUdeviceptr p = check_alloc(sizes[i]);
        CUipcMemHandle handle;

        EXPECT(cuIpcGetMemHandle(&handle, p) == 0 && cuMemFree_v2(p) == 0);
        fwrite(&handle, sizeof(handle), 1, peer.to);
    }
    check_peer_finish(&peer);
}

void question_29_handle_of_two_mib(void)
{
    CUipcMemHandle handles[4];
    struct check_peer peer = check_peer_start("look", NULL, true);
    size_t same = 0;

    check_up();
    for (size_t i = 0; i < COUNT(handles); i++) {
        CUdeviceptr p = check_alloc(MIB(2));

        check_fill(p, MIB(2), (unsigned char)(i + 1));
        EXPECT(cuIpcGetMemHandle(&handles[i], p) == 0);
        for (size_t k = 0; k < i; k++)
            same += memcmp(&handles[i], &handles[k], sizeof(handles[i])) == 0;
        fwrite(&handles[i], sizeof(handles[i]), 1, peer.to);
    }
    SEEN("handles that are the same: %zu\n", same);
    check_peer_finish(&peer);
}

void question_22_first_resolver_missing_name(void)
{
    CUresult (*first)(const char *, void **, int, cuuint64_t) = NULL;
    void *found = &found;

    EXPECT(cuInit(0) == 0);
    EXPECT(cuGetProcAddress_v2("cuGetProcAddress", (void **)&first, 11030, 0, NULL) == 0);
    SEEN("missing: %d", first("cuNoSuchThing", &found, 11030, 0));
    printf(" null %d\n", found == NULL);
}

void question_23_empty_name(void)
{
    CUdriverProcAddressQueryResult status = 9;
    void *found = &found;

    EXPECT(cuInit(0) == 0);
    SEEN("empty: %d", cuGetProcAddress_v2("", &found, 12000, 0, &status));
    printf(" status %d null %d\n", (int)status, found == NULL);
}

void question_24_narrow_names(void)
{
    CUresult (*allocate)(unsigned *, unsigned);
    CUresult (*info)(unsigned *, unsigned *);
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    unsigned p = 0, a = 0, b = 0;

    EXPECT(driver);
    check_up();
    *(void **)&allocate = dlsym(driver, "cuMemAlloc");
    *(void **)&info = dlsym(driver, "cuMemGetInfo");
    if (allocate)
        SEEN("cuMemAlloc: %d\n", allocate(&p, 4096));
    if (info)
        SEEN("cuMemGetInfo: %d\n", info(&a, &b));
}

/* The names that Berth wraps, as cuGetProcAddress knows them. */
static const char *const wrapped[] = {
    "cuInit",
    "cuGetProcAddress",
    "cuMemAlloc",
    "cuMemFree",
    "cuMemAllocPitch",
    "cuMemAllocManaged",
    "cuMemAllocHost",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemHostRegister",
    "cuMemHostUnregister",
    "cuMemAllocAsync",
    "cuMemAllocFromPoolAsync",
    "cuMemFreeAsync",
    "cuMemCreate",
    "cuMemGetInfo",
    "cuMemGetAddressRange",
    "cuPointerGetAttribute",
    "cuPointerGetAttributes",
    "cuPointerSetAttribute",
    "cuIpcGetMemHandle",
    "cuCtxCreate",
    "cuCtxDestroy",
    "cuCtxDetach",
    "cuCtxSetCurrent",
    "cuCtxPushCurrent",
    "cuCtxPopCurrent",
    "cuDevicePrimaryCtxReset",
    "cuDevicePrimaryCtxRelease",
    "cuStreamCreate",
    "cuStreamDestroy",
    "cuStreamBeginCapture",
    "cuStreamBeginCaptureToGraph",
    "cuStreamEndCapture",
    "cuLaunchKernel",
    "cuLaunchKernelEx",
    "cuGraphLaunch",
    "cuGraphUpload",
    "cuArrayCreate",
    "cuArray3DCreate",
    "cuModuleLoadData",
    "cuLibraryLoadData",
    "cuMemcpyDtoHAsync",
    "cuGreenCtxDestroy",
};

static bool is_export(void *driver, const char *name, const void *address)
{
    static const char *const endings[] = {"",         "_v2",      "_v3",   "_v4",     "_ptsz",
                                          "_v2_ptsz", "_v3_ptsz", "_ptds", "_v2_ptds"};
    char text[80];

    for (size_t i = 0; i < COUNT(endings); i++) {
        snprintf(text, sizeof(text), "%s%s", name, endings[i]);
        if (dlsym(driver, text) == address)
            return true;
    }
    return false;
}

void question_25_resolver_answers_exports(void)
{
    static const int versions[] = {2000,  3020,  4000,  6050,  10010,
                                   11000, 11020, 12000, 12050, 13000};
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    size_t asked = 0, other = 0;

    EXPECT(driver && cuInit(0) == 0);
    for (size_t i = 0; i < COUNT(wrapped); i++)
        for (size_t v = 0; v < COUNT(versions); v++)
            for (cuuint64_t flags = 0; flags < 3; flags++) {
                CUdriverProcAddressQueryResult status = 0;
                void *found = NULL;

                if (cuGetProcAddress_v2(wrapped[i], &found, versions[v], flags, &status) != 0 ||
                    !found)
                    continue;
                asked++;
                if (!is_export(driver, wrapped[i], found)) {
                    other++;
                    SEEN("no export: %s, version %d, flags %d\n", wrapped[i], versions[v],
                         (int)flags);
                }
            }
    SEEN("every answer is an export: %d, some were given: %d\n", other == 0, asked > 0);
}

static void tell_capable(const char *kind, CUdeviceptr p)
{
    bool is_capable = false;
    CUresult result =
        cuPointerGetAttribute(&is_capable, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, p);

    SEEN("%s: %d capable %d\n", kind, result, is_capable);
}

/* Berth takes memory without a record that is capable for memory that went past it. */
void question_50_memory_that_has_handles(void)
{
    CUDA_MEM_ALLOC_NODE_PARAMS node = {.poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                                     .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}},
                                       .bytesize = MIB(3)};
    CUgraph graph = NULL;
    CUgraphNode added = NULL;
    CUgraphExec exec = NULL;
    CUdeviceptr p = 0;
    size_t pitch = 0;

    check_up();
    tell_capable("cuMemAlloc", check_alloc(MIB(3)));
    EXPECT(cuMemAllocPitch_v2(&p, &pitch, 1000, 1000, 4) == 0);
    tell_capable("pitched", p);
    EXPECT(cuMemAllocManaged(&p, MIB(3), CU_MEM_ATTACH_GLOBAL) == 0);
    tell_capable("managed", p);
    EXPECT(cuMemAllocAsync(&p, MIB(3), NULL) == 0 && cuCtxSynchronize() == 0);
    tell_capable("stream-ordered", p);
    EXPECT(cuGraphCreate(&graph, 0) == 0);
    EXPECT(cuGraphAddMemAllocNode(&added, graph, NULL, 0, &node) == 0);
    EXPECT(cuGraphInstantiateWithFlags(&exec, graph, 0) == 0 && cuGraphLaunch(exec, NULL) == 0);
    EXPECT(cuCtxSynchronize() == 0);
    tell_capable("a graph's node", node.dptr);
}
