/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The byte alphabet: byte-level BPE writes each byte as one printable character, so
 * that a vocabulary is text. Printable Latin-1 stands for itself; the other 68 bytes
 * are U+0100 and on, in order.
 */
#ifndef BERTH_INFER_BYTE_ALPHABET_H
#define BERTH_INFER_BYTE_ALPHABET_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Turns a vocabulary string into the bytes it stands for; `bytes` has room for `size`.
 * false where a character is not of the alphabet; `bytes` then is undefined.
 */
bool berth__byte_alphabet_decode(const char *text, size_t size, unsigned char *bytes,
                                 size_t *ret_size);

#endif
