/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: sizes are read exactly or refused, never rounded or wrapped; what is printed is right in
 * every locale. Method: a table of texts, and numbers at every border.
 */
#include "alloc/quantity.h"

#include <errno.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void sizes_are_read_exactly(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } right[] = {
        {"0", 0},
        {"4096", 4096},
        {"64K", 65536},
        {"64k", 65536},
        {"64KB", 65536},
        {"64KiB", 65536},
        {"1.5G", (uint64_t)3 << 29},
        {"2GB", (uint64_t)2 << 30},
        {"0.5K", 512},
        {"1.0", 1},
        {"7B", 7},
        {"00012", 12},
        {"1T", (uint64_t)1 << 40},
        {"15E", (uint64_t)15 << 60},
        {"18446744073709551615", UINT64_MAX},
        {"15.9375E", (uint64_t)255 << 56},
        {"0.0009765625K", 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
        uint64_t bytes = 77;

        assert_int_equal(berth__quantity_parse(right[i].text, strlen(right[i].text), &bytes), 0);
        if (bytes != right[i].bytes)
            fail_msg("'%s' is read as %llu", right[i].text, (unsigned long long)bytes);
    }
}

static void what_is_no_size_is_refused_and_nothing_changes(void **state)
{
    static const struct {
        const char *text;
        int error;
    } wrong[] = {
        {"", -EINVAL},
        {"K", -EINVAL},
        {"-1", -EINVAL},
        {"+1", -EINVAL},
        {" 1", -EINVAL},
        {"1 ", -EINVAL},
        {"1 K", -EINVAL},
        {"1.", -EINVAL},
        {".5K", -EINVAL},
        {"1.5", -EINVAL},
        {"0.3K", -EINVAL},
        {"1e3", -EINVAL},
        {"0x10", -EINVAL},
        {"1KK", -EINVAL},
        {"1KiBs", -EINVAL},
        {"1iB", -EINVAL},
        {"1,5G", -EINVAL},
        {"1Q", -EINVAL},
        {"1.5.5K", -EINVAL},
        {"16E", -ERANGE},
        {"18446744073709551616", -ERANGE},
        {"99999999999999999999999", -ERANGE},
        {"18014398509481984K", -ERANGE},
        {"17179869184G", -ERANGE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        uint64_t bytes = 77;
        int r = berth__quantity_parse(wrong[i].text, strlen(wrong[i].text), &bytes);

        if (r != wrong[i].error || bytes != 77)
            fail_msg("'%s': %d, %llu", wrong[i].text, r, (unsigned long long)bytes);
    }
}

static void the_length_ends_the_text(void **state)
{
    uint64_t bytes = 0;

    (void)state;
    assert_int_equal(berth__quantity_parse("64KG", 3, &bytes), 0);
    assert_int_equal(bytes, 65536);
    assert_int_equal(berth__quantity_parse("64\0K", 4, &bytes), -EINVAL);
    assert_int_equal(berth__quantity_parse("1", 0, &bytes), -EINVAL);
}

static void check_format(uint64_t bytes, const char *expected)
{
    char text[BERTH_QUANTITY_TEXT_MAX];

    assert_string_equal(berth__quantity_format(bytes, text), expected);
}

static void numbers_are_written_with_three_digits_or_more(void **state)
{
    (void)state;
    check_format(0, "0 B");
    check_format(1023, "1023 B");
    check_format(1024, "1.00 KiB");
    check_format(65536, "64.0 KiB");
    check_format((uint64_t)3 << 29, "1.50 GiB");
    check_format(1048575, "1.00 MiB");
    check_format(1047552, "1023.0 KiB");
    check_format(((uint64_t)1 << 40) - 1, "1.00 TiB");
    check_format(10239, "10.0 KiB");
    check_format(10235, "10.0 KiB");
    check_format(10200, "9.96 KiB");
    check_format(UINT64_MAX, "16.0 EiB");
}

static void the_locale_does_not_matter(void **state)
{
    static const char *const locales[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "ps_AF"};
    bool changed = false;

    (void)state;
    for (size_t i = 0; i < 4 && !changed; i++)
        changed = setlocale(LC_ALL, locales[i]) != NULL;
    if (!changed) {
        print_message("[          ] no locale with a decimal comma is installed\n");
        skip();
    }
    check_format(1536, "1.50 KiB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_read_exactly),
        cmocka_unit_test(what_is_no_size_is_refused_and_nothing_changes),
        cmocka_unit_test(the_length_ends_the_text),
        cmocka_unit_test(numbers_are_written_with_three_digits_or_more),
        cmocka_unit_test(the_locale_does_not_matter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
