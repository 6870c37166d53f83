/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CUDA program that does what its input says, one command a line, and answers each with one line.
 * It knows nothing of shared memory: where its blocks lie is the policy's word.
 *
 *   alloc SIZE          "NUMBER TIER", or "error CODE"
 *   free NUMBER         "ok", or "error CODE"
 *   write NUMBER TEXT   copies the text to the block's start
 *   fill NUMBER BYTE    sets the whole block by the device
 *   read NUMBER COUNT   COUNT bytes of the block's start, as text ('.' for what is not printable)
 *   info                "FREE TOTAL", as cuMemGetInfo says
 *   lost SIZE           the errors of asking for so much without a current context, in three ways
 *   range NUMBER        "1" if the driver's queries speak of the block itself, and its device
 *   ipc NUMBER          "ok", or "error CODE" of cuIpcGetMemHandle
 *   reset               resets the device's primary context, and takes it again
 *   own                 makes a context of its own current, beside the primary one
 *   capture             begins a capture; `endcapture` ends it
 *   descriptors         how many descriptors it has open
 *   fork                "ok" if a child that does nothing comes back
 *   exec                becomes itself again
 *   ordered SIZE        "ok" if stream-ordered memory could be allocated, and was freed
 *   load STEPS SEED     "begun"; then, once two threads have allocated, filled, checked and freed
 * so often, "done WRONG REFUSED": bytes that were not as filled, and allocations quit
 */
#include "alloc/berth.h"
#include "cuda_api.h"

#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOAD_THREADS 2
#define LOAD_BLOCKS 24
#define LOAD_SIZE_MOST ((size_t)1 << 20)

static CUdeviceptr *blocks;
static size_t *sizes;
static unsigned count, room;
static CUcontext context;
static CUdevice device;
static CUstream stream;

static void answer_result(CUresult result)
{
    if (result == CUDA_SUCCESS)
        puts("ok");
    else
        printf("error %d\n", (int)result);
}

/* For one more block. */
static bool make_room(void)
{
    unsigned more = room ? 2 * room : 64;
    CUdeviceptr *new_blocks;
    size_t *new_sizes;

    if (count < room)
        return true;
    new_blocks = realloc(blocks, more * sizeof(*blocks));
    if (new_blocks)
        blocks = new_blocks;
    new_sizes = realloc(sizes, more * sizeof(*sizes));
    if (new_sizes)
        sizes = new_sizes;
    if (new_blocks && new_sizes)
        room = more;
    return count < room;
}

static void answer_alloc(size_t size)
{
    struct berth_block_info info;
    CUresult result = cuMemAlloc_v2(&blocks[count], size);

    if (result != CUDA_SUCCESS) {
        answer_result(result);
        return;
    }
    sizes[count] = size;
    if (berth_describe((const void *)(uintptr_t)blocks[count], &info, sizeof(info)) < 0)
        info.tier = "?";
    printf("%u %s\n", count++, info.tier);
}

static void answer_read(unsigned block, unsigned bytes)
{
    char text[256] = "";

    if (bytes >= sizeof(text) || cuMemcpyDtoH_v2(text, blocks[block], bytes) != CUDA_SUCCESS) {
        puts("error");
        return;
    }
    for (unsigned i = 0; i < bytes; i++)
        if (text[i] < 32 || text[i] > 126)
            text[i] = '.';
    puts(text);
}

static void answer_range(unsigned block)
{
    CUdeviceptr base = 0, start = 0;
    size_t size = 0, range = 0;
    int ordinal = -1, type = 0;
    unsigned id = 0;

    id |= (unsigned)cuMemGetAddressRange_v2(&base, &size, blocks[block] + 1);
    id |= (unsigned)cuPointerGetAttribute(&start, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
                                          blocks[block] + 1);
    id |= (unsigned)cuPointerGetAttribute(&range, CU_POINTER_ATTRIBUTE_RANGE_SIZE, blocks[block]);
    id |= (unsigned)cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                                          blocks[block]);
    id |= (unsigned)cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, blocks[block]);
    printf("%d\n", id == 0 && base == blocks[block] && start == base && size == sizes[block] &&
                       range == size && ordinal == device && type == CU_MEMORYTYPE_DEVICE);
}

static void answer_lost(size_t size)
{
    CUcontext current = NULL;
    CUdeviceptr p = 0;
    size_t pitch = 0;

    cuCtxGetCurrent(&current);
    cuCtxSetCurrent(NULL);
    printf("%d", cuMemAlloc_v2(&p, size));
    printf(" %d", cuMemAllocAsync(&p, size, NULL));
    printf(" %d\n", cuMemAllocPitch_v2(&p, &pitch, size / 64, 64, 4));
    cuCtxSetCurrent(current);
}

static void answer_info(void)
{
    size_t free_size = 0, total = 0;

    cuMemGetInfo_v2(&free_size, &total);
    printf("%zu %zu\n", free_size, total);
}

static void answer_descriptors(void)
{
    DIR *list = opendir("/proc/self/fd");
    int open = 0;

    while (list && readdir(list))
        open++;
    if (list)
        closedir(list);
    printf("%d\n", open - 3); /* ".", ".." and the list itself */
}

static void answer_fork(void)
{
    pid_t child = fork();
    int status = -1;

    if (child == 0)
        _exit(0);
    waitpid(child, &status, 0);
    puts(status == 0 ? "ok" : "error");
}

static CUresult take_primary(void)
{
    CUresult result = cuDevicePrimaryCtxRetain(&context, device);

    return result == CUDA_SUCCESS ? cuCtxSetCurrent(context) : result;
}

static void answer_reset(void)
{
    CUresult result = cuDevicePrimaryCtxReset_v2(device);

    answer_result(result == CUDA_SUCCESS ? take_primary() : result);
}

static CUresult begin_capture(void)
{
    CUresult result = stream ? CUDA_SUCCESS : cuStreamCreate(&stream, 0);

    return result == CUDA_SUCCESS ? cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED)
                                  : result;
}

static CUresult end_capture(void)
{
    CUgraph graph = NULL;

    return cuStreamEndCapture(stream, &graph);
}

static CUresult use_in_order(size_t size)
{
    CUdeviceptr p = 0;
    CUresult result = cuMemAllocAsync(&p, size, NULL);

    if (result == CUDA_SUCCESS)
        result = cuMemFreeAsync(p, NULL);
    return result == CUDA_SUCCESS ? cuCtxSynchronize() : result;
}

struct load {
    pthread_t thread;
    uint64_t seed;
    unsigned steps, refused;
    size_t wrong;
    CUdeviceptr block[LOAD_BLOCKS];
    size_t size[LOAD_BLOCKS];
    unsigned char fill[LOAD_BLOCKS];
    unsigned char copy[LOAD_SIZE_MOST];
};

static uint64_t load_draw(struct load *load, uint64_t below)
{
    load->seed ^= load->seed << 13;
    load->seed ^= load->seed >> 7;
    load->seed ^= load->seed << 17;
    return (load->seed >> 11) % below;
}

static void load_take(struct load *load, unsigned i)
{
    load->size[i] = load_draw(load, 8) == 0 ? 1 + load_draw(load, 4096)
                                            : 65536 + load_draw(load, LOAD_SIZE_MOST - 65536);
    load->fill[i] = (unsigned char)load_draw(load, 256);
    if (cuMemAlloc_v2(&load->block[i], load->size[i]) != CUDA_SUCCESS ||
        cuMemsetD8_v2(load->block[i], load->fill[i], load->size[i]) != CUDA_SUCCESS) {
        load->refused++;
        load->block[i] = 0;
    }
}

static void load_give(struct load *load, unsigned i)
{
    if (cuMemcpyDtoH_v2(load->copy, load->block[i], load->size[i]) != CUDA_SUCCESS)
        load->refused++;
    for (size_t at = 0; at < load->size[i]; at++)
        load->wrong += load->copy[at] != load->fill[i];
    if (cuMemFree_v2(load->block[i]) != CUDA_SUCCESS)
        load->refused++;
    load->block[i] = 0;
}

static void *load_run(void *argument)
{
    struct load *load = argument;

    if (cuCtxSetCurrent(context) != CUDA_SUCCESS)
        load->refused++;
    for (unsigned step = 0; step < load->steps; step++) {
        unsigned i = (unsigned)load_draw(load, LOAD_BLOCKS);

        if (load->block[i])
            load_give(load, i);
        else
            load_take(load, i);
    }
    for (unsigned i = 0; i < LOAD_BLOCKS; i++)
        if (load->block[i])
            load_give(load, i);
    return NULL;
}

static void answer_load(unsigned steps, unsigned seed)
{
    static struct load loads[LOAD_THREADS];
    unsigned refused = 0;
    size_t wrong = 0;

    puts("begun");
    fflush(stdout);
    for (unsigned i = 0; i < LOAD_THREADS; i++) {
        loads[i] = (struct load){.steps = steps, .seed = seed * 0x9e3779b97f4a7c15u + i + 1};
        if (pthread_create(&loads[i].thread, NULL, load_run, &loads[i]) != 0)
            abort();
    }
    for (unsigned i = 0; i < LOAD_THREADS; i++) {
        pthread_join(loads[i].thread, NULL);
        refused += loads[i].refused;
        wrong += loads[i].wrong;
    }
    printf("done %zu %u\n", wrong, refused);
}

static void obey(const char *line, char **argv)
{
    char text[256] = "";
    unsigned block = 0, value = 0;
    CUcontext own;
    struct {
        char bytes[64];
    } handle;

    if (sscanf(line, "write %u %255[^\n]", &block, text) == 2)
        answer_result(cuMemcpyHtoD_v2(blocks[block], text, strlen(text)));
    else if (sscanf(line, "fill %u %u", &block, &value) == 2)
        answer_result(cuMemsetD8_v2(blocks[block], (unsigned char)value, sizes[block]));
    else if (sscanf(line, "read %u %u", &block, &value) == 2)
        answer_read(block, value);
    else if (sscanf(line, "free %u", &block) == 1)
        answer_result(cuMemFree_v2(blocks[block]));
    else if (sscanf(line, "range %u", &block) == 1)
        answer_range(block);
    else if (sscanf(line, "ipc %u", &block) == 1)
        answer_result(cuIpcGetMemHandle((CUipcMemHandle *)&handle, blocks[block]));
    else if (strncmp(line, "alloc ", 6) == 0 && make_room())
        answer_alloc(strtoull(line + 6, NULL, 0));
    else if (strncmp(line, "lost ", 5) == 0)
        answer_lost(strtoull(line + 5, NULL, 10));
    else if (strcmp(line, "info\n") == 0)
        answer_info();
    else if (strcmp(line, "reset\n") == 0)
        answer_reset();
    else if (strcmp(line, "own\n") == 0)
        answer_result(cuCtxCreate_v2(&own, 0, device));
    else if (strcmp(line, "capture\n") == 0)
        answer_result(begin_capture());
    else if (strcmp(line, "endcapture\n") == 0)
        answer_result(end_capture());
    else if (strcmp(line, "descriptors\n") == 0)
        answer_descriptors();
    else if (strcmp(line, "fork\n") == 0)
        answer_fork();
    else if (sscanf(line, "ordered %u", &value) == 1)
        answer_result(use_in_order(value));
    else if (sscanf(line, "load %u %u", &block, &value) == 2)
        answer_load(block, value);
    else if (strcmp(line, "exec\n") == 0)
        execv("/proc/self/exe", argv);
    else
        puts("what?");
}

int main(int argc, char **argv)
{
    char line[512];

    device = argc > 1 ? atoi(argv[1]) : 0;
    if (cuInit(0) != CUDA_SUCCESS || take_primary() != CUDA_SUCCESS) {
        puts("no device");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof(line), stdin) && strcmp(line, "quit\n") != 0) {
        obey(line, argv);
        fflush(stdout);
    }
    return 0;
}
