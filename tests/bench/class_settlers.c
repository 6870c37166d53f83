/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs in C for classifier.py, which know their weights. Usage: class_settlers NAME STEPS.
 *
 *  vision   layers of convolutions; each is read from a file by itself, and what it computes is
 *           allocated when it runs and freed when the next one has it.
 *  arena    a runtime that reads all weights into one block, and computes into another, which it
 *           reserves when it starts; a step's result is the caller's.
 *  tagger   a recurrent model whose gates are blocks of their own, made by one function that draws
 *           them; states are kept from step to step, and sentences come and go.
 *
 * After the steps each prints "ready", waits for a line, and prints what it has and what Berth
 * takes that for, as JSON.
 */
#include "alloc/berth.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 64 };
static float *weights[MOST];
static size_t weight_count;

static void *must(void *p, const char *what)
{
    if (!p) {
        fprintf(stderr, "class_settlers: %s\n", what);
        exit(1);
    }
    return p;
}

static float *room(size_t count)
{
    return must(malloc(count * sizeof(float)), "no memory");
}

static float draw(void)
{
    return (float)(rand() / (RAND_MAX / 2.0) - 1);
}

static void draw_all(float *to, size_t count, float scale)
{
    for (size_t i = 0; i < count; i++)
        to[i] = scale * draw();
}

/* A file of so many numbers, which goes with the program. */
static FILE *make_file(size_t count)
{
    FILE *file = must(tmpfile(), "no file");
    float some[1024];

    for (size_t at = 0; at < count; at += 1024) {
        draw_all(some, 1024, 0.04f);
        if (fwrite(some, sizeof(some), 1, file) != 1)
            exit(1);
    }
    rewind(file);
    return file;
}

static void read_all(FILE *file, float *to, size_t count)
{
    if (fread(to, sizeof(float), count, file) != count)
        exit(1);
}

/* y = x w', for so many rows of x. */
static void multiply(float *y, const float *x, const float *w, size_t count, size_t from, size_t to)
{
    for (size_t t = 0; t < count; t++)
        for (size_t i = 0; i < to; i++) {
            float sum = 0;

            for (size_t j = 0; j < from; j++)
                sum += x[t * from + j] * w[i * from + j];
            y[t * to + i] = sum > 0 ? sum : sum / 8;
        }
}

enum { STAGES = 5, SIDE = 32 };
static const size_t channels[STAGES + 1] = {3, 64, 128, 256, 256, 512};

/* Patches of 3 x 3 as rows; half as many places each way behind them. */
static float *unfold(const float *x, size_t side, size_t depth)
{
    size_t half = side / 2;
    float *rows = room(half * half * 9 * depth), *at = rows;

    for (size_t y = 0; y < half; y++)
        for (size_t i = 0; i < half; i++)
            for (size_t k = 0; k < 9; k++, at += depth) {
                size_t from_y = (2 * y + k / 3) % side, from_x = (2 * i + k % 3) % side;

                memcpy(at, x + (from_y * side + from_x) * depth, depth * sizeof(float));
            }
    return rows;
}

static void vision(size_t steps)
{
    for (size_t i = 0; i < STAGES; i++) {
        size_t count = 9 * channels[i] * channels[i + 1];
        FILE *file = make_file(count + 1024);

        weights[weight_count++] = room(count);
        read_all(file, weights[i], count);
        fclose(file);
    }
    for (size_t step = 0; step < steps; step++) {
        size_t side = 4 * SIDE;
        float *x = room(side * side * channels[0]);

        draw_all(x, side * side * channels[0], 1);
        for (size_t i = 0; i < STAGES; i++, side /= 2) {
            float *rows = unfold(x, side, channels[i]), *y;

            free(x);
            y = room(side / 2 * (side / 2) * channels[i + 1]);
            multiply(y, rows, weights[i], side / 2 * (side / 2), 9 * channels[i], channels[i + 1]);
            free(rows);
            x = y;
        }
        free(x);
    }
}

enum { WIDTH = 384, DEPTH = 8, BATCH = 48, NAMES = 20000 };

static void arena(size_t steps)
{
    size_t layer = 4 * (size_t)WIDTH * WIDTH, count = (size_t)NAMES * WIDTH + DEPTH * layer;
    FILE *file = make_file(count + 1024);
    float *all = weights[weight_count++] = room(count), *compute;

    read_all(file, all, count);
    fclose(file);
    compute = room(8 * (size_t)BATCH * WIDTH);
    for (size_t step = 0; step < steps; step++) {
        float *x = compute, *y = compute + 2 * (size_t)BATCH * WIDTH, *result = room(NAMES);

        for (size_t i = 0; i < BATCH; i++)
            memcpy(x + i * WIDTH, all + (size_t)(rand() % NAMES) * WIDTH, WIDTH * sizeof(float));
        for (size_t i = 0; i < DEPTH; i++) {
            const float *w = all + (size_t)NAMES * WIDTH + i * layer;

            multiply(y, x, w, BATCH, WIDTH, 2 * WIDTH);
            multiply(x, y, w + layer / 2, BATCH, 2 * WIDTH, WIDTH);
        }
        multiply(result, x, all, 1, WIDTH, NAMES);
        free(result);
    }
}

enum { STATE = 320, CELLS = 3, GATES = 4, LENGTH = 64 };

static float *make_gate(size_t from)
{
    float *gate = room((from + STATE) * STATE);

    draw_all(gate, (from + STATE) * STATE, 0.05f);
    return weights[weight_count++] = gate;
}

static void run_cell(float *const gates[GATES], const float *both, float *cell, float *out)
{
    float values[GATES][STATE];

    for (size_t g = 0; g < GATES; g++)
        multiply(values[g], both, gates[g], 1, 2 * STATE, STATE);
    for (size_t i = 0; i < STATE; i++) {
        cell[i] = cell[i] / (1 + expf(-values[0][i])) + tanhf(values[1][i]) * values[2][i];
        out[i] = tanhf(cell[i]) / (1 + expf(-values[3][i]));
    }
}

static void tagger(size_t steps)
{
    float *gates[CELLS][GATES], *states[CELLS], *names = make_gate(4000);

    for (size_t c = 0; c < CELLS; c++) {
        for (size_t g = 0; g < GATES; g++)
            gates[c][g] = make_gate(STATE);
        states[c] = must(calloc(64 * (size_t)STATE, sizeof(float)), "no memory");
    }
    for (size_t step = 0; step < steps; step++) {
        float *in = room((LENGTH + step) * STATE), *out = room((LENGTH + step) * STATE);

        for (size_t t = 0; t < LENGTH + step; t++)
            memcpy(in + t * STATE, names + (size_t)(rand() % 4000) * STATE, STATE * sizeof(float));
        for (size_t c = 0; c < CELLS; c++)
            for (size_t t = 0; t < LENGTH + step; t++) {
                float both[2 * STATE];
                float *own = states[c] + 2 * (t % 32) * STATE;

                memcpy(both, in + t * STATE, STATE * sizeof(float));
                memcpy(both + STATE, out + t * STATE, STATE * sizeof(float));
                run_cell(gates[c], both, own, own + STATE);
                memcpy(in + t * STATE, own + STATE, STATE * sizeof(float));
            }
        free(in);
        free(out);
    }
}

static const struct {
    const char *name;
    void (*run)(size_t steps);
} programs[] = {{"vision", vision}, {"arena", arena}, {"tagger", tagger}};

static void tell(void)
{
    size_t total = 0, found = 0;

    printf("ready\n");
    fflush(stdout);
    getchar();
    for (size_t i = 0; i < weight_count; i++) {
        struct berth_block_info info;

        if (berth_describe(weights[i], &info, sizeof(info)) != 0)
            continue;
        total += info.requested;
        found += info.tag == BERTH_TAG_WEIGHT ? info.requested : 0;
    }
    printf("{\"weights\": %zu, \"weights_found\": %zu, \"cache\": 0, \"cache_found\": 0}\n", total,
           found);
}

int main(int argc, char **argv)
{
    size_t steps = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;

    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]) && steps > 0; i++)
        if (strcmp(argv[1], programs[i].name) == 0) {
            programs[i].run(steps);
            tell();
            return 0;
        }
    fprintf(stderr, "usage: class_settlers vision|arena|tagger STEPS\n");
    return 2;
}
