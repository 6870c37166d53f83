/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which arenas the relief goes through, and that none of Berth's is ever destroyed: jemalloc takes
 * note of all arenas and goes through them without a lock, so that one which is destroyed meanwhile
 * is gone under who does.
 */
#include "pmem/relief.h"

#include "pmem/host.h"
#include "pmem/jemalloc.h"
#include "tests/unit/pmem/table_fixture.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define THREADS 16
#define TIERS 40

/* jemalloc's number for what is left of all arenas that were destroyed. */
#define DESTROYED 4097

static int start(void **state)
{
    (void)state;
    berth__host_register();
    return 0;
}

static bool is_initialized(unsigned arena)
{
    bool initialized = false;
    size_t size = sizeof(initialized);
    char name[64];

    snprintf(name, sizeof(name), "arena.%u.initialized", arena);
    assert_int_equal(berth_je_mallctl(name, &initialized, &size, NULL, 0), 0);
    return initialized;
}

static void tell(unsigned arena, const char *what)
{
    char name[64];

    snprintf(name, sizeof(name), "arena.%u.%s", arena, what);
    assert_int_equal(berth_je_mallctl(name, NULL, NULL, NULL, 0), 0);
}

static unsigned make(extent_hooks_t *hooks)
{
    unsigned arena;
    size_t size = sizeof(arena);

    assert_int_equal(berth_je_mallctl("arenas.create", &arena, &size, hooks ? &hooks : NULL,
                                      hooks ? sizeof(hooks) : 0),
                     0);
    return arena;
}

static pthread_barrier_t together;

/* In each tier, every thread's first block at once. */
static void *ask_in_each_tier(void *argument)
{
    (void)argument;
    for (size_t tier = 0; tier < TIERS; tier++) {
        struct berth_host_request request = {.size = (64 + tier) * KIB, .alignment = 1};
        bool placed;
        void *p;

        pthread_barrier_wait(&together);
        p = berth__host_alloc(&request, &placed);
        if (!p || !placed)
            return (void *)"no block";
        memset(p, 1, request.size);
        berth__host_free(p);
    }
    return NULL;
}

static void threads_that_want_the_same_arena_make_one(void **state)
{
    struct berth_table_draft *draft = berth__draft_new();
    char name[TIERS][16];
    pthread_t thread[THREADS];

    (void)state;
    for (size_t i = 0; i < TIERS; i++) {
        snprintf(name[i], sizeof(name[i]), "tier%zu", i);
        draft_tier(draft, TIER(.name = name[i], .kind = BERTH_KIND_DRAM));
        draft_rule(draft,
                   RULE(.name = name[i], .side = BERTH_SIDE_HOST, .min_size = (64 + i) * KIB,
                        .max_size = (64 + i) * KIB),
                   name[i], NULL);
    }
    draft_install(draft);
    pthread_barrier_init(&together, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, ask_in_each_tier, NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        void *failure;

        pthread_join(thread[i], &failure);
        assert_null(failure);
    }
    pthread_barrier_destroy(&together);
    assert_false(is_initialized(DESTROYED));
}

/* An arena of the program's, which destroys another one of its own when memory goes back. */
static unsigned doomed;
static int gone_back;

static void *hook_alloc(extent_hooks_t *hooks, void *address, size_t size, size_t alignment,
                        bool *zero, bool *commit, unsigned arena)
{
    char *p =
        mmap(NULL, size + alignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)hooks;
    (void)arena;
    if (address || p == MAP_FAILED)
        return NULL;
    *zero = *commit = true;
    return p + (-(uintptr_t)p & (alignment - 1));
}

static bool hook_dalloc(extent_hooks_t *hooks, void *address, size_t size, bool committed,
                        unsigned arena)
{
    (void)hooks;
    (void)address;
    (void)size;
    (void)committed;
    (void)arena;
    if (gone_back++ == 0)
        tell(doomed, "destroy");
    return true;
}

/* jemalloc would have noted both before it asked the first to give back what it keeps. */
static void arenas_of_the_program_are_its_own(void **state)
{
    static extent_hooks_t hooks = {.alloc = hook_alloc, .dalloc = hook_dalloc};
    unsigned arena = make(&hooks);
    void *p = berth_je_mallocx(MIB, MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE);

    (void)state;
    doomed = make(NULL);
    assert_true(doomed > arena);
    assert_non_null(p);
    berth_je_dallocx(p, MALLOCX_TCACHE_NONE);
    gone_back = 0;
    berth__relief_trim();
    assert_int_equal(gone_back, 0);
    tell(arena, "purge");
    assert_true(gone_back > 0);
    assert_false(is_initialized(doomed));
}

/* What jemalloc's arenas keep for reuse. */
static size_t dirty_of(unsigned arena)
{
    uint64_t epoch = 1;
    size_t pages = 0;
    size_t size = sizeof(pages);
    char name[64];

    assert_int_equal(berth_je_mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch)), 0);
    snprintf(name, sizeof(name), "stats.arenas.%u.pdirty", arena);
    assert_int_equal(berth_je_mallctl(name, &pages, &size, NULL, 0), 0);
    return pages;
}

static void gives_back(unsigned arena)
{
    ssize_t never = -1;
    char name[64];
    void *p = berth_je_mallocx(MIB, MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE);

    assert_non_null(p);
    snprintf(name, sizeof(name), "arena.%u.dirty_decay_ms", arena);
    assert_int_equal(berth_je_mallctl(name, NULL, NULL, &never, sizeof(never)), 0);
    memset(p, 1, MIB);
    berth_je_dallocx(p, MALLOCX_TCACHE_NONE);
    assert_true(dirty_of(arena) > 0);
    berth__relief_trim();
    assert_int_equal(dirty_of(arena), 0);
}

/* The first and the last of those that threads share, and the one for large blocks after them. */
static void every_arena_of_jemalloc_gives_back(void **state)
{
    unsigned shared;
    size_t size = sizeof(shared);

    (void)state;
    assert_int_equal(berth_je_mallctl("opt.narenas", &shared, &size, NULL, 0), 0);
    gives_back(0);
    gives_back(shared - 1);
    gives_back(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_that_want_the_same_arena_make_one), /* before one is destroyed */
        cmocka_unit_test(arenas_of_the_program_are_its_own),
        cmocka_unit_test(every_arena_of_jemalloc_gives_back),
    };

    return cmocka_run_group_tests(tests, start, NULL);
}
