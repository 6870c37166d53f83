/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jemalloc as it is linked into libberth-malloc.so: its public functions under the prefix
 * berth_je_. They are hidden, so that a call is a direct jump and no other jemalloc in the process
 * can take its place. Only pmem/ and the exported hooks of the malloc family include this.
 */
#ifndef BERTH_PMEM_JEMALLOC_H
#define BERTH_PMEM_JEMALLOC_H

#include <jemalloc/jemalloc.h>

#include <stdbool.h>
#include <stddef.h>

#define BERTH_HIDDEN __attribute__((visibility("hidden")))

BERTH_HIDDEN void *berth_je_malloc(size_t size);
BERTH_HIDDEN void *berth_je_calloc(size_t count, size_t size);
BERTH_HIDDEN void *berth_je_realloc(void *p, size_t size);
BERTH_HIDDEN void berth_je_free(void *p);
BERTH_HIDDEN void *berth_je_memalign(size_t alignment, size_t size);
BERTH_HIDDEN size_t berth_je_malloc_usable_size(const void *p);
BERTH_HIDDEN void *berth_je_mallocx(size_t size, int flags);
BERTH_HIDDEN void *berth_je_rallocx(void *p, size_t size, int flags);
BERTH_HIDDEN size_t berth_je_xallocx(void *p, size_t size, size_t extra, int flags);
BERTH_HIDDEN size_t berth_je_sallocx(const void *p, int flags);
BERTH_HIDDEN void berth_je_dallocx(void *p, int flags);
BERTH_HIDDEN void berth_je_sdallocx(void *p, size_t size, int flags);
BERTH_HIDDEN size_t berth_je_nallocx(size_t size, int flags);
BERTH_HIDDEN int berth_je_mallctl(const char *name, void *old, size_t *old_size, void *new_value,
                                  size_t new_size);
BERTH_HIDDEN int berth_je_mallctlnametomib(const char *name, size_t *mib, size_t *mib_length);
BERTH_HIDDEN int berth_je_mallctlbymib(const size_t *mib, size_t mib_length, void *old,
                                       size_t *old_size, void *new_value, size_t new_size);
BERTH_HIDDEN void berth_je_malloc_stats_print(void (*write_text)(void *, const char *),
                                              void *context, const char *options);

/*
 * What "experimental.arenas_create_ext" reads. jemalloc keeps this structure to itself: declared
 * here as version 5.3 lays it out, and checked by a test that the metadata stays out of the hooks.
 */
struct berth_je_arena_config {
    extent_hooks_t *extent_hooks;
    bool metadata_use_hooks;
};

#endif
