/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory by every other call of the runtime, beside cudaMalloc's: read through textures, managed
 * and moved, on the heap of kernels; what the runtime says of it, and of wrong calls.
 */
#include "program.h"

static const int WIDTH = 1000, HEIGHT = 64;

__global__ static void read_line(cudaTextureObject_t texture, unsigned *to, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;

    if (i < n)
        to[i] = tex1Dfetch<unsigned>(texture, i) * 3;
}

__global__ static void read_rows(cudaTextureObject_t texture, unsigned *to)
{
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y;

    if (x < WIDTH)
        to[y * WIDTH + x] = tex2D<unsigned>(texture, x + 0.5f, y + 0.5f);
}

static void textures()
{
    cudaResourceDesc resource = {};
    cudaTextureDesc how = {};
    cudaTextureObject_t texture;
    unsigned *line, *rows, *to;
    size_t pitch;

    how.readMode = cudaReadModeElementType;
    CHECK(cudaMalloc(&line, WIDTH * sizeof(unsigned)));
    CHECK(cudaMalloc(&to, WIDTH * HEIGHT * sizeof(unsigned)));
    fill<<<blocks_for(WIDTH), 256>>>(line, 4, WIDTH);
    resource.resType = cudaResourceTypeLinear;
    resource.res.linear.devPtr = line;
    resource.res.linear.desc = cudaCreateChannelDesc<unsigned>();
    resource.res.linear.sizeInBytes = WIDTH * sizeof(unsigned);
    CHECK(cudaCreateTextureObject(&texture, &resource, &how, NULL));
    read_line<<<blocks_for(WIDTH), 256>>>(texture, to, WIDTH);
    printf("a texture of a line: %08x\n", digest(to, WIDTH));
    CHECK(cudaDestroyTextureObject(texture));
    CHECK(cudaMallocPitch(&rows, &pitch, WIDTH * sizeof(unsigned), HEIGHT));
    printf("pitch %zu\n", pitch);
    CHECK(cudaMemset2D(rows, pitch, 7, WIDTH * sizeof(unsigned), HEIGHT));
    resource = {};
    resource.resType = cudaResourceTypePitch2D;
    resource.res.pitch2D.devPtr = rows;
    resource.res.pitch2D.desc = cudaCreateChannelDesc<unsigned>();
    resource.res.pitch2D.width = WIDTH;
    resource.res.pitch2D.height = HEIGHT;
    resource.res.pitch2D.pitchInBytes = pitch;
    CHECK(cudaCreateTextureObject(&texture, &resource, &how, NULL));
    read_rows<<<dim3(blocks_for(WIDTH), HEIGHT), 256>>>(texture, to);
    printf("a texture of rows: %08x\n", digest(to, WIDTH * HEIGHT));
    CHECK(cudaDestroyTextureObject(texture));
    SEEN(cudaFree(rows));
    SEEN(cudaFree(line));
    SEEN(cudaFree(to));
}

static void managed()
{
    cudaMemLocation here = {};
    unsigned *p;

    here.type = cudaMemLocationTypeDevice;
    CHECK(cudaMallocManaged(&p, 1 << 22));
    SEEN(cudaMemAdvise(p, 1 << 22, cudaMemAdviseSetReadMostly, here));
    SEEN(cudaMemPrefetchAsync(p, 1 << 22, here, 0, 0));
    fill<<<blocks_for(1 << 20), 256>>>(p, 8, 1 << 20);
    printf("managed: %08x\n", digest(p, 1 << 20));
    SEEN(cudaFree(p));
    CHECK(cudaMalloc(&p, 1 << 22));
    SEEN(cudaMemPrefetchAsync(p, 1 << 22, here, 0, 0));
    SEEN(cudaFree(p));
}

__global__ static void use_heap(unsigned *ret)
{
    unsigned *p = (unsigned *)malloc(1000 * sizeof(unsigned));

    ret[threadIdx.x] = p != NULL;
    if (p)
        p[threadIdx.x] = 1;
    free(p);
}

/* The heap of kernels is taken from what the pool may have cached. */
static void heap()
{
    unsigned *p;

    CHECK(cudaMalloc(&p, 64 << 20));
    CHECK(cudaFree(p));
    SEEN(cudaDeviceSetLimit(cudaLimitMallocHeapSize, 32 << 20));
    CHECK(cudaMalloc(&p, 64 * sizeof(unsigned)));
    use_heap<<<1, 64>>>(p);
    printf("the heap of kernels: %08x\n", digest(p, 64));
    CHECK(cudaFree(p));
}

static void tell(const char *what, const void *p)
{
    cudaPointerAttributes told;
    cudaError_t result = cudaPointerGetAttributes(&told, p);

    printf("%s: %s type %d device %d host %d\n", what, cudaGetErrorName(result), (int)told.type,
           told.type == cudaMemoryTypeUnregistered ? 0 : told.device, told.hostPointer != NULL);
}

static void wrong_calls()
{
    size_t free_size, total;
    char *p = NULL;
    void *host;

    CHECK(cudaMemGetInfo(&free_size, &total));
    SEEN(cudaFree(0));
    SEEN(cudaMalloc(&p, 0));
    SEEN(cudaMalloc(&p, total * 2));
    SEEN(cudaMalloc(&p, ~(size_t)0));
    SEEN(cudaMallocAsync(&p, total * 2, 0));
    CHECK(cudaMalloc(&p, 10000));
    tell("device", p);
    SEEN(cudaFree(p + 512));
    SEEN(cudaFree(p));
    SEEN(cudaFree(p));
    SEEN(cudaFreeAsync(p, 0));
    tell("freed", p);
    tell("none", &free_size);
    CHECK(cudaMallocHost(&host, 10000));
    tell("host", host);
    SEEN(cudaFree(host));
    SEEN(cudaFreeHost(host));
}

int main()
{
    textures();
    managed();
    heap();
    wrong_calls();
    SEEN(cudaDeviceReset());
    wrong_calls();
    return 0;
}
