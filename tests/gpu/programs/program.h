/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs share that only a GPU runs: each prints what it sees, the same natively and
 * under Berth, and neither an address nor a time.
 */
#ifndef BERTH_TEST_GPU_PROGRAM_H
#define BERTH_TEST_GPU_PROGRAM_H

#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>
#include <vector>

/* Prints the answer, whatever it is, and clears it. */
#define SEEN(call)                                                                                 \
    do {                                                                                           \
        printf("%s: %s\n", #call, cudaGetErrorName(call));                                         \
        (void)cudaGetLastError();                                                                  \
    } while (0)

#define CHECK(call)                                                                                \
    do {                                                                                           \
        cudaError_t error = (call);                                                                \
        if (error != cudaSuccess) {                                                                \
            printf("line %d: %s: %s\n", __LINE__, #call, cudaGetErrorName(error));                 \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

__global__ static void fill(unsigned *values, unsigned seed, size_t n)
{
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;

    if (i < n)
        values[i] = (unsigned)i * 2654435761u + seed;
}

__global__ static void mix(unsigned *to, const unsigned *from, size_t n)
{
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;

    if (i < n)
        to[i] = (from[i] ^ (from[i] >> 13)) * 2246822519u;
}

static inline unsigned blocks_for(size_t n)
{
    return (unsigned)((n + 255) / 256);
}

/* Waits for the device. */
static inline unsigned digest(const unsigned *values, size_t n)
{
    std::vector<unsigned> host(n);
    unsigned sum = 0;

    CHECK(cudaDeviceSynchronize());
    CHECK(cudaMemcpy(host.data(), values, n * sizeof(unsigned), cudaMemcpyDefault));
    for (unsigned value : host)
        sum = sum * 31 + value;
    return sum;
}

#endif
