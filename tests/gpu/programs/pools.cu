/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory in the order of streams, by threads whose default streams are their own, from the default
 * pool and from one of the program's own.
 */
#include "program.h"

#include <thread>

static const size_t SIZES[] = {100, 5000, 70000, 900000, 3000000};

/* Each stream hands its result to the next by an event, and frees it there. */
static void across_streams()
{
    cudaStream_t streams[3];
    cudaEvent_t event;
    unsigned sum = 0;

    CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    for (cudaStream_t &stream : streams)
        CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (int i = 0; i < 60; i++) {
        cudaStream_t from = streams[i % 3], to = streams[(i + 1) % 3];
        size_t n = SIZES[i % 5];
        unsigned *a, *b;

        CHECK(cudaMallocAsync(&a, n * sizeof(unsigned), from));
        fill<<<blocks_for(n), 256, 0, from>>>(a, i, n);
        CHECK(cudaEventRecord(event, from));
        CHECK(cudaStreamWaitEvent(to, event, 0));
        CHECK(cudaMallocAsync(&b, n * sizeof(unsigned), to));
        mix<<<blocks_for(n), 256, 0, to>>>(b, a, n);
        CHECK(cudaFreeAsync(a, to));
        sum = sum * 31 + digest(b, n);
        CHECK(cudaFreeAsync(b, to));
    }
    printf("across streams: %08x\n", sum);
    for (cudaStream_t stream : streams)
        CHECK(cudaStreamDestroy(stream));
}

static void work_in_own_stream(unsigned seed, unsigned *ret)
{
    for (unsigned i = 0; i < 40; i++) {
        size_t n = SIZES[(i + seed) % 5];
        std::vector<unsigned> host(n);
        unsigned *a, *b;

        CHECK(cudaMallocAsync(&a, n * sizeof(unsigned), cudaStreamPerThread));
        CHECK(cudaMalloc(&b, n * sizeof(unsigned)));
        fill<<<blocks_for(n), 256, 0, cudaStreamPerThread>>>(a, seed + i, n);
        mix<<<blocks_for(n), 256, 0, cudaStreamPerThread>>>(b, a, n);
        CHECK(cudaMemcpyAsync(host.data(), b, n * sizeof(unsigned), cudaMemcpyDeviceToHost,
                              cudaStreamPerThread));
        CHECK(cudaFreeAsync(a, cudaStreamPerThread));
        CHECK(cudaStreamSynchronize(cudaStreamPerThread));
        for (unsigned value : host)
            *ret = *ret * 31 + value;
        CHECK(i % 2 ? cudaFree(b) : cudaFreeAsync(b, cudaStreamPerThread));
    }
}

static void by_threads()
{
    unsigned sums[4] = {0};
    std::vector<std::thread> threads;

    for (unsigned i = 0; i < 4; i++)
        threads.emplace_back(work_in_own_stream, i, &sums[i]);
    for (std::thread &thread : threads)
        thread.join();
    for (unsigned sum : sums)
        printf("a thread: %08x\n", sum);
}

static void own_pool()
{
    cudaMemPoolProps properties = {};
    unsigned long long keep = ~0ull, used = 0;
    cudaMemPool_t pool, standard;
    unsigned *p;

    properties.allocType = cudaMemAllocationTypePinned;
    properties.location.type = cudaMemLocationTypeDevice;
    CHECK(cudaMemPoolCreate(&pool, &properties));
    CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep));
    for (int i = 0; i < 20; i++) {
        CHECK(cudaMallocFromPoolAsync(&p, 1 << 20, pool, 0));
        fill<<<blocks_for(1000), 256>>>(p, i, 1000);
        printf("own pool: %08x\n", digest(p, 1000));
        CHECK(cudaFreeAsync(p, 0));
    }
    CHECK(cudaDeviceSynchronize());
    SEEN(cudaMemPoolTrimTo(pool, 0));
    CHECK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &used));
    printf("reserved after the trim: %llu\n", used);
    CHECK(cudaMallocFromPoolAsync(&p, 1 << 20, pool, 0));
    CHECK(cudaDeviceSynchronize());
    SEEN(cudaMemPoolDestroy(pool));
    SEEN(cudaFree(p));
    CHECK(cudaDeviceGetDefaultMemPool(&standard, 0));
    SEEN(cudaMemPoolTrimTo(standard, 0));
    CHECK(cudaMemPoolGetAttribute(standard, cudaMemPoolAttrUsedMemCurrent, &used));
    printf("the default pool's use at the end: %llu\n", used);
}

int main()
{
    across_streams();
    by_threads();
    own_pool();
    return 0;
}
