/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One measurement of what device allocation costs through the driver's exported functions, natively
 * or with libberth.so preloaded; device_pair.py runs it in turns and compares.
 *
 *     device_pair WHAT SIZE [THREADS [PAIRS]]
 *
 *     pair     cuMemAlloc + cuMemFree by each thread for itself
 *     many     the same, 32 blocks at a time, freed in the order of allocation
 *     async    cuMemAllocAsync + cuMemFreeAsync in a stream of the thread's own
 *     cross    each block is freed by another thread, which has no context
 *     driver   the calls of the driver that a pair with free = sync contains: cuCtxSynchronize
 *     forward  a call that Berth passes on: cuCtxSetCurrent of what is current
 *
 * Prints "MEDIAN P999 THROUGHPUT CPU": ns per pair in batches of 50, ns of single pairs (the
 * clock's own cost taken off), pairs per microsecond of all threads, and ns of processor time per
 * pair, which other work on the machine does not lengthen as it does the others. Figures are
 * *simulated*: nothing here says what a GPU does.
 */
#include "cuda_api.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH 50
#define MANY 32
#define RING 256

struct worker {
    pthread_t thread;
    double *batch_ns, *single_ns;
    CUstream stream;
};

static CUcontext context;
static size_t size;
static unsigned batches;
static pthread_barrier_t barrier;
static void (*work)(struct worker *worker);
static _Atomic CUdeviceptr ring[RING]; /* of `cross`: 0 is an empty place */

static void must(CUresult result)
{
    if (result != CUDA_SUCCESS) {
        fprintf(stderr, "device_pair: the driver answered %d\n", (int)result);
        exit(1);
    }
}

static int64_t ns_of(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t now_ns(void)
{
    return ns_of(CLOCK_MONOTONIC);
}

static void pair(struct worker *worker)
{
    CUdeviceptr p;

    must(cuMemAlloc_v2(&p, size));
    must(cuMemFree_v2(p));
}

static void many(struct worker *worker)
{
    static __thread CUdeviceptr p[MANY];
    static __thread unsigned at;

    if (p[at])
        must(cuMemFree_v2(p[at]));
    must(cuMemAlloc_v2(&p[at], size));
    at = (at + 1) % MANY;
}

static void async(struct worker *worker)
{
    CUdeviceptr p;

    must(cuMemAllocAsync(&p, size, worker->stream));
    must(cuMemFreeAsync(p, worker->stream));
}

static void cross(struct worker *worker)
{
    static unsigned at;
    CUdeviceptr p;

    must(cuMemAlloc_v2(&p, size));
    while (atomic_load_explicit(&ring[at], memory_order_acquire) != 0)
        sched_yield();
    atomic_store_explicit(&ring[at], p, memory_order_release);
    at = (at + 1) % RING;
}

/* The other side of `cross`: a thread without a context. 1 is the end. */
static void *free_all(void *argument)
{
    for (unsigned at = 0;; at = (at + 1) % RING) {
        CUdeviceptr p;

        while ((p = atomic_load_explicit(&ring[at], memory_order_acquire)) == 0)
            sched_yield();
        if (p == 1)
            return NULL;
        must(cuMemFree_v2(p));
        atomic_store_explicit(&ring[at], 0, memory_order_release);
    }
}

static void driver(struct worker *worker)
{
    must(cuCtxSynchronize());
}

static void forward(struct worker *worker)
{
    must(cuCtxSetCurrent(context));
}

static void *measure(void *argument)
{
    struct worker *worker = argument;

    must(cuCtxSetCurrent(context));
    must(cuStreamCreate(&worker->stream, CU_STREAM_NON_BLOCKING));
    for (unsigned i = 0; i < 20 * BATCH; i++)
        work(worker);
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < batches; i++) {
        int64_t start = now_ns();

        for (unsigned j = 0; j < BATCH; j++)
            work(worker);
        worker->batch_ns[i] = (double)(now_ns() - start) / BATCH;
    }
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < batches; i++) {
        int64_t start = now_ns(), end;

        work(worker);
        end = now_ns();
        worker->single_ns[i] = (double)(end - start) - (double)(now_ns() - end);
    }
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static double run(struct worker *workers, unsigned threads, double *ret_cpu)
{
    int64_t start, cpu;
    double seconds;

    pthread_barrier_init(&barrier, NULL, threads + 1);
    for (unsigned i = 0; i < threads; i++) {
        workers[i].batch_ns = calloc(batches, sizeof(double));
        workers[i].single_ns = calloc(batches, sizeof(double));
        pthread_create(&workers[i].thread, NULL, measure, &workers[i]);
    }
    pthread_barrier_wait(&barrier);
    start = now_ns();
    cpu = ns_of(CLOCK_PROCESS_CPUTIME_ID);
    pthread_barrier_wait(&barrier);
    seconds = (double)(now_ns() - start);
    *ret_cpu = (double)(ns_of(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(workers[i].thread, NULL);
    return seconds;
}

static const struct {
    const char *name;
    void (*work)(struct worker *worker);
} kinds[] = {{"pair", pair},   {"many", many},     {"async", async},
             {"cross", cross}, {"driver", driver}, {"forward", forward}};

static int choose(const char *name)
{
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strcmp(kinds[i].name, name) == 0)
            work = kinds[i].work;
    return work ? 0 : -1;
}

int main(int argc, char **argv)
{
    unsigned threads = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 1;
    struct worker *workers;
    pthread_t freer;
    double ns, cpu;

    if (argc < 3 || choose(argv[1]) < 0 || threads == 0 || (work == cross && threads > 1)) {
        fprintf(stderr, "usage: device_pair pair|many|async|cross|driver|forward SIZE [THREADS "
                        "[PAIRS]]\n");
        return 1;
    }
    size = strtoull(argv[2], NULL, 10);
    batches = (argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : 2000000) / BATCH;
    workers = calloc(threads, sizeof(*workers));
    must(cuInit(0));
    must(cuDevicePrimaryCtxRetain(&context, 0));
    if (work == cross)
        pthread_create(&freer, NULL, free_all, NULL);
    ns = run(workers, threads, &cpu);
    if (work == cross) {
        for (unsigned at = 0; at < RING; at++) {
            while (atomic_load(&ring[at]) != 0)
                sched_yield();
            atomic_store(&ring[at], 1);
        }
        pthread_join(freer, NULL);
    }
    qsort(workers[0].batch_ns, batches, sizeof(double), by_value);
    qsort(workers[0].single_ns, batches, sizeof(double), by_value);
    printf("%.1f %.1f %.3f %.1f\n", workers[0].batch_ns[batches / 2],
           workers[0].single_ns[batches - batches / 1000 - 1],
           (double)threads * batches * BATCH * 1000 / ns,
           cpu / ((double)threads * batches * BATCH));
    return 0;
}
