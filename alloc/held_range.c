/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/held_range.h"

#include "alloc/types.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>

/* An entry is taken by writing its address into `start`, and seen once `size` is not 0. */
struct held_range {
    _Atomic uintptr_t start;
    _Atomic size_t size;
};

/* Made when those before it are full; its size is table_size()'s. */
struct held_table {
    _Atomic(struct held_range *) range; /* NULL until then, and in the first, whose are `first` */
    _Atomic unsigned used;              /* entries that were ever taken */
    _Atomic unsigned taken;             /* entries that are, or are about to be */
    _Atomic unsigned next;              /* where a free one is looked for first */
};

struct held_ranges {
    _Atomic unsigned untold; /* ranges for which there was no memory: from then on all is held */
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

    while (!atomic_compare_exchange_strong(&range[i].start, &none, address)) {
        i = (i + 1) % count;
        none = 0;
    }
    while (used <= i && !atomic_compare_exchange_weak(&table->used, &used, i + 1))
        ;
    atomic_store(&table->next, i + 1);
    atomic_store(&range[i].size, size);
}

void berth__held_range_add(const void *address, size_t size)
{
    int saved_errno = errno;

    if (!address || size == 0)
        return;
    for (unsigned k = 0; k < BERTH_HELD_TABLES_MAX; k++) {
        struct held_table *table = &berth__held_ranges.table[k];
        struct held_range *range = entries_of(k, true);

        if (!range)
            break;
        if (atomic_fetch_add(&table->taken, 1) < table_size(k)) {
            enter(table, range, table_size(k), (uintptr_t)address, size);
            errno = saved_errno;
            return;
        }
        atomic_fetch_sub(&table->taken, 1);
    }
    atomic_fetch_add(&berth__held_ranges.untold, 1);
    errno = saved_errno;
}

/*
 * Takes the entry if it is that range: of two threads that remove it one succeeds. An entry that
 * became another's between the two looks gets its size back.
 */
static bool entry_take(struct held_range *entry, uintptr_t address, size_t size)
{
    size_t held = atomic_load(&entry->size);

    if (atomic_load(&entry->start) != address || held == 0 || (size != 0 && held != size) ||
        !atomic_compare_exchange_strong(&entry->size, &held, 0))
        return false;
    if (atomic_load(&entry->start) == address)
        return true;
    atomic_store(&entry->size, held);
    return false;
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

static void remove_sized(const void *address, size_t size)
{
    for (unsigned k = 0; address && k < BERTH_HELD_TABLES_MAX; k++) {
        struct held_range *range = entries_of(k, false);

        if (!range || remove_from(&berth__held_ranges.table[k], range, (uintptr_t)address, size))
            return;
    }
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
        size_t held_size = atomic_load(&range[i].size);
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
