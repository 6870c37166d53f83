/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/move_thread.h"

#include "alloc/thread.h"
#include "ipc/descriptors.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Beyond what the C library and thread-local storage need. */
#define STACK_SIZE ((size_t)256 << 10)

static void *move_main(void *context)
{
    (void)context;
    berth__thread.inside++; /* for good: nothing of this thread's is placed or recorded */
    prctl(PR_SET_NAME, "berth-move");
    berth__move_door->run(berth__descriptors_leave);
    return NULL;
}

static int start_thread(void)
{
    long least = sysconf(_SC_THREAD_STACK_MIN);
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_t thread;
    int r = pthread_attr_init(&attributes);

    if (r != 0)
        return -r;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_SIZE + (least > 0 ? (size_t)least : 0));
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = pthread_create(&thread, &attributes, move_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -r;
}

int berth__move_thread_start(const struct berth_move_order *order, uint64_t *ret_job, char *why,
                             size_t why_size)
{
    int r = berth__move_door ? berth__move_door->start(order, ret_job) : -ENOSYS;

    if (r == -ENOSYS)
        snprintf(why, why_size, "libberth-malloc.so is not preloaded in this process");
    else if (r == -EBUSY)
        snprintf(why, why_size, "another job is under way; see move.state and move.cancel");
    else if (r == -EPERM)
        snprintf(why, why_size,
                 "the program limits its own system calls (seccomp), and those of a "
                 "move could end it");
    if (r < 0)
        return r;
    r = start_thread();
    if (r < 0) {
        snprintf(why, why_size, "no thread could be started: %s", strerrordesc_np(-r));
        /* The job ends as one that was cancelled before its first block. */
        berth__move_door->cancel();
        berth__move_door->run(NULL);
    }
    return r;
}
