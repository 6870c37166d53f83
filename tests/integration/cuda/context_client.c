/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: an allocation is always of the context that is current in its thread, however that came to
 * be, and no block has two owners. Method: threads switch, push, pop, create and destroy contexts
 * on all devices by every call that does, and after each step allocate, ask whose the memory is,
 * mark it, and free blocks from wherever they are. Seeded; the seed is printed on failure. What the
 * driver says without Berth in between (cuCtxGetCurrent) is what is expected.
 */
#include "cuda_api.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 4
#define STEPS 15000
#define BLOCKS 24
#define OWN 2   /* contexts that a thread makes for itself */
#define DEPTH 6 /* of the stack, at most */

struct block {
    CUdeviceptr address;
    CUcontext context;
    size_t size;
    uint64_t mark;
};

struct thread {
    pthread_t thread;
    uint64_t seed;
    unsigned number, depth, own_count;
    CUcontext own[OWN];
    struct block block[BLOCKS];
    uint64_t next_mark, served;
};

static int devices;
static CUcontext primary[64];
static uint64_t seed_base = 20261120;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s (seed %llu)\n", __FILE__, __LINE__, #condition,             \
                    (unsigned long long)seed_base);                                                \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static uint64_t draw(struct thread *t, uint64_t below)
{
    t->seed ^= t->seed << 13;
    t->seed ^= t->seed >> 7;
    t->seed ^= t->seed << 17;
    return t->seed % below;
}

static CUcontext current(void)
{
    CUcontext context = NULL;

    CHECK(cuCtxGetCurrent(&context) == CUDA_SUCCESS);
    return context;
}

static CUcontext any_context(struct thread *t)
{
    uint64_t at = draw(t, (uint64_t)devices + t->own_count);

    return at < (uint64_t)devices ? primary[at] : t->own[at - (uint64_t)devices];
}

static void create(struct thread *t)
{
    CUdevice device = (CUdevice)draw(t, (uint64_t)devices);
    CUcontext *made = &t->own[t->own_count];

    if (t->own_count == OWN || t->depth == DEPTH)
        return;
    switch (draw(t, 3)) {
    case 0:
        CHECK(cuCtxCreate_v2(made, 0, device) == CUDA_SUCCESS);
        break;
    case 1:
        CHECK(cuCtxCreate_v3(made, NULL, 0, 0, device) == CUDA_SUCCESS);
        break;
    default:
        CHECK(cuCtxCreate_v4(made, NULL, 0, device) == CUDA_SUCCESS);
        break;
    }
    CHECK(current() == *made);
    t->own_count++;
    t->depth++;
}

/* Empties the stack: a context that is destroyed must not be further down in it. */
static void destroy(struct thread *t)
{
    CUcontext gone, popped;

    if (t->own_count == 0)
        return;
    while (current())
        CHECK(cuCtxPopCurrent_v2(&popped) == CUDA_SUCCESS);
    t->depth = 0;
    gone = t->own[--t->own_count];
    if (draw(t, 2)) {
        CHECK(cuCtxPushCurrent_v2(gone) == CUDA_SUCCESS);
        CHECK(current() == gone);
    }
    CHECK((draw(t, 2) ? cuCtxDestroy_v2 : cuCtxDestroy)(gone) == CUDA_SUCCESS);
    for (unsigned i = 0; i < BLOCKS; i++)
        if (t->block[i].context == gone)
            t->block[i].address = 0;
}

static void push(struct thread *t)
{
    if (t->depth == DEPTH)
        return;
    CHECK((draw(t, 2) ? cuCtxPushCurrent_v2 : cuCtxPushCurrent)(any_context(t)) == CUDA_SUCCESS);
    t->depth++;
}

static void pop(struct thread *t)
{
    CUcontext popped;

    if (!current())
        return;
    CHECK((draw(t, 2) ? cuCtxPopCurrent_v2 : cuCtxPopCurrent)(&popped) == CUDA_SUCCESS);
    t->depth--;
}

static void set(struct thread *t)
{
    CUcontext context = draw(t, 8) ? any_context(t) : NULL;
    bool was_empty = !current();

    CHECK(cuCtxSetCurrent(context) == CUDA_SUCCESS);
    if (context && was_empty)
        t->depth++;
    else if (!context && !was_empty)
        t->depth--;
}

static void step_contexts(struct thread *t)
{
    switch (draw(t, 40)) {
    case 0:
        create(t);
        break;
    case 1:
        destroy(t);
        break;
    case 2:
    case 3:
        push(t);
        break;
    case 4:
    case 5:
        pop(t);
        break;
    case 6:
    case 7:
    case 8:
        set(t);
        break;
    default: /* most often nothing, so that there is something to be remembered */
        break;
    }
}

/* On the simulated driver device memory can be read by the processor. */
static void release(struct thread *t, struct block *block)
{
    (void)t;
    CHECK(*(uint64_t *)(uintptr_t)block->address == block->mark);
    CHECK(cuMemFree_v2(block->address) == CUDA_SUCCESS);
    block->address = 0;
}

static void step_blocks(struct thread *t)
{
    static const size_t sizes[] = {8, 512, 4096, 65536, 65537, 1 << 20, 2 << 20, (2 << 20) + 1};
    struct block *block = &t->block[draw(t, BLOCKS)];
    CUcontext context = current(), owner = NULL;
    CUresult result;

    if (block->address) {
        release(t, block);
        return;
    }
    block->size = sizes[draw(t, sizeof(sizes) / sizeof(sizes[0]))];
    result = cuMemAlloc_v2(&block->address, block->size);
    if (!context) {
        CHECK(result == CUDA_ERROR_INVALID_CONTEXT);
        block->address = 0;
        return;
    }
    CHECK(result == CUDA_SUCCESS);
    CHECK(cuPointerGetAttribute(&owner, CU_POINTER_ATTRIBUTE_CONTEXT, block->address) ==
          CUDA_SUCCESS);
    CHECK(owner == context);
    block->context = context;
    block->mark = ((uint64_t)t->number << 56) + ++t->next_mark;
    *(uint64_t *)(uintptr_t)block->address = block->mark;
    t->served++;
}

static void *work(void *argument)
{
    struct thread *t = argument;

    for (unsigned i = 0; i < STEPS; i++) {
        step_contexts(t);
        step_blocks(t);
    }
    for (unsigned i = 0; i < BLOCKS; i++)
        if (t->block[i].address)
            release(t, &t->block[i]);
    while (t->own_count > 0)
        destroy(t);
    return NULL;
}

/*
 * A context that was opened to a peer ends; the next one on its device is open to nobody. Only
 * memory that is mapped can be asked about: natively there is none, so this looks at Berth's.
 */
static void end_an_open_context(void)
{
    const CUmemLocation other = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 1};
    unsigned long long flags = 0;
    CUdeviceptr block;

    CHECK(cuCtxSetCurrent(primary[1]) == CUDA_SUCCESS);
    CHECK(cuCtxEnablePeerAccess(primary[0], 0) == CUDA_SUCCESS);
    CHECK(cuCtxSetCurrent(primary[0]) == CUDA_SUCCESS);
    CHECK(cuMemAlloc_v2(&block, 100000) == CUDA_SUCCESS);
    if (cuMemGetAccess(&flags, &other, block) == CUDA_SUCCESS)
        CHECK(flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    CHECK(cuDevicePrimaryCtxReset_v2(0) == CUDA_SUCCESS);
    CHECK(cuDevicePrimaryCtxRetain(&primary[0], 0) == CUDA_SUCCESS);
    CHECK(cuCtxSetCurrent(primary[0]) == CUDA_SUCCESS);
    CHECK(cuMemAlloc_v2(&block, 100000) == CUDA_SUCCESS);
    if (cuMemGetAccess(&flags, &other, block) == CUDA_SUCCESS)
        CHECK(flags == CU_MEM_ACCESS_FLAGS_PROT_NONE);
    CHECK(cuMemFree_v2(block) == CUDA_SUCCESS);
}

int main(int argc, char **argv)
{
    static struct thread threads[THREADS];
    uint64_t served = 0;

    if (argc > 1)
        seed_base = strtoull(argv[1], NULL, 10);
    CHECK(cuInit(0) == CUDA_SUCCESS);
    CHECK(cuDeviceGetCount(&devices) == CUDA_SUCCESS && devices >= 2 && devices <= 64);
    for (int i = 0; i < devices; i++)
        CHECK(cuDevicePrimaryCtxRetain(&primary[i], i) == CUDA_SUCCESS);
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i].number = i + 1;
        threads[i].seed = seed_base * 77 + i + 1;
        pthread_create(&threads[i].thread, NULL, work, &threads[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i].thread, NULL);
        served += threads[i].served;
    }
    CHECK(served > THREADS * STEPS / 8);
    end_an_open_context();
    return 0;
}
