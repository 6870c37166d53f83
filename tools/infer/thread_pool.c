/* SPDX-License-Identifier: Apache-2.0 */
#include "thread_pool.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* About 20 microseconds: longer than the gap between two products of one token. */
#define SPINS_MAX 1000

/* A ticket is (round << 32 | next piece); a closed round has no piece left to claim. */
#define PIECE_CLOSED UINT32_MAX

/*
 * One round at a time is open. The caller closes the ticket, writes the job, then opens
 * the next round. A worker reads the job before it claims a piece with a compare-and-swap
 * of the whole ticket: if that succeeds, the round was still open and the job it read is
 * that round's, because a round is only closed once all its pieces are done. All of these
 * atomics are sequentially consistent, so that this argument needs no fences.
 */
struct berth_thread_pool {
    _Atomic uint64_t ticket;
    _Atomic(berth_range_fn *) fn;
    _Atomic(void *) arg;
    _Atomic size_t count;
    _Atomic size_t grain;
    _Atomic uint32_t pieces;
    _Atomic uint32_t finished; /* pieces of this round that are done; the caller's futex */
    _Atomic uint32_t round;    /* the workers' futex: changes when a round opens */
    _Atomic uint32_t sleepers;
    _Atomic bool caller_sleeps;
    _Atomic bool stopping;
    unsigned int spins; /* immutable */
    size_t threads;     /* immutable; the caller included */
    size_t started;     /* caller only */
    pthread_t *workers; /* caller only */
};

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t seen)
{
    syscall(SYS_futex, (void *)word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int count)
{
    syscall(SYS_futex, (void *)word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static void piece_finish(struct berth_thread_pool *pool, uint32_t pieces)
{
    if (atomic_fetch_add(&pool->finished, 1) + 1 == pieces && atomic_load(&pool->caller_sleeps))
        futex_wake(&pool->finished, 1);
}

static void pieces_take(struct berth_thread_pool *pool)
{
    uint64_t ticket = atomic_load(&pool->ticket);

    for (;;) {
        uint32_t piece = (uint32_t)ticket, pieces = atomic_load(&pool->pieces);
        berth_range_fn *fn = atomic_load(&pool->fn);
        void *arg = atomic_load(&pool->arg);
        size_t count = atomic_load(&pool->count), grain = atomic_load(&pool->grain);
        size_t begin = piece * grain;

        if (piece >= pieces)
            return;
        if (!atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket + 1))
            continue;
        fn(arg, begin, count - begin < grain ? count : begin + grain);
        piece_finish(pool, pieces);
        ticket = atomic_load(&pool->ticket);
    }
}

/* Returns when the round is no longer `seen`. */
static void round_await(struct berth_thread_pool *pool, uint32_t seen)
{
    for (unsigned int i = 0; i < pool->spins; i++) {
        if (atomic_load(&pool->round) != seen)
            return;
        cpu_relax();
    }
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->round) == seen)
        futex_wait(&pool->round, seen);
    atomic_fetch_sub(&pool->sleepers, 1);
}

static void *worker_main(void *arg)
{
    struct berth_thread_pool *pool = arg;
    uint32_t seen = 0;

    for (;;) {
        round_await(pool, seen);
        if (atomic_load(&pool->stopping))
            return NULL;
        seen = atomic_load(&pool->round);
        pieces_take(pool);
    }
}

static void round_open(struct berth_thread_pool *pool)
{
    atomic_fetch_add(&pool->round, 1);
    if (atomic_load(&pool->sleepers) > 0)
        futex_wake(&pool->round, INT_MAX);
}

static void finish_await(struct berth_thread_pool *pool, uint32_t pieces)
{
    uint32_t finished;

    for (unsigned int i = 0; i < pool->spins; i++) {
        if (atomic_load(&pool->finished) == pieces)
            return;
        cpu_relax();
    }
    atomic_store(&pool->caller_sleeps, true);
    while ((finished = atomic_load(&pool->finished)) != pieces)
        futex_wait(&pool->finished, finished);
    atomic_store(&pool->caller_sleeps, false);
}

void berth__thread_pool_run(struct berth_thread_pool *pool, berth_range_fn *fn, void *arg,
                            size_t count, size_t grain)
{
    uint64_t round = (atomic_load(&pool->ticket) >> 32) + 1;
    size_t pieces;

    /* The piece number has 32 bits, one value of which means closed. */
    while ((pieces = (count + grain - 1) / grain) >= PIECE_CLOSED)
        grain *= 2;
    if (pieces == 0)
        return;
    if (pieces == 1 || pool->threads == 1) {
        fn(arg, 0, count);
        return;
    }
    atomic_store(&pool->ticket, round << 32 | PIECE_CLOSED);
    atomic_store(&pool->fn, fn);
    atomic_store(&pool->arg, arg);
    atomic_store(&pool->count, count);
    atomic_store(&pool->grain, grain);
    atomic_store(&pool->pieces, (uint32_t)pieces);
    atomic_store(&pool->finished, 0);
    atomic_store(&pool->ticket, round << 32);
    round_open(pool);
    pieces_take(pool);
    finish_await(pool, (uint32_t)pieces);
}

/* Signals are the main thread's: a worker would only be interrupted for nothing. */
static int workers_start(struct berth_thread_pool *pool, struct berth_failure *failure)
{
    sigset_t all, before;
    int r = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (r == 0 && pool->started + 1 < pool->threads) {
        r = pthread_create(&pool->workers[pool->started], NULL, worker_main, pool);
        if (r == 0)
            pool->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (r != 0)
        return berth__failure_set(failure, r, "--threads %zu: cannot start thread %zu: %s",
                                  pool->threads, pool->started + 2, strerror(r));
    return 0;
}

int berth__thread_pool_new(size_t threads, struct berth_failure *failure,
                           struct berth_thread_pool **ret_pool)
{
    struct berth_thread_pool *pool = calloc(1, sizeof(*pool));
    int r;

    if (!pool)
        return berth__failure_no_memory(failure, "thread pool", sizeof(*pool));
    pool->threads = threads;
    /* With fewer CPUs than threads, spinning takes the CPU from whom it waits for. */
    pool->spins = threads > berth__thread_pool_online() ? 0 : SPINS_MAX;
    pool->workers = calloc(threads, sizeof(pool->workers[0]));
    if (!pool->workers) {
        free(pool);
        return berth__failure_no_memory(failure, "thread pool", threads * sizeof(pthread_t));
    }
    r = workers_start(pool, failure);
    if (r < 0) {
        berth__thread_pool_free(pool);
        return r;
    }
    *ret_pool = pool;
    return 0;
}

void berth__thread_pool_free(struct berth_thread_pool *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->stopping, true);
    round_open(pool);
    for (size_t i = 0; i < pool->started; i++)
        pthread_join(pool->workers[i], NULL);
    free(pool->workers);
    free(pool);
}

size_t berth__thread_pool_size(const struct berth_thread_pool *pool)
{
    return pool->threads;
}

/* The CPUs' worth of time that the control group allows, rounded up; SIZE_MAX without a limit. More
 * threads than that are all put aside for the rest of each period. */
static size_t group_cpus(void)
{
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    unsigned long long quota, period;
    size_t cpus = SIZE_MAX;

    if (!file)
        return cpus;
    if (fscanf(file, "%llu %llu", &quota, &period) == 2 && quota > 0 && period > 0)
        cpus = (size_t)((quota + period - 1) / period);
    fclose(file);
    return cpus;
}

static size_t mask_cpus(void)
{
    cpu_set_t set;
    long online;

    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        return (size_t)CPU_COUNT(&set);
    /* More CPUs than the set has room for. */
    online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (size_t)online : 1;
}

size_t berth__thread_pool_online(void)
{
    size_t mask = mask_cpus(), group = group_cpus(), least = mask < group ? mask : group;

    return least < BERTH_THREADS_MAX ? least : BERTH_THREADS_MAX;
}
