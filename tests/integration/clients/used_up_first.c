/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Uses up the memory that it may have, and only then starts its first thread, whose stack is there
 * already. Ends with 0 where each of the thread's calls had a block with its bytes, or NULL with
 * ENOMEM.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum {
    LIMIT = 50 << 20,
    LARGEST = 16 << 20,
    STACK_SIZE = 1 << 20,
    CALLS = 100,
    /* What pthread_create() itself may want: some of each size class, as its table of libraries
     * with thread-local data is as large as these are many. */
    FREED = 64,
    FREED_FROM = 256,
    FREED_STEP = 64,
    FREED_SIZES = 12,
};

static char stack[STACK_SIZE] __attribute__((aligned(4096)));

static bool call(size_t size)
{
    unsigned char *p;

    errno = 0;
    p = calloc(1, size);
    if (!p)
        return errno == ENOMEM;
    for (size_t i = 0; i < size; i++)
        if (p[i] != 0)
            return false;
    memset(p, 7, size);
    free(p);
    return true;
}

static void *begin(void *argument)
{
    bool *is_right = argument;

    *is_right = true;
    for (size_t i = 1; i <= CALLS; i++)
        *is_right &= call(i);
    return NULL;
}

static void use_up(void)
{
    static void **list;

    for (size_t size = LARGEST; size >= sizeof(void *); size /= 2) {
        void **p;

        while ((p = malloc(size))) {
            *p = list;
            list = p;
        }
    }
}

int main(void)
{
    struct rlimit limit = {LIMIT, LIMIT};
    pthread_attr_t attributes;
    void *freed[FREED];
    bool is_right = false;
    pthread_t thread;

    for (int i = 0; i < FREED; i++)
        freed[i] = malloc(FREED_FROM + (size_t)(i % FREED_SIZES) * FREED_STEP);
    if (pthread_attr_init(&attributes) != 0 ||
        pthread_attr_setstack(&attributes, stack, sizeof(stack)) != 0 ||
        setrlimit(RLIMIT_DATA, &limit) != 0)
        return 2;
    use_up();
    for (int i = 0; i < FREED; i++)
        free(freed[i]);
    if (pthread_create(&thread, &attributes, begin, &is_right) != 0)
        return 3;
    pthread_join(thread, NULL);
    return is_right ? 0 : 1;
}
