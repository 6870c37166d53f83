/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program with jansson whose memory is its own: a header before each block, and no lock, for one
 * thread alone uses it. Prints its process id, waits for a line, and prints how often others
 * called.
 */
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HEADER 32

static pthread_t owner;
static atomic_uint strangers;

static void *get(size_t size)
{
    char *p = malloc(size + HEADER);

    if (!pthread_equal(owner, pthread_self()))
        strangers++;
    return p ? p + HEADER : NULL;
}

static void put(void *p)
{
    if (p)
        free((char *)p - HEADER);
}

int main(void)
{
    json_t *json;

    owner = pthread_self();
    json_set_alloc_funcs(get, put);
    printf("%d\n", (int)getpid());
    fflush(stdout);
    if (getchar() == EOF)
        return EXIT_FAILURE;
    json = json_loads("{\"a\": [1, 2, 3]}", 0, NULL);
    printf("%u calls by others, %s\n", strangers, json ? "its own right" : "its own wrong");
    json_decref(json);
    return EXIT_SUCCESS;
}
