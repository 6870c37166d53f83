/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program whose malloc() and free() look the real ones up when they are first called, and so
 * cannot be called by what looks a name up: natively none is, as long as each name is found.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

void *malloc(size_t size)
{
    static void *(*next)(size_t);

    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "malloc");
    return next(size);
}

void free(void *p)
{
    static void (*next)(void *);

    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "free");
    next(p);
}

int main(void)
{
    void *p = malloc(300000);

    free(p);
    puts(p ? "1" : "0");
    return 0;
}
