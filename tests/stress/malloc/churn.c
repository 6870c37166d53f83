/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that allocate, resize, hand over and free blocks of all sizes, while one thread forks and
 * others begin and end. Every block carries a pattern that is checked when it is freed and in each
 * child. Seeded; prints the seed.
 *
 * usage: churn SEED STEPS
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 4
#define SLOTS 256
/* Blocks that any thread may take: one that a thread leaves, another frees. */
#define EXCHANGE 64
/* Blocks that nobody but the forking thread writes: what a child must find unchanged. */
#define STILL 40

struct block {
    size_t size;
    uint64_t mark;
};

static _Atomic(struct block *) exchange[EXCHANGE];
static atomic_bool stop;
static atomic_ulong blocks, forks;
static unsigned steps;

static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static size_t draw_size(uint64_t *random)
{
    uint64_t r = next(random);

    if (r % 100 == 0)
        return sizeof(struct block) + r / 100 % (4u << 20);
    if (r % 10 == 0)
        return sizeof(struct block) + r / 10 % 200000;
    return sizeof(struct block) + r / 10 % 4000;
}

static void fail(const char *what)
{
    dprintf(2, "%s\n", what);
    abort();
}

/* Marks the first bytes, the last, and one in each OS page between. */
static void mark(struct block *block, size_t size, uint64_t value)
{
    unsigned char *bytes = (unsigned char *)block;

    block->size = size;
    block->mark = value;
    for (size_t i = 4096; i < size; i += 4096)
        bytes[i] = (unsigned char)(value + i / 4096);
    if (size > sizeof(*block))
        bytes[size - 1] = (unsigned char)value;
}

static bool is_marked(const struct block *block, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)block;

    for (size_t i = 4096; i < size; i += 4096)
        if (i != size - 1 && bytes[i] != (unsigned char)(block->mark + i / 4096))
            return false;
    return size <= sizeof(*block) || bytes[size - 1] == (unsigned char)block->mark;
}

static struct block *get(uint64_t *random)
{
    size_t size = draw_size(random);
    struct block *block = NULL;

    switch (next(random) % 8) {
    case 0:
        block = calloc(1, size);
        if (block && (block->size || block->mark || ((char *)block)[size - 1]))
            fail("calloc gave a block that is not zero");
        break;
    case 1:
        block = aligned_alloc((size_t)16 << next(random) % 9, size);
        break;
    default:
        block = malloc(size);
        break;
    }
    if (!block)
        fail("no memory");
    mark(block, size, next(random));
    atomic_fetch_add_explicit(&blocks, 1, memory_order_relaxed);
    return block;
}

static void put(struct block *block)
{
    if (block && !is_marked(block, block->size))
        fail("a block was overwritten");
    free(block);
}

static struct block *resize(struct block *block, uint64_t *random)
{
    size_t size = draw_size(random);
    uint64_t old_mark = block->mark;

    if (!is_marked(block, block->size))
        fail("a block was overwritten before it was resized");
    block = realloc(block, size);
    if (!block || block->mark != old_mark)
        fail("a resized block lost its contents");
    mark(block, size, next(random));
    return block;
}

static void *churn(void *argument)
{
    uint64_t random = (uint64_t)(uintptr_t)argument;
    struct block *slot[SLOTS] = {NULL};

    for (unsigned i = 0; i < steps; i++) {
        struct block **mine = &slot[next(&random) % SLOTS];

        switch (next(&random) % 6) {
        case 0:
            *mine = atomic_exchange(&exchange[next(&random) % EXCHANGE], *mine);
            break;
        case 1:
            if (*mine) {
                *mine = resize(*mine, &random);
                break;
            }
            __attribute__((fallthrough));
        default:
            put(*mine);
            *mine = next(&random) % 3 ? get(&random) : NULL;
            break;
        }
    }
    for (int i = 0; i < SLOTS; i++)
        put(slot[i]);
    return NULL;
}

static void *short_life(void *argument)
{
    uint64_t random = (uint64_t)(uintptr_t)argument;

    for (int i = 0; i < 20; i++)
        put(get(&random));
    return NULL;
}

static void *begin_and_end(void *argument)
{
    uintptr_t seed = (uintptr_t)argument;

    while (!atomic_load(&stop)) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, short_life, (void *)seed++) == 0)
            pthread_join(thread, NULL);
    }
    return NULL;
}

static void run_child(struct block **still, uint64_t random)
{
    for (int i = 0; i < STILL; i++) {
        put(still[i]);
        still[i] = get(&random);
    }
    for (int i = 0; i < STILL; i++)
        put(still[i]);
    _exit(0);
}

static void *fork_often(void *argument)
{
    uint64_t random = (uint64_t)(uintptr_t)argument;
    struct block *still[STILL];

    for (int i = 0; i < STILL; i++)
        still[i] = get(&random);
    while (!atomic_load(&stop)) {
        int status = -1;
        pid_t pid = fork();

        if (pid == 0)
            run_child(still, random);
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
            fail("a child did not find what it should");
        atomic_fetch_add(&forks, 1);
        for (int i = 0; i < STILL; i++)
            if (!is_marked(still[i], still[i]->size))
                fail("a child wrote into its parent");
    }
    for (int i = 0; i < STILL; i++)
        put(still[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    uintptr_t seed = argc > 1 ? strtoul(argv[1], NULL, 0) | 1 : 1;
    pthread_t thread[THREADS], beginning, forking;

    steps = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 20000;
    printf("seed %lu, %u steps\n", (unsigned long)seed, steps);
    fflush(stdout);
    pthread_create(&beginning, NULL, begin_and_end, (void *)(seed * 1000003));
    pthread_create(&forking, NULL, fork_often, (void *)(seed * 7919));
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&thread[i], NULL, churn, (void *)(seed * 31 + i * 2654435761u + 1));
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    atomic_store(&stop, true);
    pthread_join(beginning, NULL);
    pthread_join(forking, NULL);
    for (int i = 0; i < EXCHANGE; i++)
        put(atomic_load(&exchange[i]));
    printf("%lu blocks, %lu forks\n", atomic_load(&blocks), atomic_load(&forks));
    return 0;
}
