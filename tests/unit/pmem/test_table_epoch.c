/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a writer waits for exactly the readers that entered before it, and a forked child for none.
 * Method: readers that stay inside are entered by hand; the waiting writer is a thread.
 */
#include "pmem/table_epoch.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define FOR_EVER_MS 60000

static struct berth_epoch epoch;

static void nobody_is_waited_for_when_nobody_is_inside(void **state)
{
    for (int i = 0; i < 4; i++) {
        berth__epoch_leave(berth__epoch_enter(&epoch));
        assert_true(berth__epoch_wait(&epoch, 0));
    }
}

static void a_reader_that_stays_makes_the_wait_fail(void **state)
{
    struct berth_epoch_token token = berth__epoch_enter(&epoch);

    assert_false(berth__epoch_wait(&epoch, 1));
    assert_false(berth__epoch_wait(&epoch, 1));
    berth__epoch_leave(token);
    assert_true(berth__epoch_wait(&epoch, 0));
}

/* Whatever the phase is when the reader enters. */
static void readers_of_both_phases_are_waited_for(void **state)
{
    struct berth_epoch_token first = berth__epoch_enter(&epoch), second;

    assert_false(berth__epoch_wait(&epoch, 1));
    second = berth__epoch_enter(&epoch);
    berth__epoch_leave(first);
    assert_false(berth__epoch_wait(&epoch, 1));
    berth__epoch_leave(second);
    assert_true(berth__epoch_wait(&epoch, 0));
}

static void *wait_long(void *ret)
{
    *(bool *)ret = berth__epoch_wait(&epoch, FOR_EVER_MS);
    return NULL;
}

static void new_readers_do_not_hold_the_writer(void **state)
{
    unsigned before = atomic_load(&epoch.phase);
    struct berth_epoch_token old = berth__epoch_enter(&epoch), later;
    bool waited = false;
    pthread_t writer;

    assert_int_equal(pthread_create(&writer, NULL, wait_long, &waited), 0);
    while (atomic_load(&epoch.phase) == before)
        usleep(100);
    later = berth__epoch_enter(&epoch);
    berth__epoch_leave(old);
    /* Ends although `later` is inside; else the test runs into its limit. */
    pthread_join(writer, NULL);
    assert_true(waited);
    berth__epoch_leave(later);
}

static void a_forked_child_forgets_the_readers_of_other_threads(void **state)
{
    struct berth_epoch_token token = berth__epoch_enter(&epoch);
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        berth__epoch_reset(&epoch);
        _exit(berth__epoch_wait(&epoch, 0) ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_false(berth__epoch_wait(&epoch, 0));
    berth__epoch_leave(token);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_is_waited_for_when_nobody_is_inside),
        cmocka_unit_test(a_reader_that_stays_makes_the_wait_fail),
        cmocka_unit_test(readers_of_both_phases_are_waited_for),
        cmocka_unit_test(new_readers_do_not_hold_the_writer),
        cmocka_unit_test(a_forked_child_forgets_the_readers_of_other_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
