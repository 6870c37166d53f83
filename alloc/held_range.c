/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/held_range.h"

#include "alloc/types.h"

#include <stdatomic.h>
#include <stdint.h>

/* An entry is taken by writing its address into `start`, and seen once `size` is not 0. */
struct held_range {
    _Atomic uintptr_t start;
    _Atomic size_t size;
};

struct held_ranges {
    _Atomic unsigned used;   /* entries that were ever taken */
    _Atomic unsigned untold; /* ranges that found none */
    struct held_range range[BERTH_HELD_RANGES_MAX];
};

extern BERTH_SHARED struct held_ranges berth__held_ranges;
struct held_ranges berth__held_ranges;

void berth__held_range_add(const void *address, size_t size)
{
    struct held_ranges *held = &berth__held_ranges;

    if (!address || size == 0)
        return;
    for (unsigned i = 0; i < BERTH_HELD_RANGES_MAX; i++) {
        uintptr_t none = 0;
        unsigned used = atomic_load(&held->used);

        if (!atomic_compare_exchange_strong(&held->range[i].start, &none, (uintptr_t)address))
            continue;
        while (used <= i && !atomic_compare_exchange_weak(&held->used, &used, i + 1))
            ;
        atomic_store(&held->range[i].size, size);
        return;
    }
    atomic_fetch_add(&held->untold, 1);
}

void berth__held_range_remove(const void *address)
{
    struct held_ranges *held = &berth__held_ranges;
    unsigned used = atomic_load(&held->used);

    for (unsigned i = 0; i < used; i++)
        if (atomic_load(&held->range[i].start) == (uintptr_t)address && address) {
            atomic_store(&held->range[i].size, 0);
            atomic_store(&held->range[i].start, 0);
            return;
        }
}

bool berth__held_range_overlaps(const void *address, size_t size)
{
    struct held_ranges *held = &berth__held_ranges;
    unsigned used = atomic_load(&held->used);
    uintptr_t first = (uintptr_t)address;

    if (atomic_load(&held->untold) > 0)
        return true;
    for (unsigned i = 0; i < used; i++) {
        size_t held_size = atomic_load(&held->range[i].size);
        uintptr_t start = atomic_load(&held->range[i].start);

        if (held_size > 0 && start < first + size && first < start + held_size)
            return true;
    }
    return false;
}
