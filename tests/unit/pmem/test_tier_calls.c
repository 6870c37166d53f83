/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a system call that fails in a tier of kind file or dram is an error of that call, and
 * nothing else: errno stays, the window has no hole, what was there before is there.
 * Method: each call fails in turn (machine_fixture.h).
 */
#include "pmem/arena.h"
#include "pmem/host.h"
#include "pmem/huge_advice.h"
#include "pmem/tier_file.h"
#include "pmem/window.h"
#include "tests/unit/pmem/machine_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB ((size_t)1 << 20)

static char why[256];

static int start(void **state)
{
    (void)state;
    berth__host_register();
    return 0;
}

static int fail_no_more(void **state)
{
    (void)state;
    for (int call = 0; call < MACHINE_CALLS; call++)
        machine_fail((enum machine_call)call, 0, 0, 0, 0);
    return 0;
}

static int make(const char *name, enum berth_tier_kind kind, berth_tier_id *ret_id)
{
    struct berth_tier_config config = {
        .name = name,
        .kind = kind,
        .path = kind == BERTH_KIND_FILE ? "/tmp" : "",
        .fork_copy_max = UINT64_MAX,
        .huge_pages = BERTH_HUGE_ADVISE,
    };

    why[0] = '\0';
    return berth__tier_ensure(&config, ret_id, why, sizeof(why));
}

static char *carve(berth_tier_id id, size_t size)
{
    struct berth_tier *tier = berth__tier(id);
    char *p = berth__window_carve(id, size, BERTH_HUGE_PAGE);

    assert_non_null(p);
    assert_int_equal(tier->ops->map(tier, p, size), 0);
    return p;
}

/* Whether nothing else can come to lie at the address. */
static bool is_reserved(char *p)
{
    void *q =
        mmap(p, BERTH_OS_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    if (q == p)
        munmap(p, BERTH_OS_PAGE);
    return q == MAP_FAILED && errno == EEXIST;
}

static void a_directory_without_unnamed_files_has_others(void **state)
{
    struct stat st;
    int fd;

    (void)state;
    machine_fail(MACHINE_OPEN, 0, 1, EOPNOTSUPP, 0);
    fd = berth__tier_file_open("/tmp");
    assert_true(fd >= 0);
    assert_int_equal(machine_failures(MACHINE_OPEN), 1);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    close(fd);
    machine_fail(MACHINE_OPEN, 0, 1, EMFILE, 0);
    assert_int_equal(berth__tier_file_open("/tmp"), -EMFILE);
}

/* What is kept there under a name can be read. */
static void a_directory_that_nothing_can_be_made_in_is_a_tier_if_it_has_a_name(void **state)
{
    struct berth_tier_config config = {
        .name = "unnamed", .kind = BERTH_KIND_FILE, .path = "/tmp", .fork_copy_max = UINT64_MAX};
    static const int errors[] = {EROFS, EACCES, ENOSPC, EDQUOT};
    berth_tier_id id;

    (void)state;
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        char name[16];

        machine_fail(MACHINE_OPEN, 0, 1, errors[i], 0);
        config.name = "unnamed";
        config.segment = NULL;
        assert_int_equal(berth__tier_ensure(&config, &id, why, sizeof(why)), -errors[i]);
        assert_non_null(strstr(why, "no file can be made in /tmp"));
        machine_fail(MACHINE_OPEN, 0, 1, errors[i], 0);
        snprintf(name, sizeof(name), "kept%zu", i);
        config.name = config.segment = name;
        assert_int_equal(berth__tier_ensure(&config, &id, why, sizeof(why)), 0);
        assert_null(berth__tier(id)->ops->commit);
        assert_null(berth__arena_alloc(id, MIB, 1, false));
    }
}

static void a_mapping_that_fails_leaves_no_hole(void **state)
{
    struct berth_tier *tier;
    berth_tier_id id;
    char *p;

    (void)state;
    assert_int_equal(make("mapped", BERTH_KIND_FILE, &id), 0);
    tier = berth__tier(id);
    p = berth__window_carve(id, 4 * MIB, BERTH_OS_PAGE);
    machine_fail(MACHINE_MMAP, 0, 1, ENOMEM, MAP_FIXED);
    errno = 4711;
    assert_int_equal(tier->ops->map(tier, p, 4 * MIB), -ENOMEM);
    assert_int_equal(errno, 4711);
    assert_true(is_reserved(p) && is_reserved(p + 4 * MIB - BERTH_OS_PAGE));
    assert_int_equal(tier->ops->map(tier, p, 4 * MIB), 0);
}

static void space_that_cannot_be_had_is_no_block(void **state)
{
    /* What was refused for lack of space is not asked for again at once: that comes last. */
    static const int errors[] = {EIO, EDQUOT, EPERM, ENOSPC};
    struct berth_tier *tier;
    berth_tier_id id;
    char *p;

    (void)state;
    assert_int_equal(make("space", BERTH_KIND_FILE, &id), 0);
    tier = berth__tier(id);
    p = carve(id, 256 * MIB);
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        /* The first piece is there, the second is not. */
        machine_fail(MACHINE_FALLOCATE, 1, 1, errors[i], 0);
        errno = 4711;
        assert_int_equal(tier->ops->commit(tier, p, 128 * MIB), -errors[i]);
        assert_int_equal(errno, 4711);
        assert_int_equal(machine_failures(MACHINE_FALLOCATE), 1);
    }
    /* Interrupted, it is tried again; a filesystem that has no such call is written to. */
    machine_fail(MACHINE_FALLOCATE, 0, 20, EINTR, 0);
    assert_int_equal(tier->ops->commit(tier, p, MIB), 0);
    machine_fail(MACHINE_FALLOCATE, 0, 1, EOPNOTSUPP, 0);
    assert_int_equal(tier->ops->commit(tier, p + MIB, MIB), 0);
    memset(p, 1, 2 * MIB);
}

static void what_cannot_be_given_back_stays(void **state)
{
    static const struct {
        const char *name;
        enum berth_tier_kind kind;
        int advice;
    } cases[] = {
        {"kept file", BERTH_KIND_FILE, MADV_REMOVE},
        {"kept dram", BERTH_KIND_DRAM, MADV_DONTNEED},
        {"kept numa", BERTH_KIND_NUMA, MADV_DONTNEED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct berth_tier_config config = {
            .name = cases[i].name,
            .kind = cases[i].kind,
            .path = cases[i].kind == BERTH_KIND_FILE ? "/tmp" : "",
            .nodes = "0",
            .fork_copy_max = UINT64_MAX,
        };
        struct berth_tier *tier;
        berth_tier_id id;
        char *p;

        assert_int_equal(berth__tier_ensure(&config, &id, why, sizeof(why)), 0);
        tier = berth__tier(id);
        p = carve(id, 4 * MIB);
        assert_int_equal(tier->ops->commit(tier, p, MIB), 0);
        memset(p, 6, MIB);
        machine_fail(MACHINE_MADVISE, 0, 1, EINVAL, cases[i].advice);
        errno = 4711;
        assert_int_equal(tier->ops->decommit(tier, p, MIB), -EINVAL);
        assert_int_equal(errno, 4711);
        assert_int_equal(p[MIB - 1], 6);
        assert_int_equal(tier->ops->decommit(tier, p, MIB), 0);
        assert_int_equal(tier->ops->commit(tier, p, MIB), 0);
        assert_int_equal(p[MIB - 1], 0);
    }
}

static void memory_that_cannot_be_opened_is_no_step(void **state)
{
    struct berth_tier *tier;
    berth_tier_id id;
    char *p;

    (void)state;
    assert_int_equal(make("closed", BERTH_KIND_DRAM, &id), 0);
    tier = berth__tier(id);
    p = berth__window_carve(id, MIB, BERTH_OS_PAGE);
    machine_fail(MACHINE_MPROTECT, 0, 1, ENOMEM, 0);
    assert_int_equal(tier->ops->map(tier, p, MIB), -ENOMEM);
    assert_true(is_reserved(p));
}

/* Through jemalloc, as blocks come: a call that fails is a block that is not there. */
static void a_block_is_there_or_it_is_not(void **state)
{
    static const enum machine_call calls[] = {MACHINE_FALLOCATE, MACHINE_MMAP};
    berth_tier_id id;

    (void)state;
    assert_int_equal(make("blocks", BERTH_KIND_FILE, &id), 0);
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
        for (unsigned nth = 0; nth < 6; nth++) {
            char *blocks[8];

            machine_fail(calls[i], nth, 1, ENOMEM, 0);
            for (int j = 0; j < 8; j++) {
                blocks[j] = berth__arena_alloc(id, MIB + (size_t)j * 4096, 1, true);
                if (blocks[j])
                    memset(blocks[j], j, MIB);
            }
            for (int j = 0; j < 8; j++) {
                if (!blocks[j])
                    continue;
                assert_int_equal(blocks[j][0], j);
                assert_int_equal(blocks[j][MIB - 1], j);
                berth__arena_free(id, blocks[j], berth__arena_held(blocks[j]));
            }
        }
    fail_no_more(NULL);
    for (int j = 0; j < 8; j++) {
        char *p = berth__arena_alloc(id, MIB, 1, true);

        assert_non_null(p);
        for (size_t at = 0; at < MIB; at += 512)
            assert_int_equal(p[at], 0);
        memset(p, 1, MIB);
        berth__arena_free(id, p, berth__arena_held(p));
    }
}

static void ask_in_vain(berth_tier_id id)
{
    size_t used = berth__window_used(id);

    for (int i = 0; i < 20; i++)
        assert_null(berth__arena_alloc(id, 256 * MIB, 1, false));
    assert_int_equal(berth__window_used(id), used);
}

/* Time and again: else the tier has no addresses when there is memory again. */
static void what_is_asked_for_in_vain_costs_no_addresses(void **state)
{
    berth_tier_id id, file;
    char *p;

    (void)state;
    assert_int_equal(make("vain", BERTH_KIND_DRAM, &id), 0);
    assert_int_equal(make("vain_file", BERTH_KIND_FILE, &file), 0);
    assert_non_null(berth__arena_alloc(id, MIB, 1, false));
    assert_non_null(berth__arena_alloc(file, MIB, 1, false));
    machine_fail(MACHINE_MPROTECT, 0, 1000, ENOMEM, 0);
    ask_in_vain(id);
    assert_true(machine_failures(MACHINE_MPROTECT) >= 20);
    fail_no_more(NULL);
    p = berth__arena_alloc(id, 256 * MIB, 1, false);
    assert_non_null(p);
    p[256 * MIB - 1] = 1;
    /* A process may have so many mappings and no more: those of others come and go. */
    machine_fail(MACHINE_MMAP, 0, 1000, ENOMEM, MAP_SHARED);
    ask_in_vain(file);
    assert_true(machine_failures(MACHINE_MMAP) >= 20);
    fail_no_more(NULL);
    /* Here the addresses could be used, and what should lie there cannot be had. */
    close(berth__tier_file(file)->fd);
    ask_in_vain(file);
}

#define TEST(name) cmocka_unit_test_teardown(name, fail_no_more)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_asked_for_in_vain_costs_no_addresses),
        TEST(a_directory_without_unnamed_files_has_others),
        TEST(a_directory_that_nothing_can_be_made_in_is_a_tier_if_it_has_a_name),
        TEST(a_mapping_that_fails_leaves_no_hole),
        TEST(space_that_cannot_be_had_is_no_block),
        TEST(what_cannot_be_given_back_stays),
        TEST(memory_that_cannot_be_opened_is_no_step),
        TEST(a_block_is_there_or_it_is_not),
    };

    return cmocka_run_group_tests(tests, start, NULL);
}
