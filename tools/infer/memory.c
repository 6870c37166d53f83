/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Written by the thread that allocates, read by the statistics: relaxed counters. Indexed by tag;
 * tags have four bits. */
static _Atomic uint64_t held_bytes[16];

void *berth__memory_alloc(enum berth_tag tag, size_t size_bytes)
{
    size_t rounded = (size_bytes + BERTH_MEMORY_ALIGN - 1) & ~(BERTH_MEMORY_ALIGN - 1);
    void *memory;

    if (rounded < size_bytes) {
        errno = ENOMEM;
        return NULL;
    }
    if (rounded == 0)
        rounded = BERTH_MEMORY_ALIGN;
    berth_tag_push(tag);
    memory = aligned_alloc(BERTH_MEMORY_ALIGN, rounded);
    berth_tag_pop();
    if (memory)
        atomic_fetch_add_explicit(&held_bytes[tag & 15], size_bytes, memory_order_relaxed);
    return memory;
}

void berth__memory_free(enum berth_tag tag, void *memory, size_t size_bytes)
{
    if (!memory)
        return;
    free(memory);
    atomic_fetch_sub_explicit(&held_bytes[tag & 15], size_bytes, memory_order_relaxed);
}

void berth__memory_lend(enum berth_tag tag, size_t size_bytes)
{
    atomic_fetch_add_explicit(&held_bytes[tag & 15], size_bytes, memory_order_relaxed);
}

void berth__memory_return(enum berth_tag tag, size_t size_bytes)
{
    atomic_fetch_sub_explicit(&held_bytes[tag & 15], size_bytes, memory_order_relaxed);
}

uint64_t berth__memory_held(enum berth_tag tag)
{
    return atomic_load_explicit(&held_bytes[tag & 15], memory_order_relaxed);
}
