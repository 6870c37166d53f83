/* SPDX-License-Identifier: Apache-2.0 */
/* Inputs that a program keeps, told from weights by how steps read them. */
#include "alloc/classifier.h"

#include "alloc/classifier_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "played.h"

#define LAYERS 8
#define PAGE ((uint64_t)BERTH_WATCH_PAGE)

static struct played *weights[LAYERS];
static unsigned step, births; /* births: of a step, after its input */
/* What is made last before the steps; NULL: inputs are. */
static struct played *last_layer;
static bool has_last_layer;

/* How much of a stretch the steps read since the watch began. */
enum way { NOTHING, ALL, PIECE, LARGE_PIECE, ROWS, MANY_ROWS, PIECES_ANYWHERE, WORDS };
static enum way ways[BLOCKS_MAX]; /* of each block */
static unsigned watches, watched_count;
static bool can_watch;
static struct played *out_of_reach; /* for looks; NULL: none is */

static bool is_under_watch(uintptr_t address)
{
    return watched_count > 0 && host()->watch.is_open &&
           berth__class_block(host(), at(address)->number)->is_watched;
}

/* A look would be taken for a read. */
static bool look_aside(uintptr_t address, const size_t offsets[BERTH_LOOK_WORDS],
                       uint64_t words[BERTH_LOOK_WORDS])
{
    assert_false(is_under_watch(address));
    return at(address) != out_of_reach && look(address, offsets, words);
}

static bool watch(const struct berth_watched *stretches, unsigned count)
{
    watches++;
    watched_count = count;
    for (unsigned i = 0; i < count; i++) {
        const struct played *block = at(stretches[i].from);
        uintptr_t base = stretches[i].from >> 32 << 32;

        assert_true(stretches[i].from % PAGE == 0 && stretches[i].to % PAGE == 0);
        assert_true(stretches[i].from < stretches[i].to);
        assert_true(stretches[i].to - base <= block->size);
        assert_true(i == 0 || stretches[i].from >= stretches[i - 1].to);
    }
    return can_watch;
}

static uint64_t read_of(const struct berth_watched *stretch)
{
    const struct played *block = at(stretch->from);
    uint64_t from = stretch->from & UINT32_MAX, all = stretch->to - stretch->from;

    switch (ways[block - played]) {
    case ALL:
        return all;
    case PIECE: /* the eighth that is this step's */
        return from * 8 / block->size == step % 8 ? all : 0;
    case LARGE_PIECE: /* three eighths, of which the step's is the last */
        return (from * 8 / block->size + 8 - step % 8) % 8 < 3 ? all : 0;
    case ROWS:
        return all <= 8 * PAGE ? PAGE : all / PAGE / 16 * PAGE;
    case MANY_ROWS: /* so many that of neighbouring pages most are read; the last rows are not */
        if (from * 8 / block->size == 7)
            return 0;
        return all <= 8 * PAGE ? 5 * PAGE : all / PAGE / 2 * PAGE;
    case PIECES_ANYWHERE:
        return all > 8 * PAGE ? 12 * PAGE : from / all % 4 == step % 4 ? all : 0;
    case WORDS: /* of a language: many of the first rows, few of all others */
        if (from * 64 / block->size == 0)
            return all > 8 * PAGE ? 40 * PAGE : 4 * PAGE;
        return from * 64 / block->size % 5 == 1 ? 2 * PAGE : 0;
    default:
        return 0;
    }
}

static void watched(struct berth_watched *stretches, unsigned count)
{
    assert_int_equal(count, watched_count);
    for (unsigned i = 0; i < count; i++)
        stretches[i].read = read_of(&stretches[i]);
    watched_count = 0;
}

static const struct berth_classifier_ops watching = {
    .look = look_aside, .watch = watch, .watched = watched, .retag = retag};

static int begin_watching(void **state)
{
    watches = watched_count = step = 0;
    births = LAYERS;
    last_layer = NULL;
    has_last_layer = true;
    out_of_reach = NULL;
    can_watch = true;
    memset(ways, 0, sizeof(ways));
    if (begin(state) != 0)
        return -1;
    are_large = true;
    atomic_store(&host()->ops, &watching);
    for (unsigned i = 0; i < LAYERS; i++) {
        weights[i] = born((i + 1) * 256 * KIB, TENSORS);
        weights[i]->is_small = true;
        ways[weights[i] - played] = ALL;
    }
    return 0;
}

static struct played *keep(size_t size, enum way way)
{
    struct played *block = born(size, TENSORS);

    ways[block - played] = way;
    return block;
}

static void infer(unsigned steps, bool is_declared)
{
    if (!last_layer && has_last_layer) {
        last_layer = born(300 * KIB, TENSORS);
        last_layer->is_small = true;
        ways[last_layer - played] = ALL;
    }
    for (unsigned end = step + steps; step < end; step++) {
        struct played *x = born(65 * KIB, TENSORS);

        if (is_declared)
            berth__classifier_step();
        for (unsigned i = 0; i < births; i++) {
            struct played *y = born((68 + i % 3) * KIB, TENSORS);

            died(x);
            x = y;
        }
        died(x);
    }
    berth__classifier_refresh();
}

static void expect_weights(void)
{
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_equal(weights[i]->tag, BERTH_TAG_WEIGHT);
}

static void expect_kept(enum way way, enum berth_tag tag)
{
    struct played *data = keep(20000 * KIB, way);

    infer(4, false);
    assert_int_equal(data->tag, tag);
    infer(40, false);
    assert_int_equal(data->tag, tag);
    assert_true(data->changes <= 1);
    assert_true(watches > 0);
    expect_weights();
}

static void inputs_that_are_read_in_order_are_no_weights(void **state)
{
    (void)state;
    expect_kept(PIECE, BERTH_TAG_UNTAGGED);
}

static void inputs_of_which_much_is_read_in_order_are_no_weights(void **state)
{
    (void)state;
    expect_kept(LARGE_PIECE, BERTH_TAG_UNTAGGED);
}

static void inputs_that_are_read_anyhow_are_no_weights(void **state)
{
    (void)state;
    expect_kept(PIECES_ANYWHERE, BERTH_TAG_UNTAGGED);
}

static void a_table_of_which_rows_are_read_is_a_weight(void **state)
{
    (void)state;
    expect_kept(ROWS, BERTH_TAG_WEIGHT);
}

static void a_table_of_which_many_rows_are_read_is_a_weight(void **state)
{
    (void)state;
    expect_kept(MANY_ROWS, BERTH_TAG_WEIGHT);
}

static void what_each_step_reads_is_a_weight(void **state)
{
    (void)state;
    expect_kept(ALL, BERTH_TAG_WEIGHT);
}

static void a_list_of_batches_is_no_weight(void **state)
{
    struct played *batches[40];

    (void)state;
    for (unsigned i = 0; i < 40; i++)
        batches[i] = keep(700 * KIB, i == 7 ? ALL : NOTHING);
    infer(12, false);
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(batches[i]->tag, BERTH_TAG_UNTAGGED);
    expect_weights();
}

/* Of twelve equal blocks of bytes, one is read as a whole, or pieces of one. */
static void read_one_of_twelve(enum way way, enum berth_tag tag)
{
    struct played *blocks[12];

    are_large = false;
    for (unsigned i = 0; i < 12; i++)
        blocks[i] = keep(4000 * KIB, i == 7 ? way : NOTHING);
    infer(30, false);
    for (unsigned i = 0; i < 12; i++)
        assert_int_equal(blocks[i]->tag, tag);
    assert_true(watches > 0);
}

/* A layer may be taken for a step. */
static void layers_of_bytes_are_weights(void **state)
{
    (void)state;
    read_one_of_twelve(ALL, BERTH_TAG_WEIGHT);
}

static void pieces_of_bytes_are_no_weights(void **state)
{
    (void)state;
    read_one_of_twelve(PIECE, BERTH_TAG_UNTAGGED);
}

/* What is taken for a step is a part of one, and inputs are read in few of these. */
static void inputs_that_are_seldom_read_are_no_weights(void **state)
{
    struct played *blocks[4];

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        blocks[i] = keep(4000 * KIB, NOTHING);
    for (unsigned i = 0; i < 60; i++) {
        infer(1, false);
        ways[blocks[2] - played] = i >= 8 ? PIECE : NOTHING;
    }
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(blocks[i]->tag, BERTH_TAG_UNTAGGED);
    expect_weights();
}

/* Of twelve equal blocks nothing is read in the first watches, of which each is a part of a step
 * where layers are alike; later all is, or nothing ever. */
static void read_late(enum way later, enum berth_tag tag)
{
    struct played *blocks[12];

    for (unsigned i = 0; i < 12; i++)
        blocks[i] = keep(2000 * KIB, NOTHING);
    while (watches < 4)
        infer(1, false);
    for (unsigned i = 0; i < 12; i++)
        ways[blocks[i] - played] = later;
    infer(60, false);
    for (unsigned i = 0; i < 12; i++) {
        assert_int_equal(blocks[i]->tag, tag);
        /* Who asked before was told that it is a weight. */
        assert_true(blocks[i]->changes <= (later == ALL ? 1 : 2));
    }
    expect_weights();
}

static void layers_of_which_nothing_was_read_yet_are_weights(void **state)
{
    (void)state;
    read_late(ALL, BERTH_TAG_WEIGHT);
}

/* Of more, some are watched, and what is read may be others: nothing says that it was no step. */
static void of_a_long_list_what_is_not_read_tells(void **state)
{
    struct played *blocks[60];

    (void)state;
    for (unsigned i = 0; i < 60; i++)
        blocks[i] = keep(400 * KIB, NOTHING);
    infer(3, false);
    for (unsigned i = 0; i < 60; i++)
        assert_int_equal(blocks[i]->tag, BERTH_TAG_UNTAGGED);
    expect_weights();
}

static void a_list_of_which_nothing_is_ever_read_is_no_weight(void **state)
{
    (void)state;
    read_late(NOTHING, BERTH_TAG_UNTAGGED);
}

/* Blocks of a list that differ in size are too small, each, to matter. */
static void a_list_of_waves_is_no_weight(void **state)
{
    struct played *waves[40];

    (void)state;
    for (unsigned i = 0; i < 40; i++)
        waves[i] = keep((70 + i) * KIB, i % 8 == 7 ? ALL : NOTHING);
    infer(12, false);
    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(waves[i]->tag, BERTH_TAG_UNTAGGED);
        assert_true(waves[i]->changes <= 2);
    }
    expect_weights();
}

/* A few such blocks may be of layers that are not in use now. */
static void few_blocks_of_different_sizes_are_weights(void **state)
{
    struct played *others[7];

    (void)state;
    for (unsigned i = 0; i < 7; i++)
        others[i] = keep((100 + i) * KIB, NOTHING);
    infer(12, false);
    for (unsigned i = 0; i < 7; i++)
        assert_int_equal(others[i]->tag, BERTH_TAG_WEIGHT);
    expect_weights();
}

/* So few bytes do not matter, however many blocks they are, and whether steps read them now. */
static void little_of_different_sizes_is_weights(void **state)
{
    struct played *others[12];

    (void)state;
    keep(16000 * KIB, ALL)->is_small = true;
    for (unsigned i = 0; i < 12; i++)
        others[i] = keep((70 + i) * KIB, NOTHING);
    infer(12, false);
    for (unsigned i = 0; i < 12; i++)
        assert_int_equal(others[i]->tag, BERTH_TAG_WEIGHT);
    expect_weights();
}

/* Four of a size are judged by what is read of that size, and not with the waves. */
static void equal_blocks_are_judged_apart_from_waves(void **state)
{
    struct played *waves[40], *equal[4];

    (void)state;
    for (unsigned i = 0; i < 40; i++)
        waves[i] = keep((70 + i) * KIB, NOTHING);
    for (unsigned i = 0; i < 4; i++)
        equal[i] = keep(120 * KIB, ALL);
    infer(12, false);
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(waves[i]->tag, BERTH_TAG_UNTAGGED);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(equal[i]->tag, BERTH_TAG_WEIGHT);
    expect_weights();
}

/* What steps make, and no gradient, may be as large as what they take: a layer as wide as its
 * input. */
static void a_list_of_batches_as_large_as_activations_is_no_weight(void **state)
{
    struct played *batches[40];

    (void)state;
    for (unsigned i = 0; i < 40; i++)
        batches[i] = keep(700 * KIB, i == 7 ? ALL : NOTHING);
    for (unsigned i = 0; i < 12; i++) {
        died(born(700 * KIB, TENSORS));
        infer(1, false);
    }
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(batches[i]->tag, BERTH_TAG_UNTAGGED);
    expect_weights();
}

/* Of ten equal layers, half were not read when the watch was over: its step was none. */
static void layers_of_which_half_are_read_are_weights(void **state)
{
    struct played *layers[10];

    (void)state;
    for (unsigned i = 0; i < 10; i++)
        layers[i] = keep(700 * KIB, i % 2 ? ALL : NOTHING);
    infer(30, false);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(layers[i]->tag, BERTH_TAG_WEIGHT);
    expect_weights();
}

/* Four equal blocks, of which a watch sees one read. */
static void read_one_of_four(enum way way, enum berth_tag tag)
{
    struct played *blocks[4];

    for (unsigned i = 0; i < 4; i++)
        blocks[i] = keep(4000 * KIB, i == 2 ? way : NOTHING);
    infer(30, false);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(blocks[i]->tag, tag);
    assert_true(watches > 0);
    expect_weights();
}

/* The others may be layers that come later in the step. */
static void one_of_four_that_is_read_as_a_whole_tells_nothing(void **state)
{
    (void)state;
    read_one_of_four(ALL, BERTH_TAG_WEIGHT);
}

static void one_of_four_of_which_pieces_are_read_is_no_weight(void **state)
{
    (void)state;
    read_one_of_four(PIECE, BERTH_TAG_UNTAGGED);
}

/* A model's head is as large as its embedding. */
static void a_head_speaks_for_itself(void **state)
{
    struct played *head, *embedding;

    (void)state;
    embedding = keep(9000 * KIB, ROWS);
    head = keep(9000 * KIB, ALL);
    infer(12, false);
    assert_int_equal(embedding->tag, BERTH_TAG_WEIGHT);
    assert_int_equal(head->tag, BERTH_TAG_WEIGHT);
}

static void declared_steps_are_heeded(void **state)
{
    struct played *data;

    (void)state;
    data = keep(20000 * KIB, PIECE);
    infer(6, true);
    assert_int_equal(data->tag, BERTH_TAG_UNTAGGED);
    expect_weights();
}

/* The kernel may not tell: then it is not asked again. */
static void without_it_content_decides(void **state)
{
    struct played *data;
    unsigned before;

    (void)state;
    can_watch = false;
    before = watches;
    data = keep(20000 * KIB, PIECE);
    infer(12, false);
    assert_int_equal(watches, before + 1);
    assert_int_equal(data->tag, BERTH_TAG_WEIGHT);
    expect_weights();
}

/* What takes a dead block's place is not taken for it. */
static void what_dies_under_watch_is_forgotten(void **state)
{
    struct played *data;

    (void)state;
    data = keep(20000 * KIB, ROWS);
    for (unsigned i = 0; i < 20 && !is_under_watch((uintptr_t)(data - played) << 32); i++)
        infer(1, false);
    assert_true(is_under_watch((uintptr_t)(data - played) << 32));
    died(data);
    infer(12, false);
    expect_weights();
}

/* What is large is watched before the steps, so that two of them tell. */
static struct played *keep_for_two_steps(enum way way, enum berth_tag tag)
{
    struct played *data = keep(20000 * KIB, way);

    for (unsigned i = 0; i < LAYERS; i++)
        keep((1 + i) * 100 * KIB, ALL)->is_small = true;
    infer(2, false);
    assert_true(watches > 0);
    assert_int_equal(data->tag, tag);
    assert_int_equal(data->changes, tag != BERTH_TAG_UNTAGGED);
    expect_weights();
    return data;
}

static void inputs_are_known_after_two_steps(void **state)
{
    (void)state;
    births = 4;
    keep_for_two_steps(PIECE, BERTH_TAG_UNTAGGED);
}

static void a_table_is_a_weight_after_two_steps(void **state)
{
    (void)state;
    keep_for_two_steps(ROWS, BERTH_TAG_WEIGHT);
}

static void what_steps_read_is_a_weight_after_two(void **state)
{
    (void)state;
    keep_for_two_steps(ALL, BERTH_TAG_WEIGHT);
}

/* The rows of few words are most of what is read. */
static void a_table_of_words_is_a_weight(void **state)
{
    struct played *table;

    (void)state;
    table = keep_for_two_steps(WORDS, BERTH_TAG_WEIGHT);
    infer(40, false);
    assert_int_equal(table->tag, BERTH_TAG_WEIGHT);
    assert_int_equal(table->changes, 1);
}

/* Weights are made with other numbers before they are read from a file: that is no step's work. */
static void what_is_filled_under_watch_is_a_weight(void **state)
{
    struct played *head;

    (void)state;
    head = keep(20000 * KIB, ALL);
    for (unsigned i = 0; i < LAYERS; i++)
        keep((1 + i) * 100 * KIB, ALL)->is_small = true;
    assert_true(is_under_watch((uintptr_t)(head - played) << 32));
    write_all(head);
    infer(12, false);
    assert_int_equal(head->tag, BERTH_TAG_WEIGHT);
    expect_weights();
}

/* Whoever asks before the first step waits for no watch. */
static void what_is_asked_under_watch_is_answered(void **state)
{
    struct played *head;

    (void)state;
    head = keep(20000 * KIB, ALL);
    for (unsigned i = 0; i < LAYERS; i++)
        keep((1 + i) * 100 * KIB, ALL)->is_small = true;
    assert_true(is_under_watch((uintptr_t)(head - played) << 32));
    berth__classifier_refresh();
    assert_int_equal(head->tag, BERTH_TAG_WEIGHT);
    expect_weights();
}

/* Who asks early has an answer that stands only until the watch has ended. */
static void what_a_watch_answers_replaces_what_was_asked_for(void **state)
{
    struct played *blocks[4];

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        blocks[i] = keep(4000 * KIB, i == 2 ? PIECE : NOTHING);
    infer(1, false);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(blocks[i]->tag, BERTH_TAG_WEIGHT);
    for (unsigned i = 0; i < 4 && blocks[0]->tag == BERTH_TAG_WEIGHT; i++)
        infer(1, false);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(blocks[i]->tag, BERTH_TAG_UNTAGGED);
    infer(40, false);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(blocks[i]->changes, 2);
    expect_weights();
}

/* So many in a row are samples rather than tables: who asks before it is known is told nothing. */
static void a_long_list_is_not_taken_for_weights(void **state)
{
    struct played *batches[16];

    (void)state;
    for (unsigned i = 0; i < 16; i++)
        batches[i] = keep(700 * KIB, i == 7 ? ALL : NOTHING);
    infer(1, false);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(batches[i]->tag, BERTH_TAG_UNTAGGED);
    infer(40, false);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(batches[i]->changes, 0);
    expect_weights();
}

/* Nor where the program's start had looked like steps, so that it was thought known what else there
 * is; samples of different lengths are watched once all are seen. */
static void a_long_list_of_waves_is_not_taken_for_weights(void **state)
{
    struct played *waves[40];

    (void)state;
    host()->knows_training = true;
    for (unsigned i = 0; i < 40; i++)
        waves[i] = keep((70 + i) * KIB, NOTHING);
    infer(1, false);
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(waves[i]->tag, BERTH_TAG_UNTAGGED);
    expect_weights();
}

/* Of eight layers, what is taken for a step reads two, until one is long enough. */
static void layers_that_are_read_by_twos_are_weights(void **state)
{
    struct played *layers[8];

    (void)state;
    for (unsigned i = 0; i < 8; i++)
        layers[i] = keep(2000 * KIB, i % 4 == 0 ? ALL : NOTHING);
    while (host()->watch.idle < 2 && step < 60)
        infer(1, false);
    for (unsigned i = 0; i < 8; i++)
        ways[layers[i] - played] = ALL;
    infer(60, false);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(layers[i]->tag, BERTH_TAG_WEIGHT);
        assert_int_equal(layers[i]->changes, 1);
    }
    expect_weights();
}

/* The same batch for all steps, made when the model was there. */
static void what_is_made_last_is_an_input(void **state)
{
    struct played *data;

    (void)state;
    has_last_layer = false;
    data = keep(4000 * KIB, ALL);
    for (unsigned i = 0; i < 40; i++) {
        died(born(700 * KIB, TENSORS));
        infer(1, false);
        assert_int_equal(data->tag, BERTH_TAG_UNTAGGED);
    }
    assert_int_equal(data->changes, 0);
    expect_weights();
}

/* What is behind it may be a weight: what its record knows of the block before tells nothing. */
static void what_cannot_be_looked_at_is_no_room_for_results(void **state)
{
    struct played *table;

    (void)state;
    has_last_layer = false;
    table = keep(4000 * KIB, ALL);
    out_of_reach = keep(300 * KIB, ALL);
    out_of_reach->is_small = true;
    for (unsigned i = 0; i < 40; i++) {
        died(born(700 * KIB, TENSORS));
        infer(1, false);
    }
    assert_int_equal(table->tag, BERTH_TAG_WEIGHT);
    expect_weights();
}

/* Too little to be watched: tables of a model, as far as anybody will know. */
static void a_long_list_that_is_little_is_weights(void **state)
{
    struct played *tables[16];

    (void)state;
    keep(64000 * KIB, ALL)->is_small = true;
    for (unsigned i = 0; i < 16; i++)
        tables[i] = keep(200 * KIB, ROWS);
    infer(400, false);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(tables[i]->tag, BERTH_TAG_WEIGHT);
}

/* Labels behind it are none either. */
static void what_is_made_before_labels_is_an_input(void **state)
{
    struct played *data, *labels;

    (void)state;
    has_last_layer = false;
    data = keep(300 * KIB, ALL);
    labels = keep(70 * KIB, ALL);
    labels->is_integers = true;
    infer(40, false);
    assert_int_equal(data->tag, BERTH_TAG_UNTAGGED);
    assert_int_equal(labels->tag, BERTH_TAG_UNTAGGED);
    expect_weights();
}

static void a_table_that_is_made_last_is_a_weight(void **state)
{
    struct played *table;

    (void)state;
    has_last_layer = false;
    table = keep(4000 * KIB, ROWS);
    for (unsigned i = 0; i < 40; i++) {
        died(born(700 * KIB, TENSORS));
        infer(1, false);
    }
    assert_int_equal(table->tag, BERTH_TAG_WEIGHT);
    assert_int_equal(table->changes, 1);
    expect_weights();
}

/* A step makes more than a small part of what it takes: who asks early is told what tables are. */
static void what_is_larger_than_steps_take_is_a_weight(void **state)
{
    struct played *table;

    (void)state;
    has_last_layer = false;
    table = keep(4000 * KIB, NOTHING);
    infer(2, false);
    assert_int_equal(table->tag, BERTH_TAG_WEIGHT);
    expect_weights();
}

/* Where all weights are as large as inputs are, the last one is no other than they. */
static void the_last_of_large_weights_is_a_weight(void **state)
{
    struct played *last;

    (void)state;
    has_last_layer = false;
    for (unsigned i = 0; i < LAYERS; i++)
        weights[i]->is_small = false;
    last = keep(2200 * KIB, ALL);
    infer(40, false);
    assert_int_equal(last->tag, BERTH_TAG_WEIGHT);
    expect_weights();
}

#define WATCHING(test) cmocka_unit_test_setup(test, begin_watching)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WATCHING(inputs_that_are_read_in_order_are_no_weights),
        WATCHING(inputs_of_which_much_is_read_in_order_are_no_weights),
        WATCHING(inputs_that_are_read_anyhow_are_no_weights),
        WATCHING(a_table_of_which_rows_are_read_is_a_weight),
        WATCHING(a_table_of_which_many_rows_are_read_is_a_weight),
        WATCHING(what_each_step_reads_is_a_weight),
        WATCHING(a_list_of_batches_is_no_weight),
        WATCHING(layers_of_bytes_are_weights),
        WATCHING(pieces_of_bytes_are_no_weights),
        WATCHING(inputs_that_are_seldom_read_are_no_weights),
        WATCHING(layers_of_which_nothing_was_read_yet_are_weights),
        WATCHING(of_a_long_list_what_is_not_read_tells),
        WATCHING(a_list_of_which_nothing_is_ever_read_is_no_weight),
        WATCHING(a_list_of_waves_is_no_weight),
        WATCHING(few_blocks_of_different_sizes_are_weights),
        WATCHING(little_of_different_sizes_is_weights),
        WATCHING(equal_blocks_are_judged_apart_from_waves),
        WATCHING(a_list_of_batches_as_large_as_activations_is_no_weight),
        WATCHING(layers_of_which_half_are_read_are_weights),
        WATCHING(one_of_four_that_is_read_as_a_whole_tells_nothing),
        WATCHING(one_of_four_of_which_pieces_are_read_is_no_weight),
        WATCHING(a_head_speaks_for_itself),
        WATCHING(declared_steps_are_heeded),
        WATCHING(without_it_content_decides),
        WATCHING(what_dies_under_watch_is_forgotten),
        WATCHING(inputs_are_known_after_two_steps),
        WATCHING(a_table_is_a_weight_after_two_steps),
        WATCHING(what_steps_read_is_a_weight_after_two),
        WATCHING(a_table_of_words_is_a_weight),
        WATCHING(what_is_filled_under_watch_is_a_weight),
        WATCHING(what_is_asked_under_watch_is_answered),
        WATCHING(what_a_watch_answers_replaces_what_was_asked_for),
        WATCHING(a_long_list_is_not_taken_for_weights),
        WATCHING(a_long_list_of_waves_is_not_taken_for_weights),
        WATCHING(layers_that_are_read_by_twos_are_weights),
        WATCHING(what_is_made_last_is_an_input),
        WATCHING(what_is_made_before_labels_is_an_input),
        WATCHING(a_long_list_that_is_little_is_weights),
        WATCHING(what_cannot_be_looked_at_is_no_room_for_results),
        WATCHING(a_table_that_is_made_last_is_a_weight),
        WATCHING(what_is_larger_than_steps_take_is_a_weight),
        WATCHING(the_last_of_large_weights_is_a_weight),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
