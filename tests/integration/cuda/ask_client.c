/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask_client sync|async LOG: a program that asks what is free at the end of each of its steps.
 *
 * The steps need sizes that differ a little from one to the next, and come again. Once all have
 * been seen, no step may ask the driver for memory or give it any: an answer changes nothing of
 * what is cached, and for long nothing of what it serves. LOG is the fake driver's log of calls.
 */
#include "cuda_api.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)
#define STEPS 40
#define SETTLED 30 /* from this step on */
#define BLOCKS 12

static bool is_ordered;
static const char *log_path;

static void expect(bool is_right, const char *what)
{
    if (is_right)
        return;
    printf("%s\n", what);
    exit(1);
}

/* Calls so far that are about device memory of either kind. */
static unsigned calls(void)
{
    FILE *file = fopen(log_path, "re");
    unsigned count = 0;
    char line[512];

    expect(file != NULL, "no log");
    while (fgets(line, sizeof(line), file))
        count += strncmp(line, "cuMemAlloc", 10) == 0 || strncmp(line, "cuMemFree", 9) == 0 ||
                 strncmp(line, "cuMemCreate", 11) == 0 || strncmp(line, "cuMemRelease", 12) == 0 ||
                 strncmp(line, "cuMemPoolTrimTo", 15) == 0;
    fclose(file);
    return count;
}

static CUdeviceptr make(size_t size)
{
    CUdeviceptr address = 0;

    expect((is_ordered ? cuMemAllocAsync(&address, size, NULL) : cuMemAlloc_v2(&address, size)) ==
               0,
           "no memory");
    return address;
}

static void drop(CUdeviceptr address)
{
    expect((is_ordered ? cuMemFreeAsync(address, NULL) : cuMemFree_v2(address)) == 0, "no free");
}

static void step(unsigned number)
{
    CUdeviceptr block[BLOCKS];
    size_t left, total;

    drop(make(MIB));
    drop(make(4 * MIB));
    for (unsigned i = 0; i < BLOCKS; i++)
        block[i] = make((32 + i * 16) * MIB + (is_ordered ? 0 : number % 3 * MIB));
    for (unsigned i = 0; i < BLOCKS; i++)
        drop(block[i]);
    expect(cuCtxSynchronize() == 0, "cuCtxSynchronize");
    expect(cuMemGetInfo_v2(&left, &total) == 0, "cuMemGetInfo");
    /* At most the driver's rounding of what lives, and of what lies beside it. */
    expect(total - left <= 128 * MIB, "too little was told to be free");
}

int main(int argc, char **argv)
{
    CUcontext context;
    unsigned before = 0, after;

    if (argc != 3)
        return 2;
    is_ordered = strcmp(argv[1], "async") == 0;
    log_path = argv[2];
    expect(cuInit(0) == 0 && cuDevicePrimaryCtxRetain(&context, 0) == 0 &&
               cuCtxSetCurrent(context) == 0,
           "no context");
    make(4 * MIB);
    for (unsigned i = 0; i < STEPS; i++) {
        if (i == SETTLED)
            before = calls();
        step(i);
    }
    after = calls();
    if (after > before)
        printf("%u calls for memory in %u steps\n", after - before, STEPS - SETTLED);
    return after > before;
}
