/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What another thread does at the worst moments of a block's move: it forks, or gives pages of the
 * block back. The moments are the mover's own system calls (move_fault.h); the other thread is
 * known to have got there when the kernel says in which call it waits.
 */
#include "alloc/tier_ops.h"
#include "pmem/fork.h"
#include "pmem/host.h"
#include "pmem/move.h"
#include "pmem/move_fault.h"
#include "tests/unit/pmem/table_fixture.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE ((size_t)16 << 20)
/* What is given back meanwhile: the first part of the block. */
#define GIVEN (SIZE / 2)

static berth_tier_id shm;
static const char *why_not;

/* One other thread, and what it does when the mover comes to `moment`. */
static struct other {
    enum berth_move_call moment;
    bool old_kernel;
    void *(*act)(void *context);
    long call; /* in which it may wait for the mover */
    unsigned char *p;
    pthread_t thread;
    atomic_bool begun;
    atomic_int tid;
    atomic_bool answered;
    atomic_bool done;
    int status;
} other;

static int start(void **state)
{
    static char why[BERTH_UFFD_WHY_MAX];
    struct berth_table_draft *draft = berth__draft_new();
    struct statfs fs;
    bool sees_pins;

    (void)state;
    berth__host_register();
    draft_tier(draft, TIER(.name = "shm", .kind = BERTH_KIND_FILE, .path = "/dev/shm"));
    draft_rule(draft, RULE(.name = "rule", .side = BERTH_SIDE_HOST, .movable = true), "dram", NULL);
    draft_install(draft);
    shm = berth__tier_find("shm");
    if (berth__move_door->probe(&sees_pins, why, sizeof(why)) < 0)
        why_not = why;
    else if (statfs("/dev/shm", &fs) < 0 || fs.f_type != TMPFS_MAGIC)
        why_not = "/dev/shm is no tmpfs";
    else if (access("/proc/self/syscall", R_OK) < 0)
        why_not = "this kernel does not tell in which call a thread waits";
    if (why_not)
        print_message("skipped: %s\n", why_not);
    return 0;
}

/* Whether the kernel says that the thread waits in this call. */
static bool waits_in(int tid, long call)
{
    char path[64], text[32] = "";
    int fd;

    snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
    fd = open(path, O_RDONLY);
    if (fd < 0)
        return false;
    if (read(fd, text, sizeof(text) - 1) < 0)
        text[0] = '\0';
    close(fd);
    return text[0] >= '0' && text[0] <= '9' && strtol(text, NULL, 10) == call;
}

static int at_moment(enum berth_move_call call)
{
    if (other.old_kernel && call == BERTH_CALL_UFFD_OFFER)
        return -1;
    if (call != other.moment || atomic_exchange(&other.begun, true))
        return 0;
    if (pthread_create(&other.thread, NULL, other.act, NULL) != 0)
        abort();
    while (!atomic_load(&other.done) && !waits_in(atomic_load(&other.tid), other.call))
        sched_yield();
    return 0;
}

static bool is_all(const unsigned char *p, size_t size, unsigned char value)
{
    return p[0] == value && memcmp(p, p + 1, size - 1) == 0;
}

/* The child's view of the block; as the hooks of fork() do it. */
static void *fork_and_look(void *context)
{
    struct berth_fork attempt;
    pid_t child;

    atomic_store(&other.tid, gettid());
    if (berth__fork_begin(&attempt) != 0)
        abort();
    child = fork();
    berth__fork_end(&attempt, child);
    if (child == 0)
        _exit(is_all(other.p, SIZE, 0x5a) ? 0 : 1);
    if (waitpid(child, &other.status, 0) != child)
        other.status = -1;
    atomic_store(&other.done, true);
    return context;
}

static void answer(int number)
{
    (void)number;
    atomic_store(&other.answered, true);
}

/* As a collector that stops all threads while one of them waits for the mover. */
static void *answer_amid_fork(void *context)
{
    pid_t child;

    atomic_store(&other.tid, gettid());
    child = fork();
    if (child == 0)
        _exit(0);
    if (waitpid(child, &other.status, 0) != child)
        other.status = -1;
    atomic_store(&other.done, true);
    return context;
}

static int at_moment_of_signal(enum berth_move_call call)
{
    if (call != other.moment || atomic_exchange(&other.begun, true))
        return 0;
    if (pthread_create(&other.thread, NULL, other.act, NULL) != 0)
        abort();
    while (!waits_in(atomic_load(&other.tid), SYS_futex) &&
           !waits_in(atomic_load(&other.tid), SYS_nanosleep))
        sched_yield();
    pthread_kill(other.thread, SIGUSR1);
    /* For a test that fails and does not hang. */
    alarm(60);
    while (!atomic_load(&other.answered))
        sched_yield();
    alarm(0);
    return 0;
}

static void *give_back_pages(void *context)
{
    atomic_store(&other.tid, gettid());
    other.status = madvise(other.p, GIVEN, MADV_DONTNEED);
    atomic_store(&other.done, true);
    return context;
}

static unsigned char *get(void)
{
    struct berth_host_request request = {.size = SIZE, .alignment = 1};
    unsigned char *p;
    bool placed;

    p = berth__host_alloc(&request, &placed);
    assert_non_null(p);
    memset(p, 0x5a, SIZE);
    return p;
}

static enum berth_move_result move_to(void *p, berth_tier_id to)
{
    struct berth_mover mover = {.rule = BERTH_RULE_NONE};
    enum berth_move_result result;

    berth__move_begin(true);
    result = berth__move_block(&mover, p, to);
    berth__move_end();
    return result;
}

/* Moves a block while the other thread acts; returns the block, still the caller's. */
static unsigned char *move_meanwhile(void *(*act)(void *), long call, enum berth_move_call moment,
                                     bool old_kernel, enum berth_move_result *ret_result)
{
    unsigned char *p = get();

    other.moment = moment;
    other.old_kernel = old_kernel;
    other.act = act;
    other.call = call;
    other.p = p;
    other.status = -1;
    atomic_store(&other.begun, false);
    atomic_store(&other.tid, 0);
    atomic_store(&other.done, false);
    berth__move_inject = at_moment;
    *ret_result = move_to(p, shm);
    berth__move_inject = NULL;
    assert_true(atomic_load(&other.begun));
    assert_int_equal(pthread_join(other.thread, NULL), 0);
    assert_int_equal(other.status, 0);
    return p;
}

/* A child has the block's contents, whenever it was forked. */
static void a_child_of_any_moment_has_the_contents(void **state)
{
    static const enum berth_move_call moments[] = {BERTH_CALL_READ, BERTH_CALL_UFFD_TAKE,
                                                   BERTH_CALL_UFFD_READ, BERTH_CALL_SWAP};

    (void)state;
    if (why_not)
        skip();
    for (int i = 0; i < 8; i++) {
        enum berth_move_result result;
        unsigned char *p;
        bool old_kernel = i / 4;

        if (old_kernel && moments[i % 4] == BERTH_CALL_UFFD_TAKE)
            continue;
        p = move_meanwhile(fork_and_look, SYS_nanosleep, moments[i % 4], old_kernel, &result);
        assert_true(result == BERTH_MOVE_MOVED || result == BERTH_MOVE_PINNED);
        assert_true(is_all(p, SIZE, 0x5a));
        berth__host_free(p);
    }
}

/* Pages that were given back meanwhile read as zero, and the move comes to an end. */
static void pages_that_are_given_back_meanwhile_are_zero(void **state)
{
    static const enum berth_move_call moments[] = {BERTH_CALL_UFFD_TAKE, BERTH_CALL_UFFD_READ,
                                                   BERTH_CALL_UFFD_PROTECT};

    (void)state;
    if (why_not)
        skip();
    for (int i = 0; i < 6; i++) {
        enum berth_move_result result;
        unsigned char *p;
        bool old_kernel = i / 3;

        if (old_kernel ? moments[i % 3] == BERTH_CALL_UFFD_TAKE
                       : moments[i % 3] == BERTH_CALL_UFFD_PROTECT)
            continue;
        p = move_meanwhile(give_back_pages, SYS_madvise, moments[i % 3], old_kernel, &result);
        assert_true(result == BERTH_MOVE_MOVED || result == BERTH_MOVE_BUSY);
        assert_true(is_all(p, GIVEN, 0));
        assert_true(is_all(p + GIVEN, SIZE - GIVEN, 0x5a));
        berth__host_free(p);
    }
}

/* The mover may wait for a thread that a signal has stopped, by who waits for all others. */
static void who_forks_amid_a_move_has_signals(void **state)
{
    struct sigaction action = {.sa_handler = answer};
    unsigned char *p;

    (void)state;
    if (why_not)
        skip();
    sigaction(SIGUSR1, &action, NULL);
    p = get();
    other = (struct other){.moment = BERTH_CALL_SWAP, .act = answer_amid_fork, .status = -1};
    berth__move_inject = at_moment_of_signal;
    assert_int_equal(move_to(p, shm), BERTH_MOVE_MOVED);
    berth__move_inject = NULL;
    assert_true(atomic_load(&other.begun));
    assert_int_equal(pthread_join(other.thread, NULL), 0);
    assert_int_equal(other.status, 0);
    berth__host_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_of_any_moment_has_the_contents),
        cmocka_unit_test(pages_that_are_given_back_meanwhile_are_zero),
        cmocka_unit_test(who_forks_amid_a_move_has_signals),
    };

    return cmocka_run_group_tests(tests, start, NULL);
}
