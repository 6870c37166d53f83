/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what libunwind sets up in each thread that uses it first is not for threads that ask for a
 * small block and end.
 *
 * Method: Berth is given a libunwind that counts how often it is asked (counting/unwind.c). Threads
 * ask for one block each, by a function that no unwind table describes, so that nobody else can
 * read their path; every small block is a sample. Then one thread asks for a large block, whose
 * path is wanted whatever it costs: otherwise this test would see nothing.
 *
 * Nor does a thread that asks for a large block and ends fetch small ones by the hundred, because
 * the C library needs a few to tell where the thread's stack is: jemalloc counts that.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define THREADS 100
#define SMALL ((size_t)200)
#define LARGE ((size_t)128 << 10)

/* malloc(), without a table. */
void *ask_bare(size_t size);

__asm__(".text\n"
        ".globl ask_bare\n"
        ".type ask_bare, @function\n"
        "ask_bare:\n"
        "    pushq %rbx\n"
        "    subq $48, %rsp\n"
        "    call malloc@PLT\n"
        "    addq $48, %rsp\n"
        "    popq %rbx\n"
        "    ret\n"
        ".size ask_bare, .-ask_bare\n");

static void *work(void *size)
{
    free(ask_bare(*(size_t *)size));
    return NULL;
}

static int run(size_t size)
{
    pthread_t thread;

    return pthread_create(&thread, NULL, work, &size) == 0 && pthread_join(thread, NULL) == 0;
}

extern int mallctl(const char *name, void *old, size_t *old_size, void *value, size_t size)
    __attribute__((weak));

/* How often threads have filled their caches of small blocks. */
static unsigned long count_fetches(void)
{
    unsigned long sum = 0;
    unsigned bins = 0;
    size_t size = sizeof(bins);
    char name[64];

    mallctl("epoch", NULL, NULL, &(uint64_t){1}, sizeof(uint64_t));
    mallctl("arenas.nbins", &bins, &size, NULL, 0);
    for (unsigned i = 0; i < bins; i++) {
        uint64_t fills = 0;

        size = sizeof(fills);
        snprintf(name, sizeof(name), "stats.arenas.4096.bins.%u.nfills", i);
        mallctl(name, &fills, &size, NULL, 0);
        sum += fills;
    }
    return sum;
}

static void *work_large(void *result)
{
    void *volatile block = malloc(LARGE);

    free(block);
    return result;
}

static int check_fetches(void)
{
    unsigned long before, after;

    if (!mallctl) {
        fprintf(stderr, "there is no mallctl()\n");
        return 1;
    }
    before = count_fetches();
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, work_large, NULL) != 0 || pthread_join(thread, NULL) != 0)
            return 1;
    }
    after = count_fetches();
    if (after - before >= THREADS) {
        fprintf(stderr, "%lu fetches of small blocks for %d large ones\n", after - before, THREADS);
        return 1;
    }
    return 0;
}

static _Atomic unsigned asked;

/* Found by counting/unwind.c, by its name. */
void unwind_was_asked(void);

void unwind_was_asked(void)
{
    asked++;
}

int main(void)
{
    unsigned before = asked, after;

    if (before == 0) {
        fprintf(stderr, "Berth has not loaded the libunwind of this test\n");
        return 1;
    }
    for (int i = 0; i < THREADS; i++)
        if (!run(SMALL))
            return 1;
    after = asked;
    if (after != before) {
        fprintf(stderr, "libunwind was asked %u times for small blocks\n", after - before);
        return 1;
    }
    if (!run(LARGE) || asked == after) {
        fprintf(stderr, "libunwind was not asked for a large block either\n");
        return 1;
    }
    return check_fetches();
}
