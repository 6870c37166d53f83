/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the exported functions of the malloc family have in common: the two tests that their fast
 * paths make, and the slow paths behind them.
 *
 * A size below the threshold and an address outside the windows go to jemalloc by a tail call; the
 * test costs one relaxed load and one compare. Calls before the constructor see a threshold of
 * SIZE_MAX and no window, so there is no "not ready" state. Tiny sizes take the slow path too,
 * where they are made large enough to be aligned for every type.
 */
#ifndef BERTH_HOOKS_MALLOC_PATH_H
#define BERTH_HOOKS_MALLOC_PATH_H

#include "alloc/types.h"
#include "pmem/gate.h"
#include "pmem/glance.h"
#include "pmem/jemalloc.h"
#include "pmem/sample.h"

#include <stdbool.h>
#include <stddef.h>

/* Exports a function of the same file under the C library's own name for it. */
#if __has_attribute(copy)
#define BERTH_MALLOC_ALIAS(of) __attribute__((alias(#of), visibility("default"), copy(of)))
#else
#define BERTH_MALLOC_ALIAS(of) __attribute__((alias(#of), visibility("default")))
#endif
/* The same for this library alone: the name of the function itself may be the program's. */
#define BERTH_MALLOC_OWN(of) __attribute__((alias(#of), visibility("hidden")))

static inline bool berth__malloc_is_below(size_t size)
{
    return BERTH_LIKELY(size < atomic_load_explicit(&berth__gate.threshold, memory_order_relaxed));
}

/* The same, and the size is not tiny. */
static inline bool berth__malloc_is_plain(size_t size)
{
    return BERTH_LIKELY(size - (BERTH_TINY_MAX + 1) <
                        atomic_load_explicit(&berth__plain.count, memory_order_relaxed));
}

/*
 * The same where samples are taken, or rules speak of small blocks, and none of what this call asks
 * for. Asked where a size is not plain: by functions of their own, so that the plain path stays
 * short.
 */
static inline bool berth__malloc_is_plain_at(size_t size, const void *return_address)
{
    if (size <= BERTH_TINY_MAX)
        return false;
    if (!berth__malloc_is_below(size) && !berth__glance_is_plain(size, return_address))
        return false;
    return berth__sample_passes(size);
}

/* What jemalloc is asked for instead of a size that is not plain only because it is tiny. */
static inline size_t berth__malloc_at_least(size_t size)
{
    return size > BERTH_BLOCK_MIN ? size : BERTH_BLOCK_MIN;
}

/* malloc() of a size that is not plain. */
void *berth__malloc_look(size_t size, const void *return_address);
/* calloc() of a product that is not plain, or that overflows. */
void *berth__malloc_look_zeroed(size_t count, size_t size, const void *return_address);
/* realloc() of a block in a window, or to a size that is not plain. */
void *berth__malloc_look_again(void *p, size_t size, const void *return_address);
/* Where jemalloc's realloc had no memory, which forgets errno for sizes beyond its largest class.
 */
void *berth__malloc_fail_again(void);
/* A block of any alignment whose size is not plain. */
void *berth__malloc_look_aligned(size_t alignment, size_t size, const void *return_address);
/* operator new of a size that is not plain; and where jemalloc had no memory. */
void *berth__malloc_look_new(size_t size, const void *return_address);
void *berth__malloc_fail_new(size_t size);
/* operator delete of a block that seems to lie in a window, or that a library's is to have. */
void berth__malloc_drop_new(void *p);
void berth__malloc_drop_aligned(void *p, size_t alignment);

/*
 * A block whose size is not plain, for the call that returns to `return_address`. Alignment is a
 * power of two, 1 for none. NULL with errno = ENOMEM.
 */
void *berth__malloc_place(size_t size, size_t alignment, bool zero, const void *return_address);
/* realloc() when the block lies in a window or the size is not plain. */
void *berth__malloc_replace(void *p, size_t size, const void *return_address);
/* free() of a block in a window. */
void berth__malloc_release(void *p);
/* free() of a block that seems to lie in a window. */
void berth__malloc_drop(void *p);

/* Any size; the common body of what takes an alignment. */
static inline void *berth__malloc_aligned(size_t alignment, size_t size, const void *return_address)
{
    if (berth__malloc_is_plain(size))
        return berth_je_memalign(alignment, size);
    return berth__malloc_look_aligned(alignment, size, return_address);
}

static inline void berth__malloc_free(void *p)
{
    if (BERTH_UNLIKELY(berth__gate_owns(p))) {
        berth__malloc_release(p);
        return;
    }
    berth_je_free(p);
}

#endif
