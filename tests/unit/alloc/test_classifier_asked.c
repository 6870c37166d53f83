/* SPDX-License-Identifier: Apache-2.0 */
/* Somebody asks while it is being watched what steps read: what was read by then counts, and what
 * was not may still be. The watch goes on. */
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

/* What is read of each stretch. */
static enum { NOTHING, ROWS, ALL, PIECES, PIECES_ANYWHERE } way;
static unsigned peeks, ends;
static struct played *table;

static bool watch(const struct berth_watched *stretches, unsigned count)
{
    (void)stretches, (void)count;
    return true;
}

static void tell(struct berth_watched *stretches, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t all = stretches[i].to - stretches[i].from;

        switch (way) {
        case ROWS:
            stretches[i].read = all <= 8 * PAGE ? PAGE : all / PAGE / 16 * PAGE;
            break;
        case ALL:
            stretches[i].read = all;
            break;
        case PIECES: /* one of four parts, as a whole */
            stretches[i].read = i / 2 % 4 == 0 ? all : 0;
            break;
        case PIECES_ANYWHERE:
            stretches[i].read = all > 8 * PAGE ? 5 * PAGE : i / 2 % 4 == 0 ? all : 0;
            break;
        default:
            stretches[i].read = 0;
        }
    }
}

static void peek(struct berth_watched *stretches, unsigned count)
{
    peeks++;
    tell(stretches, count);
}

static void watched(struct berth_watched *stretches, unsigned count)
{
    ends++;
    tell(stretches, count);
}

/* A model that makes its table of words last. */
static int begin_watching(void **state)
{
    static const struct berth_classifier_ops ops = {
        .look = look, .watch = watch, .peek = peek, .watched = watched, .retag = retag};

    if (begin(state) != 0)
        return -1;
    peeks = ends = 0;
    way = NOTHING;
    are_large = true;
    atomic_store(&host()->ops, &ops);
    for (unsigned i = 0; i < LAYERS; i++)
        born((i + 1) * 256 * KIB, TENSORS)->is_small = true;
    table = born(4000 * KIB, TENSORS);
    return 0;
}

static void infer(unsigned steps)
{
    for (unsigned step = 0; step < steps; step++) {
        died(born(700 * KIB, TENSORS));
        for (unsigned i = 0; i < LAYERS; i++)
            died(born((68 + i % 3) * KIB, TENSORS));
    }
}

/* A watch is on, which is to go on for many steps, and none of these has gone by. */
static void watch_for_long(void)
{
    struct berth_class_watch *now = &host()->watch;

    for (unsigned i = 0; i < 200 && (!now->is_open || now->is_early); i++)
        infer(1);
    assert_true(now->is_open && !now->is_early);
    assert_true(berth__class_block(host(), table->number)->is_watched);
    assert_int_equal(table->tag, BERTH_TAG_UNTAGGED);
    now->idle = 8;
    now->births = atomic_load(&host()->births);
    ends = 0;
}

static void ask(void)
{
    infer(1);
    peeks = 0;
    berth__classifier_refresh();
    assert_true(peeks == 1 && ends == 0 && host()->watch.is_open);
}

static void rows_that_were_read_are_known(void **state)
{
    (void)state;
    watch_for_long();
    way = ROWS;
    ask();
    assert_int_equal(table->tag, BERTH_TAG_WEIGHT);
    way = NOTHING;
    infer(200);
    berth__classifier_refresh();
    assert_int_equal(table->tag, BERTH_TAG_WEIGHT);
    assert_int_equal(table->changes, 1);
}

/* It may be less than a step: neither does it count as a watch. */
static void what_was_not_read_may_still_be(void **state)
{
    struct berth_class_suspects before;

    (void)state;
    watch_for_long();
    before = host()->watch.kinds[0];
    ask();
    assert_int_equal(table->tag, BERTH_TAG_UNTAGGED);
    way = PIECES;
    ask();
    assert_int_equal(table->tag, BERTH_TAG_UNTAGGED);
    way = PIECES_ANYWHERE;
    ask();
    assert_int_equal(table->tag, BERTH_TAG_UNTAGGED);
    assert_memory_equal(&before, &host()->watch.kinds[0], sizeof(before));
    way = ROWS;
    ask();
    assert_int_equal(table->tag, BERTH_TAG_WEIGHT);
}

/* What was read is of others that have its place. */
static void what_has_died_is_not_known(void **state)
{
    (void)state;
    watch_for_long();
    died(table);
    way = ROWS;
    ask();
    assert_int_equal(host()->watch.kinds[0].reads, BERTH_READS_UNKNOWN);
}

/* Judgements that come by themselves wait for the end. */
static void who_does_not_ask_is_told_nothing(void **state)
{
    (void)state;
    watch_for_long();
    way = ROWS;
    infer(2);
    assert_int_equal(peeks, 0);
}

#define WATCHING(test) cmocka_unit_test_setup(test, begin_watching)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WATCHING(rows_that_were_read_are_known),
        WATCHING(what_was_not_read_may_still_be),
        WATCHING(what_has_died_is_not_known),
        WATCHING(who_does_not_ask_is_told_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
