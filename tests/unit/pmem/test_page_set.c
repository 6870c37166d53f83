/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of pages come back as they were added, also across words and when neighbours change at once.
 */
#include "pmem/page_set.h"
#include "pmem/window.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_empty_set_has_no_run, make_set, drop_set),
        cmocka_unit_test_setup_teardown(runs_cross_words, make_set, drop_set),
        cmocka_unit_test_setup_teardown(neighbours_join_and_part, make_set, drop_set),
        cmocka_unit_test_setup_teardown(a_limit_cuts_the_last_run, make_set, drop_set),
        cmocka_unit_test_setup_teardown(threads_share_words, make_set, drop_set),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
