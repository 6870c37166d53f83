/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program with kernels that allocates for every step, as inference code does. It prints a digest
 * of what its kernels computed. reuse_host.c holds the kernels for the simulated driver.
 */
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>
#include <vector>

__global__ void fill(unsigned *values, unsigned seed, size_t n)
{
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;

    if (i < n)
        values[i] = (unsigned)i * 2654435761u + seed;
}

__global__ void mix(unsigned *to, const unsigned *from, size_t n)
{
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;

    if (i < n)
        to[i] = (from[i] ^ (from[i] >> 13)) * 2246822519u;
}

#define CHECK(call)                                                                                \
    do {                                                                                           \
        cudaError_t error = (call);                                                                \
        if (error != cudaSuccess) {                                                                \
            printf("%s: %s\n", #call, cudaGetErrorString(error));                                  \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

int main()
{
    unsigned digest = 0;

    for (unsigned step = 0; step < 60; step++) {
        size_t n = 1000 + (step % 7) * 90000;
        unsigned blocks = (unsigned)((n + 255) / 256);
        std::vector<unsigned> host(n);
        unsigned *a, *b;

        CHECK(cudaMalloc(&a, n * sizeof(unsigned)));
        CHECK(cudaMalloc(&b, n * sizeof(unsigned)));
        fill<<<blocks, 256>>>(a, step, n);
        mix<<<blocks, 256>>>(b, a, n);
        CHECK(cudaMemcpy(host.data(), b, n * sizeof(unsigned), cudaMemcpyDeviceToHost));
        CHECK(cudaFree(a));
        CHECK(cudaFree(b));
        for (size_t i = 0; i < n; i++)
            digest = digest * 31 + host[i];
        printf("step %u: %08x\n", step, digest);
    }
    return 0;
}
