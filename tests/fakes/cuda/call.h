/* SPDX-License-Identifier: Apache-2.0 */
/* A call: one entry point of the driver. The macros give every entry point
 * the same frame: is the driver up, injected latency and failure, the call
 * log; and enter it into the table from which cuGetProcAddress answers. */
#ifndef BERTH_FAKE_CALL_H
#define BERTH_FAKE_CALL_H

#include "cuda_api.h"
#include "state.h"

#include <stdatomic.h>

enum call_need {
    CALL_EARLY = 0,      /* works before cuInit */
    CALL_INIT = 1,       /* needs cuInit, and no host callback around it */
    CALL_UNSAFE = 2,     /* and is "potentially unsafe" while a stream is captured */
    CALL_PER_THREAD = 4, /* stream 0 is the thread's own stream (_ptds, _ptsz) */
};

struct call {
    const char *name;
    /* A local alias of the entry point: a preload library that exports the
     * same name must not end up in this library's own table. */
    void (*entry)(void);
    unsigned need;
    atomic_uint count; /* calls made while a failure is armed for this name */
    atomic_int armed;  /* 0: not looked up yet; 1: no setting; 2: settings exist */
};

#define FAKE_EXPORT __attribute__((visibility("default")))

/* `...` is a printf format and arguments for the log: only what is the same
 * in each run (sizes, flags, log_pointer()). */
#define FAKE_ENTRY(name, body, need, params, args, ...)                                            \
    FAKE_EXPORT CUresult name params;                                                              \
    extern __typeof__(name) name##_here __attribute__((alias(#name), visibility("hidden")));       \
    static struct call name##_call = {#name, (void (*)(void))name##_here, need, 0, 0};             \
    static struct call *name##_row __attribute__((section("fake_calls"), used)) = &name##_call;    \
    FAKE_EXPORT CUresult name params                                                               \
    {                                                                                              \
        struct call_frame frame = {0};                                                             \
        CUresult result;                                                                           \
                                                                                                   \
        if (call_is_logged())                                                                      \
            call_note_arguments(&frame, __VA_ARGS__);                                              \
        result = call_enter(&name##_call, &frame);                                                 \
        if (result == CUDA_SUCCESS)                                                                \
            result = body args;                                                                    \
        call_leave(&name##_call, &frame, result);                                                  \
        return result;                                                                             \
    }

#define FAKE_CALL(name, need, params, args, ...)                                                   \
    static CUresult name##_body params;                                                            \
    FAKE_ENTRY(name, name##_body, need, params, args, __VA_ARGS__)                                 \
    static CUresult name##_body params

/* Two entry points with one body; `suffix` is _ptds or _ptsz. */
#define FAKE_STREAM_CALL(name, suffix, need, params, args, ...)                                    \
    static CUresult name##_body params;                                                            \
    FAKE_ENTRY(name, name##_body, need, params, args, __VA_ARGS__)                                 \
    FAKE_ENTRY(name##suffix, name##_body, (need) | CALL_PER_THREAD, params, args, __VA_ARGS__)     \
    static CUresult name##_body params

struct call_frame {
    bool outer_per_thread;
    char arguments[160];
};

bool call_is_logged(void);
__attribute__((format(printf, 2, 3))) void call_note_arguments(struct call_frame *frame,
                                                               const char *format, ...);
CUresult call_enter(struct call *call, struct call_frame *frame);
void call_leave(struct call *call, struct call_frame *frame, CUresult result);
/* Adds " -> text" to the log line of the call that this thread is in. */
__attribute__((format(printf, 1, 2))) void call_note_result(const char *format, ...);
/* The ruined context is gone: calls are no longer answered with the error that stuck to it. */
void call_unstick(void);
/* The entry point of that exact exported name, or NULL. */
void (*call_find(const char *symbol))(void);

#endif
