/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/sample.h"

#include "alloc/birth.h"
#include "alloc/site_account.h"
#include "alloc/types.h"

#include <string.h>

__thread struct berth_sample berth__sample;

/* No block is as many times the interval and missed: exp(-40) is below what a weight can show. */
#define SURE 40.0
/* Below this the series of exp() needs four terms. */
#define SERIES_MAX 0x1p-6

/* xorshift64*: its state must not be 0. */
static uint64_t next_random(struct berth_sample *sample)
{
    uint64_t x = sample->random;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    sample->random = x;
    return x * 0x2545f4914f6cdd1du;
}

/* Different for each thread, and in each run. */
static void seed(struct berth_sample *sample)
{
    static _Atomic uint64_t seeds; /* threads that follow one another have one address */
    uint64_t x = atomic_fetch_add_explicit(&seeds, 0x9e3779b97f4a7c15u, memory_order_relaxed);

    x += (uint64_t)(uintptr_t)sample ^ berth__birth_now() << 16;
    /* splitmix64's last steps: seeds that lie close together lead to states that do not. */
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    sample->random = x ? x : 1;
}

/* -log(x) for 0 < x <= 1; the preload libraries have no libm. */
static double minus_log(double x)
{
    const double log_of_2 = 0.693147180559945309417;
    uint64_t bits;
    double t, square;
    int exponent;

    memcpy(&bits, &x, sizeof(bits));
    exponent = (int)(bits >> 52) - 1023;
    bits = (bits & (((uint64_t)1 << 52) - 1)) | (uint64_t)1023 << 52;
    memcpy(&x, &bits, sizeof(x)); /* from 1 to 2 */
    if (x > 1.414) {
        x /= 2;
        exponent++;
    }
    t = (x - 1) / (x + 1);
    square = t * t;
    t *= 2 * (1 + square * (1 / 3.0 + square * (1 / 5.0 + square * (1 / 7.0 + square / 9.0))));
    return -(t + exponent * log_of_2);
}

/* 1 - exp(-x) for x >= 0, exact for small x, too. */
static double chance(double x)
{
    int doublings = 0;
    double p;

    if (x > SURE)
        return 1;
    for (; x > SERIES_MAX; x /= 2)
        doublings++;
    p = x * (1 - x / 2 * (1 - x / 3 * (1 - x / 4)));
    while (doublings-- > 0)
        p = p * (2 - p);
    return p;
}

/* Bytes from one hit to the next. */
static int64_t draw_gap(struct berth_sample *sample)
{
    double x = (double)((next_random(sample) >> 11) + 1) * 0x1p-53;

    return (int64_t)(minus_log(x) * (double)sample->interval);
}

uint64_t berth__sample_weigh(size_t size)
{
    struct berth_sample *sample = &berth__sample;
    uint64_t interval = atomic_load_explicit(&berth__plain.sample_interval, memory_order_relaxed);
    double x;

    if (interval == 0 || size == 0)
        return 0;
    sample->until -= (int64_t)size;
    if (BERTH_LIKELY(sample->until >= 0))
        return 0;
    if (sample->random == 0) {
        seed(sample);
        sample->interval = interval;
        sample->until = draw_gap(sample) - (int64_t)size;
        if (sample->until >= 0)
            return 0;
    }
    x = (double)size / (double)sample->interval;
    sample->interval = interval;
    sample->until = draw_gap(sample);
    return (uint64_t)(BERTH_SAMPLE_ONE / chance(x) + 0.5);
}
