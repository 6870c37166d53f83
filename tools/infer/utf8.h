/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8: code points out of bytes that may be anything. */
#ifndef BERTH_INFER_UTF8_H
#define BERTH_INFER_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a decoder shows in place of bytes that are no UTF-8. */
#define BERTH_UTF8_REPLACEMENT "\xef\xbf\xbd"

enum berth_utf8_status {
    BERTH_UTF8_VALID,
    BERTH_UTF8_INVALID,    /* no continuation can make it valid */
    BERTH_UTF8_INCOMPLETE, /* the bytes end inside a sequence that is valid so far */
};

/*
 * Reads the code point at the start of `size` > 0 bytes. *ret_size is how many bytes it takes:
 * for an invalid or incomplete one those that a single replacement character stands for.
 */
enum berth_utf8_status berth__utf8_next(const unsigned char *bytes, size_t size, uint32_t *ret_code,
                                        size_t *ret_size);

/* Unicode's White_Space property. */
bool berth__utf8_is_space(uint32_t code);

#endif
