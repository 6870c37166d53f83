/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A private library: one that Berth has opened for itself, and that the program does not know of.
 *
 * The program may have the same library, now or later, and change what it does: jansson allocates
 * by functions that the program sets, and libunwind keeps a pipe, whose number is another file's
 * once the program has closed what it does not know. So the file is copied into memory and loaded
 * from there, without the name by which the loader would give it to others, and with what it calls
 * of itself bound to itself. What it calls of others is looked up in the program first, which may
 * have other functions, or variables, by those names (hooks/shadow.h): that is told here before the
 * first call. Its constructors have run by then: those of libpmem call sysconf(), fopen() and
 * others, which should be the program's in no other sense than the C library's.
 */
#ifndef BERTH_ALLOC_PRIVATE_LIBRARY_H
#define BERTH_ALLOC_PRIVATE_LIBRARY_H

#include <stddef.h>

/* Set by a preload library before main; NULL in the tools, which have no such names. */
extern void (*berth__private_library_lift)(void *handle);

/*
 * dlopen(), local and bound at once, with more of its flags; NULL with one sentence in `why`. Where
 * no copy can be loaded it is the library itself, unless the program has that.
 */
void *berth__private_library_open(const char *name, int flags, char *why, size_t why_size);

#endif
