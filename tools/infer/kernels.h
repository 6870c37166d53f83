/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernels: the inner loops, once per instruction set, chosen when the program
 * starts by what the CPU has.
 *
 * Determinism: within one instruction set, the sum of one dot product is formed in
 * one fixed order that depends on `cols` alone; how many rows and tokens a call
 * covers never changes a result. So the text depends neither on the number of
 * threads nor on how a prompt was batched. Between instruction sets the last bits
 * differ.
 */
#ifndef BERTH_INFER_KERNELS_H
#define BERTH_INFER_KERNELS_H

#include "dtype.h"

#include <stddef.h>
#include <stdint.h>

/*
 * y[t * y_stride + r] = sum over k of w[r * cols + k] * x[t * x_stride + k], for
 * `rows` rows of w and `tokens` tokens. No alignment is asked for.
 */
typedef void berth_matmul_fn(float *y, size_t y_stride, const void *w, size_t rows, size_t cols,
                             const float *x, size_t x_stride, size_t tokens);

struct berth_kernels {
    const char *name;
    berth_matmul_fn *matmul[BERTH_DTYPE_COUNT];
    /* sum[i] = sum[i] * keep + sum over j of share[j] * v[j * v_stride + i], i < count */
    void (*blend)(float *sum, size_t count, float keep, const float *share, const float *v,
                  size_t v_stride, size_t rows);
    /* A checksum that needs every byte; what a bandwidth probe runs. size_bytes: whole lines. */
    uint64_t (*read)(const void *memory, size_t size_bytes);
};

extern const struct berth_kernels berth__kernels_scalar;
extern const struct berth_kernels berth__kernels_avx2;
extern const struct berth_kernels berth__kernels_avx512;

/*
 * The kernels called `name` ("scalar", "avx2", "avx512"), or the best that the CPU
 * has for NULL. NULL where this build or this CPU lacks the named one.
 */
const struct berth_kernels *berth__kernels_choose(const char *name);

#endif
