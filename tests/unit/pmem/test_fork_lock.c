/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a fork amid an allocation takes jemalloc's locks, whatever another thread waits for that
 * has some of them. Method: two locks like those, in the order in which a fork takes them. The
 * other thread has the first; this one was interrupted with the second, or with none.
 */
#include "alloc/fork_turn.h"
#include "pmem/fork_lock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>

#include <cmocka.h>

int berth_je_pthread_mutex_lock(pthread_mutex_t *mutex);
int berth_je_pthread_mutex_unlock(pthread_mutex_t *mutex);

static pthread_mutex_t first, second;
static pthread_barrier_t barrier;
static atomic_uint takes;

static int set_up(void **state)
{
    pthread_mutexattr_t like;

    (void)state;
    pthread_mutexattr_init(&like);
    pthread_mutexattr_settype(&like, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&first, &like);
    pthread_mutex_init(&second, &like);
    pthread_mutexattr_destroy(&like);
    pthread_barrier_init(&barrier, NULL, 2);
    berth__fork_lock_patience_ms = 20;
    takes = 0;
    return 0;
}

/* All are free, and of their kind, when all is over. */
static int tear_down(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        pthread_mutex_t *mutex = i == 0 ? &first : &second;

        assert_int_equal(mutex->__data.__kind & 3, PTHREAD_MUTEX_ADAPTIVE_NP);
        assert_int_equal(pthread_mutex_trylock(mutex), 0);
        pthread_mutex_unlock(mutex);
        pthread_mutex_destroy(mutex);
    }
    pthread_barrier_destroy(&barrier);
    berth__fork_lock_patience_ms = 1000;
    return 0;
}

static void take(void)
{
    takes++;
    berth_je_pthread_mutex_lock(&first);
    berth_je_pthread_mutex_lock(&second);
}

static void give_back(void)
{
    berth_je_pthread_mutex_unlock(&second);
    berth_je_pthread_mutex_unlock(&first);
}

static void *want_second(void *argument)
{
    (void)argument;
    berth_je_pthread_mutex_lock(&first);
    pthread_barrier_wait(&barrier);
    berth_je_pthread_mutex_lock(&second);
    berth_je_pthread_mutex_unlock(&second);
    berth_je_pthread_mutex_unlock(&first);
    return NULL;
}

static void who_waits_for_the_forking_thread_keeps_its_lock(void **state)
{
    struct berth_fork_turn turn;
    pthread_t thread;

    (void)state;
    berth_je_pthread_mutex_lock(&second);
    pthread_create(&thread, NULL, want_second, NULL);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 3; i++) {
        berth__fork_turn_begin(&turn);
        assert_true(berth__fork_lock_take(take, give_back, &turn));
        berth__fork_lock_give_back(give_back);
        berth__fork_turn_over(&turn);
    }
    assert_int_equal(takes, 3);
    /* Still this thread's, and the first still the other's. */
    assert_int_not_equal(pthread_mutex_trylock(&second), 0);
    assert_int_not_equal(pthread_mutex_trylock(&first), 0);
    berth_je_pthread_mutex_unlock(&second);
    pthread_join(thread, NULL);
}

static void *keep_first(void *argument)
{
    (void)argument;
    berth_je_pthread_mutex_lock(&first);
    pthread_barrier_wait(&barrier);
    while (takes < 2)
        sched_yield();
    berth_je_pthread_mutex_unlock(&first);
    return NULL;
}

static void a_lock_that_is_only_kept_for_long_is_waited_for(void **state)
{
    struct berth_fork_turn turn;
    pthread_t thread;

    (void)state;
    pthread_create(&thread, NULL, keep_first, NULL);
    pthread_barrier_wait(&barrier);
    berth__fork_turn_begin(&turn);
    assert_false(berth__fork_lock_take(take, give_back, &turn));
    assert_int_equal(takes, 2);
    assert_int_equal(first.__data.__owner, second.__data.__owner);
    berth__fork_lock_give_back(give_back);
    berth__fork_turn_over(&turn);
    pthread_join(thread, NULL);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(who_waits_for_the_forking_thread_keeps_its_lock),
        CASE(a_lock_that_is_only_kept_for_long_is_waited_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
