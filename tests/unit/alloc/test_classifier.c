/* SPDX-License-Identifier: Apache-2.0 */
/* Small programs, played to the classifier: what it takes their blocks for, and how often it
 * changes its mind. */
#include "alloc/classifier.h"

#include "alloc/classifier_parts.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "played.h"

#define LAYERS 12
static struct played *weights[LAYERS], *import[LAYERS];

/* A program imports modules, which read files, and makes its weights. */
static void load(void)
{
    for (unsigned i = 0; i < LAYERS; i++) {
        died(born(100 * KIB + i * 8, OTHERS));
        import[i] = born(70 * KIB + i * 8, OTHERS);
        died(born(65537, OTHERS));
    }
    for (unsigned i = 0; i < LAYERS; i++)
        weights[i] = born((i + 1) * 256 * KIB, TENSORS);
}

/* One step of inference; `scale` is the batch. */
static void infer(size_t scale)
{
    struct played *x = born(scale * 64 * KIB, TENSORS);

    for (unsigned i = 0; i < LAYERS; i++) {
        struct played *y = born(scale * (68 + i % 3) * KIB, TENSORS);
        struct played *scratch = born(scale * 300 * KIB, TENSORS);

        died(scratch);
        died(x);
        x = y;
    }
    died(x);
}

static void expect_tags(struct played *const *blocks, enum berth_tag tag)
{
    for (unsigned i = 0; i < LAYERS; i++)
        assert_int_equal(blocks[i]->tag, tag);
}

static void weights_are_known_after_two_steps(void **state)
{
    (void)state;
    load();
    infer(1);
    infer(1);
    berth__classifier_refresh();
    expect_tags(weights, BERTH_TAG_WEIGHT);
    expect_tags(import, BERTH_TAG_UNTAGGED);
}

static void what_is_final_stays(void **state)
{
    unsigned changes = 0;

    (void)state;
    load();
    for (unsigned step = 0; step < 20; step++)
        infer(1);
    for (unsigned i = 0; i < LAYERS; i++) {
        assert_int_equal(level(weights[i]), BERTH_CLASS_FINAL);
        changes += weights[i]->changes;
        write_all(weights[i]);
    }
    /* Whatever the program does from now on. */
    for (unsigned step = 0; step < 20; step++) {
        infer(2);
        for (unsigned i = 0; i < LAYERS; i++)
            write_all(weights[i]);
    }
    expect_tags(weights, BERTH_TAG_WEIGHT);
    for (unsigned i = 0; i < LAYERS; i++)
        changes -= weights[i]->changes;
    assert_int_equal(changes, 0);
}

/* Where another allocator has most of what stays, that may turn out to have the weights: it does
 * where what the main one has kept goes, and is found by a judgement that is no more than
 * tentative.
 */
static void of_what_is_elsewhere_nothing_is_said_while_it_is_most(void **state)
{
    struct played *elsewhere[LAYERS];

    (void)state;
    for (unsigned i = 0; i < LAYERS; i++)
        elsewhere[i] = born((i + 1) * 1024 * KIB, OTHERS);
    for (unsigned i = 0; i < LAYERS; i++)
        weights[i] = born((i + 1) * 256 * KIB, TENSORS);
    for (unsigned step = 0; step < 20; step++)
        infer(1);
    for (unsigned i = 0; i < LAYERS; i++) {
        assert_int_equal(elsewhere[i]->tag, BERTH_TAG_UNTAGGED);
        assert_int_equal(level(elsewhere[i]), BERTH_CLASS_UNKNOWN);
        assert_int_equal(weights[i]->tag, BERTH_TAG_WEIGHT);
        assert_int_equal(level(weights[i]), BERTH_CLASS_FIRM);
        died(weights[i]);
    }
    berth__classifier_refresh();
    expect_tags(elsewhere, BERTH_TAG_WEIGHT);
}

static void shapes_may_differ_from_step_to_step(void **state)
{
    (void)state;
    load();
    for (unsigned step = 0; step < 6; step++)
        infer(1 + step);
    berth__classifier_refresh();
    expect_tags(weights, BERTH_TAG_WEIGHT);
    expect_tags(import, BERTH_TAG_UNTAGGED);
}

static void what_comes_next_is_guessed(void **state)
{
    (void)state;
    load();
    for (unsigned step = 0; step < 4; step++)
        infer(1);
    assert_int_equal(born(69 * KIB, TENSORS)->tag, BERTH_TAG_ACTIVATION);
    assert_int_equal(born(300 * KIB, TENSORS)->tag, BERTH_TAG_WORKSPACE);
}

/* One step of training with an optimiser that keeps state of its own. */
static void train(struct played **moments)
{
    struct played *kept[LAYERS], *gradients[LAYERS];

    for (unsigned i = 0; i < LAYERS; i++) {
        kept[i] = born((68 + i) * KIB, TENSORS);
        died(born(500 * KIB, TENSORS));
    }
    for (unsigned i = LAYERS; i-- > 0;) {
        gradients[i] = born(weights[i]->size, TENSORS);
        died(kept[i]);
    }
    for (unsigned i = 0; i < LAYERS; i++) {
        if (!moments[i])
            moments[i] = born(weights[i]->size, TENSORS);
        write_all(moments[i]);
        write_all(weights[i]);
        died(gradients[i]);
    }
}

static void an_optimisers_state_is_no_weight(void **state)
{
    struct played *moments[LAYERS] = {0};

    (void)state;
    load();
    for (unsigned step = 0; step < 6; step++)
        train(moments);
    berth__classifier_refresh();
    expect_tags(weights, BERTH_TAG_WEIGHT);
    expect_tags(moments, BERTH_TAG_UNTAGGED);
}

/* Kept gradients and the like: what is replaced as a whole was not appended to. */
static void an_optimisers_state_is_no_cache(void **state)
{
    struct played *moments[LAYERS] = {0};

    (void)state;
    load();
    for (unsigned step = 0; step < 12; step++) {
        train(moments);
        for (unsigned i = 0; i < LAYERS; i++)
            assert_int_not_equal(moments[i]->tag, BERTH_TAG_KV);
    }
}

/* Numbers none of which is below zero, as many as the weights or more; but not the scales of
 * quantised weights, which are few. */
static void kept_inputs_are_no_weights(void **state)
{
    struct played *data[LAYERS], *scales;

    (void)state;
    load();
    for (unsigned i = 0; i < LAYERS; i++) {
        data[i] = born(2500 * KIB, TENSORS);
        data[i]->is_positive = true;
    }
    scales = born(65 * KIB, TENSORS);
    scales->is_positive = true;
    for (unsigned step = 0; step < 12; step++)
        infer(1);
    berth__classifier_refresh();
    expect_tags(weights, BERTH_TAG_WEIGHT);
    expect_tags(data, BERTH_TAG_UNTAGGED);
    assert_int_equal(scales->tag, BERTH_TAG_WEIGHT);
}

static void a_model_that_takes_the_place_of_another_is_no_cache(void **state)
{
    struct played *larger[LAYERS];

    (void)state;
    load();
    for (unsigned step = 0; step < 4; step++)
        infer(1);
    for (unsigned i = 0; i < LAYERS; i++)
        died(weights[i]);
    for (unsigned i = 0; i < LAYERS; i++)
        larger[i] = born((3 + i / 6) * 512 * KIB, TENSORS);
    for (unsigned step = 0; step < 40; step++) {
        infer(1);
        for (unsigned i = 0; i < LAYERS; i++)
            assert_int_not_equal(larger[i]->tag, BERTH_TAG_KV);
    }
    berth__classifier_refresh();
    expect_tags(larger, BERTH_TAG_WEIGHT);
}

/* One that has outlived the others of its kind many times over is not thought to go. */
static void what_outlives_its_kind_is_not_guessed_to_go(void **state)
{
    struct played *kept;

    (void)state;
    load();
    berth__classifier_step();
    kept = born(300 * KIB, TENSORS);
    infer(1);
    berth__classifier_refresh();
    assert_int_equal(level(kept), BERTH_CLASS_UNKNOWN);
}

static void a_cache_that_grows_is_known(void **state)
{
    struct played *cache[LAYERS] = {0};

    (void)state;
    load();
    for (unsigned step = 0; step < 16; step++) {
        infer(1);
        for (unsigned i = 0; i < LAYERS; i++) {
            struct played *larger = born((1000 + step * 4) * KIB, TENSORS);

            if (cache[i])
                died(cache[i]);
            cache[i] = larger;
        }
    }
    berth__classifier_refresh();
    expect_tags(cache, BERTH_TAG_KV);
    expect_tags(weights, BERTH_TAG_WEIGHT);
}

/* Reserved at once, and filled piece by piece: before the first step, or in it. */
static void fill_a_cache(bool is_early)
{
    struct played *cache[LAYERS] = {0};

    load();
    for (unsigned step = 0; step < 16; step++) {
        for (unsigned i = 0; i < LAYERS && step == 0 && is_early; i++)
            cache[i] = born(2000 * KIB, TENSORS);
        infer(1);
        for (unsigned i = 0; i < LAYERS && step == 0 && !is_early; i++)
            cache[i] = born(2000 * KIB, TENSORS);
        for (unsigned i = 0; i < LAYERS; i++)
            cache[i]->version[step * 3]++;
    }
    berth__classifier_refresh();
    expect_tags(cache, BERTH_TAG_KV);
    expect_tags(weights, BERTH_TAG_WEIGHT);
}

static void a_cache_of_fixed_size_is_known(void **state)
{
    (void)state;
    fill_a_cache(false);
}

static void a_cache_that_was_there_before_is_known(void **state)
{
    (void)state;
    fill_a_cache(true);
}

/* A prompt is at its start, and what comes behind it is too little for the words to show. */
static void fill_the_start(bool is_early)
{
    struct played *cache[LAYERS] = {0};

    load();
    for (unsigned step = 0; step < 16; step++) {
        if (!is_early)
            infer(1);
        for (unsigned i = 0; i < LAYERS && step == 0; i++) {
            cache[i] = born(2000 * KIB, TENSORS);
            memset(&cache[i]->version[BERTH_LOOK_WORDS / 2], 0,
                   BERTH_LOOK_WORDS / 2 * sizeof(cache[i]->version[0]));
        }
        if (is_early)
            infer(1);
    }
    berth__classifier_refresh();
    for (unsigned i = 0; i < LAYERS; i++) {
        assert_int_not_equal(cache[i]->tag, BERTH_TAG_WEIGHT);
        assert_int_not_equal(level(cache[i]), BERTH_CLASS_FINAL);
    }
    expect_tags(weights, BERTH_TAG_WEIGHT);
}

static void what_is_filled_from_its_start_on_is_no_weight(void **state)
{
    (void)state;
    fill_the_start(false);
}

static void what_was_filled_from_its_start_on_before_is_no_weight(void **state)
{
    (void)state;
    fill_the_start(true);
}

/* All memory is reserved before: only what is written in the declared steps tells. */
static void declared_steps_need_no_allocations(void **state)
{
    struct played *buffer;

    (void)state;
    load();
    buffer = born(900 * KIB, TENSORS);
    for (unsigned step = 0; step < 8; step++) {
        berth__classifier_step();
        write_all(buffer);
    }
    berth__classifier_refresh();
    expect_tags(weights, BERTH_TAG_WEIGHT);
    assert_int_equal(buffer->tag, BERTH_TAG_ACTIVATION);
}

static void without_looks_lifetimes_tell(void **state)
{
    (void)state;
    can_look = false;
    load();
    for (unsigned step = 0; step < 4; step++)
        infer(1);
    berth__classifier_refresh();
    expect_tags(weights, BERTH_TAG_WEIGHT);
}

static void what_the_program_says_is_not_judged(void **state)
{
    struct played *told;

    (void)state;
    told = born_as(4096 * KIB, TENSORS, BERTH_TAG_ACTIVATION, BERTH_TAGGED_API);
    load();
    for (unsigned step = 0; step < 12; step++)
        infer(1);
    assert_int_equal(told->tag, BERTH_TAG_ACTIVATION);
    assert_int_equal(told->changes, 0);
}

static void what_is_asked_early_is_answered(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LAYERS; i++)
        weights[i] = born((i + 1) * 256 * KIB, TENSORS);
    berth__classifier_refresh();
    expect_tags(weights, BERTH_TAG_WEIGHT);
    assert_int_equal(level(weights[0]), BERTH_CLASS_TENTATIVE);
}

/* Each few steps another allocator works, other blocks are written, and sizes repeat or do not. */
static void a_program_that_changes_its_ways_does_not_confuse_it(void **state)
{
    uint64_t random = 1;

    (void)state;
    load();
    for (unsigned step = 0; step < 60; step++) {
        random = berth__class_mix(random + step);
        for (unsigned i = 0; i < LAYERS; i++) {
            struct played *some = random >> i & 1 ? weights[i] : import[i];

            died(born((random >> 20 & 1 ? some->size : 64 * KIB + random % 4096),
                      step / 7 % 2 ? OTHERS : TENSORS));
            if (step / 5 % 2)
                write_all(some);
            else
                some->version[random % BERTH_LOOK_WORDS]++;
        }
        if (step % 3 == 0)
            berth__classifier_refresh(); /* retag() counts the changes */
    }
    for (unsigned i = 0; i < LAYERS; i++)
        assert_true(weights[i]->changes <= BERTH_CLASS_CHANGES_MAX);
}

#define LIVE 48

/* One thing that a program does, at random; `live` has what is alive. */
static void do_something(struct played **live, uint64_t random)
{
    struct played **some = &live[random >> 8 & 15 ? random % LIVE : random % 4];
    struct played *block = *some;

    if (!block) {
        *some = random & 1 << 20
                    ? born((64 + random % 7 * 64) * KIB, TENSORS)
                    : born(64 * KIB + random % 65536, random & 1 << 21 ? TENSORS : OTHERS);
        (*some)->is_positive = random >> 22 & 1;
        if (random & 1 << 23)
            memset((*some)->version, 0, sizeof((*some)->version));
        return;
    }
    switch (random >> 24 & 15) {
    case 0:
        write_all(block);
        break;
    case 1:
    case 2:
        block->version[random >> 32 & 63]++;
        break;
    case 3:
        block->size = 64 * KIB + (random >> 32) % 65536;
        berth__classifier_resized(host(), block->number, block->size, block->size);
        break;
    case 4:
        berth__classifier_step();
        break;
    case 5:
        berth__classifier_refresh();
        break;
    default:
        died(block);
        *some = NULL;
    }
}

/* A class only gains certainty, so that a tag changes as often as there are levels, and one that
 * is final does not change, whatever comes; retag() counts. */
static void no_program_makes_it_go_back_and_forth(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct played *live[LIVE] = {0};
        uint64_t random = seed;

        begin(state);
        for (unsigned event = 0; event < 4000; event++) {
            random = berth__class_mix(random + seed) + event;
            do_something(live, random >> 3);
            for (unsigned i = 0; i < LIVE && event % 16 == 0; i++) {
                enum berth_class_level now = live[i] ? level(live[i]) : BERTH_CLASS_UNKNOWN;

                if (!live[i])
                    continue;
                assert_true(now >= live[i]->level);
                live[i]->level = now;
            }
        }
        assert_int_equal(claimed_again, 0);
    }
}

/* Any verdicts on one block, in any order: whatever it was taken for, it is never taken for again
 * once it was taken for something else. That nothing is known yet is no such thing. */
static void no_verdicts_make_it_go_back_and_forth(void **state)
{
    struct berth_class_block *block;
    uint64_t random = 0;
    bool was_final = false;

    (void)state;
    block = berth__class_block(host(), born_as(64 * KIB, TENSORS, 0, BERTH_TAGGED_NONE)->number);
    for (unsigned times = 0; times < 20000; times++) {
        unsigned had = 0;

        block->tag = BERTH_TAG_UNTAGGED;
        block->level = BERTH_CLASS_UNKNOWN;
        block->had = 0;
        while (block->level != BERTH_CLASS_FINAL && (random = berth__class_mix(random + 1)) % 16) {
            uint8_t was = block->tag, level = block->level;
            struct berth_class_verdict verdict = {random >> 8 & 3, 1 + (random >> 16) % 4,
                                                  (random >> 24) % BERTH_REASON_COUNT};
            bool is_heeded = berth__class_heed(block, &verdict);

            assert_true(is_heeded ? block->level > level : block->level == level);
            assert_true(is_heeded ? block->tag == verdict.tag : block->tag == was);
            assert_true(block->tag == was || !(had & 1u << block->tag));
            had |= is_heeded ? 1u << block->tag : 0;
        }
        was_final |= block->level == BERTH_CLASS_FINAL;
    }
    assert_true(was_final);
}

static bool look_nowhere(uintptr_t address, const size_t offsets[BERTH_LOOK_WORDS],
                         uint64_t words[BERTH_LOOK_WORDS])
{
    (void)offsets;
    memset(words, (int)(address >> 20), BERTH_LOOK_WORDS * sizeof(*words));
    /* The others get their turn amid judgements, and not between them. */
    sched_yield();
    return true;
}

static void retag_nothing(uintptr_t address, size_t held, uint32_t number, enum berth_tag tag)
{
    (void)address, (void)held, (void)number, (void)tag;
}

/* What befalls the block that is looked at, or tagged, in that moment; then it is none of these. */
enum mishap { NO_MISHAP, FREED, REPLACED, RESIZED, FORKED };
static enum mishap mishap;
static struct played *struck, *heir; /* the block that met it, and the one that came after */

/* Owners do not wait for the judge: what its callbacks do here is what another thread may do. */
static void strike(uintptr_t address)
{
    enum mishap now = mishap;

    if (now == NO_MISHAP)
        return;
    mishap = NO_MISHAP;
    struck = at(address);
    if (now == RESIZED) {
        struck->size /= 2;
        berth__classifier_resized(host(), struck->number, struck->size, struck->size);
        return;
    }
    died(struck);
    if (now == REPLACED)
        heir = born_as(struck->size, TENSORS, BERTH_TAG_UNTAGGED, BERTH_TAGGED_NONE);
}

static bool look_and_strike(uintptr_t address, const size_t offsets[BERTH_LOOK_WORDS],
                            uint64_t words[BERTH_LOOK_WORDS])
{
    bool is_seen = look(address, offsets, words);

    strike(address);
    return is_seen;
}

static void retag_after_strike(uintptr_t address, size_t held, uint32_t number, enum berth_tag tag)
{
    strike(address);
    if (at(address) != struck)
        retag(address, held, number, tag);
}

static const struct berth_classifier_ops striking = {.look = look_and_strike,
                                                     .retag = retag_after_strike};

static void set_mishap(enum mishap next)
{
    struck = heir = NULL;
    atomic_store(&host()->ops, &striking);
    mishap = next;
}

static void a_block_that_dies_under_the_look_leaves_no_trace(void **state)
{
    struct berth_class_block *record;

    (void)state;
    load();
    set_mishap(REPLACED);
    berth__classifier_refresh();
    assert_non_null(heir);
    assert_int_not_equal(heir->number, struck->number);
    record = berth__class_block(host(), struck->number);
    assert_true(record->address == 0 && record->looks == 0);
    assert_int_equal(record->level, BERTH_CLASS_UNKNOWN);
    assert_int_equal(level(heir), BERTH_CLASS_UNKNOWN);
    /* The number is free again, now that the judgement is over. */
    assert_int_equal(born(64 * KIB, TENSORS)->number, struck->number);
}

static void a_block_that_dies_under_the_verdict_has_no_heir(void **state)
{
    static const struct berth_classifier_ops ops = {.look = look, .retag = retag_after_strike};

    (void)state;
    load();
    set_mishap(REPLACED);
    atomic_store(&host()->ops, &ops);
    berth__classifier_refresh();
    assert_non_null(heir);
    assert_int_not_equal(heir->number, struck->number);
    assert_int_equal(level(heir), BERTH_CLASS_UNKNOWN);
}

static void a_block_that_is_resized_is_looked_at_anew(void **state)
{
    struct berth_class_block *record;

    (void)state;
    load();
    infer(1);
    set_mishap(RESIZED);
    infer(1);
    infer(1);
    berth__classifier_refresh();
    record = berth__class_block(host(), struck->number);
    assert_true(record->looked_size == struck->size && record->changed == 0);
    assert_int_equal(struck->tag, BERTH_TAG_WEIGHT);
}

/* Resized between two judgements, so that the places that are looked at differ. */
static void another_size_is_no_change(void **state)
{
    struct berth_class_block *record;

    (void)state;
    load();
    infer(1);
    berth__classifier_refresh();
    record = berth__class_block(host(), weights[3]->number);
    assert_int_equal(record->looks, 1);
    weights[3]->size /= 2;
    berth__classifier_resized(host(), weights[3]->number, weights[3]->size, weights[3]->size);
    write_all(weights[3]); /* other words are there */
    infer(1);
    berth__classifier_refresh();
    assert_true(record->looked_size == weights[3]->size && record->changed == 0);
}

/* In a child that was forked amid a judgement, what dies has its number used again. */
static int child_of_a_judge(void)
{
    uint32_t made;

    for (unsigned i = 0; i < LAYERS; i++)
        died(weights[i]);
    if (host()->judge == 0 || host()->held_head == 0)
        return 2;
    for (unsigned step = 0; step < 8; step++)
        infer(1);
    if (host()->judge != 0 || (uint32_t)host()->held_head != 0)
        return 3;
    made = host()->block_count;
    for (unsigned i = 0; i < LAYERS; i++)
        weights[i] = born((i + 1) * 256 * KIB, TENSORS);
    return host()->block_count == made ? 0 : 4;
}

static bool look_and_fork(uintptr_t address, const size_t offsets[BERTH_LOOK_WORDS],
                          uint64_t words[BERTH_LOOK_WORDS])
{
    int status = -1;
    pid_t child;

    if (mishap == FORKED) {
        mishap = NO_MISHAP;
        child = fork();
        if (child == 0)
            _exit(child_of_a_judge());
        assert_true(child > 0);
        assert_true(waitpid(child, &status, 0) == child);
        assert_int_equal(status, 0);
    }
    return look(address, offsets, words);
}

static void a_child_of_a_judge_goes_on(void **state)
{
    static const struct berth_classifier_ops ops = {.look = look_and_fork, .retag = retag};

    (void)state;
    load();
    infer(1);
    atomic_store(&host()->ops, &ops);
    mishap = FORKED;
    infer(1);
    berth__classifier_refresh();
    assert_int_equal(mishap, NO_MISHAP);
    expect_tags(weights, BERTH_TAG_WEIGHT);
}

/* As who explains a block does, which may be any by now. */
static void view_some(uint32_t number)
{
    struct berth_class_view view;
    char why[BERTH_CLASS_WHY_MAX];

    if (berth__classifier_view(host(), number / 2 + 1, &view, why, sizeof(why)))
        assert_true(view.size >= 64 * KIB && view.size < 80 * KIB);
}

/* Enough of each that records change hands amid most judgements. */
#define THREADS 8
#define CHURNS 2000
#define SLOTS 32

static void *churn(void *context)
{
    uint32_t numbers[SLOTS] = {0};
    uint64_t random = (uintptr_t)context;

    for (unsigned i = 0; i < CHURNS; i++) {
        uint32_t *number = &numbers[(random = berth__class_mix(random + 1)) % SLOTS];
        size_t size = 64 * KIB + (random >> 8 & 255) * 64;

        berth__classifier_died(host(), *number);
        *number = berth__classifier_born(
            host(), &(struct berth_class_birth){.address = (uintptr_t)(i + 1) << 20,
                                                .size = size,
                                                .held = size,
                                                .caller = (const void *)(random >> 16 & 0xff0)});
        berth__classifier_tend(host());
        if (i % 16 == 0)
            view_some(*number);
        if (i % 32 == 0)
            berth__classifier_refresh();
    }
    for (unsigned i = 0; i < SLOTS; i++)
        berth__classifier_died(host(), numbers[i]);
    return NULL;
}

static void many_threads_lose_no_block(void **state)
{
    static const struct berth_classifier_ops ops = {.look = look_nowhere, .retag = retag_nothing};
    pthread_t threads[THREADS];

    (void)state;
    atomic_store(&host()->ops, &ops);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(host()->births == THREADS * CHURNS);
    /* Those that live, and as many that died amid a judgement. */
    assert_true(host()->block_count <= 2 * THREADS * (SLOTS + 1));
    for (uint32_t number = 1; number <= host()->block_count; number++)
        assert_true(berth__class_block(host(), number)->address == 0);
}

#define PLAYED(test) cmocka_unit_test_setup(test, begin)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAYED(weights_are_known_after_two_steps),
        PLAYED(what_is_final_stays),
        PLAYED(of_what_is_elsewhere_nothing_is_said_while_it_is_most),
        PLAYED(shapes_may_differ_from_step_to_step),
        PLAYED(what_comes_next_is_guessed),
        PLAYED(an_optimisers_state_is_no_weight),
        PLAYED(an_optimisers_state_is_no_cache),
        PLAYED(kept_inputs_are_no_weights),
        PLAYED(a_model_that_takes_the_place_of_another_is_no_cache),
        PLAYED(no_program_makes_it_go_back_and_forth),
        PLAYED(what_outlives_its_kind_is_not_guessed_to_go),
        PLAYED(a_cache_that_grows_is_known),
        PLAYED(a_cache_of_fixed_size_is_known),
        PLAYED(a_cache_that_was_there_before_is_known),
        PLAYED(what_is_filled_from_its_start_on_is_no_weight),
        PLAYED(what_was_filled_from_its_start_on_before_is_no_weight),
        PLAYED(declared_steps_need_no_allocations),
        PLAYED(without_looks_lifetimes_tell),
        PLAYED(what_the_program_says_is_not_judged),
        PLAYED(what_is_asked_early_is_answered),
        PLAYED(a_program_that_changes_its_ways_does_not_confuse_it),
        PLAYED(no_verdicts_make_it_go_back_and_forth),
        PLAYED(a_block_that_dies_under_the_look_leaves_no_trace),
        PLAYED(a_block_that_dies_under_the_verdict_has_no_heir),
        PLAYED(a_block_that_is_resized_is_looked_at_anew),
        PLAYED(another_size_is_no_change),
        PLAYED(a_child_of_a_judge_goes_on),
        PLAYED(many_threads_lose_no_block),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
