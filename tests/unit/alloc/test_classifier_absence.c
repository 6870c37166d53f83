/* SPDX-License-Identifier: Apache-2.0 */
/* What speaks against a weight by what was not seen: that no number is below zero, that steps read
 * parts alone, that all else is trained, that there are no gradients. It takes a weight's tag away
 * only for good. */
#include "alloc/classifier.h"

#include "alloc/classifier_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "played.h"

#define LAYERS 8

static const enum berth_class_reason absences[] = {
    BERTH_REASON_DATA,     BERTH_REASON_PARTS, BERTH_REASON_UNTRAINED, BERTH_REASON_REUSED,
    BERTH_REASON_CONSTANT, BERTH_REASON_LAST,  BERTH_REASON_ANGLES,    BERTH_REASON_POINTERS};
#define ABSENCES (sizeof(absences) / sizeof(absences[0]))

static struct berth_class_block taken_for(enum berth_tag tag)
{
    struct berth_class_block block = {.had = tag == BERTH_TAG_UNTAGGED ? 0 : berth__class_bit(tag)};

    block.tag = (uint8_t)tag;
    block.level = tag == BERTH_TAG_UNTAGGED ? BERTH_CLASS_UNKNOWN : BERTH_CLASS_TENTATIVE;
    return block;
}

static bool heeds(struct berth_class_block *block, enum berth_tag tag, enum berth_class_level level,
                  enum berth_class_reason reason)
{
    struct berth_class_verdict verdict = {tag, level, reason};

    return berth__class_heed(block, &verdict);
}

static void a_weight_waits_for_what_is_final(void **state)
{
    (void)state;
    for (size_t i = 0; i < ABSENCES; i++) {
        struct berth_class_block block = taken_for(BERTH_TAG_WEIGHT);

        assert_false(heeds(&block, BERTH_TAG_UNTAGGED, BERTH_CLASS_FIRM, absences[i]));
        assert_int_equal(block.tag, BERTH_TAG_WEIGHT);
        assert_int_equal(block.level, BERTH_CLASS_TENTATIVE);
        assert_true(heeds(&block, BERTH_TAG_UNTAGGED, BERTH_CLASS_FINAL, absences[i]));
        assert_int_equal(block.tag, BERTH_TAG_UNTAGGED);
        assert_int_equal(block.reason, absences[i]);
    }
}

static void what_was_seen_does_not_wait(void **state)
{
    struct berth_class_block cache = taken_for(BERTH_TAG_WEIGHT);
    struct berth_class_block moment = taken_for(BERTH_TAG_WEIGHT);

    (void)state;
    assert_true(heeds(&cache, BERTH_TAG_KV, BERTH_CLASS_FIRM, BERTH_REASON_APPENDED));
    assert_true(heeds(&moment, BERTH_TAG_UNTAGGED, BERTH_CLASS_FIRM, BERTH_REASON_STATE));
    assert_int_equal(cache.tag, BERTH_TAG_KV);
    assert_int_equal(moment.tag, BERTH_TAG_UNTAGGED);
}

static void of_what_is_no_weight_absence_is_heeded_at_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < ABSENCES; i++) {
        struct berth_class_block block = taken_for(BERTH_TAG_UNTAGGED);

        assert_true(heeds(&block, BERTH_TAG_UNTAGGED, BERTH_CLASS_FIRM, absences[i]));
        assert_int_equal(block.reason, absences[i]);
    }
}

/* And it stays a weight, where the next step does not confirm it. */
static void what_is_not_confirmed_leaves_a_weight(void **state)
{
    (void)state;
    for (size_t i = 0; i < ABSENCES; i++) {
        struct berth_class_block block = taken_for(BERTH_TAG_WEIGHT);

        assert_false(heeds(&block, BERTH_TAG_UNTAGGED, BERTH_CLASS_FIRM, absences[i]));
        assert_true(heeds(&block, BERTH_TAG_WEIGHT, BERTH_CLASS_FINAL, BERTH_REASON_READ_ONLY));
        assert_int_equal(block.tag, BERTH_TAG_WEIGHT);
    }
}

static struct played *weights[LAYERS];

static void load(void)
{
    for (unsigned i = 0; i < LAYERS; i++)
        weights[i] = born((i + 1) * 256 * KIB, TENSORS);
}

static void infer(unsigned steps)
{
    for (unsigned step = 0; step < steps; step++)
        for (unsigned i = 0; i < LAYERS; i++)
            died(born((68 + i) * KIB, TENSORS));
    berth__classifier_refresh();
}

static struct played *keep(size_t size, bool is_positive)
{
    struct played *block = born(size, TENSORS);

    block->is_positive = is_positive;
    return block;
}

static void expect_why(const struct played *block, const char *expected)
{
    struct berth_class_view view;
    char why[BERTH_CLASS_WHY_MAX];

    assert_true(berth__classifier_view(host(), block->number, &view, why, sizeof(why)));
    assert_non_null(strstr(why, expected));
}

/* A picture that the program keeps from one step for the next, and one with numbers below zero,
 * which may be a weight that was made late; and so little that it may be scales. */
static void what_is_kept_late_and_is_not_below_zero_is_no_weight(void **state)
{
    struct played *picture, *other, *little;

    (void)state;
    load();
    infer(4);
    picture = keep(2000 * KIB, true);
    other = keep(2001 * KIB, false);
    little = keep(66 * KIB, true);
    infer(1);
    for (unsigned step = 0; step < 12; step++) {
        infer(1);
        assert_int_not_equal(picture->tag, BERTH_TAG_WEIGHT);
    }
    expect_why(picture, "none of its numbers is below zero");
    assert_int_equal(other->tag, BERTH_TAG_WEIGHT);
    assert_int_equal(little->tag, BERTH_TAG_WEIGHT);
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_equal(weights[i]->tag, BERTH_TAG_WEIGHT);
}

static void what_was_there_and_is_not_below_zero_is_no_weight(void **state)
{
    struct played *data, *other, *little;

    (void)state;
    data = keep(2000 * KIB, true);
    other = keep(2001 * KIB, false);
    little = keep(66 * KIB, true);
    load();
    infer(12);
    assert_int_equal(data->tag, BERTH_TAG_UNTAGGED);
    expect_why(data, "none of its numbers is below zero");
    assert_int_equal(other->tag, BERTH_TAG_WEIGHT);
    assert_int_equal(little->tag, BERTH_TAG_WEIGHT);
}

/* Numbers above zero of which one of eight is 2^-7 and more, and the others are ever smaller. */
static const uint64_t *squares(void)
{
    static uint64_t words[BERTH_LOOK_WORDS];

    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++)
        words[i] = ((i + 1) * 0x9e3779b97f4a7c15u & 0x007fffff007fffffu) |
                   (uint64_t)(120 - i % 8) << 55 | (120 - i % 8) << 23;
    return words;
}

/* Numbers as small as weights are: layers may begin with such, and inputs are larger. Of what has
 * the size of a gradient, it may be the state of an optimiser. */
static void what_was_there_and_is_as_small_as_weights_is_one(void **state)
{
    struct played *layer, *kept, *averages, *late;

    (void)state;
    layer = keep(2000 * KIB, true);
    layer->is_small = true;
    kept = keep(2002 * KIB, true);
    kept->words = squares();
    averages = keep(2003 * KIB, true);
    averages->is_small = true;
    load();
    for (unsigned step = 0; step < 8; step++) {
        infer(1);
        died(born(2003 * KIB, TENSORS));
    }
    late = keep(2001 * KIB, true);
    late->is_small = true;
    infer(12);
    assert_int_equal(layer->tag, BERTH_TAG_WEIGHT);
    assert_int_equal(kept->tag, BERTH_TAG_UNTAGGED);
    assert_int_equal(averages->tag, BERTH_TAG_UNTAGGED);
    assert_int_equal(late->tag, BERTH_TAG_UNTAGGED);
}

/* A buffer that is filled with one number, which may be below zero, and only read: before the steps
 * or in them. So little that it may be the factors of a normalisation is a weight. */
static void what_is_one_number_is_no_weight(void **state)
{
    struct played *early, *late, *little;

    (void)state;
    early = keep(2000 * KIB, false);
    little = keep(66 * KIB, false);
    early->is_constant = little->is_constant = true;
    load();
    infer(4);
    late = keep(2001 * KIB, false);
    late->is_constant = true;
    for (unsigned step = 0; step < 12; step++) {
        infer(1);
        assert_int_not_equal(early->tag, BERTH_TAG_WEIGHT);
        assert_int_not_equal(late->tag, BERTH_TAG_WEIGHT);
    }
    expect_why(early, "one number");
    expect_why(late, "one number");
    assert_int_equal(little->tag, BERTH_TAG_WEIGHT);
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_equal(weights[i]->tag, BERTH_TAG_WEIGHT);
}

/* It was cleared with that number, and is then what is written there. */
static void what_one_number_makes_room_for_is_judged_then(void **state)
{
    struct played *cleared;

    (void)state;
    cleared = keep(2000 * KIB, false);
    cleared->is_constant = true;
    load();
    infer(12);
    assert_int_equal(cleared->tag, BERTH_TAG_UNTAGGED);
    assert_true(level(cleared) < BERTH_CLASS_FIRM);
    cleared->is_constant = false;
    for (unsigned step = 0; step < 24; step++) {
        write_all(cleared);
        infer(1);
    }
    assert_int_equal(cleared->tag, BERTH_TAG_ACTIVATION);
}

/* Where no steps are seen, what is filled is called a weight; not with one number. */
static void what_is_one_number_is_no_weight_without_steps(void **state)
{
    struct played *cleared;

    (void)state;
    cleared = keep(2000 * KIB, false);
    cleared->is_constant = true;
    load();
    berth__classifier_refresh();
    assert_int_equal(cleared->tag, BERTH_TAG_UNTAGGED);
    assert_int_equal(weights[0]->tag, BERTH_TAG_WEIGHT);
}

/* What was made when the weights were there, and has no number below zero; before them it may be
 * factors. */
static void what_is_computed_into_the_last_is_no_weight_without_steps(void **state)
{
    struct played *factors, *results[2];

    (void)state;
    factors = keep(66 * KIB, true);
    load();
    for (unsigned i = 0; i < 2; i++)
        results[i] = keep(66 * KIB, true);
    berth__classifier_refresh();
    assert_int_equal(factors->tag, BERTH_TAG_WEIGHT);
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_equal(weights[i]->tag, BERTH_TAG_WEIGHT);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(results[i]->tag, BERTH_TAG_UNTAGGED);
}

/* Indices, tokens and labels are no weights, however little they are; nor where no steps are seen.
 */
static void integers_are_no_weights(void **state)
{
    struct played *early, *late, *little;

    (void)state;
    early = keep(66 * KIB, false);
    early->is_integers = true;
    little = keep(66 * KIB, true);
    load();
    berth__classifier_refresh();
    assert_int_equal(early->tag, BERTH_TAG_UNTAGGED);
    assert_int_equal(little->tag, BERTH_TAG_WEIGHT);
    infer(4);
    late = keep(67 * KIB, false);
    late->is_integers = true;
    for (unsigned step = 0; step < 12; step++)
        infer(1);
    expect_why(early, "none of its numbers is below zero");
    expect_why(late, "none of its numbers is below zero");
    assert_int_equal(little->tag, BERTH_TAG_WEIGHT);
}

/* Zeros and one other number, of any size, and however little it is; before the steps, in them, and
 * where none are seen. What has another number is no mask, whichever have been struck out of it. */
static void masks_are_no_weights(void **state)
{
    struct played *masks[6], *thin;

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        masks[i] = keep((66 + i) * KIB, false);
        masks[i]->mask_bits = 8u << i;
    }
    thin = keep(70 * KIB, false);
    thin->is_thin = true;
    load();
    berth__classifier_refresh();
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(masks[i]->tag, BERTH_TAG_UNTAGGED);
    infer(4);
    for (unsigned i = 3; i < 6; i++) {
        masks[i] = keep((66 + i) * KIB, false);
        masks[i]->mask_bits = 1u << i;
    }
    for (unsigned step = 0; step < 12; step++)
        infer(1);
    for (unsigned i = 0; i < 6; i++)
        expect_why(masks[i], "a mask");
    assert_int_equal(thin->tag, BERTH_TAG_WEIGHT);
}

#define PLAYED(test) cmocka_unit_test_setup(test, begin)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_weight_waits_for_what_is_final),
        cmocka_unit_test(what_was_seen_does_not_wait),
        cmocka_unit_test(of_what_is_no_weight_absence_is_heeded_at_once),
        cmocka_unit_test(what_is_not_confirmed_leaves_a_weight),
        PLAYED(what_is_kept_late_and_is_not_below_zero_is_no_weight),
        PLAYED(what_was_there_and_is_not_below_zero_is_no_weight),
        PLAYED(what_was_there_and_is_as_small_as_weights_is_one),
        PLAYED(what_is_one_number_is_no_weight),
        PLAYED(what_one_number_makes_room_for_is_judged_then),
        PLAYED(what_is_one_number_is_no_weight_without_steps),
        PLAYED(what_is_computed_into_the_last_is_no_weight_without_steps),
        PLAYED(integers_are_no_weights),
        PLAYED(masks_are_no_weights),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
