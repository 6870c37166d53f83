/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vector kernels: the loops that kernels_avx2.c and kernels_avx512.c share.
 *
 * An including file defines, before the include:
 *   VECTOR          the type of a vector of VECTOR_LANES floats
 *   VECTOR_LANES    8 or 16
 *   TILE_ROWS, TILE_TOKENS   the largest tile; 4 * rows * tokens sums stay in registers
 *   KERNELS, KERNELS_NAME    the table to define
 * and the functions vector_zero, vector_set, vector_load, vector_store, vector_fma,
 * vector_add, vector_mul, vector_sum, vector_widen_f16, vector_widen_bf16, vector_read.
 *
 * A dot product has four vectors of sums, which take the vectors of a row in turn; they
 * are added in pairs, then the lanes, then the tail in order. Every tile shape keeps to
 * that order (see kernels.h, determinism).
 */
#ifndef BERTH_INFER_KERNELS_VECTOR_H
#define BERTH_INFER_KERNELS_VECTOR_H

#include "dtype.h"
#include "kernels.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

/* The sums are arrays that must become registers: every loop over them is unrolled. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

static ALWAYS_INLINE VECTOR weights_load(const char *row, size_t k, enum berth_dtype dtype)
{
    const void *at = row + k * berth__dtype_size(dtype);

    if (dtype == BERTH_DTYPE_F32)
        return vector_load(at);
    return dtype == BERTH_DTYPE_F16 ? vector_widen_f16(at) : vector_widen_bf16(at);
}

static ALWAYS_INLINE float weight_load(const char *row, size_t k, enum berth_dtype dtype)
{
    const void *at = row + k * berth__dtype_size(dtype);

    if (dtype == BERTH_DTYPE_F32)
        return *(const float *)at;
    return dtype == BERTH_DTYPE_F16 ? berth__f16_to_f32(*(const uint16_t *)at)
                                    : berth__bf16_to_f32(*(const uint16_t *)at);
}

/* Sums of one tile go to VECTOR_SUMS vectors each, in turn: enough to hide the adder's latency. */
#define VECTOR_SUMS 4

/*
 * How far ahead of the weights to prefetch where each is used once. The rows of a
 * matrix follow each other, so this runs on into the next rows; what lies behind the
 * last one is fetched for nothing, and a prefetch never faults.
 */
#define PREFETCH_BYTES 4096

/* Adds the products of the vector at column k to the sums numbered `turn`. */
static ALWAYS_INLINE void tile_step(VECTOR sums[TILE_ROWS][TILE_TOKENS][VECTOR_SUMS], size_t turn,
                                    const char *w, size_t rows, size_t row_bytes, size_t k,
                                    const float *x, size_t x_stride, size_t tokens,
                                    enum berth_dtype dtype)
{
    VECTOR weights[TILE_ROWS];

    UNROLL for (size_t r = 0; r < rows; r++)
    {
        weights[r] = weights_load(w + r * row_bytes, k, dtype);
    }
    UNROLL for (size_t t = 0; t < tokens; t++)
    {
        VECTOR input = vector_load(x + t * x_stride + k);

        UNROLL for (size_t r = 0; r < rows; r++)
        {
            sums[r][t][turn] = vector_fma(weights[r], input, sums[r][t][turn]);
        }
    }
}

/* One tile of `rows` x `tokens` dot products; both are constants where it is inlined. */
static ALWAYS_INLINE void tile_multiply(float *y, size_t y_stride, const char *w, size_t rows,
                                        size_t cols, const float *x, size_t x_stride, size_t tokens,
                                        enum berth_dtype dtype)
{
    size_t size = berth__dtype_size(dtype), row_bytes = cols * size, k = 0;
    VECTOR sums[TILE_ROWS][TILE_TOKENS][VECTOR_SUMS];

    UNROLL for (size_t i = 0; i < rows * tokens * VECTOR_SUMS; i++)
    {
        sums[i / VECTOR_SUMS / tokens][i / VECTOR_SUMS % tokens][i % VECTOR_SUMS] = vector_zero();
    }
    for (; k + VECTOR_SUMS * VECTOR_LANES <= cols; k += VECTOR_SUMS * VECTOR_LANES) {
        if (rows == 1 && tokens == 1) {
            for (size_t line = 0; line < VECTOR_SUMS * VECTOR_LANES * size; line += 64)
                __builtin_prefetch((const void *)((uintptr_t)w + k * size + PREFETCH_BYTES + line),
                                   0, 0);
        }
        UNROLL for (size_t turn = 0; turn < VECTOR_SUMS; turn++)
        {
            tile_step(sums, turn, w, rows, row_bytes, k + turn * VECTOR_LANES, x, x_stride, tokens,
                      dtype);
        }
    }
    UNROLL for (size_t turn = 0; turn + 1 < VECTOR_SUMS; turn++)
    {
        if (k + VECTOR_LANES <= cols) {
            tile_step(sums, turn, w, rows, row_bytes, k, x, x_stride, tokens, dtype);
            k += VECTOR_LANES;
        }
    }
    UNROLL for (size_t r = 0; r < rows; r++)
    {
        UNROLL for (size_t t = 0; t < tokens; t++)
        {
            float sum = vector_sum(vector_add(sums[r][t][0], sums[r][t][1]),
                                   vector_add(sums[r][t][2], sums[r][t][3]));

            for (size_t i = k; i < cols; i++)
                sum += weight_load(w + r * row_bytes, i, dtype) * x[t * x_stride + i];
            y[t * y_stride + r] = sum;
        }
    }
}

static ALWAYS_INLINE void rows_multiply(float *y, size_t y_stride, const char *w, size_t rows,
                                        size_t cols, const float *x, size_t x_stride, size_t tokens,
                                        enum berth_dtype dtype)
{
    size_t row_bytes = cols * berth__dtype_size(dtype), r = 0;

    for (; r + TILE_ROWS <= rows; r += TILE_ROWS)
        tile_multiply(y + r, y_stride, w + r * row_bytes, TILE_ROWS, cols, x, x_stride, tokens,
                      dtype);
    for (; r < rows; r++)
        tile_multiply(y + r, y_stride, w + r * row_bytes, 1, cols, x, x_stride, tokens, dtype);
}

/*
 * Several tokens: tokens outside, rows inside, so that a tile's inputs stay in the first
 * cache while rows stream by. One token: row after row, because memory is read fastest as
 * one stream.
 */
static ALWAYS_INLINE void matmul(float *y, size_t y_stride, const void *w, size_t rows, size_t cols,
                                 const float *x, size_t x_stride, size_t tokens,
                                 enum berth_dtype dtype)
{
    size_t row_bytes = cols * berth__dtype_size(dtype), t = 0;

    for (; t + TILE_TOKENS <= tokens; t += TILE_TOKENS)
        rows_multiply(y + t * y_stride, y_stride, w, rows, cols, x + t * x_stride, x_stride,
                      TILE_TOKENS, dtype);
    for (; t < tokens; t++) {
        for (size_t r = 0; r < rows; r++)
            tile_multiply(y + t * y_stride + r, y_stride, (const char *)w + r * row_bytes, 1, cols,
                          x + t * x_stride, x_stride, 1, dtype);
    }
}

static void matmul_f32(float *y, size_t y_stride, const void *w, size_t rows, size_t cols,
                       const float *x, size_t x_stride, size_t tokens)
{
    matmul(y, y_stride, w, rows, cols, x, x_stride, tokens, BERTH_DTYPE_F32);
}

static void matmul_f16(float *y, size_t y_stride, const void *w, size_t rows, size_t cols,
                       const float *x, size_t x_stride, size_t tokens)
{
    matmul(y, y_stride, w, rows, cols, x, x_stride, tokens, BERTH_DTYPE_F16);
}

static void matmul_bf16(float *y, size_t y_stride, const void *w, size_t rows, size_t cols,
                        const float *x, size_t x_stride, size_t tokens)
{
    matmul(y, y_stride, w, rows, cols, x, x_stride, tokens, BERTH_DTYPE_BF16);
}

static void blend(float *sum, size_t count, float keep, const float *share, const float *v,
                  size_t v_stride, size_t rows)
{
    size_t i = 0;

    for (; i + VECTOR_LANES <= count; i += VECTOR_LANES) {
        VECTOR part = vector_mul(vector_load(sum + i), vector_set(keep));

        for (size_t j = 0; j < rows; j++)
            part = vector_fma(vector_set(share[j]), vector_load(v + j * v_stride + i), part);
        vector_store(sum + i, part);
    }
    for (; i < count; i++) {
        sum[i] *= keep;
        for (size_t j = 0; j < rows; j++)
            sum[i] += share[j] * v[j * v_stride + i];
    }
}

const struct berth_kernels KERNELS = {
    .name = KERNELS_NAME,
    .matmul =
        {
            [BERTH_DTYPE_F32] = matmul_f32,
            [BERTH_DTYPE_F16] = matmul_f16,
            [BERTH_DTYPE_BF16] = matmul_bf16,
        },
    .blend = blend,
    .read = vector_read,
};

#endif
