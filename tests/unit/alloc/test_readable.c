/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of which the kernel tells whether it can be read. */
#include "alloc/readable.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#define PAGE ((size_t)4096)

static void memory_is_readable_as_it_is_protected(void **state)
{
    static const int protection[] = {PROT_READ, PROT_NONE, PROT_READ | PROT_EXEC,
                                     PROT_READ | PROT_WRITE};
    char *p = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    assert_ptr_not_equal(p, MAP_FAILED);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(mprotect(p + i * PAGE, PAGE, protection[i]), 0);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(berth__is_readable(p + i * PAGE), protection[i] != PROT_NONE);
        assert_int_equal(berth__is_readable(p + (i + 1) * PAGE - 1), protection[i] != PROT_NONE);
    }
    munmap(p, 4 * PAGE);
    assert_false(berth__is_readable(p));
    assert_false(berth__is_readable(NULL));
    /* No address of a program's. */
    assert_false(berth__is_readable((const void *)(UINTPTR_MAX - 15)));
}

/* A program that walks its stack by libunwind has that asked, and natively errno stays. */
static void who_asks_keeps_errno(void **state)
{
    int of_stack = 0;

    (void)state;
    errno = ENOSPC;
    assert_true(berth__is_readable(&of_stack));
    assert_int_equal(errno, ENOSPC);
    assert_false(berth__is_readable(NULL));
    assert_int_equal(errno, ENOSPC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_readable_as_it_is_protected),
        cmocka_unit_test(who_asks_keeps_errno),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
