/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From which sizes on allocations are looked at, on either side; read without any lock.
 * berth__table_update_gate() sets the thresholds.
 *
 * An allocation below `threshold` cannot match a rule and is not accounted by itself: it goes to
 * jemalloc's plain fast path. A pointer outside the windows was allocated there. Constant-
 * initialised so that calls before any constructor take the plain path. What the malloc side looks
 * at on every call, it has a copy of in plain.h.
 */
#ifndef BERTH_PMEM_GATE_H
#define BERTH_PMEM_GATE_H

#include "alloc/types.h"
#include "pmem/plain.h"

#include <stdatomic.h>
#include <stdbool.h>

struct berth_gate {
    _Atomic size_t threshold;      /* SIZE_MAX until bootstrap, or when nothing is looked at */
    _Atomic size_t site_threshold; /* from here on the call site is captured; SIZE_MAX = never */
    _Atomic size_t device_site_threshold; /* the same for device blocks */
} __attribute__((aligned(64)));

extern BERTH_SHARED struct berth_gate berth__gate;

/* Whether `p` lies in some window. Of the malloc side. */
static inline bool berth__gate_owns(const void *p)
{
    /* In this order: a size that is seen comes with its base. */
    size_t size = atomic_load_explicit(&berth__plain.window_size, memory_order_acquire);
    uintptr_t base = atomic_load_explicit(&berth__plain.window_base, memory_order_relaxed);
    bool (*is_kept)(const void *);

    if (BERTH_LIKELY((uintptr_t)p - base >= size))
        return false;
    is_kept = atomic_load_explicit(&berth__plain.is_kept, memory_order_relaxed);
    return BERTH_LIKELY(!is_kept) || is_kept(p);
}

#endif
