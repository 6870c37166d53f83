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

/* Whether the program has what it maps from now on locked in memory (mlockall(2), MCL_FUTURE). */
void berth__overcommit_see_lock(bool future);

/*
 * Where the process's addresses or its data are limited (RLIMIT_AS, RLIMIT_DATA), what jemalloc
 * keeps mapped for later blocks counts against the program: from now on it keeps nothing. Called
 * at the start, and when limits have changed.
 */
void berth__overcommit_see_limits(void);

/* RLIMIT_DATA as it was then; SIZE_MAX: there is none. */
size_t berth__overcommit_data_limit(void);

#endif
