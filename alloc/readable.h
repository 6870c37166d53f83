/* SPDX-License-Identifier: Apache-2.0 */
/* Whether memory can be read, of which nothing is known: by asking the kernel. */
#ifndef BERTH_ALLOC_READABLE_H
#define BERTH_ALLOC_READABLE_H

#include <stdbool.h>

/*
 * Whether the aligned eight bytes at `address` can be read now. By the call that every fork() makes
 * (rt_sigprocmask), which a sandbox that forks allows. Keeps errno.
 */
bool berth__is_readable(const void *address);

#endif
