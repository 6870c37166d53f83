/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a program that limits its addresses in the middle goes on as natively: threads whose blocks
 * come and go are refused few of them, and read what they have written; so do its own mappings, and
 * its children end well. Method: the limit is far above what lives, and below what the program and
 * Berth would like to keep.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB(n) ((size_t)(n) << 20)
#define THREADS 5
#define BLOCKS 24
#define ROUNDS 600
#define ROUNDS_BEFORE (THREADS * ROUNDS / 3)
#define CHILDREN 10
/* Some 150 MiB live. */
#define LIMIT MIB(400)
#define STEP 997

struct block {
    unsigned char *p;
    size_t size;
    unsigned char value;
};

static atomic_uint rounds, served, refused, wrong;
static atomic_bool is_over;

static void check(const struct block *block)
{
    bool is_right = block->p[block->size - 1] == block->value;

    for (size_t i = 0; i < block->size; i += STEP)
        is_right = is_right && block->p[i] == block->value;
    atomic_fetch_add(&wrong, !is_right);
}

static void renew(struct block *block, unsigned *seed)
{
    size_t size = (size_t)1 << (rand_r(seed) % 12 + 12);

    if (block->p)
        check(block);
    free(block->p);
    block->size = size + (size_t)rand_r(seed) % size;
    block->value = (unsigned char)rand_r(seed);
    block->p = rand_r(seed) % 2 ? malloc(block->size) : calloc(1, block->size);
    atomic_fetch_add(block->p ? &served : &refused, 1);
    if (block->p)
        memset(block->p, block->value, block->size);
}

static void *use_blocks(void *number)
{
    unsigned seed = (unsigned)(size_t)number + 1;
    struct block blocks[BLOCKS] = {0};

    for (unsigned i = 0; i < ROUNDS; i++) {
        renew(&blocks[(unsigned)rand_r(&seed) % BLOCKS], &seed);
        atomic_fetch_add(&rounds, 1);
    }
    for (unsigned i = 0; i < BLOCKS; i++)
        free(blocks[i].p);
    return NULL;
}

/* What nobody but the kernel gives. */
static void *use_mappings(void *unused)
{
    unsigned seed = 7;

    while (!atomic_load(&is_over)) {
        size_t size = (size_t)(rand_r(&seed) % 64 + 1) << 16;
        struct block block = {.size = size, .value = 0x5a};

        block.p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (block.p == MAP_FAILED)
            continue;
        memset(block.p, block.value, size);
        sched_yield();
        check(&block);
        munmap(block.p, size);
    }
    return unused;
}

static void use_child(void)
{
    pid_t pid = fork();
    int status = -1;

    if (pid == 0) {
        free(memset(malloc(100), 1, 100));
        _exit(0);
    }
    atomic_fetch_add(&wrong, pid < 0 || waitpid(pid, &status, 0) != pid || status != 0);
}

int main(void)
{
    struct rlimit limit = {LIMIT, RLIM_INFINITY};
    pthread_t threads[THREADS], mapper;

    for (size_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, use_blocks, (void *)i) != 0)
            return 3;
    if (pthread_create(&mapper, NULL, use_mappings, NULL) != 0)
        return 3;
    while (atomic_load(&rounds) < ROUNDS_BEFORE)
        sched_yield();
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        return 3;
    for (int i = 0; i < CHILDREN; i++)
        use_child();
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&is_over, true);
    pthread_join(mapper, NULL);
    printf("%u served, %u refused, %u wrong\n", served, refused, wrong);
    return wrong != 0 || refused > served / 10;
}
