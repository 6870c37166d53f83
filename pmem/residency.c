/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/residency.h"

#include "alloc/log.h"
#include "pmem/page_set.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

/* An entry's lock is free in no time, unless its holder does not run. */
#define SPINS_BEFORE_YIELD 64
/* Two threads may want the home at once: this often the second one looks whether it is made. */
#define OPEN_YIELDS_MAX 10000

enum { CLOSED = 0, OPENING, OPEN, REFUSED };

static struct {
    _Atomic int state;
    uintptr_t base; /* of the window; this and the next three are fixed once OPEN is seen */
    struct berth_residence *entries;
    struct berth_page_set live; /* blocks' first pages */
    struct berth_page_set with_twin;
    _Atomic size_t size;                     /* of the entries; 0 once some were given back */
    _Atomic uint64_t remapped_count;         /* derived: live entries whose word says REMAPPED */
    _Atomic uint64_t twin_count, twin_bytes; /* derived: of live entries */
} map;

static uint64_t physical_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);

    return pages > 0 ? (uint64_t)pages << BERTH_OS_PAGE_SHIFT : 0;
}

/* What the map has for addresses that the window has given back goes back, too; once. */
static void fit(void)
{
    size_t size = atomic_exchange(&map.size, 0);
    uintptr_t used =
        (uintptr_t)berth__residence((void *)(map.base + berth__window_used(BERTH_HOME_MOVABLE)));

    used = (used + BERTH_OS_PAGE - 1) & ~(uintptr_t)(BERTH_OS_PAGE - 1);
    if (used < (uintptr_t)map.entries + size)
        munmap((void *)used, (uintptr_t)map.entries + size - used);
    berth__page_set_fit(&map.live, berth__window_used(BERTH_HOME_MOVABLE));
    berth__page_set_fit(&map.with_twin, berth__window_used(BERTH_HOME_MOVABLE));
}

static bool make(void)
{
    size_t size;
    void *entries;

    /* Blocks in far tiers have addresses here, too: there may be more of them than memory. */
    if (berth__window_open(BERTH_HOME_MOVABLE, 4 * physical_memory()) < 0)
        return false;
    size = berth__window_size(BERTH_HOME_MOVABLE);
    map.base = berth__window_base(BERTH_HOME_MOVABLE);
    /* Addresses alone: of a window's entries most are never used, and limits of memory count all
     * that can be written. */
    entries = mmap(NULL, (size >> BERTH_OS_PAGE_SHIFT) * sizeof(struct berth_residence), PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (entries == MAP_FAILED)
        return false;
    /* Debuggers that write a core read what cannot be read, too: a gigabyte of nothing. */
    madvise(entries, (size >> BERTH_OS_PAGE_SHIFT) * sizeof(struct berth_residence), MADV_DONTDUMP);
    map.entries = entries;
    if (berth__page_set_init(&map.live, size) < 0)
        goto err_entries;
    if (berth__page_set_init(&map.with_twin, size) < 0)
        goto err_live;
    map.size = (size >> BERTH_OS_PAGE_SHIFT) * sizeof(struct berth_residence);
    berth__window_when_closed(fit);
    return true;

err_live:
    berth__page_set_done(&map.live);
err_entries:
    munmap(entries, (size >> BERTH_OS_PAGE_SHIFT) * sizeof(struct berth_residence));
    return false;
}

bool berth__residency_is_open(void)
{
    return atomic_load_explicit(&map.state, memory_order_acquire) == OPEN;
}

bool berth__residency_open(void)
{
    int expected = CLOSED;

    if (BERTH_LIKELY(berth__residency_is_open()))
        return true;
    if (atomic_compare_exchange_strong(&map.state, &expected, OPENING)) {
        bool made = make();

        if (!made)
            berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_MOVE,
                       "no addresses are left for blocks that may move; "
                       "they are placed as if their rules did not say so");
        atomic_store_explicit(&map.state, made ? OPEN : REFUSED, memory_order_release);
        return made;
    }
    for (int i = 0; i < OPEN_YIELDS_MAX && map.state == OPENING; i++)
        sched_yield();
    return berth__residency_is_open();
}

bool berth__residency_reach(const void *p, size_t size)
{
    uintptr_t first = (uintptr_t)berth__residence(p) & ~(uintptr_t)(BERTH_OS_PAGE - 1);
    uintptr_t end = (uintptr_t)berth__residence((const char *)p + size);
    size_t offset = (uintptr_t)p - map.base;

    if (berth__page_set_reach(&map.live, offset, size) < 0 ||
        berth__page_set_reach(&map.with_twin, offset, size) < 0)
        return false;
    return mprotect((void *)first, end - first, PROT_READ | PROT_WRITE) == 0;
}

struct berth_residence *berth__residence(const void *p)
{
    return &map.entries[((uintptr_t)p - map.base) >> BERTH_OS_PAGE_SHIFT];
}

berth_tier_id berth__residence_tier(const void *p)
{
    return (berth_tier_id)(atomic_load_explicit(&berth__residence(p)->word, memory_order_acquire) &
                           BERTH_RESIDENCE_TIER);
}

uint32_t berth__residence_lock(struct berth_residence *entry)
{
    for (unsigned spins = 0;; spins++) {
        uint32_t word =
            atomic_fetch_or_explicit(&entry->word, BERTH_RESIDENCE_LOCKED, memory_order_acquire);

        if (!(word & BERTH_RESIDENCE_LOCKED))
            return word;
        if (spins >= SPINS_BEFORE_YIELD)
            sched_yield();
    }
}

void berth__residence_unlock(struct berth_residence *entry, uint32_t word)
{
    atomic_store_explicit(&entry->word, word & ~BERTH_RESIDENCE_LOCKED, memory_order_release);
}

void berth__residence_add(const void *p, size_t held, uint32_t word, const void *twin)
{
    struct berth_residence *entry = berth__residence(p);

    atomic_store_explicit(&entry->pages, (uint32_t)(held >> BERTH_OS_PAGE_SHIFT),
                          memory_order_relaxed);
    berth__residence_set_twin(p, twin);
    if (word & BERTH_RESIDENCE_REMAPPED)
        berth__residence_note_remapped();
    atomic_store_explicit(&entry->word, word, memory_order_release);
    berth__page_set_add(&map.live, (uintptr_t)p - map.base, BERTH_OS_PAGE);
}

void berth__residence_remove(const void *p)
{
    struct berth_residence *entry = berth__residence(p);

    berth__page_set_remove(&map.live, (uintptr_t)p - map.base, BERTH_OS_PAGE);
    berth__residence_set_twin(p, NULL);
    if (atomic_load_explicit(&entry->word, memory_order_relaxed) & BERTH_RESIDENCE_REMAPPED)
        atomic_fetch_sub_explicit(&map.remapped_count, 1, memory_order_relaxed);
    atomic_store_explicit(&entry->word, 0, memory_order_release);
}

static void count_twin(const struct berth_residence *entry, bool more)
{
    uint64_t bytes = (uint64_t)atomic_load_explicit(&entry->pages, memory_order_relaxed)
                     << BERTH_OS_PAGE_SHIFT;

    atomic_fetch_add_explicit(&map.twin_count, more ? 1 : UINT64_MAX, memory_order_relaxed);
    atomic_fetch_add_explicit(&map.twin_bytes, more ? bytes : -bytes, memory_order_relaxed);
}

void berth__residence_set_twin(const void *p, const void *twin)
{
    struct berth_residence *entry = berth__residence(p);
    size_t offset = (uintptr_t)p - map.base;
    bool had = atomic_load_explicit(&entry->twin, memory_order_relaxed) != 0;

    atomic_store_explicit(&entry->twin, (uintptr_t)twin, memory_order_release);
    if (had != (twin != NULL))
        count_twin(entry, !had);
    if (twin)
        berth__page_set_add(&map.with_twin, offset, BERTH_OS_PAGE);
    else
        berth__page_set_remove(&map.with_twin, offset, BERTH_OS_PAGE);
}

uint64_t berth__residency_twin_count(void)
{
    return atomic_load_explicit(&map.twin_count, memory_order_relaxed);
}

uint64_t berth__residency_twin_bytes(void)
{
    return atomic_load_explicit(&map.twin_bytes, memory_order_relaxed);
}

void berth__residence_note_remapped(void)
{
    atomic_fetch_add_explicit(&map.remapped_count, 1, memory_order_relaxed);
}

uint64_t berth__residency_remapped_count(void)
{
    return atomic_load_explicit(&map.remapped_count, memory_order_relaxed);
}

static bool next_in(const struct berth_page_set *set, const void **p)
{
    size_t offset = *p ? (uintptr_t)*p - map.base : 0;
    size_t size;

    if (!berth__residency_is_open() ||
        !berth__page_set_next(set, berth__window_used(BERTH_HOME_MOVABLE), &offset, &size))
        return false;
    *p = (const void *)(map.base + offset);
    return true;
}

bool berth__residency_next(const void **p)
{
    return next_in(&map.live, p);
}

bool berth__residency_next_twin(const void **p)
{
    return next_in(&map.with_twin, p);
}
