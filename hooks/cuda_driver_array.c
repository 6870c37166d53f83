/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/cuda_driver_array.h"

#include <stdbool.h>
#include <stddef.h>

/* As cuda.h lays them out. */
struct descriptor {
    size_t width, height;
    int format;
    unsigned channels;
};
struct descriptor_3d {
    size_t width, height, depth;
    int format;
    unsigned channels;
    unsigned flags;
};

enum { LAYERED = 0x01, CUBEMAP = 0x04, SPARSE = 0x40, DEFERRED_MAPPING = 0x80 };

/* A level of an array has at most one bit less of each extent than the level before. */
#define LEVELS_MAX 64

/* CU_AD_FORMAT_*: formats with a channel count of their own, bits per element. */
static unsigned packed_bits(int format)
{
    static const unsigned char normalized[] = {8, 16, 32, 16, 32, 64}; /* INT8X1 ... INT16X4 */

    if (format >= 0xc0 && format <= 0xcb)
        return normalized[(format - 0xc0) % 6];
    switch (format) {
    case 0x91: /* BC1: 8 bytes for 4 x 4 elements */
    case 0x92:
    case 0x97: /* BC4 */
    case 0x98:
        return 4;
    case 0xb0: /* planar 4:2:0 with 8 bits */
        return 12;
    case 0x9f: /* with 10 and 16 bits in 16 */
    case 0xa1:
        return 24;
    case 0xa2: /* 4:2:2 */
    case 0xa5:
        return 16;
    case 0xb2: /* 4:4:4 */
    case 0xb4:
        return 24;
    case 0xb3:
    case 0xb5:
        return 48;
    default:
        break;
    }
    if (format >= 0x93 && format <= 0x9e) /* the other block-compressed ones: 16 bytes */
        return 8;
    return format == 0x50 || (format >= 0xa3 && format <= 0xa9) ? 32 : format == 0xb1 ? 64 : 0;
}

static unsigned element_bits(int format, unsigned channels)
{
    switch (format) {
    case 0x01: /* 8 bits a channel */
    case 0x08:
        return 8 * channels;
    case 0x02: /* 16 */
    case 0x09:
    case 0x10:
        return 16 * channels;
    case 0x03: /* 32 */
    case 0x0a:
    case 0x20:
        return 32 * channels;
    default:
        return packed_bits(format);
    }
}

static size_t extent_at(size_t extent, unsigned level)
{
    return extent >> level ? extent >> level : 1;
}

uint64_t berth__array_size_3d(const void *descriptor, unsigned levels)
{
    const struct descriptor_3d *array = descriptor;
    uint64_t sum = 0, bits;
    bool is_layered;

    if (!array || array->width == 0 || (array->flags & (SPARSE | DEFERRED_MAPPING)))
        return 0;
    bits = element_bits(array->format, array->channels);
    is_layered = (array->flags & (LAYERED | CUBEMAP)) != 0;
    for (unsigned i = 0; i < levels && i < LEVELS_MAX; i++) {
        uint64_t size;

        /* The driver makes no more levels than halve the longest extent. */
        if (((array->width | array->height | (is_layered ? 0 : array->depth)) >> i) == 0)
            break;
        if (__builtin_mul_overflow(extent_at(array->width, i), extent_at(array->height, i),
                                   &size) ||
            __builtin_mul_overflow(size, extent_at(array->depth, is_layered ? 0 : i), &size) ||
            __builtin_mul_overflow(size, bits, &size) ||
            __builtin_add_overflow(sum, (size + 7) / 8, &sum))
            return 0;
    }
    return sum;
}

uint64_t berth__array_size(const void *descriptor)
{
    const struct descriptor *array = descriptor;
    struct descriptor_3d same;

    if (!array)
        return 0;
    same = (struct descriptor_3d){
        .width = array->width,
        .height = array->height,
        .format = array->format,
        .channels = array->channels,
    };
    return berth__array_size_3d(&same, 1);
}
