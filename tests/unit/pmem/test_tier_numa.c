/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a numa tier is on its nodes or says why not; a full node is seen when memory is asked for;
 * nobody else's memory policy changes.
 * Method: the real kernel with the one node that every machine has, and machines of files in place
 * of /sys where more nodes, or full ones, are needed. Real nodes are tests/vm's matter.
 */
#include "pmem/tier_numa.h"

#include "pmem/arena.h"
#include "pmem/host.h"
#include "pmem/huge_advice.h"
#include "pmem/memory_limit.h"
#include "pmem/node_bind.h"
#include "pmem/window.h"
#include "tests/unit/pmem/machine_fixture.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB ((size_t)1 << 20)
#define PREFERRED_MANY 5

static char why[256];

static int start(void **state)
{
    (void)state;
    berth__host_register();
    return 0;
}

static int end_machine(void **state)
{
    (void)state;
    machine_end();
    return 0;
}

static int make(struct berth_tier_config config, berth_tier_id *ret_id)
{
    config.kind = BERTH_KIND_NUMA;
    config.path = "";
    config.fork_copy_max = UINT64_MAX;
    why[0] = '\0';
    return berth__tier_ensure(&config, ret_id, why, sizeof(why));
}

#define MAKE(id, ...) make((struct berth_tier_config){__VA_ARGS__}, id)

static char *carve(berth_tier_id id, size_t size, size_t alignment)
{
    char *p = berth__window_carve(id, size, alignment);

    assert_non_null(p);
    return p;
}

static int map(berth_tier_id id, char *p, size_t size)
{
    return berth__tier(id)->ops->map(berth__tier(id), p, size);
}

static int commit(berth_tier_id id, char *p, size_t size)
{
    return berth__tier(id)->ops->commit(berth__tier(id), p, size);
}

static void assert_described(berth_tier_id id, const char *part)
{
    char text[256];

    berth__tier(id)->ops->describe(berth__tier(id), text, sizeof(text));
    if (!strstr(text, part))
        fail_msg("described as \"%s\"; expected \"%s\"", text, part);
}

/* How many OS pages of the range are in memory. */
static size_t resident(char *p, size_t size)
{
    unsigned char in_memory[4096];
    size_t count = 0;

    assert_true(size / BERTH_OS_PAGE <= sizeof(in_memory));
    assert_int_equal(mincore(p, size, in_memory), 0);
    for (size_t i = 0; i < size / BERTH_OS_PAGE; i++)
        count += in_memory[i] & 1;
    return count;
}

static void on_the_only_node_it_is_ordinary_memory(void **state)
{
    int mode = -1, on = -1;
    berth_tier_id id;
    void *page;
    char *p;

    (void)state;
    machine_begin();
    machine_file("devices/system/node/has_memory", "0\n");
    machine_node(0, 512, 0);
    assert_int_equal(MAKE(&id, .name = "only", .nodes = "0"), 0);
    p = carve(id, 4 * MIB, BERTH_OS_PAGE);
    assert_int_equal(map(id, p, 4 * MIB), 0);
    /* Nothing else could take it: nothing is looked at, and nothing is taken in advance. */
    assert_int_equal(commit(id, p, 2 * MIB), 0);
    assert_int_equal(resident(p, 2 * MIB), 0);
    memset(p, 1, 2 * MIB);
    page = p;
    if (syscall(SYS_move_pages, 0, 1UL, &page, NULL, &on, 0) == 0)
        assert_int_equal(on, 0);
    assert_int_equal(berth__tier(id)->ops->decommit(berth__tier(id), p, 2 * MIB), 0);
    assert_int_equal(p[MIB], 0);
    if (syscall(SYS_get_mempolicy, &mode, NULL, 0UL, NULL, 0UL) == 0)
        assert_int_equal(mode, MPOL_DEFAULT);
}

static void a_kernel_without_numa_has_node_0(void **state)
{
    berth_tier_id id;
    char *p;

    (void)state;
    machine_begin();
    machine_fail(MACHINE_MBIND, 0, 100, ENOSYS, 0);
    assert_int_equal(MAKE(&id, .name = "none", .nodes = "0"), 0);
    assert_described(id, "there is no other node");
    p = carve(id, MIB, BERTH_OS_PAGE);
    assert_int_equal(map(id, p, MIB), 0);
    assert_int_equal(commit(id, p, MIB), 0);
    memset(p, 1, MIB);
    assert_int_equal(machine_failures(MACHINE_MBIND), 1);
    /* Nor need it be asked to move a block there, and back. */
    assert_int_equal(berth__node_bind(id, p, MIB), 0);
    assert_int_equal(berth__node_unbind(id, p, MIB), 0);
    assert_int_equal(machine_failures(MACHINE_MBIND), 1);
}

static void nodes_that_are_not_there_are_passed_over(void **state)
{
    berth_tier_id id = BERTH_TIER_NONE;
    unsigned long nodes;

    (void)state;
    machine_begin();
    machine_file("devices/system/node/has_memory", "0-1,4\n");
    machine_node(1, 512, 256);
    machine_node(4, 1024, 1024);
    machine_allow_nodes(0x17);
    assert_int_equal(MAKE(&id, .name = "gone", .nodes = "2-3,700"), -ENODEV);
    assert_non_null(strstr(why, "no node of 2-3,700 has memory"));
    assert_int_equal(id, BERTH_TIER_NONE);
    assert_int_equal(MAKE(&id, .name = "some", .nodes = "1-4"), 0);
    assert_int_equal(machine_policy(&nodes), MPOL_BIND);
    assert_int_equal(nodes, 0x12);
    assert_described(id, "node 1,4, bound");
    assert_described(id, "not on 2-3");
    assert_described(id, "1.50 GiB, 1.25 GiB left");
}

static void the_cpuset_counts(void **state)
{
    berth_tier_id id = BERTH_TIER_NONE;

    (void)state;
    machine_begin();
    machine_file("devices/system/node/has_memory", "0-1\n");
    machine_allow_nodes(1);
    assert_int_equal(MAKE(&id, .name = "barred", .nodes = "1"), -ENODEV);
    assert_non_null(strstr(why, "cpuset"));
}

static void a_policy_that_the_kernel_refuses_is_said(void **state)
{
    berth_tier_id id = BERTH_TIER_NONE;
    char *p;

    (void)state;
    machine_begin();
    machine_file("devices/system/node/has_memory", "0-1\n");
    machine_node(0, 512, 512);
    machine_allow_nodes(3);
    machine_fail(MACHINE_MBIND, 0, 1, EPERM, 0);
    assert_int_equal(MAKE(&id, .name = "forbidden", .nodes = "0"), -EPERM);
    assert_non_null(strstr(why, "Operation not permitted"));
    assert_int_equal(MAKE(&id, .name = "later", .nodes = "0"), 0);
    p = carve(id, 2 * MIB, BERTH_OS_PAGE);
    machine_fail(MACHINE_MBIND, 0, 1, EINVAL, 0);
    errno = 4711;
    assert_int_equal(map(id, p, MIB), -EINVAL);
    machine_fail(MACHINE_MPROTECT, 0, 1, ENOMEM, 0);
    assert_int_equal(map(id, p, MIB), -ENOMEM);
    assert_int_equal(errno, 4711);
    assert_int_equal(map(id, p, MIB), 0);
}

static void several_preferred_nodes_become_one_on_old_kernels(void **state)
{
    berth_tier_id id;
    unsigned long nodes;

    (void)state;
    machine_begin();
    machine_file("devices/system/node/has_memory", "0-3\n");
    machine_allow_nodes(0xf);
    assert_int_equal(MAKE(&id, .name = "many", .nodes = "1-2", .numa = BERTH_NUMA_PREFERRED), 0);
    assert_int_equal(machine_policy(&nodes), PREFERRED_MANY);
    assert_int_equal(nodes, 6);
    machine_fail(MACHINE_MBIND, 0, 1, EINVAL, PREFERRED_MANY);
    assert_int_equal(MAKE(&id, .name = "first", .nodes = "1-2", .numa = BERTH_NUMA_PREFERRED), 0);
    assert_int_equal(machine_policy(&nodes), MPOL_PREFERRED);
    assert_described(id, "the first alone");
    assert_int_equal(MAKE(&id, .name = "one", .nodes = "3", .numa = BERTH_NUMA_PREFERRED), 0);
    assert_int_equal(machine_policy(&nodes), MPOL_PREFERRED);
    assert_int_equal(nodes, 8);
}

/* A tier that is bound to node 0 of two: it looks before it takes. */
static berth_tier_id make_strict(const char *name, uint64_t available)
{
    berth_tier_id id = BERTH_TIER_NONE;

    machine_begin();
    machine_file("devices/system/node/has_memory", "0-1\n");
    machine_node(0, 512, available);
    machine_allow_nodes(3);
    assert_int_equal(MAKE(&id, .name = name, .nodes = "0"), 0);
    return id;
}

static void a_full_node_is_seen_at_commit(void **state)
{
    berth_tier_id id = make_strict("full", 30);
    char *p = carve(id, 16 * MIB, BERTH_OS_PAGE);

    (void)state;
    assert_int_equal(map(id, p, 16 * MIB), 0);
    /* 24 MiB of the 30 stay free. */
    errno = 4711;
    assert_int_equal(commit(id, p, 8 * MIB), -ENOMEM);
    assert_int_equal(errno, 4711);
    assert_int_equal(resident(p, 8 * MIB), 0);
    assert_int_equal(commit(id, p, 4 * MIB), 0);
    assert_int_equal(resident(p, 4 * MIB), 4 * MIB / BERTH_OS_PAGE);
    machine_node(0, 512, 300);
    assert_int_equal(commit(id, p + 4 * MIB, 8 * MIB), 0);
    assert_int_equal(resident(p, 12 * MIB), 12 * MIB / BERTH_OS_PAGE);
}

static bool is_all(const char *p, size_t size, char value)
{
    return p[0] == value && memcmp(p, p + 1, size - 1) == 0;
}

/* Half of the block was never touched: that half, too, is taken when the block is moved. */
static void a_block_is_moved_to_a_node_with_room(void **state)
{
    berth_tier_id id = make_strict("moved", 30);
    char *p = carve(id, 8 * MIB, BERTH_OS_PAGE);

    (void)state;
    assert_int_equal(mprotect(p, 8 * MIB, PROT_READ | PROT_WRITE), 0);
    memset(p, 7, 4 * MIB);
    assert_int_equal(berth__node_bind(id, p, 8 * MIB), -ENOMEM);
    assert_int_equal(resident(p, 8 * MIB), 4 * MIB / BERTH_OS_PAGE);
    machine_node(0, 512, 300);
    assert_int_equal(berth__node_bind(id, p, 8 * MIB), 0);
    assert_int_equal(resident(p, 8 * MIB), 8 * MIB / BERTH_OS_PAGE);
    assert_true(is_all(p, 4 * MIB, 7) && is_all(p + 4 * MIB, 4 * MIB, 0));
}

/* The kernel says the same of pages that are held and of a node that has become full. */
static void a_page_that_cannot_move_is_told_from_a_full_node(void **state)
{
    berth_tier_id id = make_strict("held", 500);
    char *p = carve(id, 128 * MIB, BERTH_OS_PAGE);

    (void)state;
    assert_int_equal(mprotect(p, 128 * MIB, PROT_READ | PROT_WRITE), 0);
    memset(p, 7, MIB);
    machine_pages_on(1);
    machine_fail(MACHINE_MBIND, 0, 3, EIO, MPOL_BIND);
    assert_int_equal(berth__node_bind(id, p, MIB), -EBUSY);
    machine_fail(MACHINE_MBIND, 1, 3, EIO, MPOL_BIND);
    assert_int_equal(berth__node_bind(id, p, 128 * MIB), -EBUSY);
    assert_int_equal(machine_failures(MACHINE_MBIND), 3);
    machine_fail(MACHINE_MADVISE, 0, 1, EFAULT, MADV_POPULATE_WRITE);
    assert_int_equal(berth__node_bind(id, p, MIB), -ENOMEM);
    machine_fail(MACHINE_MADVISE, 0, 1, EINVAL, MADV_POPULATE_WRITE);
    assert_int_equal(berth__node_bind(id, p, MIB), 0);
    assert_true(is_all(p, MIB, 7));
}

/* Of huge pages in pieces kernels say that some could not be moved, when all are where they should
 * be; and some could not for a moment. */
static void what_has_moved_all_the_same_is_not_held(void **state)
{
    berth_tier_id id = make_strict("arrived", 500);
    char *p = carve(id, MIB, BERTH_OS_PAGE);

    (void)state;
    assert_int_equal(mprotect(p, MIB, PROT_READ | PROT_WRITE), 0);
    memset(p, 7, MIB);
    machine_pages_on(0);
    machine_fail(MACHINE_MBIND, 0, 3, EIO, MPOL_BIND);
    assert_int_equal(berth__node_bind(id, p, MIB), 0);
    assert_int_equal(machine_failures(MACHINE_MBIND), 1);
    machine_pages_on(1);
    machine_fail(MACHINE_MBIND, 0, 2, EIO, MPOL_BIND);
    assert_int_equal(berth__node_bind(id, p, MIB), 0);
    assert_int_equal(machine_failures(MACHINE_MBIND), 2);
}

/* What could not be moved back has the policy of before in any case. */
static void a_policy_ends_with_the_blocks_time_there(void **state)
{
    berth_tier_id id = make_strict("back", 500);
    char *p = carve(id, MIB, BERTH_OS_PAGE);
    unsigned long nodes;

    (void)state;
    machine_file("devices/system/node/has_cpu", "0-1\n");
    assert_int_equal(mprotect(p, MIB, PROT_READ | PROT_WRITE), 0);
    assert_int_equal(berth__node_bind(id, p, MIB), 0);
    assert_int_equal(machine_policy(&nodes), MPOL_BIND);
    machine_pages_on(0);
    machine_fail(MACHINE_MBIND, 0, 3, EIO, MPOL_BIND);
    assert_int_equal(berth__node_unbind(id, p, MIB), -EBUSY);
    assert_int_equal(machine_failures(MACHINE_MBIND), 3);
    assert_int_equal(machine_policy(&nodes), MPOL_DEFAULT);
}

static void readings_are_spared_only_while_there_is_plenty(void **state)
{
    berth_tier_id id = make_strict("plenty", 500);
    char *p = carve(id, 256 * MIB, BERTH_OS_PAGE);

    (void)state;
    assert_int_equal(map(id, p, 256 * MIB), 0);
    assert_int_equal(commit(id, p, MIB), 0);
    /* What the reading said may be taken is not much: 1/8 of 475 MiB. */
    machine_node(0, 512, 0);
    for (size_t at = MIB;; at += MIB) {
        assert_true(at < 64 * MIB);
        if (commit(id, p + at, MIB) < 0)
            break;
    }
}

static void much_too_much_is_refused_before_a_page_is_taken(void **state)
{
    berth_tier_id id = make_strict("hopeless", 200);
    char *p = carve(id, 1024 * MIB, BERTH_OS_PAGE);

    (void)state;
    assert_int_equal(map(id, p, 1024 * MIB), 0);
    assert_int_equal(commit(id, p, 1024 * MIB), -ENOMEM);
    assert_int_equal(resident(p, 16 * MIB), 0);
}

static void a_limit_of_the_process_counts_as_a_full_node(void **state)
{
    berth_tier_id id = make_strict("limited", 500);
    char *p = carve(id, 64 * MIB, BERTH_OS_PAGE);

    (void)state;
    machine_file("groups", "0::/\n");
    machine_file("fs/cgroup/memory.max", "%zu\n", 64 * MIB);
    machine_file("fs/cgroup/memory.current", "%zu\n", 30 * MIB);
    berth__memory_limit_groups = "groups";
    assert_int_equal(map(id, p, 64 * MIB), 0);
    assert_int_equal(commit(id, p, 16 * MIB), -ENOMEM);
    assert_int_equal(commit(id, p, 8 * MIB), 0);
    berth__memory_limit_groups = "../proc/self/cgroup";
}

static void pages_that_cannot_be_had_are_given_back(void **state)
{
    berth_tier_id id = make_strict("broken", 500);
    char *p = carve(id, 130 * MIB, BERTH_OS_PAGE);

    (void)state;
    assert_int_equal(map(id, p, 130 * MIB), 0);
    machine_fail(MACHINE_MADVISE, 1, 1, EFAULT, MADV_POPULATE_WRITE);
    assert_int_equal(commit(id, p, 130 * MIB), -ENOMEM);
    assert_int_equal(machine_failures(MACHINE_MADVISE), 1);
    assert_int_equal(resident(p, 16 * MIB), 0);
    /* A kernel that cannot take pages on request: they are touched. */
    machine_fail(MACHINE_MADVISE, 0, 1, EINVAL, MADV_POPULATE_WRITE);
    assert_int_equal(commit(id, p, 4 * MIB), 0);
    assert_int_equal(resident(p, 4 * MIB), 4 * MIB / BERTH_OS_PAGE);
}

/* What parent and child copy after a fork is asked for by no commit. */
static void a_fork_without_room_for_copies_lets_pages_go_elsewhere(void **state)
{
    berth_tier_id id = make_strict("forked", 500);
    unsigned long nodes;
    char *p = berth__arena_alloc(id, 4 * MIB, 1, false);

    (void)state;
    assert_non_null(p);
    memset(p, 1, 4 * MIB);
    assert_int_equal(machine_policy(&nodes), MPOL_BIND);
    berth__tier_numa_before_fork();
    assert_int_equal(machine_policy(&nodes), MPOL_BIND);
    machine_node(0, 512, 25);
    berth__tier_numa_before_fork();
    assert_int_equal(machine_policy(&nodes), MPOL_PREFERRED);
    assert_int_equal(nodes, 1);
    berth__arena_free(id, p, berth__arena_held(p));
}

static void the_policy_of_the_thread_stays(void **state)
{
    unsigned long one = 1, mask[64] = {0};
    berth_tier_id id;
    int mode = -1;
    char *p;

    (void)state;
    machine_begin();
    machine_file("devices/system/node/has_memory", "0-1\n");
    machine_node(0, 512, 512);
    if (syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, &one, 65UL) < 0) {
        print_message("this kernel sets no memory policy: %s\n", strerror(errno));
        skip();
    }
    machine_allow_nodes(3);
    assert_int_equal(MAKE(&id, .name = "beside", .nodes = "0"), 0);
    p = carve(id, 2 * MIB, BERTH_OS_PAGE);
    assert_int_equal(map(id, p, 2 * MIB), 0);
    assert_int_equal(commit(id, p, 2 * MIB), 0);
    machine_allow_nodes(0);
    assert_int_equal(syscall(SYS_get_mempolicy, &mode, mask, 64UL * 64, NULL, 0UL), 0);
    assert_int_equal(mode, MPOL_INTERLEAVE);
    assert_int_equal(mask[0], 1);
    assert_int_equal(syscall(SYS_get_mempolicy, &mode, mask, 64UL * 64, p, MPOL_F_ADDR), 0);
    assert_int_equal(mode & ~MPOL_F_STATIC_NODES, MPOL_BIND);
    syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0UL);
}

/* AnonHugePages of the mapping that `p` lies in, in KiB. */
static long huge_kib(const char *p)
{
    FILE *maps = fopen("/proc/self/smaps", "re");
    char line[512];
    bool inside = false;
    long kib = -1;

    while (maps && fgets(line, sizeof(line), maps)) {
        unsigned long first, end;

        if (sscanf(line, "%lx-%lx ", &first, &end) == 2)
            inside = (uintptr_t)p >= first && (uintptr_t)p < end;
        else if (inside && sscanf(line, "AnonHugePages: %ld", &kib) == 1)
            break;
    }
    if (maps)
        fclose(maps);
    return kib;
}

static void huge_pages_come_on_request(void **state)
{
    const size_t size = 8 * MIB;
    berth_tier_id id;
    char *p;

    (void)state;
    if (strcmp(berth__huge_advice_text(), "transparent huge pages") != 0) {
        print_message("%s\n", berth__huge_advice_text());
        skip();
    }
    machine_begin();
    machine_file("devices/system/node/has_memory", "0\n");
    assert_int_equal(MAKE(&id, .name = "huge", .nodes = "0", .huge_pages = BERTH_HUGE_ADVISE), 0);
    p = carve(id, size, BERTH_HUGE_PAGE);
    assert_int_equal(map(id, p, size), 0);
    assert_int_equal(commit(id, p, size), 0);
    memset(p, 1, size);
    if (huge_kib(p) == 0) {
        print_message("the kernel has no huge page left\n");
        skip();
    }
    assert_true(huge_kib(p) > 0);
}

#define TEST(name) cmocka_unit_test_teardown(name, end_machine)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(on_the_only_node_it_is_ordinary_memory),
        TEST(a_kernel_without_numa_has_node_0),
        TEST(nodes_that_are_not_there_are_passed_over),
        TEST(the_cpuset_counts),
        TEST(a_policy_that_the_kernel_refuses_is_said),
        TEST(several_preferred_nodes_become_one_on_old_kernels),
        TEST(a_full_node_is_seen_at_commit),
        TEST(a_block_is_moved_to_a_node_with_room),
        TEST(a_page_that_cannot_move_is_told_from_a_full_node),
        TEST(what_has_moved_all_the_same_is_not_held),
        TEST(a_policy_ends_with_the_blocks_time_there),
        TEST(readings_are_spared_only_while_there_is_plenty),
        TEST(much_too_much_is_refused_before_a_page_is_taken),
        TEST(a_limit_of_the_process_counts_as_a_full_node),
        TEST(pages_that_cannot_be_had_are_given_back),
        TEST(a_fork_without_room_for_copies_lets_pages_go_elsewhere),
        TEST(the_policy_of_the_thread_stays),
        TEST(huge_pages_come_on_request),
    };

    return cmocka_run_group_tests(tests, start, NULL);
}
