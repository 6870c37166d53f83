/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tend: has the host tiers give back, by time, what they keep for reuse, where the program only
 * goes on with small blocks.
 *
 * An arena of jemalloc's looks at its clock when it is asked for something. Plain jemalloc has
 * small and large blocks in the same arenas, so that any work of the program's lets large free
 * extents decay; a tier's arenas see large blocks alone. So jemalloc's event of each thread, at
 * every 64 KiB that it asks for in blocks of any size, comes here (embed_jemalloc.sh), which costs
 * the plain path nothing. A program that asks for nothing at all keeps what it has, as under
 * jemalloc, unless there is a control thread (ipc/control.c).
 *
 * Any thread; no lock of ours.
 */
#ifndef BERTH_PMEM_TEND_H
#define BERTH_PMEM_TEND_H

/* There is an arena whose free memory decays. */
void berth__tend_begin(void);
/* In a forked child: the thread of the parent's that was at it is not there. */
void berth__tend_in_child(void);

#endif
