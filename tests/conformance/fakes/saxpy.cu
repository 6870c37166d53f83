/* SPDX-License-Identifier: Apache-2.0 */
/* A program as anyone would write it: kernels with different argument lists, a
 * template, a device variable, streams and events. It prints "correct" and
 * exits 0 only if every number is right. saxpy_host.c holds the kernels' host
 * twins for the simulated driver. */
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>

__device__ int launches_seen;

__global__ void saxpy(float a, const float *x, float *y, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;

    if (i < n)
        y[i] = a * x[i] + y[i];
}

template <class T> __global__ void shift(T *values, T by, size_t n)
{
    size_t i = blockIdx.x * blockDim.x + threadIdx.x;

    if (i < n)
        values[i] += by;
}

#define CHECK(call)                                                                                \
    do {                                                                                           \
        cudaError_t error = (call);                                                                \
        if (error != cudaSuccess) {                                                                \
            fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(error));                         \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

int main()
{
    const int n = 100000;
    float *host = (float *)malloc(n * sizeof(float)), *x, *y;
    double *wide, wide_host[64];
    int marker = 41, marker_back = 0;
    cudaStream_t stream;
    cudaEvent_t done;

    for (int i = 0; i < n; i++)
        host[i] = (float)i;
    CHECK(cudaStreamCreate(&stream));
    CHECK(cudaEventCreate(&done));
    CHECK(cudaMalloc(&x, n * sizeof(float)));
    CHECK(cudaMallocAsync(&y, n * sizeof(float), stream));
    CHECK(cudaMemcpyAsync(x, host, n * sizeof(float), cudaMemcpyHostToDevice, stream));
    CHECK(cudaMemsetAsync(y, 0, n * sizeof(float), stream));
    saxpy<<<(n + 255) / 256, 256, 0, stream>>>(2.0f, x, y, n);
    CHECK(cudaGetLastError());
    saxpy<<<(n + 255) / 256, 256, 0, stream>>>(1.0f, x, y, n);
    CHECK(cudaEventRecord(done, stream));
    CHECK(cudaMemcpyAsync(host, y, n * sizeof(float), cudaMemcpyDeviceToHost, stream));
    CHECK(cudaStreamSynchronize(stream));
    CHECK(cudaEventQuery(done));
    for (int i = 0; i < n; i++)
        if (host[i] != 3.0f * (float)i) {
            fprintf(stderr, "y[%d] is %g\n", i, host[i]);
            return 1;
        }
    CHECK(cudaMalloc(&wide, sizeof(wide_host)));
    CHECK(cudaMemset(wide, 0, sizeof(wide_host)));
    shift<double><<<1, 64>>>(wide, 0.5, 64);
    CHECK(cudaMemcpy(wide_host, wide, sizeof(wide_host), cudaMemcpyDeviceToHost));
    for (int i = 0; i < 64; i++)
        if (wide_host[i] != 0.5)
            return 1;
    CHECK(cudaMemcpyToSymbol(launches_seen, &marker, sizeof(marker)));
    CHECK(cudaMemcpyFromSymbol(&marker_back, launches_seen, sizeof(marker)));
    if (marker_back != marker)
        return 1;
    shift<double><<<1, 2048>>>(wide, 0.5, 64);
    if (cudaGetLastError() != cudaErrorInvalidConfiguration)
        return 1;
    CHECK(cudaFreeAsync(y, stream));
    CHECK(cudaFree(x));
    CHECK(cudaFree(wide));
    CHECK(cudaEventDestroy(done));
    CHECK(cudaStreamDestroy(stream));
    free(host);
    printf("correct\n");
    return 0;
}
