/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A second thread of the mover's, with a table of descriptors of its own.
 *
 * To make room in a tier, the mover needs the tier's file, which is in the program's table. But the
 * descriptor that holds writers back must not be there: a program that closes all descriptors it
 * finds would let its own threads write where nobody looks any more. So what needs that descriptor
 * happens on this thread, while the mover waits.
 */
#ifndef BERTH_PMEM_MOVE_SIDE_H
#define BERTH_PMEM_MOVE_SIDE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct berth_move_side {
    int (*leave)(char *why, size_t why_size); /* leaves the program's table; 0 or negative errno */
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    void (*task)(void *context); /* NULL: there is nothing to do */
    void *context;
    bool stops;
    int state; /* 1 = starting; 0 = it runs; or negative errno */
    char why[128];
};

/* Starts the thread. 0, or negative errno with one sentence in side->why. */
int berth__move_side_start(struct berth_move_side *side, int (*leave)(char *why, size_t why_size));
/* Has the thread do the task, and waits for it. */
void berth__move_side_run(struct berth_move_side *side, void (*task)(void *context), void *context);
/* Ends the thread. */
void berth__move_side_stop(struct berth_move_side *side);

#endif
