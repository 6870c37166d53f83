/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/owed.h"

#include "alloc/tier_ops.h"
#include "pmem/arena.h"
#include "pmem/overcommit.h"
#include "pmem/residency.h"
#include "pmem/window.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>

/*
 * The last block that came, or 0; the one before it is in its entry's `twin`, with a bit that says
 * whether what was there when the block was freed is there still. (The entry's word may be locked
 * by a mover that looks whether the block is alive.)
 */
#define IN_PLACE ((uintptr_t)1)
static _Atomic uintptr_t last;
static _Atomic uint64_t bytes;

uint64_t berth__owed_bytes(void)
{
    return atomic_load_explicit(&bytes, memory_order_relaxed);
}

static struct berth_residence *entry_of(uintptr_t block)
{
    return berth__residence((const void *)block);
}

static size_t held_of(uintptr_t block)
{
    return (size_t)atomic_load_explicit(&entry_of(block)->pages, memory_order_relaxed)
           << BERTH_OS_PAGE_SHIFT;
}

static bool is_in_place(uintptr_t block)
{
    return atomic_load_explicit(&entry_of(block)->twin, memory_order_relaxed) & IN_PLACE;
}

static uintptr_t next_of(uintptr_t block)
{
    return atomic_load_explicit(&entry_of(block)->twin, memory_order_relaxed) & ~IN_PLACE;
}

static void set_next(uintptr_t block, uintptr_t next, bool in_place)
{
    atomic_store_explicit(&entry_of(block)->twin, next | (in_place ? IN_PLACE : 0),
                          memory_order_relaxed);
}

/* Puts a list back, which nobody else knows of. */
static void put(uintptr_t block)
{
    uintptr_t next = 0, end = block;

    if (atomic_compare_exchange_strong_explicit(&last, &next, block, memory_order_release,
                                                memory_order_relaxed))
        return;
    while (next_of(end) != 0)
        end = next_of(end);
    do
        set_next(end, next, is_in_place(end));
    while (!atomic_compare_exchange_weak_explicit(&last, &next, block, memory_order_release,
                                                  memory_order_relaxed));
}

static void add(uintptr_t block, size_t held, bool in_place)
{
    atomic_store_explicit(&entry_of(block)->pages, (uint32_t)(held >> BERTH_OS_PAGE_SHIFT),
                          memory_order_relaxed);
    set_next(block, 0, in_place);
    atomic_fetch_add_explicit(&bytes, held, memory_order_relaxed);
    put(block);
}

/* What jemalloc frees, it gives back of the tier's memory. */
static void give(void *p, size_t held)
{
    berth__tier_reserve_beyond(BERTH_TIER_DRAM, held);
    berth__arena_free(BERTH_HOME_MOVABLE, p, held);
}

static int make_writable(void *p, size_t held)
{
    return mprotect(p, held, PROT_READ | PROT_WRITE) < 0 ? -errno : 0;
}

/*
 * The kernel does not count what is mapped in place of something else, so that the process would
 * have more than its limit, and could get nothing more. So where there is one, what is mapped is
 * no data, and becomes so when it is writable.
 */
static int put_home_back(void *p, size_t held)
{
    bool limited = berth__overcommit_data_limit() != SIZE_MAX;
    /* As the window's other pieces are, so that the kernel makes one mapping of neighbours. */
    void *q = mmap(p, held, limited ? PROT_NONE : PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);

    if (q == MAP_FAILED)
        return -errno;
    return limited ? make_writable(p, held) : 0;
}

/*
 * Takes what is there away from everybody, without mapping anything. Its tier uses its memory anew;
 * what is nobody else's goes back.
 */
static int shut(void *p, size_t held)
{
    if (mprotect(p, held, PROT_NONE) < 0)
        return -errno;
    madvise(p, held, MADV_DONTNEED);
    return 0;
}

int berth__owed_free(void *p, size_t held)
{
    int saved_errno = errno;
    int r = put_home_back(p, held);

    if (r == 0) {
        give(p, held);
    } else {
        /* Of a mapping that failed nobody can tell how far it came. */
        bool in_place = berth__window_clear(p, held) < 0;

        r = in_place ? shut(p, held) : 0;
        if (r == 0)
            add((uintptr_t)p, held, in_place);
    }
    errno = saved_errno;
    return r;
}

/* Makes a block the home's again. 0 or -errno, with *ret_maps false where nothing can be mapped. */
static int settle(uintptr_t block, bool *ret_maps)
{
    size_t held = held_of(block);
    int r;

    if (is_in_place(block)) {
        r = berth__window_clear((void *)block, held);
        *ret_maps = r == 0;
        if (r < 0)
            return r;
        set_next(block, next_of(block), false);
    }
    r = make_writable((void *)block, held);
    if (r < 0)
        return r;
    set_next(block, 0, false);
    atomic_fetch_sub_explicit(&bytes, held, memory_order_relaxed);
    give((void *)block, held);
    return 0;
}

bool berth__owed_settle(void)
{
    int saved_errno = errno;
    bool maps = true;
    uintptr_t block;

    if (BERTH_LIKELY(atomic_load_explicit(&last, memory_order_relaxed) == 0))
        return true;
    block = atomic_exchange_explicit(&last, 0, memory_order_acquire);
    while (block != 0) {
        uintptr_t next = next_of(block);

        if (settle(block, &maps) < 0)
            break;
        block = next;
    }
    if (block != 0)
        put(block);
    errno = saved_errno;
    return maps;
}
