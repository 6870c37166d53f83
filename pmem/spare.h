/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The spare: addresses that a thread's first call of malloc can count on.
 *
 * jemalloc makes an arena and a cache for a new thread, and crashes where it cannot: a program that
 * has used up its memory, or its limit of it, ended with its next thread, where the C library's
 * malloc would have answered NULL. So what jemalloc maps for that comes from the spare where the
 * kernel has no more. A thread for which none can be had makes do with what other threads have,
 * without a cache of its own, until it calls when there is one.
 *
 * What its cache takes is had before it begins: jemalloc looks at nothing there, and the first call
 * that the cache should serve would crash.
 *
 * One is kept for the next thread; taken by exchange, so that any number of threads may begin.
 */
#ifndef BERTH_PMEM_SPARE_H
#define BERTH_PMEM_SPARE_H

#include <stdbool.h>
#include <stddef.h>

/* `size` bytes of this thread's spare, as jemalloc maps them; NULL: it has none, or too little. */
void *berth__spare_cut(size_t size);
/*
 * Whether jemalloc would give the kernel's `p` back, to ask for twice as much in which to align
 * it, and this thread's spare has such an aligned piece.
 */
bool berth__spare_is_better(const void *p, size_t size);

#endif
