/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Samples: which of the small blocks, that nobody looks at, are looked at all the same.
 *
 * Each byte that a thread asks for in small blocks is as likely to be hit as any other, once in
 * `interval` bytes on average: a block of s bytes is a sample with the probability 1 - exp(-s /
 * interval), whatever was asked for before. A sample stands for the inverse of that many blocks of
 * its kind, so that sums over the samples of a call site are estimates without a bias.
 *
 * A thread counts down the bytes to its next hit, which is one subtraction on the plain path while
 * samples are taken, and none while they are not (plain.h). A sample is served from a window, where
 * free() finds it as it finds every block that has a record.
 */
#ifndef BERTH_PMEM_SAMPLE_H
#define BERTH_PMEM_SAMPLE_H

#include "pmem/plain.h"

#include <stdbool.h>
#include <stdint.h>

/* The thread's own; in static TLS. `until` is first: the assembly entries know it. */
struct berth_sample {
    int64_t until;     /* bytes to the next hit; below 0: it is in the block that is asked for */
    uint64_t random;   /* the state of a generator; 0 = not seeded yet */
    uint64_t interval; /* that the countdown was drawn for */
};

extern __thread struct berth_sample berth__sample
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/*
 * Counts a small block's bytes. True where no sample is due. Else the block is for
 * berth__sample_weigh(), which may count them again: between two hits that does not matter.
 */
static inline bool berth__sample_passes(size_t size)
{
    return atomic_load_explicit(&berth__plain.sample_interval, memory_order_relaxed) == 0 ||
           (berth__sample.until -= (int64_t)size) >= 0;
}

/*
 * How many blocks the one that is asked for now stands for, in units of 1 / BERTH_SAMPLE_ONE
 * (alloc/site_account.h); 0 = it is no sample. The countdown to the next one has begun then.
 */
uint64_t berth__sample_weigh(size_t size);

#endif
