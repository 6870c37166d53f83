/* SPDX-License-Identifier: Apache-2.0 */
/* A plug-in for site_plugins.c: frames of PAD bytes, one in another, with and without a base
 * pointer. */
#include <stdlib.h>

void *plugin_allocate(size_t size, int depth);

__attribute__((noinline)) static void *inner(size_t size, int depth)
{
    volatile char pad[PAD];
    void *p;

    pad[0] = 0;
    p = depth > 0 ? inner(size + (size_t)pad[0], depth - 1) : malloc(size);
    pad[1] = 1;
    return p;
}

void *plugin_allocate(size_t size, int depth)
{
    volatile char pad[PAD];
    void *p;

    pad[0] = 1;
#if defined(NO_BASE_POINTER) && defined(__x86_64__)
    /* What was a pointer to a frame in another plug-in's code points nowhere in this one's. */
    __asm__ volatile("movl $4096, %%ebp" ::: "rbp");
#endif
    p = inner(size, depth + pad[0] - 1);
    pad[1] = 2;
    return p;
}
