/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workload: threads allocate blocks of all sizes, with and without stream order, fill each with a
 * pattern of its own by work in a stream, and check all of its bytes by work in a stream before
 * they free it, on purpose without waiting for either; streams come, go and come again at the same
 * handle, and captures open and close meanwhile. Blocks pass from thread to thread and from stream
 * to stream, in the order that an event of each block keeps. Goal: no block is used again before
 * the work of its last user is done: then a check would find another pattern. Seeded; prints the
 * seed.
 *
 * Usage: device_order SEED STEPS THREADS. Nothing here depends on the simulated driver.
 */
#include "device_order.h"
#include "cuda_api.h"
#include "device_content.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SLOTS 96
#define STREAMS 6 /* two of them are default streams, the others are made anew now and then */
#define SIZE_MAX_SHIFT 18
#define SIZE_MOST ((size_t)3 << 20)
#define TOUCHES 12    /* in a capture */
#define HEAVY_FILLS 8 /* fills before the last one, so that streams fall behind */
#define ROUNDS 6      /* of pairs and of captures, before the threads begin */
#define QUIET_PAIRS 400
#define PAIR_BLOCKS 32
#define SMALL_PAIRS 40
#define BALLAST ((size_t)256 << 10)
#define BALLAST_FILLS 72
#define MANY 320 /* more than wait for one event of the driver */
#define MANY_SIZE 512
#define CAP_BLOCKS 48
#define CAP_SIZE ((size_t)64 << 10)
#define GATE_MS 50
#define THREAD_ROUNDS 3 /* by all threads at once, with blocks of one size */
#define THREAD_SIZE ((size_t)1 << 15)

struct slot {
    pthread_mutex_t lock;
    CUdeviceptr address; /* 0: empty */
    size_t size;
    unsigned char fill;
    bool is_ordered; /* by cuMemAllocAsync */
    CUevent done;    /* behind the last work that uses it */
};

static struct slot slots[SLOTS];
static CUcontext context;
static CUdeviceptr ballast; /* a piece for each stream of each thread, which nobody looks at */
static unsigned threads_count;
static unsigned char *many_copy;
static atomic_bool is_gate_open;
static uint64_t steps;
static atomic_uint threads_begun;
static atomic_ullong refused;

struct thread {
    uint64_t seed;
    unsigned number;
    CUstream stream[STREAMS];
};

static uint64_t draw(struct thread *thread, uint64_t below)
{
    return content_draw(&thread->seed, below);
}

static CUstream pick(struct thread *thread)
{
    return thread->stream[draw(thread, STREAMS)];
}

static void submit_check(const struct slot *slot, CUstream stream)
{
    content_check(slot->address, slot->size, slot->fill, stream);
}

static void fill(struct thread *thread, struct slot *slot, CUstream stream)
{
    unsigned before = draw(thread, 4) == 0 ? HEAVY_FILLS : 0;

    slot->fill = (unsigned char)draw(thread, 256);
    for (unsigned i = 0; i < before; i++)
        CALL(cuMemsetD8Async(slot->address, (unsigned char)i, slot->size, stream));
    CALL(cuMemsetD8Async(slot->address, slot->fill, slot->size, stream));
    CALL(cuEventRecord(slot->done, stream));
}

static void allocate(struct thread *thread, struct slot *slot)
{
    size_t size = (size_t)draw(thread, (uint64_t)512 << draw(thread, SIZE_MAX_SHIFT - 8)) + 1;
    CUstream stream = pick(thread);
    CUresult result;

    if (draw(thread, 64) == 0)
        size = SIZE_MOST - draw(thread, 4096);
    slot->size = size;
    slot->is_ordered = draw(thread, 2) == 0;
    result = slot->is_ordered ? cuMemAllocAsync(&slot->address, size, stream)
                              : cuMemAlloc_v2(&slot->address, size);
    if (result != CUDA_SUCCESS) {
        slot->address = 0;
        atomic_fetch_add(&refused, 1);
        if (result != CUDA_ERROR_OUT_OF_MEMORY)
            CALL(result);
        return;
    }
    fill(thread, slot, stream);
}

/* The block goes on in another stream, behind what was done with it. */
static void use(struct thread *thread, struct slot *slot)
{
    CUstream stream = pick(thread);

    CALL(cuStreamWaitEvent(stream, slot->done, 0));
    submit_check(slot, stream);
    fill(thread, slot, stream);
}

static void release(struct thread *thread, struct slot *slot)
{
    CUstream stream = pick(thread);
    bool in_order = draw(thread, 4) > 0 ? slot->is_ordered : !slot->is_ordered;

    CALL(cuStreamWaitEvent(stream, slot->done, 0));
    submit_check(slot, stream);
    if (in_order) {
        CALL(cuMemFreeAsync(slot->address, stream));
    } else {
        /* cuMemFree does not wait for the work on stream-ordered memory: the program does. */
        if (slot->is_ordered)
            CALL(cuStreamSynchronize(stream));
        CALL(cuMemFree_v2(slot->address));
    }
    slot->address = 0;
}

static void renew_stream(struct thread *thread)
{
    CUstream *stream = &thread->stream[2 + draw(thread, STREAMS - 2)];

    CALL(cuStreamDestroy_v2(*stream));
    CALL(cuStreamCreate(stream, draw(thread, 2) ? CU_STREAM_NON_BLOCKING : 0));
}

static void touch(struct thread *thread)
{
    struct slot *slot = &slots[draw(thread, SLOTS)];

    pthread_mutex_lock(&slot->lock);
    if (!slot->address)
        allocate(thread, slot);
    else if (draw(thread, 4) == 0)
        use(thread, slot);
    else
        release(thread, slot);
    pthread_mutex_unlock(&slot->lock);
}

/*
 * A capture forbids no call of any thread, because it is relaxed; nothing is in it. What is freed
 * meanwhile may not be asked for.
 */
static void capture(struct thread *thread)
{
    CUgraph graph = NULL;
    CUstream stream;

    CALL(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CALL(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    for (unsigned i = 0; i < TOUCHES; i++)
        touch(thread);
    CALL(cuStreamEndCapture(stream, &graph));
    CALL(cuGraphDestroy(graph));
    CALL(cuStreamDestroy_v2(stream));
}

static void step(struct thread *thread)
{
    if (draw(thread, 40) == 0)
        renew_stream(thread);
    if (draw(thread, 256) == 0)
        capture(thread);
    touch(thread);
}

/* Beside captures, which hold back what is freed, memory may be out: then 0. */
static CUdeviceptr alloc(size_t size)
{
    CUdeviceptr address = 0;
    CUresult result = cuMemAlloc_v2(&address, size);

    if (result == CUDA_ERROR_OUT_OF_MEMORY) {
        atomic_fetch_add(&refused, 1);
        return 0;
    }
    CALL(result);
    return address;
}

/* Work for the stream, of which only the time counts. */
static void hold_up(struct thread *thread, unsigned at)
{
    CUdeviceptr piece = ballast + (thread->number * STREAMS + at) * BALLAST;

    for (unsigned i = 0; i < BALLAST_FILLS; i++)
        CALL(cuMemsetD8Async(piece, (unsigned char)i, BALLAST, thread->stream[at]));
}

/* Runs in the stream, until it is told to end; not for ever, for who frees may wait for it. */
static void wait_at_gate(void *argument)
{
    struct timespec begin, now;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (!atomic_load(&is_gate_open) &&
             (now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 <
                 GATE_MS);
}

static void shut_gate(CUstream stream)
{
    atomic_store(&is_gate_open, false);
    CALL(cuLaunchHostFunc(stream, wait_at_gate, NULL));
}

/*
 * A block of `size` bytes that the thread's stream `at` fills, looks at only after a while, and
 * that is still to be freed.
 */
static bool allocate_pair(struct thread *thread, struct slot *slot, size_t size, unsigned at)
{
    CUstream stream = thread->stream[at];

    slot->size = size;
    slot->address = alloc(size);
    if (!slot->address)
        return false;
    slot->fill = (unsigned char)draw(thread, 256);
    CALL(cuMemsetD8Async(slot->address, slot->fill, size, stream));
    hold_up(thread, at);
    submit_check(slot, stream);
    return true;
}

/* Of which no work knows. */
static void quiet_pairs(unsigned count, size_t size)
{
    for (unsigned i = 0; i < count; i++) {
        CUdeviceptr address = alloc(size);

        if (address)
            CALL(cuMemFree_v2(address));
    }
}

/*
 * The same few blocks again and again. While the device has nothing to do, whoever serves them may
 * learn that they are idle as soon as they are freed; then it has, and each stream finds what it
 * wrote although the next block is another stream's, which has nothing to do yet. Small blocks in
 * between make many frees of few.
 */
static void pairs_round(struct thread *thread, size_t size)
{
    struct slot slot = {.size = size};

    quiet_pairs(QUIET_PAIRS, size);
    for (unsigned i = 0; i < PAIR_BLOCKS; i++) {
        if (allocate_pair(thread, &slot, size, 2 + i % (STREAMS - 2)))
            CALL(cuMemFree_v2(slot.address));
        quiet_pairs(SMALL_PAIRS, 1);
    }
}

/* As many blocks as there may be free, all written to by a stream that is behind nothing. */
static void use_up(size_t size, unsigned count, unsigned char fill, CUstream stream)
{
    static __thread CUdeviceptr block[2 * MANY];

    for (unsigned i = 0; i < count; i++) {
        block[i] = alloc(size);
        if (block[i])
            CALL(cuMemsetD8Async(block[i], (unsigned char)(fill + 1 + i % 255), size, stream));
    }
    for (unsigned i = 0; i < count; i++)
        if (block[i])
            CALL(cuMemFree_v2(block[i]));
}

/*
 * What was freed while a capture was open, and work still uses, is not used when it has ended: not
 * by a stream that is not behind, and not by as many blocks as use up whatever else is free.
 */
static void capture_round(struct thread *thread, size_t size)
{
    struct slot slot[STREAMS - 2];
    CUgraph graph = NULL;
    CUstream stream;

    CALL(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    for (unsigned i = 0; i + 2 < STREAMS; i++)
        allocate_pair(thread, &slot[i], size, 2 + i);
    CALL(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    for (unsigned i = 0; i + 2 < STREAMS; i++)
        if (slot[i].address)
            CALL(cuMemFree_v2(slot[i].address));
    CALL(cuStreamEndCapture(stream, &graph));
    CALL(cuGraphDestroy(graph));
    use_up(size, PAIR_BLOCKS, slot[0].fill, stream);
    CALL(cuStreamDestroy_v2(stream));
}

/*
 * A stream is destroyed while its work goes on, with or without a capture beside it; the driver may
 * know nothing of it any more when the block is freed.
 */
static void departed_round(struct thread *thread, size_t size, bool is_captured)
{
    CUstream gone, later = thread->stream[3], captured = thread->stream[4];
    CUgraph graph = NULL;
    struct slot slot = {0};

    quiet_pairs(QUIET_PAIRS, size);
    CALL(cuStreamCreate(&gone, CU_STREAM_NON_BLOCKING));
    slot.size = size;
    slot.fill = (unsigned char)draw(thread, 256);
    CALL(cuMemAlloc_v2(&slot.address, size));
    CALL(cuMemsetD8Async(slot.address, slot.fill, size, gone));
    shut_gate(gone);
    submit_check(&slot, gone);
    if (is_captured)
        CALL(cuStreamBeginCapture_v2(captured, CU_STREAM_CAPTURE_MODE_RELAXED));
    CALL(cuStreamDestroy_v2(gone));
    if (is_captured) {
        CALL(cuStreamEndCapture(captured, &graph));
        CALL(cuGraphDestroy(graph));
    }
    CALL(cuMemFree_v2(slot.address));
    use_up(size, 2 * MANY, slot.fill, later);
    atomic_store(&is_gate_open, true);
    CALL(cuCtxSynchronize());
}

static void look_at_many(void *argument)
{
    const unsigned char *fill = argument;

    for (size_t i = 0; i < (size_t)MANY * MANY_SIZE; i++)
        if (many_copy[i] != *fill)
            atomic_fetch_add(&content_wrong, 1);
    atomic_fetch_add(&content_checked, MANY);
}

/*
 * Blocks that no work uses are freed behind other work, which ends; then many are freed that work
 * uses. No one of these is served with the first ones.
 */
static void batches_round(struct thread *thread)
{
    static CUdeviceptr idle[MANY], used[MANY];
    unsigned char fill = (unsigned char)draw(thread, 256);

    for (unsigned i = 0; i < MANY; i++) {
        CALL(cuMemAlloc_v2(&idle[i], MANY_SIZE));
        CALL(cuMemAlloc_v2(&used[i], MANY_SIZE));
    }
    hold_up(thread, 2);
    for (unsigned i = 0; i < MANY; i++)
        CALL(cuMemFree_v2(idle[i]));
    CALL(cuStreamSynchronize(thread->stream[2]));
    for (unsigned i = 0; i < MANY; i++)
        CALL(cuMemsetD8Async(used[i], fill, MANY_SIZE, thread->stream[3]));
    shut_gate(thread->stream[3]);
    for (unsigned i = 0; i < MANY; i++)
        CALL(cuMemcpyDtoHAsync_v2(many_copy + (size_t)i * MANY_SIZE, used[i], MANY_SIZE,
                                  thread->stream[3]));
    CALL(cuLaunchHostFunc(thread->stream[3], look_at_many, &fill));
    for (unsigned i = 0; i < MANY; i++)
        CALL(cuMemFree_v2(used[i]));
    use_up(MANY_SIZE, 2 * MANY, fill, thread->stream[4]);
    atomic_store(&is_gate_open, true);
    CALL(cuCtxSynchronize());
}

/* What waits is never more than whoever serves us was told. */
static void cap_round(struct thread *thread)
{
    CUdeviceptr block[CAP_BLOCKS];

    for (unsigned i = 0; i < CAP_BLOCKS; i++)
        CALL(cuMemAlloc_v2(&block[i], CAP_SIZE));
    for (unsigned i = 0; i < CAP_BLOCKS; i++) {
        if (i % 8 == 0)
            hold_up(thread, 2);
        CALL(cuMemFree_v2(block[i]));
        if (device_order_checkpoint)
            device_order_checkpoint();
    }
    CALL(cuCtxSynchronize());
}

/* Frees that synchronise, frees in captures and events of one thread beside those of others. */
static void thread_rounds(struct thread *thread)
{
    for (unsigned i = 0; i < THREAD_ROUNDS; i++) {
        if (draw(thread, 2))
            pairs_round(thread, THREAD_SIZE);
        else
            capture_round(thread, THREAD_SIZE);
    }
}

static void *run(void *argument)
{
    struct thread thread = {.seed = (uint64_t)(uintptr_t)argument,
                            .number = atomic_fetch_add(&threads_begun, 1)};

    CALL(cuCtxSetCurrent(context));
    thread.stream[0] = CU_STREAM_LEGACY;
    thread.stream[1] = CU_STREAM_PER_THREAD;
    for (unsigned i = 2; i < STREAMS; i++)
        CALL(cuStreamCreate(&thread.stream[i], i % 2 ? CU_STREAM_NON_BLOCKING : 0));
    thread_rounds(&thread);
    for (uint64_t i = 0; i < steps; i++)
        step(&thread);
    for (unsigned i = 2; i < STREAMS; i++)
        CALL(cuStreamDestroy_v2(thread.stream[i]));
    return NULL;
}

static void rounds(void)
{
    struct thread thread = {.seed = content_seed * 1000003 + 2};

    for (unsigned i = 2; i < STREAMS; i++)
        CALL(cuStreamCreate(&thread.stream[i], CU_STREAM_NON_BLOCKING));
    for (unsigned i = 0; i < ROUNDS; i++) {
        CALL(cuCtxSynchronize());
        pairs_round(&thread, (size_t)1 << (12 + draw(&thread, 7)));
        CALL(cuCtxSynchronize());
        capture_round(&thread, (size_t)1 << (12 + draw(&thread, 7)));
        CALL(cuCtxSynchronize());
        departed_round(&thread, (size_t)1 << (9 + draw(&thread, 6)), i % 2);
        batches_round(&thread);
        cap_round(&thread);
    }
    CALL(cuCtxSynchronize());
    for (unsigned i = 2; i < STREAMS; i++)
        CALL(cuStreamDestroy_v2(thread.stream[i]));
}

static void begin(void)
{
    CALL(cuInit(0));
    CALL(cuDevicePrimaryCtxRetain(&context, 0));
    CALL(cuCtxSetCurrent(context));
    for (unsigned i = 0; i < SLOTS; i++) {
        pthread_mutex_init(&slots[i].lock, NULL);
        CALL(cuEventCreate(&slots[i].done, CU_EVENT_DISABLE_TIMING));
    }
    content_begin(SIZE_MOST);
    CALL(cuMemAllocHost_v2((void **)&many_copy, (size_t)MANY * MANY_SIZE));
    CALL(cuMemAlloc_v2(&ballast, threads_count * STREAMS * BALLAST));
}

static void end(void)
{
    struct thread thread = {.seed = 1, .stream = {CU_STREAM_LEGACY}};

    for (unsigned i = 0; i < STREAMS; i++)
        thread.stream[i] = CU_STREAM_LEGACY;
    for (unsigned i = 0; i < SLOTS; i++)
        if (slots[i].address)
            release(&thread, &slots[i]);
    CALL(cuCtxSynchronize());
    for (unsigned i = 0; i < SLOTS; i++)
        CALL(cuEventDestroy_v2(slots[i].done));
    content_end();
    CALL(cuMemFreeHost(many_copy));
    CALL(cuMemFree_v2(ballast));
}

int main(int argc, char **argv)
{
    unsigned count = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 4;
    pthread_t *threads = calloc(count + 1, sizeof(*threads));

    content_seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    steps = argc > 2 ? strtoull(argv[2], NULL, 10) : 2000;
    if (!threads)
        return 1;
    threads_count = count + 1;
    begin();
    rounds();
    for (unsigned i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, run,
                       (void *)(uintptr_t)(content_seed * 1000003 + i * 7919 + 1));
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    end();
    CALL(cuDevicePrimaryCtxRelease_v2(0));
    free(threads);
    return content_report(refused);
}
