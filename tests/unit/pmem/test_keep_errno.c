/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How jemalloc gives memory back in a program's sandbox. The linker hands the mappings to this
 * file (--wrap, meson.build), which refuses them as a kernel does that counts what it promises.
 */
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

/* Whether the kernel counts; how it answers a mapping over others, and one elsewhere. */
static bool is_strict, refuses_over, refuses_more;

bool __wrap_berth__overcommit_is_strict(void);
void *__real_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset);

bool __wrap_berth__overcommit_is_strict(void)
{
    return is_strict;
}

/* Before Linux 6.12 what was there is gone when the promise is asked for. */
void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    if ((flags & MAP_FIXED) ? refuses_over : refuses_more) {
        if (flags & MAP_FIXED)
            munmap(address, size);
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return __real_mmap64(address, size, protection, flags, fd, offset);
}

static bool is_filled(const char *p, char with)
{
    return p[0] == with && memcmp(p, p + 1, PAGE - 1) == 0;
}

static char *four_pages(void)
{
    char *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    assert_ptr_not_equal(p, MAP_FAILED);
    memset(p, 'x', 4 * PAGE);
    return p;
}

/* The two in the middle, in a sandbox. */
static int give_back(char *p)
{
    int r;

    berth__sandbox_enter();
    errno = ENOSPC;
    r = berth_je_madvise(p + PAGE, 2 * PAGE, MADV_DONTNEED);
    assert_int_equal(errno, ENOSPC);
    berth__sandbox_leave();
    return r;
}

static void expect_given_back(char *p)
{
    unsigned char there[4];

    assert_int_equal(mincore(p, 4 * PAGE, there), 0);
    assert_true((there[0] & 1) && !(there[1] & 1) && !(there[2] & 1) && (there[3] & 1));
    assert_true(is_filled(p, 'x') && is_filled(p + 3 * PAGE, 'x'));
    assert_true(is_filled(p + PAGE, 0) && is_filled(p + 2 * PAGE, 0));
    munmap(p, 4 * PAGE);
}

/* What is not given back is used for no larger block, and a program that grows would have all. */
static void memory_is_given_back_in_a_sandbox(void **state)
{
    char *p = four_pages();

    (void)state;
    assert_int_equal(give_back(p), 0);
    berth__sandbox_enter();
    /* What jemalloc can do without. */
    assert_int_equal(berth_je_madvise(p, PAGE, MADV_FREE), -1);
    berth__sandbox_leave();
    expect_given_back(p);
}

static void memory_that_is_counted_is_given_back(void **state)
{
    char *p = four_pages();

    (void)state;
    is_strict = true;
    assert_int_equal(give_back(p), 0);
    is_strict = false;
    expect_given_back(p);
}

/* Other processes have had what was promised meanwhile. */
static void a_refused_mapping_leaves_no_hole(void **state)
{
    char *p = four_pages();

    (void)state;
    is_strict = refuses_over = true;
    assert_int_equal(give_back(p), 0);
    is_strict = refuses_over = false;
    expect_given_back(p);
}

static void nothing_changes_where_nothing_is_promised(void **state)
{
    char *p = four_pages();

    (void)state;
    is_strict = refuses_over = refuses_more = true;
    assert_int_equal(give_back(p), -1);
    is_strict = refuses_over = refuses_more = false;
    assert_true(is_filled(p + PAGE, 'x') && is_filled(p + 2 * PAGE, 'x'));
    munmap(p, 4 * PAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_given_back_in_a_sandbox),
        cmocka_unit_test(memory_that_is_counted_is_given_back),
        cmocka_unit_test(a_refused_mapping_leaves_no_hole),
        cmocka_unit_test(nothing_changes_where_nothing_is_promised),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
