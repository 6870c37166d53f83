/* SPDX-License-Identifier: Apache-2.0 */
#include "projection.h"

#include <math.h>

/* A piece of weights stays in the second cache while all tokens of a batch use it. */
#define PIECE_BYTES ((size_t)1 << 18)

/* Pieces are whole tiles of every kernel. */
#define PIECE_ROWS_STEP 8

/* Pieces per thread at least, so that a thread that was put aside costs little. */
#define PIECES_PER_THREAD 4

static size_t piece_rows(const struct berth_projection *projection, size_t rows, size_t threads)
{
    const struct berth_tensor *weight = &projection->linears[0]->weight;
    size_t by_cache = PIECE_BYTES / (weight->cols * berth__dtype_size(weight->dtype));
    size_t by_threads = rows / (threads * PIECES_PER_THREAD);
    size_t grain = by_cache < by_threads ? by_cache : by_threads;

    grain -= grain % PIECE_ROWS_STEP;
    return grain < PIECE_ROWS_STEP ? PIECE_ROWS_STEP : grain;
}

static void rows_project(const struct berth_projection *projection, size_t part, size_t begin,
                         size_t end)
{
    const struct berth_linear *linear = projection->linears[part];
    const struct berth_tensor *weight = &linear->weight;
    size_t row_bytes = weight->cols * berth__dtype_size(weight->dtype);
    const float *bias = linear->bias.data;
    float *output = projection->outputs[part];

    projection->kernels->matmul[weight->dtype](
        output + begin, weight->rows, (const char *)weight->data + begin * row_bytes, end - begin,
        weight->cols, projection->input, weight->cols, projection->tokens);
    if (!bias)
        return;
    for (size_t t = 0; t < projection->tokens; t++) {
        for (size_t r = begin; r < end; r++)
            output[t * weight->rows + r] += bias[r];
    }
}

/* The range counts the rows of all parts, one part after the other. */
static void parts_project(void *arg, size_t begin, size_t end)
{
    const struct berth_projection *projection = arg;
    size_t first = 0;

    for (size_t part = 0; part < projection->parts && begin < end; part++) {
        size_t rows = projection->linears[part]->weight.rows;

        if (begin < first + rows) {
            size_t stop = end < first + rows ? end : first + rows;

            rows_project(projection, part, begin - first, stop - first);
            begin = stop;
        }
        first += rows;
    }
}

static void gated_project(void *arg, size_t begin, size_t end)
{
    const struct berth_projection *projection = arg;
    size_t rows = projection->linears[0]->weight.rows;

    rows_project(projection, 0, begin, end);
    rows_project(projection, 1, begin, end);
    for (size_t t = 0; t < projection->tokens; t++) {
        float *gate = projection->outputs[0] + t * rows;
        const float *up = projection->outputs[1] + t * rows;

        for (size_t r = begin; r < end; r++)
            gate[r] = gate[r] / (1 + expf(-gate[r])) * up[r];
    }
}

void berth__projection_run(struct berth_projection *projection, struct berth_thread_pool *pool)
{
    size_t rows = 0;

    for (size_t part = 0; part < projection->parts; part++)
        rows += projection->linears[part]->weight.rows;
    berth__thread_pool_run(pool, parts_project, projection, rows,
                           piece_rows(projection, rows, berth__thread_pool_size(pool)));
}

void berth__projection_run_gated(struct berth_projection *projection,
                                 struct berth_thread_pool *pool)
{
    size_t rows = projection->linears[0]->weight.rows;

    berth__thread_pool_run(pool, gated_project, projection, rows,
                           piece_rows(projection, rows, berth__thread_pool_size(pool)));
}
