/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a tier of reserved huge pages lies in them, sees an empty pool when memory is asked for,
 * and its forked children do without. Method: the real kernel's pool, which is not changed: without
 * a few free pages most is skipped.
 */
#include "pmem/tier_huge.h"

#include "pmem/arena.h"
#include "pmem/host.h"
#include "pmem/sysfs.h"
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
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define FREE_MIN 6

static char why[256];
static size_t page; /* of the pool that files in memory have */

static int64_t free_pages(void)
{
    char path[128];
    int64_t number = 0;

    snprintf(path, sizeof(path), "kernel/mm/hugepages/hugepages-%zukB/free_hugepages", page >> 10);
    berth__sysfs_number(path, &number);
    return number;
}

static int start(void **state)
{
    int fd = memfd_create("berth-test", MFD_CLOEXEC | MFD_HUGETLB);
    struct stat st;

    (void)state;
    berth__host_register();
    if (fd >= 0 && fstat(fd, &st) == 0)
        page = (size_t)st.st_blksize;
    if (fd >= 0)
        close(fd);
    return 0;
}

static void need_pages(void)
{
    if (page == 0 || free_pages() < FREE_MIN) {
        print_message("fewer than %d huge pages are free (/proc/sys/vm/nr_hugepages)\n", FREE_MIN);
        skip();
    }
}

static int make(struct berth_tier_config config, berth_tier_id *ret_id)
{
    if (!config.path)
        config.path = "";
    config.fork_copy_max = UINT64_MAX;
    config.huge_pages = BERTH_HUGE_ALWAYS;
    why[0] = '\0';
    return berth__tier_ensure(&config, ret_id, why, sizeof(why));
}

#define MAKE(id, ...) make((struct berth_tier_config){__VA_ARGS__}, id)

static void describe(berth_tier_id id, char text[256])
{
    berth__tier(id)->ops->describe(berth__tier(id), text, 256);
}

static void without_reserved_pages_others_are_asked_for(void **state)
{
    berth_tier_id id;
    char text[256];
    char *p;

    (void)state;
    machine_begin();
    assert_int_equal(MAKE(&id, .name = "none", .kind = BERTH_KIND_DRAM), 0);
    machine_end();
    describe(id, text);
    assert_null(strstr(text, "reserved"));
    p = berth__arena_alloc(id, 1 << 20, 1, true);
    assert_non_null(p);
    berth__arena_free(id, p, berth__arena_held(p));
}

static void memory_is_in_reserved_pages(void **state)
{
    int64_t before;
    berth_tier_id id;
    char text[256];
    char *p;

    (void)state;
    need_pages();
    before = free_pages();
    assert_int_equal(MAKE(&id, .name = "huge", .kind = BERTH_KIND_DRAM, .capacity = 4 * page), 0);
    describe(id, text);
    assert_non_null(strstr(text, "reserved huge pages of"));
    p = berth__arena_alloc(id, page + page / 2, 1, true);
    assert_non_null(p);
    assert_true(before - free_pages() >= 2);
    for (size_t i = 0; i < page; i += 512)
        assert_int_equal(p[i], 0);
    memset(p, 1, page);
    berth__arena_free(id, p, berth__arena_held(p));
    p = berth__arena_alloc(id, page + page / 2, 1, true);
    for (size_t i = 0; i < page; i += 512)
        assert_int_equal(p[i], 0);
    berth__arena_free(id, p, berth__arena_held(p));
    assert_int_equal(free_pages(), before);
    assert_null(berth__arena_alloc(id, 5 * page, 1, false));
    assert_int_equal(free_pages(), before);
}

static void an_empty_pool_is_seen_at_commit(void **state)
{
    struct berth_tier *tier;
    int64_t before;
    berth_tier_id id;
    char *p;

    (void)state;
    need_pages();
    before = free_pages();
    assert_int_equal(MAKE(&id, .name = "empty", .kind = BERTH_KIND_DRAM), 0);
    tier = berth__tier(id);
    p = berth__window_carve(id, 4 * page, page);
    machine_fail(MACHINE_MMAP, 0, 1, ENOMEM, MAP_SHARED);
    errno = 4711;
    assert_int_equal(tier->ops->commit(tier, p, page), -ENOMEM);
    assert_int_equal(errno, 4711);
    machine_fail(MACHINE_MADVISE, 0, 1, EFAULT, MADV_POPULATE_WRITE);
    assert_int_equal(tier->ops->commit(tier, p, 2 * page), -ENOMEM);
    assert_int_equal(free_pages(), before);
    assert_int_equal(tier->ops->commit(tier, p, 2 * page), 0);
    memset(p, 1, 2 * page);
    /* What cannot be given back stays, and is clean when it is used again. */
    machine_fail(MACHINE_MADVISE, 0, 1, EINVAL, MADV_REMOVE);
    assert_int_equal(tier->ops->decommit(tier, p, 2 * page), 0);
    assert_int_equal(before - free_pages(), 1);
    assert_int_equal(tier->ops->commit(tier, p, 2 * page), 0);
    for (size_t i = 0; i < 2 * page; i += 512)
        assert_int_equal(p[i], 0);
    assert_int_equal(tier->ops->decommit(tier, p, 2 * page), 0);
    assert_int_equal(free_pages(), before);
    /* A mapping that cannot be taken away has lost its page, which another may have got. */
    assert_int_equal(tier->ops->commit(tier, p, page), 0);
    machine_fail(MACHINE_MMAP, 0, 1, ENOMEM, MAP_FIXED);
    assert_int_equal(tier->ops->decommit(tier, p, page), 0);
    assert_int_equal(machine_failures(MACHINE_MMAP), 1);
    machine_fail(MACHINE_MADVISE, 0, 1, EFAULT, MADV_POPULATE_WRITE);
    assert_int_equal(tier->ops->commit(tier, p, page), -ENOMEM);
    assert_int_equal(tier->ops->commit(tier, p, 2 * page), 0);
    memset(p, 1, 2 * page);
    assert_int_equal(tier->ops->decommit(tier, p, 2 * page), 0);
    assert_int_equal(free_pages(), before);
    machine_fail(MACHINE_MMAP, 0, 0, 0, 0);
}

static void a_numa_tier_can_be_of_them(void **state)
{
    berth_tier_id id;
    char text[256];
    char *p;

    (void)state;
    need_pages();
    assert_int_equal(MAKE(&id, .name = "huge numa", .kind = BERTH_KIND_NUMA, .nodes = "0"), 0);
    describe(id, text);
    assert_non_null(strstr(text, "of node 0, bound"));
    p = berth__arena_alloc(id, page, 1, false);
    assert_non_null(p);
    memset(p, 1, page);
    berth__arena_free(id, p, berth__arena_held(p));
}

static void so_can_a_directory_of_hugetlbfs(void **state)
{
    char directory[] = "/tmp/berth-huge-XXXXXX";
    berth_tier_id id;
    char text[256];
    char *p;

    (void)state;
    need_pages();
    assert_non_null(mkdtemp(directory));
    if (mount("hugetlbfs", directory, "hugetlbfs", 0, NULL) < 0) {
        rmdir(directory);
        print_message("no hugetlbfs can be mounted here: %s\n", strerror(errno));
        skip();
    }
    assert_int_equal(MAKE(&id, .name = "directory", .kind = BERTH_KIND_FILE, .path = directory), 0);
    umount2(directory, MNT_DETACH);
    rmdir(directory);
    describe(id, text);
    assert_non_null(strstr(text, directory));
    p = berth__arena_alloc(id, page, 1, false);
    assert_non_null(p);
    memset(p, 1, page);
    berth__arena_free(id, p, berth__arena_held(p));
}

static void a_child_has_ordinary_memory(void **state)
{
    int64_t before;
    berth_tier_id id;
    int status;
    pid_t pid;
    char *p;

    (void)state;
    need_pages();
    assert_int_equal(MAKE(&id, .name = "parent", .kind = BERTH_KIND_DRAM), 0);
    p = berth__arena_alloc(id, page, 1, false);
    assert_non_null(p);
    memset(p, 1, page);
    before = free_pages();
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        bool right = p[0] == 1 && p[page - 1] == 1;
        char *q = berth__arena_alloc(id, 2 * page, 1, true);

        memset(p, 2, page);
        right &= q && q[0] == 0;
        if (q)
            memset(q, 3, 2 * page);
        _exit(right && free_pages() == before ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    for (size_t i = 0; i < page; i += 512)
        assert_int_equal(p[i], 1);
    berth__arena_free(id, p, berth__arena_held(p));
}

static void limit_files(rlim_t size)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Else the kernel ends the program by SIGXFSZ. */
static void a_limit_of_files_is_kept(void **state)
{
    berth_tier_id id;
    char text[256];

    (void)state;
    need_pages();
    limit_files(page / 2);
    assert_int_equal(MAKE(&id, .name = "limited", .kind = BERTH_KIND_DRAM), 0);
    describe(id, text);
    assert_null(strstr(text, "reserved"));
    limit_files(page + page / 2);
    assert_int_equal(MAKE(&id, .name = "one_page", .kind = BERTH_KIND_DRAM), 0);
    describe(id, text);
    assert_non_null(strstr(text, "reserved huge pages of"));
    limit_files(RLIM_INFINITY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_reserved_pages_others_are_asked_for),
        cmocka_unit_test(memory_is_in_reserved_pages),
        cmocka_unit_test(an_empty_pool_is_seen_at_commit),
        cmocka_unit_test(a_numa_tier_can_be_of_them),
        cmocka_unit_test(so_can_a_directory_of_hugetlbfs),
        cmocka_unit_test(a_child_has_ordinary_memory),
        cmocka_unit_test(a_limit_of_files_is_kept),
    };

    return cmocka_run_group_tests(tests, start, NULL);
}
