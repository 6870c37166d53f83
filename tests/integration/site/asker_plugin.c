/* SPDX-License-Identifier: Apache-2.0 */
/* A library that asks for a block and is closed again: its names must stay. */
#include <stdlib.h>

void *plugin_ask(size_t size);

/* In a library without a build id, the name alone may tell a build from the next. */
#ifdef OTHER
#define plugin_inside plugin_other_
#define SEEN __attribute__((visibility("default")))
#elif defined(ONE)
#define SEEN __attribute__((visibility("default")))
#else
#define SEEN static
#endif

SEEN __attribute__((noinline)) void *plugin_inside(size_t size);
SEEN __attribute__((noinline)) void *plugin_inside(size_t size)
{
    void *p = malloc(size);

    __asm__ volatile("" ::"r"(p) : "memory");
    return p;
}

void *plugin_ask(size_t size)
{
    void *p = plugin_inside(size);

    __asm__ volatile("" ::"r"(p) : "memory");
    return p;
}
