/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a cached device allocation and free cost through the exported hooks, on the simulated
 * driver.
 *
 * Interleaved batches of: the pair under Berth; and the driver's own calls that the pair contains
 * (cuCtxGetCurrent twice, cuCtxSynchronize once), so that the difference is Berth's share. Run with
 * libberth.so preloaded for a cached pair, without it for the driver's own cuMemAlloc + cuMemFree.
 * Figures are *simulated*: nothing here says what a GPU does.
 */
#include "cuda_api.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BATCHES 4000
#define PAIRS 50

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000 + t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static double measure_pairs(size_t size)
{
    int64_t start = now_ns();

    for (int i = 0; i < PAIRS; i++) {
        CUdeviceptr p;

        if (cuMemAlloc_v2(&p, size) != 0 || cuMemFree_v2(p) != 0)
            abort();
    }
    return (double)(now_ns() - start) / PAIRS;
}

static double measure_driver(void)
{
    int64_t start = now_ns();

    for (int i = 0; i < PAIRS; i++) {
        CUcontext context;

        if (cuCtxGetCurrent(&context) != 0 || cuCtxGetCurrent(&context) != 0 ||
            cuCtxSynchronize() != 0)
            abort();
    }
    return (double)(now_ns() - start) / PAIRS;
}

static void report(const char *what, size_t size, double *ns)
{
    qsort(ns, BATCHES, sizeof(*ns), by_value);
    printf("%-28s %9zu bytes: median %8.1f ns, p99.9 %9.1f ns (simulated)\n", what, size,
           ns[BATCHES / 2], ns[BATCHES - BATCHES / 1000 - 1]);
}

int main(void)
{
    static double pair[BATCHES], driver[BATCHES];
    const size_t sizes[] = {512, 64 << 10, 8 << 20};
    const char *what =
        dlsym(RTLD_DEFAULT, "berth_api_v1") ? "cached alloc + free" : "the driver's alloc + free";
    CUcontext context;

    if (cuInit(0) != 0 || cuDevicePrimaryCtxRetain(&context, 0) != 0 ||
        cuCtxSetCurrent(context) != 0) {
        printf("the simulated driver does not start\n");
        return 1;
    }
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        measure_pairs(sizes[s]);
        for (int i = 0; i < BATCHES; i++) {
            pair[i] = measure_pairs(sizes[s]);
            driver[i] = measure_driver();
        }
        report(what, sizes[s], pair);
        report("the driver calls within", sizes[s], driver);
        printf("%-28s %9zu bytes: median %8.1f ns (simulated)\n", "difference", sizes[s],
               pair[BATCHES / 2] - driver[BATCHES / 2]);
    }
    return 0;
}
