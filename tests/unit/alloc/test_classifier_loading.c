/* SPDX-License-Identifier: Apache-2.0 */
/* Ways of loading a model that look like steps, played to the classifier: what is made beside the
 * weights, in order to be copied, comes and goes as well. */
#include "alloc/classifier.h"

#include "alloc/classifier_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "played.h"

#define LAYERS 4
#define ALL_MAX 64

static struct played *all[ALL_MAX]; /* the weights */
static unsigned count;

static struct played *weight(size_t size)
{
    struct played *block = born(size, TENSORS);

    block->is_small = true;
    return block;
}

static void keep(struct played *block)
{
    assert_true(count < ALL_MAX);
    all[count++] = block;
}

/* A step that makes blocks of this size, and needs another allocator's beside each. */
static void infer(size_t size)
{
    struct played *x = born(size, TENSORS), *last = born(size, TENSORS);

    for (unsigned i = 0; i < LAYERS; i++) {
        struct played *y;

        died(born(512 * KIB, OTHERS));
        y = born(size, TENSORS);
        died(last);
        last = y;
    }
    died(last);
    died(x);
}

/* All, or all but a hundredth of their bytes. */
static void expect_weights(bool but_a_few)
{
    uint64_t known = 0, bytes = 0;

    berth__classifier_refresh();
    for (unsigned i = 0; i < count; i++) {
        assert_int_not_equal(all[i]->tag, BERTH_TAG_KV);
        known += all[i]->tag == BERTH_TAG_WEIGHT ? all[i]->size : 0;
        bytes += all[i]->size;
    }
    assert_true(known >= bytes - (but_a_few ? bytes / 100 : 0));
}

static int begin_loading(void **state)
{
    count = 0;
    return begin(state);
}

static void make_model(struct played *model[LAYERS])
{
    for (unsigned i = 0; i < LAYERS; i++)
        model[i] = weight(i + 1 < LAYERS ? 9216 * KIB : 6000 * KIB);
}

static void drop_model(struct played *const model[LAYERS])
{
    for (unsigned i = 0; i < LAYERS; i++)
        died(model[i]);
}

/* A model that is written to a file, another that is made, and the file's content, which is copied
 * into it: what went has the weights' sizes, and went for good. */
static void a_model_that_a_file_is_copied_into_is_weights(void **state)
{
    struct played *model[LAYERS], *file, *content[LAYERS];

    (void)state;
    for (unsigned i = 0; i < 100; i++)
        died(born(70 * KIB, OTHERS));
    make_model(model);
    file = born(34000 * KIB, OTHERS);
    drop_model(model);
    make_model(model);
    make_model(content);
    died(file);
    drop_model(content);
    for (unsigned i = 0; i < LAYERS; i++)
        keep(model[i]);
    for (unsigned step = 0; step < 2; step++)
        infer(96 * KIB);
    expect_weights(false);
    for (unsigned step = 0; step < 8; step++)
        infer(96 * KIB);
    expect_weights(false);
}

static void make_all(unsigned blocks)
{
    for (unsigned i = 0; i < blocks; i++)
        keep(weight((1024 + 64 * i) * KIB));
}

/* A framework fills each layer when it makes it, and all of them again when the model is complete;
 * in between somebody asks, so that both fillings are looked at. */
static void a_model_that_is_filled_twice_is_weights(void **state)
{
    (void)state;
    make_all(16);
    berth__classifier_refresh();
    for (unsigned i = 0; i < count; i++)
        write_all(all[i]);
    for (unsigned step = 0; step < 12; step++) {
        infer(96 * KIB);
        for (unsigned i = 0; i < count; i++)
            assert_int_not_equal(all[i]->tag, BERTH_TAG_ACTIVATION);
        if (step >= 1)
            expect_weights(false);
    }
    assert_int_equal(taken_back, 0);
}

static void make_copies(struct played *const parts[LAYERS], unsigned copies)
{
    for (unsigned i = 0; i < copies * LAYERS; i++)
        keep(weight(parts[i % LAYERS]->size));
}

/* Nor are layers that are copied from one that goes, where the copies look like steps: they are
 * filled again when the model is complete, and what steps make is small. */
static void copies_of_a_layer_that_are_filled_twice_are_weights(void **state)
{
    struct played *first[LAYERS], *second[LAYERS];

    (void)state;
    for (unsigned i = 0; i < 2; i++)
        keep(weight(10000 * KIB));
    for (unsigned i = 0; i < 4; i++)
        died(born(256 * KIB, TENSORS));
    for (unsigned i = 0; i < LAYERS; i++)
        first[i] = weight((i % 2 ? 256 : 768 + 256 * (i / 2)) * KIB);
    make_copies(first, 3);
    for (unsigned i = 0; i < LAYERS; i++)
        second[i] = weight(first[i]->size);
    make_copies(second, 5);
    drop_model(first);
    drop_model(second);
    for (unsigned i = 0; i < count; i++)
        write_all(all[i]);
    keep(weight(10000 * KIB));
    died(born(70 * KIB, OTHERS));
    expect_weights(false);
    assert_int_equal(taken_back, 0);
}

/* Nor does that hide what steps write: it is seen from the second change on. */
static void what_is_filled_twice_and_in_steps_is_no_weight(void **state)
{
    struct played *buffer;

    (void)state;
    make_all(16);
    buffer = born(3000 * KIB, TENSORS);
    berth__classifier_refresh();
    for (unsigned i = 0; i < count; i++)
        write_all(all[i]);
    for (unsigned step = 0; step < 12; step++) {
        write_all(buffer);
        infer(96 * KIB);
        berth__classifier_refresh();
    }
    expect_weights(false);
    assert_int_equal(buffer->tag, BERTH_TAG_ACTIVATION);
}

/* What fills the rest of a cache that was there before the steps is no filling of a layer, where
 * its maker has made another since. */
static void what_is_appended_before_the_steps_is_no_weight(void **state)
{
    struct played *cache;

    (void)state;
    make_all(16);
    cache = born(3000 * KIB, TENSORS);
    keep(weight(1024 * KIB));
    for (unsigned i = BERTH_LOOK_WORDS / 4 * 3; i < BERTH_LOOK_WORDS; i++)
        cache->version[i] = 0;
    berth__classifier_refresh();
    for (unsigned i = BERTH_LOOK_WORDS / 4 * 3; i < BERTH_LOOK_WORDS; i++)
        cache->version[i]++;
    for (unsigned step = 0; step < 12; step++)
        infer(96 * KIB);
    expect_weights(false);
    assert_int_not_equal(cache->tag, BERTH_TAG_WEIGHT);
}

/* Layers that are made one like the other, each with a helper. */
static void load_layers(unsigned layers)
{
    for (unsigned i = 0; i < layers; i++) {
        struct played *helper;

        keep(weight(4096 * KIB));
        helper = born(128 * KIB, TENSORS);
        keep(weight(128 * KIB));
        died(helper);
        keep(weight(128 * KIB));
        for (unsigned j = 0; j < count; j++)
            assert_int_not_equal(berth__class_block(host(), all[j]->number)->level,
                                 BERTH_CLASS_FINAL);
    }
}

static void check_layers(unsigned layers)
{
    load_layers(layers);
    infer(160 * KIB);
    infer(160 * KIB);
    expect_weights(true);
    for (unsigned step = 0; step < 8; step++)
        infer(160 * KIB);
    expect_weights(true);
}

static void layers_with_a_helper_are_no_steps(void **state)
{
    (void)state;
    check_layers(6);
}

static void many_layers_with_a_helper_are_no_steps(void **state)
{
    (void)state;
    check_layers(20);
}

/* A weight that is blank when it is made, beside these, is no cache. */
static void blank_weights_of_layers_are_no_cache(void **state)
{
    struct played *blank[12];

    (void)state;
    for (unsigned i = 0; i < 12; i++) {
        load_layers(1);
        blank[i] = born((144 + i) * KIB, TENSORS);
        memset(blank[i]->version, 0, sizeof(blank[i]->version));
        for (unsigned j = 0; j <= i; j++)
            assert_int_not_equal(blank[j]->tag, BERTH_TAG_KV);
    }
    berth__classifier_refresh();
    for (unsigned i = 0; i < 12; i++)
        assert_int_not_equal(blank[i]->tag, BERTH_TAG_KV);
}

/* What is before them is so much that they may be what a step keeps. */
static void layers_behind_a_large_table_are_no_cache(void **state)
{
    (void)state;
    keep(weight(32768 * KIB));
    for (unsigned i = 0; i < 8; i++) {
        load_layers(1);
        for (unsigned j = 0; j < count; j++)
            assert_int_not_equal(all[j]->tag, BERTH_TAG_KV);
    }
    infer(160 * KIB);
    infer(160 * KIB);
    expect_weights(true);
}

/* Weights that are packed before the steps: of each, copies of one size go, and one that is as
 * large stays. That it goes is no more than guessed. */
static void packed_weights_are_nothing_that_goes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        keep(weight((i + 3) * 16384 * KIB));
    for (unsigned i = 0; i < 6; i++) {
        struct played *first, *second;

        keep(weight(4096 * KIB));
        keep(weight((70 + i) * KIB));
        first = born(4096 * KIB, TENSORS);
        second = born(4096 * KIB, TENSORS);
        died(first);
        died(second);
        for (unsigned j = 0; j < count; j++)
            assert_true(all[j]->tag != BERTH_TAG_ACTIVATION ||
                        level(all[j]) == BERTH_CLASS_GUESSED);
    }
    for (unsigned step = 0; step < 12; step++)
        infer(96 * KIB);
    expect_weights(false);
}

/* Of 40 steps, all that is judged is judged in the first; and no block has a tag for a second time.
 */
static void nothing_changes_back(unsigned layers)
{
    unsigned changes[ALL_MAX];

    load_layers(layers);
    for (unsigned step = 0; step < 40; step++) {
        infer((160 + step % 3 * 16) * KIB);
        berth__classifier_refresh();
        for (unsigned i = 0; i < count; i++) {
            assert_true(step < 10 || all[i]->changes == changes[i]);
            changes[i] = all[i]->changes;
        }
    }
    expect_weights(false);
    assert_int_equal(taken_back, 0);
}

static void forty_steps_change_nothing_back(void **state)
{
    (void)state;
    nothing_changes_back(12);
}

static void forty_steps_of_a_small_model_change_nothing_back(void **state)
{
    (void)state;
    nothing_changes_back(3);
}

/* An interpreter imports modules: it reads files of a few sizes, and its tables stay. */
static void import_modules(struct played *tables[LAYERS], unsigned modules)
{
    for (unsigned i = 0; i < LAYERS; i++)
        tables[i] = born((300 + i) * KIB, OTHERS);
    for (unsigned i = 0; i < modules; i++) {
        died(born(256 * KIB, OTHERS));
        died(born((70 + i % 3) * KIB, OTHERS));
    }
}

/* Nothing but tensors. */
static void infer_alone(unsigned steps)
{
    for (unsigned i = 0; i < steps * LAYERS; i++) {
        struct played *x = born((96 + i % LAYERS) * KIB, TENSORS);

        died(born(700 * KIB, TENSORS));
        died(x);
    }
}

static void expect_no_weights(struct played *const blocks[LAYERS])
{
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_equal(blocks[i]->tag, BERTH_TAG_UNTAGGED);
}

/* Imports look like steps, and no class that comes of them is for good. */
static void what_is_imported_before_the_weights_is_none(void **state)
{
    struct played *model[LAYERS], *tables[LAYERS];

    (void)state;
    import_modules(tables, 200);
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_not_equal(level(tables[i]), BERTH_CLASS_FINAL);
    make_model(model);
    for (unsigned i = 0; i < LAYERS; i++)
        keep(model[i]);
    infer_alone(6);
    expect_weights(false);
    expect_no_weights(tables);
}

/* A compiler is imported when the model is there. */
static void what_is_imported_after_the_weights_is_none(void **state)
{
    struct played *tables[LAYERS];

    (void)state;
    for (unsigned i = 0; i < 12; i++)
        keep(weight((1800 + i) * KIB));
    import_modules(tables, 40);
    for (unsigned i = 0; i < count; i++)
        assert_true(level(all[i]) < BERTH_CLASS_FIRM);
    infer_alone(12);
    expect_weights(false);
    expect_no_weights(tables);
}

/*
 * A program in C that has its weights and its caches from several calls, and makes nothing in its
 * steps: what is filled is a weight, and what is reserved and filled from its start on is none.
 */
static void without_steps_what_is_filled_by_the_same_code_is_a_weight(void **state)
{
    struct played *largest = born(8000 * KIB, TENSORS), *nearby = born(4000 * KIB, NEARBY);
    struct played *cache = born(2000 * KIB, NEARBY), *elsewhere = born(4000 * KIB, OTHERS);

    (void)state;
    memset(cache->version, 0, sizeof(cache->version));
    for (unsigned i = 0; i < BERTH_LOOK_WORDS / 2; i++)
        cache->version[i]++;
    berth__classifier_refresh();
    assert_int_equal(largest->tag, BERTH_TAG_WEIGHT);
    assert_int_equal(nearby->tag, BERTH_TAG_WEIGHT);
    assert_int_equal(level(nearby), BERTH_CLASS_TENTATIVE);
    assert_int_equal(cache->tag, BERTH_TAG_UNTAGGED);
    assert_int_equal(elsewhere->tag, BERTH_TAG_UNTAGGED);
}

#define PLAYED(test) cmocka_unit_test_setup(test, begin_loading)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(a_model_that_a_file_is_copied_into_is_weights),
        PLAYED(a_model_that_is_filled_twice_is_weights),
        PLAYED(copies_of_a_layer_that_are_filled_twice_are_weights),
        PLAYED(what_is_filled_twice_and_in_steps_is_no_weight),
        PLAYED(what_is_appended_before_the_steps_is_no_weight),
        PLAYED(without_steps_what_is_filled_by_the_same_code_is_a_weight),
        PLAYED(layers_with_a_helper_are_no_steps),
        PLAYED(many_layers_with_a_helper_are_no_steps),
        PLAYED(blank_weights_of_layers_are_no_cache),
        PLAYED(layers_behind_a_large_table_are_no_cache),
        PLAYED(packed_weights_are_nothing_that_goes),
        PLAYED(what_is_imported_before_the_weights_is_none),
        PLAYED(what_is_imported_after_the_weights_is_none),
        PLAYED(forty_steps_change_nothing_back),
        PLAYED(forty_steps_of_a_small_model_change_nothing_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
