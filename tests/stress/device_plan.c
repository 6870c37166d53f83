/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workload: threads repeat the steps of a seeded schedule, which a plan may know; one call in some
 * is left out, has another size, is one more, or lives longer and is freed by another thread.
 * Blocks are filled and checked by work in streams, and freed on purpose without waiting for it.
 * Meanwhile captures are open, threads come and end, memory is given back and bounded; and between
 * rounds the context is reset, with blocks alive or not. Goal: no block is given away while another
 * one lies there, or before the work of its last user is done: then a check would find another
 * pattern. Seeded; prints the seed.
 *
 * Usage: device_plan SEED STEPS THREADS [wait | --trace]
 *
 *  wait     goes on until standard input ends, for those who do things to it from outside
 *  --trace  writes the undisturbed calls to standard output, as `berth trace plan` reads them
 *
 * With an even seed the threads make their calls in turns. Nothing here depends on the simulated
 * driver.
 */
#include "cuda_api.h"
#include "device_content.h"
#include "device_order.h"

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define ROUNDS 4
#define CALLS 24 /* in a step */
#define LIFE_MAX (CALLS + CALLS / 2)
#define LIVE (LIFE_MAX + 1)
#define TRACED_STEPS 6
#define STREAMS 3
#define STASH 32
#define SIZE_SHIFT 18 /* so large are blocks at most, but for disturbed ones */
#define SIZE_MOST ((size_t)2 << SIZE_SHIFT)
#define DISTURBED 24 /* one call in so many */
#define HEAVY_FILLS 6
#define CAPTURED_CALLS 5
#define CONTROL_CALLS 96 /* of the first thread, between two changes from inside */

struct block {
    CUdeviceptr address; /* 0: none */
    size_t size;
    unsigned char fill;
    CUstream stream; /* in which it was used last */
    uint64_t due;    /* freed before this call */
};

struct thread {
    pthread_t thread;
    unsigned number;
    uint64_t seed;
    uint64_t now; /* calls so far */
    size_t size[CALLS];
    unsigned life[CALLS];
    struct block live[LIVE];
    CUstream stream[STREAMS];
    CUstream captured; /* NULL: none */
    uint64_t capture_ends;
};

static unsigned threads_count;
static uint64_t steps;
static bool in_turns, is_waiting;
static CUcontext context;
static pthread_barrier_t round_begins, round_ends;
static pthread_mutex_t turn_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;
static unsigned turn;
/* Blocks that their threads have left to whoever comes. */
static struct block stash[STASH];
static pthread_mutex_t stash_lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_ullong allocated, refused;
static atomic_bool is_over; /* the last round */

static void make_schedule(struct thread *thread, unsigned number)
{
    uint64_t seed = content_seed * 1000003 + number * 7919 + 1;

    memset(thread, 0, sizeof(*thread));
    thread->number = number;
    for (unsigned i = 0; i < CALLS; i++) {
        size_t most = (size_t)512 << content_draw(&seed, SIZE_SHIFT - 8);

        thread->size[i] = 1 + content_draw(&seed, most);
        thread->life[i] = 1 + (unsigned)content_draw(&seed, content_draw(&seed, 3) ? 6 : LIFE_MAX);
    }
    thread->seed = seed;
}

static void fill(struct thread *thread, struct block *block)
{
    unsigned before = content_draw(&thread->seed, 5) == 0 ? HEAVY_FILLS : 0;

    block->fill = (unsigned char)content_draw(&thread->seed, 256);
    for (unsigned i = 0; i < before; i++)
        CALL(cuMemsetD8Async(block->address, (unsigned char)i, block->size, block->stream));
    CALL(cuMemsetD8Async(block->address, block->fill, block->size, block->stream));
}

static struct block *empty_place(struct thread *thread)
{
    for (unsigned i = 0; i < LIVE; i++)
        if (!thread->live[i].address)
            return &thread->live[i];
    return NULL;
}

static void allocate(struct thread *thread, size_t size, unsigned life)
{
    struct block *block = empty_place(thread);
    CUresult result;

    if (!block)
        return;
    result = cuMemAlloc_v2(&block->address, size);
    if (result != CUDA_SUCCESS) {
        block->address = 0;
        atomic_fetch_add(&refused, 1);
        if (result != CUDA_ERROR_OUT_OF_MEMORY)
            CALL(result);
        return;
    }
    atomic_fetch_add(&allocated, 1);
    block->size = size;
    block->due = thread->now + life;
    block->stream = thread->stream[content_draw(&thread->seed, STREAMS)];
    fill(thread, block);
}

/* The work that uses the block goes on: cuMemFree waits for it, or somebody else has to. */
static void release(struct thread *thread, struct block *block)
{
    content_check(block->address, block->size, block->fill, block->stream);
    if (content_draw(&thread->seed, 5) == 0)
        CALL(cuMemFreeAsync(block->address, block->stream));
    else
        CALL(cuMemFree_v2(block->address));
    block->address = 0;
}

/* Leaves the block to another thread; frees what lay in its place. */
static void leave(struct thread *thread, struct block *block)
{
    struct block *place = &stash[content_draw(&thread->seed, STASH)], old;

    pthread_mutex_lock(&stash_lock);
    old = *place;
    *place = *block;
    pthread_mutex_unlock(&stash_lock);
    block->address = 0;
    if (old.address)
        release(thread, &old);
}

static void free_due(struct thread *thread, bool is_all)
{
    for (unsigned i = 0; i < LIVE; i++) {
        struct block *block = &thread->live[i];

        if (!block->address || (!is_all && block->due > thread->now))
            continue;
        if (content_draw(&thread->seed, 2 * DISTURBED) == 0)
            leave(thread, block);
        else
            release(thread, block);
    }
}

/* A thread with calls of its own, which ends; its blocks are freed by others. */
static void *visit(void *argument)
{
    struct thread *host = argument, visitor;

    make_schedule(&visitor, host->number + threads_count);
    visitor.seed = host->seed;
    CALL(cuCtxSetCurrent(context));
    memcpy(visitor.stream, host->stream, sizeof(visitor.stream));
    for (unsigned i = 0; i < CALLS; i++) {
        allocate(&visitor, visitor.size[i], visitor.life[i]);
        visitor.now++;
        free_due(&visitor, false);
    }
    for (unsigned i = 0; i < LIVE; i++)
        if (visitor.live[i].address)
            leave(&visitor, &visitor.live[i]);
    return NULL;
}

static void disturb(struct thread *thread, size_t size, unsigned life)
{
    pthread_t visitor;

    switch (content_draw(&thread->seed, 6)) {
    case 0: /* is left out */
        break;
    case 1:
        allocate(thread, size + size / 2 + 512, life);
        break;
    case 2:
        allocate(thread, size, LIFE_MAX);
        break;
    case 3:
        allocate(thread, size, life);
        allocate(thread, size / 2 + 1, life);
        break;
    case 4:
        allocate(thread, size, life);
        allocate(thread, size, life);
        break;
    default:
        allocate(thread, size, life);
        if (content_draw(&thread->seed, 4) > 0)
            break;
        CALL(pthread_create(&visitor, NULL, visit, thread) == 0 ? CUDA_SUCCESS
                                                                : CUDA_ERROR_OUT_OF_MEMORY);
        pthread_join(visitor, NULL);
    }
}

/* Relaxed captures forbid no call of any thread; nothing is in them. */
static void step_capture(struct thread *thread)
{
    CUgraph graph = NULL;

    if (!thread->captured && content_draw(&thread->seed, 8 * CALLS) == 0) {
        CALL(cuStreamCreate(&thread->captured, CU_STREAM_NON_BLOCKING));
        CALL(cuStreamBeginCapture_v2(thread->captured, CU_STREAM_CAPTURE_MODE_RELAXED));
        thread->capture_ends = thread->now + CAPTURED_CALLS;
    } else if (thread->captured && thread->now >= thread->capture_ends) {
        CALL(cuStreamEndCapture(thread->captured, &graph));
        CALL(cuGraphDestroy(graph));
        CALL(cuStreamDestroy_v2(thread->captured));
        thread->captured = NULL;
    }
}

/* From inside, where somebody listens; else from outside. */
static void control(const struct thread *thread)
{
    if (thread->number != 0 || thread->now % CONTROL_CALLS != 0)
        return;
    if (device_plan_trim && thread->now / CONTROL_CALLS % 2 == 0)
        device_plan_trim();
    if (device_plan_limit)
        device_plan_limit(thread->now / CONTROL_CALLS % 4 == 1);
}

/* The first calls give the threads their numbers in the plan. */
static bool is_in_turn(const struct thread *thread)
{
    return in_turns || thread->now == 0;
}

static void await_turn(const struct thread *thread)
{
    pthread_mutex_lock(&turn_lock);
    while (turn != thread->number)
        pthread_cond_wait(&turn_changed, &turn_lock);
    pthread_mutex_unlock(&turn_lock);
}

static void pass_turn(void)
{
    pthread_mutex_lock(&turn_lock);
    turn = (turn + 1) % threads_count;
    pthread_cond_broadcast(&turn_changed);
    pthread_mutex_unlock(&turn_lock);
}

static void call(struct thread *thread, bool is_disturbed)
{
    unsigned at = thread->now % CALLS;
    bool is_turn = is_in_turn(thread);

    if (is_turn)
        await_turn(thread);
    free_due(thread, false);
    if (is_disturbed && content_draw(&thread->seed, DISTURBED) == 0)
        disturb(thread, thread->size[at], thread->life[at]);
    else
        allocate(thread, thread->size[at], thread->life[at]);
    thread->now++;
    if (is_disturbed) {
        step_capture(thread);
        control(thread);
    }
    if (is_turn)
        pass_turn();
}

/* The first steps are undisturbed, so that the plan is met. */
static void run_round(struct thread *thread, unsigned round)
{
    for (unsigned i = 0; i < STREAMS; i++)
        CALL(cuStreamCreate(&thread->stream[i], i % 2 ? CU_STREAM_NON_BLOCKING : 0));
    thread->now = 0;
    for (uint64_t i = 0; i < TRACED_STEPS * CALLS; i++)
        call(thread, false);
    for (uint64_t i = 0; i < steps * CALLS; i++)
        call(thread, true);
    while (thread->captured) {
        thread->now++;
        step_capture(thread);
    }
    if (round % 2 == 0)
        free_due(thread, true);
}

static void *run(void *argument)
{
    struct thread *thread = argument;

    for (unsigned round = 0; !is_over; round++) {
        pthread_barrier_wait(&round_begins);
        CALL(cuCtxSetCurrent(context));
        memset(thread->live, 0, sizeof(thread->live));
        run_round(thread, round);
        pthread_barrier_wait(&round_ends);
    }
    return NULL;
}

/* Nobody who may do things from outside is left, or none is there. */
static bool input_has_ended(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    char byte;

    return !is_waiting || (poll(&input, 1, 0) > 0 && read(STDIN_FILENO, &byte, 1) == 0);
}

/* The blocks of odd rounds end with their context. */
static void end_round(unsigned round)
{
    struct thread thread = {.seed = 1};

    for (unsigned i = 0; i < STASH; i++) {
        if (stash[i].address && round % 2 == 0)
            release(&thread, &stash[i]);
        stash[i].address = 0;
    }
    CALL(cuCtxSynchronize());
    if (!is_over || round % 2 > 0) {
        CALL(cuDevicePrimaryCtxReset_v2(0));
        CALL(cuDevicePrimaryCtxRelease_v2(0));
        CALL(cuDevicePrimaryCtxRetain(&context, 0));
        CALL(cuCtxSetCurrent(context));
    } else {
        content_end();
    }
}

static void trace_call(struct thread *thread, uint64_t *time)
{
    unsigned at = thread->now % CALLS;
    struct block *block;

    for (unsigned i = 0; i < LIVE; i++) {
        block = &thread->live[i];
        if (!block->address || block->due > thread->now)
            continue;
        printf("%u,%f,free,%#llx,%zu,0\n", thread->number, (double)++*time / 1e6,
               (unsigned long long)block->address, block->size);
        block->address = 0;
    }
    block = empty_place(thread);
    *block = (struct block){
        .address = ++*time << 20, .size = thread->size[at], .due = thread->now + thread->life[at]};
    printf("%u,%f,allocate,%#llx,%zu,0\n", thread->number, (double)*time / 1e6,
           (unsigned long long)block->address, block->size);
    thread->now++;
}

static int write_trace(struct thread *threads)
{
    uint64_t time = 0;

    printf("Thread,Time,Action,Pointer,Size,Stream\n");
    for (unsigned i = 0; i < TRACED_STEPS * CALLS; i++)
        for (unsigned k = 0; k < threads_count; k++)
            trace_call(&threads[k], &time);
    return fflush(stdout) == 0 ? 0 : 1;
}

static void run_rounds(struct thread *threads)
{
    CALL(cuInit(0));
    CALL(cuDevicePrimaryCtxRetain(&context, 0));
    CALL(cuCtxSetCurrent(context));
    pthread_barrier_init(&round_begins, NULL, threads_count + 1);
    pthread_barrier_init(&round_ends, NULL, threads_count + 1);
    for (unsigned i = 0; i < threads_count; i++)
        pthread_create(&threads[i].thread, NULL, run, &threads[i]);
    for (unsigned round = 0; !is_over; round++) {
        content_begin(SIZE_MOST);
        pthread_barrier_wait(&round_begins);
        if (round + 1 >= ROUNDS && input_has_ended())
            is_over = true;
        pthread_barrier_wait(&round_ends);
        end_round(round);
    }
    for (unsigned i = 0; i < threads_count; i++)
        pthread_join(threads[i].thread, NULL);
    CALL(cuDevicePrimaryCtxRelease_v2(0));
}

int main(int argc, char **argv)
{
    struct thread *threads;
    int r;

    if (argc < 4)
        return 2;
    content_seed = strtoull(argv[1], NULL, 10);
    steps = strtoull(argv[2], NULL, 10);
    threads_count = (unsigned)strtoul(argv[3], NULL, 10);
    in_turns = content_seed % 2 == 0;
    is_waiting = argc > 4 && strcmp(argv[4], "wait") == 0;
    threads = calloc(threads_count, sizeof(*threads));
    if (!threads)
        return 1;
    for (unsigned i = 0; i < threads_count; i++)
        make_schedule(&threads[i], i);
    if (argc > 4 && strcmp(argv[4], "--trace") == 0) {
        r = write_trace(threads);
        free(threads);
        return r;
    }
    run_rounds(threads);
    free(threads);
    printf("%llu blocks were given\n", (unsigned long long)allocated);
    return content_report(refused);
}
