/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that keep what a step makes beside the weights, that train by more than weights were,
 * or whose weights are copies of what goes, played to the classifier. */
#include "alloc/classifier.h"

#include "alloc/classifier_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "played.h"

#define LAYERS 12

static struct played *weights[LAYERS], *gradients[LAYERS], *means[LAYERS], *squares[LAYERS];

static struct played *weight(size_t size)
{
    struct played *block = born(size, TENSORS);

    block->is_small = block->is_steady = true;
    return block;
}

static size_t size_of(unsigned layer)
{
    return (4 + layer % 4) * 512 * KIB;
}

static void load(void)
{
    for (unsigned i = 0; i < LAYERS; i++) {
        weights[i] = weight(size_of(i));
        gradients[i] = means[i] = squares[i] = NULL;
    }
}

/* A batch of another length in each step, so that nothing that goes in it comes again. */
static void infer(unsigned step)
{
    struct played *kept[LAYERS];

    for (unsigned i = 0; i < LAYERS; i++)
        kept[i] = born((68 + 16 * step + i) * KIB, TENSORS);
    for (unsigned i = 0; i < LAYERS; i++)
        died(kept[i]);
}

/* Gradients are kept and cleared; the first step has made them, the later ones add to them what
 * they make and drop. */
static void train(unsigned step, bool has_states)
{
    infer(step);
    for (unsigned i = LAYERS; i-- > 0;) {
        struct played *made = born(weights[i]->size, TENSORS);

        if (gradients[i])
            died(made);
        else
            gradients[i] = made;
        write_all(gradients[i]);
    }
    for (unsigned i = 0; i < LAYERS && has_states; i++) {
        if (!means[i])
            means[i] = born(weights[i]->size, TENSORS);
        if (!squares[i])
            squares[i] = born(weights[i]->size, TENSORS);
        squares[i]->is_positive = true;
        means[i]->is_steady = means[i]->is_turned = true;
        write_all(means[i]);
        write_all(squares[i]);
    }
    for (unsigned i = 0; i < LAYERS; i++)
        write_all(weights[i]);
}

static void expect(struct played *const *blocks, enum berth_tag tag)
{
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_equal(blocks[i]->tag, tag);
}

static void expect_none(struct played *const *blocks)
{
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_not_equal(blocks[i]->tag, BERTH_TAG_WEIGHT);
}

/* What a long first step makes is like steps of its own, and these have shown the weights. */
static void what_is_made_behind_known_weights_is_no_weight(void **state)
{
    (void)state;
    load();
    for (unsigned step = 0; step < 12; step++) {
        for (unsigned i = 0; i < LAYERS; i++)
            died(born((68 + i) * KIB, TENSORS));
    }
    assert_int_equal(level(weights[0]), BERTH_CLASS_FINAL);
    for (unsigned step = 0; step < 6; step++)
        train(step, true);
    berth__classifier_refresh();
    expect(weights, BERTH_TAG_WEIGHT);
    expect_none(gradients);
    expect_none(means);
    expect_none(squares);
}

/* An eighth of the numbers, others in each step: the rows of a table of which it had words. */
static void write_rows(struct played *block, unsigned step)
{
    for (unsigned i = step % 8; i < BERTH_LOOK_WORDS; i += 8)
        block->version[i]++;
}

/* The sums were made with the optimiser, before the first step. */
static void train_with_sums(void (*write)(struct played *block, unsigned step))
{
    for (unsigned i = 0; i < LAYERS; i++) {
        squares[i] = born(weights[i]->size, TENSORS);
        squares[i]->is_positive = squares[i]->is_steady = true;
    }
    for (unsigned step = 0; step < 8; step++) {
        infer(step);
        for (unsigned i = LAYERS; i-- > 0;)
            died(born(weights[i]->size, TENSORS));
        for (unsigned i = 0; i < LAYERS; i++) {
            write(squares[i], step);
            write(weights[i], step);
        }
    }
    berth__classifier_refresh();
    expect(weights, BERTH_TAG_WEIGHT);
    expect_none(squares);
}

static void write_anew(struct played *block, unsigned step)
{
    (void)step;
    write_all(block);
}

/* And the first steps change the weights by more than these were. */
static void sums_of_squares_from_before_the_steps_are_no_weights(void **state)
{
    (void)state;
    load();
    for (unsigned i = 0; i < LAYERS; i++)
        weights[i]->is_steady = false;
    train_with_sums(write_anew);
}

static void sums_of_squares_of_a_table_are_no_weights(void **state)
{
    (void)state;
    load();
    train_with_sums(write_rows);
}

#define STACK 3 /* layers of a stack */
#define LAYER_MAX 6

/* A layer is made, others are copied from it, and it goes. */
static unsigned stack(const size_t *sizes, unsigned count, struct played **ret_copies)
{
    struct played *first[LAYER_MAX];

    for (unsigned i = 0; i < count; i++)
        first[i] = weight(sizes[i]);
    for (unsigned i = 0; i < STACK * count; i++)
        ret_copies[i] = weight(sizes[i % count]);
    for (unsigned i = 0; i < count; i++)
        died(first[i]);
    return STACK * count;
}

/* Steps make little that is large: a table of what may follow. */
static void copies_of_a_layer_that_goes_are_weights(void **state)
{
    static const size_t encoder[] = {768 * KIB, 256 * KIB, 1024 * KIB, 1024 * KIB};
    static const size_t decoder[] = {768 * KIB, 256 * KIB,  768 * KIB,
                                     256 * KIB, 1024 * KIB, 1024 * KIB};
    struct played *copies[STACK * (4 + LAYER_MAX)], *tables[3];
    unsigned count;

    (void)state;
    tables[0] = weight(10000 * KIB);
    tables[1] = weight(10000 * KIB);
    count = stack(encoder, 4, copies);
    count += stack(decoder, LAYER_MAX, copies + count);
    tables[2] = weight(10000 * KIB);
    for (unsigned i = 0; i < 3; i++)
        died(born((70 + i) * KIB, TENSORS));
    berth__classifier_refresh();
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(tables[i]->tag, BERTH_TAG_WEIGHT);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(copies[i]->tag, BERTH_TAG_WEIGHT);
}

/* The second model is like the first, which was deleted. */
static void the_model_behind_one_that_was_deleted_is_weights(void **state)
{
    (void)state;
    for (unsigned model = 0; model < 3; model++) {
        load();
        for (unsigned step = 0; step < 3; step++) {
            infer(0);
            infer(0);
        }
        berth__classifier_refresh();
        expect(weights, BERTH_TAG_WEIGHT);
        for (unsigned i = 0; i < LAYERS && model < 2; i++)
            died(weights[i]);
    }
}

#define PLAYED(test) cmocka_unit_test_setup(test, begin)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(what_is_made_behind_known_weights_is_no_weight),
        PLAYED(sums_of_squares_from_before_the_steps_are_no_weights),
        PLAYED(sums_of_squares_of_a_table_are_no_weights),
        PLAYED(copies_of_a_layer_that_goes_are_weights),
        PLAYED(the_model_behind_one_that_was_deleted_is_weights),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
