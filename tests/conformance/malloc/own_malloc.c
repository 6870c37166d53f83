/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program with an allocator of its own, which cannot free before main has begun: libraries that
 * are loaded before may ask for memory, but do not give any back.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEAP_SIZE ((size_t)64 << 20)
#define UNIT 16

static char heap[HEAP_SIZE] __attribute__((aligned(UNIT)));
static size_t used;
static bool main_has_begun;

void *malloc(size_t size)
{
    size_t need = (size + 2 * UNIT - 1) & ~(size_t)(UNIT - 1);
    size_t *start = (void *)(heap + __atomic_fetch_add(&used, need, __ATOMIC_RELAXED));

    if ((char *)start + need > heap + HEAP_SIZE) {
        errno = ENOMEM;
        return NULL;
    }
    *start = size;
    return (char *)start + UNIT;
}

void free(void *p)
{
    if (p && !main_has_begun) {
        write(STDERR_FILENO, "freed too early\n", 16);
        _exit(3);
    }
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

int main(void)
{
    char *p;

    main_has_begun = true;
    p = malloc(100000);
    printf("%d\n", p >= heap && p < heap + HEAP_SIZE);
    free(p);
    return 0;
}
