/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A buffer: bytes in OS pages of their own.
 *
 * The socket's thread has a table of descriptors of its own, and so must not enter a program's own
 * malloc(): one that keeps a descriptor, as of a pipe by which it tries what is readable, would use
 * its number here for what is another thing, and might make it anew and then use that number in the
 * program. What the thread holds, and what it is handed, are buffers.
 *
 * Owned by whoever has its address; its size is the owner's to remember.
 */
#ifndef BERTH_IPC_BUFFER_H
#define BERTH_IPC_BUFFER_H

#include <stddef.h>

/* A buffer of `length` bytes, not 0, which are copied; NULL when there is no memory. */
char *berth__buffer_make(const void *bytes, size_t length);

/* As realloc(): `buffer` of `old_size` bytes, or NULL, with room for `size`, which is not 0. */
char *berth__buffer_resize(char *buffer, size_t old_size, size_t size);

/* NULL is none. */
void berth__buffer_free(char *buffer, size_t size);

#endif
