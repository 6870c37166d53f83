/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CUDA program of several threads that allocate and free all the time: of every kind that a limit
 * counts, with the four tags. It goes on when memory is out, and ends with 1 at any other answer,
 * or when a block is not as it was filled.
 *
 * For each line of input it lets every thread free all that it has, and allocate, and halts them
 * with their blocks in hand; it answers with how often memory was out, and after one more line goes
 * on. At the line "end" it frees all, answers "idle", and ends after one more line.
 */
#include "alloc/berth.h"
#include "cuda_api.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 4
#define BLOCKS 24

enum kind { NONE, DEVICE, PITCHED, ORDERED, ARRAY, PHYSICAL };

struct block {
    enum kind kind;
    CUdeviceptr address; /* or a handle */
    size_t size;
    unsigned char mark;
};

static CUcontext context;
static atomic_uint rounds[THREADS], refusals;
static atomic_bool is_over, is_halting;
static pthread_barrier_t all;

static void fail(const char *what, CUresult result)
{
    printf("%s: %d\n", what, (int)result);
    fflush(stdout);
    _Exit(1);
}

static unsigned draw(unsigned *seed, unsigned below)
{
    *seed = *seed * 1664525 + 1013904223;
    return (*seed >> 8) % below;
}

/* Half of them are less than 256 KiB, the others up to 3 MiB. */
static size_t draw_size(unsigned *seed)
{
    return 1 + (draw(seed, 2) ? draw(seed, 256 << 10) : draw(seed, 3 << 20));
}

static CUresult make_array(struct block *block)
{
    CUDA_ARRAY_DESCRIPTOR descriptor = {block->size / 1024 + 1, 256, CU_AD_FORMAT_FLOAT, 1};
    CUarray array = NULL;
    CUresult result = cuArrayCreate_v2(&array, &descriptor);

    block->address = (CUdeviceptr)(uintptr_t)array;
    return result;
}

static CUresult make_physical(struct block *block)
{
    const CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                            .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};

    return cuMemCreate(&block->address, (size_t)2 << 20, &properties, 0);
}

/* No device has it: refused by the driver or by a limit, and nothing stays taken for it. */
static void ask_for_too_much(unsigned kind)
{
    CUDA_ARRAY_DESCRIPTOR descriptor = {(size_t)1 << 20, (size_t)1 << 20, CU_AD_FORMAT_FLOAT, 4};
    CUarray array = NULL;
    CUdeviceptr p = 0;
    size_t pitch = 0;
    CUresult result = kind == 0   ? cuArrayCreate_v2(&array, &descriptor)
                      : kind == 1 ? cuMemAllocPitch_v2(&p, &pitch, 1000, (size_t)1 << 33, 4)
                                  : cuMemAlloc_v2(&p, (size_t)1 << 43);

    if (result != CUDA_ERROR_OUT_OF_MEMORY)
        fail("too much", result);
}

static CUresult allocate(struct block *block, CUstream stream, unsigned *seed)
{
    static const enum kind kinds[] = {DEVICE,  DEVICE,  DEVICE,  DEVICE,  DEVICE, PITCHED,
                                      PITCHED, ORDERED, ORDERED, ORDERED, ARRAY,  PHYSICAL};
    size_t pitch = 0;

    block->kind = kinds[draw(seed, sizeof(kinds) / sizeof(kinds[0]))];
    block->size = draw_size(seed);
    switch (block->kind) {
    case PITCHED:
        block->size = 1000;
        return cuMemAllocPitch_v2(&block->address, &pitch, 1000, 1 + draw(seed, 3000), 4);
    case ORDERED:
        return cuMemAllocAsync(&block->address, block->size, stream);
    case ARRAY:
        return make_array(block);
    case PHYSICAL:
        return make_physical(block);
    default:
        return cuMemAlloc_v2(&block->address, block->size);
    }
}

static CUresult end(const struct block *block, CUstream stream)
{
    switch (block->kind) {
    case ORDERED:
        return cuMemFreeAsync(block->address, stream);
    case ARRAY:
        return cuArrayDestroy((CUarray)(uintptr_t)block->address);
    case PHYSICAL:
        return cuMemRelease(block->address);
    default:
        return cuMemFree_v2(block->address);
    }
}

static bool has_bytes(const struct block *block)
{
    return block->kind == DEVICE || block->kind == PITCHED || block->kind == ORDERED;
}

static void put_back(struct block *block, CUstream stream)
{
    unsigned char seen = block->mark;
    CUresult result = CUDA_SUCCESS;

    if (has_bytes(block))
        result = cuMemcpyDtoHAsync_v2(&seen, block->address + block->size - 1, 1, stream);
    if (result == CUDA_SUCCESS)
        result = cuStreamSynchronize(stream);
    if (result != CUDA_SUCCESS || seen != block->mark)
        fail("a block is not as it was filled", result);
    result = end(block, stream);
    if (result != CUDA_SUCCESS)
        fail("free", result);
    block->kind = NONE;
}

/* Allocates a block of the tag, and fills it; none where memory is out. */
static void get(struct block *block, enum berth_tag tag, CUstream stream, unsigned *seed)
{
    CUresult result;

    berth_tag_push(tag);
    result = allocate(block, stream, seed);
    berth_tag_pop();
    if (result == CUDA_ERROR_OUT_OF_MEMORY) {
        atomic_fetch_add(&refusals, 1);
        block->kind = NONE;
        return;
    }
    if (result != CUDA_SUCCESS)
        fail("allocation", result);
    block->mark = (unsigned char)draw(seed, 256);
    if (has_bytes(block))
        result = cuMemsetD8Async(block->address, block->mark, block->size, stream);
    if (result != CUDA_SUCCESS)
        fail("fill", result);
}

static void go_round(struct block *blocks, CUstream stream, unsigned *seed)
{
    for (unsigned i = 0; i < BLOCKS; i++)
        get(&blocks[i], (enum berth_tag)(BERTH_TAG_WEIGHT + i % 4), stream, seed);
    ask_for_too_much(draw(seed, 3));
    if (atomic_load(&is_halting)) {
        pthread_barrier_wait(&all);
        pthread_barrier_wait(&all);
    }
    for (unsigned i = 0; i < BLOCKS; i++)
        if (blocks[i].kind != NONE)
            put_back(&blocks[i], stream);
}

static void *work(void *argument)
{
    unsigned number = *(unsigned *)argument, seed = number + 1;
    struct block blocks[BLOCKS] = {{0}};
    CUstream stream;
    CUresult result = cuCtxSetCurrent(context);

    if (result == CUDA_SUCCESS)
        result = cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING);
    if (result != CUDA_SUCCESS)
        fail("stream", result);
    while (!atomic_load(&is_over)) {
        go_round(blocks, stream, &seed);
        atomic_fetch_add(&rounds[number], 1);
    }
    pthread_barrier_wait(&all);
    pthread_barrier_wait(&all);
    return NULL;
}

/* Until each thread has ended the round that it is in, and another one. */
static void await_rounds(void)
{
    for (unsigned i = 0; i < THREADS; i++) {
        unsigned begin = atomic_load(&rounds[i]);

        while (atomic_load(&rounds[i]) - begin < 2)
            sched_yield();
    }
}

static void halt(void)
{
    atomic_store(&is_halting, true);
    pthread_barrier_wait(&all);
    atomic_store(&is_halting, false);
}

int main(void)
{
    pthread_t threads[THREADS];
    unsigned numbers[THREADS];
    char line[64];

    if (cuInit(0) != 0 || cuDevicePrimaryCtxRetain(&context, 0) != 0 ||
        cuCtxSetCurrent(context) != 0)
        return 1;
    pthread_barrier_init(&all, NULL, THREADS + 1);
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        if (pthread_create(&threads[i], NULL, work, &numbers[i]) != 0)
            return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    while (fgets(line, sizeof(line), stdin) && strcmp(line, "end\n") != 0) {
        atomic_store(&refusals, 0);
        await_rounds();
        halt();
        printf("%u\n", atomic_load(&refusals));
        if (!fgets(line, sizeof(line), stdin))
            return 1;
        pthread_barrier_wait(&all);
    }
    atomic_store(&is_over, true);
    pthread_barrier_wait(&all);
    puts("idle");
    if (!fgets(line, sizeof(line), stdin))
        return 1;
    pthread_barrier_wait(&all);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return 0;
}
