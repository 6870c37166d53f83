/* SPDX-License-Identifier: Apache-2.0 */
/* What a block's words alone tell: tables of angles and of addresses are no weights, and what is
 * much like them is one. */
#include "alloc/classifier.h"

#include "alloc/classifier_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "played.h"

#define LAYERS 8
#define NUMBERS (4 * BERTH_LOOK_WORDS) /* of 16 bits, in as many words as are looked at */

static struct played *weights[LAYERS];

static struct played *keep(size_t size, const uint64_t words[BERTH_LOOK_WORDS])
{
    struct played *block = born(size, TENSORS);

    block->words = words;
    return block;
}

static void infer(unsigned steps)
{
    for (unsigned step = 0; step < steps; step++) {
        for (unsigned i = 0; i < LAYERS; i++)
            died(born((68 + i) * KIB, TENSORS));
        berth__classifier_refresh();
    }
}

static void expect(const uint64_t words[BERTH_LOOK_WORDS], enum berth_tag tag, const char *reason)
{
    struct berth_class_view view;
    char why[BERTH_CLASS_WHY_MAX];
    struct played *block;

    for (unsigned i = 0; i < LAYERS; i++)
        weights[i] = born((i + 1) * 256 * KIB, TENSORS);
    block = keep(300 * KIB, words);
    born(310 * KIB, TENSORS);
    infer(12);
    assert_int_equal(block->tag, tag);
    assert_true(berth__classifier_view(host(), block->number, &view, why, sizeof(why)));
    assert_non_null(strstr(why, reason));
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_equal(weights[i]->tag, BERTH_TAG_WEIGHT);
}

/* Sines of as many angles, each an eighth of a turn and some more behind the last. */
static void turn(float sines[NUMBERS])
{
    const float by_cosine = 0.6967067f, by_sine = 0.7173561f; /* 0.8 */
    float sine = 0.1f, cosine = 0.9949874f;

    for (unsigned i = 0; i < NUMBERS; i++) {
        float next = sine * by_cosine + cosine * by_sine;

        cosine = cosine * by_cosine - sine * by_sine;
        sine = next;
        sines[i] = sine;
    }
}

static void as_single(const float numbers[NUMBERS], uint64_t words[BERTH_LOOK_WORDS])
{
    memcpy(words, numbers, BERTH_LOOK_WORDS * sizeof(words[0]));
}

static void as_double(const float numbers[NUMBERS], uint64_t words[BERTH_LOOK_WORDS])
{
    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++) {
        double number = (double)numbers[i] * 0.9999999;

        memcpy(&words[i], &number, sizeof(number));
    }
}

/* The upper half of a number of 32 bits, or one with five bits for the exponent, none of which is
 * too small for that. */
static uint16_t shorten(float number, bool is_half)
{
    uint32_t bits;

    memcpy(&bits, &number, sizeof(bits));
    if (!is_half)
        return (uint16_t)(bits >> 16);
    return (uint16_t)((bits >> 16 & 0x8000) | ((((bits >> 23 & 0xff) - 112) & 0x1f) << 10) |
                      (bits >> 13 & 0x3ff));
}

static void as_short(const float numbers[NUMBERS], bool is_half, uint64_t words[BERTH_LOOK_WORDS])
{
    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++) {
        words[i] = 0;
        for (unsigned at = 0; at < 4; at++)
            words[i] |= (uint64_t)shorten(numbers[4 * i + at], is_half) << 16 * at;
    }
}

static void sines_are_no_weight(void **state)
{
    uint64_t words[BERTH_LOOK_WORDS];
    float sines[NUMBERS];

    (void)state;
    turn(sines);
    as_single(sines, words);
    expect(words, BERTH_TAG_UNTAGGED, "sines and cosines");
}

static void sines_of_twice_the_bits_are_no_weight(void **state)
{
    uint64_t words[BERTH_LOOK_WORDS];
    float sines[NUMBERS];

    (void)state;
    turn(sines);
    as_double(sines, words);
    expect(words, BERTH_TAG_UNTAGGED, "sines and cosines");
}

static void sines_of_half_the_bits_are_no_weight(void **state)
{
    uint64_t words[BERTH_LOOK_WORDS];
    float sines[NUMBERS];

    (void)state;
    turn(sines);
    as_short(sines, true, words);
    expect(words, BERTH_TAG_UNTAGGED, "sines and cosines");
}

static void sines_of_the_upper_bits_are_no_weight(void **state)
{
    uint64_t words[BERTH_LOOK_WORDS];
    float sines[NUMBERS];

    (void)state;
    turn(sines);
    as_short(sines, false, words);
    expect(words, BERTH_TAG_UNTAGGED, "sines and cosines");
}

/* One in two hundred is enough. */
static void what_goes_beyond_1_is_a_weight(void **state)
{
    uint64_t words[BERTH_LOOK_WORDS];
    float sines[NUMBERS];

    (void)state;
    turn(sines);
    sines[77] = -1.25f;
    as_single(sines, words);
    expect(words, BERTH_TAG_WEIGHT, "not written since");
}

/* As a layer of 20000 inputs begins, in numbers with the exponents of 32 bits: as numbers with five
 * bits for these, most would be nearly 1. */
static void what_is_small_in_the_upper_bits_is_a_weight(void **state)
{
    uint64_t words[BERTH_LOOK_WORDS];
    float numbers[NUMBERS];

    (void)state;
    for (unsigned i = 0; i < NUMBERS; i++)
        numbers[i] = ((float)(i * 37 % 256) / 128 - 0.998f) * 0.00707f;
    as_short(numbers, false, words);
    expect(words, BERTH_TAG_WEIGHT, "not written since");
}

/* As an embedding that begins so. */
static void what_is_even_up_to_1_is_a_weight(void **state)
{
    uint64_t words[BERTH_LOOK_WORDS];
    float numbers[NUMBERS];

    (void)state;
    for (unsigned i = 0; i < NUMBERS; i++)
        numbers[i] = (float)(i * 37 % 256) / 128 - 0.998f;
    as_single(numbers, words);
    expect(words, BERTH_TAG_WEIGHT, "not written since");
}

/* Weights that are kept within 1, many of which have come to the end. */
static void what_is_cut_off_at_1_is_a_weight(void **state)
{
    uint64_t words[BERTH_LOOK_WORDS];
    float numbers[NUMBERS];

    (void)state;
    for (unsigned i = 0; i < NUMBERS; i++) {
        float wide = (float)(i * 37 % 256) / 100 - 1.275f;

        numbers[i] = wide > 1 ? 1 : wide < -1 ? -1 : wide * 0.9f;
    }
    as_single(numbers, words);
    expect(words, BERTH_TAG_WEIGHT, "not written since");
}

/* Factors by which states fade are nearly 1, and seldom of the other sign. */
static void what_is_nearly_1_with_one_sign_is_a_weight(void **state)
{
    uint64_t words[BERTH_LOOK_WORDS];
    float numbers[NUMBERS];

    (void)state;
    for (unsigned i = 0; i < NUMBERS; i++)
        numbers[i] = (i % 32 == 5 ? -1.0f : 1.0f) * (0.9f + (float)(i % 64) / 700);
    as_single(numbers, words);
    expect(words, BERTH_TAG_WEIGHT, "not written since");
}

/* A dictionary's: what it is looked for by, and two addresses. */
static void addresses_are_no_weight(void **state)
{
    uint64_t words[BERTH_LOOK_WORDS];

    (void)state;
    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++)
        words[i] = i % 3 == 0 ? (i + 1) * 0x9e3779b97f4a7c15u : 0x7f31a2000000u + i * 4112;
    expect(words, BERTH_TAG_UNTAGGED, "addresses");
}

static void few_addresses_tell_nothing(void **state)
{
    uint64_t words[BERTH_LOOK_WORDS];

    (void)state;
    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++)
        words[i] = i % 3 != 0 ? (i + 1) * 0x9e3779b97f4a7c15u : 0x7f31a2000000u + i * 4112;
    expect(words, BERTH_TAG_WEIGHT, "not written since");
}

/* Where no steps are seen, and somebody asks. */
static void without_steps_neither_is_a_weight(void **state)
{
    uint64_t angles[BERTH_LOOK_WORDS], addresses[BERTH_LOOK_WORDS];
    struct played *table, *list, *weight;
    float sines[NUMBERS];

    (void)state;
    turn(sines);
    as_single(sines, angles);
    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++)
        addresses[i] = 0x55d001230000u + i * 4112;
    table = keep(300 * KIB, angles);
    list = keep(310 * KIB, addresses);
    weight = keep(4000 * KIB, NULL);
    berth__classifier_refresh();
    assert_int_equal(weight->tag, BERTH_TAG_WEIGHT);
    assert_int_equal(table->tag, BERTH_TAG_UNTAGGED);
    assert_int_equal(list->tag, BERTH_TAG_UNTAGGED);
}

#define PLAYED(test) cmocka_unit_test_setup(test, begin)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(sines_are_no_weight),
        PLAYED(sines_of_twice_the_bits_are_no_weight),
        PLAYED(sines_of_half_the_bits_are_no_weight),
        PLAYED(sines_of_the_upper_bits_are_no_weight),
        PLAYED(what_goes_beyond_1_is_a_weight),
        PLAYED(what_is_small_in_the_upper_bits_is_a_weight),
        PLAYED(what_is_even_up_to_1_is_a_weight),
        PLAYED(what_is_cut_off_at_1_is_a_weight),
        PLAYED(what_is_nearly_1_with_one_sign_is_a_weight),
        PLAYED(addresses_are_no_weight),
        PLAYED(few_addresses_tell_nothing),
        PLAYED(without_steps_neither_is_a_weight),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
