/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled for AVX2, FMA and F16C; reached only on CPUs that have them. */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define VECTOR __m256
#define VECTOR_LANES 8
#define TILE_ROWS 1
#define TILE_TOKENS 3
#define KERNELS berth__kernels_avx2
#define KERNELS_NAME "avx2"

static inline __m256 vector_zero(void)
{
    return _mm256_setzero_ps();
}

static inline __m256 vector_set(float value)
{
    return _mm256_set1_ps(value);
}

static inline __m256 vector_load(const float *values)
{
    return _mm256_loadu_ps(values);
}

static inline void vector_store(float *values, __m256 vector)
{
    _mm256_storeu_ps(values, vector);
}

static inline __m256 vector_fma(__m256 a, __m256 b, __m256 c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline __m256 vector_add(__m256 a, __m256 b)
{
    return _mm256_add_ps(a, b);
}

static inline __m256 vector_mul(__m256 a, __m256 b)
{
    return _mm256_mul_ps(a, b);
}

static inline float vector_sum(__m256 a, __m256 b)
{
    __m256 pair = _mm256_add_ps(a, b);
    __m128 quad = _mm_add_ps(_mm256_castps256_ps128(pair), _mm256_extractf128_ps(pair, 1));

    quad = _mm_add_ps(quad, _mm_movehl_ps(quad, quad));
    quad = _mm_add_ss(quad, _mm_movehdup_ps(quad));
    return _mm_cvtss_f32(quad);
}

static inline __m256 vector_widen_f16(const uint16_t *bits)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)bits));
}

static inline __m256 vector_widen_bf16(const uint16_t *bits)
{
    __m128i halves = _mm_loadu_si128((const __m128i *)(const void *)bits);

    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

static uint64_t vector_read(const void *memory, size_t size_bytes)
{
    const __m256i *lines = memory;
    size_t count = size_bytes / sizeof(lines[0]), i = 0;
    __m256i sums[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                       _mm256_setzero_si256()};
    uint64_t lanes[4];

    for (; i + 4 <= count; i += 4) {
        for (size_t j = 0; j < 4; j++)
            sums[j] = _mm256_add_epi64(sums[j], _mm256_loadu_si256(&lines[i + j]));
    }
    for (; i < count; i++)
        sums[0] = _mm256_add_epi64(sums[0], _mm256_loadu_si256(&lines[i]));
    sums[0] =
        _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]), _mm256_add_epi64(sums[2], sums[3]));
    _mm256_storeu_si256((__m256i *)(void *)lanes, sums[0]);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

#include "kernels_vector.h"
