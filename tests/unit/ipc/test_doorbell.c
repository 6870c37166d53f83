/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whoever rings reaches the thread that waits, whatever the program has done with
 * descriptors, signals and limits; and nobody else hears it.
 * Method: a thread of its own with a bell; each case is a forked child, which changes its limits.
 */
#include "ipc/doorbell.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Long enough for a sanitizer on a busy machine. */
#define PATIENCE_MS 20000

struct waiting {
    pthread_t thread;
    struct berth_doorbell bell;
    pthread_barrier_t ready;
    int epoll;
    bool heard, quiet_after;
};

static bool rings(const struct waiting *waiting, int timeout_ms)
{
    struct epoll_event event;

    return epoll_wait(waiting->epoll, &event, 1, timeout_ms) == 1;
}

static void *wait_for_bell(void *context)
{
    struct waiting *waiting = context;
    struct epoll_event event = {.events = BERTH_DOORBELL_EVENTS};

    waiting->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (waiting->epoll < 0 || berth__doorbell_open(&waiting->bell) < 0 ||
        epoll_ctl(waiting->epoll, EPOLL_CTL_ADD, waiting->bell.fd, &event) < 0)
        _exit(2);
    pthread_barrier_wait(&waiting->ready);
    waiting->heard = rings(waiting, PATIENCE_MS);
    waiting->quiet_after = !rings(waiting, 0);
    return NULL;
}

static void start_waiting(struct waiting *waiting)
{
    sigset_t all, before;

    memset(waiting, 0, sizeof(*waiting));
    sigfillset(&all);
    pthread_barrier_init(&waiting->ready, NULL, 2);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&waiting->thread, NULL, wait_for_bell, waiting) != 0)
        _exit(2);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_barrier_wait(&waiting->ready);
}

static bool is_heard(struct waiting *waiting)
{
    bool rung = berth__doorbell_ring(&waiting->bell) == 0;

    pthread_join(waiting->thread, NULL);
    return rung && waiting->heard && waiting->quiet_after;
}

/* Runs the case in a child, whose limits and handlers are nobody else's. */
static void expect(bool (*run)(void))
{
    pid_t pid = fork();
    int status = -1;

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(run() ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static bool ring_without_descriptors(void)
{
    struct rlimit limit;
    struct waiting waiting;

    start_waiting(&waiting);
    /* poll() itself refuses what is beyond the limit. */
    limit.rlim_cur = limit.rlim_max = (rlim_t)waiting.bell.fd + 1;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        return false;
    while (dup(0) >= 0)
        ;
    return errno == EMFILE && is_heard(&waiting);
}

static bool ring_without_queue(void)
{
    struct rlimit none = {0, 0};
    struct waiting waiting;

    start_waiting(&waiting);
    return setrlimit(RLIMIT_SIGPENDING, &none) == 0 && is_heard(&waiting);
}

static atomic_int calls;

static void count_call(int number)
{
    (void)number;
    calls++;
}

static bool ring_beside_handlers(void)
{
    struct sigaction action = {.sa_handler = count_call};
    struct waiting waiting;

    for (int number = 1; number < NSIG; number++)
        sigaction(number, &action, NULL);
    start_waiting(&waiting);
    return is_heard(&waiting) && calls == 0;
}

static bool ring_while_ignored(void)
{
    struct sigaction action = {.sa_handler = SIG_IGN};
    struct waiting waiting;

    for (int number = 1; number < NSIG; number++)
        sigaction(number, &action, NULL);
    start_waiting(&waiting);
    return is_heard(&waiting);
}

static void no_descriptor_is_needed(void **state)
{
    expect(ring_without_descriptors);
}

static void no_room_in_the_queue_is_needed(void **state)
{
    expect(ring_without_queue);
}

static void handlers_are_not_called(void **state)
{
    expect(ring_beside_handlers);
}

static void signals_may_be_ignored(void **state)
{
    expect(ring_while_ignored);
}

static void a_bell_that_is_not_there_is_an_error(void **state)
{
    const struct berth_doorbell none = {.fd = -1};

    assert_int_equal(berth__doorbell_ring(&none), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_descriptor_is_needed),
        cmocka_unit_test(no_room_in_the_queue_is_needed),
        cmocka_unit_test(handlers_are_not_called),
        cmocka_unit_test(signals_may_be_ignored),
        cmocka_unit_test(a_bell_that_is_not_there_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
