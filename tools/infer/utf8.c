/* SPDX-License-Identifier: Apache-2.0 */
#include "utf8.h"

/* The range of the second byte excludes overlong forms, surrogates and what is above U+10FFFF. */
static void second_range(unsigned char first, unsigned char *ret_low, unsigned char *ret_high)
{
    *ret_low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    *ret_high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
}

enum berth_utf8_status berth__utf8_next(const unsigned char *bytes, size_t size, uint32_t *ret_code,
                                        size_t *ret_size)
{
    unsigned char first = bytes[0], low, high;
    size_t length;
    uint32_t code;

    *ret_size = 1;
    if (first < 0x80) {
        *ret_code = first;
        return BERTH_UTF8_VALID;
    }
    if (first < 0xc2 || first > 0xf4)
        return BERTH_UTF8_INVALID;
    length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    code = first & (0x7f >> length);
    second_range(first, &low, &high);
    for (size_t i = 1; i < length; i++) {
        *ret_size = i;
        if (i == size)
            return BERTH_UTF8_INCOMPLETE;
        if (bytes[i] < low || bytes[i] > high)
            return BERTH_UTF8_INVALID;
        code = code << 6 | (bytes[i] & 0x3f);
        low = 0x80;
        high = 0xbf;
    }
    *ret_size = length;
    *ret_code = code;
    return BERTH_UTF8_VALID;
}

bool berth__utf8_is_space(uint32_t code)
{
    return (code >= 0x09 && code <= 0x0d) || code == 0x20 || code == 0x85 || code == 0xa0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
           code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}
