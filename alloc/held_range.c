/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/held_range.h"

#include "alloc/types.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>

/*
 * An entry is taken by writing its address into `start`, and seen once its size is not 0. Beside
 * the size is the number of the range among those that the entry was, so that whoever finds both as
 * they were knows that `start` was this range's in between.
 */
struct held_range {
    _Atomic uintptr_t start;
    _Atomic uint64_t numbered_size;
};
#define SIZE_BITS 48 /* larger ranges are untold */

static uint64_t size_of(uint64_t numbered_size)
{
    return numbered_size & (((uint64_t)1 << SIZE_BITS) - 1);
}

/* Made when those before it are full; its size is table_size()'s. */
struct held_table {
    _Atomic(struct held_range *) range; /* NULL until then, and in the first, whose are `first` */
    _Atomic unsigned used;              /* entries that were ever taken */
    _Atomic unsigned taken;             /* entries that are, or are about to be */
    _Atomic unsigned next;              /* where a free one is looked for first */
};

struct held_ranges {
    _Atomic unsigned untold;  /* ranges for which there was no memory: from then on all is held */
    _Atomic unsigned entered; /* counts ranges, each once it is seen */
    struct held_table table[BERTH_HELD_TABLES_MAX];
    struct held_range first[BERTH_HELD_RANGES_FIRST];
};

extern BERTH_SHARED struct held_ranges berth__held_ranges;
struct held_ranges berth__held_ranges;

static unsigned table_size(unsigned index)
{
    return (unsigned)BERTH_HELD_RANGES_FIRST << index;
}

/* The table's entries; with `make` they are there, unless there is no memory. */
static struct held_range *entries_of(unsigned index, bool make)
{
    struct held_table *table = &berth__held_ranges.table[index];
    size_t size = table_size(index) * sizeof(struct held_range);
    struct held_range *range = atomic_load(&table->range), *expected = NULL;

    if (index == 0)
        return berth__held_ranges.first;
    if (range || !make)
        return range;
    range = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (range == MAP_FAILED)
        return NULL;
    if (atomic_compare_exchange_strong(&table->range, &expected, range))
        return range;
    munmap(range, size);
    return expected;
}

/* Called with one of the table's entries counted for us: there is a free one. */
static void enter(struct held_table *table, struct held_range *range, unsigned count,
                  uintptr_t address, size_t size)
{
    unsigned used = atomic_load(&table->used);
    unsigned i = atomic_load(&table->next) % count;
    uintptr_t none = 0;
    uint64_t number;

    while (!atomic_compare_exchange_strong(&range[i].start, &none, address)) {
        i = (i + 1) % count;
        none = 0;
    }
    while (used <= i && !atomic_compare_exchange_weak(&table->used, &used, i + 1))
        ;
    atomic_store(&table->next, i + 1);
    number = (atomic_load(&range[i].numbered_size) >> SIZE_BITS) + 1;
    atomic_store(&range[i].numbered_size, number << SIZE_BITS | size);
}

void berth__held_range_add(const void *address, size_t size)
{
    int saved_errno = errno;

    if (!address || size == 0)
        return;
    for (unsigned k = 0; k < BERTH_HELD_TABLES_MAX && size_of(size) == size; k++) {
        struct held_table *table = &berth__held_ranges.table[k];
        struct held_range *range = entries_of(k, true);

        if (!range)
            break;
        if (atomic_fetch_add(&table->taken, 1) < table_size(k)) {
            enter(table, range, table_size(k), (uintptr_t)address, size);
            atomic_fetch_add(&berth__held_ranges.entered, 1);
            errno = saved_errno;
            return;
        }
        atomic_fetch_sub(&table->taken, 1);
    }
    atomic_fetch_add(&berth__held_ranges.untold, 1);
    errno = saved_errno;
}

/*
 * Takes the entry if it is that range: of two threads that remove it one succeeds. One that became
 * another's between the two looks, be it of the same size, has another number.
 */
static bool entry_take(struct held_range *entry, uintptr_t address, size_t size)
{
    uint64_t held = atomic_load(&entry->numbered_size);

    return atomic_load(&entry->start) == address && size_of(held) != 0 &&
           (size == 0 || size_of(held) == size) &&
           atomic_compare_exchange_strong(&entry->numbered_size, &held, held - size_of(held));
}

/* `size` 0: of any size. */
static bool remove_from(struct held_table *table, struct held_range *range, uintptr_t address,
                        size_t size)
{
    unsigned used = atomic_load(&table->used);

    for (unsigned i = 0; i < used; i++)
        if (entry_take(&range[i], address, size)) {
            atomic_store(&range[i].start, 0);
            atomic_store(&table->next, i);
            atomic_fetch_sub(&table->taken, 1);
            return true;
        }
    return false;
}

static bool remove_once(uintptr_t address, size_t size)
{
    for (unsigned k = 0; k < BERTH_HELD_TABLES_MAX; k++) {
        struct held_range *range = entries_of(k, false);

        if (!range)
            return false;
        if (remove_from(&berth__held_ranges.table[k], range, address, size))
            return true;
    }
    return false;
}

/*
 * Another thread that removes a range like it may have taken ours, and its own have come where we
 * had looked before: so it is looked for again as long as ranges are entered meanwhile.
 */
static void remove_sized(const void *address, size_t size)
{
    unsigned entered;

    do
        entered = atomic_load(&berth__held_ranges.entered);
    while (address && !remove_once((uintptr_t)address, size) &&
           atomic_load(&berth__held_ranges.entered) != entered);
}

void berth__held_range_remove(const void *address)
{
    remove_sized(address, 0);
}

void berth__held_range_undo(const void *address, size_t size)
{
    if (size > 0)
        remove_sized(address, size);
}

static bool overlaps_in(const struct held_table *table, struct held_range *range, uintptr_t first,
                        size_t size)
{
    unsigned used = atomic_load(&table->used);

    for (unsigned i = 0; i < used; i++) {
        uint64_t held_size = size_of(atomic_load(&range[i].numbered_size));
        uintptr_t start = atomic_load(&range[i].start);

        if (held_size > 0 && start < first + size && first < start + held_size)
            return true;
    }
    return false;
}

bool berth__held_range_overlaps(const void *address, size_t size)
{
    if (atomic_load(&berth__held_ranges.untold) > 0)
        return true;
    for (unsigned k = 0; k < BERTH_HELD_TABLES_MAX; k++) {
        struct held_range *range = entries_of(k, false);

        if (!range)
            return false;
        if (overlaps_in(&berth__held_ranges.table[k], range, (uintptr_t)address, size))
            return true;
    }
    return false;
}
