/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that tags nothing: it loads weights from the host, and runs steps whose input is
 * copied, with activations, workspace and a cache that grows. By its arguments it declares the
 * steps, and takes its memory in the order of a stream. It prints what each of its blocks is tagged
 * as and where it is, and waits for a line.
 */
#include "alloc/berth.h"
#include "cuda_api.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIB(n) ((size_t)(n) << 10)
#define LAYERS 6

static char *host;
static CUdeviceptr weights[LAYERS], cache[LAYERS], input, arena;
static CUstream stream;
static bool is_ordered;
static int errors;

static void check(CUresult result)
{
    errors += result != 0;
}

/* One caller, as a tensor allocator is. */
__attribute__((noinline)) static CUdeviceptr get(size_t size)
{
    CUdeviceptr p = 0;

    check(is_ordered ? cuMemAllocAsync(&p, size, stream) : cuMemAlloc_v2(&p, size));
    return p;
}

static void put(CUdeviceptr p)
{
    check(is_ordered ? cuMemFreeAsync(p, stream) : cuMemFree_v2(p));
}

/* Each call that fills, in turn; the unified ones last. */
static void fill(CUdeviceptr to, size_t size, unsigned how)
{
    switch (how % 6) {
    case 0:
        check(cuMemcpyHtoD_v2(to, host, size));
        break;
    case 1:
        check(cuMemcpyHtoDAsync_v2(to, host, size, NULL));
        break;
    case 2: /* in pieces */
        for (size_t at = 0; at < size; at += KIB(64))
            check(cuMemcpyHtoD_v2(to + at, host + at, KIB(64)));
        break;
    case 3:
        check(cuMemcpy(to, (CUdeviceptr)(uintptr_t)host, size));
        break;
    case 4:
        check(cuMemcpyAsync(to, (CUdeviceptr)(uintptr_t)host, size, NULL));
        break;
    default:
        check(cuMemcpyHtoDAsync_v2_ptsz(to, host, size, NULL));
    }
}

static void load(void)
{
    for (unsigned i = 0; i < LAYERS; i++) {
        size_t size = KIB(256) * (i + 1);

        for (size_t at = 0; at < size; at++)
            host[at] = (char)(at * 7 + i);
        weights[i] = get(size);
        fill(weights[i], size, i);
        check(cuCtxSynchronize());
    }
    input = get(KIB(128));
    arena = get(KIB(4096));
}

static void step(unsigned number)
{
    CUdeviceptr x = get(KIB(100));

    fill(input, KIB(128), number);
    for (unsigned i = 0; i < LAYERS; i++) {
        CUdeviceptr y = get(KIB(104 + i % 3 * 4)), scratch = get(KIB(512)), larger;

        /* From device to device is no fill. */
        check(cuMemcpy(arena, weights[LAYERS - 1], KIB(1024)));
        put(scratch);
        put(x);
        x = y;
        larger = get(KIB(2048 + number * 16));
        if (cache[i])
            put(cache[i]);
        cache[i] = larger;
    }
    put(x);
}

/* The bytes that were copied are there. */
static void verify(void)
{
    for (unsigned i = 0; i < LAYERS; i++) {
        size_t size = KIB(256) * (i + 1);

        check(cuMemcpyDtoH_v2(host, weights[i], size));
        for (size_t at = 0; at < size; at++)
            errors += host[at] != (char)(at * 7 + i);
    }
}

static void tell(const char *what, CUdeviceptr p)
{
    struct berth_block_info info;

    if (berth_describe((const void *)(uintptr_t)p, &info, sizeof(info)) < 0)
        errors++;
    else
        printf("%s %d 0x%llx\n", what, (int)info.tag, (unsigned long long)p);
}

int main(int argc, char **argv)
{
    bool is_declared = false;
    CUcontext context;

    for (int i = 1; i < argc; i++) {
        is_declared |= strcmp(argv[i], "declare") == 0;
        is_ordered |= strcmp(argv[i], "ordered") == 0;
    }
    host = malloc(KIB(256) * LAYERS);
    if (!host || cuInit(0) != 0 || cuDevicePrimaryCtxRetain(&context, 0) != 0 ||
        cuCtxSetCurrent(context) != 0 || cuStreamCreate(&stream, 0) != 0)
        return 1;
    load();
    for (unsigned number = 0; number < 12; number++) {
        if (is_declared)
            berth_step();
        step(number);
    }
    for (unsigned i = 0; i < LAYERS; i++)
        tell("weight", weights[i]);
    for (unsigned i = 0; i < LAYERS; i++)
        tell("cache", cache[i]);
    tell("input", input);
    tell("arena", arena);
    tell("activation", get(KIB(104)));
    tell("workspace", get(KIB(512)));
    verify();
    printf("ready\n");
    fflush(stdout);
    getchar();
    return errors != 0;
}
