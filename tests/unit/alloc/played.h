/* SPDX-License-Identifier: Apache-2.0 */
/* A program's blocks, as the classifier is told of them and looks at them; for one test alone. */
#ifndef BERTH_TESTS_UNIT_ALLOC_PLAYED_H
#define BERTH_TESTS_UNIT_ALLOC_PLAYED_H

#include "alloc/classifier.h"
#include "alloc/classifier_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define KIB ((size_t)1 << 10)
#define BLOCKS_MAX 4096
#define TENSORS ((const void *)0x1000)    /* who asks: the program's tensor allocator... */
#define NEARBY ((const void *)0x2000)     /* ...another call of the same code... */
#define OTHERS ((const void *)0x20000000) /* ...and what else there is */

/* A block of the program's; its address is its place here. */
struct played {
    uint32_t number;
    size_t size;
    enum berth_tag tag;
    unsigned changes;
    unsigned had;                 /* a bit for each tag that it had */
    enum berth_class_level level; /* when it was asked for last */
    bool is_positive;
    bool is_integers;      /* of 32 bits */
    bool is_small;         /* its numbers are floats of the size that weights have */
    bool is_steady;        /* its numbers change by little, as those that are trained */
    bool is_turned;        /* and their signs are not those of others that are steady, as states' */
    bool is_thin;          /* most of its numbers, of 32 bits, have been struck out */
    unsigned mask_bits;    /* not 0: its numbers, of so many bits, are zero or one other */
    bool is_constant;      /* what is written to it is one number everywhere */
    const uint64_t *words; /* its content, where that is all that counts; else NULL */
    uint32_t version[BERTH_LOOK_WORDS]; /* of its content; 0 = blank */
};

#define STEADY_BITS ((uint64_t)0x1ff << 55) /* sign and exponent */

static struct played played[BLOCKS_MAX];
static unsigned played_count;
static bool can_look;
static bool are_large;         /* numbers are floats of the size that inputs have, and no bytes */
static unsigned taken_back;    /* tags that a block had before... */
static unsigned claimed_again; /* ...but for those that were withdrawn to none */

static struct played *at(uintptr_t address)
{
    return &played[address >> 32];
}

/* Of every third piece one number, which may be below zero; the others are zero. */
static inline uint64_t mask_word(unsigned i, unsigned bits)
{
    uint64_t number = 0xff7fffffu >> (32 - bits), word = 0;

    for (unsigned at = 0; at < 64; at += bits)
        if ((i * 64 + at) / bits % 3 == 0)
            word |= number << at;
    return word;
}

static bool look(uintptr_t address, const size_t offsets[BERTH_LOOK_WORDS],
                 uint64_t words[BERTH_LOOK_WORDS])
{
    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++) {
        assert_true(offsets[i] % 8 == 0 && offsets[i] + 8 <= at(address)->size);
        words[i] = (at(address)->version[i] + i) * 0x9e3779b97f4a7c15u;
        if (at(address)->is_steady)
            words[i] = (words[i] & ~STEADY_BITS) |
                       ((i + 1 + 100 * at(address)->is_turned) * 0x9e3779b97f4a7c15u & STEADY_BITS);
        if (at(address)->is_positive)
            words[i] &= ~0x8000000080000000u;
        if (are_large)
            words[i] = (words[i] & 0x80ffffff80ffffffu) | 0x3f0000003f000000u;
        if (at(address)->is_small)
            words[i] = (words[i] & 0x80ffffff80ffffffu) | 0x3c0000003c000000u;
        if (at(address)->is_integers)
            words[i] &= 0x007fffff007fffffu;
        if (at(address)->is_thin)
            words[i] &= mask_word(i, 32);
        if (at(address)->mask_bits > 0)
            words[i] = mask_word(i, at(address)->mask_bits);
        if (at(address)->is_constant)
            words[i] = 0xbf800000bf800000u;
        if (at(address)->words)
            words[i] = at(address)->words[i];
        if (at(address)->version[i] == 0)
            words[i] = 0;
    }
    return can_look;
}

static void retag(uintptr_t address, size_t held, uint32_t number, enum berth_tag tag)
{
    assert_int_equal(at(address)->number, number);
    assert_int_equal(at(address)->size, held);
    assert_int_not_equal(at(address)->tag, tag);
    assert_int_not_equal(at(address)->level, BERTH_CLASS_FINAL);
    at(address)->tag = tag;
    taken_back += at(address)->had >> tag & 1;
    claimed_again += tag != BERTH_TAG_UNTAGGED && at(address)->had >> tag & 1;
    at(address)->had |= 1u << tag;
    assert_true(++at(address)->changes <= BERTH_CLASS_CHANGES_MAX);
}

static struct berth_classifier *host(void)
{
    return berth__classifier(BERTH_SIDE_HOST);
}

static int begin(void **state)
{
    static const struct berth_classifier_ops ops = {.look = look, .retag = retag};

    (void)state;
    memset(host(), 0, sizeof(*host()));
    memset(played, 0, sizeof(played));
    played_count = 1;
    taken_back = claimed_again = 0;
    can_look = true;
    are_large = false;
    berth__classifier_start(BERTH_SIDE_HOST, &ops);
    return berth__classifier_is_on(host()) ? 0 : -1;
}

static inline void write_all(struct played *block)
{
    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++)
        block->version[i]++;
}

static struct played *born_as(size_t size, const void *caller, enum berth_tag tag,
                              enum berth_tag_source tagged_by)
{
    struct played *block = &played[played_count];

    assert_true(played_count < BLOCKS_MAX);
    block->size = size;
    block->tag = tag;
    block->had = 1u << tag;
    write_all(block);
    block->number = berth__classifier_born(
        host(), &(struct berth_class_birth){.address = (uintptr_t)played_count++ << 32,
                                            .size = size,
                                            .held = size,
                                            .caller = caller,
                                            .tag = tag,
                                            .tagged_by = tagged_by});
    assert_int_not_equal(block->number, 0);
    berth__classifier_tend(host());
    return block;
}

/* As the malloc side does it: with the guess. */
static struct played *born(size_t size, const void *caller)
{
    enum berth_tag guess = berth__classifier_guess(host(), size, caller, 0);

    return born_as(size, caller, guess,
                   guess == BERTH_TAG_UNTAGGED ? BERTH_TAGGED_NONE : BERTH_TAGGED_CLASSIFIER);
}

static void died(struct played *block)
{
    berth__classifier_died(host(), block->number);
}

static inline enum berth_class_level level(const struct played *block)
{
    struct berth_class_view view;
    char why[BERTH_CLASS_WHY_MAX];

    assert_true(berth__classifier_view(host(), block->number, &view, why, sizeof(why)));
    assert_int_equal(view.tag, block->tag);
    assert_true(strlen(why) > 0);
    return view.level;
}

#endif
