/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the exported functions of the malloc family have in common: the two tests that their fast
 * paths make, and the slow paths behind them.
 *
 * A size below the threshold and an address outside the windows go to jemalloc by a tail call; the
 * test costs one relaxed load and one compare. Calls before the constructor see a threshold of
 * SIZE_MAX and no window, so there is no "not ready" state.
 */
#ifndef BERTH_HOOKS_MALLOC_PATH_H
#define BERTH_HOOKS_MALLOC_PATH_H

#include "alloc/types.h"
#include "pmem/gate.h"
#include "pmem/jemalloc.h"

#include <stdbool.h>
#include <stddef.h>

static inline bool berth__malloc_is_plain(size_t size)
{
    return BERTH_LIKELY(size < atomic_load_explicit(&berth__gate.threshold, memory_order_relaxed));
}

/*
 * A block of at least the threshold, for the call that returns to `return_address`. Alignment is a
 * power of two, 1 for none. NULL with errno = ENOMEM.
 */
void *berth__malloc_place(size_t size, size_t alignment, bool zero, const void *return_address);
/* realloc() when the block lies in a window or the size reaches the threshold. */
void *berth__malloc_replace(void *p, size_t size, const void *return_address);
/* free() of a block in a window. */
void berth__malloc_release(void *p);

/* Any size; the common body of what takes an alignment. */
static inline void *berth__malloc_aligned(size_t alignment, size_t size, const void *return_address)
{
    if (berth__malloc_is_plain(size))
        return berth_je_memalign(alignment, size);
    return berth__malloc_place(size, alignment, false, return_address);
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
