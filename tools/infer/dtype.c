/* SPDX-License-Identifier: Apache-2.0 */
#include "dtype.h"

float berth__f16_to_f32(uint16_t bits)
{
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16;
    uint32_t exponent = (bits >> 10) & 0x1f;
    uint32_t mantissa = bits & 0x3ff;
    uint32_t wide;
    float value;

    if (exponent == 0) {
        /* Zero or subnormal: the mantissa counts units of 2^-24. */
        value = (float)mantissa * 0x1p-24f;
        memcpy(&wide, &value, sizeof(wide));
        wide |= sign;
    } else if (exponent == 0x1f) {
        wide = sign | 0x7f800000 | mantissa << 13;
    } else {
        wide = sign | (exponent + 127 - 15) << 23 | mantissa << 13;
    }
    memcpy(&value, &wide, sizeof(value));
    return value;
}

void berth__dtype_widen(enum berth_dtype dtype, const void *data, size_t first, size_t count,
                        float *values)
{
    const uint16_t *halves = data;

    switch (dtype) {
    case BERTH_DTYPE_F32:
        memcpy(values, (const float *)data + first, count * sizeof(float));
        break;
    case BERTH_DTYPE_F16:
        for (size_t i = 0; i < count; i++)
            values[i] = berth__f16_to_f32(halves[first + i]);
        break;
    default:
        for (size_t i = 0; i < count; i++)
            values[i] = berth__bf16_to_f32(halves[first + i]);
        break;
    }
}
