/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a process of which Berth sees only a part is detected, said, and not served wrongly.
 * Method: each way to be half-hooked by its name; half.py compares with the native run, and asks
 * berth doctor while the program waits for a line. Linked to the driver.
 */
#include "cuda_api.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef CUresult (*free_function)(CUdeviceptr address);
typedef CUresult (*allocate_function)(CUdeviceptr *address, size_t size);

/* The loader's own dlopen(), to which nobody comes in between. */
static void *open_past(const char *name, int flags)
{
    void *(*function)(const char *, int) = NULL;
    void *loader = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);

    *(void **)&function = loader ? dlsym(loader, "dlopen") : NULL;
    return function ? function(name, flags) : NULL;
}

static int up(void)
{
    CUcontext context;

    return cuInit(0) != 0 || cuDevicePrimaryCtxRetain(&context, 0) != 0 ||
           cuCtxSetCurrent(context) != 0;
}

static void wait_for_doctor(void)
{
    char line[16];

    puts("= ready");
    fflush(stdout);
    if (!fgets(line, sizeof(line), stdin))
        exit(3);
}

/* Blocks that are allocated here and freed by `release`, and the other way round. */
static void mix(free_function release, allocate_function allocate)
{
    CUdeviceptr block[8];

    for (int i = 0; i < 8; i++) {
        printf("allocate %d", cuMemAlloc_v2(&block[i], (size_t)5000 << i));
        printf(" set %d\n", cuMemsetD8_v2(block[i], 1, 5000));
    }
    for (int i = 0; i < 8; i++)
        printf("free past Berth %d\n", release(block[i]));
    for (int i = 0; i < 8; i++)
        printf("allocate past Berth %d\n", allocate(&block[i], (size_t)7000 << i));
    for (int i = 0; i < 8; i++)
        printf("free %d\n", cuMemFree_v2(block[i]));
}

/* A plugin that is bound to the driver itself. */
static int deepbind(void)
{
    void *plugin = open_past("libhalf_plugin.so", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    free_function release = NULL;
    allocate_function allocate = NULL;

    if (!plugin)
        return printf("libhalf_plugin.so: %s\n", dlerror()) > 0;
    *(void **)&release = dlsym(plugin, "plugin_free");
    *(void **)&allocate = dlsym(plugin, "plugin_allocate");
    if (up())
        return 1;
    mix(release, allocate);
    wait_for_doctor();
    return 0;
}

/* The driver answers with an entry of its own that is none of its exports. */
static int entry(void)
{
    CUdriverProcAddressQueryResult status;
    free_function release = NULL;
    allocate_function allocate = NULL;
    void *found = NULL;

    if (up() || cuGetProcAddress_v2("cuMemFree", &found, 12000, 0, &status) != 0)
        return 1;
    *(void **)&release = found;
    if (cuGetProcAddress_v2("cuMemAlloc", &found, 12000, 0, &status) != 0)
        return 1;
    *(void **)&allocate = found;
    mix(release, allocate);
    wait_for_doctor();
    return 0;
}

/* A second copy of the driver, in a namespace of its own. */
static int second_driver(void)
{
    void *driver = dlmopen(LM_ID_NEWLM, "libcuda.so.1", RTLD_NOW);
    CUresult (*init)(unsigned) = NULL;
    CUdeviceptr block;

    if (!driver)
        return printf("dlmopen: %s\n", dlerror()) > 0;
    *(void **)&init = dlsym(driver, "cuInit");
    printf("init there %d\n", init(0));
    if (up())
        return 1;
    printf("allocate %d", cuMemAlloc_v2(&block, 5000));
    printf(" free %d\n", cuMemFree_v2(block));
    wait_for_doctor();
    return 0;
}

/* A wrapper library that was preloaded before Berth, and calls it. */
static int front(void)
{
    CUdeviceptr block;

    if (up())
        return 1;
    printf("allocate %d", cuMemAlloc_v2(&block, 5000));
    printf(" free %d\n", cuMemFree_v2(block));
    wait_for_doctor();
    return 0;
}

/*
 * Nothing goes past Berth where cuMemFree ends memory that the driver made by other calls than for
 * allocation: of a graph's node, of a capture, and of another interface.
 */
static int whole(void)
{
    CUDA_MEM_ALLOC_NODE_PARAMS params = {
        .poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                      .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}},
        .bytesize = 5000};
    CUDA_EXTERNAL_MEMORY_HANDLE_DESC file = {.type = CU_EXTERNAL_MEMORY_HANDLE_TYPE_OPAQUE_FD,
                                             .size = 1 << 20};
    CUDA_EXTERNAL_MEMORY_BUFFER_DESC part = {.size = 1 << 20};
    CUexternalMemory memory;
    CUdeviceptr block;
    CUstream stream;
    CUgraph graph;
    CUgraphNode node;
    CUgraphExec exec;

    file.handle.fd = memfd_create("external", MFD_CLOEXEC);
    if (up() || cuStreamCreate(&stream, 0) != 0 || cuGraphCreate(&graph, 0) != 0 ||
        ftruncate(file.handle.fd, 1 << 20) < 0)
        return 1;
    printf("node %d", cuGraphAddMemAllocNode(&node, graph, NULL, 0, &params));
    printf(" %d", cuGraphInstantiateWithFlags(&exec, graph, 0));
    printf(" launch %d", cuGraphLaunch(exec, stream));
    printf(" %d", cuStreamSynchronize(stream));
    printf(" free %d\n", cuMemFree_v2(params.dptr));
    printf("capture %d", cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    printf(" allocate %d", cuMemAllocAsync(&block, 5000, stream));
    printf(" end %d", cuStreamEndCapture(stream, &graph));
    printf(" %d", cuGraphInstantiateWithFlags(&exec, graph, 0));
    printf(" launch %d", cuGraphLaunch(exec, stream));
    printf(" %d", cuStreamSynchronize(stream));
    printf(" free %d\n", cuMemFree_v2(block));
    printf("external %d", cuImportExternalMemory(&memory, &file));
    printf(" %d", cuExternalMemoryGetMappedBuffer(&block, memory, &part));
    printf(" free %d\n", cuMemFree_v2(block));
    wait_for_doctor();
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(void);
    } ways[] = {{"deepbind", deepbind},
                {"entry", entry},
                {"second-driver", second_driver},
                {"front", front},
                {"whole", whole}};

    for (size_t i = 0; argc > 1 && i < sizeof(ways) / sizeof(ways[0]); i++)
        if (strcmp(argv[1], ways[i].name) == 0)
            return ways[i].run();
    printf("no such way\n");
    return 2;
}
