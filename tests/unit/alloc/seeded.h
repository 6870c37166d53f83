/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What seeded tests on several threads share: a check that ends the process, because a failed one
 * leaves locks held, and tells the seed; and numbers by a thread's own seed, which is not 0.
 */
#ifndef BERTH_TEST_SEEDED_H
#define BERTH_TEST_SEEDED_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t seed_base;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s (seed %llu)\n", __FILE__, __LINE__, #condition,             \
                    (unsigned long long)seed_base);                                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static inline uint64_t draw(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

#endif
