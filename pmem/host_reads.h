/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages the program reads, as the processor notes it for the kernel: MADV_COLD (Linux 5.4)
 * forgets what was read so far, and /proc/self/smaps says how much was read since, by mapping. So
 * a stretch that is watched is made a mapping of its own, by advice that means nothing to anonymous
 * memory, and that is taken back when the watch ends. Under memory pressure the kernel may take
 * what is watched, and not read, for other uses a little sooner.
 *
 * Nothing is kept between the calls, and no descriptor is open then. By the thread that judges,
 * one watch at a time.
 */
#ifndef BERTH_PMEM_HOST_READS_H
#define BERTH_PMEM_HOST_READS_H

#include "alloc/classifier.h"

bool berth__host_reads_watch(const struct berth_watched *stretches, unsigned count);
/* What was read so far; the watch goes on. */
void berth__host_reads_peek(struct berth_watched *stretches, unsigned count);
void berth__host_reads_end(struct berth_watched *stretches, unsigned count);

#endif
