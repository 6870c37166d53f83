/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small blocks that the C library asks for itself: streams above all.
 *
 * fork() resets the locks of all streams in the child before any handler runs. A stream on a tier
 * that the child still shares then would have its lock reset under a thread of the parent. So what
 * the C library's own code allocates below a size stays on the plain path, whatever a rule says;
 * strdup() and its like are among it.
 */
#ifndef BERTH_HOOKS_LIBC_STATE_H
#define BERTH_HOOKS_LIBC_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Larger than any stream, with its locks and wide-character part. */
#define BERTH_LIBC_STATE_MAX ((size_t)4 << 10)

/* Where the C library's code is; zero-initialised, written once before threads exist. */
struct berth_libc_code {
    uintptr_t start;
    size_t size;
};
extern struct berth_libc_code berth__libc_code;

/* Finds it. Bootstrap only. */
void berth__libc_state_learn(void);

/* Whether a block of `size` for the call that returns to `return_address` is such a block. */
static inline bool berth__libc_state_is(size_t size, const void *return_address)
{
    return size < BERTH_LIBC_STATE_MAX &&
           (uintptr_t)return_address - berth__libc_code.start < berth__libc_code.size;
}

#endif
