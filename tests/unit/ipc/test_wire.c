/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: frames come out as they went in, however their bytes were cut, and what is too long costs
 * bounded memory and exactly one complaint.
 */
#include "ipc/wire.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect_frame(struct berth_wire *wire, const char *text)
{
    const char *frame = NULL;
    size_t length = 0;

    assert_int_equal(berth__wire_next(wire, &frame, &length), 1);
    assert_int_equal(length, strlen(text));
    assert_memory_equal(frame, text, length);
}

static void expect_nothing(struct berth_wire *wire)
{
    const char *frame = NULL;
    size_t length = 0;

    assert_false(berth__wire_ready(wire));
    assert_int_equal(berth__wire_next(wire, &frame, &length), 0);
    assert_null(frame);
}

static void feed(struct berth_wire *wire, const char *text)
{
    assert_int_equal(berth__wire_feed(wire, text, strlen(text)), 0);
}

static void several_frames_in_one_piece_come_one_by_one(void **state)
{
    struct berth_wire wire;

    berth__wire_init(&wire);
    expect_nothing(&wire);
    feed(&wire, "{}\n\nabc\nhalf");
    assert_true(berth__wire_ready(&wire));
    expect_frame(&wire, "{}");
    expect_frame(&wire, "");
    expect_frame(&wire, "abc");
    expect_nothing(&wire);
    feed(&wire, " done\n");
    expect_frame(&wire, "half done");
    expect_nothing(&wire);
    berth__wire_done(&wire);
}

static void frames_may_be_cut_anywhere(void **state)
{
    static const char text[] = "first\nsecond one\n\nlast\n";
    static const char *const frames[] = {"first", "second one", "", "last"};

    for (size_t cut = 1; cut < sizeof(text); cut++) {
        struct berth_wire wire;
        size_t seen = 0;

        berth__wire_init(&wire);
        for (size_t at = 0; at < sizeof(text) - 1; at += cut) {
            size_t left = sizeof(text) - 1 - at;

            assert_int_equal(berth__wire_feed(&wire, text + at, left < cut ? left : cut), 0);
            while (berth__wire_ready(&wire))
                expect_frame(&wire, frames[seen++]);
        }
        assert_int_equal(seen, 4);
        berth__wire_done(&wire);
    }
}

static void a_frame_may_hold_any_byte_but_a_newline(void **state)
{
    struct berth_wire wire;
    char bytes[256];
    const char *frame = NULL;
    size_t length = 0;

    for (int i = 0; i < 256; i++)
        bytes[i] = (char)(i == '\n' ? 0 : i);
    berth__wire_init(&wire);
    assert_int_equal(berth__wire_feed(&wire, bytes, sizeof(bytes)), 0);
    feed(&wire, "\n");
    assert_int_equal(berth__wire_next(&wire, &frame, &length), 1);
    assert_int_equal(length, sizeof(bytes));
    assert_memory_equal(frame, bytes, sizeof(bytes));
    berth__wire_done(&wire);
}

/* Feeds `size` bytes and a newline in pieces; returns how often the wire complained. */
static int feed_long(struct berth_wire *wire, size_t size)
{
    static char piece[4000];
    const char *frame;
    size_t length;
    int complaints = 0;

    memset(piece, 'x', sizeof(piece));
    while (size > 0) {
        size_t n = size < sizeof(piece) ? size : sizeof(piece);

        assert_int_equal(berth__wire_feed(wire, piece, n), 0);
        size -= n;
        if (berth__wire_next(wire, &frame, &length) == -EMSGSIZE)
            complaints++;
        assert_true(wire->size <= 2 * BERTH_WIRE_FRAME_MAX);
    }
    feed(wire, "\n");
    return complaints;
}

static void a_frame_that_is_too_long_is_skipped_with_one_complaint(void **state)
{
    struct berth_wire wire;

    berth__wire_init(&wire);
    assert_int_equal(feed_long(&wire, 5 * BERTH_WIRE_FRAME_MAX), 1);
    expect_nothing(&wire);
    feed(&wire, "next\n");
    expect_frame(&wire, "next");
    assert_int_equal(feed_long(&wire, BERTH_WIRE_FRAME_MAX), 1);
    feed(&wire, "again\n");
    expect_frame(&wire, "again");
    berth__wire_done(&wire);
}

static void the_longest_frame_passes(void **state)
{
    struct berth_wire wire;
    const char *frame = NULL;
    size_t length = 0;

    berth__wire_init(&wire);
    assert_int_equal(feed_long(&wire, BERTH_WIRE_FRAME_MAX - 1), 0);
    assert_int_equal(berth__wire_next(&wire, &frame, &length), 1);
    assert_int_equal(length, BERTH_WIRE_FRAME_MAX - 1);
    berth__wire_done(&wire);
}

static void a_long_frame_in_one_piece_is_told_from_the_next(void **state)
{
    size_t size = BERTH_WIRE_FRAME_MAX + 10;
    char *bytes = malloc(size);
    const char *frame = NULL;
    size_t length = 0;
    struct berth_wire wire;

    assert_non_null(bytes);
    memset(bytes, 'y', size);
    memcpy(bytes + size - 4, "\nok\n", 4);
    berth__wire_init(&wire);
    assert_int_equal(berth__wire_feed(&wire, bytes, size), 0);
    assert_int_equal(berth__wire_next(&wire, &frame, &length), -EMSGSIZE);
    expect_frame(&wire, "ok");
    expect_nothing(&wire);
    berth__wire_done(&wire);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_frames_in_one_piece_come_one_by_one),
        cmocka_unit_test(frames_may_be_cut_anywhere),
        cmocka_unit_test(a_frame_may_hold_any_byte_but_a_newline),
        cmocka_unit_test(a_frame_that_is_too_long_is_skipped_with_one_complaint),
        cmocka_unit_test(the_longest_frame_passes),
        cmocka_unit_test(a_long_frame_in_one_piece_is_told_from_the_next),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
