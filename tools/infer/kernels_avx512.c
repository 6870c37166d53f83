/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled for AVX-512 F, BW, DQ and VL; reached only on CPUs that have them. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define VECTOR __m512
#define VECTOR_LANES 16
#define TILE_ROWS 2
#define TILE_TOKENS 3
#define KERNELS berth__kernels_avx512
#define KERNELS_NAME "avx512"

static inline __m512 vector_zero(void)
{
    return _mm512_setzero_ps();
}

static inline __m512 vector_set(float value)
{
    return _mm512_set1_ps(value);
}

static inline __m512 vector_load(const float *values)
{
    return _mm512_loadu_ps(values);
}

static inline void vector_store(float *values, __m512 vector)
{
    _mm512_storeu_ps(values, vector);
}

static inline __m512 vector_fma(__m512 a, __m512 b, __m512 c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline __m512 vector_add(__m512 a, __m512 b)
{
    return _mm512_add_ps(a, b);
}

static inline __m512 vector_mul(__m512 a, __m512 b)
{
    return _mm512_mul_ps(a, b);
}

static inline float vector_sum(__m512 a, __m512 b)
{
    return _mm512_reduce_add_ps(_mm512_add_ps(a, b));
}

static inline __m512 vector_widen_f16(const uint16_t *bits)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)bits));
}

static inline __m512 vector_widen_bf16(const uint16_t *bits)
{
    __m256i halves = _mm256_loadu_si256((const __m256i *)(const void *)bits);

    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

static uint64_t vector_read(const void *memory, size_t size_bytes)
{
    const __m512i *lines = memory;
    size_t count = size_bytes / sizeof(lines[0]), i = 0;
    __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                       _mm512_setzero_si512()};

    for (; i + 4 <= count; i += 4) {
        for (size_t j = 0; j < 4; j++)
            sums[j] = _mm512_add_epi64(sums[j], _mm512_loadu_si512(&lines[i + j]));
    }
    for (; i < count; i++)
        sums[0] = _mm512_add_epi64(sums[0], _mm512_loadu_si512(&lines[i]));
    sums[0] =
        _mm512_add_epi64(_mm512_add_epi64(sums[0], sums[1]), _mm512_add_epi64(sums[2], sums[3]));
    return (uint64_t)_mm512_reduce_add_epi64(sums[0]);
}

#include "kernels_vector.h"
