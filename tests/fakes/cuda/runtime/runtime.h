/* SPDX-License-Identifier: Apache-2.0 */
/* A small CUDA runtime over any driver that offers the public entry points.
 * The macros give each call the same frame: the driver is loaded and
 * initialised, the thread has a context, the result becomes the last error. */
#ifndef BERTH_FAKE_RUNTIME_H
#define BERTH_FAKE_RUNTIME_H

#include "driver.h"
#include "runtime_api.h"

#define RUNTIME_EXPORT __attribute__((visibility("default")))
#define RUNTIME_VERSION 13000

/* Loads and initialises; then makes the thread's device current. */
cudaError_t runtime_init(void);
cudaError_t runtime_enter(void);
/* Remembers an error for cudaGetLastError and returns it. */
cudaError_t runtime_result(cudaError_t error);
static inline cudaError_t from_driver(CUresult result)
{
    return (cudaError_t)result; /* the runtime uses the driver's numbers */
}

/* `need` is runtime_enter, runtime_init or driver_load. */
#define RUNTIME_CALL(name, need, params, args)                                                     \
    static cudaError_t name##_body params;                                                         \
    RUNTIME_EXPORT cudaError_t name params;                                                        \
    RUNTIME_EXPORT cudaError_t name params                                                         \
    {                                                                                              \
        cudaError_t error = need();                                                                \
                                                                                                   \
        return runtime_result(error == cudaSuccess ? name##_body args : error);                    \
    }                                                                                              \
    static cudaError_t name##_body params

#define UNPACK(...) __VA_ARGS__

#define RUNTIME_STREAM_ENTRY(name, body, index, params, args)                                      \
    RUNTIME_EXPORT cudaError_t name(UNPACK params);                                                \
    RUNTIME_EXPORT cudaError_t name(UNPACK params)                                                 \
    {                                                                                              \
        cudaError_t error = runtime_enter();                                                       \
                                                                                                   \
        return runtime_result(error == cudaSuccess ? body(&driver_streams[index], UNPACK args)     \
                                                   : error);                                       \
    }

/* Two exported calls with one body, which gets the driver's table `d`. */
#define RUNTIME_STREAM_CALL(name, suffix, params, args)                                            \
    static cudaError_t name##_body(const struct driver_streams *d, UNPACK params);                 \
    RUNTIME_STREAM_ENTRY(name, name##_body, 0, params, args)                                       \
    RUNTIME_STREAM_ENTRY(name##suffix, name##_body, 1, params, args)                               \
    static cudaError_t name##_body(const struct driver_streams *d, UNPACK params)

#endif
