/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that wait by a word of a block that is to move: each is woken by who wakes it, or the
 * block stays.
 */
#include "alloc/tier_ops.h"
#include "pmem/host.h"
#include "pmem/move_fault.h"
#include "tests/unit/pmem/move_fixture.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE (1 * MIB)
/* Where in the block the word is. */
#define WORD (40 * KIB)

/* From where blocks move, and how. */
static const struct way {
    bool in_file, old_kernel, quiet;
} ways[] = {
    {false, false, false}, {false, true, false}, {true, false, false},
    {false, false, true},  {true, false, true},
};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

static int inject_old_kernel(enum berth_move_call call)
{
    return call == BERTH_CALL_UFFD_OFFER ? -1 : 0;
}

static enum berth_move_result move(const struct way *way, void *p)
{
    enum berth_move_result result;

    berth__move_inject = way->old_kernel ? inject_old_kernel : NULL;
    result = fixture_move(p, way->in_file ? BERTH_TIER_DRAM : tier_shm, way->quiet);
    berth__move_inject = NULL;
    return result;
}

static unsigned char *get(const struct way *way)
{
    unsigned char *p = fixture_get(SIZE);

    memset(p, 0, SIZE);
    if (way->in_file)
        assert_int_equal(fixture_move(p, tier_shm, true), BERTH_MOVE_MOVED);
    return p;
}

static bool can_try(const struct way *way)
{
    return way->quiet || !fixture_live_why;
}

static atomic_int waiter;

/* Whether the kernel says that the thread waits by a futex. */
static bool waits(int tid)
{
    char path[64];
    FILE *file;
    long call = -1;

    snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
    file = fopen(path, "r");
    if (!file)
        return false;
    if (fscanf(file, "%ld", &call) != 1)
        call = -1;
    fclose(file);
    return call == SYS_futex;
}

static void wait_until_it_waits(void)
{
    while (!waits(atomic_load(&waiter)))
        sched_yield();
}

static void *wait_for_semaphore(void *context)
{
    atomic_store(&waiter, gettid());
    while (sem_wait(context) != 0)
        ;
    return NULL;
}

/* `shared`: as between processes. A thread that is never woken hangs, which the suite bounds. */
static void try_semaphore(const struct way *way, bool shared)
{
    unsigned char *p = get(way);
    sem_t *semaphore = (sem_t *)(p + WORD);
    pthread_t thread;

    assert_int_equal(sem_init(semaphore, shared, 0), 0);
    atomic_store(&waiter, 0);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_semaphore, semaphore), 0);
    wait_until_it_waits();
    assert_int_equal(move(way, p), shared ? BERTH_MOVE_WAITED : BERTH_MOVE_MOVED);
    sem_post(semaphore);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(move(way, p), shared ? BERTH_MOVE_MOVED : BERTH_MOVE_THERE);
    berth__host_free(p);
}

static void who_waits_by_a_shared_word_is_woken(void **state)
{
    (void)state;
    for (size_t i = 0; i < WAYS; i++)
        if (can_try(&ways[i]))
            try_semaphore(&ways[i], true);
}

static void who_waits_among_threads_alone_is_no_reason_to_stay(void **state)
{
    (void)state;
    for (size_t i = 0; i < WAYS; i++)
        if (can_try(&ways[i]))
            try_semaphore(&ways[i], false);
}

/* The other one begins to wait when all has been copied. */
static sem_t *late_semaphore;
static pthread_t late_thread;

static int begin_to_wait(enum berth_move_call call)
{
    if (call != BERTH_CALL_SWAP || !late_semaphore)
        return 0;
    if (pthread_create(&late_thread, NULL, wait_for_semaphore, late_semaphore) != 0)
        abort();
    wait_until_it_waits();
    late_semaphore = NULL;
    return 0;
}

/* At a quiescent step, nothing holds back who reads. */
static void who_begins_to_wait_at_the_last_moment_is_woken(void **state)
{
    unsigned char *p = get(&ways[0]);
    sem_t *semaphore = late_semaphore = (sem_t *)(p + WORD);

    (void)state;
    assert_int_equal(sem_init(semaphore, true, 0), 0);
    atomic_store(&waiter, 0);
    berth__move_inject = begin_to_wait;
    assert_int_equal(fixture_move(p, tier_shm, true), BERTH_MOVE_WAITED);
    berth__move_inject = NULL;
    sem_post(semaphore);
    assert_int_equal(pthread_join(late_thread, NULL), 0);
    berth__host_free(p);
}

static sem_t may_end;

static void *run_on_the_block(void *context)
{
    while (sem_wait(&may_end) != 0)
        ;
    return context;
}

static void *join(void *context)
{
    pthread_t *thread = context;
    void *value;

    atomic_store(&waiter, gettid());
    return pthread_join(*thread, &value) == 0 ? value : NULL;
}

/* The kernel says at the top of a thread's stack that it has ended. */
static void who_waits_for_a_thread_on_the_block_is_woken(void **state)
{
    (void)state;
    for (size_t i = 0; i < WAYS; i++) {
        pthread_t thread, joiner;
        pthread_attr_t attributes;
        unsigned char *p;
        void *value;

        /* A thread is never quiet on its own stack, but reads and writes nothing while it waits. */
        if (!can_try(&ways[i]))
            continue;
        p = get(&ways[i]);
        pthread_attr_init(&attributes);
        assert_int_equal(pthread_attr_setstack(&attributes, p, SIZE), 0);
        sem_init(&may_end, 0, 0);
        assert_int_equal(pthread_create(&thread, &attributes, run_on_the_block, p), 0);
        atomic_store(&waiter, 0);
        assert_int_equal(pthread_create(&joiner, NULL, join, &thread), 0);
        wait_until_it_waits();
        assert_int_equal(move(&ways[i], p), BERTH_MOVE_WAITED);
        sem_post(&may_end);
        assert_int_equal(pthread_join(joiner, &value), 0);
        assert_ptr_equal(value, p);
        pthread_attr_destroy(&attributes);
        berth__host_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_waits_by_a_shared_word_is_woken),
        cmocka_unit_test(who_waits_among_threads_alone_is_no_reason_to_stay),
        cmocka_unit_test(who_begins_to_wait_at_the_last_moment_is_woken),
        cmocka_unit_test(who_waits_for_a_thread_on_the_block_is_woken),
    };

    if (access("/proc/self/syscall", R_OK) < 0) {
        print_message("skipped: this kernel does not tell in which call a thread waits\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, fixture_start, NULL);
}
