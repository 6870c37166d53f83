/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: base64 as RFC 4648 writes it (its test vectors), and nothing else is read. */
#include "ipc/base64.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void the_standards_own_examples(void **state)
{
    static const char *const plain[] = {"", "f", "fo", "foo", "foob", "fooba", "foobar"};
    static const char *const coded[] = {"",         "Zg==",     "Zm8=",    "Zm9v",
                                        "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};

    for (int i = 0; i < 7; i++) {
        char text[16], bytes[16];
        size_t size = 99;

        assert_string_equal(berth__base64_encode(plain[i], strlen(plain[i]), text), coded[i]);
        assert_true(strlen(text) + 1 == BERTH_BASE64_TEXT_SIZE(strlen(plain[i])));
        assert_int_equal(berth__base64_decode(text, strlen(text), bytes, &size), 0);
        assert_int_equal(size, strlen(plain[i]));
        assert_memory_equal(bytes, plain[i], size);
    }
}

static void every_byte_survives(void **state)
{
    unsigned char bytes[768], back[768];
    char text[BERTH_BASE64_TEXT_SIZE(sizeof(bytes))];
    size_t size = 0;

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(i * 7 + i / 256);
    berth__base64_encode(bytes, sizeof(bytes), text);
    assert_int_equal(berth__base64_decode(text, strlen(text), back, &size), 0);
    assert_int_equal(size, sizeof(bytes));
    assert_memory_equal(back, bytes, sizeof(bytes));
}

static void what_is_not_base64_is_refused(void **state)
{
    static const char *const wrong[] = {"Z",     "Zg",   "Zg=",  "Z===",     "====", "Zg=a",
                                        "Zm9\n", "Zm 9", "Zm9-", "Zg==Zm9v", "Zh=="};

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char bytes[16];
        size_t size = 99;

        assert_int_equal(berth__base64_decode(wrong[i], strlen(wrong[i]), bytes, &size), -EINVAL);
        assert_int_equal(size, 99);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_standards_own_examples),
        cmocka_unit_test(every_byte_survives),
        cmocka_unit_test(what_is_not_base64_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
