/* SPDX-License-Identifier: Apache-2.0 */
#include "byte_alphabet.h"

#include "utf8.h"

static bool byte_is_itself(unsigned int byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* The byte that a code point stands for, or -1. */
static int code_to_byte(uint32_t code)
{
    unsigned int moved = 0;

    if (code < 0x100)
        return byte_is_itself(code) ? (int)code : -1;
    for (unsigned int byte = 0; byte < 0x100; byte++) {
        if (byte_is_itself(byte))
            continue;
        if (code == 0x100 + moved++)
            return (int)byte;
    }
    return -1;
}

bool berth__byte_alphabet_decode(const char *text, size_t size, unsigned char *bytes,
                                 size_t *ret_size)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + size;
    size_t count = 0;

    while (at < end) {
        uint32_t code;
        size_t length;
        int byte;

        if (berth__utf8_next(at, (size_t)(end - at), &code, &length) != BERTH_UTF8_VALID)
            return false;
        byte = code_to_byte(code);
        if (byte < 0)
            return false;
        bytes[count++] = (unsigned char)byte;
        at += length;
    }
    *ret_size = count;
    return true;
}
