/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/fork_lock.h"

#include "alloc/clock.h"
#include "alloc/types.h"
#include "pmem/jemalloc.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* jemalloc's locks are ordered by rank, and there are fewer ranks: a thread holds one or two each.
 */
#define OWN_MAX 64

/* A lock that the forking thread held before, and what it was like. */
struct own_lock {
    pthread_mutex_t *mutex;
    int kind, owner;
};

/* Guarded by jemalloc's first lock, and empty whenever that is free. */
static struct own_lock own[OWN_MAX];
static unsigned own_count;

/* What is just being taken or given back, when the C library may not have noted it yet, or no
 * more. */
static __thread pthread_mutex_t *passing;
/* The same of what was interrupted. */
static __thread pthread_mutex_t *interrupted;
/* This thread is taking all, and these signals wait meanwhile; NULL: it is not. */
static __thread const struct berth_fork_turn *taking;

/* How long another thread may take to note that it has a lock. */
#define NOTE_WAIT_MS 50

/*
 * Another thread may have a lock and wait for one that this thread was interrupted with: neither
 * would ever go on. So a lock is waited for so long, and then left to the other one for once.
 */
int berth__fork_lock_patience_ms = 1000;

/* There is hardly more than one such thread, and it has few locks; beyond these they are waited
 * for. What the outermost fork of the thread has left. */
#define LEFT_MAX 4
static __thread struct own_lock left[LEFT_MAX];
static __thread unsigned left_count;
/* This thread waits for as long as it takes. */
static __thread bool is_patient;

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
 * Has the lock bear to be taken once more by its owner. Another thread may see the one kind when it
 * asks for the lock and the other when it gives it back: these are alike but for the count, of
 * which one that is no longer used is left.
 */
static void hold_twice(pthread_mutex_t *mutex)
{
    if (own_count == OWN_MAX)
        return;
    own[own_count] = (struct own_lock){mutex, mutex->__data.__kind, owner_of(mutex)};
    own_count++;
    mutex->__data.__count = 1;
    __atomic_store_n(&mutex->__data.__owner, gettid(), __ATOMIC_RELAXED);
    __atomic_store_n(&mutex->__data.__kind, PTHREAD_MUTEX_RECURSIVE, __ATOMIC_RELAXED);
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

/*
 * What is no thread's to give back but its owner's bears to be given back by this one, in vain: of
 * a lock that checks, the C library refuses it. It counts nothing, so that all threads may see the
 * one kind when they ask for it and the other when they give it back.
 */
static void leave(pthread_mutex_t *mutex)
{
    left[left_count] = (struct own_lock){mutex, mutex->__data.__kind, owner_of(mutex)};
    left_count++;
    __atomic_store_n(&mutex->__data.__kind, PTHREAD_MUTEX_ERRORCHECK, __ATOMIC_RELAXED);
}

static int lock_or_leave(pthread_mutex_t *mutex)
{
    int64_t end = berth__clock_ns() + berth__fork_lock_patience_ms * INT64_C(1000000);
    const struct timespec until = {.tv_sec = end / 1000000000, .tv_nsec = end % 1000000000};
    int r;

    if (is_patient || left_count == LEFT_MAX)
        return lock(mutex);
    pass(mutex);
    r = pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &until);
    pass(NULL);
    if (r != ETIMEDOUT || owner_of(mutex) == 0)
        return r == ETIMEDOUT ? lock(mutex) : r;
    leave(mutex);
    return 0;
}

/*
 * Signals come while another thread is waited for: that one may have been stopped by a signal, by
 * who waits until this thread has had it, too (a collector that stops the world).
 */
static int lock_for_fork(pthread_mutex_t *mutex, const struct berth_fork_turn *turn)
{
    struct berth_fork_turn waited;
    int r;

    if (is_mine(mutex)) {
        hold_twice(mutex);
        return lock(mutex);
    }
    berth__fork_turn_over(turn);
    r = lock_or_leave(mutex);
    berth__fork_turn_begin(&waited);
    return r;
}

int berth_je_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    return BERTH_UNLIKELY(taking != NULL) ? lock_for_fork(mutex, taking) : lock(mutex);
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

    pass(mutex);
    r = pthread_mutex_unlock(mutex);
    pass(NULL);
    return r;
}

/* A fork of a handler's, amid a wait of this thread's for another one, leaves nothing. */
static bool take_all(void (*take)(void), const struct berth_fork_turn *turn, bool patiently)
{
    const struct berth_fork_turn *outer = taking;
    bool was_patient = is_patient;

    interrupted = passing;
    is_patient = patiently || outer;
    taking = turn;
    take();
    taking = outer;
    is_patient = was_patient;
    return own_count != 0;
}

bool berth__fork_lock_take(void (*take)(void), void (*give_back)(void),
                           const struct berth_fork_turn *turn)
{
    bool has_own = take_all(take, turn, false);

    /* Nobody waits for a thread that has none: all are only a matter of time. */
    if (taking || left_count == 0 || has_own)
        return has_own;
    berth__fork_lock_give_back(give_back);
    return take_all(take, turn, true);
}

static void give_back_left(void)
{
    while (left_count > 0) {
        struct own_lock *lock = &left[--left_count];

        __atomic_store_n(&lock->mutex->__data.__kind, lock->kind, __ATOMIC_RELAXED);
    }
}

void berth__fork_lock_give_back(void (*give_back)(void))
{
    struct own_lock mine[OWN_MAX];
    unsigned count = own_count;

    memcpy(mine, own, count * sizeof(own[0]));
    own_count = 0;
    give_back();
    for (unsigned i = 0; i < count; i++) {
        __atomic_store_n(&mine[i].mutex->__data.__kind, mine[i].kind, __ATOMIC_RELAXED);
        __atomic_store_n(&mine[i].mutex->__data.__owner, mine[i].owner, __ATOMIC_RELAXED);
    }
    if (!taking)
        give_back_left();
    pass(interrupted);
}

void berth__fork_lock_renew(void (*renew)(void))
{
    own_count = left_count = 0;
    renew();
    pass(interrupted);
}
