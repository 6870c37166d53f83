/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that allocate, write, check and free in their own streams at the
 * same time, by every allocation family, with a device that runs out of memory
 * now and then. Each block carries a pattern that only its owner wrote: a block
 * handed out twice, or freed too early, shows as a wrong byte.
 *
 * usage: test_fake_stress [SEED [ROUNDS]] */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADS 4
#define BLOCKS 12

enum family { PLAIN, MANAGED, ORDERED, FAMILIES };

struct block {
    CUdeviceptr pointer;
    size_t size;
    enum family family;
    unsigned char pattern;
};

struct worker {
    pthread_t thread;
    unsigned seed;
    unsigned rounds;
    unsigned failures; /* wrong bytes and unexpected results */
    CUstream stream;
    struct block blocks[BLOCKS];
};

static void expect(struct worker *worker, const char *what, bool holds)
{
    if (holds)
        return;
    if (worker->failures++ < 5)
        printf("thread seed %u: %s\n", worker->seed, what);
}

static void block_fill(struct worker *worker, struct block *block)
{
    CUresult result;

    switch (block->family) {
    case PLAIN:
        result = cuMemAlloc_v2(&block->pointer, block->size);
        break;
    case MANAGED:
        result = cuMemAllocManaged(&block->pointer, block->size, CU_MEM_ATTACH_GLOBAL);
        break;
    default:
        result = cuMemAllocAsync(&block->pointer, block->size, worker->stream);
    }
    if (result != CUDA_SUCCESS) {
        expect(worker, "an allocation fails, but not for want of memory",
               result == CUDA_ERROR_OUT_OF_MEMORY);
        block->pointer = 0;
        return;
    }
    expect(worker, "memset is refused",
           !cuMemsetD8Async(block->pointer, block->pattern, block->size, worker->stream));
}

static void block_check_and_free(struct worker *worker, struct block *block)
{
    unsigned char first = 0, last = 0;
    CUresult result;

    expect(worker, "a copy is refused",
           !cuMemcpyDtoHAsync_v2(&first, block->pointer, 1, worker->stream) &&
               !cuMemcpyDtoHAsync_v2(&last, block->pointer + block->size - 1, 1, worker->stream));
    expect(worker, "a byte of a live block changed",
           first == block->pattern && last == block->pattern);
    if (block->family == ORDERED)
        result = cuMemFreeAsync(block->pointer, worker->stream);
    else
        result = cuMemFree_v2(block->pointer);
    expect(worker, "a free is refused", result == CUDA_SUCCESS);
    block->pointer = 0;
}

static void *worker_main(void *pointer)
{
    struct worker *worker = pointer;
    unsigned random = worker->seed;

    use_device(0);
    if (cuStreamCreate(&worker->stream, CU_STREAM_NON_BLOCKING))
        return NULL;
    for (unsigned round = 0; round < worker->rounds; round++) {
        struct block *block = &worker->blocks[rand_r(&random) % BLOCKS];

        if (block->pointer) {
            block_check_and_free(worker, block);
            continue;
        }
        block->family = (enum family)(rand_r(&random) % FAMILIES);
        block->size = (size_t)(rand_r(&random) % 1000 + 1) << (rand_r(&random) % 13);
        block->pattern = (unsigned char)(rand_r(&random) % 200 + 1);
        block_fill(worker, block);
    }
    for (unsigned i = 0; i < BLOCKS; i++)
        if (worker->blocks[i].pointer)
            block_check_and_free(worker, &worker->blocks[i]);
    expect(worker, "the stream cannot be waited for", !cuStreamSynchronize(worker->stream));
    cuStreamDestroy_v2(worker->stream);
    return NULL;
}

int main(int argc, char **argv)
{
    unsigned seed = argc > 1 ? (unsigned)atoi(argv[1]) : (unsigned)time(NULL);
    unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 400, failures = 0;
    static struct worker workers[THREADS];
    size_t before, after, total;

    printf("seed %u, %u rounds in each of %d threads\n", seed, rounds, THREADS);
    use_device(0);
    cuMemGetInfo_v2(&before, &total);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].seed = seed + i;
        workers[i].rounds = rounds;
        pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        failures += workers[i].failures;
    }
    cuCtxSynchronize();
    cuMemGetInfo_v2(&after, &total);
    if (after != before) {
        printf("free bytes: %zu before, %zu after\n", before, after);
        failures++;
    }
    return failures != 0;
}
