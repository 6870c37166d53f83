/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A language model in C for classifier.py, which knows the truth. Usage:
 * class_decoder STEPS [reserved] [joined].
 *
 * One function reads all weights from a file into blocks of malloc, another reserves the caches
 * when the program starts. The first step takes a prompt, all others a token. What a layer computes
 * is allocated in the step, or with `reserved` once, when the program starts. With `joined` the
 * caches are one block.
 *
 * After the steps it prints "ready", waits for a line, and prints what it has and what Berth takes
 * that for, as JSON.
 */
#include "alloc/berth.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 256, HIDDEN = 688, WORDS = 32000, LAYERS = 8, ROOM = 512, PROMPT = 64 };
enum { Q, K, V, OUT, GATE, UP, DOWN, MATRICES };

static const size_t rows[MATRICES] = {WIDTH, WIDTH, WIDTH, WIDTH, HIDDEN, HIDDEN, WIDTH};
static const size_t columns[MATRICES] = {WIDTH, WIDTH, WIDTH, WIDTH, WIDTH, WIDTH, HIDDEN};

struct layer {
    float *matrices[MATRICES];
    float *keys, *values;
};
static struct layer layers[LAYERS];
static float *words, *head, *caches;
static bool is_reserved, is_joined;
static float *scratch;
static size_t scratch_used;

static void *must(void *p, const char *what)
{
    if (!p) {
        fprintf(stderr, "class_decoder: %s\n", what);
        exit(1);
    }
    return p;
}

static float draw(float scale)
{
    return scale * (float)(rand() / (RAND_MAX / 2.0) - 1);
}

/* A file of so many numbers, which goes with the program. */
static FILE *make_file(size_t count)
{
    FILE *file = must(tmpfile(), "no file");
    float some[1024];

    for (size_t at = 0; at < count; at += 1024) {
        for (size_t i = 0; i < 1024; i++)
            some[i] = draw(0.05f);
        if (fwrite(some, sizeof(some), 1, file) != 1)
            exit(1);
    }
    rewind(file);
    return file;
}

static float *read_tensor(FILE *file, size_t count)
{
    float *tensor = must(malloc(count * sizeof(float)), "no memory");

    if (fread(tensor, sizeof(float), count, file) != count)
        exit(1);
    return tensor;
}

static void load(void)
{
    size_t count = 2 * (size_t)WORDS * WIDTH;
    FILE *file;

    for (int m = 0; m < MATRICES; m++)
        count += LAYERS * rows[m] * columns[m];
    file = make_file(count);
    words = read_tensor(file, (size_t)WORDS * WIDTH);
    for (int i = 0; i < LAYERS; i++)
        for (int m = 0; m < MATRICES; m++)
            layers[i].matrices[m] = read_tensor(file, rows[m] * columns[m]);
    head = read_tensor(file, (size_t)WORDS * WIDTH);
    fclose(file);
}

static void reserve_caches(void)
{
    size_t one = (size_t)ROOM * WIDTH;

    if (is_joined)
        caches = must(calloc(2 * LAYERS * one, sizeof(float)), "no memory");
    for (int i = 0; i < LAYERS; i++) {
        layers[i].keys = is_joined ? caches + 2 * (size_t)i * one
                                   : must(calloc(one, sizeof(float)), "no memory");
        layers[i].values =
            is_joined ? layers[i].keys + one : must(calloc(one, sizeof(float)), "no memory");
    }
}

static float *take(size_t count)
{
    float *p = scratch + scratch_used;

    if (!is_reserved)
        return must(malloc(count * sizeof(float)), "no memory");
    scratch_used += count;
    return p;
}

static void drop(float *p)
{
    if (!is_reserved)
        free(p);
}

/* y = x w', for so many rows of x. */
static float *multiply(const float *x, const float *w, size_t count, size_t from, size_t to)
{
    float *y = take(count * to);

    for (size_t t = 0; t < count; t++)
        for (size_t i = 0; i < to; i++) {
            float sum = 0;

            for (size_t j = 0; j < from; j++)
                sum += x[t * from + j] * w[i * from + j];
            y[t * to + i] = sum;
        }
    return y;
}

static float *attend(const struct layer *layer, const float *q, size_t count, size_t at)
{
    float *y = take(count * WIDTH), *scores = take(count * ROOM);

    memset(y, 0, count * WIDTH * sizeof(float));
    for (size_t t = 0; t < count; t++) {
        float sum = 0;

        for (size_t past = 0; past <= at + t; past++) {
            float score = 0;

            for (size_t i = 0; i < WIDTH; i++)
                score += q[t * WIDTH + i] * layer->keys[past * WIDTH + i];
            scores[t * ROOM + past] = expf(fminf(score / 16, 20));
            sum += scores[t * ROOM + past];
        }
        for (size_t past = 0; past <= at + t; past++)
            for (size_t i = 0; i < WIDTH; i++)
                y[t * WIDTH + i] += scores[t * ROOM + past] / sum * layer->values[past * WIDTH + i];
    }
    drop(scores);
    return y;
}

static void add(float *x, float *y, size_t count)
{
    for (size_t i = 0; i < count * WIDTH; i++)
        x[i] += y[i];
    drop(y);
}

static void run_layer(const struct layer *layer, float *x, size_t count, size_t at)
{
    float *q = multiply(x, layer->matrices[Q], count, WIDTH, WIDTH);
    float *k = multiply(x, layer->matrices[K], count, WIDTH, WIDTH);
    float *v = multiply(x, layer->matrices[V], count, WIDTH, WIDTH);
    float *y, *gate, *up;

    memcpy(layer->keys + at * WIDTH, k, count * WIDTH * sizeof(float));
    memcpy(layer->values + at * WIDTH, v, count * WIDTH * sizeof(float));
    drop(k);
    drop(v);
    y = attend(layer, q, count, at);
    drop(q);
    add(x, multiply(y, layer->matrices[OUT], count, WIDTH, WIDTH), count);
    drop(y);
    gate = multiply(x, layer->matrices[GATE], count, WIDTH, HIDDEN);
    up = multiply(x, layer->matrices[UP], count, WIDTH, HIDDEN);
    for (size_t i = 0; i < count * HIDDEN; i++)
        up[i] *= gate[i] / (1 + expf(-gate[i]));
    drop(gate);
    add(x, multiply(up, layer->matrices[DOWN], count, HIDDEN, WIDTH), count);
    drop(up);
}

/* The word that comes next. */
static size_t step(const size_t *tokens, size_t count, size_t at)
{
    float *x, *logits;
    size_t best = 0;

    scratch_used = 0;
    x = take(count * WIDTH);
    for (size_t t = 0; t < count; t++)
        memcpy(x + t * WIDTH, words + tokens[t] * WIDTH, WIDTH * sizeof(float));
    for (int i = 0; i < LAYERS; i++) {
        size_t kept = scratch_used;

        run_layer(&layers[i], x, count, at);
        scratch_used = kept;
    }
    logits = multiply(x + (count - 1) * WIDTH, head, 1, WIDTH, WORDS);
    for (size_t i = 0; i < WORDS; i++)
        best = logits[i] > logits[best] ? i : best;
    drop(logits);
    drop(x);
    return best;
}

static size_t total[2], found[2]; /* of weights and of caches */

static void measure(const float *p, bool is_cache)
{
    struct berth_block_info info;

    if (berth_describe(p, &info, sizeof(info)) != 0)
        return;
    total[is_cache] += info.requested;
    found[is_cache] +=
        info.tag == (is_cache ? BERTH_TAG_KV : BERTH_TAG_WEIGHT) ? info.requested : 0;
}

static void tell(void)
{
    printf("ready\n");
    fflush(stdout);
    getchar();
    measure(words, false);
    measure(head, false);
    for (int i = 0; i < LAYERS; i++) {
        for (int m = 0; m < MATRICES; m++)
            measure(layers[i].matrices[m], false);
        if (!is_joined) {
            measure(layers[i].keys, true);
            measure(layers[i].values, true);
        }
    }
    if (is_joined)
        measure(caches, true);
    printf("{\"weights\": %zu, \"weights_found\": %zu, \"cache\": %zu, \"cache_found\": %zu}\n",
           total[0], found[0], total[1], found[1]);
}

int main(int argc, char **argv)
{
    size_t tokens[PROMPT], steps = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    size_t at = PROMPT;

    for (int i = 2; i < argc; i++) {
        is_reserved |= strcmp(argv[i], "reserved") == 0;
        is_joined |= strcmp(argv[i], "joined") == 0;
    }
    if (steps < 1 || steps > ROOM - PROMPT) {
        fprintf(stderr, "usage: class_decoder STEPS [reserved] [joined]\n");
        return 2;
    }
    load();
    reserve_caches();
    if (is_reserved)
        scratch = must(malloc(PROMPT * (ROOM + 8 * (size_t)HIDDEN) * sizeof(float)), "no memory");
    for (size_t i = 0; i < PROMPT; i++)
        tokens[i] = (size_t)rand() % WORDS;
    tokens[0] = step(tokens, PROMPT, 0);
    for (; at < PROMPT + steps - 1; at++)
        tokens[0] = step(tokens, 1, at);
    tell();
    return 0;
}
