/* SPDX-License-Identifier: Apache-2.0 */
#include "state.h"

#include "call.h"
#include "device.h"
#include "settings.h"
#include "stream.h"
#include "window.h"

#include <stdatomic.h>
#include <stdlib.h>

enum phase { PHASE_BEFORE, PHASE_UP, PHASE_DOWN, PHASE_FORKED };

/* Most calls hold it for some hundred instructions; a thread that slept each time that it meets
 * another would take a hundred times as long as on a real driver, whose locks spin. */
static pthread_mutex_t mutex = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
static pthread_cond_t progress = PTHREAD_COND_INITIALIZER;
static atomic_int phase = PHASE_BEFORE;
static pthread_key_t thread_key;
static pthread_once_t thread_key_once = PTHREAD_ONCE_INIT;
static atomic_ullong thread_serial = 1;
static __thread struct thread_state thread;

void state_lock(void)
{
    pthread_mutex_lock(&mutex);
}

void state_unlock(void)
{
    pthread_mutex_unlock(&mutex);
}

pthread_mutex_t *state_mutex(void)
{
    return &mutex;
}

void state_wait_progress(void)
{
    pthread_cond_wait(&progress, &mutex);
}

void state_announce_progress(void)
{
    pthread_cond_broadcast(&progress);
}

static void thread_done(void *pointer)
{
    struct thread_state *leaving = pointer;

    if (atomic_load(&phase) == PHASE_UP) {
        state_lock();
        stream_forget_thread(leaving->serial);
        state_unlock();
    }
    free(leaving->contexts);
    leaving->contexts = NULL;
    leaving->contexts_count = leaving->contexts_capacity = 0;
    leaving->is_kept = false;
}

static void thread_key_make(void)
{
    pthread_key_create(&thread_key, thread_done);
}

struct thread_state *thread_state(void)
{
    if (thread.serial == 0) {
        thread.serial = atomic_fetch_add(&thread_serial, 1);
        pthread_once(&thread_key_once, thread_key_make);
    }
    /* A call from another destructor may come after this one's: then there is more to give back. */
    if (!thread.is_kept) {
        thread.is_kept = true;
        pthread_setspecific(thread_key, &thread);
    }
    return &thread;
}

CUresult state_check(void)
{
    switch (atomic_load_explicit(&phase, memory_order_acquire)) {
    case PHASE_UP:
        return CUDA_SUCCESS;
    case PHASE_DOWN:
        return CUDA_ERROR_DEINITIALIZED;
    default:
        return CUDA_ERROR_NOT_INITIALIZED;
    }
}

/* A child must not use its parent's driver state: the worker threads are
 * gone and the lock may be held by one of them. */
static void state_forked(void)
{
    if (atomic_load(&phase) != PHASE_BEFORE)
        atomic_store(&phase, PHASE_FORKED);
}

/* QUESTION(gpu): the driver shuts down in an exit handler that cuInit
 * registers, so that static destructors of objects made before cuInit get
 * DEINITIALIZED; is that the order on the real driver too? */
static void state_done(void)
{
    if (atomic_load(&phase) == PHASE_UP)
        atomic_store(&phase, PHASE_DOWN);
}

CUresult state_init(void)
{
    CUresult result = CUDA_SUCCESS;

    if (atomic_load(&phase) == PHASE_FORKED)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (atomic_load(&phase) == PHASE_DOWN)
        return CUDA_ERROR_DEINITIALIZED;
    if (!settings_are_valid())
        return CUDA_ERROR_OPERATING_SYSTEM;
    state_lock();
    if (atomic_load(&phase) == PHASE_BEFORE) {
        result = window_init();
        if (result == CUDA_SUCCESS)
            result = device_init();
        if (result == CUDA_SUCCESS) {
            atexit(state_done);
            pthread_atfork(NULL, NULL, state_forked);
            atomic_store_explicit(&phase, PHASE_UP, memory_order_release);
        }
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuInit, CALL_EARLY, (unsigned int flags), (flags), "flags=%u", flags)
{
    return flags ? CUDA_ERROR_INVALID_VALUE : state_init();
}

FAKE_CALL(cuDriverGetVersion, CALL_EARLY, (int *ret_version), (ret_version), "%s", "")
{
    if (!ret_version)
        return CUDA_ERROR_INVALID_VALUE;
    *ret_version = settings_driver_version();
    return CUDA_SUCCESS;
}
