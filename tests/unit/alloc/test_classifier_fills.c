/* SPDX-License-Identifier: Apache-2.0 */
/* Small programs, played to the classifier of a side that tells who fills blocks from the host and
 * shows no content, as a device's: what it takes their blocks for. */
#include "alloc/classifier.h"

#include "alloc/classifier_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define KIB ((size_t)1 << 10)
#define BLOCKS_MAX 4096
#define LOADER ((const void *)0x1000)
#define STEPS ((const void *)0x2000)
#define LAYERS 8

struct played {
    uint32_t number;
    size_t size;
    enum berth_tag tag;
    unsigned changes;
};

static struct played played[BLOCKS_MAX];
static unsigned played_count;
static struct played *weights[LAYERS], *cache[LAYERS], *input, *arena;

static struct berth_classifier *device(void)
{
    return berth__classifier(BERTH_SIDE_DEVICE);
}

static void retag(uintptr_t address, size_t held, uint32_t number, enum berth_tag tag)
{
    struct played *block = &played[address >> 32];

    assert_int_equal(block->number, number);
    assert_int_equal(block->size, held);
    block->tag = tag;
    assert_true(++block->changes <= BERTH_CLASS_CHANGES_MAX);
}

static int begin(void **state)
{
    static const struct berth_classifier_ops ops = {.retag = retag, .tells_fills = true};

    (void)state;
    memset(device(), 0, sizeof(*device()));
    memset(played, 0, sizeof(played));
    memset(cache, 0, sizeof(cache));
    played_count = 1;
    input = arena = NULL;
    berth__classifier_start(BERTH_SIDE_DEVICE, &ops);
    return berth__classifier_is_on(device()) ? 0 : -1;
}

static struct played *born(size_t size, const void *caller)
{
    enum berth_tag guess = berth__classifier_guess(device(), size, caller, 0);
    struct played *block = &played[played_count];

    assert_true(played_count < BLOCKS_MAX);
    block->size = size;
    block->tag = guess;
    block->number = berth__classifier_born(
        device(),
        &(struct berth_class_birth){
            .address = (uintptr_t)played_count++ << 32,
            .size = size,
            .held = size,
            .caller = caller,
            .tag = guess,
            .tagged_by = guess == BERTH_TAG_UNTAGGED ? BERTH_TAGGED_NONE : BERTH_TAGGED_CLASSIFIER,
        });
    assert_int_not_equal(block->number, 0);
    berth__classifier_tend(device());
    return block;
}

static void died(struct played *block)
{
    berth__classifier_died(device(), block->number);
}

/* In pieces, as a loader that reads a file does it. */
static void fill(struct played *block)
{
    for (unsigned i = 0; i < 4; i++)
        berth__classifier_filled(device(), block->number, i * (block->size / 4), block->size / 4);
}

static void load(void)
{
    for (unsigned i = 0; i < LAYERS; i++) {
        weights[i] = born((i + 1) * 256 * KIB, LOADER);
        fill(weights[i]);
    }
    input = born(96 * KIB, LOADER);
    arena = born(8192 * KIB, LOADER); /* the kernels' own */
}

/* One step of inference: the input is copied, layers make and drop, the cache grows. */
static void infer(unsigned step, bool is_declared)
{
    struct played *x = born(80 * KIB, STEPS);

    if (is_declared)
        berth__classifier_step();
    fill(input);
    for (unsigned i = 0; i < LAYERS; i++) {
        struct played *y = born((100 + i % 3) * KIB, STEPS), *larger;

        died(born(300 * KIB, STEPS));
        died(x);
        x = y;
        larger = born((1000 + step * 4) * KIB, STEPS);
        if (cache[i])
            died(cache[i]);
        cache[i] = larger;
    }
    died(x);
}

static void expect_tags(struct played *const *blocks, enum berth_tag tag)
{
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_equal(blocks[i]->tag, tag);
}

static void infer_and_check(bool is_declared)
{
    struct played *x;

    load();
    for (unsigned step = 0; step < 16; step++)
        infer(step, is_declared);
    berth__classifier_refresh();
    expect_tags(weights, BERTH_TAG_WEIGHT);
    expect_tags(cache, BERTH_TAG_KV);
    assert_int_equal(input->tag, BERTH_TAG_ACTIVATION);
    assert_int_equal(arena->tag, BERTH_TAG_UNTAGGED);
    x = born(101 * KIB, STEPS);
    assert_int_equal(x->tag, BERTH_TAG_ACTIVATION);
    assert_int_equal(born(300 * KIB, STEPS)->tag, BERTH_TAG_WORKSPACE);
}

static void what_was_filled_before_the_steps_is_a_weight(void **state)
{
    (void)state;
    infer_and_check(true);
}

static void steps_need_not_be_declared(void **state)
{
    (void)state;
    infer_and_check(false);
}

static void weights_are_known_after_two_steps(void **state)
{
    (void)state;
    load();
    infer(0, true);
    infer(1, true);
    berth__classifier_refresh();
    expect_tags(weights, BERTH_TAG_WEIGHT);
    assert_int_not_equal(arena->tag, BERTH_TAG_WEIGHT);
}

static void what_is_final_stays(void **state)
{
    (void)state;
    load();
    for (unsigned step = 0; step < 12; step++)
        infer(step, true);
    for (unsigned step = 12; step < 24; step++) {
        infer(step, true);
        for (unsigned i = 0; i < LAYERS; i++)
            fill(weights[i]);
    }
    berth__classifier_refresh();
    expect_tags(weights, BERTH_TAG_WEIGHT);
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_equal(weights[i]->changes, 1);
}

static void a_layer_that_is_loaded_late_is_a_weight(void **state)
{
    struct played *late;

    (void)state;
    load();
    for (unsigned step = 0; step < 3; step++)
        infer(step, true);
    late = born(700 * KIB, LOADER);
    fill(late);
    infer(3, true);
    berth__classifier_refresh();
    assert_int_not_equal(late->tag, BERTH_TAG_WEIGHT);
    for (unsigned step = 4; step < 9; step++)
        infer(step, true);
    berth__classifier_refresh();
    assert_int_equal(late->tag, BERTH_TAG_WEIGHT);
}

static void collect_pieces(bool is_declared)
{
    struct played *pieces[16], *once[4];

    load();
    for (unsigned step = 0; step < 16; step++) {
        infer(step, is_declared);
        pieces[step] = born(600 * KIB, STEPS);
        for (unsigned i = 0; i < 4 && step == 0; i++)
            once[i] = born(620 * KIB, STEPS);
    }
    berth__classifier_refresh();
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(pieces[i]->tag, BERTH_TAG_KV);
    for (unsigned i = 0; i < 4; i++)
        assert_int_not_equal(once[i]->tag, BERTH_TAG_KV);
    expect_tags(weights, BERTH_TAG_WEIGHT);
}

/* What a pool reserves in the first step is none. */
static void a_cache_of_many_pieces_is_known(void **state)
{
    (void)state;
    collect_pieces(true);
}

static void a_cache_of_many_pieces_is_known_without_steps(void **state)
{
    (void)state;
    collect_pieces(false);
}

static void what_is_asked_early_is_answered(void **state)
{
    (void)state;
    load();
    berth__classifier_refresh();
    expect_tags(weights, BERTH_TAG_WEIGHT);
    assert_int_equal(arena->tag, BERTH_TAG_UNTAGGED);
}

/* Of a foreign allocator: weights, an input beside them, and room that kernels alone write. */
static struct played *segment_born(void)
{
    struct played *segment = born(20480 * KIB, LOADER);

    for (size_t at = 0; at < 14000 * KIB; at += 250 * KIB)
        berth__classifier_filled(device(), segment->number, at, 250 * KIB);
    return segment;
}

static void play_segments(bool is_declared, bool is_steady)
{
    struct played *segment, *inputs;

    load();
    segment = segment_born();
    inputs = born(20480 * KIB, LOADER);
    for (unsigned step = 0; step < 40; step++) {
        if (is_steady)
            infer(step, is_declared);
        berth__classifier_filled(device(), segment->number, 15000 * KIB, 3000 * KIB);
        berth__classifier_filled(device(), inputs->number, 100 * KIB, 15000 * KIB);
    }
    berth__classifier_refresh();
    assert_int_equal(segment->tag, BERTH_TAG_WEIGHT);
    assert_int_equal(inputs->tag, BERTH_TAG_ACTIVATION);
}

static void a_segment_is_what_most_of_it_is(void **state)
{
    (void)state;
    play_segments(true, true);
}

static void a_segment_is_what_most_of_it_is_without_steps(void **state)
{
    (void)state;
    play_segments(false, true);
}

static void a_segment_is_what_most_of_it_is_where_nothing_is_allocated(void **state)
{
    (void)state;
    play_segments(false, false);
}

/* Nor is a block of many gigabytes full before it is. */
static void a_large_block_is_filled_by_parts(void **state)
{
    const size_t size = (size_t)200 << 30;
    struct played *block;

    (void)state;
    block = born(size, LOADER);
    for (size_t at = 0; at < size / 4; at += size / 256)
        berth__classifier_filled(device(), block->number, at, size / 256);
    berth__classifier_refresh();
    assert_int_equal(block->tag, BERTH_TAG_UNTAGGED);
    for (size_t at = size / 4; at < size; at += size / 256)
        berth__classifier_filled(device(), block->number, at, size / 256);
    berth__classifier_filled(device(), block->number, size - 1, size);
    berth__classifier_filled(device(), block->number, size, 1);
    berth__classifier_refresh();
    assert_int_equal(block->tag, BERTH_TAG_WEIGHT);
}

/* Nothing is allocated in steps, and none are declared: only the fills tell. */
static void fills_alone_are_news(void **state)
{
    (void)state;
    weights[0] = born(512 * KIB, LOADER);
    berth__classifier_refresh();
    assert_int_equal(weights[0]->tag, BERTH_TAG_UNTAGGED);
    fill(weights[0]);
    berth__classifier_refresh();
    assert_int_equal(weights[0]->tag, BERTH_TAG_WEIGHT);
}

#define PLAYED(test) cmocka_unit_test_setup(test, begin)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(what_was_filled_before_the_steps_is_a_weight),
        PLAYED(a_segment_is_what_most_of_it_is),
        PLAYED(a_segment_is_what_most_of_it_is_without_steps),
        PLAYED(a_segment_is_what_most_of_it_is_where_nothing_is_allocated),
        PLAYED(a_large_block_is_filled_by_parts),
        PLAYED(steps_need_not_be_declared),
        PLAYED(weights_are_known_after_two_steps),
        PLAYED(what_is_final_stays),
        PLAYED(a_layer_that_is_loaded_late_is_a_weight),
        PLAYED(a_cache_of_many_pieces_is_known),
        PLAYED(a_cache_of_many_pieces_is_known_without_steps),
        PLAYED(what_is_asked_early_is_answered),
        PLAYED(fills_alone_are_news),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
