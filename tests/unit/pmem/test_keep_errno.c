/* SPDX-License-Identifier: Apache-2.0 */
/* How jemalloc gives memory back in a program's sandbox. */
#include "alloc/sandbox.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define PAGE ((size_t)4096)

int berth_je_madvise(void *address, size_t size, int advice);

static bool is_filled(const char *p, char with)
{
    return p[0] == with && memcmp(p, p + 1, PAGE - 1) == 0;
}

/* What is not given back is used for no larger block, and a program that grows would have all. */
static void memory_is_given_back_in_a_sandbox(void **state)
{
    char *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    unsigned char there[4];

    (void)state;
    assert_ptr_not_equal(p, MAP_FAILED);
    memset(p, 'x', 4 * PAGE);
    berth__sandbox_enter();
    errno = ENOSPC;
    assert_int_equal(berth_je_madvise(p + PAGE, 2 * PAGE, MADV_DONTNEED), 0);
    /* What jemalloc can do without. */
    assert_int_equal(berth_je_madvise(p, PAGE, MADV_FREE), -1);
    assert_int_equal(errno, ENOSPC);
    berth__sandbox_leave();
    assert_int_equal(mincore(p, 4 * PAGE, there), 0);
    assert_true((there[0] & 1) && !(there[1] & 1) && !(there[2] & 1) && (there[3] & 1));
    assert_true(is_filled(p, 'x') && is_filled(p + 3 * PAGE, 'x'));
    assert_true(is_filled(p + PAGE, 0) && is_filled(p + 2 * PAGE, 0));
    munmap(p, 4 * PAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_given_back_in_a_sandbox),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
