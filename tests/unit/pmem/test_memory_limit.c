/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the tightest limit of a process's groups is found, wherever it is.
 * Method: groups of files in place of /sys.
 */
#include "pmem/memory_limit.h"

#include "tests/unit/pmem/machine_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int begin(void **state)
{
    (void)state;
    machine_begin();
    berth__memory_limit_groups = "groups";
    return 0;
}

static int end(void **state)
{
    (void)state;
    machine_end();
    return 0;
}

static void without_groups_there_is_no_limit(void **state)
{
    (void)state;
    errno = 4711;
    assert_true(berth__memory_limit_left() == UINT64_MAX);
    machine_file("groups", "5:cpuset:/a\n0::/\nnonsense\n");
    assert_true(berth__memory_limit_left() == UINT64_MAX);
    assert_int_equal(errno, 4711);
}

static void the_tightest_of_the_groups_above_counts(void **state)
{
    (void)state;
    machine_file("groups", "0::/top/middle/own\n");
    machine_file("fs/cgroup/top/middle/own/memory.max", "max\n");
    machine_file("fs/cgroup/top/middle/own/memory.current", "100\n");
    assert_true(berth__memory_limit_left() == UINT64_MAX);
    machine_file("fs/cgroup/top/middle/memory.max", "5000\n");
    machine_file("fs/cgroup/top/middle/memory.current", "2000\n");
    assert_int_equal(berth__memory_limit_left(), 3000);
    machine_file("fs/cgroup/top/middle/memory.stat", "anon 9\nfile 1000\nfile_mapped 7\n");
    assert_int_equal(berth__memory_limit_left(), 3500);
    machine_file("fs/cgroup/top/memory.max", "4000\n");
    machine_file("fs/cgroup/top/memory.current", "4100\n");
    assert_int_equal(berth__memory_limit_left(), 0);
}

static void a_container_sees_its_own_root_alone(void **state)
{
    (void)state;
    machine_file("groups", "0::/docker/123\n");
    machine_file("fs/cgroup/memory.max", "700\n");
    machine_file("fs/cgroup/memory.current", "100\n");
    assert_int_equal(berth__memory_limit_left(), 600);
}

static void the_first_version_counts_too(void **state)
{
    (void)state;
    machine_file("groups", "9:cpu,memory:/job\n1:name=systemd:/\n");
    machine_file("fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    machine_file("fs/cgroup/memory/memory.usage_in_bytes", "1\n");
    assert_true(berth__memory_limit_left() == UINT64_MAX);
    machine_file("fs/cgroup/memory/job/memory.limit_in_bytes", "5000\n");
    machine_file("fs/cgroup/memory/job/memory.usage_in_bytes", "4000\n");
    machine_file("fs/cgroup/memory/job/memory.stat", "cache 1\ntotal_cache 400\n");
    assert_int_equal(berth__memory_limit_left(), 1200);
}

/* As a container's are that sees those of the machine: more than two thousand bytes. */
static void the_group_stands_behind_many_others(void **state)
{
    static const char *const controllers[] = {"freezer", "cpuset",  "devices", "perf_event",
                                              "blkio",   "hugetlb", "pids",    "net_cls",
                                              "cpu",     "misc",    "memory",  "name=systemd"};
    char group[300], list[8192];
    size_t used = 0;

    (void)state;
    memset(group, 'g', sizeof(group) - 1);
    group[sizeof(group) - 1] = '\0';
    used +=
        (size_t)snprintf(list, sizeof(list), "99:rdma:/%s%s\n", group, group); /* no such path */
    for (size_t i = 0; i < sizeof(controllers) / sizeof(controllers[0]); i++)
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%zu:%s:/%.190s\n", 20 - i,
                                 controllers[i], group);
    machine_file("groups", "%s", list);
    group[190] = '\0';
    snprintf(list, sizeof(list), "fs/cgroup/memory/%s/memory.limit_in_bytes", group);
    machine_file(list, "5000\n");
    snprintf(list, sizeof(list), "fs/cgroup/memory/%s/memory.usage_in_bytes", group);
    machine_file(list, "4000\n");
    assert_int_equal(berth__memory_limit_left(), 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_groups_there_is_no_limit),    TEST(the_tightest_of_the_groups_above_counts),
        TEST(a_container_sees_its_own_root_alone), TEST(the_first_version_counts_too),
        TEST(the_group_stands_behind_many_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
