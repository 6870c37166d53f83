/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A dtype: how the numbers of a weight are stored. Weights stay in memory as the
 * file has them; kernels widen them to float as they read.
 */
#ifndef BERTH_INFER_DTYPE_H
#define BERTH_INFER_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum berth_dtype {
    BERTH_DTYPE_F32,
    BERTH_DTYPE_F16,
    BERTH_DTYPE_BF16,
    BERTH_DTYPE_COUNT,
};

static inline size_t berth__dtype_size(enum berth_dtype dtype)
{
    return dtype == BERTH_DTYPE_F32 ? 4 : 2;
}

static inline float berth__bf16_to_f32(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;

    memcpy(&value, &wide, sizeof(value));
    return value;
}

/* Exact for every half, subnormals and NaN payloads included. */
float berth__f16_to_f32(uint16_t bits);

/* Widens `count` numbers that start at element `first` of `data`. */
void berth__dtype_widen(enum berth_dtype dtype, const void *data, size_t first, size_t count,
                        float *values);

#endif
