/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The glance: whether a small block can match a rule at all, told by its call's return address.
 *
 * Where rules speak of blocks below the record threshold, every call of the malloc family has to be
 * looked at. A glance finds, once per return address and table, the least size from which some rule
 * can match a block that this call asks for on a thread without a tag; what is smaller is
 * jemalloc's plain path. That costs one load and a few compares, and is never wrong: the least size
 * is a lower bound, and from it on the table itself is asked. Of a small block the path is its
 * return address alone: a pattern matches it if the innermost frame does.
 *
 * Kept for all threads, one word each. A library that was closed is noticed when the next return
 * address is met for the first time.
 */
#ifndef BERTH_PMEM_GLANCE_H
#define BERTH_PMEM_GLANCE_H

#include "alloc/thread.h"
#include "pmem/plain.h"

#include <stdbool.h>

/*
 * A kept glance: exponent (6 bits) | epoch (11) | the return address (47). Sizes below 2 to the
 * exponent are plain, but for 0, of which nothing is known.
 *
 * berth__plain.glance_key is the same without the address, for an address from which no block below
 * the record threshold matches: a glance that differs from it by the address alone lets every size
 * of at most BERTH_GLANCE_SURE pass, which is the assembly entries' whole test. Under a record
 * threshold that is not above this size, and while samples are taken (sample.h), the key has an
 * exponent that no glance has.
 */
#define BERTH_GLANCE_ADDRESS_BITS 47
#define BERTH_GLANCE_EPOCH_BITS 11
#define BERTH_GLANCE_EXPONENT_SHIFT (BERTH_GLANCE_ADDRESS_BITS + BERTH_GLANCE_EPOCH_BITS)
#define BERTH_GLANCE_EXPONENT_BITS (64 - BERTH_GLANCE_EXPONENT_SHIFT)
#define BERTH_GLANCE_COUNT ((uintptr_t)4096)
#define BERTH_GLANCE_SURE ((size_t)4095)

extern _Atomic uint64_t berth__glances[BERTH_GLANCE_COUNT] __attribute__((visibility("hidden")));

/* Finds and keeps the glance at a return address. 0 where nothing is to be looked at. */
uint64_t berth__glance_find(const void *return_address);

/* Forgets what is kept: the table has changed. `is_wanted`: small blocks are to be looked at. */
void berth__glance_renew(bool is_wanted);

/* The same where only libraries were closed: what is to be looked at stays. */
void berth__glance_forget(void);

/* What is kept; 0 where nothing is. */
static inline uint64_t berth__glance_peek(const void *return_address)
{
    uint64_t key = atomic_load_explicit(&berth__plain.glance_key, memory_order_relaxed);
    uintptr_t ra = (uintptr_t)return_address;
    uint64_t word = atomic_load_explicit(&berth__glances[ra >> 1 & (BERTH_GLANCE_COUNT - 1)],
                                         memory_order_relaxed);

    return BERTH_LIKELY((word ^ key ^ ra) << BERTH_GLANCE_EXPONENT_BITS == 0) ? word : 0;
}

/* Whether by this glance no rule can match. `size` is not 0. */
static inline bool berth__glance_allows(uint64_t word, size_t size)
{
    return size >> (word >> BERTH_GLANCE_EXPONENT_SHIFT) == 0 && berth__thread.tag_depth == 0;
}

/* The same for a call that returns to `return_address`. */
static inline bool berth__glance_is_plain(size_t size, const void *return_address)
{
    uint64_t word = berth__glance_peek(return_address);

    if (BERTH_UNLIKELY(word == 0))
        word = berth__glance_find(return_address);
    return word != 0 && berth__glance_allows(word, size);
}

#endif
