/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel would refuse to the C library's malloc: more ordinary memory at once than there
 * is, under the usual rule (vm.overcommit_memory = 0). jemalloc maps with MAP_NORESERVE, and
 * windows are reserved with it, which switches the rule off: a program would get the address, and
 * be killed when it writes there, where it would have got NULL. So the kernel is asked before.
 */
#ifndef BERTH_PMEM_OVERCOMMIT_H
#define BERTH_PMEM_OVERCOMMIT_H

#include <stdbool.h>
#include <stddef.h>

/* Whether the kernel would map `size` bytes of ordinary memory now. Keeps errno. */
bool berth__overcommit_allows(size_t size);

/*
 * Whether the kernel counts whatever can be written, used or not, whatever its mapping says
 * (vm.overcommit_memory = 2): what is not needed then must not be writable. As it was when this was
 * first asked. Keeps errno.
 */
bool berth__overcommit_is_strict(void);

/*
 * Whether what is not needed must not be writable: that is so, or the process's data were limited
 * (RLIMIT_DATA), which are all that the process alone can write. Once it is so it stays so, as
 * there are ranges then that are to be opened again.
 */
bool berth__overcommit_counts_writable(void);

/* Keeps some room for jemalloc's metadata, where there is a limit and none is kept. */
void berth__overcommit_reserve(void);
/* Gives it back: before all that is mapped is locked in memory. */
void berth__overcommit_release(void);

/* Whether the program has what it maps from now on locked in memory (mlockall(2), MCL_FUTURE). */
void berth__overcommit_see_lock(bool future);

/*
 * Where the process's addresses or its data are limited (RLIMIT_AS, RLIMIT_DATA), what jemalloc
 * keeps mapped for later blocks counts against the program: from now on it keeps nothing, and
 * blocks are not had in the malloc family's entries (plain.h), for the relief's sake (relief.h).
 * Called at the start, when limits have changed, and where memory could not be had; not in a
 * sandbox, unless the program's own call has succeeded there. Nothing is seen by a child that
 * borrows this process's memory until its exec (vfork(2)), whose limits are not this one's.
 */
void berth__overcommit_see_limits(void);

/* RLIMIT_DATA as it was then; the lesser of both limits. SIZE_MAX: there is none. */
size_t berth__overcommit_data_limit(void);
size_t berth__overcommit_least_limit(void);

/* Whether the caller is the process that has this memory, and no such child; in a sandbox, where
 * nothing is asked, it is. */
bool berth__overcommit_is_owner(void);
/* In a forked child, which has memory of its own. */
void berth__overcommit_in_child(void);

#endif
