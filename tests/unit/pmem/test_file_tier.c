/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file tier against its filesystem: what cannot be used is said in one sentence, a full
 * filesystem is seen when memory is asked for, and the program's own descriptors stay its own.
 */
#include "pmem/tier_file.h"

#include "alloc/stats.h"
#include "pmem/host.h"
#include "pmem/window.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static char small_tmpfs[] = "/tmp/berth-test-XXXXXX";
static bool mounted;

static int start(void **state)
{
    (void)state;
    berth__host_register();
    if (!mkdtemp(small_tmpfs))
        return -1;
    mounted = mount("tmpfs", small_tmpfs, "tmpfs", 0, "size=4m") == 0;
    return 0;
}

static int finish(void **state)
{
    (void)state;
    if (mounted)
        umount2(small_tmpfs, MNT_DETACH);
    rmdir(small_tmpfs);
    return 0;
}

static int make(const char *name, const char *path, uint64_t capacity, berth_tier_id *ret_id,
                char why[256])
{
    struct berth_tier_config config = {
        .name = name,
        .kind = BERTH_KIND_FILE,
        .path = path,
        .capacity = capacity,
        .fork_copy_max = UINT64_MAX,
        .decay_ms = 0,
    };

    why[0] = '\0';
    return berth__tier_ensure(&config, ret_id, why, 256);
}

static char *carve(berth_tier_id id, size_t size)
{
    struct berth_tier *tier = berth__tier(id);
    char *p = berth__window_carve(id, size, BERTH_OS_PAGE);

    assert_non_null(p);
    assert_int_equal(tier->ops->map(tier, p, size), 0);
    return p;
}

static blkcnt_t blocks_of(berth_tier_id id)
{
    struct stat st;

    assert_int_equal(fstat(berth__tier_file(id)->fd, &st), 0);
    return st.st_blocks;
}

/*
 * Mappings over others that failed. The kernel may have taken the others away by then, and a
 * thread's stack may come to lie there.
 */
static unsigned failed_over_others;

/* The linker hands the tier's calls to the second (meson.build). */
void *__real_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset);

void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    void *p = __real_mmap64(address, size, protection, flags, fd, offset);

    if (p == MAP_FAILED && (flags & MAP_FIXED))
        failed_over_others++;
    return p;
}

/*
 * A filesystem that counts what it is asked for. While `full.is_on`: it has `full.free` bytes free,
 * of which it keeps `full.kept` for itself, and the time stands still but for the test.
 */
static struct {
    bool is_on;
    size_t free, kept;
    unsigned asked;
    time_t second;
} full;

int __real_fallocate64(int fd, int mode, off_t offset, off_t size);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t size);
int __real_fstatfs64(int fd, struct statfs *fs);
int __wrap_fstatfs64(int fd, struct statfs *fs);
int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t size)
{
    if (!full.is_on || mode != 0)
        return __real_fallocate64(fd, mode, offset, size);
    full.asked++;
    if ((size_t)size + full.kept > full.free) {
        errno = ENOSPC;
        return -1;
    }
    full.free -= (size_t)size;
    return __real_fallocate64(fd, mode, offset, size);
}

int __wrap_fstatfs64(int fd, struct statfs *fs)
{
    int r = __real_fstatfs64(fd, fs);

    if (r < 0 || !full.is_on)
        return r;
    fs->f_bsize = BERTH_OS_PAGE;
    fs->f_blocks = 1 << 20;
    fs->f_bfree = full.free / BERTH_OS_PAGE;
    return 0;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    int r = __real_clock_gettime(clock, now);

    if (full.is_on && clock == CLOCK_MONOTONIC_COARSE)
        now->tv_sec = full.second;
    return r;
}

/* Commits, and says whether the filesystem was asked. */
static bool is_asked(const struct berth_tier *tier, char *p, size_t size, int expected)
{
    unsigned before = full.asked;

    errno = 4711;
    assert_int_equal(tier->ops->commit((struct berth_tier *)tier, p, size), expected);
    assert_int_equal(errno, 4711);
    return full.asked != before;
}

static void what_was_refused_is_not_asked_for_again_in_vain(void **state)
{
    struct berth_tier *tier;
    berth_tier_id id;
    char why[256];
    char *p;

    (void)state;
    assert_int_equal(make("refuses", "/tmp", 0, &id, why), 0);
    tier = berth__tier(id);
    p = carve(id, 16 * MIB);
    full.is_on = true;
    full.second = 1000;
    full.free = 3 * MIB;
    full.kept = 2 * MIB;
    assert_true(is_asked(tier, p, 2 * MIB, -ENOSPC));
    for (int i = 0; i < 100; i++) {
        assert_false(is_asked(tier, p, 2 * MIB, -ENOSPC));
        assert_false(is_asked(tier, p + MIB, 3 * MIB, -ENOSPC));
    }
    /* Less than was refused may be had, and is then no more there to be had. */
    assert_true(is_asked(tier, p, MIB, 0));
    assert_false(is_asked(tier, p + MIB, 2 * MIB, -ENOSPC));
    assert_true(is_asked(tier, p + MIB, MIB, -ENOSPC));
    assert_false(is_asked(tier, p + MIB, MIB, -ENOSPC));
    /* Whoever gives some back. */
    full.free += MIB;
    assert_true(is_asked(tier, p + MIB, MIB, 0));
    assert_true(is_asked(tier, p + 2 * MIB, BERTH_OS_PAGE, -ENOSPC));
    assert_false(is_asked(tier, p + 2 * MIB, BERTH_OS_PAGE, -ENOSPC));
    /* What the filesystem had free may be had a second later. */
    full.kept = 0;
    assert_false(is_asked(tier, p + 2 * MIB, MIB, -ENOSPC));
    full.second++;
    assert_true(is_asked(tier, p + 2 * MIB, MIB, 0));
    full.is_on = false;
    assert_int_equal(tier->ops->decommit(tier, p, 3 * MIB), 0);
    close(berth__tier_file(id)->fd);
}

static void what_cannot_be_used_is_said(void **state)
{
    berth_tier_id id = BERTH_TIER_NONE;
    char why[256];

    (void)state;
    assert_int_equal(make("missing", "/nonexistent/directory", 0, &id, why), -ENOENT);
    assert_non_null(strstr(why, "/nonexistent/directory"));
    assert_int_equal(make("file", "/etc/passwd", 0, &id, why), -ENOTDIR);
    assert_non_null(strstr(why, "/etc/passwd"));
    assert_true(make("proc", "/proc", 0, &id, why) < 0);
    assert_true(strlen(why) > 0);
    assert_int_equal(id, BERTH_TIER_NONE);
    assert_int_equal(berth__tier_find("missing"), BERTH_TIER_NONE);
}

static void memory_is_there_only_between_commit_and_decommit(void **state)
{
    struct berth_tier *tier;
    berth_tier_id id;
    char why[256];
    char *p;

    (void)state;
    assert_int_equal(make("comes", "/tmp", 0, &id, why), 0);
    tier = berth__tier(id);
    p = carve(id, 8 * MIB);
    assert_int_equal(blocks_of(id), 0);
    assert_int_equal(tier->ops->commit(tier, p + MIB, 2 * MIB), 0);
    assert_true(blocks_of(id) * 512 >= (blkcnt_t)(2 * MIB));
    memset(p + MIB, 0x77, 2 * MIB);
    assert_int_equal(tier->ops->decommit(tier, p + MIB, 2 * MIB), 0);
    assert_true(blocks_of(id) * 512 < (blkcnt_t)(64 * KIB));
    assert_int_equal(tier->ops->commit(tier, p + MIB, 2 * MIB), 0);
    for (size_t i = 0; i < 2 * MIB; i += 512)
        assert_int_equal(p[MIB + i], 0);
}

static void the_file_has_no_name_and_is_ours_alone(void **state)
{
    struct stat st;
    berth_tier_id id;
    char why[256];
    int fd;

    (void)state;
    assert_int_equal(make("private", "/tmp", 0, &id, why), 0);
    fd = berth__tier_file(id)->fd;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fd >= 100);
}

static void a_full_filesystem_is_seen_at_commit(void **state)
{
    struct berth_tier *tier;
    berth_tier_id id, other;
    char why[256];
    char *p, *q;

    (void)state;
    if (!mounted) {
        print_message("no tmpfs can be mounted here\n");
        skip();
    }
    assert_int_equal(make("tiny", small_tmpfs, 0, &id, why), 0);
    tier = berth__tier(id);
    p = carve(id, 16 * MIB);
    assert_int_equal(tier->ops->commit(tier, p, 3 * MIB), 0);
    errno = 4711;
    assert_int_equal(tier->ops->commit(tier, p + 3 * MIB, 3 * MIB), -ENOSPC);
    assert_int_equal(errno, 4711);
    memset(p, 1, 3 * MIB);
    /* What the failed attempt took is free again. */
    assert_int_equal(tier->ops->commit(tier, p + 8 * MIB, MIB), 0);
    memset(p + 8 * MIB, 2, MIB);
    /* A tier that finds no space is there for when there is some. */
    assert_int_equal(make("nothing left", small_tmpfs, 0, &other, why), 0);
    q = carve(other, MIB);
    assert_int_equal(berth__tier(other)->ops->commit(berth__tier(other), q, MIB), -ENOSPC);
    assert_int_equal(tier->ops->decommit(tier, p, 3 * MIB), 0);
    assert_int_equal(tier->ops->commit(tier, p + 3 * MIB, 2 * MIB), 0);
    assert_int_equal(berth__tier(other)->ops->commit(berth__tier(other), q, MIB), 0);
    memset(q, 3, MIB);
}

static void a_file_size_limit_is_no_signal(void **state)
{
    struct rlimit old, limit;
    struct berth_tier *tier;
    berth_tier_id id;
    char why[256];
    char *p;

    (void)state;
    assert_int_equal(make("limited", "/tmp", 0, &id, why), 0);
    tier = berth__tier(id);
    p = carve(id, 4 * MIB);
    getrlimit(RLIMIT_FSIZE, &old);
    limit = old;
    limit.rlim_cur = MIB;
    setrlimit(RLIMIT_FSIZE, &limit);
    assert_int_equal(tier->ops->commit(tier, p, MIB), 0);
    assert_int_equal(tier->ops->commit(tier, p + MIB, MIB), -EFBIG);
    setrlimit(RLIMIT_FSIZE, &old);
}

/* A shell's `exec 3>file` takes the lowest numbers, however few there are. */
static void the_lowest_descriptors_are_left_to_the_program(void **state)
{
    struct rlimit before, few;
    int fd;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    for (few.rlim_cur = 64; few.rlim_cur <= 512; few.rlim_cur *= 2) {
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        fd = berth__tier_file_open("/tmp");
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_true(fd >= (int)few.rlim_cur / 2);
        close(fd);
    }
}

/* How many files the program can open, of `max`. */
static int openable(int max)
{
    int fd[64];
    int count = 0;

    while (count < max && (fd[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        count++;
    for (int i = 0; i < count; i++)
        close(fd[i]);
    return count;
}

static void the_last_descriptors_are_left_to_the_program(void **state)
{
    struct rlimit before, few;
    berth_tier_id id;
    char why[256];
    int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);

    (void)state;
    assert_true(lowest >= 0);
    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    for (int left = 1; left <= 24; left++) {
        int before_it, r, count;

        few.rlim_cur = (rlim_t)lowest + (rlim_t)left;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        before_it = openable(left);
        r = make("last", "/tmp", 0, &id, why);
        count = openable(left);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_int_equal(r, before_it < 9 ? -EMFILE : 0);
        assert_true(r < 0 ? count == before_it : count >= 8);
        if (r == 0)
            return;
    }
}

/* The program closed our descriptor and its number is now a file of the program. */
static void the_program_may_take_our_descriptor(void **state)
{
    char path[] = "/tmp/berth-user-XXXXXX";
    struct berth_tier *tier;
    struct stat st;
    berth_tier_id id;
    char why[256];
    char *p;
    int user, fd;

    (void)state;
    assert_int_equal(make("taken", "/tmp", 0, &id, why), 0);
    tier = berth__tier(id);
    fd = berth__tier_file(id)->fd;
    p = carve(id, 4 * MIB);
    assert_int_equal(tier->ops->commit(tier, p, MIB), 0);
    memset(p, 5, MIB);
    user = mkstemp(path);
    assert_true(user >= 0);
    unlink(path);
    assert_int_equal(write(user, "mine", 4), 4);
    assert_int_equal(dup2(user, fd), fd);
    assert_int_equal(tier->ops->commit(tier, p + MIB, MIB), -EBADF);
    assert_int_equal(tier->ops->decommit(tier, p, MIB / 2), 0);
    assert_int_equal(p[MIB - 1], 5);
    assert_int_equal(fstat(user, &st), 0);
    assert_int_equal(st.st_size, 4);
    close(user);
    close(fd);
}

/* ext4 gives the number of a file that is gone to the next one. */
static void another_file_is_not_taken_for_ours(void **state)
{
    struct berth_tier_file *file;
    struct stat ours, other;
    berth_tier_id id;
    char why[256];
    int fd;

    (void)state;
    assert_int_equal(make("empty", "/var/tmp", 0, &id, why), 0);
    file = berth__tier_file(id);
    assert_int_equal(fstat(file->fd, &ours), 0);
    close(file->fd);
    fd = berth__tier_file_open("/var/tmp");
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &other), 0);
    assert_true(ours.st_dev != other.st_dev || ours.st_ino != other.st_ino);
    if (fd != file->fd) {
        assert_int_equal(dup2(fd, file->fd), file->fd);
        close(fd);
    }
    assert_false(berth__tier_file_has_descriptor(file));
    close(file->fd);
}

static void growth_leaves_no_hole_in_the_window(void **state)
{
    struct berth_tier *tier;
    berth_tier_id id;
    char why[256];

    (void)state;
    failed_over_others = 0;
    assert_int_equal(make("grows", "/var/tmp", 0, &id, why), 0);
    tier = berth__tier(id);
    for (int i = 0; i < 4; i++) {
        char *p = carve(id, MIB);

        assert_int_equal(tier->ops->commit(tier, p, MIB), 0);
        memset(p, i, MIB);
    }
    assert_int_equal(failed_over_others, 0);
    close(berth__tier_file(id)->fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_be_used_is_said),
        cmocka_unit_test(memory_is_there_only_between_commit_and_decommit),
        cmocka_unit_test(the_file_has_no_name_and_is_ours_alone),
        cmocka_unit_test(a_full_filesystem_is_seen_at_commit),
        cmocka_unit_test(what_was_refused_is_not_asked_for_again_in_vain),
        cmocka_unit_test(a_file_size_limit_is_no_signal),
        cmocka_unit_test(the_lowest_descriptors_are_left_to_the_program),
        cmocka_unit_test(the_last_descriptors_are_left_to_the_program),
        cmocka_unit_test(the_program_may_take_our_descriptor),
        cmocka_unit_test(another_file_is_not_taken_for_ours),
        cmocka_unit_test(growth_leaves_no_hole_in_the_window),
    };

    return cmocka_run_group_tests(tests, start, finish);
}
