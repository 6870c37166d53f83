/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program with an allocator of its own that is not to be entered by the thread that serves
 * Berth's socket, whose descriptors are others than the program's.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define HEAP_SIZE ((size_t)256 << 20)
#define UNIT 16

static char heap[HEAP_SIZE] __attribute__((aligned(UNIT)));
static size_t used;

static void look_who_calls(void)
{
    char name[16] = "";

    prctl(PR_GET_NAME, name);
    if (strcmp(name, "berth-socket") == 0) {
        write(STDERR_FILENO, "entered\n", 8);
        abort();
    }
}

void *malloc(size_t size)
{
    size_t need = (size + 2 * UNIT - 1) & ~(size_t)(UNIT - 1);
    size_t *start = (void *)(heap + __atomic_fetch_add(&used, need, __ATOMIC_RELAXED));

    look_who_calls();
    if ((char *)start + need > heap + HEAP_SIZE) {
        errno = ENOMEM;
        return NULL;
    }
    *start = size;
    return (char *)start + UNIT;
}

void free(void *p)
{
    (void)p;
    look_who_calls();
}

void *calloc(size_t count, size_t size)
{
    return malloc(count * size); /* never used before, and so zero */
}

void *realloc(void *p, size_t size)
{
    void *to = malloc(size);

    if (to && p) {
        size_t before = *(size_t *)(void *)((char *)p - UNIT);

        memcpy(to, p, before < size ? before : size);
    }
    return to;
}

/* Runs until its input ends. */
int main(void)
{
    while (getchar() != EOF)
        ;
    puts("never entered");
    return 0;
}
