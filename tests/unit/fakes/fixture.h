/* SPDX-License-Identifier: Apache-2.0 */
/* What every test of the simulated driver starts from: device 0 with its
 * primary context current, and a host function that can be held. */
#ifndef BERTH_TEST_FAKE_FIXTURE_H
#define BERTH_TEST_FAKE_FIXTURE_H

#include "tests/fakes/cuda/cuda_api.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#define assert_ok(call) assert_int_equal((call), CUDA_SUCCESS)

/* A gate holds a stream: the host function waits until the test opens it. */
struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool entered;
    bool is_open;
};

#define GATE_INIT                                                                                  \
    {                                                                                              \
        PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false                          \
    }

static inline void gate_pass(void *pointer)
{
    struct gate *gate = pointer;

    pthread_mutex_lock(&gate->mutex);
    gate->entered = true;
    pthread_cond_broadcast(&gate->changed);
    while (!gate->is_open)
        pthread_cond_wait(&gate->changed, &gate->mutex);
    pthread_mutex_unlock(&gate->mutex);
}

static inline void gate_open(struct gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
    gate->is_open = true;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->mutex);
}

static inline void gate_wait_entered(struct gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
    while (!gate->entered)
        pthread_cond_wait(&gate->changed, &gate->mutex);
    pthread_mutex_unlock(&gate->mutex);
}

static inline int use_device(int ordinal)
{
    CUcontext context;

    assert_ok(cuInit(0));
    assert_ok(cuDevicePrimaryCtxRetain(&context, ordinal));
    assert_ok(cuCtxSetCurrent(context));
    return 0;
}

static inline int use_device_0(void **state)
{
    (void)state;
    return use_device(0);
}

#endif
