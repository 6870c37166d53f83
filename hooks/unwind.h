/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libunwind, by an explicit handle: none of its symbols become the program's.
 */
#ifndef BERTH_HOOKS_UNWIND_H
#define BERTH_HOOKS_UNWIND_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Loads it and takes a first trace, so that later ones set nothing up but what is per thread. Once
 * per process, whichever preload library asks. 0, or -ENOENT with one sentence in `why`.
 */
int berth__unwind_load(char *why, size_t why_size);

bool berth__unwind_is_loaded(void);

/*
 * The same as berth__unwind() without what libunwind keeps in each thread of the code that it has
 * met, which it believes in even when the library of that code is gone and another is there. It
 * costs a few microseconds a frame. 0 also where this libunwind cannot do it.
 */
unsigned berth__unwind_afresh(const void **frames, unsigned count);

/*
 * The return addresses of this thread's calls, innermost first, beginning with the caller's own;
 * how many, at most `count`. 0 before berth__unwind_load() succeeded. Takes no lock of Berth's.
 */
unsigned berth__unwind(const void **frames, unsigned count);

#endif
