/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a path of addresses is one number, whoever asks and however many ask at once; its names are
 * those that the linker gave, and stay when the library is closed. Method: libraries with known
 * functions; an address a few bytes into a function stands for a return address.
 */
#include "alloc/module.h"
#include "alloc/module_walk.h"
#include "alloc/site.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const char *fixture_path;
static const char *other_path;

static void *open_library(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (!library)
        fail_msg("%s", dlerror());
    return library;
}

static const void *address_in(void *library, const char *symbol, size_t offset)
{
    char *at = dlsym(library, symbol);

    assert_non_null(at);
    return at + offset;
}

static void equal_paths_have_one_number(void **state)
{
    const void *a[] = {(void *)0x1000, (void *)0x2000, (void *)0x3000};
    const void *b[] = {(void *)0x1000, (void *)0x3000, (void *)0x2000};
    berth_site_id first = berth__site_intern(a, 3);

    (void)state;
    assert_int_not_equal(first, 0);
    assert_int_equal(berth__site_intern(a, 3), first);
    assert_int_not_equal(berth__site_intern(a, 2), first);
    assert_int_not_equal(berth__site_intern(b, 3), first);
    assert_int_equal(berth__site_depth(first), 3);
    assert_true(berth__site_count() > first);
}

static void a_site_that_is_none_has_no_frames(void **state)
{
    struct berth_site_frame frame = {"kept", "kept", 7};
    char text[8] = "kept";

    (void)state;
    assert_int_equal(berth__site_intern(NULL, 0), 0);
    assert_int_equal(berth__site_depth(0), 0);
    assert_int_equal(berth__site_depth(BERTH_SITE_MAX), 0);
    assert_int_equal(berth__site_depth(UINT32_MAX), 0);
    assert_int_equal(berth__site_frame(0, 0, &frame), -ENOENT);
    assert_int_equal(berth__site_frame(berth__site_count(), 0, &frame), -ENOENT);
    assert_string_equal(frame.module, "kept");
    assert_int_equal(berth__site_text(0, text, sizeof(text)), 0);
    assert_string_equal(text, "");
}

static void a_path_that_is_too_deep_loses_its_outer_frames(void **state)
{
    const void *deep[BERTH_SITE_FRAMES_MAX + 10];
    berth_site_id site;

    (void)state;
    for (size_t i = 0; i < sizeof(deep) / sizeof(deep[0]); i++)
        deep[i] = (char *)0x5000 + i;
    site = berth__site_intern(deep, sizeof(deep) / sizeof(deep[0]));
    assert_int_equal(berth__site_depth(site), BERTH_SITE_FRAMES_MAX);
    assert_int_equal(berth__site_intern(deep, BERTH_SITE_FRAMES_MAX), site);
}

static void names_are_the_linkers(void **state)
{
    void *library = open_library(fixture_path);
    void *(*secret)(void);
    const void *frames[6];
    struct berth_site_frame frame;
    berth_site_id site;

    (void)state;
    *(void **)&secret = dlsym(library, "site_fixture_secret");
    frames[0] = address_in(library, "fixture_inner", 4);
    frames[1] = address_in(library, "fixture_middle", 1);
    frames[2] = (char *)secret() + 3;
    frames[3] = (void *)0x10;
    frames[4] = (char *)(void *)names_are_the_linkers + 5;
    frames[5] = address_in(library, "fixture_outer", 2);
    site = berth__site_intern(frames, 6);
    assert_int_equal(berth__site_frame(site, 0, &frame), 0);
    assert_string_equal(frame.module, "libsite_fixture.so");
    assert_string_equal(frame.symbol, "fixture_inner");
    assert_int_equal(frame.offset, 4);
    assert_int_equal(berth__site_frame(site, 1, &frame), 0);
    assert_string_equal(frame.symbol, "fixture_middle");
    assert_int_equal(frame.offset, 1);
    assert_int_equal(berth__site_frame(site, 2, &frame), 0);
    assert_string_equal(frame.module, "libsite_fixture.so");
    /* Not exported: its name is in the file alone. */
    assert_non_null(frame.symbol);
    assert_string_equal(frame.symbol, "secret");
    assert_int_equal(frame.offset, 3);
    assert_int_equal(berth__site_frame(site, 3, &frame), 0);
    assert_string_equal(frame.module, "?");
    assert_null(frame.symbol);
    assert_int_equal(frame.offset, 0x10);
    assert_int_equal(berth__site_frame(site, 4, &frame), 0);
    assert_string_equal(frame.module, "test_site");
    assert_non_null(frame.symbol);
    assert_string_equal(frame.symbol, "names_are_the_linkers");
    assert_int_equal(frame.offset, 5);
    assert_int_equal(berth__site_frame(site, 5, &frame), 0);
    assert_string_equal(frame.symbol, "fixture_outer");
    dlclose(library);
}

static void a_call_at_a_functions_end_belongs_to_it(void **state)
{
    void *library = open_library(fixture_path);
    struct berth_site_frame frame;
    const void *address;
    unsigned size = 1;

    (void)state;
    /* The function's length, as its own names tell it. */
    for (;; size++) {
        address = address_in(library, "fixture_middle", size + 1);
        assert_int_equal(berth__site_frame(berth__site_intern(&address, 1), 0, &frame), 0);
        if (!frame.symbol || strcmp(frame.symbol, "fixture_middle") != 0)
            break;
    }
    assert_in_range(size, 4, 64);
    address = address_in(library, "fixture_middle", size);
    assert_int_equal(berth__site_frame(berth__site_intern(&address, 1), 0, &frame), 0);
    assert_string_equal(frame.symbol, "fixture_middle");
    assert_int_equal(frame.offset, size);
    dlclose(library);
}

static void text_is_cut_at_a_frames_end(void **state)
{
    void *library = open_library(fixture_path);
    const char *whole_text = "libsite_fixture.so!fixture_inner+0x4>libsite_fixture.so!"
                             "fixture_outer+0x2";
    const void *frames[2];
    char text[200];
    berth_site_id site;

    (void)state;
    frames[0] = address_in(library, "fixture_inner", 4);
    frames[1] = address_in(library, "fixture_outer", 2);
    site = berth__site_intern(frames, 2);
    assert_int_equal(berth__site_text(site, text, sizeof(text)), strlen(whole_text));
    assert_string_equal(text, whole_text);
    assert_int_equal(berth__site_text(site, text, strlen(whole_text) + 1), strlen(whole_text));
    assert_string_equal(text, whole_text);
    assert_int_equal(berth__site_text(site, text, strlen(whole_text)), strlen(whole_text));
    assert_string_equal(text, "libsite_fixture.so!fixture_inner+0x4");
    assert_int_equal(berth__site_text(site, text, 20), strlen(whole_text));
    assert_string_equal(text, "");
    assert_int_equal(berth__site_text(site, NULL, 0), strlen(whole_text));
    dlclose(library);
}

static void names_stay_when_the_library_is_closed(void **state)
{
    void *library = open_library(fixture_path);
    const void *frames[2];
    struct berth_site_frame frame;
    berth_site_id named, unnamed, fresh;
    uint64_t gone = berth__module_gone_count();

    (void)state;
    frames[0] = address_in(library, "fixture_inner", 3);
    frames[1] = (void *)0x77;
    named = berth__site_intern(frames, 2);
    assert_int_equal(berth__site_frame(named, 0, &frame), 0);
    frames[0] = address_in(library, "fixture_outer", 3);
    unnamed = berth__site_intern(frames, 2);
    dlclose(library);
    assert_int_equal(berth__site_frame(unnamed, 0, &frame), 0);
    assert_string_equal(frame.module, "libsite_fixture.so");
    assert_true(berth__module_gone_count() > gone);
    assert_int_equal(berth__site_frame(named, 0, &frame), 0);
    assert_string_equal(frame.symbol, "fixture_inner");
    frames[0] = (char *)frames[0] + 0x100;
    fresh = berth__site_intern(frames, 2);
    assert_int_equal(berth__site_frame(fresh, 0, &frame), 0);
    assert_string_equal(frame.module, "?");
}

/* The second library has the layout of the first, and the loader puts it at the same address. */
static void another_library_at_the_same_address_is_another_site(void **state)
{
    void *library = open_library(fixture_path);
    const void *frame_before = address_in(library, "fixture_outer", 3);
    const void *unrelated = (void *)0x99;
    struct berth_site_frame frame;
    const void *frame_unnamed = address_in(library, "fixture_outer", 4);
    berth_site_id before = berth__site_intern(&frame_before, 1);
    berth_site_id unnamed = berth__site_intern(&frame_unnamed, 1);
    berth_site_id after;
    const void *frame_after;

    (void)state;
    assert_int_equal(berth__site_frame(before, 0, &frame), 0);
    dlclose(library);
    library = open_library(other_path);
    frame_after = address_in(library, "other_outer", 3);
    if (frame_after != frame_before) {
        print_message("[          ] the loader chose another address: nothing to see\n");
        dlclose(library);
        return;
    }
    /* Any new site that needs names makes Berth look at the loader's list. */
    assert_int_equal(berth__site_frame(berth__site_intern(&unrelated, 1), 0, &frame), 0);
    after = berth__site_intern(&frame_after, 1);
    assert_int_not_equal(after, before);
    assert_int_equal(berth__site_frame(after, 0, &frame), 0);
    assert_string_equal(frame.module, "libsite_other.so");
    assert_string_equal(frame.symbol, "other_outer");
    assert_int_equal(berth__site_frame(before, 0, &frame), 0);
    assert_string_equal(frame.symbol, "fixture_outer");
    /* Nobody asked while its library was there: it is not what is there now. */
    assert_int_equal(berth__site_frame(unnamed, 0, &frame), 0);
    assert_string_equal(frame.module, "libsite_fixture.so");
    dlclose(library);
}

/* dl_iterate_phdr()'s callback. */
static int sum_changes(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    *(uint64_t *)context = (uint64_t)info->dlpi_adds + (uint64_t)info->dlpi_subs;
    return 1;
}

static uint64_t changes(void)
{
    uint64_t sum = 0;

    dl_iterate_phdr(sum_changes, &sum);
    return sum;
}

/* glibc counts less as closed where dlmopen() adds libraries: the sum may be as it was. */
static void changes_that_cancel_out_are_seen(void **state)
{
    struct berth_site_frame frame;
    void *library = open_library(fixture_path);
    const void *inner = address_in(library, "fixture_inner", 1);
    const void *outer;
    uint64_t before;
    void *apart;

    (void)state;
    assert_int_equal(berth__site_frame(berth__site_intern(&inner, 1), 0, &frame), 0);
    before = changes();
    dlclose(library);
    library = open_library(other_path);
    outer = address_in(library, "other_outer", 1);
    apart = dlmopen(LM_ID_NEWLM, "libm.so.6", RTLD_NOW);
    while (changes() < before) {
        void *again = open_library(fixture_path);

        if (changes() < before)
            dlclose(again);
    }
    if (!apart || address_in(library, "other_inner", 1) != inner || changes() != before) {
        print_message("the changes did not cancel out: nothing was tested\n");
        skip();
    }
    assert_int_equal(berth__site_frame(berth__site_intern(&outer, 1), 0, &frame), 0);
    assert_string_equal(frame.symbol, "other_outer");
    dlclose(library);
    dlclose(apart);
}

/* Plug-ins that come and go, in turn; the loader puts them at one address, or nearly always. */
static void a_library_that_comes_back_has_its_sites_back(void **state)
{
    berth_site_id known[2] = {0, 0};
    const void *where[2] = {NULL, NULL};
    unsigned same = 0;

    (void)state;
    for (int i = 0; i < 60; i++) {
        const void *unrelated = (const char *)0x4000 + i;
        int other = i % 3 == 2;
        void *library = open_library(other ? other_path : fixture_path);
        const void *inside = address_in(library, other ? "other_middle" : "fixture_middle", 2);
        berth_site_id site = berth__site_intern(&inside, 1);
        struct berth_site_frame frame;

        assert_int_equal(berth__site_frame(site, 0, &frame), 0);
        assert_string_equal(frame.symbol, other ? "other_middle" : "fixture_middle");
        if (where[other] == inside && site != known[other])
            fail_msg("round %d: site %u, and %u before", i, site, known[other]);
        same += where[other] == inside;
        known[other] = site;
        where[other] = inside;
        dlclose(library);
        /* Naming any new path is when the change is noticed. */
        assert_int_equal(berth__site_frame(berth__site_intern(&unrelated, 1), 0, &frame), 0);
    }
    if (same < 50)
        print_message("[          ] the loader chose another address %u times\n", 58 - same);
}

#define THREADS 8
#define PATHS 3000

struct race {
    pthread_barrier_t *barrier;
    const char *base;
    berth_site_id ids[PATHS];
    unsigned wrong;
};

static void *race_main(void *context)
{
    struct race *race = context;
    struct berth_site_frame frame;

    pthread_barrier_wait(race->barrier);
    for (unsigned i = 0; i < PATHS; i++) {
        const void *frames[3] = {race->base + i % 4 + 1, (char *)0x100000 + i, (char *)0x40};

        race->ids[i] = berth__site_intern(frames, 3);
        if (berth__site_frame(race->ids[i], 0, &frame) < 0 || !frame.symbol ||
            strcmp(frame.symbol, "fixture_inner") != 0)
            race->wrong++;
    }
    return NULL;
}

/*
 * dl_iterate_phdr()'s callback: what a signal handler finds that comes into dlclose(). The library
 * is gone, still on the list, and the list's lock is this thread's.
 */
static int close_half(struct dl_phdr_info *info, size_t size, void *context)
{
    const void *fresh[] = {context, (void *)0x7000};
    uintptr_t end = 0;

    (void)size;
    if (strcmp(info->dlpi_name, fixture_path) != 0)
        return 0;
    for (unsigned i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD)
            end = info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
    munmap((void *)info->dlpi_addr, end);
    if (berth__site_intern(fresh, 2) == 0)
        return 2;
    berth__site_refresh();
    return 1;
}

static void a_library_that_is_closed_halfway_is_not_read(void **state)
{
    pid_t child;
    int status;

    (void)state;
    assert_int_equal(berth__module_walk_watch_fork(), 0);
    child = fork();
    if (child == 0) {
        void *library = dlopen(fixture_path, RTLD_NOW | RTLD_LOCAL);
        char *at = library ? dlsym(library, "fixture_inner") : NULL;

        _exit(!library ? 3 : dl_iterate_phdr(close_half, at ? at + 1 : NULL) - 1);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void threads_agree_on_numbers_and_names(void **state)
{
    void *library = open_library(fixture_path);
    struct race *races = calloc(THREADS, sizeof(*races));
    pthread_barrier_t barrier;
    pthread_t threads[THREADS];

    (void)state;
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (unsigned t = 0; t < THREADS; t++) {
        races[t].barrier = &barrier;
        races[t].base = address_in(library, "fixture_inner", 0);
        assert_int_equal(pthread_create(&threads[t], NULL, race_main, &races[t]), 0);
    }
    for (unsigned t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    for (unsigned t = 0; t < THREADS; t++) {
        assert_int_equal(races[t].wrong, 0);
        assert_memory_equal(races[t].ids, races[0].ids, sizeof(races[t].ids));
    }
    pthread_barrier_destroy(&barrier);
    free(races);
    dlclose(library);
}

static void many_paths_are_all_told_apart(void **state)
{
    const unsigned count = 200000;
    berth_site_id *ids = calloc(count, sizeof(*ids));

    (void)state;
    for (unsigned i = 0; i < count; i++) {
        const void *frames[2] = {(char *)0x7f0000000000 + (uint64_t)i * 16, (char *)0x20};

        ids[i] = berth__site_intern(frames, 2);
        assert_int_not_equal(ids[i], 0);
        if (i > 0)
            assert_true(ids[i] > ids[i - 1]);
    }
    for (unsigned i = 0; i < count; i += 37) {
        const void *frames[2] = {(char *)0x7f0000000000 + (uint64_t)i * 16, (char *)0x20};

        assert_int_equal(berth__site_intern(frames, 2), ids[i]);
    }
    free(ids);
}

/* In a child, because the registry stays full. */
static void a_full_registry_answers_zero_and_keeps_what_it_has(void **state)
{
    const void *early[1] = {(void *)0x33};
    berth_site_id kept = berth__site_intern(early, 1);
    pid_t child = fork();
    int status;

    (void)state;
    if (child == 0) {
        const void *frames[1];
        berth_site_id id = 1;

        close(STDERR_FILENO);
        for (uint64_t i = 0; id != 0 && i <= BERTH_SITE_MAX; i++) {
            frames[0] = (char *)0x600000000000 + i;
            errno = 4242;
            id = berth__site_intern(frames, 1);
            if (errno != 4242)
                _exit(1);
        }
        if (id != 0 || berth__site_count() != BERTH_SITE_MAX)
            _exit(2);
        if (berth__site_intern(early, 1) != kept)
            _exit(3);
        frames[0] = (char *)0x600000000000;
        _exit(berth__site_intern(frames, 1) != 0 ? 0 : 4);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_paths_have_one_number),
        cmocka_unit_test(a_site_that_is_none_has_no_frames),
        cmocka_unit_test(a_path_that_is_too_deep_loses_its_outer_frames),
        cmocka_unit_test(names_are_the_linkers),
        cmocka_unit_test(a_call_at_a_functions_end_belongs_to_it),
        cmocka_unit_test(text_is_cut_at_a_frames_end),
        cmocka_unit_test(names_stay_when_the_library_is_closed),
        cmocka_unit_test(another_library_at_the_same_address_is_another_site),
        cmocka_unit_test(changes_that_cancel_out_are_seen),
        cmocka_unit_test(a_library_that_comes_back_has_its_sites_back),
        cmocka_unit_test(a_library_that_is_closed_halfway_is_not_read),
        cmocka_unit_test(threads_agree_on_numbers_and_names),
        cmocka_unit_test(many_paths_are_all_told_apart),
        cmocka_unit_test(a_full_registry_answers_zero_and_keeps_what_it_has),
    };

    if (argc != 3)
        return 2;
    fixture_path = argv[1];
    other_path = argv[2];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
