/* SPDX-License-Identifier: Apache-2.0 */
/* How much must be seen before something is said, and how certainly: each test holds a threshold or
 * an order of the judge's that no other test does. */
#include "alloc/classifier.h"

#include "alloc/classifier_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "played.h"

#define LAYERS 12

static struct played *weights[LAYERS];

static void load(void)
{
    for (unsigned i = 0; i < LAYERS; i++)
        weights[i] = born((i + 1) * 256 * KIB, TENSORS);
}

static void infer(unsigned steps)
{
    for (unsigned step = 0; step < steps; step++) {
        struct played *x = born(65 * KIB, TENSORS), *y = born(66 * KIB, TENSORS);

        for (unsigned i = 0; i < LAYERS; i++) {
            died(born(300 * KIB, TENSORS));
            died(born((68 + i % 3) * KIB, TENSORS));
        }
        died(x);
        died(y);
    }
}

static void expect_tags(struct played *const *blocks, enum berth_tag tag)
{
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_equal(blocks[i]->tag, tag);
}

/* Each declared step is judged once; the first look has nothing to compare. */
static void what_was_compared_three_times_is_final(void **state)
{
    (void)state;
    load();
    died(born(70 * KIB, TENSORS));
    for (unsigned step = 0; step < 4; step++) {
        assert_true(level(weights[0]) < BERTH_CLASS_FINAL);
        berth__classifier_step();
    }
    expect_tags(weights, BERTH_TAG_WEIGHT);
    assert_int_equal(level(weights[0]), BERTH_CLASS_FINAL);
}

/* Rows of a table that nobody uses are zero: it is full nevertheless. */
static void what_has_few_blank_words_is_a_weight(void **state)
{
    (void)state;
    load();
    memset(weights[0]->version, 0, BERTH_LOOK_WORDS / 8 * sizeof(weights[0]->version[0]));
    infer(12);
    berth__classifier_refresh();
    expect_tags(weights, BERTH_TAG_WEIGHT);
}

/* Two comparisons speak for a weight that was made late; who looks once knows nothing. */
static void what_is_made_late_is_no_weight_at_first_sight(void **state)
{
    struct played *late;

    (void)state;
    load();
    died(born(70 * KIB, TENSORS));
    for (unsigned step = 0; step < 4; step++)
        berth__classifier_step();
    late = born(900 * KIB, TENSORS);
    for (unsigned step = 0; step < 2; step++)
        berth__classifier_step();
    assert_int_not_equal(late->tag, BERTH_TAG_WEIGHT);
    for (unsigned step = 0; step < 8; step++)
        berth__classifier_step();
    assert_int_equal(late->tag, BERTH_TAG_WEIGHT);
}

/* Few words of it are filled when the steps begin, and these are written anew once, as in a cache
 * that another prompt takes over: that is not the whole of it. */
static void a_cache_that_begins_anew_is_known(void **state)
{
    const unsigned filled = 4;
    struct played *cache;

    (void)state;
    load();
    cache = born(900 * KIB, TENSORS);
    memset(cache->version, 0, sizeof(cache->version));
    for (unsigned i = 0; i < filled; i++)
        cache->version[i]++;
    infer(8);
    for (unsigned i = 0; i < filled; i++)
        cache->version[i]++;
    for (unsigned step = 0; step < 20; step++) {
        infer(1);
        berth__classifier_refresh();
        cache->version[filled + step]++;
    }
    infer(1);
    berth__classifier_refresh();
    assert_int_equal(cache->tag, BERTH_TAG_KV);
}

/* Who asks after each step is told in the second one that its blocks have taken the others' place.
 */
static void a_cache_that_grows_is_known_after_two_steps(void **state)
{
    struct played *cache[LAYERS] = {0};

    (void)state;
    load();
    infer(4);
    for (unsigned step = 0; step < 2; step++) {
        for (unsigned i = 0; i < LAYERS; i++) {
            struct played *larger = born((1000 + step * 4) * KIB, TENSORS);

            if (cache[i])
                died(cache[i]);
            cache[i] = larger;
        }
        infer(1);
        berth__classifier_refresh();
    }
    expect_tags(cache, BERTH_TAG_KV);
    expect_tags(weights, BERTH_TAG_WEIGHT);
}

static bool heeds(const struct berth_class_block *block, enum berth_class_level level)
{
    struct berth_class_verdict verdict = {BERTH_TAG_UNTAGGED, level, BERTH_REASON_STATE};
    struct berth_class_block copy = *block;

    return berth__class_heed(&copy, &verdict);
}

/* A first step that few judgements find makes weights of what steps have made. */
static void what_most_find_made_by_steps_is_judged_anew(void **state)
{
    struct berth_class_block block = {.tag = BERTH_TAG_WEIGHT,
                                      .level = BERTH_CLASS_FIRM,
                                      .reason = BERTH_REASON_READ_ONLY,
                                      .had = berth__class_bit(BERTH_TAG_WEIGHT),
                                      .changes = 1,
                                      .is_young = true,
                                      .found_old = 2,
                                      .found_young = 3};

    (void)state;
    assert_true(heeds(&block, BERTH_CLASS_TENTATIVE));
    assert_false(heeds(&block, BERTH_CLASS_GUESSED));
    /* A tag that it had does not come back; and it changes no more often than others. */
    block.had |= berth__class_bit(BERTH_TAG_UNTAGGED);
    assert_false(heeds(&block, BERTH_CLASS_TENTATIVE));
    block.had = berth__class_bit(BERTH_TAG_WEIGHT);
    block.changes = 2;
    assert_false(heeds(&block, BERTH_CLASS_TENTATIVE));
    assert_true(heeds(&block, BERTH_CLASS_FIRM));
    block.changes = 1;
    block.found_old = 3;
    assert_false(heeds(&block, BERTH_CLASS_TENTATIVE));
    block.found_old = 2;
    block.is_young = false;
    assert_false(heeds(&block, BERTH_CLASS_TENTATIVE));
    block.is_young = true;
    block.reason = BERTH_REASON_TRAINED;
    assert_true(heeds(&block, BERTH_CLASS_TENTATIVE));
    block.reason = BERTH_REASON_LATE;
    assert_false(heeds(&block, BERTH_CLASS_TENTATIVE));
}

/* It may be found so again. */
static void what_judgements_found_made_by_steps_is_not_final(void **state)
{
    (void)state;
    load();
    died(born(70 * KIB, TENSORS));
    for (unsigned step = 0; step < 6; step++) {
        berth__class_block(host(), weights[1]->number)->found_young = 100;
        berth__classifier_step();
    }
    expect_tags(weights, BERTH_TAG_WEIGHT);
    assert_int_equal(level(weights[0]), BERTH_CLASS_FINAL);
    assert_int_equal(level(weights[1]), BERTH_CLASS_FIRM);
}

#define PLAYED(test) cmocka_unit_test_setup(test, begin)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(what_was_compared_three_times_is_final),
        PLAYED(what_has_few_blank_words_is_a_weight),
        PLAYED(what_is_made_late_is_no_weight_at_first_sight),
        PLAYED(a_cache_that_begins_anew_is_known),
        PLAYED(a_cache_that_grows_is_known_after_two_steps),
        PLAYED(what_most_find_made_by_steps_is_judged_anew),
        PLAYED(what_judgements_found_made_by_steps_is_not_final),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
