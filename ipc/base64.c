/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/base64.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *berth__base64_encode(const void *bytes, size_t size, char *text)
{
    const unsigned char *from = bytes;
    char *to = text;

    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t group = (uint32_t)from[i] << 16;

        if (left > 1)
            group |= (uint32_t)from[i + 1] << 8;
        if (left > 2)
            group |= from[i + 2];
        *to++ = digits[group >> 18];
        *to++ = digits[(group >> 12) & 63];
        *to++ = left > 1 ? digits[(group >> 6) & 63] : '=';
        *to++ = left > 2 ? digits[group & 63] : '=';
    }
    *to = '\0';
    return text;
}

/* The value of four digits, of which the last `padding` are "=", or -EINVAL. */
static int decode_group(const char *text, unsigned padding, uint32_t *ret)
{
    uint32_t group = 0;

    for (unsigned i = 0; i < 4; i++) {
        const char *digit = i < 4 - padding ? strchr(digits, text[i]) : digits;

        if (!digit || text[i] == '\0')
            return -EINVAL;
        group = group << 6 | (uint32_t)(digit - digits);
    }
    /* Bits that belong to no byte are 0: there is one text for the same bytes. */
    if (padding > 0 && (group & ((UINT32_C(1) << (8 * padding)) - 1)) != 0)
        return -EINVAL;
    *ret = group;
    return 0;
}

int berth__base64_decode(const char *text, size_t length, void *bytes, size_t *ret_size)
{
    unsigned char *to = bytes;
    unsigned padding = 0;

    if (length % 4 != 0)
        return -EINVAL;
    if (length > 0 && text[length - 1] == '=')
        padding = text[length - 2] == '=' ? 2 : 1;
    for (size_t i = 0; i < length; i += 4) {
        unsigned here = i + 4 == length ? padding : 0;
        uint32_t group;

        if (decode_group(text + i, here, &group) < 0)
            return -EINVAL;
        for (unsigned byte = 0; byte < 3 - here; byte++)
            *to++ = (unsigned char)(group >> (16 - 8 * byte));
    }
    *ret_size = (size_t)(to - (unsigned char *)bytes);
    return 0;
}
