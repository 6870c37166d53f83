/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/birth.h"

#include <time.h>

uint64_t berth__birth_now(void)
{
    struct timespec now;

    /* It cannot fail: the clock exists in every kernel from 2.6.32 on. */
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return ((uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec) | 1;
}
