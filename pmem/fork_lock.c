/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/fork_lock.h"

#include "alloc/clock.h"
#include "alloc/log.h"
#include "alloc/thread.h"
#include "alloc/types.h"
#include "pmem/jemalloc.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* What is just being taken or given back, when the C library may not have noted it yet, or no
 * more. */
static __thread pthread_mutex_t *passing;
/* The same of what was interrupted by who has all locks now, and by whom that one interrupted amid
 * a fork: signals come while a lock is waited for, but not from the last one taken to the first
 * given back. */
static __thread pthread_mutex_t *interrupted, *interrupted_first;

/* What this thread does for a fork; the innermost, where handlers' forks are in one another. */
struct take {
    const struct berth_fork_turn *turn; /* which signals wait; NULL: it does nothing for a fork */
    int giver;                          /* its own number while it gives all back, else 0 */
    bool is_aside;   /* what is locked now is not for the fork: a handler's, amid a wait */
    bool is_patient; /* it waits for as long as it takes */
    bool has_own;    /* it had some of the locks before, for whatever it was interrupted in */
    int left_to;     /* the thread that some were left to; 0: none was */
};
static __thread struct take now;

/*
 * What the outermost fork's thread had before. jemalloc's locks are ordered by rank, and there are
 * fewer ranks: a thread has one or two each. Guarded by jemalloc's first lock.
 */
#define OWN_MAX 64
static const pthread_mutex_t *own[OWN_MAX];
static unsigned own_count;

/* How long another thread may take to note that it has a lock. */
#define NOTE_WAIT_MS 50

int berth__fork_lock_patience_ms = 1000;

/* How often in turn the same thread may have kept all waiting. */
#define ROUNDS_MAX 5

/* The C library's flag in a lock's kind, where its tunable has asked for transactions: then it
 * notes no owner. */
#define KIND_ELISION 256

/* The number of jemalloc's arenas, which never gets less. */
BERTH_HIDDEN __attribute__((weak)) unsigned berth_je_narenas_total_get(void);

static int owner_of(const pthread_mutex_t *mutex)
{
    return __atomic_load_n(&mutex->__data.__owner, __ATOMIC_RELAXED);
}

static bool is_nobodys(const pthread_mutex_t *mutex)
{
    return __atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED) != 0 && owner_of(mutex) == 0;
}

/*
 * The C library notes whose a lock is, a few instructions late. A lock without an owner that this
 * thread was interrupted at is its own, or another thread's that is about to say so.
 */
static bool is_mine(const pthread_mutex_t *mutex)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    int owner = owner_of(mutex);
    int64_t until;

    /* A fork asks this of hundreds of locks, nearly all of which are free: no system call then. */
    if (owner != 0 && owner == gettid())
        return true;
    if (mutex != interrupted)
        return false;
    until = berth__clock_ms() + NOTE_WAIT_MS;
    /* Signals may cut a pause short. Not by nanosleep(), which is a cancellation point. */
    while (is_nobodys(mutex) && berth__clock_ms() < until)
        syscall(SYS_nanosleep, &pause, NULL);
    return is_nobodys(mutex);
}

/*
 * Taking what the thread has already is only counted: where the C library counts for locks of a
 * kind that jemalloc's are not, and leaves alone in others. Their kind must not change: who is just
 * asking for one looks at it more than once.
 */
static void take_again(pthread_mutex_t *mutex)
{
    mutex->__data.__count++;
    if (now.is_aside)
        return;
    now.has_own = true;
    if (now.is_patient)
        return;
    if (own_count < OWN_MAX)
        own[own_count] = mutex;
    own_count++;
}

/* What jemalloc calls as pthread_mutex_lock (embed_jemalloc.sh) and so on; the first, where trying
 * was not enough. */
BERTH_HIDDEN int berth_je_pthread_mutex_lock(pthread_mutex_t *mutex);
BERTH_HIDDEN int berth_je_pthread_mutex_trylock(pthread_mutex_t *mutex);
BERTH_HIDDEN int berth_je_pthread_mutex_unlock(pthread_mutex_t *mutex);

/* Nothing may be moved beyond this by the compiler: a signal comes to this very thread. */
static inline void pass(pthread_mutex_t *mutex)
{
    atomic_signal_fence(memory_order_seq_cst);
    passing = mutex;
    atomic_signal_fence(memory_order_seq_cst);
}

static inline int lock(pthread_mutex_t *mutex)
{
    int r;

    pass(mutex);
    r = pthread_mutex_lock(mutex);
    pass(NULL);
    return r;
}

/* The race detector of GCC 12 does not see a lock that is taken by another clock. */
#ifdef __SANITIZE_THREAD__
#define PATIENCE_CLOCK CLOCK_REALTIME
#define lock_until(mutex, until) pthread_mutex_timedlock(mutex, until)
#else
#define PATIENCE_CLOCK CLOCK_MONOTONIC
#define lock_until(mutex, until) pthread_mutex_clocklock(mutex, PATIENCE_CLOCK, until)
#endif

/* -ETIMEDOUT: one and the same thread has had it all the time. */
static int lock_in_time(pthread_mutex_t *mutex, int64_t patience_ns)
{
    struct timespec until;
    int owner = owner_of(mutex);
    int r;

    clock_gettime(PATIENCE_CLOCK, &until);
    patience_ns += until.tv_nsec;
    until.tv_sec += (time_t)(patience_ns / 1000000000);
    until.tv_nsec = (long)(patience_ns % 1000000000);
    pass(mutex);
    r = lock_until(mutex, &until);
    pass(NULL);
    if (r != ETIMEDOUT)
        return r == 0 ? 0 : lock(mutex);
    if (owner == 0 || owner_of(mutex) != owner)
        return -EAGAIN;
    now.left_to = owner;
    return -ETIMEDOUT;
}

/* Who has one lock and does not go on has its others as well. */
static int lock_or_leave(pthread_mutex_t *mutex)
{
    int r;

    if (now.is_patient)
        return lock(mutex);
    do {
        bool is_known = now.left_to != 0 && owner_of(mutex) == now.left_to;

        r = lock_in_time(mutex, is_known ? 0 : berth__fork_lock_patience_ms * INT64_C(1000000));
    } while (r == -EAGAIN);
    return r == -ETIMEDOUT ? 0 : r;
}

/*
 * Signals come while another thread is waited for: that one may have been stopped by a signal, by
 * who waits until this thread has had it, too (a collector that stops the world). What their
 * handlers lock they are to have.
 */
static int lock_for_fork(pthread_mutex_t *mutex)
{
    struct berth_fork_turn waited;
    int r;

    if (is_mine(mutex)) {
        take_again(mutex);
        return 0;
    }
    if (now.is_aside)
        return lock(mutex);
    now.is_aside = true;
    berth__fork_turn_over(now.turn);
    r = lock_or_leave(mutex);
    berth__fork_turn_begin(&waited);
    now.is_aside = false;
    return r;
}

/* Neither another thread's, which the lock was left to, nor nobody's: one of an arena that came
 * after the first was asked for. */
static bool was_taken(const pthread_mutex_t *mutex)
{
    return (mutex->__data.__kind & KIND_ELISION) != 0 || owner_of(mutex) == now.giver;
}

static int unlock_for_fork(pthread_mutex_t *mutex)
{
    int r;

    if (mutex->__data.__count != 0) {
        mutex->__data.__count--;
        return 0;
    }
    if (now.giver != 0 && !was_taken(mutex))
        return 0;
    pass(mutex);
    r = pthread_mutex_unlock(mutex);
    pass(NULL);
    return r;
}

int berth_je_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    return BERTH_UNLIKELY(now.turn != NULL) ? lock_for_fork(mutex) : lock(mutex);
}

int berth_je_pthread_mutex_trylock(pthread_mutex_t *mutex)
{
    int r;

    pass(mutex);
    r = pthread_mutex_trylock(mutex);
    pass(NULL);
    return r;
}

int berth_je_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    int r;

    if (BERTH_UNLIKELY(now.turn != NULL))
        return unlock_for_fork(mutex);
    pass(mutex);
    r = pthread_mutex_unlock(mutex);
    pass(NULL);
    return r;
}

bool berth__fork_lock_be_patient(bool is_patient)
{
    bool was_patient = now.is_patient;

    now.is_patient = is_patient;
    return was_patient;
}

static unsigned arena_count(void)
{
    return &berth_je_narenas_total_get ? berth_je_narenas_total_get() : 0;
}

/* Whether some thread waits, or has waited a short time ago, for what this one had before. */
static bool is_waited_for(void)
{
    for (unsigned i = 0; i < own_count && i < OWN_MAX; i++)
        if (__atomic_load_n(&own[i]->__data.__lock, __ATOMIC_RELAXED) > 1)
            return true;
    return own_count > OWN_MAX;
}

/* Once, and how that went. Not *ret_is_whole: an arena came meanwhile, whose locks the handler may
 * not have known of. */
static struct take take_all(void (*take)(void), const struct take *how, bool *ret_is_whole)
{
    struct take outer = now, done;
    pthread_mutex_t *first = interrupted;
    unsigned arenas = arena_count();

    now = *how;
    interrupted = passing;
    if (!outer.turn)
        own_count = 0;
    take();
    done = now;
    now = outer;
    interrupted_first = first;
    *ret_is_whole = arena_count() == arenas;
    return done;
}

/*
 * Who gives a lock back wakes a thread that waits for it a few instructions later, and one that was
 * woken asks for it once more: this one may have been interrupted in between. The other would sleep
 * until the handler has returned, and have what is asked for here.
 */
static void wake_next(void)
{
    if (passing)
        syscall(SYS_futex, &passing->__data.__lock, FUTEX_WAKE_PRIVATE, 1);
}

/*
 * Nothing tells who waits for another lock than jemalloc's, which the code that was interrupted may
 * have, too. Where none was, each owner goes on some time, and what it is at must be finished.
 */
static bool is_given_up(const struct take *done, int *last, unsigned *rounds)
{
    *rounds = done->left_to == *last ? *rounds + 1 : 1;
    *last = done->left_to;
    if (*rounds < ROUNDS_MAX || (!done->has_own && !interrupted && berth__thread.inside == 0))
        return false;
    berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_FORK,
               "a fork amid an allocation has waited for thread %d, and goes on without", *last);
    return true;
}

/*
 * A thread that has one of the locks and waits for one that this thread had before cannot go on.
 * One that is only slow must have done with it, or the child would find what it guards half
 * changed: all are given back, and taken once more. So it is where this thread had none, as then
 * all are only a matter of time. A fork of a handler's amid another fork of its thread's leaves
 * nothing.
 */
bool berth__fork_lock_take(void (*take)(void), void (*give_back)(void),
                           const struct berth_fork_turn *turn)
{
    const struct take how = {.turn = turn, .is_patient = now.turn != NULL};
    unsigned rounds = 0;
    int last = 0;

    wake_next();
    for (;;) {
        bool is_whole;
        struct take done = take_all(take, &how, &is_whole);

        if (is_whole && (done.left_to == 0 || (done.has_own && is_waited_for()) ||
                         is_given_up(&done, &last, &rounds)))
            return done.has_own;
        berth__fork_lock_give_back(give_back);
    }
}

static void resume(void)
{
    pass(interrupted);
    interrupted = interrupted_first;
}

void berth__fork_lock_give_back(void (*give_back)(void))
{
    static const struct berth_fork_turn none;
    struct take outer = now;

    now = (struct take){.turn = &none, .giver = gettid(), .is_aside = true};
    give_back();
    now = outer;
    resume();
}

void berth__fork_lock_renew(void (*renew)(void))
{
    renew();
    resume();
}
