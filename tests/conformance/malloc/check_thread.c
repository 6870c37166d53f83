/* SPDX-License-Identifier: Apache-2.0 */
/* Threads: their caches, their ends, and blocks that travel between them. */
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

static size_t resident_kib(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    size_t kib = 0;

    CHECK(file);
    while (fgets(line, sizeof(line), file))
        if (sscanf(line, "VmRSS: %zu", &kib) == 1)
            break;
    fclose(file);
    return kib;
}

static void *short_life(void *argument)
{
    static const size_t sizes[] = {16, 40, 100, 500, 2000, 9000, 70000};
    void *p[7];

    (void)argument;
    for (int i = 0; i < 7; i++) {
        p[i] = check_hide(malloc(sizes[i]));
        CHECK(p[i]);
        memset(p[i], i, sizes[i] < 100 ? sizes[i] : 100);
    }
    for (int i = 0; i < 7; i++)
        free(p[i]);
    return NULL;
}

static void run_threads(int count)
{
    for (int i = 0; i < count; i++) {
        pthread_t thread;

        CHECK(pthread_create(&thread, NULL, short_life, NULL) == 0);
        pthread_join(thread, NULL);
    }
}

/* What the allocator keeps for itself; 0 natively. */
static size_t metadata(void)
{
    int (*control)(const char *, void *, size_t *, void *, size_t);
    uint64_t epoch = 1;
    size_t value = 0;
    size_t size = sizeof(value);

    *(void **)&control = dlsym(RTLD_DEFAULT, "mallctl");
    if (!control)
        return 0;
    CHECK(control("epoch", NULL, NULL, &epoch, sizeof(epoch)) == 0);
    CHECK(control("stats.metadata", &value, &size, NULL, 0) == 0 && value > 0);
    return value;
}

/* jemalloc has room for 4093 of the tcaches that tiers need, each of 28 KiB. */
static void finding_4_ten_thousand_threads_leak_nothing(void)
{
    size_t before, after, own_before;

    run_threads(500);
    before = resident_kib();
    own_before = metadata();
    run_threads(check_rounds(10000));
    after = resident_kib();
    CHECK(after < before + 8192);
    CHECK(metadata() < own_before + (1 << 20));
}

enum { CROWD = 200 };
static pthread_barrier_t crowd;

static void *stand_in_crowd(void *argument)
{
    unsigned seed = (unsigned)(uintptr_t)argument;
    void *p[8];

    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 8; i++) {
            p[i] = check_hide(malloc((size_t)40 << (2 * i)));
            CHECK(p[i]);
            check_fill(p[i], (size_t)40 << i, seed + i);
        }
        pthread_barrier_wait(&crowd);
        for (unsigned i = 0; i < 8; i++) {
            CHECK(check_filled(p[i], (size_t)40 << i, seed + i));
            free(p[i]);
        }
    }
    return NULL;
}

static void two_hundred_threads_live_at_once(void)
{
    pthread_t thread[CROWD];

    CHECK(pthread_barrier_init(&crowd, NULL, CROWD) == 0);
    for (int i = 0; i < CROWD; i++)
        CHECK(pthread_create(&thread[i], NULL, stand_in_crowd, (void *)(uintptr_t)i) == 0);
    for (int i = 0; i < CROWD; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
}

static pthread_key_t keys[4];
static atomic_int destructions;

/* Comes again in every round of destructors that the C library makes. */
static void destroy(void *value)
{
    void *p = check_hide(malloc(500));
    void *q = check_hide(malloc(90000));

    CHECK(p && q);
    check_fill(p, 500, 1);
    check_fill(q, 90000, 2);
    CHECK(check_filled(p, 500, 1) && check_filled(q, 90000, 2));
    free(q);
    free(p);
    free(value);
    atomic_fetch_add(&destructions, 1);
    pthread_setspecific(keys[atomic_load(&destructions) % 4], check_hide(malloc(64)));
}

static void *with_destructors(void *argument)
{
    (void)argument;
    for (int i = 0; i < 4; i++)
        pthread_setspecific(keys[i], check_hide(malloc(64)));
    return short_life(NULL);
}

static void destructors_of_threads_may_allocate(void)
{
    for (int i = 0; i < 4; i++)
        CHECK(pthread_key_create(&keys[i], destroy) == 0);
    for (int i = 0; i < 200; i++) {
        pthread_t thread;

        CHECK(pthread_create(&thread, NULL, with_destructors, NULL) == 0);
        pthread_join(thread, NULL);
    }
    CHECK(atomic_load(&destructions) >= 800);
}

/* From the 33rd key on, pthread_setspecific() itself allocates. */
static void *set_many_keys(void *argument)
{
    pthread_key_t *many = argument;

    for (int i = 0; i < 200; i++)
        CHECK(pthread_setspecific(many[i], check_hide(malloc((size_t)i * 500))) == 0);
    return NULL;
}

static void a_thread_may_have_many_keys(void)
{
    static pthread_key_t many[200];
    pthread_t thread;

    for (int i = 0; i < 200; i++)
        CHECK(pthread_key_create(&many[i], free) == 0);
    for (int i = 0; i < 50; i++) {
        CHECK(pthread_create(&thread, NULL, set_many_keys, many) == 0);
        pthread_join(thread, NULL);
    }
}

enum { TRAVELLERS = 4000, RING = 256 };
static _Atomic(void *) ring[RING];

static size_t travel_size(int i)
{
    return i % 37 == 0 ? 100000 : (size_t)(i % 800) + 40;
}

static void *produce(void *argument)
{
    (void)argument;
    for (int i = 0; i < TRAVELLERS; i++) {
        void *p = check_hide(malloc(travel_size(i)));

        CHECK(p);
        check_fill(p, 40, (unsigned)i);
        while (atomic_load(&ring[i % RING]))
            sched_yield();
        atomic_store(&ring[i % RING], p);
    }
    return NULL;
}

static void blocks_may_be_freed_by_another_thread(void)
{
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, produce, NULL) == 0);
    for (int i = 0; i < TRAVELLERS; i++) {
        void *p;

        while (!(p = atomic_exchange(&ring[i % RING], NULL)))
            sched_yield();
        CHECK(check_filled(p, 40, (unsigned)i));
        free(p);
    }
    pthread_join(thread, NULL);
}

static void *churn(void *argument)
{
    unsigned state = (unsigned)(uintptr_t)argument + 1;
    void *block[64] = {NULL};
    size_t size[64];

    for (int step = 0; step < 20000; step++) {
        unsigned slot;

        state = state * 1103515245 + 12345;
        slot = (state >> 9) % 64;
        if (block[slot]) {
            CHECK(check_filled(block[slot], size[slot], slot));
            block[slot] = check_hide(realloc(block[slot], size[slot] / 2 + 1));
            CHECK(check_filled(block[slot], size[slot] / 2, slot));
            free(block[slot]);
        }
        size[slot] = (state >> 5) % (step % 100 ? 2000 : 150000) + 1;
        block[slot] = check_hide(malloc(size[slot]));
        CHECK(block[slot]);
        check_fill(block[slot], size[slot], slot);
    }
    for (int i = 0; i < 64; i++)
        free(block[i]);
    return NULL;
}

static void threads_do_not_disturb_each_other(void)
{
    pthread_t thread[6];

    for (int i = 0; i < 6; i++)
        CHECK(pthread_create(&thread[i], NULL, churn, (void *)(uintptr_t)i) == 0);
    for (int i = 0; i < 6; i++)
        pthread_join(thread[i], NULL);
}

static atomic_int progress;

static void *cancelled(void *argument)
{
    void *p[64];
    pid_t child;

    (void)argument;
    pthread_cancel(pthread_self());
    for (int i = 0; i < 64; i++) {
        p[i] = check_hide(malloc(1 << 20));
        CHECK(p[i]);
    }
    for (int i = 0; i < 64; i++)
        free(p[i]);
    atomic_store(&progress, 1);
    child = fork();
    if (child == 0)
        _exit(0);
    atomic_store(&progress, child);
    pthread_testcancel();
    CHECK(!"cancelled");
    return NULL;
}

/* Nor is fork() one. */
static void malloc_is_no_cancellation_point(void)
{
    pthread_t thread;
    void *result;

    CHECK(pthread_create(&thread, NULL, cancelled, NULL) == 0);
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result == PTHREAD_CANCELED);
    CHECK(atomic_load(&progress) > 1);
    check_child(atomic_load(&progress));
}

#define ENTRY(name)                                                                                \
    {                                                                                              \
#name, name                                                                                \
    }

const struct check thread_checks[] = {
    ENTRY(finding_4_ten_thousand_threads_leak_nothing),
    ENTRY(two_hundred_threads_live_at_once),
    ENTRY(destructors_of_threads_may_allocate),
    ENTRY(a_thread_may_have_many_keys),
    ENTRY(blocks_may_be_freed_by_another_thread),
    ENTRY(threads_do_not_disturb_each_other),
    ENTRY(malloc_is_no_cancellation_point),
    {NULL, NULL},
};
