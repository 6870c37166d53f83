/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/plain.h"

#include "alloc/thread.h"
#include "pmem/glance.h"
#include "pmem/jemalloc.h"
#include "pmem/overcommit.h"

/* Where small blocks are looked at from such a size on, nearly all of them are. */
#define GLANCE_FROM_MAX ((size_t)64)

struct berth_plain berth__plain = {.count = SIZE_MAX - (BERTH_TINY_MAX + 1),
                                   .limit = BERTH_PLAIN_LIMIT_NONE};

struct berth_plain_operators berth__plain_operators = {.limit = BERTH_PLAIN_LIMIT_NONE};

/*
 * jemalloc's table of size classes, by sizes in units of 8 bytes, rounded up; where its archive has
 * none under the name that version 5.3 gives it, tiny sizes are made larger by our slow path. So
 * they are until the constructor: a block of jemalloc's smallest class is never handed out.
 */
extern uint8_t berth_je_size_classes[] __attribute__((weak, visibility("hidden")));

/* Whether operator new is a library's; and operator delete. */
static bool is_new_left, is_delete_left;

/* Whether the entries get along without looking at tiny sizes. */
static bool has_no_tiny;

/* Whether small blocks are passed by a glance in the entries. */
static _Atomic bool is_glancing;

/* What was asked for last, besides berth__plain.sample_interval; and how often that, or a limit of
 * the process's, has changed. */
static _Atomic size_t threshold_wanted = SIZE_MAX;
static _Atomic bool is_small_wanted;
static _Atomic unsigned changes;

/* Nothing but the first entries is changed, and only if they are what they are in version 5.3. */
static bool widen_tiny(void)
{
    uint8_t *classes = berth_je_size_classes;

    /* Asking also has jemalloc make its table. */
    if (berth_je_nallocx(BERTH_TINY_MAX, 0) != BERTH_TINY_MAX ||
        berth_je_nallocx(BERTH_BLOCK_MIN, 0) != BERTH_BLOCK_MIN)
        return berth_je_nallocx(1, 0) == BERTH_BLOCK_MIN;
    if (!classes || classes[0] != 0 || classes[1] != 0 || classes[2] != 1 || classes[3] != 2)
        return false;
    classes[0] = classes[1] = 1;
    if (berth_je_nallocx(1, 0) == BERTH_BLOCK_MIN &&
        berth_je_nallocx(BERTH_TINY_MAX, 0) == BERTH_BLOCK_MIN)
        return true;
    classes[0] = classes[1] = 0;
    return false;
}

void berth__plain_leave(bool is_new, bool is_delete)
{
    is_new_left = is_new;
    is_delete_left = is_delete;
    if (is_delete)
        atomic_store_explicit(&berth__plain_operators.window_size, SIZE_MAX, memory_order_relaxed);
}

void berth__plain_set_window(uintptr_t base, size_t size)
{
    atomic_store_explicit(&berth__plain.window_base, base, memory_order_relaxed);
    atomic_store_explicit(&berth__plain.window_size, size, memory_order_release);
    if (is_delete_left)
        return;
    atomic_store_explicit(&berth__plain_operators.window_base, base, memory_order_relaxed);
    atomic_store_explicit(&berth__plain_operators.window_size, size, memory_order_release);
}

/* What sizes are plain, and of which samples are taken. */
static void store_limit(int64_t limit, size_t sampled)
{
    atomic_store(&berth__plain.limit, limit);
    atomic_store(&berth__plain.sampled, sampled);
    if (is_new_left)
        return;
    atomic_store(&berth__plain_operators.limit, limit);
    atomic_store(&berth__plain_operators.sampled, sampled);
}

/*
 * Any two threads at once: the last one to write has seen what the other one wrote, or begins
 * again.
 */
void berth__plain_renew_key(void)
{
    struct berth_plain *plain = &berth__plain;
    uint64_t now = atomic_load(&plain->entry_key);
    uint64_t key, wanted;

    do {
        key = atomic_load(&plain->glance_key);
        wanted = atomic_load(&berth__tag_used) ? BERTH_PLAIN_KEY_NEVER
                 : atomic_load(&is_glancing)   ? key
                                               : 0;
        while (now != BERTH_PLAIN_KEY_NEVER &&
               !atomic_compare_exchange_weak(&plain->entry_key, &now, wanted))
            ;
    } while (now != BERTH_PLAIN_KEY_NEVER && key != atomic_load(&plain->glance_key));
}

/* The key is taken away before there are sizes that it does not speak of. */
static void set_limit(size_t threshold, bool glances, bool samples, bool limited)
{
    int64_t limit = threshold < PTRDIFF_MAX ? (int64_t)threshold : INT64_MAX;

    if (glances)
        limit = BERTH_PLAIN_LIMIT_GLANCE;
    if (samples || limited)
        limit = BERTH_PLAIN_LIMIT_NONE;
    if (!glances)
        atomic_store(&is_glancing, false);
    berth__plain_renew_key();
    store_limit(limit, samples && !limited ? threshold : 0);
    if (!glances)
        return;
    atomic_store(&is_glancing, true);
    berth__plain_renew_key();
}

/* A call that sees half of this counts its bytes in vain, or goes uncounted. */
static void renew_once(void)
{
    size_t threshold = atomic_load(&threshold_wanted);
    size_t count = threshold > BERTH_TINY_MAX ? threshold - (BERTH_TINY_MAX + 1) : 0;
    bool samples = atomic_load(&berth__plain.sample_interval) != 0;
    bool limited = berth__overcommit_least_limit() != SIZE_MAX;
    bool looks = atomic_load(&is_small_wanted);

    berth__glance_renew(looks);
    atomic_store_explicit(&berth__plain.count, samples || limited ? 0 : count,
                          memory_order_relaxed);
    if (has_no_tiny)
        set_limit(threshold, looks && threshold <= GLANCE_FROM_MAX && !samples && !limited, samples,
                  limited);
}

/* As in berth__plain_renew_key(): any two threads at once. */
static void renew(void)
{
    unsigned seen;

    do {
        seen = atomic_load(&changes);
        renew_once();
    } while (atomic_load(&changes) != seen);
}

void berth__plain_start(void)
{
    berth__tag_first = berth__plain_renew_key;
    has_no_tiny = widen_tiny();
    renew();
}

void berth__plain_renew(size_t threshold, bool is_wanted, uint64_t sample_interval)
{
    atomic_store(&threshold_wanted, threshold);
    atomic_store(&is_small_wanted, is_wanted);
    atomic_store(&berth__plain.sample_interval, sample_interval);
    atomic_fetch_add(&changes, 1);
    renew();
}

void berth__plain_renew_limits(void)
{
    atomic_fetch_add(&changes, 1);
    renew();
}
