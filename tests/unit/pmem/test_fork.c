/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forks of a process with file tiers: the rule `copy` gives the child memory of its own or refuses
 * the fork, the rule `share` does neither. Each test is a process of its own, so that the tiers of
 * one are not copied by the next.
 */
#include "pmem/fork.h"

#include "alloc/stats.h"
#include "alloc/thread.h"
#include "pmem/arena.h"
#include "pmem/host.h"
#include "pmem/residency.h"
#include "pmem/tier_file.h"
#include "tests/unit/pmem/child_fixture.h"
#include "tests/unit/pmem/table_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* As the hook of fork() does it. */
static pid_t hooked_fork(void)
{
    struct berth_fork attempt;
    pid_t pid;

    if (berth__fork_begin(&attempt) < 0)
        return -1;
    pid = fork();
    return berth__fork_end(&attempt, pid) < 0 ? -1 : pid;
}

static void await(pid_t pid)
{
    int status = -1;

    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
}

static berth_tier_id use_tier(enum berth_fork_rule fork_rule, uint64_t copy_max, const char *path)
{
    struct berth_table_draft *draft = berth__draft_new();

    draft_tier(draft, TIER(.name = "far", .kind = BERTH_KIND_FILE, .path = path, .fork = fork_rule,
                           .fork_copy_max = copy_max, .decay_ms = 0));
    draft_rule(draft, RULE(.name = "all", .side = BERTH_SIDE_HOST), "far", "dram", NULL);
    draft_install(draft);
    return berth__tier_find("far");
}

static char *get(size_t size, int value)
{
    struct berth_host_request request = {.size = size, .alignment = 1};
    struct berth_block_info info;
    bool placed;
    char *p = berth__host_alloc(&request, &placed);

    CHECK(p && placed);
    CHECK(berth__host_describe(p, &info) == 0 && strcmp(info.tier, "far") == 0);
    memset(p, value, size);
    return p;
}

static void check_copy(void)
{
    char *small, *large;
    pid_t pid;

    use_tier(BERTH_FORK_COPY, UINT64_MAX, "/tmp");
    small = get(100, 1);
    large = get(3 * MIB, 2);
    pid = hooked_fork();
    if (pid == 0) {
        CHECK(small[99] == 1 && large[3 * MIB - 1] == 2);
        memset(large, 7, 3 * MIB);
        small[99] = 8;
        berth__host_free(large);
        large = get(5 * MIB, 9);
        CHECK(large[5 * MIB - 1] == 9);
        pid = hooked_fork();
        if (pid == 0) {
            CHECK(small[99] == 8 && large[0] == 9);
            memset(large, 1, 5 * MIB);
            _exit(0);
        }
        await(pid);
        CHECK(large[0] == 9);
        _exit(0);
    }
    await(pid);
    CHECK(small[99] == 1 && large[0] == 2 && large[3 * MIB - 1] == 2);
}

static void the_child_has_a_copy(void **state)
{
    (void)state;
    in_host_child(check_copy);
}

/* daemon() and the like call the C library's fork directly. */
static void check_unhooked(void)
{
    char *p;
    pid_t pid;

    use_tier(BERTH_FORK_COPY, UINT64_MAX, "/tmp");
    p = get(MIB, 1);
    pid = fork();
    if (pid == 0) {
        memset(p, 2, MIB);
        _exit(0);
    }
    await(pid);
    CHECK(p[0] == 1 && p[MIB - 1] == 1);
}

static void a_fork_past_the_hook_has_a_copy_too(void **state)
{
    (void)state;
    in_host_child(check_unhooked);
}

static void check_share(void)
{
    char *p;
    pid_t pid;

    use_tier(BERTH_FORK_SHARE, UINT64_MAX, "/tmp");
    p = get(MIB, 1);
    pid = hooked_fork();
    if (pid == 0) {
        memset(p, 2, MIB);
        _exit(0);
    }
    await(pid);
    CHECK(p[0] == 2);
}

static void share_leaves_the_memory_shared(void **state)
{
    (void)state;
    in_host_child(check_share);
}

/* What is free when the child begins may be in use in the parent by now. */
static void check_share_is_kept(void)
{
    int begin[2];
    char *p, go;
    pid_t pid;

    berth__arena_set_decay(use_tier(BERTH_FORK_SHARE, UINT64_MAX, "/tmp"), 3600 * 1000);
    berth__host_free(get(4 * MIB, 1));
    CHECK(pipe(begin) == 0);
    pid = hooked_fork();
    if (pid == 0) {
        CHECK(read(begin[0], &go, 1) == 1);
        berth__arena_trim();
        _exit(0);
    }
    p = get(4 * MIB, 2);
    CHECK(write(begin[1], "", 1) == 1);
    await(pid);
    for (size_t i = 0; i < 4 * MIB; i++)
        CHECK(p[i] == 2);
    berth__host_free(p);
    berth__arena_trim();
    CHECK(atomic_load(&berth__tier_stats[berth__tier_find("far")].reserved) < MIB);
}

static void a_child_that_shares_gives_nothing_back(void **state)
{
    (void)state;
    in_host_child(check_share_is_kept);
}

/* One line and ENOMEM; the parent goes on. */
static void check_limit(void)
{
    int err[2], saved = dup(2);
    char line[1024] = "";
    pid_t pid;
    char *p;

    use_tier(BERTH_FORK_COPY, MIB, "/tmp");
    CHECK(pipe(err) == 0);
    p = get(2 * MIB, 1);
    dup2(err[1], 2);
    CHECK(hooked_fork() == -1);
    dup2(saved, 2);
    CHECK(read(err[0], line, sizeof(line) - 1) > 0);
    CHECK(strstr(line, "fork refused") && strstr(line, "fork-copy-max"));
    CHECK(strchr(line, '\n') == line + strlen(line) - 1);
    CHECK(p[0] == 1);
    berth__host_free(p);
    p = get(100 * KIB, 3);
    pid = hooked_fork();
    if (pid == 0)
        _exit(p[0] == 3 ? 0 : 1);
    await(pid);
}

static void over_fork_copy_max_the_fork_is_refused(void **state)
{
    (void)state;
    in_host_child(check_limit);
}

/* The child's copy of `size` bytes at `p` is its own, and its tier goes on. */
static void expect_copy(char *p, size_t size, char fill)
{
    pid_t pid = hooked_fork();

    if (pid == 0) {
        CHECK(p[0] == fill && p[size - 1] == fill);
        memset(p, fill + 1, size);
        berth__host_free(p);
        p = get(size / 2, 9);
        CHECK(p[size / 2 - 1] == 9);
        _exit(0);
    }
    CHECK(pid > 0);
    await(pid);
    CHECK(p[0] == fill && p[size - 1] == fill);
}

/* What a forked child writes is not seen here. */
static void expect_untouched(char *p, size_t size, char fill)
{
    pid_t pid = hooked_fork();

    if (pid == 0) {
        CHECK(p[0] == fill && p[size - 1] == fill);
        memset(p, fill + 1, size);
        _exit(0);
    }
    await(pid);
    CHECK(p[0] == fill && p[size - 1] == fill);
}

static void check_full(void)
{
    char directory[] = "/tmp/berth-test-XXXXXX";
    char *p;

    CHECK(mkdtemp(directory));
    if (mount("tmpfs", directory, "tmpfs", 0, "size=6m") != 0) {
        rmdir(directory);
        skip_child("no tmpfs can be mounted here");
    }
    use_tier(BERTH_FORK_COPY, UINT64_MAX, directory);
    p = get(4 * MIB, 1);
    expect_copy(p, 4 * MIB, 1);
    umount2(directory, MNT_DETACH);
    rmdir(directory);
    expect_copy(p, 4 * MIB, 1);
}

static void without_room_in_its_directory_the_copy_is_in_memory(void **state)
{
    (void)state;
    in_host_child(check_full);
}

/* Nothing can be asked of the file, so what it may hold is copied whole. */
static void check_descriptor(void)
{
    berth_tier_id id = use_tier(BERTH_FORK_COPY, UINT64_MAX, "/tmp");
    char *p = get(MIB, 1);

    close(berth__tier_file(id)->fd);
    expect_copy(p, MIB, 1);
}

static void without_its_descriptor_the_copy_is_made_from_memory(void **state)
{
    (void)state;
    in_host_child(check_descriptor);
}

/* Every descriptor that the process may have is in use. */
static void use_up_descriptors(void)
{
    struct rlimit limit = {1024, 1024};

    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    while (dup(1) >= 0)
        ;
    CHECK(errno == EMFILE);
}

static void check_no_descriptor(void)
{
    struct berth_host_request request = {.size = 5 * MIB, .alignment = 1};
    bool placed;
    char *p, *q, byte;
    int said[2];
    pid_t pid;

    use_tier(BERTH_FORK_COPY, UINT64_MAX, "/tmp");
    p = get(MIB, 1);
    q = get(70 * KIB, 2);
    CHECK(pipe2(said, O_NONBLOCK) == 0);
    use_up_descriptors();
    pid = hooked_fork();
    if (pid == 0) {
        CHECK(dup2(said[1], 2) == 2);
        CHECK(p[0] == 1 && p[MIB - 1] == 1 && q[0] == 2 && q[70 * KIB - 1] == 2);
        memset(p, 3, MIB);
        berth__host_free(q);
        q = berth__host_alloc(&request, &placed);
        CHECK(q);
        memset(q, 4, request.size);
        expect_untouched(p, MIB, 3);
        expect_untouched(q, request.size, 4);
        request.size = 300 * KIB;
        CHECK(berth__host_alloc(&request, &placed));
        _exit(0);
    }
    await(pid);
    CHECK(p[0] == 1 && p[MIB - 1] == 1 && q[0] == 2 && q[70 * KIB - 1] == 2);
    /* A program that forks often is not told of each child. */
    CHECK(read(said[0], &byte, 1) == -1 && errno == EAGAIN);
}

static void without_a_descriptor_left_the_copy_is_a_mapping(void **state)
{
    (void)state;
    in_host_child(check_no_descriptor);
}

static void check_no_descriptor_when_empty(void)
{
    char *p, *q;
    pid_t pid;

    use_tier(BERTH_FORK_COPY, UINT64_MAX, "/tmp");
    use_up_descriptors();
    pid = hooked_fork();
    if (pid == 0) {
        p = get(MIB, 1);
        _exit(p[MIB - 1] == 1 ? 0 : 1);
    }
    q = get(MIB, 2);
    await(pid);
    CHECK(q[0] == 2 && q[MIB - 1] == 2);
}

static void without_a_descriptor_left_an_empty_tier_begins_anew(void **state)
{
    (void)state;
    in_host_child(check_no_descriptor_when_empty);
}

/* With no address to be had either, a copy cannot be made anywhere. */
static void check_nothing_left(void)
{
    struct rlimit none = {0, 0};
    char *p;

    use_tier(BERTH_FORK_COPY, UINT64_MAX, "/tmp");
    p = get(MIB, 1);
    close(2);
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    CHECK(setrlimit(RLIMIT_AS, &none) == 0);
    CHECK(hooked_fork() == -1);
    CHECK(p[MIB - 1] == 1);
}

static void where_no_copy_can_be_made_the_fork_is_refused(void **state)
{
    (void)state;
    in_host_child(check_nothing_left);
}

static void skip_under_sanitizers(void)
{
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    print_message("a sanitizer needs more addresses than the test allows\n");
    skip();
#endif
}

/* Less than the process has: the kernel lets it fork, but map nothing. */
static void limit_addresses(void)
{
    struct rlimit limit;

    CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = BERTH_OS_PAGE;
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
}

/* A limit that an ordinary user cannot lift, who can read its /proc still. */
static void limit_addresses_for_good(rlim_t bytes)
{
    const struct rlimit limit = {bytes, bytes};

    if (geteuid() == 0)
        CHECK(setgid(65534) == 0 && setuid(65534) == 0);
    CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
}

static void check_few_addresses(void)
{
    struct rlimit limit;
    char *p;
    pid_t pid;

    use_tier(BERTH_FORK_COPY, UINT64_MAX, "/tmp");
    p = get(MIB, 1);
    limit_addresses();
    pid = hooked_fork();
    if (pid == 0) {
        CHECK(getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur == BERTH_OS_PAGE);
        memset(p, 2, MIB);
        _exit(0);
    }
    await(pid);
    CHECK(p[0] == 1 && p[MIB - 1] == 1);
}

static void a_child_takes_its_copy_under_a_limit_that_can_be_lifted(void **state)
{
    (void)state;
    skip_under_sanitizers();
    in_host_child(check_few_addresses);
}

/* The child is not made, rather than ended. */
static void check_too_few_addresses(void)
{
    char *p;

    use_tier(BERTH_FORK_COPY, UINT64_MAX, "/tmp");
    p = get(MIB, 1);
    close(2);
    limit_addresses_for_good(BERTH_OS_PAGE);
    errno = 0;
    CHECK(hooked_fork() == -1);
    CHECK(p[MIB - 1] == 1);
}

/* A program that uses none of its tiers needs nothing for its child. */
static void check_no_need_of_addresses(void)
{
    use_tier(BERTH_FORK_COPY, UINT64_MAX, "/tmp");
    limit_addresses_for_good(BERTH_OS_PAGE);
    {
        pid_t pid = hooked_fork();

        if (pid == 0)
            _exit(0);
        await(pid);
    }
}

/* All that the process has now, in bytes. */
static rlim_t addresses_now(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;

    CHECK(file && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    return (rlim_t)pages << BERTH_OS_PAGE_SHIFT;
}

/* A block's second mapping is taken in place of the parent's: there is room for no third one. */
static void check_addresses_of_movable(void)
{
    struct berth_table_draft *draft = berth__draft_new();
    char *p;
    pid_t pid;

    draft_tier(draft, TIER(.name = "far", .kind = BERTH_KIND_FILE, .path = "/tmp",
                           .fork = BERTH_FORK_COPY, .fork_copy_max = UINT64_MAX, .decay_ms = 0));
    draft_rule(draft, RULE(.name = "all", .side = BERTH_SIDE_HOST, .movable = true), "far", NULL);
    draft_install(draft);
    p = get(64 * MIB, 1);
    CHECK(berth__is_movable(p));
    limit_addresses_for_good(addresses_now() + 16 * MIB);
    pid = hooked_fork();
    if (pid == 0) {
        CHECK(p[0] == 1 && p[64 * MIB - 1] == 1);
        memset(p, 2, 64 * MIB);
        _exit(0);
    }
    await(pid);
    CHECK(p[0] == 1 && p[64 * MIB - 1] == 1);
}

static void a_child_takes_movable_blocks_where_addresses_are_nearly_used_up(void **state)
{
    (void)state;
    skip_under_sanitizers();
    in_host_child(check_addresses_of_movable);
}

/* What was used and went back needs no addresses for a copy that is a mapping. */
static void check_neither_descriptors_nor_addresses(void)
{
    struct berth_host_request request = {.size = 128 * MIB, .alignment = 1};
    rlim_t most;
    bool placed;
    char *p, *q;
    pid_t pid;

    use_tier(BERTH_FORK_COPY, UINT64_MAX, "/tmp");
    p = get(MIB, 1);
    q = berth__host_alloc(&request, &placed);
    CHECK(q > p && placed);
    berth__host_free(q);
    most = addresses_now() + 32 * MIB;
    use_up_descriptors();
    limit_addresses_for_good(most);
    pid = hooked_fork();
    if (pid == 0) {
        CHECK(p[0] == 1 && p[MIB - 1] == 1);
        memset(p, 2, MIB);
        request.size = 5 * MIB;
        q = berth__host_alloc(&request, &placed);
        CHECK(q);
        memset(q, 3, request.size);
        CHECK(p[0] == 2 && p[MIB - 1] == 2);
        _exit(0);
    }
    await(pid);
    CHECK(p[0] == 1 && p[MIB - 1] == 1);
}

static void without_descriptors_the_copy_takes_few_addresses(void **state)
{
    (void)state;
    skip_under_sanitizers();
    in_host_child(check_neither_descriptors_nor_addresses);
}

static void a_fork_is_refused_whose_child_could_map_nothing(void **state)
{
    (void)state;
    skip_under_sanitizers();
    in_host_child(check_too_few_addresses);
    in_host_child(check_no_need_of_addresses);
}

/* Only what was ever used is copied, and the copy has space behind every page. */
static void check_sparse(void)
{
    berth_tier_id id = use_tier(BERTH_FORK_COPY, UINT64_MAX, "/tmp");
    char *p = get(64 * MIB, 1);
    char *q = get(MIB, 2);
    pid_t pid;

    berth__host_free(p);
    CHECK(berth__tier_stats[id].reserved < 2 * MIB);
    pid = hooked_fork();
    if (pid == 0) {
        CHECK(q[MIB - 1] == 2);
        p = get(10 * MIB, 3);
        CHECK(p[10 * MIB - 1] == 3);
        _exit(0);
    }
    await(pid);
}

static void what_was_given_back_is_not_copied(void **state)
{
    (void)state;
    in_host_child(check_sparse);
}

/*
 * A signal's handler that forks amid an allocation: the code that was interrupted goes on in the
 * parent with its caches, and what they are like is not known in the child.
 */
static void check_interrupted(void)
{
    pid_t pid;
    char *p;

    use_tier(BERTH_FORK_COPY, UINT64_MAX, "/tmp");
    p = get(100, 1);
    CHECK(berth__arena_has_caches());
    berth__thread.inside++;
    pid = hooked_fork();
    if (pid == 0) {
        CHECK(!berth__arena_has_caches());
        berth__thread.inside--;
        for (int i = 0; i < 100; i++)
            CHECK(get(100, i) != p);
        CHECK(berth__arena_has_caches() && p[99] == 1);
        _exit(0);
    }
    await(pid);
    CHECK(berth__arena_has_caches());
    berth__thread.inside--;
    berth__host_free(p);
}

static void the_child_of_an_interrupted_fork_leaves_caches_alone(void **state)
{
    (void)state;
    in_host_child(check_interrupted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_child_has_a_copy),
        cmocka_unit_test(a_fork_past_the_hook_has_a_copy_too),
        cmocka_unit_test(share_leaves_the_memory_shared),
        cmocka_unit_test(a_child_that_shares_gives_nothing_back),
        cmocka_unit_test(over_fork_copy_max_the_fork_is_refused),
        cmocka_unit_test(without_room_in_its_directory_the_copy_is_in_memory),
        cmocka_unit_test(without_its_descriptor_the_copy_is_made_from_memory),
        cmocka_unit_test(without_a_descriptor_left_the_copy_is_a_mapping),
        cmocka_unit_test(without_a_descriptor_left_an_empty_tier_begins_anew),
        cmocka_unit_test(where_no_copy_can_be_made_the_fork_is_refused),
        cmocka_unit_test(a_child_takes_its_copy_under_a_limit_that_can_be_lifted),
        cmocka_unit_test(a_child_takes_movable_blocks_where_addresses_are_nearly_used_up),
        cmocka_unit_test(without_descriptors_the_copy_takes_few_addresses),
        cmocka_unit_test(a_fork_is_refused_whose_child_could_map_nothing),
        cmocka_unit_test(what_was_given_back_is_not_copied),
        cmocka_unit_test(the_child_of_an_interrupted_fork_leaves_caches_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
