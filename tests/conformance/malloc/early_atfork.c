/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library whose constructor registers handlers of fork() that allocate: in a program that is
 * linked with it, before anything was allocated; in one that opens it, until it is closed.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of prepare, parent and child. */
static int calls[3];

/* How often each was run. */
const int *early_atfork_calls(void);

const int *early_atfork_calls(void)
{
    return calls;
}

static void use_memory(int handler)
{
    FILE *stream = fopen("/dev/null", "w");
    char *small = malloc(1000), *large = malloc(500000);

    if (!stream || !small || !large)
        abort();
    memset(large, handler, 500000);
    fprintf(stream, "%s", strcpy(small, "written"));
    fclose(stream);
    free(small);
    free(large);
    calls[handler]++;
}

static void prepare(void)
{
    use_memory(0);
}
static void parent(void)
{
    use_memory(1);
}
static void child(void)
{
    use_memory(2);
}

/* The C library's function for programs that were linked when it had just the one. */
#ifdef OLD_ATFORK
extern int old_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));
__asm__(".symver old_atfork, pthread_atfork@GLIBC_2.2.5");
#else
#define old_atfork pthread_atfork
#endif

__attribute__((constructor)) static void begin(void)
{
    old_atfork(prepare, parent, child);
}
