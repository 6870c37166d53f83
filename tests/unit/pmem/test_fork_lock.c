/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a fork amid an allocation takes jemalloc's locks, whatever another thread waits for that
 * has some of them, and leaves none but to one that waits for this very thread. Method: two locks
 * like those, in the order in which a fork takes them. Another thread has one of them; this one was
 * interrupted with the other, or with none.
 */
#include "alloc/clock.h"
#include "alloc/fork_turn.h"
#include "alloc/thread.h"
#include "pmem/fork_lock.h"
#include "pmem/jemalloc.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

BERTH_HIDDEN int berth_je_pthread_mutex_lock(pthread_mutex_t *mutex);
BERTH_HIDDEN int berth_je_pthread_mutex_unlock(pthread_mutex_t *mutex);

#define PATIENCE_MS 20
#define LONG_PATIENCE_MS 10000
/* What a thread may need on a loaded machine, where it is waited for more than once. */
#define USUAL_PATIENCE_MS 500
/* For a test that fails and does not hang. */
#define HANG_S 120
#define TRAP_FLAG 0x100

static pthread_mutex_t first, second;
static pthread_barrier_t barrier;
static atomic_uint takes;
static bool makes_arena;

static int set_up(void **state)
{
    (void)state;
    pthread_mutex_init(&first, NULL);
    pthread_mutex_init(&second, NULL);
    pthread_barrier_init(&barrier, NULL, 2);
    berth__fork_lock_patience_ms = PATIENCE_MS;
    takes = 0;
    makes_arena = false;
    alarm(HANG_S);
    return 0;
}

/* All are free, and nothing is counted, when all is over. */
static int tear_down(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        pthread_mutex_t *mutex = i == 0 ? &first : &second;

        assert_int_equal(mutex->__data.__count, 0);
        assert_int_equal(pthread_mutex_trylock(mutex), 0);
        pthread_mutex_unlock(mutex);
        pthread_mutex_destroy(mutex);
    }
    pthread_barrier_destroy(&barrier);
    return 0;
}

static void take(void)
{
    unsigned arena;
    size_t size = sizeof(arena);

    takes++;
    berth_je_pthread_mutex_lock(&first);
    berth_je_pthread_mutex_lock(&second);
    if (makes_arena && takes == 1)
        assert_int_equal(berth_je_mallctl("arenas.create", &arena, &size, NULL, 0), 0);
}

static void give_back(void)
{
    berth_je_pthread_mutex_unlock(&second);
    berth_je_pthread_mutex_unlock(&first);
}

/* What fork() does with them; whether the thread had some of them before. */
static bool fork_locks(void)
{
    struct berth_fork_turn turn;
    bool had;

    berth__fork_turn_begin(&turn);
    had = berth__fork_lock_take(take, give_back, &turn);
    berth__fork_lock_give_back(give_back);
    berth__fork_turn_over(&turn);
    return had;
}

static atomic_int wanting; /* its number */

static void *want_second(void *argument)
{
    (void)argument;
    wanting = gettid();
    berth_je_pthread_mutex_lock(&first);
    pthread_barrier_wait(&barrier);
    berth_je_pthread_mutex_lock(&second);
    berth_je_pthread_mutex_unlock(&second);
    berth_je_pthread_mutex_unlock(&first);
    return NULL;
}

static void who_waits_for_the_forking_thread_keeps_its_lock(void **state)
{
    pthread_t thread;

    (void)state;
    berth_je_pthread_mutex_lock(&second);
    pthread_create(&thread, NULL, want_second, NULL);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 3; i++)
        assert_true(fork_locks());
    /* Still this thread's, and the first still the other's. */
    assert_int_not_equal(pthread_mutex_trylock(&second), 0);
    assert_int_not_equal(pthread_mutex_trylock(&first), 0);
    berth_je_pthread_mutex_unlock(&second);
    pthread_join(thread, NULL);
}

/* Until the fork has given up once; or more often than it waits for a thread that it may be amid.
 */
static void *keep_first(void *argument)
{
    const unsigned *rounds = argument;

    berth_je_pthread_mutex_lock(&first);
    pthread_barrier_wait(&barrier);
    while (takes < *rounds)
        sched_yield();
    berth_je_pthread_mutex_unlock(&first);
    return NULL;
}

static void a_lock_that_is_only_kept_for_long_is_waited_for(void **state)
{
    struct berth_fork_turn turn;
    pthread_t thread;

    (void)state;
    for (int has_own = 0; has_own < 2; has_own++) {
        unsigned rounds = has_own ? 2 : 8;

        berth__fork_lock_patience_ms = has_own ? USUAL_PATIENCE_MS : PATIENCE_MS;
        takes = 0;
        if (has_own)
            berth_je_pthread_mutex_lock(&second);
        pthread_create(&thread, NULL, keep_first, &rounds);
        pthread_barrier_wait(&barrier);
        berth__fork_turn_begin(&turn);
        assert_int_equal(berth__fork_lock_take(take, give_back, &turn), has_own);
        assert_true(takes >= rounds);
        assert_int_equal(first.__data.__owner, second.__data.__owner);
        berth__fork_lock_give_back(give_back);
        berth__fork_turn_over(&turn);
        pthread_join(thread, NULL);
        if (has_own)
            berth_je_pthread_mutex_unlock(&second);
    }
}

static void *stay(void *argument)
{
    (void)argument;
    berth_je_pthread_mutex_lock(&first);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    berth_je_pthread_mutex_unlock(&first);
    return NULL;
}

static void who_does_not_go_on_at_all_is_not_waited_for_without_end(void **state)
{
    pthread_t thread;

    (void)state;
    pthread_create(&thread, NULL, stay, NULL);
    pthread_barrier_wait(&barrier);
    /* As if a lock of Berth's was what the other waits for. */
    berth__thread.inside++;
    assert_false(fork_locks());
    berth__thread.inside--;
    assert_true(takes > 2);
    assert_int_not_equal(pthread_mutex_trylock(&first), 0);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
}

#ifdef __x86_64__
static void set_trap_flag(bool on)
{
    uint64_t flags;

    __asm__ volatile("pushfq\n\tpop %0" : "=r"(flags));
    flags = on ? flags | TRAP_FLAG : flags & ~(uint64_t)TRAP_FLAG;
    __asm__ volatile("push %0\n\tpopfq" : : "r"(flags) : "cc", "memory");
}

static atomic_bool was_free;

/* After each instruction, until the lock is free and nobody was woken yet. */
static void fork_when_free(int number, siginfo_t *info, void *context)
{
    ucontext_t *interrupted = context;

    (void)number;
    (void)info;
    if (__atomic_load_n(&second.__data.__lock, __ATOMIC_RELAXED) != 0)
        return;
    interrupted->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
    was_free = true;
    fork_locks();
}

static bool sleeps(int tid)
{
    char path[64];
    long call = -1;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
    file = fopen(path, "re");
    assert_non_null(file);
    if (fscanf(file, "%ld", &call) != 1)
        call = -1;
    fclose(file);
    return call == SYS_futex;
}

static void who_is_about_to_be_woken_is_woken_first(void **state)
{
    struct sigaction action = {.sa_sigaction = fork_when_free, .sa_flags = SA_SIGINFO};
    pthread_t thread;

    (void)state;
    berth__fork_lock_patience_ms = LONG_PATIENCE_MS;
    sigaction(SIGTRAP, &action, NULL);
    berth_je_pthread_mutex_lock(&second);
    pthread_create(&thread, NULL, want_second, NULL);
    pthread_barrier_wait(&barrier);
    while (__atomic_load_n(&second.__data.__lock, __ATOMIC_RELAXED) < 2 || !sleeps(wanting))
        sched_yield();
    set_trap_flag(true);
    berth_je_pthread_mutex_unlock(&second);
    set_trap_flag(false);
    pthread_join(thread, NULL);
    assert_true(was_free);
    assert_int_equal(takes, 1);
}
#else
static void who_is_about_to_be_woken_is_woken_first(void **state)
{
    (void)state;
    skip();
}
#endif

static pthread_t forking;
static atomic_bool is_entered, is_within, was_early;
static void (*handler_does)(void);

static void handle(int number)
{
    (void)number;
    is_entered = true;
    handler_does();
}

static void wait_until_awaited(const pthread_mutex_t *mutex)
{
    while (__atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED) < 2)
        sched_yield();
}

static void *want_first(void *argument)
{
    (void)argument;
    berth_je_pthread_mutex_lock(&first);
    berth_je_pthread_mutex_unlock(&first);
    return NULL;
}

/* Has the one lock while a handler runs in the thread that waits for it; if that is the second,
 * somebody waits for the first. */
static pthread_t third;

static void *interrupt_with(void *mutex)
{
    int64_t end;

    berth_je_pthread_mutex_lock(mutex);
    pthread_barrier_wait(&barrier);
    wait_until_awaited(mutex);
    pthread_create(&third, NULL, want_first, NULL);
    wait_until_awaited(&first);
    pthread_kill(forking, SIGUSR1);
    while (!is_entered)
        sched_yield();
    for (end = berth__clock_ms() + 5 * PATIENCE_MS; berth__clock_ms() < end; sched_yield())
        if (is_within)
            was_early = true;
    berth_je_pthread_mutex_unlock(mutex);
    return NULL;
}

static void fork_interrupted(pthread_mutex_t *waits_for, void (*what)(void))
{
    struct sigaction action = {.sa_handler = handle};
    pthread_t thread;

    sigaction(SIGUSR1, &action, NULL);
    is_entered = is_within = was_early = false;
    handler_does = what;
    forking = pthread_self();
    pthread_create(&thread, NULL, interrupt_with, waits_for);
    pthread_barrier_wait(&barrier);
    fork_locks();
    pthread_join(thread, NULL);
    assert_true(is_entered && is_within);
    assert_false(was_early);
}

static void allocate(void)
{
    berth_je_pthread_mutex_lock(&first);
    is_within = true;
    berth_je_pthread_mutex_unlock(&first);
}

static void what_a_handler_locks_meanwhile_it_has(void **state)
{
    (void)state;
    fork_interrupted(&first, allocate);
    pthread_join(third, NULL);
}

static void fork_within(void)
{
    fork_locks();
    is_within = true;
}

static void a_handlers_fork_gives_back_its_own_alone(void **state)
{
    (void)state;
    fork_interrupted(&first, fork_within);
    pthread_join(third, NULL);
    fork_interrupted(&second, fork_within);
    pthread_join(third, NULL);
    berth_je_pthread_mutex_lock(&first);
    fork_interrupted(&second, fork_within);
    assert_int_not_equal(pthread_mutex_trylock(&first), 0);
    berth_je_pthread_mutex_unlock(&first);
    pthread_join(third, NULL);
}

static void locks_of_an_arena_that_just_came_are_taken_too(void **state)
{
    (void)state;
    makes_arena = true;
    assert_false(fork_locks());
    assert_int_equal(takes, 2);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(who_waits_for_the_forking_thread_keeps_its_lock),
        CASE(a_lock_that_is_only_kept_for_long_is_waited_for),
        CASE(locks_of_an_arena_that_just_came_are_taken_too),
        CASE(who_does_not_go_on_at_all_is_not_waited_for_without_end),
        CASE(who_is_about_to_be_woken_is_woken_first),
        /* The last, because ThreadSanitizer takes all that follows for the handler's. */
        CASE(what_a_handler_locks_meanwhile_it_has),
        CASE(a_handlers_fork_gives_back_its_own_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
