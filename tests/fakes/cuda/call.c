/* SPDX-License-Identifier: Apache-2.0 */
#include "call.h"

#include "capture.h"
#include "log.h"
#include "settings.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The linker collects the rows that FAKE_ENTRY made between these two. */
extern struct call *__start_fake_calls[];
extern struct call *__stop_fake_calls[];

static struct call **sorted_calls;
static size_t sorted_count;

static int call_compare(const void *a, const void *b)
{
    return strcmp((*(struct call *const *)a)->name, (*(struct call *const *)b)->name);
}

static void call_sort(void)
{
    sorted_count = (size_t)(__stop_fake_calls - __start_fake_calls);
    sorted_calls = malloc(sorted_count * sizeof(*sorted_calls));
    if (!sorted_calls) {
        sorted_count = 0;
        return;
    }
    memcpy(sorted_calls, __start_fake_calls, sorted_count * sizeof(*sorted_calls));
    qsort(sorted_calls, sorted_count, sizeof(*sorted_calls), call_compare);
}

void (*call_find(const char *symbol))(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct call key = {.name = symbol}, *key_pointer = &key, **found;

    pthread_once(&once, call_sort);
    found = sorted_count ? bsearch(&key_pointer, sorted_calls, sorted_count, sizeof(*sorted_calls),
                                   call_compare)
                         : NULL;
    return found ? (*found)->entry : NULL;
}

bool call_is_logged(void)
{
    return log_is_open();
}

void call_note_arguments(struct call_frame *frame, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    vsnprintf(frame->arguments, sizeof(frame->arguments), format, list);
    va_end(list);
    thread_state()->result_note[0] = 0;
}

void call_note_result(const char *format, ...)
{
    struct thread_state *thread = thread_state();
    va_list list;

    if (!log_is_open())
        return;
    va_start(list, format);
    vsnprintf(thread->result_note, sizeof(thread->result_note), format, list);
    va_end(list);
}

/* The error that every call answers with, once a failure that sticks has happened; 0: none. Real
 * ones belong to one context: here there is one for the process. */
static atomic_int stuck;

/*
 * What still works on a context that an asynchronous error has ruined: whatever asks nothing of it,
 * and what gets rid of it. QUESTION(gpu): do cuPointerGetAttribute and cuMemGetAddressRange answer
 * then? Here: no.
 */
static bool call_survives(const struct call *call)
{
    static const char *const names[] = {
        "cuDevice",        "cuInit",          "cuDriver",          "cuGet",
        "cuCtxGetCurrent", "cuCtxSetCurrent", "cuCtxPushCurrent",  "cuCtxPopCurrent",
        "cuCtxGetDevice",  "cuCtxDestroy",    "cuCtxGetApiVersion"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strncmp(call->name, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

void call_unstick(void)
{
    atomic_store(&stuck, 0);
}

/* Latency and failure as BERTH_FAKE_LATENCY and BERTH_FAKE_FAIL ask for. */
static CUresult call_disturb(struct call *call)
{
    int armed = atomic_load_explicit(&call->armed, memory_order_acquire);
    int64_t latency_ns;
    bool is_sticky = false;
    int result = atomic_load_explicit(&stuck, memory_order_relaxed);

    if (result != 0 && !call_survives(call))
        return (CUresult)result;
    if (armed == 0) {
        armed = settings_name(call->name) ? 2 : 1;
        atomic_store_explicit(&call->armed, armed, memory_order_release);
    }
    if (armed == 1)
        return CUDA_SUCCESS;
    latency_ns = settings_latency_ns(call->name);
    if (latency_ns > 0) {
        struct timespec time = {latency_ns / 1000000000, latency_ns % 1000000000};

        while (clock_nanosleep(CLOCK_MONOTONIC, 0, &time, &time) != 0) {
        }
    }
    result = settings_failure(call->name, atomic_fetch_add(&call->count, 1) + 1, &is_sticky);
    if (is_sticky)
        atomic_store(&stuck, result);
    return (CUresult)result;
}

CUresult call_enter(struct call *call, struct call_frame *frame)
{
    struct thread_state *thread = thread_state();
    CUresult result;

    frame->outer_per_thread = thread->per_thread_default;
    thread->per_thread_default = (call->need & CALL_PER_THREAD) != 0;
    if (call->need & ~CALL_PER_THREAD) {
        result = state_check();
        if (result != CUDA_SUCCESS)
            return result;
        /* QUESTION(gpu): does the driver refuse every call made from inside a
         * host callback, or only those that could wait for the callback? */
        if (thread->in_callback)
            return CUDA_ERROR_NOT_PERMITTED;
    }
    result = call_disturb(call);
    if (result == CUDA_SUCCESS && (call->need & CALL_UNSAFE))
        result = capture_check_unsafe();
    return result;
}

void call_leave(struct call *call, struct call_frame *frame, CUresult result)
{
    struct thread_state *thread = thread_state();

    thread->per_thread_default = frame->outer_per_thread;
    if (log_is_open()) {
        log_line(call->name, frame->arguments, (int)result, thread->result_note);
        thread->result_note[0] = 0;
    }
}
