/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/entry_path.h"

#include "alloc/block_slab.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

_Static_assert(offsetof(struct berth_entry_counts, calls) == 0, "what the entries count in");

__thread struct berth_entry_counts *berth__entry_counts;

static _Atomic(struct berth_entry_counts *) first;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* adds records */
static struct berth_slab slab;
/* Of threads for which there was no memory: some of their calls may be counted once for two. */
static struct berth_entry_counts spare = {.is_used = 1};

static pthread_key_t key;
static bool has_key;

const char *berth__entry_path_text(enum berth_entry_path path)
{
    static const char *const texts[] = {
        [BERTH_ENTRY_SYMBOL] = "symbol",
        [BERTH_ENTRY_DLSYM] = "dlsym",
        [BERTH_ENTRY_DLVSYM] = "dlvsym",
        [BERTH_ENTRY_PROC_V1] = "cuGetProcAddress",
        [BERTH_ENTRY_PROC_V2] = "cuGetProcAddress_v2",
        [BERTH_ENTRY_PROC_PTSZ] = "cuGetProcAddress_v2_ptsz",
    };

    return texts[path];
}

const char *berth__entry_name_text(enum berth_entry_name name)
{
    static const char *const texts[] = {
#define X(name) #name,
        BERTH_ENTRY_NAMES(X)
#undef X
    };

    return texts[name];
}

/* The thread ends; destructors that come after this one may make it begin again. */
static void leave(void *record)
{
    struct berth_entry_counts *counts = record;

    berth__entry_counts = NULL;
    atomic_store_explicit(&counts->is_used, 0, memory_order_release);
}

static void make_key(void)
{
    has_key = pthread_key_create(&key, leave) == 0;
}

/* A record that its thread has left, or NULL. */
static struct berth_entry_counts *take_left(void)
{
    struct berth_entry_counts *counts = atomic_load_explicit(&first, memory_order_acquire);

    for (; counts; counts = counts->next) {
        int expected = 0;

        if (atomic_compare_exchange_strong_explicit(&counts->is_used, &expected, 1,
                                                    memory_order_acquire, memory_order_relaxed))
            return counts;
    }
    return NULL;
}

static struct berth_entry_counts *add_record(void)
{
    struct berth_entry_counts *counts;

    pthread_mutex_lock(&lock);
    counts = berth__slab_new(&slab, sizeof(*counts));
    if (counts) {
        counts->is_used = 1;
        counts->next = atomic_load_explicit(&first, memory_order_relaxed);
        atomic_store_explicit(&first, counts, memory_order_release);
    }
    pthread_mutex_unlock(&lock);
    return counts;
}

struct berth_entry_counts *berth__entry_counts_acquire(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct berth_entry_counts *counts = take_left();

    pthread_once(&once, make_key);
    if (!counts)
        counts = add_record();
    if (!counts)
        counts = &spare;
    else if (has_key)
        pthread_setspecific(key, counts);
    berth__entry_counts = counts;
    return counts;
}

uint64_t berth__entry_calls(enum berth_entry_path path, enum berth_entry_name name)
{
    const struct berth_entry_counts *counts = atomic_load_explicit(&first, memory_order_acquire);
    uint64_t sum = __atomic_load_n(&spare.calls[path][name], __ATOMIC_RELAXED);

    for (; counts; counts = counts->next)
        sum += __atomic_load_n(&counts->calls[path][name], __ATOMIC_RELAXED);
    return sum;
}
