/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for call sites and their names: handed out in small pieces, zeroed, never taken back.
 *
 * It comes from mmap, because malloc may be what is being served. Lock-free: a fork in the middle
 * of an allocation of another thread leaves nothing locked in the child.
 */
#ifndef BERTH_ALLOC_SITE_STORE_H
#define BERTH_ALLOC_SITE_STORE_H

#include <stddef.h>

/* `size` zero bytes, aligned for any object, or NULL. They live as long as the process. */
void *berth__site_store_alloc(size_t size);

/* A copy of `length` bytes of `text` with a terminator, or NULL. */
const char *berth__site_store_text(const char *text, size_t length);

#endif
