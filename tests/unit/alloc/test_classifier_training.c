/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that train, or look as if they did, played to the classifier: what it takes weights,
 * gradients, optimisers' state, inputs and caches for. */
#include "alloc/classifier.h"

#include "alloc/classifier_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "played.h"

#define LAYERS 8

static struct played *weights[LAYERS], *moments[LAYERS], *table;
static bool is_dense; /* the table's gradient is as large as the table */

static struct played *weight(size_t size)
{
    struct played *block = born(size, TENSORS);

    block->is_small = block->is_steady = true;
    return block;
}

static size_t size_of(unsigned layer)
{
    return (1 + layer % 4) * 256 * KIB;
}

static void load(void)
{
    table = NULL;
    is_dense = true;
    for (unsigned i = 0; i < LAYERS; i++) {
        weights[i] = weight(size_of(i));
        moments[i] = NULL;
    }
}

/* Rows of a table, of which each step takes others. */
static void touch_rows(struct played *block, unsigned step)
{
    for (unsigned i = 0; i < 3; i++)
        block->version[(step * 3 + i) % BERTH_LOOK_WORDS]++;
}

/* A step; `has_state`: the optimiser keeps what is as large as a weight, from the first on. */
static void train(unsigned step, bool has_state)
{
    struct played *kept[LAYERS], *gradients[LAYERS], *rows = NULL;

    for (unsigned i = 0; i < LAYERS; i++) {
        kept[i] = born((68 + i) * KIB, TENSORS);
        died(born(500 * KIB, TENSORS));
    }
    for (unsigned i = LAYERS; i-- > 0;) {
        gradients[i] = born(weights[i]->size, TENSORS);
        died(kept[i]);
    }
    if (table)
        rows = born(is_dense ? table->size : 80 * KIB, TENSORS);
    for (unsigned i = 0; i < LAYERS; i++) {
        if (has_state && !moments[i])
            moments[i] = born(weights[i]->size, TENSORS);
        if (moments[i])
            write_all(moments[i]);
        write_all(weights[i]);
        died(gradients[i]);
    }
    if (table) {
        touch_rows(table, step);
        died(rows);
    }
}

static void infer(void)
{
    struct played *kept[LAYERS];

    for (unsigned i = 0; i < LAYERS; i++)
        kept[i] = born((68 + i) * KIB, TENSORS);
    for (unsigned i = 0; i < LAYERS; i++)
        died(kept[i]);
}

static void expect(struct played *const *blocks, enum berth_tag tag)
{
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_equal(blocks[i]->tag, tag);
}

static void run(unsigned steps, bool has_state)
{
    for (unsigned step = 0; step < steps; step++)
        train(step, has_state);
    berth__classifier_refresh();
}

static void what_is_trained_is_a_weight(void **state)
{
    (void)state;
    load();
    run(2, false);
    expect(weights, BERTH_TAG_WEIGHT);
    run(8, false);
    expect(weights, BERTH_TAG_WEIGHT);
    /* Not final: so little may be a program that only starts. */
    assert_int_equal(level(weights[0]), BERTH_CLASS_FIRM);
}

/* In the first step an optimiser makes what stays, and is as large: it is behind the gradients. */
static void state_that_the_first_step_makes_is_no_weight(void **state)
{
    (void)state;
    load();
    run(2, true);
    expect(weights, BERTH_TAG_WEIGHT);
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_not_equal(moments[i]->tag, BERTH_TAG_WEIGHT);
    run(8, true);
    expect(weights, BERTH_TAG_WEIGHT);
    expect(moments, BERTH_TAG_UNTAGGED);
}

/*
 * A batch of another length in each step, so that of what steps make only what is as large as a
 * weight comes again: gradients, which the next step frees, and scratch of the optimiser, which is
 * made last and goes first. The states are made between them, and change by as little as weights.
 */
static void train_varied(unsigned step, struct played **gradients, struct played **squares,
                         unsigned more)
{
    struct played *kept[LAYERS];

    for (unsigned i = 0; i < LAYERS && step > 0; i++)
        died(gradients[i]);
    for (unsigned i = 0; i < LAYERS; i++)
        kept[i] = born((68 + 16 * step + i) * KIB, TENSORS);
    for (unsigned i = LAYERS; i-- > 0;) {
        gradients[i] = born(weights[i]->size, TENSORS);
        died(kept[i]);
    }
    for (unsigned i = 0; i < LAYERS && step == 0; i++) {
        moments[i] = born(weights[i]->size, TENSORS);
        squares[i] = born(weights[i]->size, TENSORS);
        moments[i]->is_steady = squares[i]->is_steady = true;
        moments[i]->is_turned = squares[i]->is_turned = true;
        for (unsigned j = 0; j < more; j++)
            weight(weights[i]->size);
    }
    for (unsigned i = 0; i < LAYERS; i++) {
        struct played *scratch = born(weights[i]->size, TENSORS);

        died(born(weights[i]->size, TENSORS));
        died(scratch);
        write_all(moments[i]);
        write_all(squares[i]);
        write_all(weights[i]);
    }
    berth__classifier_refresh();
}

/* `more`: what the first step keeps for each weight beside two states. */
static void vary_lengths(unsigned more)
{
    struct played *gradients[LAYERS], *squares[LAYERS];

    load();
    for (unsigned step = 0; step < 12; step++) {
        train_varied(step, gradients, squares, more);
        /* Of one step, who asks is told what may be withdrawn. */
        for (unsigned i = 0; i < LAYERS && step >= 2; i++) {
            assert_int_not_equal(moments[i]->tag, BERTH_TAG_WEIGHT);
            assert_int_not_equal(squares[i]->tag, BERTH_TAG_WEIGHT);
        }
    }
    expect(weights, BERTH_TAG_WEIGHT);
    expect(moments, BERTH_TAG_UNTAGGED);
    expect(squares, BERTH_TAG_UNTAGGED);
}

static void state_is_no_weight_where_lengths_differ(void **state)
{
    (void)state;
    vary_lengths(0);
}

/* The largest of all squares, averages of the weights and slow ones; small layers are frozen. */
static void as_many_states_as_there_are_are_no_weights(void **state)
{
    struct played *frozen[LAYERS];

    (void)state;
    for (unsigned i = 0; i < LAYERS; i++)
        frozen[i] = weight((66 + i) * KIB);
    vary_lengths(4);
    expect(frozen, BERTH_TAG_WEIGHT);
}

/* It is all rewritten, and changes more than what it is for. */
static void state_that_was_there_before_is_no_weight(void **state)
{
    (void)state;
    load();
    for (unsigned i = 0; i < LAYERS; i++)
        moments[i] = born(size_of(i), TENSORS);
    run(10, true);
    expect(weights, BERTH_TAG_WEIGHT);
    expect(moments, BERTH_TAG_UNTAGGED);
}

/* All layers are copies of one, which has gone before the steps. */
static void layers_that_one_was_copied_into_are_weights(void **state)
{
    struct played *model[4], *others[LAYERS];

    (void)state;
    table = NULL;
    for (unsigned i = 0; i < LAYERS; i++)
        others[i] = weight((3000 + i) * KIB);
    for (unsigned i = 0; i < 4; i++)
        model[i] = weight(size_of(i));
    for (unsigned i = 0; i < LAYERS; i++) {
        weights[i] = weight(size_of(i));
        moments[i] = NULL;
    }
    for (unsigned i = 0; i < 4; i++)
        died(model[i]);
    run(8, true);
    expect(others, BERTH_TAG_WEIGHT);
    expect(weights, BERTH_TAG_WEIGHT);
    expect(moments, BERTH_TAG_UNTAGGED);
}

/* Of a table, only the rows that a step has read change: those of a cache do, too. */
static void train_a_table(bool dense)
{
    load();
    is_dense = dense;
    table = born(4000 * KIB, TENSORS);
    table->is_steady = true;
    for (unsigned step = 0; step < 12; step++) {
        train(step, false);
        berth__classifier_refresh();
        assert_int_not_equal(table->tag, BERTH_TAG_KV);
    }
    expect(weights, BERTH_TAG_WEIGHT);
    assert_int_equal(table->tag, BERTH_TAG_WEIGHT);
}

static void a_table_that_is_trained_is_a_weight(void **state)
{
    (void)state;
    train_a_table(true);
}

static void a_table_with_gradients_of_rows_is_a_weight(void **state)
{
    (void)state;
    train_a_table(false);
}

/* Its optimiser's state is written in these rows, too. What the program does first, and does not
 * train by, has made sure that weights are weights. */
static void keep_state_of_a_table(unsigned inferred, bool dense)
{
    struct played *sparse = NULL;

    load();
    is_dense = dense;
    table = born(4000 * KIB, TENSORS);
    table->is_steady = true;
    for (unsigned step = 0; step < inferred; step++)
        infer();
    for (unsigned step = 0; step < 12; step++) {
        train(step, true);
        if (!sparse) {
            sparse = born(table->size, TENSORS);
            memset(sparse->version, 0, sizeof(sparse->version));
        }
        touch_rows(sparse, step);
        berth__classifier_refresh();
        assert_int_not_equal(sparse->tag, BERTH_TAG_KV);
        assert_int_not_equal(sparse->tag, BERTH_TAG_WEIGHT);
    }
    expect(weights, BERTH_TAG_WEIGHT);
}

static void state_of_a_table_is_no_cache(void **state)
{
    (void)state;
    keep_state_of_a_table(0, true);
}

static void state_of_a_table_that_was_final_is_no_cache(void **state)
{
    (void)state;
    keep_state_of_a_table(30, true);
    begin(state);
    keep_state_of_a_table(30, false);
}

/* One word that changed by little may be of either: a row that is trained, or a token's. */
static void one_word_that_changed_tells_nothing(void **state)
{
    (void)state;
    load();
    table = weight(4000 * KIB);
    for (unsigned step = 0; step < 24; step++) {
        infer();
        if (step == 1)
            table->version[7]++;
        if (step > 12)
            touch_rows(table, step);
        berth__classifier_refresh();
        assert_int_not_equal(table->tag, BERTH_TAG_KV);
    }
    assert_int_equal(table->tag, BERTH_TAG_WEIGHT);
}

/* Most of a program is not trained, and may be read; the table is, and its gradient is as large. */
static void state_of_a_table_beside_others_is_no_cache(void **state)
{
    struct played *others[LAYERS], *sparse[2] = {NULL}, *gradient;

    (void)state;
    load();
    for (unsigned i = 0; i < LAYERS; i++)
        others[i] = weight((3000 + i) * KIB);
    table = weight(4000 * KIB);
    for (unsigned step = 0; step < 12; step++) {
        infer();
        gradient = born(table->size, TENSORS);
        for (unsigned i = 0; i < 2; i++) {
            if (!sparse[i]) {
                sparse[i] = born(table->size, TENSORS);
                memset(sparse[i]->version, 0, sizeof(sparse[i]->version));
            }
            touch_rows(sparse[i], step);
        }
        touch_rows(table, step);
        died(gradient);
        infer();
        berth__classifier_refresh();
        for (unsigned i = 0; i < 2; i++)
            assert_true(step < 3 || sparse[i]->tag == BERTH_TAG_UNTAGGED);
    }
    expect(others, BERTH_TAG_WEIGHT);
    assert_int_equal(table->tag, BERTH_TAG_WEIGHT);
}

static bool watch_all(const struct berth_watched *stretches, unsigned count)
{
    (void)stretches, (void)count;
    return true;
}

static void was_not_read(struct berth_watched *stretches, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        stretches[i].read = 0;
}

/* Large numbers that nobody writes while all else is trained; nobody has read them yet, either. */
static void inputs_are_not_trained(void **state)
{
    static const struct berth_classifier_ops ops = {
        .look = look, .watch = watch_all, .watched = was_not_read, .retag = retag};
    struct played *data;

    (void)state;
    atomic_store(&host()->ops, &ops);
    data = born(20000 * KIB, TENSORS);
    load();
    run(10, true);
    assert_int_equal(data->tag, BERTH_TAG_UNTAGGED);
    expect(weights, BERTH_TAG_WEIGHT);
}

static void was_read(struct berth_watched *stretches, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        stretches[i].read = stretches[i].to - stretches[i].from;
}

/*
 * Each step reads all of them, as of the features of a graph; all else gets gradients at once, and
 * is seen to be trained later. `between`: blocks that the program makes once, of a size each, so
 * that no steps are seen for a while.
 */
static void read_all_inputs(unsigned between)
{
    static const struct berth_classifier_ops ops = {
        .look = look, .watch = watch_all, .watched = was_read, .retag = retag};
    struct played *data;

    atomic_store(&host()->ops, &ops);
    data = born(20000 * KIB, TENSORS);
    load();
    train(0, false);
    for (unsigned i = 0; i < between; i++)
        died(born((100 + i) * 4 * KIB, TENSORS));
    for (unsigned step = 0; step < 12; step++)
        train(step, true);
    berth__classifier_refresh();
    assert_int_equal(data->had, 1u << BERTH_TAG_UNTAGGED);
    assert_int_equal(level(data), BERTH_CLASS_FINAL);
    expect(weights, BERTH_TAG_WEIGHT);
}

static void inputs_that_steps_read_as_a_whole_are_not_trained(void **state)
{
    (void)state;
    read_all_inputs(0);
}

/* Steps make blocks as large as the weights, and none of these is written: what was not known
 * because they might be gradients is known at last, though nobody asks. */
static void what_is_never_trained_is_known_at_last(void **state)
{
    static const struct berth_classifier_ops ops = {
        .look = look, .watch = watch_all, .watched = was_read, .retag = retag};
    struct played *table_read;

    (void)state;
    atomic_store(&host()->ops, &ops);
    table_read = born(20000 * KIB, TENSORS);
    load();
    for (unsigned step = 0; step < 200; step++) {
        infer();
        for (unsigned i = 0; i < LAYERS; i++)
            died(born(weights[i]->size, TENSORS));
        assert_true(step > 2 || table_read->tag == BERTH_TAG_UNTAGGED);
    }
    assert_int_equal(table_read->tag, BERTH_TAG_WEIGHT);
}

static void what_is_not_seen_for_a_while_is_not_forgotten(void **state)
{
    (void)state;
    read_all_inputs(20);
}

/*
 * Of a table steps train rows, and no gradient is as large. Of another block no word that looks
 * compare is hit, or one is, by little, in one step; 0 = in none.
 */
static enum berth_tag strike_once(void **state, size_t size, unsigned in_step)
{
    struct played *struck;

    assert_int_equal(begin(state), 0);
    load();
    is_dense = false;
    table = born(4000 * KIB, TENSORS);
    struck = born(size, TENSORS);
    table->is_steady = struck->is_steady = true;
    for (unsigned step = 0; step < 12; step++) {
        train(step, false);
        struck->version[5] += step == in_step && step > 0;
    }
    berth__classifier_refresh();
    expect(weights, BERTH_TAG_WEIGHT);
    assert_int_equal(table->tag, BERTH_TAG_WEIGHT);
    return struck->tag;
}

static void a_table_beside_one_that_is_trained_is_a_weight(void **state)
{
    for (unsigned step = 0; step < 8; step++)
        assert_int_equal(strike_once(state, 4000 * KIB, step), BERTH_TAG_WEIGHT);
}

static void what_is_as_large_as_no_table_is_no_weight_for_one(void **state)
{
    assert_int_not_equal(strike_once(state, 4004 * KIB, 0), BERTH_TAG_WEIGHT);
}

/* A layer that is left as it is has numbers of a weight's size. */
static void what_is_frozen_is_a_weight(void **state)
{
    struct played *frozen;

    (void)state;
    frozen = weight(2000 * KIB);
    load();
    run(12, true);
    assert_int_equal(frozen->tag, BERTH_TAG_WEIGHT);
}

/*
 * A cache that was reserved at once, and is as large as what a step makes: it is no weight with
 * gradients. The prompt makes more than a token does, so that the steps seem to begin behind it.
 */
static void a_cache_as_large_as_an_activation_is_no_weight(void **state)
{
    struct played *cache[LAYERS], *kept[LAYERS];

    (void)state;
    load();
    for (unsigned i = 0; i < LAYERS; i++) {
        cache[i] = born(640 * KIB, TENSORS);
        memset(cache[i]->version, 0, sizeof(cache[i]->version));
    }
    for (unsigned step = 0; step < 20; step++) {
        for (unsigned i = 0; i < LAYERS; i++) {
            died(born(640 * KIB, TENSORS));
            kept[i] = born((68 + i) * KIB, TENSORS);
        }
        for (unsigned i = 0; i < LAYERS; i++) {
            touch_rows(cache[i], step);
            died(kept[i]);
        }
        berth__classifier_refresh();
        for (unsigned i = 0; i < LAYERS; i++)
            assert_int_not_equal(cache[i]->tag, BERTH_TAG_WEIGHT);
    }
    expect(cache, BERTH_TAG_KV);
    expect(weights, BERTH_TAG_WEIGHT);
}

/* One that the first step reserves may be as large as a weight, and as what the prompt makes. */
static void a_cache_as_large_as_a_weight_is_a_cache(void **state)
{
    struct played *cache[LAYERS];

    (void)state;
    load();
    berth__classifier_step();
    for (unsigned i = 0; i < LAYERS; i++)
        died(born(size_of(0), TENSORS));
    for (unsigned i = 0; i < LAYERS; i++) {
        cache[i] = born(size_of(0), TENSORS);
        memset(cache[i]->version, 0, sizeof(cache[i]->version));
        touch_rows(cache[i], 0);
    }
    for (unsigned step = 1; step < 20; step++) {
        berth__classifier_step();
        infer();
        for (unsigned i = 0; i < LAYERS; i++)
            touch_rows(cache[i], step);
        berth__classifier_refresh();
    }
    expect(cache, BERTH_TAG_KV);
    expect(weights, BERTH_TAG_WEIGHT);
}

/* Weights that are packed late, each into a block of its size, of which none is written: no state.
 */
static void packed_copies_are_weights(void **state)
{
    struct played *packed[LAYERS];

    (void)state;
    load();
    for (unsigned i = 0; i < LAYERS; i++)
        infer();
    for (unsigned i = 0; i < LAYERS; i++)
        packed[i] = weight(size_of(i));
    for (unsigned step = 0; step < 40; step++) {
        infer();
        for (unsigned i = 0; i < LAYERS; i++)
            assert_int_equal(packed[i]->changes, packed[i]->tag == BERTH_TAG_WEIGHT);
    }
    berth__classifier_refresh();
    expect(packed, BERTH_TAG_WEIGHT);
    expect(weights, BERTH_TAG_WEIGHT);
}

/* Each step makes blocks as large, which go: as it does where it packs what it uses. */
static void packed_copies_beside_others_that_go_are_weights(void **state)
{
    struct played *packed[LAYERS];

    (void)state;
    load();
    for (unsigned step = 0; step < 40; step++) {
        for (unsigned i = 0; i < LAYERS; i++) {
            if (step == 8)
                packed[i] = weight(size_of(i));
            died(born(size_of(i), TENSORS));
        }
        infer();
        for (unsigned i = 0; i < LAYERS && step >= 8; i++)
            assert_true(packed[i]->changes <= 2);
    }
    berth__classifier_refresh();
    expect(packed, BERTH_TAG_WEIGHT);
    expect(weights, BERTH_TAG_WEIGHT);
}

/* Batches whose gradients are summed: what the optimiser keeps waits to be written. */
static void what_waits_for_the_optimiser_is_no_weight(void **state)
{
    struct played *kept[LAYERS];

    (void)state;
    load();
    for (unsigned step = 0; step < 8; step++) {
        for (unsigned i = 0; i < LAYERS; i++)
            kept[i] = born((68 + i) * KIB, TENSORS);
        for (unsigned i = LAYERS; i-- > 0;) {
            struct played *gradient = born(weights[i]->size, TENSORS);

            if (step == 0) {
                moments[i] = weight(weights[i]->size);
                moments[i]->is_turned = true;
            }
            died(gradient);
            died(kept[i]);
        }
        if (step >= 2 && step < 5)
            berth__classifier_refresh();
        for (unsigned i = 0; i < LAYERS; i++)
            assert_int_not_equal(moments[i]->tag, BERTH_TAG_WEIGHT);
    }
    expect(weights, BERTH_TAG_WEIGHT);
}

#define PLAYED(test) cmocka_unit_test_setup(test, begin)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(what_is_trained_is_a_weight),
        PLAYED(state_that_the_first_step_makes_is_no_weight),
        PLAYED(state_is_no_weight_where_lengths_differ),
        PLAYED(as_many_states_as_there_are_are_no_weights),
        PLAYED(state_that_was_there_before_is_no_weight),
        PLAYED(layers_that_one_was_copied_into_are_weights),
        PLAYED(a_table_that_is_trained_is_a_weight),
        PLAYED(a_table_with_gradients_of_rows_is_a_weight),
        PLAYED(state_of_a_table_is_no_cache),
        PLAYED(state_of_a_table_that_was_final_is_no_cache),
        PLAYED(one_word_that_changed_tells_nothing),
        PLAYED(state_of_a_table_beside_others_is_no_cache),
        PLAYED(inputs_are_not_trained),
        PLAYED(inputs_that_steps_read_as_a_whole_are_not_trained),
        PLAYED(what_is_not_seen_for_a_while_is_not_forgotten),
        PLAYED(what_is_never_trained_is_known_at_last),
        PLAYED(a_cache_as_large_as_a_weight_is_a_cache),
        PLAYED(packed_copies_are_weights),
        PLAYED(packed_copies_beside_others_that_go_are_weights),
        PLAYED(a_table_beside_one_that_is_trained_is_a_weight),
        PLAYED(what_is_as_large_as_no_table_is_no_weight_for_one),
        PLAYED(what_is_frozen_is_a_weight),
        PLAYED(a_cache_as_large_as_an_activation_is_no_weight),
        PLAYED(what_waits_for_the_optimiser_is_no_weight),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
