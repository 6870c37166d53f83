/* SPDX-License-Identifier: Apache-2.0 */
/* The process-wide state of the simulated driver: whether it is up, the one
 * lock that guards every table, and what each thread remembers. */
#ifndef BERTH_FAKE_STATE_H
#define BERTH_FAKE_STATE_H

#include "cuda_abi.h"

#include <pthread.h>
#include <stdbool.h>

struct thread_state {
    uint64_t serial;           /* names the thread's default streams; never reused */
    struct context **contexts; /* the stack of current contexts, top last */
    size_t contexts_count;
    size_t contexts_capacity;
    CUstreamCaptureMode capture_mode;
    bool per_thread_default; /* the call in progress is a _ptds or _ptsz one */
    bool in_callback;        /* this thread is running a host callback */
    bool is_kept;            /* what it has is given back when it ends */
    char result_note[64];
};

/* Guards every table of the simulator. Never held while a stream's work, a
 * host callback or a kernel runs, and never while waiting for one. */
void state_lock(void);
void state_unlock(void);
/* Waits, with the lock given up, until some work has finished. */
void state_wait_progress(void);
void state_announce_progress(void);
pthread_mutex_t *state_mutex(void);

/* CUDA_SUCCESS, or why no call can be served: not initialised, a forked
 * child of an initialised process, shutting down. */
CUresult state_check(void);
CUresult state_init(void);
struct thread_state *thread_state(void);

#endif
