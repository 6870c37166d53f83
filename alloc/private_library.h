/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A private library: one that Berth has opened for itself, and that the program may not know of.
 *
 * Its imports are looked up in the program first, which may have other functions, or variables, by
 * those names (hooks/shadow.h). So whoever opens one tells it here before its first call. Its
 * constructors have run by then: those of libpmem call sysconf(), fopen() and others, which should
 * be the program's in no other sense than the C library's.
 */
#ifndef BERTH_ALLOC_PRIVATE_LIBRARY_H
#define BERTH_ALLOC_PRIVATE_LIBRARY_H

/* Set by a preload library before main; NULL in the tools, which have no such names. */
extern void (*berth__private_library_lift)(void *handle);

/* dlopen(), local and bound at once, with more of its flags; NULL as from dlopen(). */
void *berth__private_library_open(const char *name, int flags);

#endif
