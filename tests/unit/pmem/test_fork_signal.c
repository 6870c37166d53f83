/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals amid fork(), whose handlers fork, too: where Berth takes and gives back the C library's
 * lock of all streams, and while it holds moves back for a fork without handlers. Each test is a
 * process of its own, which has threads. Who hangs with all signals blocked, its parent ends.
 */
#include "pmem/fork.h"
#include "pmem/jemalloc.h"
#include "tests/unit/pmem/child_fixture.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STAGES 4
/* The first one after the fork that is interrupted. */
#define FIRST_AFTER 2
/* How long a process may take that does next to nothing. */
#define PATIENCE_S 60

void __real__IO_list_lock(void);
void __wrap__IO_list_lock(void);
void __real__IO_list_unlock(void);
void __wrap__IO_list_unlock(void);

/* Where the process is interrupted; STAGES: nowhere. */
static volatile sig_atomic_t stage = STAGES;
static volatile sig_atomic_t handled;

static void reach(int here)
{
    if (stage != here)
        return;
    stage = STAGES; /* the fork in the signal's handler passes here, too */
    raise(SIGUSR1);
}

void __wrap__IO_list_lock(void)
{
    reach(0);
    __real__IO_list_lock();
    reach(1);
}

void __wrap__IO_list_unlock(void)
{
    reach(2);
    __real__IO_list_unlock();
    reach(3);
}

static void await(pid_t pid)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct timespec now;
    int status = -1;
    time_t until;
    pid_t ended;

    CHECK(pid > 0);
    clock_gettime(CLOCK_MONOTONIC, &now);
    until = now.tv_sec + PATIENCE_S;
    while ((ended = waitpid(pid, &status, WNOHANG)) == 0 && now.tv_sec < until) {
        nanosleep(&pause, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
    if (ended == 0)
        kill(pid, SIGKILL);
    CHECK(ended == pid && status == 0);
}

/*
 * A thread that is beginning may hold a lock of the sanitizer's own allocator, and a child made
 * just then never gets it: nothing forks before the thread is here.
 */
static sem_t has_begun;

static void *wait_for_ever(void *unused)
{
    CHECK(sem_post(&has_begun) == 0);
    for (;;)
        pause();
    return unused;
}

static void *flush_all(void *unused)
{
    fflush(NULL);
    return unused;
}

/* Streams by one thread after the other: where the first keeps the lock, the second hangs. */
static void use_all(void)
{
    sigset_t blocked;
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, flush_all, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    fflush(NULL);
    berth_je_free(berth_je_malloc(100000));
    CHECK(sigprocmask(SIG_BLOCK, NULL, &blocked) == 0 && !sigismember(&blocked, SIGUSR1));
}

static pid_t hooked_fork(void)
{
    struct berth_fork attempt;
    pid_t pid;

    CHECK(berth__fork_begin(&attempt) == 0);
    pid = fork();
    CHECK(berth__fork_end(&attempt, pid) == 0);
    return pid;
}

/* The child returns to what was interrupted. */
static void handle(int number)
{
    pid_t pid = hooked_fork();

    (void)number;
    handled++;
    if (pid != 0)
        await(pid);
}

static void start(void)
{
    struct sigaction action = {.sa_handler = handle};
    pthread_t other;

    berth__fork_set_handlers();
    sigaction(SIGUSR1, &action, NULL);
    CHECK(sem_init(&has_begun, 0, 0) == 0);
    CHECK(pthread_create(&other, NULL, wait_for_ever, NULL) == 0);
    CHECK(sem_wait(&has_begun) == 0);
}

static void check_streams(void)
{
    pid_t self = getpid();

    start();
    for (int i = 0; i < STAGES; i++) {
        pid_t pid;

        stage = i;
        pid = hooked_fork();
        use_all();
        if (pid == 0)
            _exit(0);
        /* A child that the handler has returned in: before it forks itself, or after its parent. */
        if (getpid() == self || i < FIRST_AFTER)
            await(pid);
        CHECK(handled == i + 1);
        if (getpid() != self)
            _exit(0);
    }
}

static void a_handlers_child_goes_on_beside_the_lock_of_streams(void **state)
{
    (void)state;
    in_host_child(check_streams);
}

/* As for clone(): without handlers of fork(). */
static void check_without_handlers(void)
{
    struct berth_fork attempt;
    pid_t self = getpid();

    start();
    CHECK(berth__fork_begin(&attempt) == 0);
    CHECK(berth__fork_fill(&attempt) == 0);
    raise(SIGUSR1);
    CHECK(berth__fork_end(&attempt, -1) == 0);
    use_all();
    CHECK(handled == 1);
    if (getpid() != self)
        _exit(0);
}

static void a_handler_may_fork_amid_a_fork_without_handlers(void **state)
{
    (void)state;
    in_host_child(check_without_handlers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_handlers_child_goes_on_beside_the_lock_of_streams),
        cmocka_unit_test(a_handler_may_fork_amid_a_fork_without_handlers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
