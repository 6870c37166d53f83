/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jemalloc's own public functions, for programs that are linked to it (redis, for one): they bind
 * to the jemalloc in here, and their calls on a block in a window are correct too. A call that
 * names an arena or a tcache gets just that; any other is placed as malloc's would be.
 *
 * malloc_conf and malloc_message are variables: jemalloc's, exported under their names.
 */
#include "hooks/malloc_path.h"

#include "alloc/thread.h"
#include "pmem/host.h"

#include <errno.h>

/* The bits of `flags` below the tcache and the arena: alignment and MALLOCX_ZERO. */
#define FLAG_BITS_PLAIN 0x7f
#define FLAG_BITS_ALIGNMENT 0x3f

BERTH_EXPORT void *mallocx(size_t size, int flags);
BERTH_EXPORT void *rallocx(void *p, size_t size, int flags);
BERTH_EXPORT size_t xallocx(void *p, size_t size, size_t extra, int flags);
BERTH_EXPORT size_t sallocx(const void *p, int flags);
BERTH_EXPORT void dallocx(void *p, int flags);
BERTH_EXPORT void sdallocx(void *p, size_t size, int flags);
BERTH_EXPORT size_t nallocx(size_t size, int flags);
BERTH_EXPORT int mallctl(const char *name, void *old, size_t *old_size, void *new_value,
                         size_t new_size);
BERTH_EXPORT int mallctlnametomib(const char *name, size_t *mib, size_t *mib_length);
BERTH_EXPORT int mallctlbymib(const size_t *mib, size_t mib_length, void *old, size_t *old_size,
                              void *new_value, size_t new_size);
BERTH_EXPORT void malloc_stats_print(void (*write_text)(void *, const char *), void *context,
                                     const char *options);

static size_t flag_alignment(int flags)
{
    return (size_t)1 << (flags & FLAG_BITS_ALIGNMENT);
}

void *mallocx(size_t size, int flags)
{
    if ((flags & ~FLAG_BITS_PLAIN) || (berth__malloc_is_below(size) && berth__sample_passes(size)))
        return berth_je_mallocx(size, flags);
    return berth__malloc_place(size, flag_alignment(flags), flags & MALLOCX_ZERO,
                               __builtin_return_address(0));
}

/* A block that must move: an explicit arena, an alignment or zeroing of what is added. */
static void *move_from_window(void *p, size_t size, int flags, const void *return_address)
{
    size_t old = berth__host_usable(p);
    void *to;

    if (flags & ~FLAG_BITS_PLAIN)
        to = berth_je_mallocx(size, flags);
    else
        to = berth__malloc_aligned(flag_alignment(flags), size, return_address);
    if (!to)
        return NULL;
    __builtin_memcpy(to, p, old < size ? old : size);
    if ((flags & MALLOCX_ZERO) && size > old)
        __builtin_memset((char *)to + old, 0, berth_je_sallocx(to, 0) - old);
    berth__malloc_release(p);
    return to;
}

void *rallocx(void *p, size_t size, int flags)
{
    if (berth__gate_owns(p))
        return flags ? move_from_window(p, size, flags, __builtin_return_address(0))
                     : berth__malloc_replace(p, size, __builtin_return_address(0));
    if (flags || (berth__malloc_is_below(size) && berth__sample_passes(size)))
        return berth_je_rallocx(p, size, flags);
    return berth__malloc_replace(p, size, __builtin_return_address(0));
}

size_t xallocx(void *p, size_t size, size_t extra, int flags)
{
    size_t held;

    if (!berth__gate_owns(p))
        return berth_je_xallocx(p, size, extra, flags);
    berth__thread.inside++;
    held = berth__host_resize(p, size, extra, flags & FLAG_BITS_PLAIN);
    berth__thread.inside--;
    return held;
}

size_t sallocx(const void *p, int flags)
{
    return berth__gate_owns(p) ? berth__host_usable(p) : berth_je_sallocx(p, flags);
}

void dallocx(void *p, int flags)
{
    if (berth__gate_owns(p))
        berth__malloc_release(p);
    else
        berth_je_dallocx(p, flags);
}

void sdallocx(void *p, size_t size, int flags)
{
    if (berth__gate_owns(p))
        berth__malloc_release(p);
    else if (size <= BERTH_TINY_MAX) /* malloc's is larger than its size says */
        berth_je_dallocx(p, flags);
    else
        berth_je_sdallocx(p, size, flags);
}

size_t nallocx(size_t size, int flags)
{
    return berth_je_nallocx(size, flags);
}

int mallctl(const char *name, void *old, size_t *old_size, void *new_value, size_t new_size)
{
    int r;

    /* It may make threads, whose memory must not be placed from within jemalloc. */
    berth__thread.inside++;
    r = berth_je_mallctl(name, old, old_size, new_value, new_size);
    berth__thread.inside--;
    return r;
}

int mallctlnametomib(const char *name, size_t *mib, size_t *mib_length)
{
    return berth_je_mallctlnametomib(name, mib, mib_length);
}

int mallctlbymib(const size_t *mib, size_t mib_length, void *old, size_t *old_size, void *new_value,
                 size_t new_size)
{
    int r;

    berth__thread.inside++;
    r = berth_je_mallctlbymib(mib, mib_length, old, old_size, new_value, new_size);
    berth__thread.inside--;
    return r;
}

void malloc_stats_print(void (*write_text)(void *, const char *), void *context,
                        const char *options)
{
    berth_je_malloc_stats_print(write_text, context, options);
}
