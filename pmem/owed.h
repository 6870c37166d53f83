/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The owed: blocks of the movable home that the program has freed, behind which the home backing
 * cannot be put back now. The program may have no more data (RLIMIT_DATA): then nothing is behind
 * their addresses, which no limit counts. Or it has more addresses than it may have by now
 * (RLIMIT_AS): then nothing can be mapped at all, and what is there stays, where nobody can touch
 * it. The arenas, to which they are owed, get them as soon as there is room.
 *
 * Lock-free: a list through the blocks' entries in the residency map. Any thread. A forked child
 * may lack those that another thread was busy with.
 */
#ifndef BERTH_PMEM_OWED_H
#define BERTH_PMEM_OWED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Puts the home backing, which reads as zero, behind the addresses of a block that has no entry any
 * more, over what is there, and gives it to the arenas; or owes it to them, if it must. 0, or
 * negative errno when not even that can be done: what was there stays.
 */
int berth__owed_free(void *p, size_t held);

/*
 * Gives the arenas as much of what is owed as there is room for. False: nothing can be mapped now,
 * and a block that is to be mapped elsewhere would only be owed, too.
 */
bool berth__owed_settle(void);

/* How much is owed. */
uint64_t berth__owed_bytes(void);

#endif
