/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Births: when a block was handed out, by a clock that is cheap enough to be read at every recorded
 * allocation and free.
 */
#ifndef BERTH_ALLOC_BIRTH_H
#define BERTH_ALLOC_BIRTH_H

#include <stdint.h>

/*
 * Nanoseconds since some point in the past, as coarse as the kernel's tick (1 to 10 ms): one
 * lifetime may be off by a tick, a sum of many is not, because a tick falls anywhere. Never goes
 * back, and is never 0. No system call; keeps errno.
 */
uint64_t berth__birth_now(void);

/* The same in units of 2^20 ns, for records that are short of space: it wraps after 52 days. */
#define BERTH_BIRTH_SHORT_SHIFT 20
static inline uint32_t berth__birth_short(void)
{
    return (uint32_t)(berth__birth_now() >> BERTH_BIRTH_SHORT_SHIFT);
}
/* How long ago that was, in nanoseconds. */
static inline uint64_t berth__birth_short_age(uint32_t birth)
{
    return (uint64_t)(uint32_t)(berth__birth_short() - birth) << BERTH_BIRTH_SHORT_SHIFT;
}

#endif
