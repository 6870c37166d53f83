/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The originals of dlsym() and dlvsym(): those of the next library in the search order, which may
 * be another wrapper, and is then called as the program would have. Both preload libraries export
 * these names themselves, so they are read from the symbol tables of the libraries that follow.
 */
#ifndef BERTH_HOOKS_DLSYM_NEXT_H
#define BERTH_HOOKS_DLSYM_NEXT_H

/* For the jumps in dlsym_*.S: NULL until found. Threads that race store the same address. */
extern void *berth__dlsym_next;
extern void *berth__dlvsym_next;
void *berth__dlsym_resolve(void);
void *berth__dlvsym_resolve(void);

/* The originals as functions; their caller is this library. */
void *berth__real_dlsym(void *handle, const char *name);
void *berth__real_dlvsym(void *handle, const char *name, const char *version);

/*
 * Each preload library has one: answers a look-up in place of dlsym (`version` NULL) or dlvsym, for
 * a caller at `caller`; 0: the caller's request is to be passed to the original by a jump.
 */
__attribute__((visibility("hidden"))) int berth__dlsym_answer(void *handle, const char *name,
                                                              const char *version, void **ret,
                                                              const void *caller);

#endif
