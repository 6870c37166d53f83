/* SPDX-License-Identifier: Apache-2.0 */
/* A number of bytes as people write it: K, M, G, T are powers of 1024. No allocation, no locale. */
#ifndef BERTH_ALLOC_QUANTITY_H
#define BERTH_ALLOC_QUANTITY_H

#include <stddef.h>
#include <stdint.h>

/*
 * Reads "4096", "64K", "1.5G", "64KiB", "2GB" (B and iB are optional; all units are powers of
 * 1024). 0, or -EINVAL for anything else (also a fraction that is no whole byte), -ERANGE for what
 * does not fit in 64 bits. `*ret_bytes` is unchanged on error.
 */
int berth__quantity_parse(const char *text, size_t length, uint64_t *ret_bytes);

/* Room for any text that berth__quantity_format() makes. */
#define BERTH_QUANTITY_TEXT_MAX 32

/* Writes "512 B", "64.0 KiB", "1.50 GiB"; returns `buffer`. */
const char *berth__quantity_format(uint64_t bytes, char buffer[BERTH_QUANTITY_TEXT_MAX]);

#endif
