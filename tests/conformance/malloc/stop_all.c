/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that stops all its threads by a signal, again and again, as conservative collectors do,
 * while some of them allocate and one forks. Whoever is stopped amid malloc() has its locks, and
 * the thread that forks may be waiting for these: it has to answer the signal nevertheless.
 */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS 3
#define ROUNDS 1000
#define ROUNDS_TO_A_FORK 16
#define BLOCKS 64

static sem_t stopped;
static atomic_uint round_now;
static atomic_bool quits;

/* Signals to go on wait until sigsuspend(), so that none is lost. */
static void stop(int number)
{
    unsigned here = atomic_load(&round_now);
    sigset_t others;

    (void)number;
    sigfillset(&others);
    sigdelset(&others, SIGUSR2);
    sem_post(&stopped);
    while (atomic_load(&round_now) == here)
        sigsuspend(&others);
}

static void go_on(int number)
{
    (void)number;
}

static void *allocate(void *seed)
{
    unsigned x = (unsigned)(size_t)seed;
    char *blocks[BLOCKS] = {NULL};

    while (!atomic_load(&quits)) {
        unsigned at;

        x = x * 1103515245 + 12345;
        at = (x >> 16) % BLOCKS;
        free(blocks[at]);
        blocks[at] = malloc((x >> 8) % 3 ? 20000 + (x >> 10) % 300000 : (x >> 10) % 4000 + 1);
        if (blocks[at])
            blocks[at][0] = 1;
    }
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    return NULL;
}

static atomic_uint forks;

static void *fork_often(void *unused)
{
    while (!atomic_load(&quits)) {
        pid_t child = fork();

        if (child == 0)
            _exit(0);
        if (child > 0 && waitpid(child, NULL, 0) == child)
            atomic_fetch_add(&forks, 1);
    }
    return unused;
}

/*
 * The kernel has a fork begin anew that a signal comes amid: where rounds are fast none would ever
 * come to its end.
 */
static void await_fork(void)
{
    unsigned before = atomic_load(&forks);

    while (atomic_load(&forks) == before)
        sched_yield();
}

int main(void)
{
    struct sigaction action = {.sa_handler = stop, .sa_flags = SA_RESTART};
    pthread_t threads[WORKERS + 1];

    sem_init(&stopped, 0, 0);
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaction(SIGUSR1, &action, NULL);
    action.sa_handler = go_on;
    sigaction(SIGUSR2, &action, NULL);
    for (size_t i = 0; i < WORKERS; i++)
        pthread_create(&threads[i], NULL, allocate, (void *)(i + 1));
    pthread_create(&threads[WORKERS], NULL, fork_often, NULL);
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (i % ROUNDS_TO_A_FORK == 0)
            await_fork();
        for (int t = 0; t <= WORKERS; t++)
            pthread_kill(threads[t], SIGUSR1);
        for (int t = 0; t <= WORKERS; t++)
            while (sem_wait(&stopped) != 0)
                ;
        atomic_fetch_add(&round_now, 1);
        for (int t = 0; t <= WORKERS; t++)
            pthread_kill(threads[t], SIGUSR2);
    }
    atomic_store(&quits, true);
    for (int t = 0; t <= WORKERS; t++)
        pthread_join(threads[t], NULL);
    printf("%d\n", atomic_load(&forks) >= ROUNDS / ROUNDS_TO_A_FORK);
    return 0;
}
