/* SPDX-License-Identifier: Apache-2.0 */
/* What is made of weights when steps have been seen, as a compiler folds layers into others: signs
 * tell that it is weights, before time does. */
#include "alloc/classifier.h"

#include "alloc/classifier_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "played.h"

#define LAYERS 12
#define SIGNS 0x8000000080000000u

static struct played *weights[LAYERS], *copies[LAYERS];
static uint64_t content[LAYERS][BERTH_LOOK_WORDS], folded[LAYERS][BERTH_LOOK_WORDS];

/* Floats as weights have them, other ones in each layer; and the same times a factor. */
static void make_content(void)
{
    for (unsigned i = 0; i < LAYERS; i++)
        for (unsigned j = 0; j < BERTH_LOOK_WORDS; j++) {
            uint64_t word = berth__class_mix(i * BERTH_LOOK_WORDS + j + 1);

            content[i][j] = (word & 0x80ffffff80ffffffu) | 0x3c0000003c000000u;
            folded[i][j] = (content[i][j] & SIGNS) | 0x3b0123453b012345u;
        }
}

static int begin_derived(void **state)
{
    if (begin(state) != 0)
        return -1;
    make_content();
    for (unsigned i = 0; i < LAYERS; i++) {
        weights[i] = born((i + 1) * 256 * KIB, TENSORS);
        weights[i]->words = content[i];
    }
    return 0;
}

/* A step that makes blocks as large as the weights, too, as a library does that reorders them. */
static void infer(unsigned steps)
{
    for (unsigned step = 0; step < steps; step++)
        for (unsigned i = 0; i < LAYERS; i++) {
            died(born((i + 1) * 256 * KIB, TENSORS));
            died(born((68 + i % 3) * KIB, TENSORS));
        }
}

static void fold(void)
{
    for (unsigned i = 0; i < LAYERS; i++) {
        copies[i] = born((i + 1) * 256 * KIB, TENSORS);
        copies[i]->words = folded[i];
    }
}

static void expect(struct played *const *blocks, bool are_weights)
{
    berth__classifier_refresh();
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_equal(blocks[i]->tag == BERTH_TAG_WEIGHT, are_weights);
}

/* Whoever asks in the second step of the folded ones has the answer that holds. */
static void what_is_folded_is_known_at_once(void **state)
{
    (void)state;
    infer(12);
    fold();
    infer(2);
    expect(copies, true);
    expect(weights, true);
    infer(40);
    expect(copies, true);
    for (unsigned i = 0; i < LAYERS; i++)
        assert_true(copies[i]->changes <= 2);
    assert_int_equal(claimed_again, 0);
}

static void what_has_other_signs_is_not_known_at_once(void **state)
{
    (void)state;
    infer(12);
    fold();
    for (unsigned i = 0; i < LAYERS; i++)
        copies[i]->words = folded[(i + 1) % LAYERS];
    infer(2);
    expect(copies, false);
}

/* The step that made it may not be over. */
static void what_has_just_been_made_is_not_known(void **state)
{
    (void)state;
    infer(12);
    fold();
    expect(copies, false);
}

/* A program uses its place for something else. */
static void what_is_written_again_is_no_weight(void **state)
{
    (void)state;
    infer(12);
    fold();
    infer(2);
    expect(copies, true);
    for (unsigned step = 0; step < 20; step++) {
        for (unsigned i = 0; i < LAYERS; i++)
            copies[i]->words = folded[(i + step + 1) % LAYERS];
        infer(1);
        berth__classifier_refresh();
    }
    expect(copies, false);
    expect(weights, true);
}

/* A buffer whose content is kept once: neither is a weight. */
static void what_is_copied_of_no_weight_is_none(void **state)
{
    struct played *buffer = born(3500 * KIB, TENSORS), *kept;

    (void)state;
    for (unsigned step = 0; step < 12; step++) {
        buffer->words = content[step % 2];
        infer(1);
        berth__classifier_refresh();
    }
    assert_int_equal(buffer->tag, BERTH_TAG_ACTIVATION);
    kept = born(3500 * KIB, TENSORS);
    kept->words = buffer->words;
    infer(2);
    berth__classifier_refresh();
    assert_int_not_equal(kept->tag, BERTH_TAG_WEIGHT);
}

static void set_weights(enum berth_tag tag)
{
    for (unsigned i = 0; i < LAYERS; i++) {
        struct berth_class_block *block = berth__class_block(host(), weights[i]->number);

        berth__class_set(&block->tag, tag);
        berth__class_set(&block->level, BERTH_CLASS_FINAL);
    }
}

/* Not only because they have lived for long. */
static void expect_derived(void)
{
    for (unsigned i = 0; i < LAYERS; i++) {
        struct berth_class_view view;
        char why[BERTH_CLASS_WHY_MAX];

        assert_true(berth__classifier_view(host(), copies[i]->number, &view, why, sizeof(why)));
        assert_non_null(strstr(why, "made after the first step of a weight"));
    }
}

/* Their originals are found to be weights when they were looked at. */
static void what_is_folded_is_known_when_weights_are(void **state)
{
    (void)state;
    infer(12);
    fold();
    set_weights(BERTH_TAG_UNTAGGED);
    infer(2);
    expect(copies, false);
    set_weights(BERTH_TAG_WEIGHT);
    died(born(70 * KIB, TENSORS));
    expect(copies, true);
    expect_derived();
}

/* A snapshot of what is trained: no step reads it. */
static void what_is_kept_of_trained_weights_is_no_weight(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LAYERS; i++) {
        weights[i]->words = NULL;
        weights[i]->is_small = weights[i]->is_steady = true;
    }
    for (unsigned step = 0; step < 16; step++) {
        struct played *gradients[LAYERS];

        for (unsigned i = 0; i < LAYERS; i++)
            gradients[i] = born((i + 1) * 256 * KIB, TENSORS);
        for (unsigned i = 0; i < LAYERS; i++) {
            died(gradients[i]);
            write_all(weights[i]);
        }
        if (step != 12)
            continue;
        for (unsigned i = 0; i < LAYERS; i++) {
            copies[i] = born((i + 1) * 256 * KIB, TENSORS);
            copies[i]->is_small = copies[i]->is_steady = true;
        }
    }
    expect(weights, true);
    expect(copies, false);
}

/* So many words, with these signs, and others of the first few. */
static bool agree(unsigned words, unsigned negative, unsigned others)
{
    struct berth_class_block a = {0}, b = {0};

    for (unsigned i = 0; i < words; i++) {
        a.set_words |= (uint64_t)1 << i;
        a.negative_words |= (uint64_t)(i < negative) << i;
        b.set_words |= (uint64_t)1 << i;
        b.negative_words |= (uint64_t)((i < negative) != (i < others)) << i;
    }
    return berth__class_has_signs_of(&a, &b);
}

static void signs_agree_nearly_everywhere(void **state)
{
    (void)state;
    assert_true(agree(64, 32, 0));
    assert_true(agree(64, 32, 8));
    assert_false(agree(64, 32, 9));
    assert_true(agree(64, 8, 0));
    assert_false(agree(64, 7, 0));
    assert_true(agree(64, 56, 0));
    assert_false(agree(64, 57, 0));
    assert_true(agree(32, 16, 0));
    assert_false(agree(31, 16, 0));
    assert_true(agree(32, 16, 4));
    assert_false(agree(32, 16, 5));
}

/* A cache that is half filled has zeros where a weight of its size has none. */
static void what_is_blank_elsewhere_has_other_signs(void **state)
{
    const uint64_t all = UINT64_MAX, half = 0xaaaaaaaaaaaaaaaa;
    struct berth_class_block a = {.set_words = all, .negative_words = half};
    struct berth_class_block b = {.set_words = all << 7, .negative_words = all << 7 & half};

    (void)state;
    assert_true(berth__class_has_signs_of(&a, &b));
    assert_true(berth__class_has_signs_of(&b, &a));
    b = (struct berth_class_block){.set_words = all << 9, .negative_words = all << 9 & half};
    assert_false(berth__class_has_signs_of(&a, &b));
    assert_false(berth__class_has_signs_of(&b, &a));
    a = b;
    assert_true(berth__class_has_signs_of(&a, &b));
}

#define PLAYED(test) cmocka_unit_test_setup(test, begin_derived)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(what_is_folded_is_known_at_once),
        PLAYED(what_has_other_signs_is_not_known_at_once),
        PLAYED(what_has_just_been_made_is_not_known),
        PLAYED(what_is_written_again_is_no_weight),
        PLAYED(what_is_copied_of_no_weight_is_none),
        PLAYED(what_is_folded_is_known_when_weights_are),
        PLAYED(what_is_kept_of_trained_weights_is_no_weight),
        cmocka_unit_test(signs_agree_nearly_everywhere),
        cmocka_unit_test(what_is_blank_elsewhere_has_other_signs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
