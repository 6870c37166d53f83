/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who waits, in the kernel, for a word of memory to change.
 *
 * A futex that processes may share is known to the kernel by what is mapped: ordinary memory by its
 * address, that of a file by its place in the file. A thread that waits while a block goes from one
 * to the other is never found by who wakes it. Such are locks and semaphores that were made for
 * several processes, robust mutexes, and the word by which pthread_join() waits for a thread, at
 * the top of that one's stack. What threads of one process alone wait by is known by its address
 * wherever it lies.
 */
#ifndef BERTH_PMEM_WAITER_H
#define BERTH_PMEM_WAITER_H

#include <stddef.h>

/*
 * 1: a thread of this process waits by such a word in [p, p + size); 0: none does; or negative
 * errno. Allocates nothing and takes no lock.
 */
int berth__waiter_find(const void *p, size_t size);

#endif
