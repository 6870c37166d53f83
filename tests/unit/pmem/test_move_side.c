/* SPDX-License-Identifier: Apache-2.0 */
/* The mover's second thread is started as soon as the kernel starts threads. */
#include "pmem/move_side.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int refusals; /* by calls to come */

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *context);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *context);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *context)
{
    return refusals-- > 0 ? EAGAIN : __real_pthread_create(thread, attributes, run, context);
}

static int leave(char *why, size_t why_size)
{
    (void)why;
    (void)why_size;
    return 0;
}

static void count(void *context)
{
    ++*(int *)context;
}

static void test_it_starts_when_another_threads_exec_has_failed(void **state)
{
    struct berth_move_side side;
    int runs = 0;

    (void)state;
    refusals = 3;
    assert_int_equal(berth__move_side_start(&side, leave), 0);
    berth__move_side_run(&side, count, &runs);
    berth__move_side_run(&side, count, &runs);
    berth__move_side_stop(&side);
    assert_int_equal(runs, 2);
}

static void test_where_no_thread_can_be_had_it_says_so(void **state)
{
    struct berth_move_side side;

    (void)state;
    refusals = INT32_MAX;
    assert_int_equal(berth__move_side_start(&side, leave), -EAGAIN);
    assert_non_null(strstr(side.why, "no thread can be started"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_starts_when_another_threads_exec_has_failed),
        cmocka_unit_test(test_where_no_thread_can_be_had_it_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
