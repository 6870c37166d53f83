/* SPDX-License-Identifier: Apache-2.0 */
/* A library of allocation wrappers, several frames deep, that is stripped when it is linked. */
#include <stdlib.h>

void *buffer_new(size_t size);

/* Keeps a call from becoming a jump, which would leave no frame. */
#define KEEP() __asm__ volatile("" ::: "memory")

__attribute__((noinline)) static void *buffer_raw(size_t size)
{
    void *p = malloc(size);

    KEEP();
    return p;
}

__attribute__((noinline)) static void *buffer_checked(size_t size)
{
    void *p = buffer_raw(size);

    if (!p)
        abort();
    return p;
}

__attribute__((noinline, visibility("default"))) void *buffer_new(size_t size)
{
    void *p = buffer_checked(size);

    KEEP();
    return p;
}
