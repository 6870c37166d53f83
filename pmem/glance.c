/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/glance.h"

#include "alloc/module.h"
#include "alloc/options.h"
#include "pmem/table.h"

#include <errno.h>

#define EPOCH_MASK (((uint64_t)1 << BERTH_GLANCE_EPOCH_BITS) - 1)
/* No block is as large: 2 to the 47. No glance has the other. */
#define EXPONENT_MAX 47
#define EXPONENT_NONE ((uint64_t)63)

_Atomic uint64_t berth__glances[BERTH_GLANCE_COUNT];

/* How many modules were gone when the epoch began. */
static _Atomic uint64_t gone_seen;

static void forget(void)
{
    for (uintptr_t i = 0; i < BERTH_GLANCE_COUNT; i++)
        atomic_store_explicit(&berth__glances[i], 0, memory_order_relaxed);
}

/* Of the largest power of two that is at most `least`; 0 also where any size may match. */
static uint64_t exponent_of(size_t least)
{
    uint64_t exponent = least == 0 ? 0 : 63 - (uint64_t)__builtin_clzl(least);

    return exponent > EXPONENT_MAX ? EXPONENT_MAX : exponent;
}

/* 0 where small blocks are not looked at. */
static uint64_t epoch_now(void)
{
    uint64_t key = atomic_load_explicit(&berth__plain.glance_key, memory_order_relaxed);

    return key >> BERTH_GLANCE_ADDRESS_BITS & EPOCH_MASK;
}

/*
 * The next epoch; never 0. Entries are taken away as well, because a number comes again: what a
 * thread keeps late under the last one is not met for as many changes as there are numbers.
 */
static void next_epoch(uint64_t last)
{
    uint64_t exponent = exponent_of(berth__option(BERTH_OPTION_RECORD_THRESHOLD));

    /* Samples are not for the assembly entries to take. */
    if (BERTH_GLANCE_SURE >> exponent != 0 ||
        atomic_load_explicit(&berth__plain.sample_interval, memory_order_relaxed) != 0)
        exponent = EXPONENT_NONE;
    atomic_store_explicit(&berth__plain.glance_key,
                          exponent << BERTH_GLANCE_EXPONENT_SHIFT |
                              (last % EPOCH_MASK + 1) << BERTH_GLANCE_ADDRESS_BITS,
                          memory_order_relaxed);
    berth__plain_renew_key();
    forget();
}

void berth__glance_renew(bool is_wanted)
{
    static _Atomic uint64_t last; /* the number goes on where small blocks were not looked at */
    uint64_t epoch = epoch_now();

    if (epoch != 0)
        atomic_store_explicit(&last, epoch, memory_order_relaxed);
    if (is_wanted) {
        next_epoch(atomic_load_explicit(&last, memory_order_relaxed));
        return;
    }
    atomic_store_explicit(&berth__plain.glance_key, 0, memory_order_relaxed);
    berth__plain_renew_key();
}

void berth__glance_forget(void)
{
    uint64_t epoch = epoch_now();

    if (epoch != 0)
        next_epoch(epoch);
}

uint64_t berth__glance_find(const void *return_address)
{
    uint64_t epoch = epoch_now();
    uintptr_t ra = (uintptr_t)return_address;
    int saved_errno = errno;
    uint64_t word, gone;

    /* Nothing that this does is looked at in its turn. */
    if (epoch == 0 || berth__thread.inside || ra >> BERTH_GLANCE_ADDRESS_BITS != 0)
        return 0;
    berth__thread.inside++;
    word = exponent_of(
        berth__table_least_size(return_address, berth__option(BERTH_OPTION_RECORD_THRESHOLD)));
    berth__thread.inside--;
    errno = saved_errno;
    word = word << BERTH_GLANCE_EXPONENT_SHIFT | epoch << BERTH_GLANCE_ADDRESS_BITS | ra;
    atomic_store_explicit(&berth__glances[ra >> 1 & (BERTH_GLANCE_COUNT - 1)], word,
                          memory_order_relaxed);
    /* Looking may have met a library where another one was. */
    gone = berth__module_gone_count();
    if (atomic_exchange_explicit(&gone_seen, gone, memory_order_relaxed) != gone)
        next_epoch(epoch_now());
    return word;
}
