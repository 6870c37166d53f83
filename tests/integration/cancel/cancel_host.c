/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no thread that was told to end (pthread_cancel(3)) ends in Berth, which would keep what the
 * thread has there, as a lock, for everybody; malloc() and free() are no cancellation points.
 * Method: see points.h; test_cancel.py says what the policies are. Blocks of less than LEAST no
 * rule speaks of: a tier's arenas are opened by the thread that is watched.
 */
#include "alloc/berth.h"
#include "points.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((size_t)(n) << 20)
#define LEAST KIB(64)

/* The compiler must not know that nothing is done with it. */
static void *hide(void *p)
{
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

static void *filled(void *p, size_t size)
{
    EXPECT(p);
    if (p)
        memset(p, 0x5a, size);
    return hide(p);
}

static void allocate_each_way(size_t size)
{
    char *p[4] = {filled(malloc(size), size), filled(calloc(1, size), size),
                  filled(memalign(256, size), size), filled(aligned_alloc(4096, size), size)};

    for (int i = 0; i < 4; i++) {
        p[i] = filled(realloc(p[i], 3 * size), 3 * size);
        p[i] = filled(realloc(p[i], size), size);
        free(p[i]);
    }
}

/* Small ones, ones that a rule speaks of, and large ones. */
static void allocate(void)
{
    static const size_t sizes[] = {24, 1000, KIB(20), LEAST, KIB(300), MIB(3)};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        allocate_each_way(sizes[i]);
}

/* More than a tier of test_cancel.py holds. */
static void fill_up(void)
{
    void *p[40];

    for (size_t i = 0; i < sizeof(p) / sizeof(p[0]); i++)
        p[i] = filled(malloc(MIB(1)), MIB(1));
    for (size_t i = 0; i < sizeof(p) / sizeof(p[0]); i++)
        free(p[i]);
}

/* Files may become no larger from now on: what a tier refuses for no reason of its own is said. */
static void limit_files(void)
{
    struct rlimit limit;

    EXPECT(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = KIB(256);
    EXPECT(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

static void use_up_limit(void)
{
    struct rlimit before, limit;
    void *p[12] = {NULL};

    EXPECT(getrlimit(RLIMIT_AS, &before) == 0);
    limit = (struct rlimit){MIB(600), before.rlim_max};
    EXPECT(setrlimit(RLIMIT_AS, &limit) == 0);
    for (size_t i = 0; i < sizeof(p) / sizeof(p[0]); i++)
        p[i] = hide(malloc(MIB(100)));
    for (size_t i = 0; i < sizeof(p) / sizeof(p[0]); i++)
        free(p[i]);
    p[0] = filled(malloc(MIB(300)), MIB(300));
    free(p[0]);
    EXPECT(setrlimit(RLIMIT_AS, &before) == 0);
}

static void give_back(void)
{
    free(hide(malloc(MIB(20))));
    malloc_trim(0);
    malloc_stats();
}

static void load_library(void)
{
    void *library = dlopen("libresolv.so.2", RTLD_NOW);

    EXPECT(library);
    allocate_each_way(LEAST);
    if (library)
        EXPECT(dlclose(library) == 0);
}

static atomic_int begun;

static void *allocate_in_thread(void *unused)
{
    (void)unused;
    allocate();
    atomic_fetch_add(&begun, 1);
    return NULL;
}

static void begin_thread(void)
{
    int before = atomic_load(&begun);
    pthread_attr_t attributes;
    pthread_t thread;

    EXPECT(pthread_attr_init(&attributes) == 0);
    EXPECT(pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0);
    EXPECT(pthread_create(&thread, &attributes, allocate_in_thread, NULL) == 0);
    while (atomic_load(&begun) == before)
        sched_yield();
    pthread_attr_destroy(&attributes);
}

/* The child has been told what its thread was told in the parent. */
static void fork_child(void)
{
    void *p = filled(malloc(LEAST), LEAST);
    int status = -1;
    pid_t pid = fork();

    EXPECT(pid >= 0);
    if (pid == 0) {
        allocate();
        _exit(0);
    }
    while (pid > 0 && syscall(SYS_wait4, pid, &status, 0, NULL) < 0)
        ;
    EXPECT(status == 0);
    free(p);
}

/* In a block of a tier with a name, and through all that such a block goes through. */
static void persist(void)
{
    unsigned state = 0;
    size_t size = 0;
    void *p = NULL, *q = NULL;

    EXPECT(berth_persist("kept", LEAST, &p, &state) == 0);
    filled(p, LEAST);
    EXPECT(berth_persist_commit(p) == 0);
    EXPECT(berth_persist_find("kept", &q, &size) == 0 && q == p && size == LEAST);
    EXPECT(berth_persist_detach(q) == 0);
    free(p);
    EXPECT(berth_persist_replace("kept", MIB(1), &p) == 0);
    filled(p, MIB(1));
    EXPECT(berth_persist_commit(p) == 0);
    free(p);
    EXPECT(berth_persist_remove("kept") == 0);
    /* Never committed: */
    EXPECT(berth_persist("kept", LEAST, &p, &state) == 0);
    free(p);
    EXPECT(berth_persist("kept", LEAST, &p, &state) == 0);
    p = realloc(p, MIB(2));
    EXPECT(p);
    free(p);
}

static void persist_in_child(void)
{
    int status = -1;
    void *p = NULL;
    pid_t pid;

    EXPECT(berth_persist_replace("parents", LEAST, &p) == 0);
    EXPECT(berth_persist_commit(p) == 0);
    pid = fork();
    EXPECT(pid >= 0);
    if (pid == 0) {
        free(p);
        _exit(0);
    }
    while (pid > 0 && syscall(SYS_wait4, pid, &status, 0, NULL) < 0)
        ;
    EXPECT(status == 0);
    free(p);
    EXPECT(berth_persist_remove("parents") == 0);
}

/* What says how many threads there are, and what must not be one of several. */
static void be_alone(void)
{
    EXPECT(setuid(getuid()) == 0);
}

static void step(void)
{
    EXPECT(berth_tag_push(BERTH_TAG_WEIGHT) == 0);
    allocate();
    EXPECT(berth_tag_pop() == 0);
    EXPECT(berth_step() >= 0);
    EXPECT(berth_step_quiescent() >= 0);
}

/* Numbers of either sign, the typical one as large as this. */
static void *make_numbers(size_t size, float typical)
{
    float *numbers = filled(malloc(size), size);
    uint32_t random = 1;

    for (size_t i = 0; numbers && i < size / sizeof(*numbers); i++) {
        random = random * 1664525 + 1013904223;
        numbers[i] = ((float)(random >> 8) / (1 << 23) - 1) * 2 * typical;
    }
    return hide(numbers);
}

/* What is large, and may be inputs, the classifier watches in the steps that follow. */
static void classify(void)
{
    void *inputs = make_numbers(MIB(8), 1), *layers[12];
    struct berth_block_info info;

    for (size_t i = 0; i < sizeof(layers) / sizeof(layers[0]); i++)
        layers[i] = make_numbers(MIB(1) + KIB(i), 0.03F);
    for (size_t i = 0; i < 1000; i++)
        free(filled(malloc(KIB(70 + i % 4)), KIB(70)));
    EXPECT(berth_describe(inputs, &info, sizeof(info)) == 0);
    for (size_t i = 0; i < sizeof(layers) / sizeof(layers[0]); i++)
        free(layers[i]);
    free(inputs);
}

int main(int argc, char **argv)
{
    static const struct situation situations[] = {
        {.name = "allocate", .run = allocate},
        {.name = "fill-up", .run = fill_up},
        {.name = "limited-files", .run = fill_up, .begin = limit_files},
        {.name = "limited-addresses", .run = use_up_limit},
        {.name = "give-back", .run = give_back},
        {.name = "load-library", .run = load_library},
        {.name = "begin-thread", .run = begin_thread},
        {.name = "fork", .run = fork_child},
        {.name = "persist", .run = persist},
        {.name = "persist-in-child", .run = persist_in_child},
        {.name = "be-alone", .run = be_alone},
        {.name = "step", .run = step},
        {.name = "classify", .run = classify},
    };

    return situations_run(situations, sizeof(situations) / sizeof(situations[0]), argc, argv);
}
