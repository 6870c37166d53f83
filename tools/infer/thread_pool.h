/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread pool: workers that take pieces of one range at a time.
 *
 * A worker that the kernel has put aside holds nobody up: pieces are claimed one by
 * one, and the caller waits for claimed pieces only, not for every worker. Waiting
 * threads spin for a while (the gaps inside a token are a few microseconds), then
 * sleep in a futex. One thread at a time may call berth__thread_pool_run().
 */
#ifndef BERTH_INFER_THREAD_POOL_H
#define BERTH_INFER_THREAD_POOL_H

#include "failure.h"

#include <stddef.h>

/* More than any machine has; a named limit for the command line. */
#define BERTH_THREADS_MAX 4096

struct berth_thread_pool;

/* Works on [begin, end) of the range; called from several threads at once. */
typedef void berth_range_fn(void *arg, size_t begin, size_t end);

/* `threads` counts the caller, so 1 starts no thread. */
int berth__thread_pool_new(size_t threads, struct berth_failure *failure,
                           struct berth_thread_pool **ret_pool);
void berth__thread_pool_free(struct berth_thread_pool *pool);
size_t berth__thread_pool_size(const struct berth_thread_pool *pool);

/* Covers [0, count) in pieces of `grain` items and returns when all are done. */
void berth__thread_pool_run(struct berth_thread_pool *pool, berth_range_fn *fn, void *arg,
                            size_t count, size_t grain);

/* The CPUs that this process may run on: its affinity mask, less what its control group denies. */
size_t berth__thread_pool_online(void);

#endif
