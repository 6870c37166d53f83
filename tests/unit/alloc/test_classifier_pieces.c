/* SPDX-License-Identifier: Apache-2.0 */
/* Weights that are read from files piece by piece, into memory that others have had, played to the
 * classifier: when it judges is chance, so that each birth of the program is tried. */
#include "alloc/classifier.h"

#include "alloc/classifier_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "played.h"

#define WEIGHTS 4
#define PIECE (256 * KIB)
#define SHIFTS 64 /* more than there are births between two judgements of so short a program */

static struct played *weights[WEIGHTS];
static unsigned ask_each; /* 0: nobody asks while weights are read */
static bool are_blank;    /* nobody had their memory before */
static const size_t sizes[WEIGHTS] = {9216 * KIB, 9216 * KIB, 6144 * KIB, 4096 * KIB};

/* What an interpreter has made, and what it has read of modules. */
static void start(unsigned shift)
{
    for (unsigned i = 0; i < 16; i++) {
        born((70 + 8 * i) * KIB, OTHERS);
        for (unsigned j = 0; j < 6; j++)
            died(born((90 + i) * KIB, OTHERS));
    }
    for (unsigned i = 0; i < shift; i++)
        died(born((400 + i) * KIB, OTHERS));
}

/* From its start on; what is there is what the memory's last owner has left. Nothing is said of it
 * meanwhile but what its kind tells. */
static void read_pieces(struct played *block)
{
    size_t pieces = block->size / PIECE;
    struct played *last = NULL;

    for (size_t i = 0; i < pieces; i++) {
        struct played *piece = born(PIECE + 33, OTHERS);

        if (last)
            died(last);
        for (size_t j = i * BERTH_LOOK_WORDS / pieces; j < (i + 1) * BERTH_LOOK_WORDS / pieces; j++)
            block->version[j]++;
        if (ask_each && i % ask_each == 0)
            berth__classifier_refresh();
        assert_true(ask_each || level(block) <= BERTH_CLASS_GUESSED);
        last = piece;
    }
    died(last);
}

static struct played *make(size_t size)
{
    struct played *block = born(size, TENSORS);

    block->is_small = true;
    return block;
}

/* Numbers are drawn, scaled, written to a file, and read from it. */
static void load(void)
{
    for (unsigned i = 0; i < WEIGHTS; i++) {
        struct played *drawn = make(sizes[i]), *scaled = make(sizes[i]);

        died(drawn);
        died(scaled);
        weights[i] = make(sizes[i]);
        if (are_blank)
            memset(weights[i]->version, 0, sizeof(weights[i]->version));
        read_pieces(weights[i]);
    }
}

static void rooms(void)
{
    for (unsigned i = 0; i < 5; i++)
        make((192 + 64 * i) * KIB)->is_small = false;
}

static void expect_weights(unsigned shift)
{
    for (unsigned i = 0; i < WEIGHTS; i++)
        if (weights[i]->tag != BERTH_TAG_WEIGHT)
            fail_msg("shifted by %u births, weight %u is %u", shift, i, weights[i]->tag);
}

static int begin_unasked(void **state)
{
    ask_each = 0;
    are_blank = false;
    return begin(state);
}

/* Steps compute into what is there, and need nothing that is large. */
static void what_is_read_piece_by_piece_is_a_weight(void **state)
{
    for (unsigned shift = 0; shift < SHIFTS; shift++) {
        assert_int_equal(begin(state), 0);
        start(shift);
        load();
        rooms();
        berth__classifier_refresh();
        expect_weights(shift);
    }
}

static void infer(unsigned steps)
{
    for (unsigned i = 0; i < steps * WEIGHTS; i++) {
        struct played *result = make((96 + i % WEIGHTS) * KIB);

        died(make(700 * KIB));
        died(result);
    }
}

/* Nor is it anything else when steps are seen. */
static void what_is_read_piece_by_piece_stays_a_weight(void **state)
{
    for (unsigned shift = 0; shift < SHIFTS; shift++) {
        assert_int_equal(begin(state), 0);
        start(shift);
        load();
        infer(8);
        expect_weights(shift);
    }
}

/* Not read yet, it is no room that a cache has. */
static void what_is_read_into_new_memory_is_a_weight(void **state)
{
    are_blank = true;
    for (unsigned shift = 0; shift < SHIFTS; shift++) {
        assert_int_equal(begin(state), 0);
        start(shift);
        load();
        for (unsigned i = 0; i < WEIGHTS; i++)
            assert_false(weights[i]->had >> BERTH_TAG_KV & 1);
        infer(8);
        expect_weights(shift);
    }
}

/* Somebody who asks again and again sees parts of it that are read and parts that are not. */
static void who_asks_while_it_is_read_changes_nothing(void **state)
{
    for (ask_each = 1; ask_each < 6; ask_each++)
        for (unsigned shift = 0; shift < 16; shift++) {
            assert_int_equal(begin(state), 0);
            start(shift);
            load();
            infer(8);
            expect_weights(shift);
        }
}

/* What was made last and is written while more comes and goes than would fill it is a cache. */
static void what_is_made_last_and_then_written_is_a_cache(void **state)
{
    struct played *cache;

    (void)state;
    start(0);
    load();
    infer(8);
    cache = make(1024 * KIB);
    for (unsigned i = 0; i < 64; i++) {
        cache->version[i]++;
        died(born((96 + i % 2) * KIB, OTHERS));
        died(born(300 * KIB, OTHERS));
    }
    berth__classifier_refresh();
    assert_int_equal(cache->tag, BERTH_TAG_KV);
}

/* Where it is large that takes long, and what is written to it is less than pieces would be. */
static void what_is_written_too_slowly_is_a_cache(void **state)
{
    struct played *cache;

    (void)state;
    start(0);
    load();
    infer(8);
    cache = make(8192 * KIB);
    for (unsigned i = 0; i < 60; i++) {
        cache->version[i / 4]++;
        died(born((96 + i % 2) * KIB, OTHERS));
        died(born(300 * KIB, OTHERS));
    }
    berth__classifier_refresh();
    assert_int_equal(cache->tag, BERTH_TAG_KV);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_is_read_piece_by_piece_is_a_weight, begin_unasked),
        cmocka_unit_test_setup(what_is_read_piece_by_piece_stays_a_weight, begin_unasked),
        cmocka_unit_test_setup(what_is_read_into_new_memory_is_a_weight, begin_unasked),
        cmocka_unit_test_setup(who_asks_while_it_is_read_changes_nothing, begin_unasked),
        cmocka_unit_test_setup(what_is_made_last_and_then_written_is_a_cache, begin_unasked),
        cmocka_unit_test_setup(what_is_written_too_slowly_is_a_cache, begin_unasked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
