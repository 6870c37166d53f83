/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a set of nodes is read as the kernel writes it, and has one text.
 * Method: texts and what becomes of them.
 */
#include "pmem/node_set.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The one text of what `text` names. */
static void assert_reads(const char *text, const char *expected, unsigned count)
{
    struct berth_node_set set = {0};
    char why[BERTH_NODES_WHY_MAX] = "", again[64];

    assert_int_equal(berth__node_set_add(&set, text, why, sizeof(why)), 0);
    assert_int_equal(berth__node_set_text(&set, again, sizeof(again)), strlen(expected));
    assert_string_equal(again, expected);
    assert_int_equal(berth__node_set_count(&set), count);
}

static void a_set_has_one_text(void **state)
{
    assert_reads("", "", 0);
    assert_reads("0", "0", 1);
    assert_reads("1,0", "0-1", 2);
    assert_reads("5,0-2,1", "0-2,5", 4);
    assert_reads("62-65", "62-65", 4);
    assert_reads("007", "7", 1);
    assert_reads("32767", "32767", 1);
    assert_reads("0-32767", "0-32767", 32768);
}

static void the_end_is_behind_the_highest_node(void **state)
{
    struct berth_node_set set = {0};
    char why[BERTH_NODES_WHY_MAX];

    assert_int_equal(berth__node_set_end(&set), 0);
    assert_int_equal(berth__node_set_add(&set, "3,64", why, sizeof(why)), 0);
    assert_int_equal(berth__node_set_end(&set), 65);
    assert_true(berth__node_set_has(&set, 64));
    assert_false(berth__node_set_has(&set, 63));
    assert_false(berth__node_set_has(&set, BERTH_NODES_MAX));
    assert_int_equal(berth__node_set_add(&set, "32767", why, sizeof(why)), 0);
    assert_int_equal(berth__node_set_end(&set), BERTH_NODES_MAX);
}

static void assert_refused(const char *text, const char *reason)
{
    struct berth_node_set set = {0};
    char why[BERTH_NODES_WHY_MAX] = "";

    assert_int_equal(berth__node_set_add(&set, text, why, sizeof(why)), -EINVAL);
    if (!strstr(why, reason))
        fail_msg("'%s' was refused because \"%s\"; expected \"%s\"", text, why, reason);
}

static void what_names_no_nodes_is_refused(void **state)
{
    assert_refused("x", "names no nodes");
    assert_refused(",", "names no nodes");
    assert_refused("1,", "names no nodes");
    assert_refused("1,,2", "names no nodes");
    assert_refused("1-", "names no nodes");
    assert_refused("-1", "names no nodes");
    assert_refused("1 ", "names no nodes");
    assert_refused(" 1", "names no nodes");
    assert_refused("1-2-3", "names no nodes");
    assert_refused("3-1", "begins above its end");
    assert_refused("32768", "above 32767");
    assert_refused("0-99999999999999999999", "above 32767");
}

static void a_text_without_room_is_cut(void **state)
{
    struct berth_node_set set = {0};
    char why[BERTH_NODES_WHY_MAX], text[4];

    assert_int_equal(berth__node_set_add(&set, "10,12,14", why, sizeof(why)), 0);
    assert_int_equal(berth__node_set_text(&set, text, sizeof(text)), 8);
    assert_string_equal(text, "10,");
    assert_int_equal(berth__node_set_text(&set, NULL, 0), 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_set_has_one_text),
        cmocka_unit_test(the_end_is_behind_the_highest_node),
        cmocka_unit_test(what_names_no_nodes_is_refused),
        cmocka_unit_test(a_text_without_room_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
