/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that the C library asks for itself: streams above all.
 *
 * fork() resets the locks of all streams in the child before any handler runs. A stream on a tier
 * that the child still shares then would have its lock reset under a thread of the parent. And what
 * is copied for the child is not as at the very fork (pmem/fork.h): what the loader keeps of
 * modules, or a stream of what is not written yet, would not fit what it keeps in its own data. So
 * what the loader's code allocates, and the C library's below a size or for a stream's buffer,
 * stays on the plain path, whatever a rule says; strdup() and its like are among it.
 */
#ifndef BERTH_HOOKS_LIBC_STATE_H
#define BERTH_HOOKS_LIBC_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Larger than any stream, and than its buffers on most file systems: the wide one has 16 KiB. */
#define BERTH_LIBC_STATE_MAX ((size_t)64 << 10)

struct berth_code {
    uintptr_t start;
    size_t size;
};

/* Where such code is; zero-initialised, written once before threads exist. */
struct berth_libc_code {
    struct berth_code libc;
    struct berth_code loader;
    struct berth_code stream_buffer; /* the function of the C library that allocates these */
};
extern struct berth_libc_code berth__libc_code;

/* Finds it. Bootstrap only. */
void berth__libc_state_learn(void);

static inline bool berth__code_has(const struct berth_code *code, const void *address)
{
    return (uintptr_t)address - code->start < code->size;
}

/* Whether a block of `size` for the call that returns to `return_address` is such a block. */
static inline bool berth__libc_state_is(size_t size, const void *return_address)
{
    if (berth__code_has(&berth__libc_code.libc, return_address))
        return size < BERTH_LIBC_STATE_MAX ||
               berth__code_has(&berth__libc_code.stream_buffer, return_address);
    return berth__code_has(&berth__libc_code.loader, return_address);
}

#endif
