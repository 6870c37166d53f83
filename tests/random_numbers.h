/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers that a seed decides, the same on every machine: what a test on one thread draws, so that
 * a failure can be had again from the seed that it printed.
 */
#ifndef BERTH_TEST_RANDOM_NUMBERS_H
#define BERTH_TEST_RANDOM_NUMBERS_H

#include <stdint.h>

static uint64_t random_state = 1;

static inline void random_start(uint64_t seed)
{
    /* The method never leaves 0. */
    random_state = seed ? seed : 1;
}

/* xorshift64*. Its high bits are the better ones. */
static inline uint64_t random_next(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * UINT64_C(0x2545f4914f6cdd1d);
}

/* Less than `limit`; 0 where nothing is. */
static inline uint64_t random_below(uint64_t limit)
{
    return limit ? (random_next() >> 16) % limit : 0;
}

#endif
