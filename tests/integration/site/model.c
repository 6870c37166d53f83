/* SPDX-License-Identifier: Apache-2.0 */
/* A library whose two functions allocate through the same wrapper: only the path tells them apart.
 */
#include <stddef.h>

void *buffer_new(size_t size);
void *model_load(size_t size);
void *model_forward(size_t size);

__attribute__((noinline)) static void *layer(size_t size)
{
    void *p = buffer_new(size);

    __asm__ volatile("" ::: "memory");
    return p;
}

__attribute__((noinline)) void *model_load(size_t size)
{
    void *p = layer(size);

    __asm__ volatile("" ::: "memory");
    return p;
}

__attribute__((noinline)) void *model_forward(size_t size)
{
    void *p = layer(size);

    __asm__ volatile("" ::: "memory");
    return p;
}
