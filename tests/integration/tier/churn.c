/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that allocate, fill, verify and free blocks until standard input ends. Says "ready" once
 * each thread has its first blocks, and "N blocks, all right" at the end; a byte that is not what
 * was written ends it with status 1.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS 4
#define LIVE 24
#define SIZE_MIN ((size_t)64 << 10)
#define SIZE_STEPS 32 /* up to 1 MiB */

struct block {
    uint64_t *words;
    size_t count;
    uint64_t seed;
};

static atomic_bool stop;
static _Atomic uint64_t made;
static pthread_barrier_t begun;

static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void fill(struct block *block, uint64_t *state)
{
    size_t size = SIZE_MIN + next(state) % SIZE_STEPS * (SIZE_MIN / 2);

    block->count = size / sizeof(uint64_t);
    block->seed = next(state);
    block->words = malloc(size);
    if (!block->words) {
        perror("malloc");
        exit(1);
    }
    for (size_t i = 0; i < block->count; i++)
        block->words[i] = block->seed + i;
    atomic_fetch_add(&made, 1);
}

static void verify(const struct block *block)
{
    for (size_t i = 0; i < block->count; i++)
        if (block->words[i] != block->seed + i) {
            fprintf(stderr, "word %zu of %zu at %p is wrong\n", i, block->count,
                    (const void *)block->words);
            exit(1);
        }
}

static void *work(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument * UINT64_C(0x9e3779b97f4a7c15) | 1;
    struct block blocks[LIVE];

    for (int i = 0; i < LIVE; i++)
        fill(&blocks[i], &state);
    pthread_barrier_wait(&begun);
    while (!atomic_load(&stop)) {
        struct block *block = &blocks[next(&state) % LIVE];

        verify(block);
        free(block->words);
        fill(block, &state);
    }
    for (int i = 0; i < LIVE; i++) {
        verify(&blocks[i]);
        free(blocks[i].words);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    char byte;

    pthread_barrier_init(&begun, NULL, THREADS + 1);
    for (uintptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)(i + 1)) != 0)
            return 1;
    pthread_barrier_wait(&begun);
    puts("ready");
    fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("%llu blocks, all right\n", (unsigned long long)atomic_load(&made));
    return 0;
}
