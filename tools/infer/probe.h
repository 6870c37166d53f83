/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The probe: how fast this machine reads memory, measured between decode steps with
 * the same threads and instruction set, so that both see the same neighbours. It goes
 * round and round a buffer larger than the caches. Used by one thread.
 */
#ifndef BERTH_INFER_PROBE_H
#define BERTH_INFER_PROBE_H

#include "failure.h"
#include "kernels.h"
#include "series.h"
#include "thread_pool.h"

#include <stdint.h>

struct berth_probe;

int berth__probe_new(const struct berth_kernels *kernels, struct berth_thread_pool *pool,
                     struct berth_failure *failure, struct berth_probe **ret_probe);
void berth__probe_free(struct berth_probe *probe);

/* Reads about `size_bytes`, as many as a decode step does, so that both are disturbed alike. */
void berth__probe_sample(struct berth_probe *probe, uint64_t size_bytes);

/* Bytes per second, the median of the samples; 0 before the first. */
double berth__probe_bandwidth(struct berth_probe *probe);

#endif
