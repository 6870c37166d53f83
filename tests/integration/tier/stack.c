/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Says how many bytes of stack the calls of malloc() and its like took at most: each is made on a
 * stack of its own, whose bytes are known before.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#define STACK_SIZE ((size_t)256 << 10)
#define PAINT 0x5a
#define ROUNDS 8
#define BLOCKS 64

static ucontext_t outside, inside;
static void *volatile blocks[BLOCKS];
static unsigned char *stack;

static void take_many(void)
{
    for (size_t i = 0; i < BLOCKS; i++)
        blocks[i] = malloc(70000 + i * 8192);
    for (size_t i = 0; i < BLOCKS; i++)
        free(blocks[i]);
}

static void take_large(void)
{
    blocks[0] = malloc((size_t)300 << 20);
    free(blocks[0]);
}

static void take_zeros(void)
{
    blocks[0] = calloc(1, (size_t)5 << 20);
    free(blocks[0]);
}

static void take_aligned(void)
{
    blocks[0] = aligned_alloc((size_t)2 << 20, (size_t)6 << 20);
    free(blocks[0]);
}

static void grow(void)
{
    blocks[0] = malloc(1000);
    for (size_t size = 10000; size < (size_t)20 << 20; size *= 3)
        blocks[0] = realloc(blocks[0], size);
    free(blocks[0]);
}

static void (*const calls[])(void) = {take_many, take_large, take_zeros, take_aligned, grow};
static void (*call)(void);

static void run_call(void)
{
    call();
    swapcontext(&inside, &outside);
}

static size_t measure(void)
{
    size_t clean = 0;

    memset(stack, PAINT, STACK_SIZE);
    getcontext(&inside);
    inside.uc_stack.ss_sp = stack;
    inside.uc_stack.ss_size = STACK_SIZE;
    makecontext(&inside, run_call, 0);
    swapcontext(&outside, &inside);
    while (clean < STACK_SIZE && stack[clean] == PAINT)
        clean++;
    return STACK_SIZE - clean;
}

int main(void)
{
    const struct timespec pause = {.tv_nsec = 60 * 1000 * 1000};
    size_t most = 0;

    stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED)
        return 1;
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
            size_t used;

            call = calls[i];
            used = measure();
            most = used > most ? used : most;
        }
        /* What is known of the memory that is left is asked for anew after a while. */
        nanosleep(&pause, NULL);
    }
    printf("%zu\n", most);
    return 0;
}
