/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was found wrong with allocators that are preloaded, by number:
 *
 *  1  jemalloc serves a named arena's block from the thread's automatic tcache
 *  2  a block that is freed without its tier comes back as another tier's  (check_je.c, and here)
 *  3  the question whose an address is crashes on addresses of others
 *  4  tcaches of tiers outlive their threads                                (check_thread.c)
 *  5  a forked child writes into its parent's tier                          (check_fork.c)
 *  6  what was printed is lost, because tiers go before stdio               (check_fork.c)
 *  7  operator new binds to another allocator in a C program                (check_load.c)
 *  8  the unwinder that call paths need replaces that of exceptions; and threads that ask for small
 *     blocks pay for it        (here; throw_cost.py; tests/integration/site/short_threads.c)
 *  9  memalign and its like are not of the same heap as malloc and free   (here; check_align.c)
 *
 * The tenth is about peers: what ships is what tests/bench/programs.py measures.
 */
#include "check.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#define TCACHE_NONE 0x100
#define ARENA(a) ((((int)(a)) + 1) << 20)

static void *(*je_mallocx)(size_t, int);
static void (*je_dallocx)(void *, int);
static void (*je_sdallocx)(void *, size_t, int);
static int (*je_mallctl)(const char *, void *, size_t *, void *, size_t);

static bool have_jemalloc(void)
{
    *(void **)&je_mallocx = dlsym(RTLD_DEFAULT, "mallocx");
    *(void **)&je_dallocx = dlsym(RTLD_DEFAULT, "dallocx");
    *(void **)&je_sdallocx = dlsym(RTLD_DEFAULT, "sdallocx");
    *(void **)&je_mallctl = dlsym(RTLD_DEFAULT, "mallctl");
    return dlsym(RTLD_DEFAULT, "berth_api_v1") != NULL;
}

static unsigned arena_of(void *p)
{
    unsigned arena = ~0u;
    size_t size = sizeof(arena);

    CHECK(je_mallctl("arenas.lookup", &arena, &size, &p, sizeof(p)) == 0);
    return arena;
}

static void finding_1_the_named_arena_serves_the_block(void)
{
    static void *p[64];
    unsigned arena = 0;
    size_t size = sizeof(arena);

    if (!have_jemalloc())
        return;
    CHECK(je_mallctl("arenas.create", &arena, &size, NULL, 0) == 0);
    for (int i = 0; i < 64; i++) /* the automatic tcache is warm */
        p[i] = check_hide(malloc(64));
    for (int i = 0; i < 64; i++)
        free(p[i]);
    for (int i = 0; i < 64; i++) {
        p[i] = je_mallocx(64, ARENA(arena) | TCACHE_NONE);
        CHECK(p[i] && arena_of(p[i]) == arena);
    }
    for (int i = 0; i < 64; i++)
        free(p[i]);
}

enum { MIXED = 64 };

struct mixed {
    void *block[MIXED];
    size_t size;
};

/* Frees them by all the ways there are, in turn. */
static void *free_mixed(void *argument)
{
    struct mixed *mixed = argument;

    for (int i = 0; i < MIXED; i++) {
        void *p = mixed->block[i];

        switch (i % 6) {
        case 0:
            free(p);
            break;
        case 1:
            je_dallocx(p, 0);
            break;
        case 2:
            je_sdallocx(p, mixed->size, 0);
            break;
        case 3:
            CHECK(check_hide(realloc(p, 0)) == NULL);
            break;
        case 4:
            je_dallocx(p, TCACHE_NONE);
            break;
        default:
            p = check_hide(realloc(p, mixed->size * 2));
            CHECK(p);
            free(p);
            break;
        }
    }
    return NULL;
}

/* A tier that serves a size serves it again, however and wherever its blocks were freed. */
static void finding_2_mixed_frees_contaminate_no_tier(void)
{
    static const size_t sizes[] = {64, 1000, 5000, 14000, 20000, 100000};
    struct mixed mixed;
    pthread_t thread;

    if (!have_jemalloc())
        return;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const char *tier = NULL;

        mixed.size = sizes[i];
        for (int round = 0; round < 8; round++) {
            for (int k = 0; k < MIXED; k++) {
                mixed.block[k] = check_hide(malloc(sizes[i]));
                if (!tier)
                    tier = check_tier(mixed.block[k]);
                CHECK(check_is_placed(mixed.block[k], tier) || getenv("CHECK_SPILLS"));
            }
            if (round % 2) {
                CHECK(pthread_create(&thread, NULL, free_mixed, &mixed) == 0);
                pthread_join(thread, NULL);
            } else {
                free_mixed(&mixed);
            }
        }
    }
}

/* No address makes the question crash: every OS page of the process is asked about, and others. */
static void finding_3_any_address_may_be_asked_about(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned long start, end;
    char line[512];

    CHECK(maps);
    while (fgets(line, sizeof(line), maps)) {
        unsigned long step = 4096;

        CHECK(sscanf(line, "%lx-%lx", &start, &end) == 2);
        while ((end - start) / step > 2000)
            step *= 2;
        for (unsigned long at = start; at < end && at >= start; at += step)
            check_tier((void *)(at + 8));
        check_tier((void *)(end - 1));
        check_tier((void *)end);
        check_tier((void *)(start - 1));
    }
    fclose(maps);
    for (int bit = 0; bit < 64; bit++)
        check_tier((void *)((uintptr_t)1 << bit));
}

/* The file that has the function which the program would call. */
static const char *owner_of(const char *name)
{
    void *function = dlsym(RTLD_DEFAULT, name);
    Dl_info info;

    return function && dladdr(function, &info) ? info.dli_fname : "";
}

/* What a throw costs is decided by which unwinder it finds. */
static void finding_8_exceptions_find_their_own_unwinder(void)
{
    static const char *const of_gcc[] = {"_Unwind_RaiseException", "_Unwind_Backtrace",
                                         "_Unwind_Find_FDE"};
    void *library = dlopen(check_file("libconform_cpp.so"), RTLD_NOW | RTLD_GLOBAL);

    if (!library)
        return;                   /* no C++ compiler */
    for (int i = 0; i < 200; i++) /* call paths are taken, if they are at all */
        free(check_hide(malloc(70000)));
    for (size_t i = 0; i < sizeof(of_gcc) / sizeof(of_gcc[0]); i++)
        CHECK(strstr(owner_of(of_gcc[i]), "libgcc_s"));
    CHECK(strstr(owner_of("backtrace"), "libc.so"));
    CHECK(strstr(owner_of("dl_iterate_phdr"), "libc.so"));
    CHECK(strcmp(owner_of("unw_backtrace"), "") == 0);
}

static void *by_calloc(size_t size)
{
    return calloc(1, size);
}

static void *by_realloc(size_t size)
{
    return realloc(NULL, size);
}

static void *by_aligned_alloc(size_t size)
{
    return aligned_alloc(64, size);
}

static void *by_memalign(size_t size)
{
    return memalign(128, size);
}

static void *by_posix_memalign(size_t size)
{
    void *p = NULL;

    CHECK(posix_memalign(&p, 256, size) == 0);
    return p;
}

static void resize_and_free(void *p)
{
    p = check_hide(realloc(p, malloc_usable_size(p) + 5000));
    CHECK(p);
    free(p);
}

static void resize_to_nothing(void *p)
{
    CHECK(check_hide(realloc(p, 0)) == NULL);
}

static void *(*const ways_in[])(size_t) = {malloc,      by_calloc, by_realloc, by_aligned_alloc,
                                           by_memalign, valloc,    pvalloc,    by_posix_memalign};
static void (*const ways_out[])(void *) = {free, resize_and_free, resize_to_nothing};
#define WAYS_IN (sizeof(ways_in) / sizeof(ways_in[0]))
#define WAYS_OUT (sizeof(ways_out) / sizeof(ways_out[0]))

/* By whichever function a block was had: it lies where malloc()'s do, and goes as they do. */
static void finding_9_every_way_in_fits_every_way_out(void)
{
    /* Whole pages, which pvalloc() would make of them. */
    static const size_t sizes[] = {4096, 17 * 4096, 1 << 20};
    bool same = !getenv("CHECK_RANDOM") && !getenv("CHECK_SPILLS");

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t way = 0; way < WAYS_IN * WAYS_OUT; way++) {
            char *like = check_hide(malloc(sizes[i]));
            char *p = check_hide(ways_in[way % WAYS_IN](sizes[i]));

            CHECK(p && malloc_usable_size(p) >= sizes[i]);
            CHECK(!same || !check_tier(p) || strcmp(check_tier(p), check_tier(like)) == 0);
            check_fill(like, sizes[i], 1);
            check_fill(p, malloc_usable_size(p), 2);
            CHECK(check_filled(like, sizes[i], 1));
            ways_out[way / WAYS_IN](p);
            CHECK(check_filled(like, sizes[i], 1));
            free(like);
        }
    }
}

#define ENTRY(name)                                                                                \
    {                                                                                              \
#name, name                                                                                \
    }

const struct check finding_checks[] = {
    ENTRY(finding_1_the_named_arena_serves_the_block),
    ENTRY(finding_2_mixed_frees_contaminate_no_tier),
    ENTRY(finding_3_any_address_may_be_asked_about),
    ENTRY(finding_8_exceptions_find_their_own_unwinder),
    ENTRY(finding_9_every_way_in_fits_every_way_out),
    {NULL, NULL},
};
