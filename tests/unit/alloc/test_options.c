/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: an option has the value of its strongest origin; what is wrong is explained and changes
 * nothing. Method: every option of the table is tried at and beyond its limits; the tests run in
 * order, because an origin that was used stays.
 */
#include "alloc/options.h"

#include "alloc/quantity.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char why[BERTH_OPTION_WHY_MAX];

static int set(const char *name, const char *value, enum berth_origin origin)
{
    why[0] = '\0';
    return berth__option_set(name, strlen(name), value, strlen(value), origin, why);
}

/* First of all: nothing has been set yet. */
static void defaults_are_those_of_the_table_and_valid(void **state)
{
    (void)state;
    for (int i = 0; i < BERTH_OPTION_COUNT; i++) {
        const struct berth_option_info *info = &berth__option_info[i];

        assert_int_equal(berth__option((enum berth_option)i), info->fallback);
        assert_int_equal(berth__option_origin((enum berth_option)i), BERTH_ORIGIN_DEFAULT);
        assert_true(strlen(info->help) > 0);
        if (info->type != BERTH_OPTION_CHOICE)
            assert_in_range(info->fallback, info->least, info->most);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(info->name, berth__option_info[j].name);
    }
}

static void texts_of_defaults_are_accepted_as_values(void **state)
{
    (void)state;
    for (int i = 0; i < BERTH_OPTION_COUNT; i++) {
        char text[BERTH_OPTION_TEXT_MAX];
        char *space;

        berth__option_text((enum berth_option)i, text);
        space = strchr(text, ' ');
        if (space)
            memmove(space, space + 1, strlen(space));
        if (set(berth__option_info[i].name, text, BERTH_ORIGIN_DEFAULT) != 0)
            fail_msg("%s", why);
        assert_int_equal(berth__option_origin((enum berth_option)i), BERTH_ORIGIN_DEFAULT);
    }
}

static void limits_are_kept(void **state)
{
    (void)state;
    for (int i = 0; i < BERTH_OPTION_COUNT; i++) {
        const struct berth_option_info *info = &berth__option_info[i];
        char text[32];

        if (info->type == BERTH_OPTION_CHOICE)
            continue;
        snprintf(text, sizeof(text), "%llu", (unsigned long long)info->most);
        assert_int_equal(set(info->name, text, BERTH_ORIGIN_DEFAULT), 0);
        snprintf(text, sizeof(text), "%llu", (unsigned long long)info->most + 1);
        assert_int_equal(set(info->name, text, BERTH_ORIGIN_DEFAULT), -ERANGE);
        assert_non_null(strstr(why, "; expected"));
        assert_non_null(strstr(why, info->name));
        if (info->least > 0) {
            snprintf(text, sizeof(text), "%llu", (unsigned long long)info->least - 1);
            assert_int_equal(set(info->name, text, BERTH_ORIGIN_DEFAULT), -ERANGE);
        }
        assert_int_equal(berth__option((enum berth_option)i), info->fallback);
    }
}

static void what_is_wrong_is_said(void **state)
{
    static const struct {
        const char *name, *value;
        int error;
    } wrong[] = {
        {"", "1", -ENOENT},
        {"sites-depth", "1", -ENOENT},
        {"site-dept", "1", -ENOENT},
        {"Site-depth", "1", -ENOENT},
        {"site-depth", "", -EINVAL},
        {"site-depth", "32K", -EINVAL},
        {"site-depth", "-1", -EINVAL},
        {"site-depth", "99999999999999999999999999", -ERANGE},
        {"control", "", -EINVAL},
        {"control", "alway", -EINVAL},
        {"control", "auto|always", -EINVAL},
        {"control", "alwayss", -EINVAL},
        {"record-threshold", "64 K", -EINVAL},
        {"record-threshold", "99999999999T", -ERANGE},
    };
    char longer[1000];

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(set(wrong[i].name, wrong[i].value, BERTH_ORIGIN_ENVIRONMENT),
                         wrong[i].error);
        assert_non_null(strstr(why, "; expected"));
    }
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_int_equal(set(longer, "1", BERTH_ORIGIN_ENVIRONMENT), -ENOENT);
    assert_non_null(strstr(why, "; expected"));
    assert_int_equal(set("control", longer, BERTH_ORIGIN_ENVIRONMENT), -EINVAL);
    assert_non_null(strstr(why, "auto|always|never"));
    assert_int_equal(berth__option(BERTH_OPTION_SITE_DEPTH), 32);
    assert_int_equal(berth__option_origin(BERTH_OPTION_CONTROL), BERTH_ORIGIN_DEFAULT);
}

static void the_stronger_origin_wins(void **state)
{
    char text[BERTH_OPTION_TEXT_MAX];

    (void)state;
    assert_int_equal(set("site-depth", "16", BERTH_ORIGIN_POLICY), 0);
    assert_int_equal(berth__option(BERTH_OPTION_SITE_DEPTH), 16);
    assert_int_equal(set("site-depth", "17", BERTH_ORIGIN_POLICY), 0);
    assert_int_equal(berth__option(BERTH_OPTION_SITE_DEPTH), 17);
    assert_int_equal(set("site-depth", "18", BERTH_ORIGIN_ENVIRONMENT), 0);
    assert_int_equal(set("site-depth", "19", BERTH_ORIGIN_POLICY), 0);
    assert_int_equal(berth__option(BERTH_OPTION_SITE_DEPTH), 18);
    assert_int_equal(berth__option_origin(BERTH_OPTION_SITE_DEPTH), BERTH_ORIGIN_ENVIRONMENT);
    assert_string_equal(berth__option_text(BERTH_OPTION_SITE_DEPTH, text), "18");
    assert_int_equal(set("control", "never", BERTH_ORIGIN_POLICY), 0);
    assert_int_equal(berth__option(BERTH_OPTION_CONTROL), BERTH_CONTROL_NEVER);
    assert_string_equal(berth__option_text(BERTH_OPTION_CONTROL, text), "never");
    assert_int_equal(set("record-threshold", "1.5M", BERTH_ORIGIN_POLICY), 0);
    assert_int_equal(berth__option(BERTH_OPTION_RECORD_THRESHOLD), 3 << 19);
}

struct complaints {
    int count;
    char last[BERTH_OPTION_WHY_MAX];
};

static void note(const char *text, void *context)
{
    struct complaints *c = context;

    c->count++;
    snprintf(c->last, sizeof(c->last), "%s", text);
}

static void a_list_sets_what_is_right_and_tells_the_rest(void **state)
{
    struct complaints c = {0, ""};

    (void)state;
    assert_int_equal(berth__options_parse(NULL, BERTH_ORIGIN_ENVIRONMENT, note, &c), 0);
    assert_int_equal(berth__options_parse("", BERTH_ORIGIN_ENVIRONMENT, note, &c), 0);
    assert_int_equal(berth__options_parse(",,", BERTH_ORIGIN_ENVIRONMENT, note, &c), 0);
    assert_int_equal(berth__options_parse("host=on,nothing,site-depth=0,=1,host=off,x=y",
                                          BERTH_ORIGIN_ENVIRONMENT, note, &c),
                     4);
    assert_int_equal(c.count, 4);
    assert_non_null(strstr(c.last, "'x'"));
    assert_int_equal(berth__option(BERTH_OPTION_HOST), BERTH_HOST_OFF);
    assert_int_equal(berth__options_parse("ipc-min=1M,bad", BERTH_ORIGIN_ENVIRONMENT, NULL, NULL),
                     1);
    assert_int_equal(berth__option(BERTH_OPTION_IPC_MIN), 1 << 20);
    assert_int_equal(
        berth__options_parse("segment-size=4M=5", BERTH_ORIGIN_ENVIRONMENT, NULL, NULL), 1);
}

static void origins_have_names(void **state)
{
    (void)state;
    assert_string_equal(berth__origin_name(BERTH_ORIGIN_DEFAULT), "default");
    assert_string_equal(berth__origin_name(BERTH_ORIGIN_POLICY), "policy");
    assert_string_equal(berth__origin_name(BERTH_ORIGIN_ENVIRONMENT), "environment");
    assert_string_equal(berth__origin_name((enum berth_origin)77), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_table_and_valid),
        cmocka_unit_test(texts_of_defaults_are_accepted_as_values),
        cmocka_unit_test(limits_are_kept),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(the_stronger_origin_wins),
        cmocka_unit_test(a_list_sets_what_is_right_and_tells_the_rest),
        cmocka_unit_test(origins_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
