/* SPDX-License-Identifier: Apache-2.0 */
/* The time by which waits are bounded: nobody sets it. Any thread. */
#ifndef BERTH_ALLOC_CLOCK_H
#define BERTH_ALLOC_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t berth__clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t berth__clock_ms(void)
{
    return berth__clock_ns() / 1000000;
}

/* As of the last tick, some milliseconds ago: cheaper, for what is asked at each block. */
static inline int64_t berth__clock_tick_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#endif
