/* SPDX-License-Identifier: Apache-2.0 */
/* Steps that allocate nothing, played to the classifier: who asks is told what is likely, and who
 * asks again what was written in between. */
#include "alloc/classifier.h"

#include "alloc/classifier_parts.h"
#include "alloc/sandbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "played.h"

#define LAYERS 12
#define MILLISECOND ((uint64_t)1000 * 1000)
#define STEP (100 * MILLISECOND)

static uint64_t clock;     /* how much the program has worked */
static uint64_t look_cost; /* of that, what each look takes */
static unsigned looks, watches, ends, questions;
static struct played *weights[LAYERS];

static bool look_and_count(uintptr_t address, const size_t offsets[BERTH_LOOK_WORDS],
                           uint64_t words[BERTH_LOOK_WORDS])
{
    looks++;
    clock += look_cost;
    return look(address, offsets, words);
}

static bool watch(const struct berth_watched *stretches, unsigned count)
{
    (void)stretches, (void)count;
    watches++;
    return true;
}

static void watched(struct berth_watched *stretches, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        stretches[i].read = 0;
    ends++;
}

static uint64_t worked(void)
{
    questions++;
    return clock;
}

static int begin_as(void **state, const struct berth_classifier_ops *ops)
{
    if (begin(state) != 0)
        return -1;
    clock = STEP;
    look_cost = looks = watches = ends = 0;
    atomic_store(&host()->ops, ops);
    return 0;
}

static int begin_silent(void **state)
{
    static const struct berth_classifier_ops ops = {
        .look = look_and_count, .retag = retag, .worked = worked};

    return begin_as(state, &ops);
}

static int begin_watching(void **state)
{
    static const struct berth_classifier_ops ops = {.look = look_and_count,
                                                    .watch = watch,
                                                    .watched = watched,
                                                    .retag = retag,
                                                    .worked = worked};

    return begin_as(state, &ops);
}

static struct played *make(size_t size)
{
    struct played *block = born(size, TENSORS);

    block->is_small = true;
    return block;
}

static void load(void)
{
    for (unsigned i = 0; i < LAYERS; i++)
        weights[i] = make((1024 + i) * KIB);
}

/* Numbers of either sign from 1/2 on. */
static const uint64_t *scaled(void)
{
    static uint64_t words[BERTH_LOOK_WORDS];

    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++)
        words[i] = (((i + 1) * 0x9e3779b97f4a7c15u) & 0x80ffffff80ffffffu) | 0x3f0000003f000000u;
    return words;
}

static struct played *make_scaled(size_t size)
{
    struct played *block = make(size);

    block->words = scaled();
    return block;
}

static void expect_weights(void)
{
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_equal(weights[i]->tag, BERTH_TAG_WEIGHT);
}

/* A step that makes nothing, and writes these; then somebody asks. */
static void step_and_ask(struct played *const *buffers, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        write_all(buffers[i]);
    clock += STEP;
    berth__classifier_refresh();
}

/* Of each weight, another is made first, and goes: that looks like steps that keep something. */
static void what_is_computed_of_what_goes_is_a_weight(void **state)
{
    struct played *results[2];

    (void)state;
    for (unsigned i = 0; i < LAYERS; i++) {
        struct played *first = make(4096 * KIB);

        weights[i] = make(4096 * KIB);
        died(first);
    }
    for (unsigned i = 0; i < 2; i++) {
        results[i] = make(1024 * KIB);
        results[i]->is_positive = true;
    }
    berth__classifier_refresh();
    expect_weights();
    assert_int_equal(results[0]->tag, BERTH_TAG_UNTAGGED);
    assert_int_equal(results[1]->tag, BERTH_TAG_UNTAGGED);
}

/* Room for inputs and results is made when the weights are there. */
static void large_numbers_that_were_made_last_are_no_weight(void **state)
{
    struct played *table, *inputs[2], *results;

    (void)state;
    table = make_scaled(2000 * KIB);
    load();
    results = make(900 * KIB);
    results->is_positive = true;
    inputs[0] = make_scaled(900 * KIB);
    inputs[1] = make_scaled(901 * KIB);
    berth__classifier_refresh();
    expect_weights();
    assert_int_equal(table->tag, BERTH_TAG_WEIGHT);
    assert_int_equal(results->tag, BERTH_TAG_UNTAGGED);
    assert_int_equal(inputs[0]->tag, BERTH_TAG_UNTAGGED);
    assert_int_equal(inputs[1]->tag, BERTH_TAG_UNTAGGED);
}

/* Unless nearly all numbers are as large. */
static void where_weights_are_large_the_last_is_one(void **state)
{
    struct played *results;

    (void)state;
    make(66 * KIB);
    for (unsigned i = 0; i < LAYERS; i++)
        weights[i] = make_scaled((1024 + i) * KIB);
    results = make(900 * KIB);
    results->is_positive = true;
    berth__classifier_refresh();
    expect_weights();
    assert_int_equal(results->tag, BERTH_TAG_UNTAGGED);
}

static void what_steps_rewrite_is_known_when_somebody_asks_again(void **state)
{
    struct played *buffers[2];

    (void)state;
    buffers[0] = make(700 * KIB);
    load();
    buffers[1] = make(701 * KIB);
    for (unsigned step = 0; step < 4; step++)
        step_and_ask(buffers, 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(buffers[i]->tag, BERTH_TAG_ACTIVATION);
        assert_int_equal(level(buffers[i]), BERTH_CLASS_FINAL);
    }
    step_and_ask(buffers, 2);
    expect_weights();
    assert_int_equal(level(weights[0]), BERTH_CLASS_FIRM);
    for (unsigned step = 0; step < 40; step++)
        step_and_ask(buffers, 2);
    expect_weights();
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_equal(weights[i]->changes, 1);
    assert_int_equal(buffers[0]->changes, 2);
    assert_int_equal(taken_back, 0);
}

/* A model that is filled when it is made, when it is complete and from a file, while somebody asks
 * again and again. */
static void what_is_filled_three_times_is_a_weight(void **state)
{
    (void)state;
    load();
    berth__classifier_refresh();
    step_and_ask(weights, LAYERS);
    step_and_ask(weights, LAYERS);
    for (unsigned step = 0; step < 8; step++)
        step_and_ask(NULL, 0);
    expect_weights();
}

/* Nor does it matter how often, where the program makes something meanwhile. */
static void what_is_filled_while_others_are_made_is_a_weight(void **state)
{
    (void)state;
    load();
    for (unsigned step = 0; step < 6; step++) {
        born((70 + step) * KIB, OTHERS);
        step_and_ask(weights, LAYERS);
    }
    expect_weights();
}

static void what_is_trained_in_place_is_a_weight(void **state)
{
    (void)state;
    load();
    for (unsigned i = 0; i < LAYERS; i++)
        weights[i]->is_steady = true;
    for (unsigned step = 0; step < 12; step++)
        step_and_ask(weights, LAYERS);
    expect_weights();
}

/* Nor are they activations where so many steps go by between two questions that each number is
 * another one: all layers are, as in no inference. */
static void what_is_trained_far_in_place_is_no_activation(void **state)
{
    struct played *inputs;

    (void)state;
    inputs = make_scaled(9000 * KIB);
    load();
    for (unsigned step = 0; step < 12; step++)
        step_and_ask(weights, LAYERS);
    expect_weights();
    assert_int_not_equal(inputs->tag, BERTH_TAG_ACTIVATION);
}

static void pass(unsigned blocks)
{
    for (unsigned i = 0; i < blocks; i++)
        died(make((70 + i % 4) * KIB));
}

/* What nobody writes is no more certain for being asked about often; nor is what came and went. */
static void of_a_program_that_writes_nothing_nothing_is_certain(void **state)
{
    (void)state;
    make(8000 * KIB);
    load();
    pass(4);
    for (unsigned step = 0; step < 12; step++)
        step_and_ask(NULL, 0);
    expect_weights();
    assert_int_equal(level(weights[0]), BERTH_CLASS_TENTATIVE);
}

/* An answer costs looks: so much work must go by, and so many times what the last one took. */
static void who_asks_often_is_answered_seldom(void **state)
{
    (void)state;
    load();
    berth__classifier_refresh();
    looks = 0;
    for (unsigned i = 0; i < 100; i++)
        berth__classifier_refresh();
    assert_int_equal(looks, 0);
    look_cost = 10 * MILLISECOND;
    clock += STEP;
    berth__classifier_refresh();
    assert_int_equal(looks, LAYERS);
    look_cost = 0;
    for (unsigned step = 0; step < 38; step++)
        step_and_ask(NULL, 0);
    assert_int_equal(looks, LAYERS);
    step_and_ask(NULL, 0);
    assert_int_equal(looks, 2 * LAYERS);
}

/* As in a forked child. */
static void who_asks_where_work_is_counted_anew_is_answered(void **state)
{
    (void)state;
    load();
    berth__classifier_refresh();
    looks = 0;
    clock = MILLISECOND;
    berth__classifier_refresh();
    assert_int_equal(looks, LAYERS);
    berth__classifier_refresh();
    assert_int_equal(looks, LAYERS);
}

/* What is asked of the kernel there may be the program's end. */
static void in_a_sandbox_nothing_is_asked(void **state)
{
    (void)state;
    load();
    berth__classifier_refresh();
    looks = questions = 0;
    berth__sandbox_enter();
    step_and_ask(weights, LAYERS);
    make(2000 * KIB);
    step_and_ask(NULL, 0);
    berth__sandbox_leave();
    assert_int_equal(looks, 0);
    assert_int_equal(questions, 0);
    berth__classifier_refresh();
    assert_int_equal(looks, LAYERS + 1);
}

/* Where steps are seen, they tell. */
static void who_asks_again_between_steps_is_told_the_same(void **state)
{
    (void)state;
    load();
    pass(400);
    berth__classifier_refresh();
    looks = 0;
    for (unsigned step = 0; step < 4; step++)
        step_and_ask(NULL, 0);
    assert_int_equal(looks, 0);
    expect_weights();
}

/* What is large is watched before steps are seen, and not looked at; who asks again ends that. */
static void what_was_watched_is_looked_at_when_somebody_asks_again(void **state)
{
    struct played *table, *input;

    (void)state;
    table = make_scaled(8000 * KIB);
    load();
    input = make_scaled(8001 * KIB);
    pass(4);
    assert_true(watches > 0 && host()->watch.is_open);
    assert_true(berth__class_block(host(), input->number)->is_watched);
    berth__classifier_refresh();
    assert_int_equal(table->tag, BERTH_TAG_WEIGHT);
    assert_int_equal(input->tag, BERTH_TAG_UNTAGGED);
    assert_true(host()->watch.is_open);
    input->words = NULL;
    input->is_small = false;
    are_large = true;
    ends = watches = 0;
    for (unsigned step = 0; step < 6; step++)
        step_and_ask(&input, 1);
    assert_int_equal(ends, 1);
    assert_int_equal(watches, 0);
    assert_int_equal(input->tag, BERTH_TAG_ACTIVATION);
    assert_int_equal(table->tag, BERTH_TAG_WEIGHT);
    expect_weights();
}

#define SILENT(test) cmocka_unit_test_setup(test, begin_silent)
#define WATCHING(test) cmocka_unit_test_setup(test, begin_watching)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SILENT(what_is_computed_of_what_goes_is_a_weight),
        SILENT(large_numbers_that_were_made_last_are_no_weight),
        SILENT(where_weights_are_large_the_last_is_one),
        SILENT(what_steps_rewrite_is_known_when_somebody_asks_again),
        SILENT(what_is_filled_three_times_is_a_weight),
        SILENT(what_is_filled_while_others_are_made_is_a_weight),
        SILENT(what_is_trained_in_place_is_a_weight),
        SILENT(what_is_trained_far_in_place_is_no_activation),
        SILENT(of_a_program_that_writes_nothing_nothing_is_certain),
        SILENT(who_asks_often_is_answered_seldom),
        SILENT(who_asks_where_work_is_counted_anew_is_answered),
        SILENT(in_a_sandbox_nothing_is_asked),
        SILENT(who_asks_again_between_steps_is_told_the_same),
        WATCHING(what_was_watched_is_looked_at_when_somebody_asks_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
