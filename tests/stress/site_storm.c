/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workload: everything that touches the loader's list at once, under a policy that reads call
 * paths: threads that allocate by many paths, threads that come and go, one that opens and closes
 * libraries whose functions allocate, and one that forks children which allocate by new paths.
 *
 * Goal: nobody hangs (children have an alarm, the test a timeout), nobody crashes, and what is
 * allocated by the one path that the policy names has its tag, each time.
 *
 * usage: site_storm SECONDS SEED LIBRARY...
 */
#include "alloc/berth.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SIZE ((size_t)1 << 16)
#define WORKERS 3

static _Atomic int stop;
static _Atomic unsigned long done[4];
static _Atomic int failures;
static char **libraries;
static int library_count;

static unsigned next(unsigned *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 16;
}

static void check_tag(void *p, enum berth_tag expected)
{
    struct berth_block_info info;
    int r = berth_describe(p, &info, sizeof(info));

    if ((r < 0 || info.tag != expected) && atomic_fetch_add(&failures, 1) == 0)
        fprintf(stderr, "a block is %d (%d) instead of %d\n", r < 0 ? -1 : (int)info.tag, r,
                (int)expected);
}

/* The policy names this function. */
__attribute__((noinline, visibility("default"))) void *storm_weight(unsigned n);
__attribute__((noinline, visibility("default"))) void *storm_other(unsigned n);

void *storm_weight(unsigned n)
{
    void *p = n == 0 ? malloc(SIZE) : storm_weight(n - 1);

    __asm__ volatile("" : "+r"(p));
    return p;
}

void *storm_other(unsigned n)
{
    void *p = n == 0 ? malloc(SIZE) : storm_other(n - 1);

    __asm__ volatile("" : "+r"(p));
    return p;
}

static void allocate(unsigned *seed)
{
    unsigned depth = next(seed) % 20;
    int weight = next(seed) % 2;
    void *p = weight ? storm_weight(depth) : storm_other(depth);

    check_tag(p, weight ? BERTH_TAG_WEIGHT : BERTH_TAG_UNTAGGED);
    free(p);
}

static void *work(void *context)
{
    unsigned seed = *(unsigned *)context;

    while (!atomic_load(&stop)) {
        allocate(&seed);
        atomic_fetch_add(&done[0], 1);
    }
    return NULL;
}

static void *work_once(void *context)
{
    for (int i = 0; i < 5; i++)
        allocate(context);
    return NULL;
}

/* In a child that was made beside a dlopen(), paths may be unknown: it must run, and no more. */
static void *allocate_only(void *context)
{
    for (int i = 0; i < 5; i++)
        free(storm_weight(next(context) % 300));
    return NULL;
}

static void *start_threads(void *context)
{
    unsigned seed = *(unsigned *)context;
    pthread_t thread;

    while (!atomic_load(&stop)) {
        if (pthread_create(&thread, NULL, work_once, &seed) == 0)
            pthread_join(thread, NULL);
        atomic_fetch_add(&done[1], 1);
    }
    return NULL;
}

/* The libraries are tests/integration/site's model, which allocates through another library. */
static void use_library(unsigned *seed)
{
    void *library = dlopen(libraries[next(seed) % (unsigned)library_count], RTLD_NOW);
    void *(*load)(size_t);

    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        atomic_fetch_add(&failures, 1);
        return;
    }
    *(void **)&load = dlsym(library, next(seed) % 2 ? "model_load" : "model_forward");
    if (load)
        free(load(SIZE));
    dlclose(library);
}

static void *open_and_close(void *context)
{
    unsigned seed = *(unsigned *)context;

    while (!atomic_load(&stop)) {
        use_library(&seed);
        atomic_fetch_add(&done[2], 1);
    }
    return NULL;
}

static void fork_once(unsigned *seed)
{
    pid_t child = fork();
    int status = -1;

    if (child == 0) {
        pthread_t thread;

        alarm(60); /* it shares the processors with all of its parent's threads */
        /* No dlopen() here: after a fork beside one it hangs without Berth as well. */
        for (int i = 0; i < 5; i++)
            free(storm_other(next(seed) % 300));
        if (pthread_create(&thread, NULL, allocate_only, seed) == 0)
            pthread_join(thread, NULL);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        fprintf(stderr, "a child ended with status %#x\n", (unsigned)status);
        atomic_fetch_add(&failures, 1);
    }
    atomic_fetch_add(&done[3], 1);
}

int main(int argc, char **argv)
{
    unsigned seeds[WORKERS + 3];
    pthread_t threads[WORKERS + 2];
    time_t end;

    if (argc < 4)
        return 2;
    libraries = argv + 3;
    library_count = argc - 3;
    printf("seed %s\n", argv[2]);
    for (unsigned i = 0; i < WORKERS + 3; i++)
        seeds[i] = (unsigned)strtoul(argv[2], NULL, 10) * 31 + i;
    for (int i = 0; i < WORKERS; i++)
        pthread_create(&threads[i], NULL, work, &seeds[i]);
    pthread_create(&threads[WORKERS], NULL, start_threads, &seeds[WORKERS]);
    pthread_create(&threads[WORKERS + 1], NULL, open_and_close, &seeds[WORKERS + 1]);
    end = time(NULL) + atoi(argv[1]);
    while (time(NULL) < end && !atomic_load(&failures))
        fork_once(&seeds[WORKERS + 2]);
    atomic_store(&stop, 1);
    for (int i = 0; i < WORKERS + 2; i++)
        pthread_join(threads[i], NULL);
    printf("%lu allocations, %lu threads, %lu libraries, %lu forks, %d failures\n", done[0],
           done[1], done[2], done[3], failures);
    return failures ? 1 : 0;
}
