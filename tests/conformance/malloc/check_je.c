/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What jemalloc's users call. Without jemalloc in the process these checks have nothing to ask and
 * pass; under libberth-malloc.so every function must be there and be right on blocks of any tier.
 */
#include "check.h"

#include "alloc/berth.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#define ZERO 0x40
#define LG_ALIGN(n) (n)
#define TCACHE_NONE 0x100
#define ARENA(a) ((((int)(a)) + 1) << 20)

static void *(*je_mallocx)(size_t, int);
static void *(*je_rallocx)(void *, size_t, int);
static size_t (*je_xallocx)(void *, size_t, size_t, int);
static size_t (*je_sallocx)(const void *, int);
static void (*je_dallocx)(void *, int);
static void (*je_sdallocx)(void *, size_t, int);
static size_t (*je_nallocx)(size_t, int);
static int (*je_mallctl)(const char *, void *, size_t *, void *, size_t);

static const size_t sizes[] = {16, 100, 5000, 20000, 70000, 1 << 20};
#define SIZE_COUNT (sizeof(sizes) / sizeof(sizes[0]))

static bool have_jemalloc(void)
{
    *(void **)&je_mallocx = dlsym(RTLD_DEFAULT, "mallocx");
    *(void **)&je_rallocx = dlsym(RTLD_DEFAULT, "rallocx");
    *(void **)&je_xallocx = dlsym(RTLD_DEFAULT, "xallocx");
    *(void **)&je_sallocx = dlsym(RTLD_DEFAULT, "sallocx");
    *(void **)&je_dallocx = dlsym(RTLD_DEFAULT, "dallocx");
    *(void **)&je_sdallocx = dlsym(RTLD_DEFAULT, "sdallocx");
    *(void **)&je_nallocx = dlsym(RTLD_DEFAULT, "nallocx");
    *(void **)&je_mallctl = dlsym(RTLD_DEFAULT, "mallctl");
    if (!dlsym(RTLD_DEFAULT, "berth_api_v1"))
        return false;
    CHECK(je_mallocx && je_rallocx && je_xallocx && je_sallocx && je_dallocx && je_sdallocx &&
          je_nallocx && je_mallctl);
    return true;
}

static bool is_zero(const char *p, size_t size)
{
    return size == 0 || (p[0] == 0 && memcmp(p, p + 1, size - 1) == 0);
}

static void extended_calls_work_on_any_block(void)
{
    if (!have_jemalloc())
        return;
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        char *p = je_mallocx(sizes[i], LG_ALIGN(8) | ZERO);
        size_t held;

        CHECK(p && ((uintptr_t)p & 255) == 0 && is_zero(p, sizes[i]));
        CHECK(je_sallocx(p, 0) >= sizes[i]);
        CHECK(je_nallocx(sizes[i], LG_ALIGN(8)) >= sizes[i]);
        check_fill(p, sizes[i], 1);
        held = je_xallocx(p, sizes[i], sizes[i] / 2, 0);
        CHECK(held >= sizes[i] && held == je_sallocx(p, 0) && check_filled(p, sizes[i], 1));
        p = je_rallocx(p, sizes[i] * 4, ZERO);
        CHECK(p && check_filled(p, sizes[i], 1));
        p = je_rallocx(p, sizes[i], 0);
        CHECK(p && check_filled(p, sizes[i], 1));
        je_sdallocx(p, sizes[i], 0);
        p = check_hide(malloc(sizes[i]));
        je_dallocx(p, 0);
        p = je_mallocx(sizes[i], 0);
        free(p);
        p = check_hide(malloc(sizes[i]));
        je_dallocx(p, TCACHE_NONE);
    }
}

static void rallocx_zeroes_what_it_adds(void)
{
    if (!have_jemalloc())
        return;
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        char *p = je_mallocx(sizes[i], 0);
        size_t usable = je_sallocx(p, 0);

        memset(p, 0xff, usable);
        p = je_rallocx(p, usable * 3, ZERO);
        CHECK(p && is_zero(p + usable, usable * 2));
        je_dallocx(p, 0);
    }
}

static void the_controls_answer(void)
{
    uint64_t epoch = 1;
    size_t allocated = 0;
    size_t size = sizeof(allocated);
    unsigned arena;
    size_t arena_size = sizeof(arena);
    const char *version;
    size_t version_size = sizeof(version);
    void *p;

    if (!have_jemalloc())
        return;
    CHECK(je_mallctl("version", &version, &version_size, NULL, 0) == 0 && version[0] == '5');
    CHECK(je_mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch)) == 0);
    CHECK(je_mallctl("stats.allocated", &allocated, &size, NULL, 0) == 0 && allocated > 0);
    CHECK(je_mallctl("no.such.name", NULL, NULL, NULL, 0) == ENOENT);
    CHECK(je_mallctl("arenas.create", &arena, &arena_size, NULL, 0) == 0);
    p = je_mallocx(200000, ARENA(arena) | TCACHE_NONE);
    CHECK(p);
    check_fill(p, 200000, 2);
    p = je_rallocx(p, 400000, ARENA(arena) | TCACHE_NONE);
    CHECK(p && check_filled(p, 200000, 2));
    p = realloc(p, 500000);
    CHECK(p && check_filled(p, 200000, 2));
    free(p);
}

/* A block that the program says is a weight. */
static void *get_weight(size_t size)
{
    int (*push)(enum berth_tag);
    int (*pop)(void);
    void *p;

    *(void **)&push = dlsym(RTLD_DEFAULT, "berth_tag_push");
    *(void **)&pop = dlsym(RTLD_DEFAULT, "berth_tag_pop");
    CHECK(push && pop && push(BERTH_TAG_WEIGHT) == 0);
    p = check_hide(malloc(size));
    CHECK(p && pop() == 0);
    return p;
}

static void free_in_turn(void **block, int count, size_t size)
{
    for (int i = 0; i < count; i++) {
        if (i % 3 == 0)
            free(block[i]);
        else if (i % 3 == 1)
            je_dallocx(block[i], 0);
        else
            je_sdallocx(block[i], size, 0);
    }
}

static void mix_size(size_t size)
{
    enum { COUNT = 64 };
    void *weight[COUNT], *other[COUNT];
    const char *weight_tier = NULL, *other_tier = NULL;

    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < COUNT; i++) {
            weight[i] = get_weight(size);
            other[i] = check_hide(malloc(size));
            if (!weight_tier) {
                weight_tier = check_tier(weight[i]);
                other_tier = check_tier(other[i]);
            }
            CHECK(check_is_placed(weight[i], weight_tier));
            CHECK(check_is_placed(other[i], other_tier));
        }
        free_in_turn(weight, COUNT, size);
        free_in_turn(other, COUNT, size);
    }
}

/* Freed blocks of one tier must not come back as another tier's blocks of the same size. */
static void finding_2_tiers_do_not_mix(void)
{
    if (!have_jemalloc())
        return;
    mix_size(64);
    mix_size(1000);
    mix_size(5000);
}

static void the_block_can_be_described(void)
{
    int local;

    if (!have_jemalloc())
        return;
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        char *p = check_hide(malloc(sizes[i]));
        const char *tier = check_tier(p);

        CHECK(tier && check_tier(p + sizes[i] / 2) == tier && check_tier(p + sizes[i] - 1) == tier);
        free(p);
        CHECK(strcmp(check_tier(p), "") == 0);
    }
    /* Addresses of all kinds may be asked about, mapped or not. */
    CHECK(strcmp(check_tier(&je_mallctl), "") == 0 && strcmp(check_tier(NULL), "") == 0);
    CHECK(strcmp(check_tier(&local), "") == 0 && strcmp(check_tier((void *)4096), "") == 0);
    CHECK(strcmp(check_tier((void *)~(uintptr_t)0), "") == 0);
}

#define ENTRY(name)                                                                                \
    {                                                                                              \
#name, name                                                                                \
    }

const struct check je_checks[] = {
    ENTRY(extended_calls_work_on_any_block),
    ENTRY(rallocx_zeroes_what_it_adds),
    ENTRY(the_controls_answer),
    ENTRY(finding_2_tiers_do_not_mix),
    ENTRY(the_block_can_be_described),
    {NULL, NULL},
};
