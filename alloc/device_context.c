/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/device_context.h"

#include "alloc/log.h"

#include <errno.h>
#include <pthread.h>

/* How often at most a context is used without a look at the driver's. */
#define USES_MAX 256

__thread struct berth_context_memory berth__context_memory;
_Atomic uint64_t berth__context_generation = 1;

/* Raised when a switch was not seen, and at exit. */
static atomic_bool is_distrusted;

static void distrust(void)
{
    static atomic_int said;

    berth__context_track_no_more();
    berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_CUDA,
                    "a thread's CUDA context changed in a way that Berth does not see; the driver "
                    "is asked for it at each allocation from now on");
}

static pthread_key_t key;
static bool has_key;

static void thread_ends(void *argument)
{
    struct berth_context_memory *memory = argument;

    memory->is_ending = true;
    memory->generation = 0;
}

void berth__context_watch(void)
{
    if (!has_key)
        has_key = pthread_key_create(&key, thread_ends) == 0;
}

/* Whether what the driver says of the calling thread holds until a hook sees a change. */
static bool is_worth_keeping(struct berth_context_memory *memory)
{
    if (!memory->is_watched)
        memory->is_watched = has_key && pthread_setspecific(key, memory) == 0;
    return memory->is_watched && !memory->is_ending &&
           !atomic_load_explicit(&is_distrusted, memory_order_relaxed);
}

int berth__context_ask(berth_cu_context *ret, bool *ret_seen)
{
    struct berth_context_memory *memory = &berth__context_memory;
    /* Before the question: a context that ends while it is answered is forgotten again. */
    uint64_t generation = atomic_load_explicit(&berth__context_generation, memory_order_acquire);
    berth_cu_context context = NULL;
    bool seen;
    int r;

    if (!berth__driver.cuCtxGetCurrent)
        return -ENOSYS;
    r = berth__device_error(berth__driver.cuCtxGetCurrent(&context));
    if (r < 0) {
        memory->generation = 0;
        return r;
    }
    seen = memory->generation != generation || memory->context == context;
    if (!seen)
        distrust();
    memory->context = context;
    memory->uses_left = USES_MAX;
    /* A thread without a context gets the driver's answers: there is nothing to be fast for. */
    memory->generation = context && is_worth_keeping(memory) ? generation : 0;
    *ret = context;
    if (ret_seen)
        *ret_seen = seen;
    return 0;
}

void berth__context_track_no_more(void)
{
    atomic_store(&is_distrusted, true);
    berth__context_changed_for_all();
}

void berth__context_changed_for_all(void)
{
    atomic_fetch_add_explicit(&berth__context_generation, 1, memory_order_acq_rel);
}

bool berth__context_is_green(void)
{
    berth_cu_context primary = NULL;
    void *green = NULL;

    /* With green contexts, in CUDA 12.4, came the one, with 12.5 the other. */
    if (berth__driver.cuStreamGetCtx_v2)
        return berth__driver.cuStreamGetCtx_v2(NULL, &primary, &green) == BERTH_CU_SUCCESS && green;
    return berth__driver.cuStreamGetGreenCtx &&
           berth__driver.cuStreamGetGreenCtx(NULL, &green) == BERTH_CU_SUCCESS && green;
}

bool berth__context_is_tracked(void)
{
    return !atomic_load_explicit(&is_distrusted, memory_order_relaxed);
}

void berth__context_track_again(void)
{
    atomic_store(&is_distrusted, false);
    berth__context_changed_for_all();
}
