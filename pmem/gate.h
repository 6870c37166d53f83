/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the malloc family looks at on every call: one cache line, read without any lock.
 * berth__table_update_gate() sets the thresholds.
 *
 * An allocation below `threshold` cannot match a rule and is not accounted by itself: it goes to
 * jemalloc's plain fast path. A pointer outside the windows was allocated there. Constant-
 * initialised so that calls before any constructor take the plain path.
 */
#ifndef BERTH_PMEM_GATE_H
#define BERTH_PMEM_GATE_H

#include "alloc/types.h"

#include <stdatomic.h>
#include <stdbool.h>

/*
 * jemalloc's only size class that is not aligned for every type, as the C library's blocks are: the
 * malloc family asks for the next one instead.
 */
#define BERTH_TINY_MAX ((size_t)8)
#define BERTH_BLOCK_MIN ((size_t)16)

struct berth_gate {
    _Atomic size_t threshold; /* SIZE_MAX until bootstrap, or when nothing is looked at */
    /* How many sizes from BERTH_TINY_MAX + 1 on lie below the threshold: both tests in one. */
    _Atomic size_t plain_count;
    _Atomic size_t site_threshold; /* from here on the call site is captured; SIZE_MAX = never */
    _Atomic size_t device_site_threshold; /* the same for device blocks */
    _Atomic uintptr_t
        window_base;            /* Berth's one address reservation; written once, base first... */
    _Atomic size_t window_size; /* ...and size last (release); 0 = no reservation */
    _Atomic uint64_t glance_epoch; /* of pmem/glance.h; 0 = small blocks are not looked at */
    /* Once parts of the reservation are given back, whether an address lies in what is left. */
    _Atomic(bool (*)(const void *)) is_kept;
} __attribute__((aligned(64)));

extern BERTH_SHARED struct berth_gate berth__gate;

/* Whoever changes the threshold sees to it that nobody else does at the time. */
void berth__gate_set_threshold(size_t threshold);

/* Whether `p` lies in some window. */
static inline bool berth__gate_owns(const void *p)
{
    /* In this order: a size that is seen comes with its base. */
    size_t size = atomic_load_explicit(&berth__gate.window_size, memory_order_acquire);
    uintptr_t base = atomic_load_explicit(&berth__gate.window_base, memory_order_relaxed);
    bool (*is_kept)(const void *);

    if (BERTH_LIKELY((uintptr_t)p - base >= size))
        return false;
    is_kept = atomic_load_explicit(&berth__gate.is_kept, memory_order_relaxed);
    return BERTH_LIKELY(!is_kept) || is_kept(p);
}

#endif
