/* SPDX-License-Identifier: Apache-2.0 */
/* Users by a uid_map, as the kernel writes it and as nobody should. */
#include "ipc/user_map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static uid_t outside(const char *map, uid_t uid)
{
    int fd = memfd_create("uid_map", MFD_CLOEXEC);
    size_t size = strlen(map);
    uid_t found;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, map, size), (ssize_t)size);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    found = berth__user_map_outside(fd, uid);
    close(fd);
    return found;
}

static void a_single_user_is_another_one(void **state)
{
    (void)state;
    assert_int_equal(outside("         0       1000          1\n", 0), 1000);
    assert_int_equal(outside("      1000          0          1\n", 1000), 0);
    assert_int_equal(outside("         0          0 4294967295\n", 1000), 1000);
}

static void each_line_has_its_users(void **state)
{
    static const char map[] = "         0     100000       1000\n"
                              "      1000       1000          1\n"
                              "      1001     101000      64535\n";

    (void)state;
    assert_int_equal(outside(map, 0), 100000);
    assert_int_equal(outside(map, 999), 100999);
    assert_int_equal(outside(map, 1000), 1000);
    assert_int_equal(outside(map, 1001), 101000);
    assert_int_equal(outside(map, 65535), 165534);
}

/* The kernel allows 340 lines. */
static void a_long_map_is_read_to_its_end(void **state)
{
    char map[340 * 33 + 1];

    (void)state;
    for (unsigned i = 0; i < 340; i++)
        snprintf(map + i * 33, 34, "%10u %10u %10u\n", i * 2, 5000 + i, 1);
    assert_int_equal(outside(map, 678), 5339);
    assert_int_equal(outside(map, 2), 5001);
}

static void a_user_without_a_line_stays_the_same(void **state)
{
    (void)state;
    assert_int_equal(outside("", 65534), 65534);
    assert_int_equal(outside("         0       1000          1\n", 1), 1);
    assert_int_equal(outside("         5       1000          1\n", 4), 4);
    assert_int_equal(berth__user_map_outside(-1, 7), 7);
}

static void what_is_no_map_tells_nothing(void **state)
{
    (void)state;
    assert_int_equal(outside("0 1000\n", 0), 0);
    assert_int_equal(outside("0 1000 1", 0), 0);
    assert_int_equal(outside("\n\n x\n", 0), 0);
    assert_int_equal(outside("0 1000 1 9\n", 1), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_single_user_is_another_one),
        cmocka_unit_test(each_line_has_its_users),
        cmocka_unit_test(a_long_map_is_read_to_its_end),
        cmocka_unit_test(a_user_without_a_line_stays_the_same),
        cmocka_unit_test(what_is_no_map_tells_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
