/* SPDX-License-Identifier: Apache-2.0 */
/* The clock: nanoseconds that never go back. */
#ifndef BERTH_INFER_CLOCK_H
#define BERTH_INFER_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t berth__clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
