/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work that waits for what the program does after its next call: natively no allocation waits for
 * it, and no stream that has nothing to do with it. A program that ends natively ends under Berth.
 */
#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

/*
 * Nobody opens a gate so late but who was held up by it: a busy machine may take seconds, and Berth
 * itself waits for a minute at most where nothing else is left.
 */
#define PATIENCE_S 50

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
/* Synchronization: lock */
static bool is_open;
static int given_up, passed;

/* For cuLaunchHostFunc. */
static void wait_at_gate(void *user)
{
    struct timespec end;
    int r = 0;

    (void)user;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&lock);
    while (!is_open && r == 0)
        r = pthread_cond_clockwait(&changed, &lock, CLOCK_MONOTONIC, &end);
    given_up += !is_open;
    passed++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* For cuLaunchHostFunc, too. */
static void open_gate(void *user)
{
    (void)user;
    pthread_mutex_lock(&lock);
    is_open = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void hold(CUstream stream)
{
    pthread_mutex_lock(&lock);
    is_open = false;
    pthread_mutex_unlock(&lock);
    EXPECT(cuLaunchHostFunc(stream, wait_at_gate, NULL) == 0);
}

/* What was held up goes on, and was not held up too long. */
static void go_on(const char *what)
{
    open_gate(NULL);
    EXPECT(cuCtxSynchronize() == 0);
    SEEN("%s: given up %d of %d\n", what, given_up, passed);
}

static CUdeviceptr use_in_order(CUstream stream, size_t size)
{
    CUdeviceptr p = 0;

    EXPECT(cuMemAllocAsync(&p, size, stream) == 0);
    EXPECT(cuMemsetD8Async(p, 0x11, size, stream) == 0);
    return p;
}

static CUstream stream_of(unsigned flags)
{
    CUstream stream;

    EXPECT(cuStreamCreate(&stream, flags) == 0);
    return stream;
}

/* So many 64ths of the device's memory. */
static size_t share(unsigned part)
{
    size_t total = 0;

    EXPECT(cuDeviceTotalMem_v2(&total, 0) == 0);
    return total / 64 * part;
}

/* What one stream has freed behind work that is held up, another one wants; it has got memory. */
static CUdeviceptr free_and_want(CUstream *other)
{
    CUstream held = stream_of(CU_STREAM_NON_BLOCKING);
    CUdeviceptr p = use_in_order(held, MIB(20));

    *other = stream_of(CU_STREAM_NON_BLOCKING);
    hold(held);
    EXPECT(cuMemFreeAsync(p, held) == 0);
    return use_in_order(*other, MIB(20));
}

/* The driver has memory for the other stream, which waits for nobody. */
static void freed_behind_what_is_held_up(void)
{
    CUstream other;
    CUdeviceptr p;

    check_up();
    p = free_and_want(&other);
    EXPECT(cuStreamSynchronize(other) == 0);
    go_on("waited for by the program");
    EXPECT(cuMemFreeAsync(p, other) == 0);
}

/* The stream that is held up waits for the other one. */
static void freed_behind_what_waits_for_the_other(void)
{
    CUstream other;
    CUdeviceptr p;

    check_up();
    p = free_and_want(&other);
    EXPECT(cuLaunchHostFunc(other, open_gate, NULL) == 0);
    EXPECT(cuCtxSynchronize() == 0);
    go_on("opened by the other stream");
    EXPECT(cuMemFreeAsync(p, other) == 0);
}

/* A block of so many bytes that was freed in the stream, whose work is done. */
static void free_before(CUstream stream, size_t size)
{
    CUdeviceptr p = use_in_order(stream, size);

    EXPECT(cuMemFreeAsync(p, stream) == 0);
    EXPECT(cuCtxSynchronize() == 0);
}

static void use_and_wait(CUstream stream, size_t size)
{
    CUdeviceptr p = use_in_order(stream, size);

    EXPECT(cuStreamSynchronize(stream) == 0);
    EXPECT(cuMemFreeAsync(p, stream) == 0);
    EXPECT(cuStreamSynchronize(stream) == 0);
}

/* A blocking stream is held up: the legacy one's next work waits, other blocking ones do not. */
static void freed_in_the_legacy_stream(void)
{
    CUstream held, blocking;

    check_up();
    held = stream_of(CU_STREAM_DEFAULT);
    blocking = stream_of(CU_STREAM_DEFAULT);
    free_before(NULL, MIB(20));
    hold(held);
    use_and_wait(stream_of(CU_STREAM_NON_BLOCKING), MIB(20));
    use_and_wait(blocking, MIB(5));
    go_on("a blocking stream beside another");
}

/* The legacy stream is held up. A blocking one that was given nothing since has nothing to do. */
static void freed_in_a_blocking_stream(void)
{
    CUstream blocking;

    check_up();
    blocking = stream_of(CU_STREAM_DEFAULT);
    free_before(blocking, MIB(20));
    hold(NULL);
    use_and_wait(stream_of(CU_STREAM_NON_BLOCKING), MIB(20));
    EXPECT(cuStreamSynchronize(blocking) == 0);
    go_on("a blocking stream that was given nothing");
}

/* As the one before the last, and the pool has too much of other sizes. */
static void too_much_in_the_legacy_stream(void)
{
    CUstream held, blocking;
    CUdeviceptr p;

    check_up();
    held = stream_of(CU_STREAM_DEFAULT);
    blocking = stream_of(CU_STREAM_DEFAULT);
    free_before(NULL, MIB(200));
    hold(held);
    EXPECT(cuMemAllocAsync(&p, MIB(150), NULL) == 0);
    use_and_wait(blocking, MIB(5));
    go_on("a blocking stream beside another, and memory too much");
    EXPECT(cuMemFreeAsync(p, NULL) == 0);
}

/* Many sizes, one after the other, while a stream is held up: the pool would give some back. */
static void allocated_beside(size_t first, size_t count)
{
    CUstream held;
    CUdeviceptr p[64];

    check_up();
    held = stream_of(CU_STREAM_NON_BLOCKING);
    for (size_t round = 1; round <= 2; round++) {
        for (size_t i = 0; i < count; i++)
            EXPECT(cuMemAlloc_v2(&p[i], first) == 0);
        for (size_t i = 0; i < count; i++)
            EXPECT(cuMemFree_v2(p[i]) == 0);
        hold(held);
        first *= 3;
        count /= 2;
        for (size_t i = 0; i < count; i++)
            EXPECT(cuMemAlloc_v2(&p[i], first) == 0);
        go_on("allocated");
        for (size_t i = 0; i < count; i++)
            EXPECT(cuMemFree_v2(p[i]) == 0);
        count *= 2;
        if (count > 64 || first * count > MIB(600))
            count /= 2;
    }
}

static void large_blocks_beside_what_is_held_up(void)
{
    allocated_beside(MIB(6), 40);
}

static void small_blocks_beside_what_is_held_up(void)
{
    allocated_beside(KIB(700), 60);
}

static void take_time(void *user)
{
    struct timespec pause = {.tv_nsec = 300000000};

    (void)user;
    nanosleep(&pause, NULL);
}

/*
 * What is freed in the legacy stream comes behind the work of blocking ones, and what they are
 * given later behind it, whoever serves the free.
 */
static void the_legacy_stream_orders_others(void)
{
    CUstream first, second;
    CUdeviceptr p, q;
    unsigned char byte = 0;

    check_up();
    first = stream_of(CU_STREAM_DEFAULT);
    second = stream_of(CU_STREAM_DEFAULT);
    p = use_in_order(NULL, MIB(20));
    EXPECT(cuCtxSynchronize() == 0);
    EXPECT(cuLaunchHostFunc(first, take_time, NULL) == 0);
    EXPECT(cuMemsetD8Async(p, 0x22, MIB(20), first) == 0);
    EXPECT(cuMemFreeAsync(p, NULL) == 0);
    EXPECT(cuMemAllocAsync(&q, MIB(20), NULL) == 0);
    EXPECT(cuMemsetD8Async(q, 0x33, MIB(20), second) == 0);
    EXPECT(cuCtxSynchronize() == 0);
    EXPECT(cuMemcpyDtoH_v2(&byte, q + MIB(10), 1) == 0);
    SEEN("the later of two: %#x\n", byte);
    EXPECT(cuMemFreeAsync(q, NULL) == 0);
}

/* The same of memory of cuMemAlloc, large and small, which is nobody's after that. */
static void the_legacy_stream_orders_others_by_any_free(void)
{
    static const size_t sizes[] = {512, MIB(20)};
    CUstream first, second;
    CUdeviceptr p, freed;
    unsigned char byte = 0;

    check_up();
    first = stream_of(CU_STREAM_DEFAULT);
    second = stream_of(CU_STREAM_DEFAULT);
    p = check_alloc(KIB(4));
    for (unsigned i = 0; i < COUNT(sizes); i++) {
        freed = check_alloc(sizes[i]);
        EXPECT(cuLaunchHostFunc(first, take_time, NULL) == 0);
        EXPECT(cuMemsetD8Async(p, 0x22, KIB(4), first) == 0);
        EXPECT(cuMemFreeAsync(freed, NULL) == 0);
        EXPECT(cuMemsetD8Async(p, 0x33, KIB(4), second) == 0);
        EXPECT(cuCtxSynchronize() == 0);
        EXPECT(cuMemcpyDtoH_v2(&byte, p + KIB(1), 1) == 0);
        SEEN("%zu bytes: the later of two: %#x\n", sizes[i], byte);
    }
}

/* There is no other memory, and the stream that is given the block waits for nobody else. */
static void freed_beside_what_waits_for_the_other(void)
{
    CUstream held, busy, other;
    CUdeviceptr p;

    check_up();
    held = stream_of(CU_STREAM_NON_BLOCKING);
    busy = stream_of(CU_STREAM_DEFAULT);
    other = stream_of(CU_STREAM_NON_BLOCKING);
    EXPECT(cuMemAllocAsync(&p, share(48), busy) == 0);
    EXPECT(cuCtxSynchronize() == 0);
    hold(held);
    EXPECT(cuLaunchHostFunc(busy, take_time, NULL) == 0);
    EXPECT(cuMemFreeAsync(p, busy) == 0);
    EXPECT(cuMemAllocAsync(&p, share(48), other) == 0);
    EXPECT(cuLaunchHostFunc(other, open_gate, NULL) == 0);
    EXPECT(cuCtxSynchronize() == 0);
    go_on("behind one of two streams");
    EXPECT(cuMemFreeAsync(p, other) == 0);
}

/* The same, and something is cached that would go back only when all is done. */
static void freed_beside_what_is_cached(void)
{
    CUstream held, other;
    CUdeviceptr p, live, cached;

    check_up();
    held = stream_of(CU_STREAM_NON_BLOCKING);
    other = stream_of(CU_STREAM_NON_BLOCKING);
    EXPECT(cuMemAllocAsync(&p, share(25), held) == 0);
    EXPECT(cuMemAllocAsync(&live, share(25), other) == 0);
    EXPECT(cuCtxSynchronize() == 0);
    EXPECT(cuMemAlloc_v2(&cached, share(5)) == 0);
    EXPECT(cuMemFree_v2(cached) == 0);
    hold(held);
    EXPECT(cuMemFreeAsync(p, held) == 0);
    EXPECT(cuMemAllocAsync(&p, share(25), other) == 0);
    go_on("behind a stream, beside a cache");
    EXPECT(cuMemFreeAsync(p, other) == 0);
    EXPECT(cuMemFreeAsync(live, other) == 0);
}

/* Memory of cuMemAlloc that is freed in the order of a stream which is held up: nobody waits. */
static void free_in_order(CUstream held, size_t size, size_t count, bool is_waited_for)
{
    CUdeviceptr p[64];

    for (size_t i = 0; i < count; i++)
        p[i] = check_alloc(size);
    hold(held);
    if (is_waited_for)
        open_gate(NULL);
    for (size_t i = 0; i < count; i++)
        EXPECT(cuMemFreeAsync(p[i], held) == 0);
    open_gate(NULL);
    EXPECT(cuStreamSynchronize(held) == 0);
    go_on("freed in order");
}

/* The same while a capture is open that was begun since. */
static void free_beside_capture(CUstream held, size_t size)
{
    CUstream captured = stream_of(CU_STREAM_NON_BLOCKING);
    CUgraph graph = NULL;
    CUdeviceptr p[9];

    for (size_t i = 0; i < COUNT(p); i++)
        p[i] = check_alloc(size);
    EXPECT(cuStreamBeginCapture_v2(captured, CU_STREAM_CAPTURE_MODE_RELAXED) == 0);
    hold(held);
    for (size_t i = 0; i < COUNT(p); i++)
        EXPECT(cuMemFreeAsync(p[i], held) == 0);
    open_gate(NULL);
    EXPECT(cuStreamEndCapture(captured, &graph) == 0 && cuGraphDestroy(graph) == 0);
    go_on("freed in order beside a capture");
}

static void freed_in_order_at_once(void)
{
    check_up();
    free_in_order(stream_of(CU_STREAM_NON_BLOCKING), share(20), 1, false);
    free_in_order(stream_of(CU_STREAM_NON_BLOCKING), share(6), 9, false);
    free_in_order(stream_of(CU_STREAM_NON_BLOCKING), KIB(700), 60, false);
    free_in_order(NULL, share(6), 9, false);
}

/* Beside a capture, of which the stream is no part. */
static void freed_in_order_beside_a_capture(void)
{
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;

    check_up();
    EXPECT(cuThreadExchangeStreamCaptureMode(&mode) == 0);
    free_beside_capture(stream_of(CU_STREAM_NON_BLOCKING), KIB(700));
    free_beside_capture(stream_of(CU_STREAM_NON_BLOCKING), MIB(20));
}

/* The stream is of another context than the memory. */
static void freed_in_order_of_another_context(void)
{
    CUcontext other, left;
    CUstream held;

    check_up();
    EXPECT(cuCtxCreate_v2(&other, 0, 0) == 0);
    held = stream_of(CU_STREAM_NON_BLOCKING);
    EXPECT(cuCtxPopCurrent_v2(&left) == 0);
    /* Of what shares a segment the driver cannot have a part back: libberth(7), 13. */
    free_in_order(held, MIB(20), 9, check_has_option("segments=expandable"));
    EXPECT(cuCtxDestroy_v2(other) == 0);
}

static atomic_int ending_id;

static void *end_first_device(void *unused)
{
    (void)unused;
    atomic_store(&ending_id, gettid());
    EXPECT(cuDevicePrimaryCtxReset_v2(0) == 0);
    return NULL;
}

/* As /proc has it; 'R' before it has begun, and 'X' once it has ended. */
static char state_of_ending(void)
{
    char path[64], state = 'R';
    FILE *file;

    if (atomic_load(&ending_id) == 0)
        return state;
    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", atomic_load(&ending_id));
    file = fopen(path, "r");
    if (!file)
        return 'X';
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
        state = 'X';
    fclose(file);
    return state;
}

/* One device's context ends when its work has, and that waits for another device's. */
static void a_device_begins_beside_an_end(void)
{
    CUcontext second;
    pthread_t ending;

    check_up();
    hold(stream_of(CU_STREAM_NON_BLOCKING));
    EXPECT(pthread_create(&ending, NULL, end_first_device, NULL) == 0);
    while (state_of_ending() != 'S' && state_of_ending() != 'X')
        sched_yield();
    EXPECT(cuDevicePrimaryCtxRetain(&second, 1) == 0);
    EXPECT(cuDevicePrimaryCtxRelease_v2(1) == 0);
    open_gate(NULL);
    EXPECT(pthread_join(ending, NULL) == 0);
    SEEN("given up: %d\n", given_up);
}

static const struct check checks[] = {
    CHECK(the_legacy_stream_orders_others),
    CHECK(the_legacy_stream_orders_others_by_any_free),
    CHECK(freed_beside_what_waits_for_the_other),
    CHECK(freed_beside_what_is_cached),
    CHECK(freed_behind_what_is_held_up),
    CHECK(freed_behind_what_waits_for_the_other),
    CHECK(freed_in_the_legacy_stream),
    CHECK(a_device_begins_beside_an_end),
    CHECK(freed_in_order_at_once),
    CHECK(freed_in_order_beside_a_capture),
    CHECK(freed_in_order_of_another_context),
    CHECK(freed_in_a_blocking_stream),
    CHECK(too_much_in_the_legacy_stream),
    CHECK(large_blocks_beside_what_is_held_up),
    CHECK(small_blocks_beside_what_is_held_up),
};

int main(int argc, char **argv)
{
    return checks_run(checks, COUNT(checks), argc, argv);
}
