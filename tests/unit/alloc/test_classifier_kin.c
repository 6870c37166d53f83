/* SPDX-License-Identifier: Apache-2.0 */
/* Weights that come when the steps have begun, and are told by their like from before them: those
 * of a second model of the same kind, and an average that follows what is trained. */
#include "alloc/classifier.h"

#include "alloc/classifier_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "played.h"

#define LAYERS 12
/* Sign and upper exponent of both floats of a word. */
#define TOPS 0xff800000ff800000u

static struct played *weights[LAYERS], *others[LAYERS];
static uint64_t content[LAYERS][BERTH_LOOK_WORDS];

static size_t size_of(unsigned layer)
{
    return (layer + 1) * 256 * KIB;
}

/* Floats of any sign, with this in place of their exponents' bits. */
static void fill(uint64_t words[BERTH_LOOK_WORDS], unsigned seed, uint64_t exponents)
{
    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++)
        words[i] = (berth__class_mix(seed * 1000 + i) & 0x807fffff807fffffu) | exponents;
}

#define SMALL 0x3c0000003c000000u   /* below 1/64 */
#define SMALLER 0x3b0000003b000000u /* a quarter of that */

static void make(struct played **blocks, bool are_steady)
{
    for (unsigned i = 0; i < LAYERS; i++) {
        blocks[i] = born(size_of(i), TENSORS);
        blocks[i]->is_small = true;
        blocks[i]->is_steady = are_steady;
    }
}

/* A step makes nothing of a weight's size. */
static void infer(unsigned steps)
{
    for (unsigned step = 0; step < steps; step++)
        for (unsigned i = 0; i < LAYERS; i++)
            died(born((68 + i) * KIB, TENSORS));
}

static unsigned count_weights(struct played *const *blocks)
{
    unsigned count = 0;

    berth__classifier_refresh();
    for (unsigned i = 0; i < LAYERS; i++)
        count += blocks[i]->tag == BERTH_TAG_WEIGHT;
    return count;
}

/* A server has answered for long, and loads a second model. */
static void serve(uint64_t exponents)
{
    infer(60);
    assert_int_equal(count_weights(weights), LAYERS);
    make(others, false);
    for (unsigned i = 0; i < LAYERS; i++) {
        fill(content[i], i + 1, exponents);
        others[i]->words = content[i];
    }
}

static void a_second_model_is_known_at_once(void **state)
{
    (void)state;
    make(weights, false);
    serve(SMALL);
    assert_int_equal(count_weights(others), 0);
    infer(3);
    assert_int_equal(count_weights(others), LAYERS);
    infer(60);
    assert_int_equal(count_weights(others), LAYERS);
    assert_int_equal(claimed_again, 0);
}

/* Gradients and what else a step may keep have numbers of another size. */
static void what_has_other_numbers_is_not_known_at_once(void **state)
{
    (void)state;
    make(weights, false);
    serve(SMALLER);
    infer(3);
    assert_int_equal(count_weights(others), 0);
}

static void what_has_one_sign_is_not_known_at_once(void **state)
{
    (void)state;
    make(weights, false);
    serve(SMALL);
    for (unsigned i = 0; i < LAYERS; i++)
        others[i]->is_positive = true, others[i]->words = NULL;
    infer(3);
    assert_int_equal(count_weights(others), 0);
}

/* Of a kind of which one went long ago, it may be what a request keeps for a while. */
static void what_may_go_is_not_known_at_once(void **state)
{
    (void)state;
    make(weights, false);
    infer(4);
    died(born(size_of(0), TENSORS));
    serve(SMALL);
    infer(3);
    assert_int_equal(count_weights(others), LAYERS - 1);
    assert_int_not_equal(others[0]->tag, BERTH_TAG_WEIGHT);
}

static void what_is_written_again_is_no_weight(void **state)
{
    (void)state;
    make(weights, false);
    serve(SMALL);
    infer(3);
    assert_int_equal(count_weights(others), LAYERS);
    for (unsigned step = 0; step < 20; step++) {
        for (unsigned i = 0; i < LAYERS; i++)
            fill(content[i], i + 1 + step * LAYERS, SMALL);
        infer(1);
        berth__classifier_refresh();
    }
    assert_int_equal(count_weights(others), 0);
    assert_int_equal(count_weights(weights), LAYERS);
}

static bool are_tables; /* the others change in one word, once */

/* A step of training; the others change by little, too, if they are there. */
static void train(unsigned steps)
{
    for (unsigned step = 0; step < steps; step++) {
        struct played *gradients[LAYERS];

        for (unsigned i = 0; i < LAYERS; i++)
            gradients[i] = born(size_of(i), TENSORS);
        for (unsigned i = 0; i < LAYERS; i++) {
            died(gradients[i]);
            write_all(weights[i]);
            if (!others[i])
                continue;
            if (are_tables)
                others[i]->version[7] += step == 2;
            else
                write_all(others[i]);
            for (unsigned j = 0; j < BERTH_LOOK_WORDS; j++)
                content[i][j] =
                    (content[i][j] & TOPS) | (berth__class_mix(content[i][j] + step + 1) & ~TOPS);
        }
    }
}

static void begin_training(void)
{
    memset(others, 0, sizeof(others));
    make(weights, true);
    train(6);
    make(others, true);
}

/* Copies begin with the same signs. */
static void an_average_of_what_is_trained_is_a_weight(void **state)
{
    (void)state;
    begin_training();
    train(8);
    assert_int_equal(count_weights(weights), LAYERS);
    assert_int_equal(count_weights(others), LAYERS);
    train(20);
    assert_int_equal(count_weights(others), LAYERS);
    assert_int_equal(claimed_again, 0);
}

/* Of tables, steps train few rows, and most of the average stays as it was copied. */
static void an_average_of_a_table_is_a_weight(void **state)
{
    (void)state;
    are_tables = true;
    begin_training();
    train(12);
    are_tables = false;
    assert_int_equal(count_weights(others), LAYERS);
}

/* An optimiser's averages change by little, and have signs of their own. */
static void an_average_of_gradients_is_none(void **state)
{
    (void)state;
    begin_training();
    for (unsigned i = 0; i < LAYERS; i++) {
        fill(content[i], i + 1, SMALL);
        others[i]->words = content[i];
    }
    train(28);
    assert_int_equal(count_weights(weights), LAYERS);
    assert_int_equal(count_weights(others), 0);
}

#define PLAYED(test) cmocka_unit_test_setup(test, begin)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(a_second_model_is_known_at_once),
        PLAYED(what_has_other_numbers_is_not_known_at_once),
        PLAYED(what_has_one_sign_is_not_known_at_once),
        PLAYED(what_may_go_is_not_known_at_once),
        PLAYED(what_is_written_again_is_no_weight),
        PLAYED(an_average_of_what_is_trained_is_a_weight),
        PLAYED(an_average_of_a_table_is_a_weight),
        PLAYED(an_average_of_gradients_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
