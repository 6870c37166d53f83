/* SPDX-License-Identifier: Apache-2.0 */
/* Threads: their caches, their ends, and blocks that travel between them. */
#include "check.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>

/* Counted page by page where the kernel does so: VmRSS leaves out what each processor has not yet
 * told. */
static size_t resident_kib(void)
{
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    size_t kib = 0;

    if (!file)
        file = fopen("/proc/self/status", "r");
    CHECK(file);
    while (fgets(line, sizeof(line), file))
        if (sscanf(line, "Rss: %zu", &kib) == 1 || sscanf(line, "VmRSS: %zu", &kib) == 1)
            break;
    fclose(file);
    CHECK(kib > 0);
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

/*
 * A thread's caches, of which jemalloc has room for 4093, take 28 KiB each. What may be added once
 * is a leaf of the tree of its extents: 2 MiB for each 1 GiB of addresses that is entered, of which
 * the kernel's choice of addresses may lay the border anywhere.
 */
static void finding_4_ten_thousand_threads_leak_nothing(void)
{
    /* An emulated processor takes milliseconds for each: fewer, and less that they may leave. */
    bool few = getenv("CHECK_EMULATED") != NULL;
    size_t before, after, own_before;

    run_threads(check_rounds(500));
    before = resident_kib();
    own_before = metadata();
    run_threads(few ? 400 : 10000);
    after = resident_kib();
    CHECK(after < before + (few ? 3200 : 8192));
    CHECK(metadata() < own_before + ((few ? 2400 : 6144) << 10));
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
    for (int i = 0; i < check_rounds(200); i++) {
        pthread_t thread;

        CHECK(pthread_create(&thread, NULL, with_destructors, NULL) == 0);
        pthread_join(thread, NULL);
    }
    CHECK(atomic_load(&destructions) >= 4 * check_rounds(200));
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
    for (int i = 0; i < check_rounds(50); i++) {
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

    for (int step = 0; step < check_rounds(20000); step++) {
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

enum { BEGINNERS = 40, BEGINNERS_BLOCKS = 200 };

static pthread_barrier_t memory_changes;

/* Whatever the answer, it is a block or ENOMEM; once there is memory again, it is a block. */
static void *begin_without_memory(void *argument)
{
    unsigned seed = (unsigned)(uintptr_t)argument;
    char *blocks[BEGINNERS_BLOCKS];
    /* Of all sizes, where there are fewer. */
    int step = BEGINNERS_BLOCKS / check_rounds(BEGINNERS_BLOCKS);

    pthread_barrier_wait(&memory_changes);
    for (int i = 0; i < BEGINNERS_BLOCKS; i += step) {
        size_t size = (size_t)i * 37 + 1;

        errno = 0;
        blocks[i] = check_hide((i + seed) % 3 == 0 ? calloc(1, size) : malloc(size));
        CHECK(blocks[i] || errno == ENOMEM);
        if (blocks[i])
            check_fill(blocks[i], size, seed);
    }
    pthread_barrier_wait(&memory_changes);
    pthread_barrier_wait(&memory_changes);
    for (int i = 0; i < BEGINNERS_BLOCKS; i += step) {
        size_t size = (size_t)i * 37 + 1;

        CHECK(!blocks[i] || check_filled(blocks[i], size, seed));
        blocks[i] = check_hide(realloc(blocks[i], size + 3000));
        CHECK(blocks[i]);
        check_fill(blocks[i], size + 3000, seed + 1);
    }
    for (int i = 0; i < BEGINNERS_BLOCKS; i += step) {
        CHECK(check_filled(blocks[i], (size_t)i * 37 + 3001, seed + 1));
        free(blocks[i]);
    }
    return NULL;
}

/* Until nothing more is given. */
static void use_up_memory(void **list)
{
    for (size_t size = (size_t)64 << 20; size >= sizeof(void *); size /= 2) {
        void **p;

        while ((p = check_hide(malloc(size)))) {
            *p = *list;
            *list = p;
        }
    }
}

/* Where rules have blocks of files, which no limit of data is about, there is always more. */
static bool is_limited(void)
{
    struct rlimit limit;
    void *p;

    CHECK(getrlimit(RLIMIT_DATA, &limit) == 0);
    p = check_hide(malloc(limit.rlim_cur));
    free(p);
    return !p;
}

static void threads_may_begin_when_memory_is_used_up(void)
{
    struct rlimit limit, none;
    pthread_t threads[BEGINNERS];
    pthread_attr_t attributes;
    void *list = NULL;

    pthread_barrier_init(&memory_changes, NULL, BEGINNERS + 1);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, (size_t)128 << 10);
    for (int i = 0; i < BEGINNERS; i++)
        CHECK(pthread_create(&threads[i], &attributes, begin_without_memory,
                             (void *)(uintptr_t)i) == 0);
    CHECK(getrlimit(RLIMIT_DATA, &none) == 0);
    limit = none;
    limit.rlim_cur = (rlim_t)64 << 20;
    CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
    if (is_limited())
        use_up_memory(&list);
    pthread_barrier_wait(&memory_changes);
    pthread_barrier_wait(&memory_changes);
    CHECK(setrlimit(RLIMIT_DATA, &none) == 0);
    pthread_barrier_wait(&memory_changes);
    for (int i = 0; i < BEGINNERS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    while (list) {
        void *next = *(void **)list;

        free(list);
        list = next;
    }
}

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

/* glibc's first key is 0, and so is one in memory that nobody has written to. */
static void a_key_that_was_not_made_holds_nothing(void)
{
    CHECK(!pthread_getspecific(0) && pthread_setspecific(0, &progress) == EINVAL);
}

#define ENTRY(name)                                                                                \
    {                                                                                              \
#name, name                                                                                \
    }

const struct check thread_checks[] = {
    ENTRY(finding_4_ten_thousand_threads_leak_nothing), ENTRY(two_hundred_threads_live_at_once),
    ENTRY(destructors_of_threads_may_allocate),         ENTRY(a_thread_may_have_many_keys),
    ENTRY(blocks_may_be_freed_by_another_thread),       ENTRY(threads_do_not_disturb_each_other),
    ENTRY(threads_may_begin_when_memory_is_used_up),    ENTRY(malloc_is_no_cancellation_point),
    ENTRY(a_key_that_was_not_made_holds_nothing),       {NULL, NULL},
};
