/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A short sleep of a program's own thread. nanosleep() and its relatives are cancellation points:
 * a thread that was cancelled there would take with it what it holds, or is to give back.
 */
#ifndef BERTH_ALLOC_PAUSE_H
#define BERTH_ALLOC_PAUSE_H

#include <errno.h>
#include <pthread.h>
#include <time.h>

/* Less than a second; a signal may cut it short. Any thread; keeps errno. */
static inline void berth__pause(long ns)
{
    const struct timespec pause = {.tv_nsec = ns};
    int saved_errno = errno;
    int cancel_state;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    pthread_setcancelstate(cancel_state, NULL);
    errno = saved_errno;
}

#endif
