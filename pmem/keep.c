/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/keep.h"

#include "alloc/types.h"

#include <stdatomic.h>

/*
 * Threads that have a keep, and what is fair for each of them: a hint, which may be a moment old.
 * The bound on all rests on the sum of what was granted alone, which never exceeds it.
 */
static _Atomic unsigned keepers;
static _Atomic size_t share = BERTH_KEEP_BYTES_MAX;
static _Atomic size_t granted_to_all;

static void divide(unsigned count)
{
    size_t each = count == 0 ? BERTH_KEEP_BYTES_MAX : BERTH_KEEP_SHARED_MAX / count;

    /* Of two threads at once the last one's word counts, which may be that of one thread less. */
    atomic_store_explicit(&share, each < BERTH_KEEP_BYTES_MAX ? each : BERTH_KEEP_BYTES_MAX,
                          memory_order_relaxed);
}

/* jemalloc's large size classes: four for each power of two. */
static size_t class_of(size_t size)
{
    size_t step = (size_t)1 << (61 - __builtin_clzl(size - 1));

    return (size + step - 1) & ~(step - 1);
}

/* A class's number: that of its power of two, and which of the four it is. */
static uint8_t number_of(size_t held)
{
    unsigned power = 63 - (unsigned)__builtin_clzl(held);

    return (uint8_t)(power << 2 | (held >> (power - 2) & 3));
}

/* Whether the class was asked for twice of late: two bytes of `recent` are its number. */
static bool recurs(const struct berth_keep *keep, size_t held)
{
    const uint64_t ones = UINT64_MAX / UINT8_MAX;
    uint64_t other = keep->recent ^ ones * number_of(held);
    /* The highest bit of each byte that is 0, and at times that of its neighbour above. */
    uint64_t same = (other - ones) & ~other & ones << 7;

    return (same & (same - 1)) != 0;
}

void *berth__keep_take(struct berth_keep *keep, size_t size, size_t alignment, size_t *ret_held)
{
    size_t held = class_of(size);

    keep->recent = keep->recent << 8 | number_of(held);
    for (unsigned i = 0; i < BERTH_KEEP_SLOTS; i++) {
        void *p = keep->block[i];

        if (keep->held[i] != held || !p || ((uintptr_t)p & (alignment - 1)) != 0)
            continue;
        keep->block[i] = NULL;
        keep->total -= held;
        keep->next = i;
        *ret_held = held;
        return p;
    }
    return NULL;
}

static void drop_one(struct berth_keep *keep, unsigned i, void (*drop)(void *p, size_t held))
{
    void *p = keep->block[i];

    if (!p)
        return;
    keep->block[i] = NULL;
    keep->total -= keep->held[i];
    drop(p, keep->held[i]);
}

/* Drops the oldest blocks until the rest is at most `most`. */
static void shrink(struct berth_keep *keep, size_t most, void (*drop)(void *p, size_t held))
{
    for (unsigned i = 0; keep->total > most; i++)
        drop_one(keep, (keep->next + i) % BERTH_KEEP_SLOTS, drop);
}

/* Comes to a fair share of what all may keep, or to less where others have not left it yet. */
static __attribute__((noinline)) void ask(struct berth_keep *keep, size_t fair,
                                          void (*drop)(void *p, size_t held))
{
    size_t all = atomic_load_explicit(&granted_to_all, memory_order_relaxed);
    size_t mine;

    shrink(keep, fair, drop);
    do {
        size_t left = BERTH_KEEP_SHARED_MAX - (all - keep->granted);

        mine = fair < left ? fair : left;
        if (mine < keep->total)
            mine = keep->total;
    } while (!atomic_compare_exchange_weak(&granted_to_all, &all, all - keep->granted + mine));
    keep->granted = mine;
}

bool berth__keep_put(struct berth_keep *keep, void *p, size_t held,
                     void (*drop)(void *p, size_t held))
{
    size_t fair;

    /* Freed twice: handing it out twice would break more than one block. */
    for (unsigned i = 0; i < BERTH_KEEP_SLOTS; i++)
        if (BERTH_UNLIKELY(keep->block[i] == p))
            return true;
    if (held > BERTH_KEEP_BYTES_MAX || !recurs(keep, held))
        return false;
    if (BERTH_UNLIKELY(!keep->is_counted)) {
        keep->is_counted = true;
        divide(atomic_fetch_add(&keepers, 1) + 1);
    }
    fair = atomic_load_explicit(&share, memory_order_relaxed);
    if (BERTH_UNLIKELY(keep->granted != fair))
        ask(keep, fair, drop);
    if (held > keep->granted)
        return false;
    drop_one(keep, keep->next, drop);
    shrink(keep, keep->granted - held, drop);
    keep->block[keep->next] = p;
    keep->held[keep->next] = held;
    keep->total += held;
    keep->next = (keep->next + 1) % BERTH_KEEP_SLOTS;
    return true;
}

void berth__keep_empty(struct berth_keep *keep, bool is_last, void (*drop)(void *p, size_t held))
{
    for (unsigned i = 0; i < BERTH_KEEP_SLOTS; i++)
        drop_one(keep, i, drop);
    if (!is_last || !keep->is_counted)
        return;
    atomic_fetch_sub(&granted_to_all, keep->granted);
    keep->granted = 0;
    keep->is_counted = false;
    divide(atomic_fetch_sub(&keepers, 1) - 1);
}
