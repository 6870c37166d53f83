/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a pattern says yes to exactly the paths that it describes, says clearly what is wrong with
 * it, and never takes exponential time. Method: paths are given here as text; berth__site_depth()
 * and berth__site_frame() of this file answer for them.
 */
#include "alloc/site_pattern.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The one path that there is: site 1. */
static struct berth_site_frame path[BERTH_SITE_FRAMES_MAX];
static unsigned path_depth;
static unsigned long frames_asked;

unsigned berth__site_depth(berth_site_id site)
{
    return site == 1 ? path_depth : 0;
}

int berth__site_frame(berth_site_id site, unsigned index, struct berth_site_frame *ret)
{
    frames_asked++;
    if (site != 1 || index >= path_depth)
        return -ENOENT;
    *ret = path[index];
    return 0;
}

/* Whether modules, and the functions that they have, are told without frames' names. */
static bool is_module_known;

const char *berth__site_frame_module(berth_site_id site, unsigned index)
{
    return is_module_known && site == 1 && index < path_depth ? path[index].module : NULL;
}

bool berth__site_frame_may_be(berth_site_id site, unsigned index, const char *symbol, size_t length)
{
    const char *its = site == 1 && index < path_depth ? path[index].symbol : NULL;

    return !is_module_known || (its && strlen(its) == length && memcmp(its, symbol, length) == 0);
}

/* "a.so!f>b.so>c.so!g" */
static void set_path(const char *text)
{
    static char copy[4096];
    char *rest = copy;

    snprintf(copy, sizeof(copy), "%s", text);
    path_depth = 0;
    while (rest && *rest) {
        char *frame = strsep(&rest, ">");
        char *module = strsep(&frame, "!");

        path[path_depth++] = (struct berth_site_frame){module, frame, 0x10};
    }
}

static bool matches(const char *pattern, const char *text)
{
    char why[256] = "";

    set_path(text);
    if (berth__site_pattern_check(pattern, why, sizeof(why)) < 0)
        fail_msg("pattern '%s' was refused: %s", pattern, why);
    return berth__site_pattern_match(pattern, 1);
}

/* The answer is the same, whatever is known before names are found. */
static void check_yes(const char *pattern, const char *text)
{
    is_module_known = !is_module_known;
    if (!matches(pattern, text))
        fail_msg("'%s' does not match '%s'", pattern, text);
    is_module_known = !is_module_known;
    if (!matches(pattern, text))
        fail_msg("'%s' does not match '%s'", pattern, text);
}

static void check_no(const char *pattern, const char *text)
{
    is_module_known = !is_module_known;
    if (matches(pattern, text))
        fail_msg("'%s' matches '%s'", pattern, text);
    is_module_known = !is_module_known;
    if (matches(pattern, text))
        fail_msg("'%s' matches '%s'", pattern, text);
}

static void names_are_found_where_they_are_needed(void **state)
{
    static const char text[] = "a.so!f>b.so!g";

    (void)state;
    is_module_known = true;
    check_yes("a.so", text);
    check_yes("* > b.so", text);
    check_no("c.so!*", text);
    check_no("*!h", text);
    is_module_known = true;
    frames_asked = 0;
    assert_true(matches("a.so", text) && matches("** > b.so", text));
    assert_false(matches("c.so!*", text) || matches("*!h", text) || matches("a.so > *!h", text));
    assert_int_equal(frames_asked, 0);
    assert_true(matches("*!f*", text) && frames_asked == 1);
    is_module_known = false;
}

static void frames_are_matched_from_the_innermost(void **state)
{
    (void)state;
    check_yes("a.so!f", "a.so!f");
    check_yes("a.so!f", "a.so!f>b.so!g");
    check_yes("a.so!f > b.so!g", "a.so!f>b.so!g>c.so!h");
    check_yes("a.so!f>b.so!g", "a.so!f>b.so!g");
    check_yes("  a.so!f\t>  b.so!g  ", "a.so!f>b.so!g");
    check_no("b.so!g", "a.so!f>b.so!g");
    check_no("a.so!f > c.so!h", "a.so!f>b.so!g>c.so!h");
    check_no("a.so!f > b.so!g", "a.so!f");
    check_no("a.so!f", "a.so!ff");
    check_no("a.so!ff", "a.so!f");
}

static void a_module_alone_matches_any_frame_of_it(void **state)
{
    (void)state;
    check_yes("a.so", "a.so!f");
    check_yes("a.so", "a.so");
    check_no("a.so", "aa.so");
    check_yes("a.so!*", "a.so!f");
    check_no("a.so!*", "a.so");
    check_no("a.so!f", "a.so");
    check_yes("?", "?>b.so");
}

static void a_star_stands_for_any_characters_of_one_name(void **state)
{
    (void)state;
    check_yes("*", "a.so!f");
    check_yes("*", "a.so");
    check_yes("*!f", "a.so!f");
    check_yes("lib*.so!_ZN*alloc*", "libc10.so!_ZN3c109alloc_cpuEm");
    check_yes("libc10*", "libc10.so!x");
    check_yes("a*b*c", "aXbYbZc");
    check_yes("a*b*c", "abc");
    check_yes("*abab", "ababab");
    check_no("a*b*c", "aXbYbZ");
    check_no("*!f*", "a.so!gf");
    check_no("*f*", "a.so!f");
    check_yes("*.so!*f*", "a.so!f");
}

static void two_stars_stand_for_any_frames(void **state)
{
    (void)state;
    check_yes("**", "a!f");
    check_yes("** > a!f", "a!f");
    check_yes("** > c!h", "a!f>b!g>c!h");
    check_yes("a!f > ** > c!h", "a!f>c!h");
    check_yes("a!f > ** > c!h", "a!f>b!g>b!g>c!h>d!i");
    check_yes("** > b!g > b!h", "b!g>b!g>b!h");
    check_yes("** > b > ** > d > **", "a>b>c>d");
    check_yes("a!f > **", "a!f");
    check_no("** > a!f > ** > c!h", "c!h>b!g>a!f");
    check_no("** > b > d", "a>b>c>d");
    check_no("** > a > * > ** > a", "a>b");
    check_no("** > **", "");
}

static void an_unknown_site_matches_nothing(void **state)
{
    (void)state;
    set_path("a!f");
    assert_false(berth__site_pattern_match("**", 0));
    assert_false(berth__site_pattern_match("a!f", 2));
}

static void mistakes_are_named(void **state)
{
    static const struct {
        const char *pattern, *why;
    } wrong[] = {
        {"", "empty"},
        {"   ", "empty"},
        {"> a", "begins with '>'"},
        {"a >", "ends in '>'"},
        {">", "begins with '>'"},
        {"a > > b", "frame 2"},
        {"a!b!c", "two '!'"},
        {"a!!b", "two '!'"},
        {"!f", "no module"},
        {"a > !f", "no module"},
        {"a!", "no symbol"},
        {"a! > b", "no symbol"},
        {"***", "'**' beside"},
        {"lib**.so", "'**' beside"},
        {"lib.so!f**", "'**' beside"},
        {"**!f", "'**' beside"},
        {"a!operator new(unsigned long)", "linker's name"},
        {"libc10.so!c10::alloc_cpu", "linker's name"},
        {"c10::alloc_cpu", "function's name"},
        {"std::vector<int>", "function's name"},
        {"a!f<int>", "linker's name"},
        {"/usr/lib/a.so!f", "directory"},
        {"a!f+0x1f", "offset"},
        {"a.so+0x1f", "offset"},
        {"a\n!f", "control character"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char why[256] = "";
        int r = berth__site_pattern_check(wrong[i].pattern, why, sizeof(why));

        if (r != -EINVAL || !strstr(why, wrong[i].why) || !strstr(why, "; expected"))
            fail_msg("'%s': %d, '%s' does not say \"%s\"", wrong[i].pattern, r, why, wrong[i].why);
    }
}

static void unusual_names_are_accepted(void **state)
{
    static const char *const right[] = {"libstdc++.so.6!_Znwm",
                                        "[vdso]!__vdso_time",
                                        "my app!main",
                                        "a!f.constprop.0",
                                        "a!f$b",
                                        "?",
                                        "a+0x",
                                        "libx+1.so"};

    (void)state;
    for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
        char why[256] = "";

        if (berth__site_pattern_check(right[i], why, sizeof(why)) != 0)
            fail_msg("'%s' was refused: %s", right[i], why);
    }
}

static void a_reason_fits_any_buffer(void **state)
{
    char pattern[20000];
    char why[16];

    (void)state;
    memset(pattern, '!', sizeof(pattern) - 1);
    pattern[sizeof(pattern) - 1] = '\0';
    assert_int_equal(berth__site_pattern_check(pattern, why, sizeof(why)), -EINVAL);
    assert_int_equal(strlen(why), sizeof(why) - 1);
}

/* Counted, not timed: how often a frame's name is asked for. */
static void time_does_not_explode(void **state)
{
    char pattern[4096] = "";

    (void)state;
    for (unsigned i = 0; i < BERTH_SITE_FRAMES_MAX; i++)
        path[i] = (struct berth_site_frame){"a", "f", 0};
    path_depth = BERTH_SITE_FRAMES_MAX;
    for (unsigned i = 0; i < 60; i++)
        strcat(pattern, "** > a!f > ");
    strcat(pattern, "b");
    frames_asked = 0;
    assert_false(berth__site_pattern_match(pattern, 1));
    assert_in_range(frames_asked, 1, 61 * BERTH_SITE_FRAMES_MAX);
    pattern[0] = '\0';
    for (unsigned i = 0; i < 60; i++)
        strcat(pattern, i ? ">**" : "**");
    assert_true(berth__site_pattern_match(pattern, 1));
    strcat(pattern, ">b");
    assert_false(berth__site_pattern_match(pattern, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_found_where_they_are_needed),
        cmocka_unit_test(frames_are_matched_from_the_innermost),
        cmocka_unit_test(a_module_alone_matches_any_frame_of_it),
        cmocka_unit_test(a_star_stands_for_any_characters_of_one_name),
        cmocka_unit_test(two_stars_stand_for_any_frames),
        cmocka_unit_test(an_unknown_site_matches_nothing),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(unusual_names_are_accepted),
        cmocka_unit_test(a_reason_fits_any_buffer),
        cmocka_unit_test(time_does_not_explode),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
