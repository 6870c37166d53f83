/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a policy says what it means, and every mistake in it is told, with its line.
 * Method: mistakes.policy marks each mistake by `#!` and a part of what is to be said; the other
 * cases are short texts.
 */
#include "pmem/table_build.h"
#include "tools/berth/policy_file.h"
#include "tools/berth/policy_show.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *mistakes_path;

/* All that is said of a file's content: "LINE: text" lines. The caller frees it. */
static char *said_of(const char *text, size_t size, struct berth_policy_file *ret)
{
    struct berth_complaints complaints = {0};
    char *copy = malloc(size + 1);
    char *said = NULL;
    size_t said_size;
    FILE *to = open_memstream(&said, &said_size);
    int r;

    memcpy(copy, text, size);
    copy[size] = '\0';
    *ret = (struct berth_policy_file){0};
    r = berth__policy_load_bytes(copy, size, &complaints, ret);
    assert_int_equal(r, complaints.errors == 0 ? 0 : -EINVAL);
    berth__complaints_print(&complaints, "F", true, to);
    berth__complaints_done(&complaints);
    fclose(to);
    free(copy);
    return said;
}

/* Asserts that the text is refused, or only warned of, with exactly this line (and no other). */
static void assert_said(const char *text, const char *expected)
{
    struct berth_policy_file file;
    char *said = said_of(text, strlen(text), &file);

    if (!strstr(said, expected) || strchr(said, '\n') != strrchr(said, '\n'))
        fail_msg("of:\n%s\nwas said:\n%s\nexpected one line with: %s", text, said, expected);
    free(said);
    free(file.bytes);
}

static struct berth_policy_file compiled(const char *text)
{
    struct berth_policy_file file;
    char *said = said_of(text, strlen(text), &file);

    assert_string_equal(said, "");
    free(said);
    return file;
}

static char *read_mistakes(void)
{
    FILE *from = fopen(mistakes_path, "re");
    char *text = NULL;
    size_t room = 0;
    ssize_t size;

    assert_non_null(from);
    size = getdelim(&text, &room, '\0', from);
    assert_true(size > 0);
    fclose(from);
    return text;
}

/* Strikes out the first "LINE: ..." in `said` that has `expected` in it. */
static bool strike(char *said, unsigned line, const char *expected, size_t length)
{
    char prefix[32];
    char *at = said;

    snprintf(prefix, sizeof(prefix), "F:%u: ", line);
    for (; *at; at += strcspn(at, "\n") + 1) {
        size_t end = strcspn(at, "\n");
        char *found;

        if (strncmp(at, prefix, strlen(prefix)) != 0)
            continue;
        found = memmem(at, end, expected, length);
        if (found) {
            at[0] = 'x';
            return true;
        }
    }
    return false;
}

static unsigned strike_line(char *said, unsigned line, const char *text, size_t length)
{
    const char *mark = memmem(text, length, "#! ", 3);
    unsigned missing = 0;

    while (mark && line > 1) {
        const char *begin = mark + 3;
        const char *next = memmem(begin, (size_t)(text + length - begin), " #! ", 4);
        const char *end = next ? next : text + length;

        if (!strike(said, line, begin, (size_t)(end - begin))) {
            print_error("line %u: not said: %.*s\n", line, (int)(end - begin), begin);
            missing++;
        }
        mark = next ? next + 1 : NULL;
    }
    return missing;
}

static void every_mistake_is_told_with_its_line(void **state)
{
    char *text = read_mistakes();
    struct berth_policy_file file;
    char *said = said_of(text, strlen(text), &file);
    unsigned missing = 0;
    unsigned line = 1;

    assert_null(file.bytes);
    for (const char *at = text; *at; line++) {
        size_t length = strcspn(at, "\n");

        missing += strike_line(said, line, at, length);
        at += length + (at[length] == '\n');
    }
    for (const char *at = said; *at; at += strcspn(at, "\n") + 1)
        if (*at == 'F') {
            print_error("not expected: %.*s\n", (int)strcspn(at, "\n"), at);
            missing++;
        }
    assert_int_equal(missing, 0);
    free(said);
    free(text);
}

static void what_is_not_text_is_told(void **state)
{
    static const char nul[] = "tier a {\n kind = dr\0am\n}\nrule r { place = a }\n";
    struct berth_policy_file file;
    char *said = said_of(nul, sizeof(nul) - 1, &file);

    assert_non_null(strstr(said, "F:2: there is a NUL byte"));
    free(said);
    assert_said("\x01", "F:1: there is a control character (1)");
    assert_said("rule r {\n thread = \"a\tb\" place = dram\n}",
                "F:2: there is a control character (9)");
    assert_said("rule r\x01 { place = dram }", "F:1: there is a control character (1)");
    assert_said("rule r { place = dram }\n/* open", "F:2: the comment is not closed");
}

/* One mistake is one complaint: what it hid is not missing, what repeats is not unused. */
static void what_follows_from_a_mistake_is_not_told(void **state)
{
    assert_said("rule r { thread = \"${\" place = dram }", "F:1: '${' does not name a variable");
    assert_said("rule r { tag weight place = dram }", "F:1: '=' is missing behind 'tag'");
    assert_said("rule r { thread = \"a\\q\" place = dram }", "F:1: '\\q' is not an escape");
    assert_said("tier t { kind = dram }\ntier t { kind = dram }\nrule r { place = t }",
                "F:2: tier 't' exists twice");
}

/*
 * libconfuse lets a value grow by 32 bytes at a time, and a sanitizer's realloc() copies all of it
 * each time.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LONG_VALUE (1 << 17)
#else
#define LONG_VALUE (1 << 20)
#endif

static void a_long_value_is_told_in_part(void **state)
{
    struct berth_policy_file file;
    char *text, *said;

    assert_true(asprintf(&text, "rule r { place = '%0*d' }", LONG_VALUE, 0) > LONG_VALUE);
    said = said_of(text, strlen(text), &file);
    assert_in_range(strlen(said), 100, 4000);
    assert_non_null(strstr(said, "F:1: place '000"));
    assert_non_null(strstr(said, "expected the name of a tier section"));
    free(said);
    free(text);
}

static void a_word_has_a_longest_length(void **state)
{
    static const char head[] = "rule r { place = ";
    char text[8192] = {0};

    memcpy(text, head, sizeof(head) - 1);
    memset(text + sizeof(head) - 1, 'x', 4097);
    strcpy(text + sizeof(head) - 1 + 4097, " }");
    assert_said(text, "F:1: a word has 4097 characters; expected at most 4096");
    strcpy(text + sizeof(head) - 1 + 4096, " }");
    assert_said(text, "is no tier");
}

/* Nothing that a terminal would obey is printed, whoever wrote it. */
static void what_is_told_has_no_control_characters(void **state)
{
    struct berth_policy_file file;
    static const char text[] = "rule r { place = \"a\xc2\x9b\x32J\" }";
    char *said = said_of(text, sizeof(text) - 1, &file);

    assert_non_null(strstr(said, "F:1: place 'a?2J' is no tier"));
    free(said);
}

static void an_empty_policy_is_one_without_rules(void **state)
{
    assert_said("", "F: warning: there is no rule");
    assert_said("# only a comment", "F: warning: there is no rule");
    assert_said("\n\n/* and\n another */ // one\n", "F: warning: there is no rule");
}

static void lines_are_right_behind_comments_and_lists(void **state)
{
    assert_said(
        "/* 1\n 2\n*/ # 3\n\nrule r { # 5\n place = { # 6\n dram, // 7\n /* 8\n */ nowhere }\n}",
        "F:9: place 'nowhere'");
    assert_said("rule r {\r\n place = dram\r\n min-size = x\r\n}\r\n", "F:3: min-size: 'x'");
}

static void kinds_that_are_not_served_are_warned_of(void **state)
{
    assert_said("tier t { kind = pinned }\nrule r { place = t }",
                "F:1: warning: kind pinned is served by the built-in tier 'pinned' only");
    free(compiled("tier t { kind = device }\nrule r { place = t }").bytes);
}

static void a_place_that_takes_nothing_is_warned_of(void **state)
{
    assert_said("rule r {\n place = { pinned, dram } }", "F:2: warning: place 'pinned' takes no");
}

static void a_byte_order_mark_is_no_mistake(void **state)
{
    free(compiled("\xef\xbb\xbfrule r { place = dram }").bytes);
    assert_said("\xef\xbb\xbf\xef\xbb\xbfrule r { place = dram }", "is no section");
}

static void very_long_values_are_not_cut(void **state)
{
    size_t length = LONG_VALUE;
    char *pattern = malloc(length + 1);
    struct berth_table_view view;
    struct berth_policy_file file;
    struct berth_rule_info rule;
    char why[256];
    char *text;

    memset(pattern, 'a', length);
    pattern[length] = '\0';
    assert_true(asprintf(&text, "rule r { site = \"%s\" place = dram }", pattern) > 0);
    file = compiled(text);
    assert_int_equal(berth__table_open(file.bytes, file.size, &view, why, sizeof(why)), 0);
    berth__table_rule_info(&view, 0, &rule);
    assert_string_equal(rule.pattern, pattern);
    free(pattern);
    free(text);
    free(file.bytes);
}

static void a_rule_behind_one_that_takes_all_is_warned_of(void **state)
{
    assert_said("rule a { place = dram }\nrule b { tag = kv place = dram }",
                "F:2: warning: rule 'b' never matches, because rule 'a' in line 1");
    assert_said(
        "rule a { min-size = 1M place = dram }\nrule b { min-size = 2M site = \"x\" place = "
        "dram }",
        "F:2: warning: rule 'b' never matches");
    /* Not when the earlier one is narrower in any way. */
    free(compiled("rule a { site = \"x\" place = dram } rule b { place = dram }").bytes);
    free(compiled("rule a { tag = kv place = dram } rule b { place = dram }").bytes);
    free(compiled("rule a { place = device } rule b { place = dram }").bytes);
    free(compiled("rule a { thread = x place = dram } rule b { place = dram }").bytes);
    free(compiled("rule a { sequence = 0-5 place = dram } rule b { place = dram }").bytes);
}

static void variables_are_expanded_in_double_quotes_only(void **state)
{
    struct berth_table_view view;
    struct berth_tier_config tier;
    struct berth_policy_file file;
    struct berth_rule_info rule;
    char why[256];

    setenv("BERTH_TEST_DIR", "/tmp", 1);
    file =
        compiled("tier t { kind = file path = \"${BERTH_TEST_DIR}\" }\n"
                 "rule r { site = 'a${X}\\'\\\\' thread = \"\\${X}${BERTH_UNSET:-y}\" place = t }");
    assert_int_equal(berth__table_open(file.bytes, file.size, &view, why, sizeof(why)), 0);
    berth__table_tier_info(&view, 0, &tier, NULL);
    assert_string_equal(tier.path, "/tmp");
    berth__table_rule_info(&view, 0, &rule);
    assert_string_equal(rule.pattern, "a${X}'\\");
    assert_string_equal(rule.thread, "${X}y");
    free(file.bytes);
    assert_said("rule r { place = \"${}\" }", "'${' does not name a variable");
    assert_said("rule r { place = \"${A B}\" }", "'${' does not name a variable");
    setenv("BERTH_TEST_DIR", "/a\nb", 1);
    assert_said("rule r { place = dram thread = \"${BERTH_TEST_DIR}\" }",
                "a variable in it has a control character");
}

static void more_tiers_than_a_process_can_have_are_refused(void **state)
{
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);

    for (int i = 0; i <= BERTH_TABLE_TIERS_MAX; i++)
        fprintf(to,
                "tier t%d { kind = dram }\nrule r%d { min-size = %d max-size = %d place = t%d }\n",
                i, i, i, i, i);
    fclose(to);
    assert_said(text, "F:123: there are more tiers than a process can have");
    free(text);
}

static char *text_of(const struct berth_policy_file *file)
{
    struct berth_table_view view;
    char why[256];
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);

    assert_int_equal(berth__table_open(file->bytes, file->size, &view, why, sizeof(why)), 0);
    berth__policy_show_text(&view, to);
    fclose(to);
    return text;
}

/* A table says its source lines; everything else must be as it was. */
static void forget_lines(struct berth_policy_file *file)
{
    struct berth_table_header *header = file->bytes;
    char *base = file->bytes;
    struct berth_tier_entry *tiers = (void *)(base + header->tiers.offset);
    struct berth_site_entry *sites = (void *)(base + header->sites.offset);
    struct berth_rule_entry *rules = (void *)(base + header->rules.offset);

    for (uint32_t i = 0; i < header->tiers.count; i++)
        tiers[i].line = 0;
    for (uint32_t i = 0; i < header->sites.count; i++)
        sites[i].line = 0;
    for (uint32_t i = 0; i < header->rules.count; i++)
        rules[i].line = 0;
    header->checksum = 0;
}

static void a_table_shown_as_text_compiles_to_itself(void **state)
{
    struct berth_policy_file first = compiled(
        "options { record-threshold = 1M site-depth = 7 }\n"
        "tier f { kind = file path = '/tmp' capacity = 1.5G fork = share fork-copy-max = 3M "
        "decay = never }\n"
        "tier d { kind = dram decay = 1500ms }\n"
        "tier h { kind = shared from = '/run/x y.sock' name = w offset = 2M size = 64M }\n"
        "tier i { kind = shared from = 4711 }\n"
        "tier k { kind = file path = '/tmp' name = kept verify = full huge-pages = always }\n"
        "tier l { kind = dram huge-pages = advise }\n"
        "site s { path = \"a!b\\\"\\\\ > ** > 'c\" tag = kv side = host min-size = 1 max-size = 5 "
        "}\n"
        "rule a { tag = { kv, weight } side = host min-size = 1025 max-size = 2T site = \"x>**\" "
        "thread = \"w?rk*\" sequence = 3- place = { f, d, dram } }\n"
        "rule b { sequence = 0-99 movable = yes place = { h, i, k, l, device, dram } }\n");
    struct berth_policy_file second;
    char *text = text_of(&first);

    second = compiled(text);
    forget_lines(&first);
    forget_lines(&second);
    assert_int_equal(first.size, second.size);
    assert_memory_equal(first.bytes, second.bytes, first.size);
    free(text);
    free(first.bytes);
    free(second.bytes);
}

static void json_says_all_and_survives_odd_bytes(void **state)
{
    struct berth_policy_file file =
        compiled("rule r { site = \"m\xff\" min-size = 64K place = dram }");
    struct berth_table_view view;
    char why[256];
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);

    assert_int_equal(berth__table_open(file.bytes, file.size, &view, why, sizeof(why)), 0);
    assert_int_equal(berth__policy_show_json(&view, to), 0);
    fclose(to);
    assert_non_null(strstr(text, "\"min_size\": 65536"));
    assert_non_null(strstr(text, "\"site\": \"m\xef\xbf\xbd\""));
    free(text);
    free(file.bytes);
}

static void what_is_no_file_is_told(void **state)
{
    static const struct {
        const char *path, *expected;
    } cases[] = {
        {"/nonexistent/x.policy", "/nonexistent/x.policy: it cannot be read: No such file"},
        {"/tmp", "/tmp: it cannot be read: Is a directory"},
        {"/dev/zero", "/dev/zero: it is larger than 64 MiB"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *said = NULL;
        size_t size;
        FILE *to = open_memstream(&said, &size);
        void *bytes = &size;

        assert_int_equal(berth__policy_compile_file(cases[i].path, to, &bytes, &size), -EINVAL);
        fclose(to);
        assert_ptr_equal(bytes, &size);
        if (strncmp(said, cases[i].expected, strlen(cases[i].expected)) != 0)
            fail_msg("said: %s expected: %s", said, cases[i].expected);
        free(said);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mistake_is_told_with_its_line),
        cmocka_unit_test(what_is_not_text_is_told),
        cmocka_unit_test(what_follows_from_a_mistake_is_not_told),
        cmocka_unit_test(a_long_value_is_told_in_part),
        cmocka_unit_test(a_word_has_a_longest_length),
        cmocka_unit_test(what_is_told_has_no_control_characters),
        cmocka_unit_test(an_empty_policy_is_one_without_rules),
        cmocka_unit_test(lines_are_right_behind_comments_and_lists),
        cmocka_unit_test(kinds_that_are_not_served_are_warned_of),
        cmocka_unit_test(a_place_that_takes_nothing_is_warned_of),
        cmocka_unit_test(a_byte_order_mark_is_no_mistake),
        cmocka_unit_test(very_long_values_are_not_cut),
        cmocka_unit_test(a_rule_behind_one_that_takes_all_is_warned_of),
        cmocka_unit_test(variables_are_expanded_in_double_quotes_only),
        cmocka_unit_test(more_tiers_than_a_process_can_have_are_refused),
        cmocka_unit_test(a_table_shown_as_text_compiles_to_itself),
        cmocka_unit_test(json_says_all_and_survives_odd_bytes),
        cmocka_unit_test(what_is_no_file_is_told),
    };

    if (argc != 2) {
        fputs("usage: test_policy MISTAKES\n", stderr);
        return 2;
    }
    mistakes_path = argv[1];
    unsetenv("BERTH_NOT_SET");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
