/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no sequence of calls shows a difference between Berth and the driver. Method: random calls
 * from a seed, whose results are printed without addresses; compare.py runs the same seed natively
 * and under Berth. Memory never runs out here: how much room the driver's own rounding leaves is
 * not the same by nature. With STEPS and any third argument no block is exported, as where blocks
 * share segments. Usage: differential SEED [STEPS [private]]
 */
#include "cuda_api.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 48
/*
 * Primary contexts of devices 0 and 1, and one that comes and goes. Where there is one device only,
 * the second is another one of it.
 */
#define CONTEXTS 3

enum kind { NONE, DEVICE, PITCHED, MANAGED, PINNED, ASYNC };

struct slot {
    enum kind kind;
    CUdeviceptr address;
    size_t size;
    int context;
    unsigned char fill;
};

static struct slot slots[SLOTS];
static CUcontext contexts[CONTEXTS];
static int last_device;
static CUstream stream;
static int current;
static uint64_t seed;
static bool is_private;

static uint64_t draw(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (seed >> 11) % below;
}

static int context_number(CUcontext context)
{
    for (int i = 0; i < CONTEXTS; i++)
        if (contexts[i] == context)
            return i;
    return -1;
}

static void use_context(int number)
{
    current = number;
    printf(" context %d: %d", number, cuCtxSetCurrent(contexts[number]));
}

/* Every OS page's first byte, and the last one. */
static void fill(struct slot *slot)
{
    slot->fill = (unsigned char)draw(256);
    if (slot->kind == PINNED)
        memset((void *)(uintptr_t)slot->address, slot->fill, slot->size);
    else
        printf(" fill %d", cuMemsetD8_v2(slot->address, slot->fill, slot->size));
    /* Another context may read it next, and nothing orders that. */
    cuCtxSynchronize();
}

static void check(const struct slot *slot)
{
    unsigned char *copy = malloc(slot->size);
    size_t wrong = 0;

    memset(copy, slot->fill + 1, slot->size);
    if (slot->kind == PINNED)
        memcpy(copy, (void *)(uintptr_t)slot->address, slot->size);
    else
        printf(" read %d", cuMemcpyDtoH_v2(copy, slot->address, slot->size));
    for (size_t i = 0; i < slot->size; i++)
        wrong += copy[i] != slot->fill;
    printf(" wrong %zu", wrong);
    free(copy);
}

static CUresult take(struct slot *slot)
{
    void *host = NULL;
    size_t pitch = 0;
    CUresult result;

    switch (slot->kind) {
    case PITCHED:
        result = cuMemAllocPitch_v2(&slot->address, &pitch, 100 + draw(400), 1 + draw(30), 4);
        printf(" pitch %zu", pitch);
        slot->size = 64;
        return result;
    case MANAGED:
        return cuMemAllocManaged(&slot->address, slot->size, CU_MEM_ATTACH_GLOBAL);
    case PINNED:
        result = cuMemAllocHost_v2(&host, slot->size);
        slot->address = (CUdeviceptr)(uintptr_t)host;
        return result;
    case ASYNC:
        result = cuMemAllocAsync(&slot->address, slot->size, draw(2) ? stream : NULL);
        cuCtxSynchronize();
        return result;
    default:
        return cuMemAlloc_v2(&slot->address, slot->size);
    }
}

static void allocate(struct slot *slot)
{
    static const enum kind kinds[] = {DEVICE, DEVICE, DEVICE, DEVICE,  DEVICE,
                                      DEVICE, ASYNC,  PINNED, MANAGED, PITCHED};
    CUresult result;

    slot->kind = kinds[draw(10)];
    slot->size = 1 + draw((uint64_t)1 << (3 + draw(20)));
    slot->context = current;
    if (slot->kind == ASYNC && current != 0)
        use_context(slot->context = 0); /* the stream is of that context */
    printf(" alloc kind %d of %zu:", (int)slot->kind, slot->size);
    result = take(slot);
    printf(" %d aligned %d", result, slot->kind == PINNED || slot->address % 512 == 0);
    if (result != 0) {
        slot->kind = NONE;
        return;
    }
    fill(slot);
}

static void release(struct slot *slot)
{
    CUdeviceptr address = slot->address;

    check(slot);
    switch (slot->kind) {
    case PINNED:
        printf(" free host: %d", cuMemFreeHost((void *)(uintptr_t)address));
        printf(" again %d", cuMemFreeHost((void *)(uintptr_t)address));
        break;
    case ASYNC:
        if (draw(2)) {
            printf(" free async: %d", cuMemFreeAsync(address, stream));
            cuCtxSynchronize();
            break;
        }
        __attribute__((fallthrough));
    default:
        printf(" free: %d", cuMemFree_v2(address));
        if (slot->kind != ASYNC)
            printf(" again %d", cuMemFree_v2(address));
        break;
    }
    slot->kind = NONE;
}

static void ask(const struct slot *slot)
{
    size_t offset = (size_t)draw(slot->size), size = 0;
    CUdeviceptr at = slot->address + offset, base = 0;
    unsigned int type = 9, sync = 9;
    int ordinal = 9;
    CUcontext owner = NULL;
    CUresult result = cuMemGetAddressRange_v2(&base, &size, at);

    printf(" range %d %d", result, result == 0 && base == slot->address);
    if (slot->kind == DEVICE)
        printf(" %zu", size);
    printf(" type %d", cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, at));
    printf(" %u", type);
    printf(" ordinal %d", cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, at));
    printf(" %d", ordinal);
    printf(" context %d", cuPointerGetAttribute(&owner, CU_POINTER_ATTRIBUTE_CONTEXT, at));
    printf(" %d", context_number(owner));
    printf(" sync %d", cuPointerGetAttribute(&sync, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, at));
    printf(" %u", sync);
}

static void do_wrong(const struct slot *slot)
{
    unsigned int on = (unsigned)draw(2);
    CUipcMemHandle handle;

    switch (draw(5)) {
    case 0:
        if (slot->size > 1)
            printf(" interior free: %d", cuMemFree_v2(slot->address + 1 + draw(slot->size - 1)));
        break;
    case 1:
        if (slot->kind != PINNED)
            printf(" as host memory: %d", cuMemFreeHost((void *)(uintptr_t)slot->address));
        break;
    case 2:
        printf(" sync memops %u: %d", on,
               cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, slot->address));
        break;
    case 3:
        if (!is_private && (slot->size >= (size_t)2 << 20 || slot->kind != DEVICE))
            printf(" handle: %d", cuIpcGetMemHandle(&handle, slot->address));
        break;
    default:
        check(slot);
        break;
    }
}

/* The third context goes with all its memory, and comes anew. */
static void renew_context(void)
{
    CUdeviceptr stale = 0;

    for (int i = 0; i < SLOTS; i++) {
        if (slots[i].kind == NONE || slots[i].context != CONTEXTS - 1)
            continue;
        if (slots[i].kind == DEVICE)
            stale = slots[i].address;
        slots[i].kind = NONE;
    }
    printf(" destroy: %d", cuCtxDestroy_v2(contexts[CONTEXTS - 1]));
    use_context(0);
    if (stale)
        printf(" stale: %d", cuMemFree_v2(stale));
    printf(" create: %d", cuCtxCreate_v2(&contexts[CONTEXTS - 1], 0, last_device));
    use_context(CONTEXTS - 1);
}

static int start(void)
{
    CUresult result = cuInit(0);
    int count = 0;

    if (result == 0)
        result = cuDeviceGetCount(&count);
    last_device = count > 1;
    if (result == 0)
        result = cuDevicePrimaryCtxRetain(&contexts[0], 0);
    if (result == 0)
        result = count > 1 ? cuDevicePrimaryCtxRetain(&contexts[1], 1)
                           : cuCtxCreate_v2(&contexts[1], 0, 0);
    if (result == 0)
        result = cuCtxCreate_v2(&contexts[2], 0, last_device);
    if (result == 0)
        result = cuCtxSetCurrent(contexts[0]);
    return result == 0 ? (int)cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) : (int)result;
}

int main(int argc, char **argv)
{
    long steps = argc > 2 ? atol(argv[2]) : 3000;
    int r;

    is_private = argc > 3;
    seed = (argc > 1 ? strtoull(argv[1], NULL, 0) : 1) * 0x9e3779b97f4a7c15u | 1;
    r = start();
    if (r != 0)
        return printf("start: %d\n", r) > 0;
    for (long step = 0; step < steps; step++) {
        struct slot *slot = &slots[draw(SLOTS)];
        uint64_t what = draw(100);

        printf("%ld: slot %d", step, (int)(slot - slots));
        if (what < 3)
            use_context((int)draw(CONTEXTS));
        else if (what == 3 && draw(4) == 0)
            renew_context();
        else if (slot->kind == NONE)
            allocate(slot);
        else if (what < 60)
            release(slot);
        else if (what < 80)
            ask(slot);
        else
            do_wrong(slot);
        printf("\n");
    }
    return 0;
}
