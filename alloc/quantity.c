/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/quantity.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The shift that a unit stands for, or -1; an empty unit is bytes. */
static int unit_shift(const char *unit, size_t length)
{
    static const char letters[] = "KMGTPE";
    const char *at;

    if (length == 0 || (length == 1 && unit[0] == 'B'))
        return 0;
    at = memchr(letters, unit[0], sizeof(letters) - 1);
    if (!at)
        at = unit[0] == 'k' ? letters : NULL;
    if (!at)
        return -1;
    if (length == 1 || (length == 2 && unit[1] == 'B') ||
        (length == 3 && unit[1] == 'i' && unit[2] == 'B'))
        return (int)(at - letters + 1) * 10;
    return -1;
}

/* Adds the digits after the point: each must leave a whole number of bytes. */
static int add_fraction(const char *digits, size_t count, int shift, uint64_t *bytes)
{
    uint64_t numerator = 0;
    uint64_t denominator = 1;
    unsigned __int128 scaled;

    if (count == 0 || count > 18)
        return -EINVAL;
    for (size_t i = 0; i < count; i++) {
        numerator = numerator * 10 + (uint64_t)(digits[i] - '0');
        denominator *= 10;
    }
    scaled = (unsigned __int128)numerator << shift;
    if (scaled % denominator != 0)
        return -EINVAL;
    if (__builtin_add_overflow(*bytes, (uint64_t)(scaled / denominator), bytes))
        return -ERANGE;
    return 0;
}

static size_t digit_count(const char *text, size_t length)
{
    size_t n = 0;

    while (n < length && text[n] >= '0' && text[n] <= '9')
        n++;
    return n;
}

int berth__quantity_parse(const char *text, size_t length, uint64_t *ret_bytes)
{
    size_t whole = digit_count(text, length);
    size_t fraction = 0;
    size_t at = whole;
    uint64_t bytes = 0;
    int shift, r;

    if (whole == 0)
        return -EINVAL;
    if (at < length && text[at] == '.') {
        fraction = digit_count(text + at + 1, length - at - 1);
        if (fraction == 0)
            return -EINVAL;
        at += 1 + fraction;
    }
    shift = unit_shift(text + at, length - at);
    if (shift < 0)
        return -EINVAL;
    for (size_t i = 0; i < whole; i++)
        if (__builtin_mul_overflow(bytes, 10, &bytes) ||
            __builtin_add_overflow(bytes, (uint64_t)(text[i] - '0'), &bytes))
            return -ERANGE;
    if (shift > 0 && bytes >> (64 - shift) != 0)
        return -ERANGE;
    bytes <<= shift;
    if (fraction > 0) {
        r = add_fraction(text + whole + 1, fraction, shift, &bytes);
        if (r < 0)
            return r;
    }
    *ret_bytes = bytes;
    return 0;
}

/* `bytes` in units of 2^shift, times `factor`, rounded to the nearest. */
static unsigned scaled(uint64_t bytes, unsigned shift, unsigned factor)
{
    unsigned __int128 half = (unsigned __int128)1 << shift >> 1;

    return (unsigned)(((unsigned __int128)bytes * factor + half) >> shift);
}

/* In whole numbers, because printf()'s %f writes the point of the program's locale. */
const char *berth__quantity_format(uint64_t bytes, char buffer[BERTH_QUANTITY_TEXT_MAX])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 1;

    if (bytes < 1024) {
        snprintf(buffer, BERTH_QUANTITY_TEXT_MAX, "%u B", (unsigned)bytes);
        return buffer;
    }
    while (unit < 6 && (bytes >> 10 * unit >= 1024 || scaled(bytes, 10 * unit, 10) >= 10240))
        unit++;
    if (scaled(bytes, 10 * unit, 100) < 1000)
        snprintf(buffer, BERTH_QUANTITY_TEXT_MAX, "%u.%02u %s", scaled(bytes, 10 * unit, 100) / 100,
                 scaled(bytes, 10 * unit, 100) % 100, units[unit]);
    else
        snprintf(buffer, BERTH_QUANTITY_TEXT_MAX, "%u.%u %s", scaled(bytes, 10 * unit, 10) / 10,
                 scaled(bytes, 10 * unit, 10) % 10, units[unit]);
    return buffer;
}
