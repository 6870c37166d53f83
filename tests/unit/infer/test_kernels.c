/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: every instruction set computes what plain C computes, and one dot product has
 * the same bytes in whatever company it is computed.
 * Method: seeded random weights of every dtype, sizes around each tile's edges, each
 * kernel against sums in double; half precision exhaustively.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MAX 13
#define COLS_MAX 300
#define TOKENS_MAX 8

static const char *const isas[] = {"scalar", "avx2", "avx512"};
static uint64_t random_state = 0x5eed;

static uint32_t random_draw(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

static float random_float(void)
{
    return (float)random_draw() / (float)(1u << 30) - 1;
}

/* Finite values of every magnitude that a weight has. */
static void weights_fill(enum berth_dtype dtype, void *weights, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float value = random_float();
        uint32_t bits;

        memcpy(&bits, &value, sizeof(bits));
        if (dtype == BERTH_DTYPE_F32)
            ((float *)weights)[i] = value;
        else if (dtype == BERTH_DTYPE_BF16)
            ((uint16_t *)weights)[i] = (uint16_t)(bits >> 16);
        else
            ((uint16_t *)weights)[i] = (uint16_t)(random_draw() & 0xbbff); /* below 2 */
    }
}

struct case_data {
    float weights[ROWS_MAX * COLS_MAX]; /* room for any dtype */
    float wide[ROWS_MAX * COLS_MAX];
    float input[TOKENS_MAX * COLS_MAX];
    float output[TOKENS_MAX * (ROWS_MAX + 1)];
};

static void case_check(const struct berth_kernels *kernels, enum berth_dtype dtype, size_t rows,
                       size_t cols, size_t tokens)
{
    struct case_data *data = calloc(1, sizeof(*data));

    weights_fill(dtype, data->weights, rows * cols);
    berth__dtype_widen(dtype, data->weights, 0, rows * cols, data->wide);
    for (size_t i = 0; i < tokens * cols; i++)
        data->input[i] = random_float();
    for (size_t i = 0; i < TOKENS_MAX * (ROWS_MAX + 1); i++)
        data->output[i] = NAN;
    kernels->matmul[dtype](data->output, rows + 1, data->weights, rows, cols, data->input, cols,
                           tokens);
    for (size_t t = 0; t < tokens; t++) {
        /* The number after each token's rows is somebody else's. */
        assert_true(isnan(data->output[t * (rows + 1) + rows]));
        for (size_t r = 0; r < rows; r++) {
            double sum = 0, size = 0;
            float alone;

            for (size_t k = 0; k < cols; k++) {
                sum += (double)data->wide[r * cols + k] * data->input[t * cols + k];
                size += fabs((double)data->wide[r * cols + k] * data->input[t * cols + k]);
            }
            if (!(fabs(data->output[t * (rows + 1) + r] - sum) <= 1e-6 * size + 1e-12))
                fail_msg("%s, dtype %d, %zux%zu, %zu tokens: row %zu of token %zu is %g; "
                         "expected %g",
                         kernels->name, (int)dtype, rows, cols, tokens, r, t,
                         (double)data->output[t * (rows + 1) + r], sum);
            kernels->matmul[dtype](
                &alone, 1, (const char *)data->weights + r * cols * berth__dtype_size(dtype), 1,
                cols, data->input + t * cols, cols, 1);
            assert_memory_equal(&alone, &data->output[t * (rows + 1) + r], sizeof(alone));
        }
    }
    free(data);
}

static void products_agree_with_sums_in_double(void **state)
{
    static const size_t cols[] = {1, 7, 15, 16, 31, 32, 33, 64, 95, 96, 257, COLS_MAX};
    static const size_t rows[] = {1, 2, 3, 4, 5, 8, ROWS_MAX};
    static const size_t tokens[] = {1, 2, 3, 4, 7, TOKENS_MAX};

    for (size_t i = 0; i < sizeof(isas) / sizeof(isas[0]); i++) {
        const struct berth_kernels *kernels = berth__kernels_choose(isas[i]);

        if (!kernels) {
            print_message("this CPU has no %s\n", isas[i]);
            continue;
        }
        for (int dtype = 0; dtype < BERTH_DTYPE_COUNT; dtype++) {
            for (size_t c = 0; c < sizeof(cols) / sizeof(cols[0]); c++) {
                for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
                    for (size_t t = 0; t < sizeof(tokens) / sizeof(tokens[0]); t++)
                        case_check(kernels, (enum berth_dtype)dtype, rows[r], cols[c], tokens[t]);
                }
            }
        }
    }
}

static void blends_agree(void **state)
{
    enum { COUNT = 75, ROWS = 9 };
    float v[ROWS * COUNT], share[ROWS], sum[COUNT], expected[COUNT];

    for (size_t i = 0; i < sizeof(isas) / sizeof(isas[0]); i++) {
        const struct berth_kernels *kernels = berth__kernels_choose(isas[i]);

        if (!kernels)
            continue;
        for (size_t count = 1; count <= COUNT; count++) {
            for (size_t j = 0; j < ROWS * COUNT; j++)
                v[j] = random_float();
            for (size_t j = 0; j < ROWS; j++)
                share[j] = random_float();
            for (size_t j = 0; j < count; j++) {
                double total = (sum[j] = random_float()) * 0.5;

                for (size_t r = 0; r < ROWS; r++)
                    total += (double)share[r] * v[r * COUNT + j];
                expected[j] = (float)total;
            }
            kernels->blend(sum, count, 0.5f, share, v, COUNT, ROWS);
            for (size_t j = 0; j < count; j++)
                assert_true(fabsf(sum[j] - expected[j]) < 1e-5f);
        }
    }
}

static void every_half_widens_to_its_value(void **state)
{
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        int exponent = bits >> 10 & 0x1f, mantissa = bits & 0x3ff;
        double sign = bits & 0x8000 ? -1 : 1;
        float value = berth__f16_to_f32((uint16_t)bits);

        if (exponent == 0x1f && mantissa != 0)
            assert_true(isnan(value));
        else if (exponent == 0x1f)
            assert_true(isinf(value) && (signbit(value) != 0) == (sign < 0));
        else if (exponent == 0)
            assert_true(value == sign * ldexp(mantissa, -24) &&
                        (signbit(value) != 0) == (sign < 0));
        else
            assert_true(value == sign * ldexp(1024 + mantissa, exponent - 25));
    }
}

static void a_read_sees_every_byte(void **state)
{
    enum { SIZE = 64 * 11 };
    unsigned char *memory = aligned_alloc(64, SIZE);

    for (size_t i = 0; i < sizeof(isas) / sizeof(isas[0]); i++) {
        const struct berth_kernels *kernels = berth__kernels_choose(isas[i]);
        uint64_t empty;

        if (!kernels)
            continue;
        memset(memory, 0, SIZE);
        empty = kernels->read(memory, SIZE);
        for (size_t at = 0; at < SIZE; at++) {
            memory[at] = 1;
            assert_true(kernels->read(memory, SIZE) != empty);
            memory[at] = 0;
        }
    }
    free(memory);
}

static void unknown_names_choose_nothing(void **state)
{
    assert_null(berth__kernels_choose("avx9"));
    assert_null(berth__kernels_choose(""));
    assert_non_null(berth__kernels_choose(NULL));
    assert_string_equal(berth__kernels_choose("scalar")->name, "scalar");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_agree_with_sums_in_double),
        cmocka_unit_test(blends_agree),
        cmocka_unit_test(every_half_widens_to_its_value),
        cmocka_unit_test(a_read_sees_every_byte),
        cmocka_unit_test(unknown_names_choose_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
