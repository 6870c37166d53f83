/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes in JSON: RFC 4648's base64, padded, without line breaks. */
#ifndef BERTH_IPC_BASE64_H
#define BERTH_IPC_BASE64_H

#include <stddef.h>

/* Room for the text of `size` bytes, with its terminator. */
#define BERTH_BASE64_TEXT_SIZE(size) (((size) + 2) / 3 * 4 + 1)

/* Writes the text of `size` bytes; returns `text`. */
char *berth__base64_encode(const void *bytes, size_t size, char *text);

/*
 * Reads a text back into `bytes`, which has room for length / 4 * 3 bytes. 0, or -EINVAL for what
 * berth__base64_encode() does not write.
 */
int berth__base64_decode(const char *text, size_t length, void *bytes, size_t *ret_size);

#endif
