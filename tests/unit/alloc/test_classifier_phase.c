/* SPDX-License-Identifier: Apache-2.0 */
/* Where the steps begin, and what is taken for a cache that grows: each test fails without the one
 * rule that it is about, because no other rule applies to its program. */
#include "alloc/classifier.h"

#include "alloc/classifier_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "played.h"

#define WEIGHTS 16
#define STATES 3

static struct played *weights[WEIGHTS], *states[WEIGHTS][STATES];
static unsigned count;
static unsigned varied; /* not 0: the number of a step; each makes blocks of other sizes */

static int begin_phase(void **state)
{
    count = varied = 0;
    memset(states, 0, sizeof(states));
    return begin(state);
}

static void keep(size_t size)
{
    assert_true(count < WEIGHTS);
    weights[count] = born(size, TENSORS);
    weights[count]->is_small = weights[count]->is_steady = true;
    count++;
}

static void infer(unsigned steps)
{
    for (unsigned i = 0; i < steps * 4; i++) {
        struct played *x = born((96 + i % 4) * KIB, TENSORS);

        died(born(700 * KIB, TENSORS));
        died(x);
    }
}

/* The boundary is behind this weight and before what comes next. */
static void expect_boundary(const struct played *last)
{
    berth__classifier_refresh();
    assert_int_equal(host()->last_boundary,
                     atomic_load(&berth__class_block(host(), last->number)->birth));
}

/* Each is read into one of its size, and converted into another, before it is there. */
static void read_layer(size_t size)
{
    struct played *read = born(size, TENSORS), *converted = born(size, TENSORS);

    died(read);
    died(converted);
    keep(size);
}

/* What was read once and comes no more is no gradient, and what is as large is no state. */
static void what_was_read_long_ago_tells_nothing(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++)
        keep((1000 + i) * KIB);
    for (unsigned i = 0; i < 8; i++)
        read_layer((2000 + i) * KIB);
    infer(12);
    expect_boundary(weights[count - 1]);
}

/* However short it was ago: an optimiser leaves more that is before its gradients. */
static void layers_that_are_read_one_by_one_are_no_states(void **state)
{
    (void)state;
    keep(3000 * KIB);
    for (unsigned i = 1; i < WEIGHTS; i++)
        read_layer(2000 * KIB);
    infer(2);
    expect_boundary(weights[count - 1]);
}

/* A layer is computed of one of its size, which goes, as are all before it, and the first step
 * comes at once: what was made last is no state, though its size was the last that went. */
static void what_was_loaded_last_is_no_state(void **state)
{
    static const unsigned sizes[] = {6000, 16000, 4000};
    struct played *read[3];

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        read[i] = born(sizes[i] * KIB, TENSORS);
    for (unsigned i = 0; i < 3; i++) {
        struct played *chosen = born(sizes[i] * KIB, TENSORS);

        for (unsigned j = 0; j < 6; j++)
            died(born(sizes[i] * KIB, TENSORS));
        keep(sizes[i] * KIB);
        died(read[i]);
        died(chosen);
    }
    infer(2);
    expect_boundary(weights[count - 1]);
}

/* Layers are packed by one library, which computes them with memory of its own. */
static void steps_may_make_nothing_where_the_weights_are(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 6; i++)
        keep(2000 * KIB);
    for (unsigned i = 0; i < 8; i++) {
        struct played *packed = born(500 * KIB, TENSORS);

        keep(500 * KIB);
        died(packed);
    }
    for (unsigned i = 0; i < 8; i++) {
        struct played *x = born((140 + i % 4) * KIB, OTHERS);

        died(born(1200 * KIB, OTHERS));
        died(x);
    }
    expect_boundary(weights[count - 1]);
}

/* Gradients come and go, and for each weight the optimiser keeps states from the first step on. */
static void train(unsigned from, unsigned kept)
{
    struct played *gradients[WEIGHTS], *seen[WEIGHTS];

    for (unsigned i = 0; i < count; i++)
        seen[i] = born((68 + (varied ? varied * WEIGHTS + i / 2 : i)) * KIB, TENSORS);
    varied += varied > 0;
    for (unsigned i = count; i-- > from;)
        gradients[i] = born(weights[i]->size, TENSORS);
    for (unsigned i = 0; i < count; i++)
        died(seen[i]);
    for (unsigned i = from; i < count; i++) {
        for (unsigned j = 0; j < kept; j++) {
            if (!states[i][j])
                states[i][j] = born(weights[i]->size, TENSORS);
            write_all(states[i][j]);
        }
        write_all(weights[i]);
    }
    for (unsigned i = from; i < count; i++)
        died(gradients[i]);
}

static void expect_trained(unsigned kept)
{
    berth__classifier_refresh();
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(weights[i]->tag, BERTH_TAG_WEIGHT);
        for (unsigned j = 0; j < kept && states[i][j]; j++)
            assert_int_not_equal(states[i][j]->tag, BERTH_TAG_WEIGHT);
    }
    assert_true(host()->last_boundary <
                atomic_load(&berth__class_block(host(), states[count - 1][0]->number)->birth));
}

/* No two are of one size, so that one gradient of each goes before the states are made. */
static void states_of_different_layers_are_made_in_a_step(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 12; i++)
        keep((1500 + 40 * i) * KIB);
    for (unsigned step = 0; step < 4; step++)
        train(0, 2);
    expect_trained(2);
}

/* Most bytes are frozen, and what the optimiser keeps is more than all that was there. */
static void states_beside_a_frozen_table_are_made_in_a_step(void **state)
{
    (void)state;
    keep(20000 * KIB);
    weights[0]->is_steady = false;
    for (unsigned i = 0; i < 8; i++)
        keep(2000 * KIB);
    for (unsigned step = 0; step < 10; step++) {
        train(1, 3);
        if (step == 3)
            expect_trained(3);
    }
    expect_trained(3);
}

/* Whenever it is looked at, a step is under way, and most of what it makes is still there. */
static void what_a_step_has_made_so_far_is_not_kept(void **state)
{
    struct played *made[WEIGHTS];

    (void)state;
    for (unsigned i = 0; i < 8; i++)
        keep(3000 * KIB);
    for (unsigned step = 0; step < 3; step++) {
        for (unsigned i = 0; i < WEIGHTS; i++)
            made[i] = born((2000 + i) * KIB, TENSORS);
        if (step == 2)
            berth__classifier_refresh();
        for (unsigned i = 0; i < WEIGHTS; i++)
            died(made[i]);
    }
    for (unsigned i = 0; i < count; i++)
        assert_true(level(weights[i]) >= BERTH_CLASS_FIRM);
}

/* Two of a size, and in the next step two that are twice as large: a larger batch. */
static void a_larger_batch_is_no_cache_that_grows(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 12; i++)
        keep((1500 + 40 * i) * KIB);
    infer(6);
    for (unsigned step = 0; step < 4; step++) {
        size_t size = (size_t)(300 << step) * KIB;
        struct played *pair[2] = {born(size, TENSORS), born(size, TENSORS)};

        infer(1);
        berth__classifier_refresh();
        assert_int_not_equal(pair[0]->tag, BERTH_TAG_KV);
        assert_int_not_equal(pair[1]->tag, BERTH_TAG_KV);
        died(pair[0]);
        died(pair[1]);
    }
}

/* A buffer of the steps, as large as weights are, that is written piece by piece. */
static void weights_as_large_as_a_buffer_are_no_cache(void **state)
{
    struct played *buffer;

    (void)state;
    for (unsigned i = 0; i < 12; i++)
        keep(2048 * KIB);
    for (unsigned i = 0; i < 16; i++)
        died(born((96 + i) * KIB, TENSORS));
    buffer = born(2048 * KIB, TENSORS);
    for (unsigned step = 0; step < 20; step++) {
        for (unsigned i = 0; i < 3; i++)
            buffer->version[step * 3 + i]++;
        infer(1);
    }
    berth__classifier_refresh();
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(weights[i]->tag, BERTH_TAG_WEIGHT);
}

/* Eight weights, and behind each what is computed of it. */
static void keep_with_computed(struct played *computed[8])
{
    for (unsigned i = 0; i < 8; i++) {
        keep(2048 * KIB);
        computed[i] = born(2048 * KIB, TENSORS);
        computed[i]->is_small = true;
    }
}

/* Beside each weight is what is computed of it, which each step computes anew. */
static void what_is_computed_of_weights_is_no_gradient(void **state)
{
    struct played *computed[8];

    (void)state;
    keep_with_computed(computed);
    for (unsigned step = 0; step < 2; step++)
        for (unsigned i = 0; i < 8; i++) {
            struct played *again = born(2048 * KIB, TENSORS);

            again->is_small = true;
            died(computed[i]);
            computed[i] = again;
            died(born(96 * KIB, TENSORS));
        }
    expect_boundary(weights[count - 1]);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(weights[i]->tag, BERTH_TAG_WEIGHT);
        assert_int_not_equal(computed[i]->tag, BERTH_TAG_WEIGHT);
    }
}

/* Trains so many weights, which are there: what Adam keeps of each is made in the steps. */
static void steps_begin_before_states(unsigned trained)
{
    varied = 1;
    for (unsigned step = 0; step < 4; step++)
        train(trained, 3);
    berth__classifier_refresh();
    assert_true(host()->last_boundary <
                atomic_load(&berth__class_block(host(), states[trained][0]->number)->birth));
}

/* Most is frozen; what each of the others is made of goes before the next is made, and then its
 * gradients do, and are as large. */
static void what_weights_are_made_of_is_not_computed_of_them(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 6; i++)
        keep((4000 + i) * KIB);
    for (unsigned i = 0; i < 10; i++) {
        died(born(1000 * KIB, TENSORS));
        keep(1000 * KIB);
    }
    steps_begin_before_states(6);
}

/* Where one weight has its size, its states are between two of its gradients, and no more come. */
static void states_of_one_weight_are_not_made_by_turns(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 12; i++)
        keep((4000 + i) * KIB);
    for (unsigned i = 0; i < 4; i++)
        keep((1000 + 4 * i) * KIB);
    steps_begin_before_states(12);
}

/* As above, and whoever asks again and again has the same answer: each is seen not to be written,
 * and lives for what looks like steps, because all layers are alike. */
static void what_is_computed_again_is_no_late_weight(void **state)
{
    struct played *computed[8];

    (void)state;
    keep_with_computed(computed);
    for (unsigned i = 0; i < 32; i++) {
        died(computed[i % 8]);
        computed[i % 8] = born(2048 * KIB, TENSORS);
        computed[i % 8]->is_small = true;
        died(born(96 * KIB, TENSORS));
        berth__classifier_refresh();
        for (unsigned j = 0; i >= 16 && j < 8; j++)
            assert_int_not_equal(computed[j]->tag, BERTH_TAG_WEIGHT);
    }
}

#define FORWARD 6 /* kinds of blocks that a step's first half makes */

static void load_batch(void)
{
    for (unsigned i = 0; i < 8; i++) {
        struct played *x = born((300 + i % 2) * KIB, OTHERS);

        died(born(400 * KIB, OTHERS));
        died(x);
    }
}

/* Nor is what an optimiser keeps, where steps make nothing else, and the next batch is loaded by
 * another allocator. */
static void a_batch_that_is_loaded_is_no_step(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++)
        keep((1000 + 64 * i) * KIB);
    for (unsigned step = 0; step < 2; step++) {
        load_batch();
        for (unsigned i = 8; i-- > 0;)
            died(born(weights[i]->size, TENSORS));
        for (unsigned i = 0; i < 8 && step == 0; i++)
            states[i][0] = born(weights[i]->size, TENSORS);
        for (unsigned i = 0; i < 8; i++) {
            write_all(states[i][0]);
            write_all(weights[i]);
        }
    }
    load_batch();
    berth__classifier_refresh();
    assert_true(host()->last_boundary <
                atomic_load(&berth__class_block(host(), states[0][0]->number)->birth));
}

/* Nor is what steps have made as long as somebody else works, where they make other things, too. */
static void what_is_counted_behind_a_step_is_no_step(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 8; i++)
        keep((1000 + 64 * i) * KIB);
    varied = 1;
    train(0, 2);
    load_batch();
    berth__classifier_refresh();
    assert_true(host()->last_boundary <
                atomic_load(&berth__class_block(host(), states[0][0]->number)->birth));
}

/* More kinds come again as gradients than otherwise; those that come otherwise were there first. */
static void steps_begin_before_the_gradients(void **state)
{
    struct played *gradients[8], *kept[FORWARD];
    uint64_t first_gradient = 0;

    (void)state;
    for (unsigned i = 0; i < 8; i++)
        keep((300 + 64 * i) * KIB);
    for (unsigned step = 0; step < 5; step++) {
        for (unsigned i = 0; i < 8 && step > 0; i++)
            died(gradients[i]);
        for (unsigned i = 0; i < FORWARD; i++) {
            kept[i] = born((70 + i) * KIB, TENSORS);
            died(born((1000 + 3 * i + 50 * step) * KIB, TENSORS));
        }
        for (unsigned i = 8; i-- > 0;)
            gradients[i] = born(weights[i]->size, TENSORS);
        if (step == 0)
            first_gradient = berth__class_block(host(), gradients[7]->number)->birth;
        for (unsigned i = 0; i < FORWARD; i++)
            died(kept[i]);
        for (unsigned i = 0; i < 8; i++) {
            for (unsigned j = 0; j < 2 && step == 0; j++)
                states[i][j] = born(weights[i]->size, TENSORS);
            for (unsigned j = 0; j < 2; j++)
                write_all(states[i][j]);
            died(born(weights[i]->size, TENSORS));
            write_all(weights[i]);
        }
    }
    berth__classifier_refresh();
    assert_in_range(host()->last_boundary, 8, first_gradient - 1);
}

#define PLAYED(test) cmocka_unit_test_setup(test, begin_phase)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(what_was_read_long_ago_tells_nothing),
        PLAYED(layers_that_are_read_one_by_one_are_no_states),
        PLAYED(what_was_loaded_last_is_no_state),
        PLAYED(steps_may_make_nothing_where_the_weights_are),
        PLAYED(a_batch_that_is_loaded_is_no_step),
        PLAYED(what_is_counted_behind_a_step_is_no_step),
        PLAYED(states_of_different_layers_are_made_in_a_step),
        PLAYED(states_beside_a_frozen_table_are_made_in_a_step),
        PLAYED(what_a_step_has_made_so_far_is_not_kept),
        PLAYED(a_larger_batch_is_no_cache_that_grows),
        PLAYED(weights_as_large_as_a_buffer_are_no_cache),
        PLAYED(what_is_computed_of_weights_is_no_gradient),
        PLAYED(what_weights_are_made_of_is_not_computed_of_them),
        PLAYED(states_of_one_weight_are_not_made_by_turns),
        PLAYED(what_is_computed_again_is_no_late_weight),
        PLAYED(steps_begin_before_the_gradients),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
