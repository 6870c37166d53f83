/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/move_side.h"

#include "alloc/thread.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

/* Beyond what the C library and thread-local storage need. */
#define STACK_SIZE ((size_t)256 << 10)
#define START_TRIES 200
#define TRY_EVERY_NS (1000 * 1000)

static void tell(struct berth_move_side *side, int state)
{
    pthread_mutex_lock(&side->lock);
    side->state = state;
    pthread_cond_broadcast(&side->changed);
    pthread_mutex_unlock(&side->lock);
}

static void *side_main(void *context)
{
    struct berth_move_side *side = context;
    int r;

    berth__thread.inside++;
    prctl(PR_SET_NAME, "berth-move-copy");
    r = side->leave(side->why, sizeof(side->why));
    tell(side, r < 0 ? r : 0);
    pthread_mutex_lock(&side->lock);
    while (!side->stops) {
        if (!side->task) {
            pthread_cond_wait(&side->changed, &side->lock);
            continue;
        }
        pthread_mutex_unlock(&side->lock);
        side->task(side->context);
        pthread_mutex_lock(&side->lock);
        side->task = NULL;
        pthread_cond_broadcast(&side->changed);
    }
    pthread_mutex_unlock(&side->lock);
    return NULL;
}

/*
 * While another thread is at execve(), the kernel starts none (EAGAIN). Either that call fails, and
 * then it does again, or this thread ends in here, with nothing said to whoever the program became.
 */
static int start_thread(struct berth_move_side *side, const pthread_attr_t *attributes)
{
    const struct timespec pause = {.tv_nsec = TRY_EVERY_NS};
    int r = pthread_create(&side->thread, attributes, side_main, side);

    for (int i = 1; i < START_TRIES && r == EAGAIN; i++) {
        nanosleep(&pause, NULL);
        r = pthread_create(&side->thread, attributes, side_main, side);
    }
    return r;
}

int berth__move_side_start(struct berth_move_side *side, int (*leave)(char *why, size_t why_size))
{
    long least = sysconf(_SC_THREAD_STACK_MIN);
    pthread_attr_t attributes;
    int r = pthread_attr_init(&attributes);

    if (r != 0)
        return -r;
    *side = (struct berth_move_side){.leave = leave, .state = 1};
    pthread_mutex_init(&side->lock, NULL);
    pthread_cond_init(&side->changed, NULL);
    pthread_attr_setstacksize(&attributes, STACK_SIZE + (least > 0 ? (size_t)least : 0));
    r = start_thread(side, &attributes);
    pthread_attr_destroy(&attributes);
    if (r != 0) {
        snprintf(side->why, sizeof(side->why), "no thread can be started: %s", strerrordesc_np(r));
        return -r;
    }
    pthread_mutex_lock(&side->lock);
    while (side->state > 0)
        pthread_cond_wait(&side->changed, &side->lock);
    r = side->state;
    pthread_mutex_unlock(&side->lock);
    if (r < 0)
        berth__move_side_stop(side);
    return r;
}

void berth__move_side_run(struct berth_move_side *side, void (*task)(void *context), void *context)
{
    pthread_mutex_lock(&side->lock);
    side->context = context;
    side->task = task;
    pthread_cond_broadcast(&side->changed);
    while (side->task)
        pthread_cond_wait(&side->changed, &side->lock);
    pthread_mutex_unlock(&side->lock);
}

void berth__move_side_stop(struct berth_move_side *side)
{
    pthread_mutex_lock(&side->lock);
    side->stops = true;
    pthread_cond_broadcast(&side->changed);
    pthread_mutex_unlock(&side->lock);
    pthread_join(side->thread, NULL);
    pthread_cond_destroy(&side->changed);
    pthread_mutex_destroy(&side->lock);
}
