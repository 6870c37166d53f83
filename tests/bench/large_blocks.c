/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Patterns of large blocks, for large_blocks.py: one pattern per process, on some threads.
 *
 * usage: large_blocks PATTERN ROUNDS THREADS
 *
 * Prints one line: CPU milliseconds and minor page faults of the pattern alone, the peak of
 * resident memory, what is resident after everything was freed, and what is after the program has
 * then gone on with small blocks for a second, now and then; these in KiB. The sizes come from
 * a generator with a fixed seed, so that every variant does the same work.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define PAGE ((size_t)4096)
#define LIVE 24
#define MIXED_LIVE 400
/* Each pattern is repeated inside one round, so that a round is long against the clock. */
#define CHURN_STEPS 400
#define STEP_LAYERS 12

struct worker {
    pthread_t thread;
    uint64_t seed;
    unsigned rounds;
    void (*pattern)(struct worker *worker);
};

static void fail(const char *what)
{
    fprintf(stderr, "large_blocks: %s\n", what);
    exit(1);
}

static void *must(void *p)
{
    if (!p)
        fail("no memory");
    return p;
}

static uint64_t next(struct worker *worker)
{
    worker->seed ^= worker->seed << 13;
    worker->seed ^= worker->seed >> 7;
    worker->seed ^= worker->seed << 17;
    return worker->seed;
}

/* 64 KiB to 4 MiB, each octave as likely as the others. */
static size_t draw_size(struct worker *worker)
{
    size_t octave = 64 * KIB << next(worker) % 6;

    return octave + next(worker) % octave;
}

static void touch(char *p, size_t size)
{
    for (size_t i = 0; i < size; i += PAGE)
        p[i] = (char)i;
}

/* Nobody reads the blocks: what is measured is the allocator and the kernel, not the memory bus. */
static void pairs(struct worker *worker)
{
    for (unsigned i = 0; i < CHURN_STEPS * 25; i++) {
        size_t size = draw_size(worker);
        char *p = must(malloc(size));

        *(volatile char *)p = 1;
        free(p);
    }
}

static void churn(struct worker *worker)
{
    char *live[LIVE] = {NULL};

    for (unsigned i = 0; i < CHURN_STEPS; i++) {
        char **slot = &live[next(worker) % LIVE];
        size_t size = draw_size(worker);

        free(*slot);
        *slot = must(malloc(size));
        touch(*slot, size);
    }
    for (unsigned i = 0; i < LIVE; i++)
        free(live[i]);
}

/* One step of a model: every layer's blocks live until the layer after it, the sizes recur. */
static void steps(struct worker *worker)
{
    static const size_t sizes[] = {1536 * KIB, 4608 * KIB, 3072 * KIB, 6144 * KIB, 1536 * KIB};
    enum { BLOCKS = sizeof(sizes) / sizeof(sizes[0]) };
    char *before[BLOCKS] = {NULL};

    (void)worker;
    for (unsigned layer = 0; layer < STEP_LAYERS; layer++) {
        for (unsigned i = 0; i < BLOCKS; i++) {
            char *p = must(malloc(sizes[i]));

            touch(p, sizes[i]);
            free(before[i]);
            before[i] = p;
        }
    }
    for (unsigned i = 0; i < BLOCKS; i++)
        free(before[i]);
}

/* Blocks beyond jemalloc's oversize threshold of 8 MiB. */
static void huge(struct worker *worker)
{
    for (unsigned i = 0; i < 8; i++) {
        size_t size = (9 + next(worker) % 24) * MIB;
        char *p = must(malloc(size));

        touch(p, size);
        free(p);
    }
}

static void grow_by(double factor)
{
    size_t size = 64 * KIB;
    size_t full = 0;
    char *p = NULL;

    while (size < 48 * MIB) {
        p = must(realloc(p, size));
        touch(p + full, size - full);
        full = size;
        size = (size_t)((double)size * factor) & ~(size_t)15;
    }
    free(p);
}

/* As a C++ vector grows. */
static void doubling(struct worker *worker)
{
    (void)worker;
    grow_by(2.0);
}

/* As Python's bytearray grows: by an eighth. */
static void eighths(struct worker *worker)
{
    (void)worker;
    grow_by(1.125);
}

static void zeroed(struct worker *worker)
{
    for (unsigned i = 0; i < CHURN_STEPS / 4; i++) {
        size_t size = draw_size(worker);
        char *p = must(calloc(1, size));

        if (p[size / 2] != 0)
            fail("calloc gave bytes that are not zero");
        touch(p, size);
        free(p);
    }
}

static void fill_and_free(size_t size)
{
    size_t count = 64 * MIB / size;
    char **blocks = must(malloc(count * sizeof(*blocks)));

    for (size_t i = 0; i < count; i++) {
        blocks[i] = must(malloc(size));
        touch(blocks[i], size);
    }
    for (size_t i = 0; i < count; i++)
        free(blocks[i]);
    free(blocks);
}

/* A program that frees what it has and goes on with other sizes, small and large. */
static void phases(struct worker *worker)
{
    static const size_t sizes[] = {100, 5000, 100000, 3000000, 20 * MIB, 700};

    (void)worker;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        fill_and_free(sizes[i]);
}

/* The same size again and again, as a buffer that a function has for itself. */
static void same(struct worker *worker)
{
    (void)worker;
    for (unsigned i = 0; i < CHURN_STEPS * 25; i++) {
        char *p = must(malloc(300 * KIB));

        *(volatile char *)p = 1;
        free(p);
    }
}

/* As most programs: many small blocks and now and then a large one, some of each live for long. */
static void mixed(struct worker *worker)
{
    char *live[MIXED_LIVE] = {NULL};

    for (unsigned i = 0; i < CHURN_STEPS * 50; i++) {
        uint64_t random = next(worker);
        char **slot = &live[random % MIXED_LIVE];
        size_t size = random >> 32 & 15 ? 16 + (random >> 40) % 1000 : draw_size(worker) / 4;

        free(*slot);
        *slot = must(malloc(size));
        touch(*slot, size);
    }
    for (unsigned i = 0; i < MIXED_LIVE; i++)
        free(live[i]);
}

static const struct {
    const char *name;
    void (*run)(struct worker *worker);
} patterns[] = {
    {"pairs", pairs},       {"churn", churn},     {"steps", steps},   {"huge", huge},
    {"doubling", doubling}, {"eighths", eighths}, {"zeroed", zeroed}, {"phases", phases},
    {"same", same},         {"mixed", mixed},
};

static void *work(void *argument)
{
    struct worker *worker = argument;

    for (unsigned i = 0; i < worker->rounds; i++)
        worker->pattern(worker);
    return NULL;
}

static double cpu_ms(const struct rusage *usage)
{
    return (double)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1e3 +
           (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) / 1e3;
}

/* A line of /proc/self/status, in KiB. The peak counts from exec on, unlike getrusage's. */
static long status_kib(const char *name)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    long kib = -1;

    while (file && kib < 0 && fgets(line, sizeof(line), file))
        if (strncmp(line, name, strlen(name)) == 0)
            kib = strtol(line + strlen(name), NULL, 10);
    if (kib < 0)
        fail("/proc/self/status cannot be read");
    fclose(file);
    return kib;
}

static void run(void (*pattern)(struct worker *), unsigned rounds, unsigned threads)
{
    struct worker *workers = must(calloc(threads, sizeof(*workers)));

    for (unsigned i = 0; i < threads; i++) {
        workers[i] =
            (struct worker){.seed = 88172645463325252u + i, .rounds = rounds, .pattern = pattern};
        /* A single one is the main thread: most programs allocate there. */
        if (threads == 1)
            work(&workers[i]);
        else if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            fail("no thread");
    }
    for (unsigned i = 0; i < threads && threads > 1; i++)
        pthread_join(workers[i].thread, NULL);
    free(workers);
}

/* What it does besides: 8 MiB in blocks of 1 KiB, in twenty turns. */
static void go_on(void)
{
    const struct timespec pause = {.tv_nsec = 50000000};

    for (int turn = 0; turn < 20; turn++) {
        for (int i = 0; i < 400; i++)
            free(must(malloc(KIB)));
        nanosleep(&pause, NULL);
    }
}

int main(int argc, char **argv)
{
    struct rusage before, after;
    long left;

    if (argc != 4)
        fail("usage: large_blocks PATTERN ROUNDS THREADS");
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        if (strcmp(argv[1], patterns[i].name) != 0)
            continue;
        getrusage(RUSAGE_SELF, &before);
        run(patterns[i].run, (unsigned)strtoul(argv[2], NULL, 10),
            (unsigned)strtoul(argv[3], NULL, 10));
        getrusage(RUSAGE_SELF, &after);
        left = status_kib("VmRSS:");
        go_on();
        printf("%.3f %ld %ld %ld %ld\n", cpu_ms(&after) - cpu_ms(&before),
               after.ru_minflt - before.ru_minflt, status_kib("VmHWM:"), left,
               status_kib("VmRSS:"));
        return 0;
    }
    fail("no such pattern");
}
