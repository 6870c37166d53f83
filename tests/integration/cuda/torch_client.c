/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the functions for PyTorch's CUDAPluggableAllocator keep the order of streams, devices and
 * captures. Method: they are found by name, as PyTorch finds them, and called as it does; contents
 * tell in which order work was done. Usage: torch_client [LIBBERTH], which is opened if given.
 */
#include "cuda_api.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE ((size_t)300 << 10)

struct pool_id {
    uint64_t first, second;
};

static void *(*torch_alloc)(size_t size, int device, CUstream stream);
static void (*torch_free)(void *block, size_t size, int device, CUstream stream);
static void (*torch_init)(int device_count);
static void (*torch_reset)(void);
static void (*torch_fraction)(double fraction, int device);
static void *(*torch_base)(void *block, size_t *size);
static void (*torch_record)(void *block, CUstream stream);
static void (*torch_erase)(void *block, CUstream stream);
static void (*torch_begin)(int device, struct pool_id id, void *filter);
static void (*torch_end)(int device, struct pool_id id);
static void (*torch_release)(int device, struct pool_id id);

static CUcontext context;
static CUstream one, two;
static atomic_bool may_go_on;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static void find(void *library)
{
    const struct {
        const char *name;
        void *function;
    } names[] = {
        {"berth_torch_alloc", &torch_alloc},
        {"berth_torch_free", &torch_free},
        {"berth_torch_init", &torch_init},
        {"berth_torch_reset", &torch_reset},
        {"berth_torch_memory_fraction", &torch_fraction},
        {"berth_torch_base_alloc", &torch_base},
        {"berth_torch_record_stream", &torch_record},
        {"berth_torch_erase_stream", &torch_erase},
        {"berth_torch_begin_allocate_to_pool", &torch_begin},
        {"berth_torch_end_allocate_to_pool", &torch_end},
        {"berth_torch_release_pool", &torch_release},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        *(void **)names[i].function = dlsym(library, names[i].name);
        if (!*(void **)names[i].function)
            fprintf(stderr, "%s is missing\n", names[i].name);
        CHECK(*(void **)names[i].function);
    }
}

static void hold(void *argument)
{
    while (!atomic_load(&may_go_on))
        ;
}

static bool is_all(const unsigned char *block, unsigned char value)
{
    for (size_t i = 0; i < SIZE; i++)
        if (block[i] != value)
            return false;
    return true;
}

/* The block is used by `two`, and given to work of `one` again. Returns what is in it then. */
static unsigned char last_writer(bool is_recorded)
{
    unsigned char copy[SIZE];
    void *block = torch_alloc(SIZE, 0, one), *again;

    CHECK(block && cuStreamSynchronize(one) == 0);
    atomic_store(&may_go_on, false);
    CHECK(cuLaunchHostFunc(two, hold, NULL) == 0);
    CHECK(cuMemsetD8Async((CUdeviceptr)block, 2, SIZE, two) == 0);
    torch_record(block, two);
    if (!is_recorded)
        torch_erase(block, two);
    torch_free(block, SIZE, 0, one);
    again = torch_alloc(SIZE, 0, one);
    CHECK(again == block);
    CHECK(cuMemsetD8Async((CUdeviceptr)again, 1, SIZE, one) == 0);
    if (!is_recorded)
        CHECK(cuStreamSynchronize(one) == 0);
    atomic_store(&may_go_on, true);
    CHECK(cuCtxSynchronize() == 0);
    CHECK(cuMemcpyDtoH_v2(copy, (CUdeviceptr)again, SIZE) == 0);
    CHECK(is_all(copy, copy[0]));
    torch_free(again, SIZE, 0, one);
    return copy[0];
}

static void recorded_streams_are_waited_for(void)
{
    CHECK(last_writer(true) == 1);
    CHECK(last_writer(false) == 2);
}

static void the_device_is_switched_and_restored(void)
{
    CUcontext now = NULL;
    CUstream none = NULL;
    int ordinal = -1;
    void *block = torch_alloc(SIZE, 1, none);
    size_t size = 0;

    CHECK(block && cuCtxGetCurrent(&now) == 0 && now == context);
    CHECK(cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
                                (CUdeviceptr)block) == 0);
    CHECK(ordinal == 1);
    CHECK(torch_base((char *)block + 4096, &size) == block && size == SIZE);
    torch_free(block, SIZE, 1, none);
    CHECK(cuCtxGetCurrent(&now) == 0 && now == context);
}

/* A graph fills a block of its private pool; a block from outside is freed while it is captured. */
static void graphs_keep_their_memory(void)
{
    const struct pool_id id = {7, 0};
    CUgraph graph = NULL;
    CUgraphExec exec = NULL;
    unsigned char copy[SIZE];
    void *outside = torch_alloc(SIZE, 0, one), *inside, *again, *other;

    torch_begin(0, id, NULL);
    CHECK(cuStreamBeginCapture_v2(one, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) == 0);
    torch_free(outside, SIZE, 0, one);
    inside = torch_alloc(SIZE, 0, one);
    CHECK(inside && inside != outside);
    CHECK(cuMemsetD8Async((CUdeviceptr)inside, 3, SIZE, one) == 0);
    torch_free(inside, SIZE, 0, one);
    again = torch_alloc(SIZE, 0, one);
    CHECK(again == inside);
    CHECK(cuMemsetD8Async((CUdeviceptr)again, 4, SIZE, one) == 0);
    CHECK(cuStreamEndCapture(one, &graph) == 0);
    torch_end(0, id);
    torch_free(again, SIZE, 0, one);
    CHECK(cuGraphInstantiateWithFlags(&exec, graph, 0) == 0);
    other = torch_alloc(SIZE, 0, one);
    CHECK(other == outside);
    CHECK(cuMemsetD8Async((CUdeviceptr)other, 5, SIZE, one) == 0);
    CHECK(cuGraphLaunch(exec, one) == 0 && cuStreamSynchronize(one) == 0);
    CHECK(cuMemcpyDtoH_v2(copy, (CUdeviceptr)inside, SIZE) == 0 && is_all(copy, 4));
    CHECK(cuMemcpyDtoH_v2(copy, (CUdeviceptr)other, SIZE) == 0 && is_all(copy, 5));
    torch_free(other, SIZE, 0, one);
    CHECK(cuGraphExecDestroy(exec) == 0 && cuGraphDestroy(graph) == 0);
    torch_release(0, id);
}

static void the_limit_holds_for_what_is_live(void)
{
    size_t free_size, total;
    void *block;

    CHECK(cuMemGetInfo_v2(&free_size, &total) == 0);
    torch_fraction(0.25, 0);
    CHECK(!torch_alloc(total / 2, 0, one));
    block = torch_alloc(total / 8, 0, one);
    CHECK(block && !torch_alloc(total / 4, 0, one));
    torch_free(block, total / 8, 0, one);
    /* A size that no device has is refused, and not counted either. */
    block = torch_alloc(total / 8, 0, one);
    CHECK(block && !torch_alloc(SIZE_MAX, 0, one) && !torch_alloc(SIZE_MAX - total, 0, one));
    CHECK(!torch_alloc(total / 4, 0, one));
    torch_free(block, total / 8, 0, one);
    torch_fraction(1.0, 0);
    block = torch_alloc(total / 2, 0, one);
    CHECK(block);
    torch_free(block, total / 2, 0, one);
    torch_reset();
}

static void *keep_busy(void *argument)
{
    CHECK(cuCtxSetCurrent(context) == 0);
    while (!atomic_load(&may_go_on)) {
        void *block = torch_alloc(SIZE, 0, one);

        for (int i = 0; i < 1000; i++) {
            torch_record(block, two);
            torch_erase(block, two);
        }
        torch_free(block, SIZE, 0, one);
    }
    return argument;
}

/* What a child inherits it may free, and record, like a library that does not know of the fork. */
static void a_child_is_not_held_up(void)
{
    const struct pool_id id = {7, 7};
    void *block = torch_alloc(SIZE, 0, one);
    pthread_t thread;

    atomic_store(&may_go_on, false);
    CHECK(block && pthread_create(&thread, NULL, keep_busy, NULL) == 0);
    for (int i = 0; i < 100; i++) {
        int status = -1;
        pid_t pid = fork();

        CHECK(pid >= 0);
        if (pid == 0) {
            alarm(20); /* a lock that nobody will open */
            torch_record(block, two);
            torch_erase(block, two);
            torch_begin(0, id, NULL);
            torch_end(0, id);
            torch_release(0, id);
            torch_fraction(0.5, 0);
            torch_free(block, SIZE, 0, one);
            torch_reset();
            _exit(torch_alloc(SIZE, 0, one) || torch_base(block, NULL) != block);
        }
        CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    }
    atomic_store(&may_go_on, true);
    CHECK(pthread_join(thread, NULL) == 0);
    torch_free(block, SIZE, 0, one);
}

int main(int argc, char **argv)
{
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : RTLD_DEFAULT;

    if (argc > 1 && !library)
        fprintf(stderr, "%s\n", dlerror());
    find(library);
    CHECK(cuInit(0) == 0 && cuDevicePrimaryCtxRetain(&context, 0) == 0);
    CHECK(cuCtxSetCurrent(context) == 0);
    CHECK(cuStreamCreate(&one, CU_STREAM_NON_BLOCKING) == 0);
    CHECK(cuStreamCreate(&two, CU_STREAM_NON_BLOCKING) == 0);
    torch_init(2);
    CHECK(!torch_alloc(0, 0, one));
    recorded_streams_are_waited_for();
    the_device_is_switched_and_restored();
    graphs_keep_their_memory();
    the_limit_holds_for_what_is_live();
    a_child_is_not_held_up();
    puts("as it should be");
    return 0;
}
