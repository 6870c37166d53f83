/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of pages come back as they were added, also across words and when neighbours change at once.
 */
#include "pmem/page_set.h"
#include "pmem/window.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <cmocka.h>

#define SET_PAGES 1000

static struct berth_page_set set;

static int make_set(void **state)
{
    (void)state;
    return berth__page_set_init(&set, SET_PAGES * BERTH_OS_PAGE);
}

static int drop_set(void **state)
{
    (void)state;
    berth__page_set_done(&set);
    return 0;
}

static void expect_run(size_t *page, size_t first, size_t count)
{
    size_t offset = *page * BERTH_OS_PAGE;
    size_t size = 0;

    assert_true(berth__page_set_next(&set, SET_PAGES * BERTH_OS_PAGE, &offset, &size));
    assert_int_equal(offset / BERTH_OS_PAGE, first);
    assert_int_equal(size / BERTH_OS_PAGE, count);
    *page = first + count;
}

static void expect_end(size_t page, size_t limit)
{
    size_t offset = page * BERTH_OS_PAGE;
    size_t size = 0;

    assert_false(berth__page_set_next(&set, limit * BERTH_OS_PAGE, &offset, &size));
}

static void add(size_t first, size_t count)
{
    assert_int_equal(berth__page_set_reach(&set, first * BERTH_OS_PAGE, count * BERTH_OS_PAGE), 0);
    berth__page_set_add(&set, first * BERTH_OS_PAGE, count * BERTH_OS_PAGE);
}

static void take(size_t first, size_t count)
{
    berth__page_set_remove(&set, first * BERTH_OS_PAGE, count * BERTH_OS_PAGE);
}

static void an_empty_set_has_no_run(void **state)
{
    (void)state;
    expect_end(0, SET_PAGES);
}

static void runs_cross_words(void **state)
{
    size_t page = 0;

    (void)state;
    add(3, 1);
    add(60, 10);
    add(64 * 3, 64);
    add(400, 300);
    add(SET_PAGES - 1, 1);
    expect_run(&page, 3, 1);
    expect_run(&page, 60, 10);
    expect_run(&page, 192, 64);
    expect_run(&page, 400, 300);
    expect_run(&page, SET_PAGES - 1, 1);
    expect_end(page, SET_PAGES);
}

static void neighbours_join_and_part(void **state)
{
    size_t page = 0;

    (void)state;
    add(10, 100);
    add(110, 100);
    expect_run(&page, 10, 200);
    take(50, 20);
    page = 0;
    expect_run(&page, 10, 40);
    expect_run(&page, 70, 140);
    take(10, 200);
    expect_end(0, SET_PAGES);
}

static void a_limit_cuts_the_last_run(void **state)
{
    size_t offset = 0;
    size_t size = 0;

    (void)state;
    add(90, 20);
    assert_true(berth__page_set_next(&set, 100 * BERTH_OS_PAGE, &offset, &size));
    assert_int_equal(size / BERTH_OS_PAGE, 10);
    expect_end(0, 90);
}

/* Each thread has every fourth page: all of them write to the same words. */
static void *toggle(void *argument)
{
    size_t mine = (size_t)(uintptr_t)argument;

    for (int round = 0; round < 200; round++) {
        for (size_t page = mine; page < SET_PAGES; page += 4)
            add(page, 1);
        for (size_t page = mine; page < SET_PAGES; page += 4)
            if (round < 199 || mine == 1)
                take(page, 1);
    }
    return NULL;
}

static void threads_share_words(void **state)
{
    pthread_t thread[4];
    size_t page = 0;

    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, toggle, (void *)(uintptr_t)i), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    expect_run(&page, 0, 1);
    for (size_t i = 2; i < SET_PAGES; i += 4)
        expect_run(&page, i, i + 3 <= SET_PAGES ? 3 : SET_PAGES - i);
    expect_end(page, SET_PAGES);
}

/* What the kernel compares with RLIMIT_DATA, in bytes; 0 if it does not tell. */
static size_t data_size(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    size_t size = 0;
    char line[256];

    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "VmData: %zu kB", &size) == 1)
            break;
    if (file)
        fclose(file);
    return size << 10;
}

/* A window of 1 TiB has 32 MiB of bits. */
static void bits_that_were_not_needed_are_no_memory(void **state)
{
    struct berth_page_set large;
    struct rlimit before, limit;
    size_t size = 0, offset = 0;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_DATA, &before), 0);
    limit = before;
    limit.rlim_cur = data_size() + ((rlim_t)8 << 20);
    if (limit.rlim_cur > before.rlim_max || setrlimit(RLIMIT_DATA, &limit) < 0)
        skip();
    assert_int_equal(berth__page_set_init(&large, (size_t)1 << 40), 0);
    assert_int_equal(berth__page_set_reach(&large, 0, (size_t)1 << 30), 0);
    berth__page_set_add(&large, 0, (size_t)1 << 30);
    assert_int_equal(berth__page_set_reach(&large, (size_t)1 << 39, BERTH_OS_PAGE), -ENOMEM);
    assert_int_equal(setrlimit(RLIMIT_DATA, &before), 0);
    assert_true(berth__page_set_next(&large, (size_t)1 << 40, &offset, &size));
    assert_int_equal(offset, 0);
    assert_int_equal(size, (size_t)1 << 30);
    offset = size;
    assert_false(berth__page_set_next(&large, (size_t)1 << 40, &offset, &size));
    assert_int_equal(berth__page_set_reach(&large, (size_t)1 << 39, BERTH_OS_PAGE), 0);
    berth__page_set_add(&large, (size_t)1 << 39, BERTH_OS_PAGE);
    assert_true(berth__page_set_next(&large, (size_t)1 << 40, &offset, &size));
    assert_int_equal(offset, (size_t)1 << 39);
    berth__page_set_done(&large);
}

/* What was reached stays, and what is beyond cannot be seen any more. */
static void bits_that_are_never_needed_go_back(void **state)
{
    struct berth_page_set large;
    size_t size = 0, offset = 0;
    char *words;

    (void)state;
    assert_int_equal(berth__page_set_init(&large, (size_t)1 << 40), 0);
    words = (char *)large.words;
    assert_int_equal(berth__page_set_reach(&large, 0, (size_t)1 << 30), 0);
    berth__page_set_add(&large, ((size_t)1 << 30) - BERTH_OS_PAGE, BERTH_OS_PAGE);
    berth__page_set_fit(&large, BERTH_OS_PAGE);
    /* 32 KiB of bits are left. */
    assert_int_equal(msync(words + ((size_t)28 << 10), BERTH_OS_PAGE, MS_ASYNC), 0);
    assert_int_equal(msync(words + ((size_t)32 << 10), BERTH_OS_PAGE, MS_ASYNC), -1);
    assert_int_equal(msync(words + ((size_t)31 << 20), BERTH_OS_PAGE, MS_ASYNC), -1);
    assert_true(berth__page_set_next(&large, (size_t)1 << 40, &offset, &size));
    assert_int_equal(offset, ((size_t)1 << 30) - BERTH_OS_PAGE);
    berth__page_set_fit(&large, BERTH_OS_PAGE);
    berth__page_set_done(&large);
    assert_int_equal(msync(words, BERTH_OS_PAGE, MS_ASYNC), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_empty_set_has_no_run, make_set, drop_set),
        cmocka_unit_test_setup_teardown(runs_cross_words, make_set, drop_set),
        cmocka_unit_test_setup_teardown(neighbours_join_and_part, make_set, drop_set),
        cmocka_unit_test_setup_teardown(a_limit_cuts_the_last_run, make_set, drop_set),
        cmocka_unit_test_setup_teardown(threads_share_words, make_set, drop_set),
        cmocka_unit_test(bits_that_were_not_needed_are_no_memory),
        cmocka_unit_test(bits_that_are_never_needed_go_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
