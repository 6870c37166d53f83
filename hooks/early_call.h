/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be done while the loader relocates this library. There is no C library yet that could be
 * called: its names may be a sanitizer's, which is not initialised.
 */
#ifndef BERTH_HOOKS_EARLY_CALL_H
#define BERTH_HOOKS_EARLY_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* The kernel's answer: a negative errno where it refuses. */
static inline long berth__early_call(long number, long a, long b, long c, long d, long e)
{
    register long fourth __asm__("r10") = d;
    register long fifth __asm__("r8") = e;
    register long sixth __asm__("r9") = 0;
    long r;

    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth), "r"(sixth)
                     : "rcx", "r11", "memory");
    return r;
}

/* Zeroed; NULL: the kernel has none. */
static inline void *berth__early_map(size_t size)
{
    long p = berth__early_call(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);

    return p < 0 && p >= -4095 ? NULL : (void *)p;
}

/* The compiler must not make a call of the C library's of these loops. */
#define BERTH_NO_IDIOM() __asm__ volatile("" ::: "memory")

static inline size_t berth__early_length(const char *s)
{
    size_t n = 0;

    for (; s[n]; n++)
        BERTH_NO_IDIOM();
    return n;
}

static inline bool berth__early_begins(const char *s, const char *prefix)
{
    for (; *prefix; s++, prefix++)
        if (*s != *prefix)
            return false;
    return true;
}

/* The last name of a path. */
static inline const char *berth__early_base(const char *path)
{
    const char *base = path;

    for (; *path; path++)
        if (*path == '/')
            base = path + 1;
    return base;
}

#endif
