/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relief: what is kept for reuse goes back to the kernel, where that is asked for, and where a
 * limit leaves the program no memory.
 *
 * jemalloc keeps what was freed in pieces as small as its blocks were, by arenas that have no part
 * in what the others keep. That counts against a process whose addresses or data are limited
 * (RLIMIT_AS, RLIMIT_DATA): its next block of another size would be refused, which the C library's
 * heap, being one, could give. So in such a process no block is had in the entries of the malloc
 * family (plain.h), and who has got none asks here before he says so.
 *
 * Any thread; no lock of ours, and none of Berth's or jemalloc's may be held: jemalloc takes its
 * own. The caller has raised berth__thread.inside.
 */
#ifndef BERTH_PMEM_RELIEF_H
#define BERTH_PMEM_RELIEF_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Every page that no block uses goes back; other threads keep what their caches hold, and arenas
 * that the program has made through jemalloc's interface what they have.
 */
void berth__relief_trim(void);

/*
 * A block of `size` bytes could not be had. True if a limit may be why, and what was kept is gone:
 * it may be had now. Keeps errno.
 */
bool berth__relief_try(size_t size);

#endif
