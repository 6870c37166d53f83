/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For programs.py: a server that has a thread for each request. One after the other begins, makes
 * five small blocks, writes to them, frees them, and ends.
 *
 * usage: short_threads THREADS
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS 5
#define SIZE_MIN 16
#define SIZE_STEP 40

static void fail(const char *what)
{
    fprintf(stderr, "short_threads: %s\n", what);
    exit(1);
}

static void *answer(void *argument)
{
    char *block[BLOCKS];

    for (int i = 0; i < BLOCKS; i++) {
        block[i] = malloc(SIZE_MIN + (size_t)i * SIZE_STEP);
        if (!block[i])
            fail("there is no memory");
        memset(block[i], i, SIZE_MIN);
    }
    for (int i = 0; i < BLOCKS; i++)
        free(block[i]);
    return argument;
}

int main(int argc, char **argv)
{
    long count = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
    pthread_t thread;

    if (count <= 0)
        fail("usage: short_threads THREADS");
    while (count-- > 0)
        if (pthread_create(&thread, NULL, answer, NULL) != 0 || pthread_join(thread, NULL) != 0)
            fail("no thread can be had");
    return 0;
}
