/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the tightest limit of a process's groups is found, wherever it is.
 * Method: groups of files in place of /sys.
 */
#include "pmem/memory_limit.h"

#include "pmem/memory_room.h"
#include "pmem/sysfs.h"
#include "tests/unit/pmem/machine_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

static void write_in(int directory, const char *name, const char *text)
{
    int fd = openat(directory, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
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
    machine_file("fs/cgroup/top/middle/memory.stat", "anon 9\nfile 99999\nshmem 98999\n"
                                                     "inactive_file 800\nactive_file 200\n");
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
    machine_file("fs/cgroup/memory/job/memory.stat",
                 "cache 1\ninactive_file 9999\ntotal_cache 99999\ntotal_shmem 99599\n"
                 "total_inactive_file 100\ntotal_active_file 300\n");
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

/* Beyond it a group is slowed down without an end, as memory that files are in is given back by
 * nobody. */
static void what_a_group_is_slowed_down_at_counts(void **state)
{
    (void)state;
    machine_file("groups", "0::/own\n");
    machine_file("fs/cgroup/own/memory.max", "max\n");
    machine_file("fs/cgroup/own/memory.high", "5000\n");
    machine_file("fs/cgroup/own/memory.current", "1000\n");
    assert_int_equal(berth__memory_limit_left(), 4000);
    machine_file("fs/cgroup/own/memory.max", "4500\n");
    assert_int_equal(berth__memory_limit_left(), 3500);
}

/* As deep as the kernel can tell of it: its name is of almost PATH_MAX bytes. */
static void a_group_of_any_depth_is_found(void **state)
{
    static char path[8192], name[4000], list[8192];
    int fd;

    (void)state;
    for (int i = 0; i < 26; i++) {
        memset(name + strlen(name), 'a' + i, 150);
        strcat(name, "/");
    }
    machine_file("fs/cgroup/x", "%s", "");
    snprintf(path, sizeof(path), "%s/fs/cgroup", berth__sysfs_root);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (char *part = strtok(strcpy(path, name), "/"); part; part = strtok(NULL, "/")) {
        int below;

        assert_int_equal(mkdirat(fd, part, 0700), 0);
        below = openat(fd, part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(below >= 0);
        close(fd);
        fd = below;
    }
    write_in(fd, "memory.max", "5000\n");
    write_in(fd, "memory.current", "4000\n");
    close(fd);
    snprintf(list, sizeof(list), "0::/%s\n", name);
    machine_file("groups", "%s", list);
    assert_int_equal(berth__memory_limit_left(), 1000);
}

static void what_is_left_is_asked_for(void **state)
{
    (void)state;
    assert_true(berth__memory_room_for(UINT64_MAX / 2)); /* nobody knows */
    machine_file("groups", "0::/own\n");
    machine_file("fs/cgroup/own/memory.max", "%llu\n", 100ULL << 20);
    machine_file("fs/cgroup/own/memory.current", "%llu\n", 20ULL << 20);
    /* 64 MiB beyond the margin; of what is left after that an eighth is not asked about. */
    assert_false(berth__memory_room_for((64ULL << 20) + 1));
    assert_true(berth__memory_room_for(32ULL << 20));
    machine_file("fs/cgroup/own/memory.current", "%llu\n", 99ULL << 20);
    assert_false(berth__memory_room_for(5ULL << 20));
    assert_false(berth__memory_room_for(1));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_groups_there_is_no_limit),    TEST(the_tightest_of_the_groups_above_counts),
        TEST(a_container_sees_its_own_root_alone), TEST(the_first_version_counts_too),
        TEST(the_group_stands_behind_many_others), TEST(what_a_group_is_slowed_down_at_counts),
        TEST(a_group_of_any_depth_is_found),       TEST(what_is_left_is_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
