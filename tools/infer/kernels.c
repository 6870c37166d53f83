/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels.h"

#include <stdbool.h>
#include <string.h>
#ifdef BERTH_INFER_X86
#include <cpuid.h>
#endif

/* As many running sums as the loop of one dot product has; enough to hide the adder's latency
 * where the compiler does not vectorise, and a vector's worth where it does. */
#define LANES 8

static inline float weight_at(const void *w, size_t i, enum berth_dtype dtype)
{
    if (dtype == BERTH_DTYPE_F32)
        return ((const float *)w)[i];
    if (dtype == BERTH_DTYPE_F16)
        return berth__f16_to_f32(((const uint16_t *)w)[i]);
    return berth__bf16_to_f32(((const uint16_t *)w)[i]);
}

static inline float row_dot(const void *w, size_t first, const float *x, size_t cols,
                            enum berth_dtype dtype)
{
    float lanes[LANES] = {0}, sum;
    size_t k = 0;

    for (; k + LANES <= cols; k += LANES) {
        for (size_t i = 0; i < LANES; i++)
            lanes[i] += weight_at(w, first + k + i, dtype) * x[k + i];
    }
    sum = ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
          ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
    for (; k < cols; k++)
        sum += weight_at(w, first + k, dtype) * x[k];
    return sum;
}

static inline void rows_multiply(float *y, size_t y_stride, const void *w, size_t rows, size_t cols,
                                 const float *x, size_t x_stride, size_t tokens,
                                 enum berth_dtype dtype)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t t = 0; t < tokens; t++)
            y[t * y_stride + r] = row_dot(w, r * cols, x + t * x_stride, cols, dtype);
    }
}

static void scalar_matmul_f32(float *y, size_t y_stride, const void *w, size_t rows, size_t cols,
                              const float *x, size_t x_stride, size_t tokens)
{
    rows_multiply(y, y_stride, w, rows, cols, x, x_stride, tokens, BERTH_DTYPE_F32);
}

static void scalar_matmul_f16(float *y, size_t y_stride, const void *w, size_t rows, size_t cols,
                              const float *x, size_t x_stride, size_t tokens)
{
    rows_multiply(y, y_stride, w, rows, cols, x, x_stride, tokens, BERTH_DTYPE_F16);
}

static void scalar_matmul_bf16(float *y, size_t y_stride, const void *w, size_t rows, size_t cols,
                               const float *x, size_t x_stride, size_t tokens)
{
    rows_multiply(y, y_stride, w, rows, cols, x, x_stride, tokens, BERTH_DTYPE_BF16);
}

static void scalar_blend(float *sum, size_t count, float keep, const float *share, const float *v,
                         size_t v_stride, size_t rows)
{
    for (size_t i = 0; i < count; i++)
        sum[i] *= keep;
    for (size_t j = 0; j < rows; j++) {
        for (size_t i = 0; i < count; i++)
            sum[i] += share[j] * v[j * v_stride + i];
    }
}

static uint64_t scalar_read(const void *memory, size_t size_bytes)
{
    const uint64_t *words = memory;
    uint64_t lanes[LANES] = {0}, sum = 0;

    for (size_t k = 0; k + LANES <= size_bytes / sizeof(words[0]); k += LANES) {
        for (size_t i = 0; i < LANES; i++)
            lanes[i] += words[k + i];
    }
    for (size_t i = 0; i < LANES; i++)
        sum += lanes[i];
    return sum;
}

const struct berth_kernels berth__kernels_scalar = {
    .name = "scalar",
    .matmul =
        {
            [BERTH_DTYPE_F32] = scalar_matmul_f32,
            [BERTH_DTYPE_F16] = scalar_matmul_f16,
            [BERTH_DTYPE_BF16] = scalar_matmul_bf16,
        },
    .blend = scalar_blend,
    .read = scalar_read,
};

#ifdef BERTH_INFER_X86
/* Older clangs do not know the name "f16c". That the system saves the registers is checked with
 * avx2, which needs the same. */
static bool f16c_usable(void)
{
    unsigned int a, b, c, d;

    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static bool avx2_usable(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c_usable();
}

static bool avx512_usable(void)
{
    return avx2_usable() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
#endif

const struct berth_kernels *berth__kernels_choose(const char *name)
{
#ifdef BERTH_INFER_X86
    if (avx512_usable() && (!name || strcmp(name, "avx512") == 0))
        return &berth__kernels_avx512;
    if (avx2_usable() && (!name || strcmp(name, "avx2") == 0))
        return &berth__kernels_avx2;
#endif
    if (!name || strcmp(name, "scalar") == 0)
        return &berth__kernels_scalar;
    return NULL;
}
