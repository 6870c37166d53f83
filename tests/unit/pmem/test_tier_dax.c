/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a dax tier uses its device and not a byte beyond it, hands out zeros, keeps others out, and
 * says what it cannot do when memory is asked for.
 * Method: a file of bytes that are no zeros stands in for the device, and a directory for what /sys
 * tells of it; both behave as the real ones where it matters: mapped beyond their end they send
 * SIGBUS, and they zero nothing. The real one is tests/vm's matter.
 */
#include "pmem/tier_dax.h"

#include "pmem/arena.h"
#include "pmem/file_lock.h"
#include "pmem/host.h"
#include "pmem/persist_format.h"
#include "pmem/tier_file.h"
#include "pmem/window.h"
#include "tests/unit/pmem/machine_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB ((size_t)1 << 20)
#define CHUNK (2 * MIB)
#define PAGE BERTH_OS_PAGE
#define STALE 0xa5

static char why[256];
static char device[] = "/tmp/berth-device-XXXXXX";

static int start(void **state)
{
    (void)state;
    berth__host_register();
    return 0;
}

/* A device of so many bytes; the file behind it is larger. */
static void plug(size_t size, size_t alignment)
{
    char stale[4096];
    int fd;

    machine_begin();
    machine_link("dev/char/0:0/subsystem", "../../../bus/dax");
    machine_file("dev/char/0:0/size", "%zu\n", size);
    machine_file("dev/char/0:0/align", "%zu\n", alignment);
    machine_file("dev/char/0:0/target_node", "3\n");
    strcpy(device + sizeof(device) - 7, "XXXXXX");
    fd = mkstemp(device);
    assert_true(fd >= 0);
    memset(stale, STALE, sizeof(stale));
    for (size_t at = 0; at < size + CHUNK; at += sizeof(stale))
        assert_int_equal(write(fd, stale, sizeof(stale)), sizeof(stale));
    close(fd);
}

static int unplug(void **state)
{
    (void)state;
    unlink(device);
    machine_end();
    return 0;
}

static int make(struct berth_tier_config config, berth_tier_id *ret_id)
{
    config.kind = BERTH_KIND_DAX;
    config.path = device;
    config.fork_copy_max = UINT64_MAX;
    why[0] = '\0';
    return berth__tier_ensure(&config, ret_id, why, sizeof(why));
}

#define MAKE(id, ...) make((struct berth_tier_config){__VA_ARGS__}, id)

/* Addresses of the tier, aligned to a chunk. */
static char *carve(berth_tier_id id, size_t size)
{
    struct berth_tier *tier = berth__tier(id);
    char *p = berth__window_carve(id, size, CHUNK);

    assert_non_null(p);
    assert_int_equal(tier->ops->map(tier, p, size), 0);
    return p;
}

static int commit(berth_tier_id id, char *p, size_t size)
{
    return berth__tier(id)->ops->commit(berth__tier(id), p, size);
}

static int decommit(berth_tier_id id, char *p, size_t size)
{
    return berth__tier(id)->ops->decommit(berth__tier(id), p, size);
}

static void assert_all(const char *p, int value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)p[i] != (unsigned char)value)
            fail_msg("byte %zu of %zu is %d and not %d", i, size, (unsigned char)p[i], value);
}

/* Whether something is mapped at the page, and can be read. */
static bool is_readable(const char *p)
{
    int pipes[2];
    bool readable;

    assert_int_equal(pipe(pipes), 0);
    readable = write(pipes[1], p, 1) == 1;
    close(pipes[0]);
    close(pipes[1]);
    return readable;
}

/* Whether an address is the window's, mapped or not: nothing else can come to lie there. */
static bool is_reserved(char *p)
{
    void *q = mmap(p, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

    if (q == p)
        munmap(p, PAGE);
    return q == MAP_FAILED && errno == EEXIST;
}

static void assert_described(berth_tier_id id, const char *part)
{
    char text[256];

    berth__tier(id)->ops->describe(berth__tier(id), text, sizeof(text));
    if (!strstr(text, part))
        fail_msg("described as \"%s\"; expected \"%s\"", text, part);
}

static void what_is_no_device_is_refused(void **state)
{
    berth_tier_id id = BERTH_TIER_NONE;

    (void)state;
    plug(4 * MIB, CHUNK);
    machine_link("dev/char/0:0/subsystem", "../../../class/mem");
    assert_int_equal(MAKE(&id, .name = "wrong"), -ENODEV);
    assert_non_null(strstr(why, "no device-dax device"));
    machine_link("dev/char/0:0/subsystem", "../../../bus/dax");
    machine_file("dev/char/0:0/size", "0\n");
    assert_int_equal(MAKE(&id, .name = "wrong"), -ENODEV);
    assert_non_null(strstr(why, "no size"));
    machine_file("dev/char/0:0/size", "%zu\n", CHUNK - PAGE);
    assert_int_equal(MAKE(&id, .name = "wrong"), -ENOSPC);
    machine_file("dev/char/0:0/size", "%zu\n", 4 * MIB);
    machine_file("dev/char/0:0/align", "12288\n");
    assert_int_equal(MAKE(&id, .name = "wrong"), -ENODEV);
    assert_non_null(strstr(why, "12288, which is no power of two"));
    machine_fail(MACHINE_OPEN, 0, 1, EACCES, 0);
    assert_int_equal(MAKE(&id, .name = "wrong"), -EACCES);
    assert_non_null(strstr(why, "Permission denied"));
    unlink(device);
    assert_int_equal(MAKE(&id, .name = "wrong"), -ENOENT);
    assert_int_equal(id, BERTH_TIER_NONE);
}

static void what_the_kernel_tells_is_told(void **state)
{
    berth_tier_id id;

    (void)state;
    plug(6 * MIB, CHUNK);
    assert_int_equal(MAKE(&id, .name = "told", .fork = BERTH_FORK_SHARE), 0);
    assert_described(id, "6.00 MiB, aligned to 2.00 MiB, node 3");
    assert_described(id, "not in use yet; fork = share");
    carve(id, CHUNK);
    assert_described(id, "6.00 MiB free; fork");
}

static void a_device_holds_a_store_or_blocks(void **state)
{
    const uint64_t magic = BERTH_PERSIST_MAGIC;
    berth_tier_id id = BERTH_TIER_NONE;
    int fd;

    (void)state;
    plug(4 * MIB, CHUNK);
    fd = open(device, O_WRONLY | O_CLOEXEC);
    assert_int_equal(write(fd, &magic, sizeof(magic)), sizeof(magic));
    close(fd);
    assert_int_equal(MAKE(&id, .name = "taken"), -EEXIST);
    assert_non_null(strstr(why, "holds a persistent store"));
    assert_int_equal(MAKE(&id, .name = "taken", .segment = "model"), 0);
    assert_described(id, "persistent blocks of model alone");
    assert_null(berth__tier(id)->ops->commit);
}

static void memory_reads_as_zero_each_time(void **state)
{
    berth_tier_id id;
    char *p;

    (void)state;
    plug(8 * MIB, CHUNK);
    assert_int_equal(MAKE(&id, .name = "zero"), 0);
    p = carve(id, 8 * MIB);
    assert_false(is_readable(p));
    assert_int_equal(commit(id, p + CHUNK - PAGE, 2 * PAGE), 0);
    assert_all(p + CHUNK - PAGE, 0, 2 * PAGE);
    memset(p + CHUNK - PAGE, 1, 2 * PAGE);
    /* The rest of the two chunks comes later, and what lies between stays. */
    assert_int_equal(commit(id, p, CHUNK - PAGE), 0);
    assert_all(p, 0, CHUNK - PAGE);
    assert_all(p + CHUNK - PAGE, 1, 2 * PAGE);
    memset(p, 2, CHUNK - PAGE);
    assert_int_equal(decommit(id, p + PAGE, PAGE), 0);
    assert_int_equal(commit(id, p + PAGE, PAGE), 0);
    assert_all(p + PAGE, 0, PAGE);
    assert_all(p + 2 * PAGE, 2, PAGE);
}

static void nothing_beyond_the_end_is_touched(void **state)
{
    char byte;
    berth_tier_id id;
    char *p;
    int fd;

    (void)state;
    plug(5 * MIB, CHUNK);
    assert_int_equal(MAKE(&id, .name = "end"), 0);
    p = carve(id, 16 * MIB);
    errno = 4711;
    assert_int_equal(commit(id, p, 6 * MIB), -ENOSPC);
    assert_int_equal(errno, 4711);
    assert_false(is_readable(p));
    assert_int_equal(commit(id, p, 4 * MIB), 0);
    memset(p, 7, 4 * MIB);
    assert_int_equal(commit(id, p + 8 * MIB, PAGE), -ENOSPC);
    fd = open(device, O_RDONLY | O_CLOEXEC);
    for (off_t at = 4 * MIB; at < (off_t)(7 * MIB); at += PAGE) {
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        assert_int_equal((unsigned char)byte, STALE);
    }
    close(fd);
    /* What is given back serves any other address. */
    assert_int_equal(decommit(id, p, CHUNK), 0);
    assert_int_equal(commit(id, p + 8 * MIB, CHUNK), 0);
    assert_all(p + 8 * MIB, 0, CHUNK);
    assert_all(p + CHUNK, 7, CHUNK);
    assert_false(is_readable(p));
}

/* Of 1 GiB, as some devices are, and of a size that is no multiple of it. What the kernel would map
 * at once is mapped as it is touched here, for the sake of the machine that tests. */
static void large_alignments_keep_to_the_device(void **state)
{
    const size_t gib = (size_t)1 << 30;
    berth_tier_id id;
    char *p;

    (void)state;
    plug(4 * MIB, CHUNK);
    machine_file("dev/char/0:0/size", "%zu\n", 3 * gib + 513 * MIB);
    machine_file("dev/char/0:0/align", "%zu\n", gib);
    machine_file("dev/char/0:0/target_node", "-1\n");
    assert_int_equal(truncate(device, (off_t)(3 * gib)), 0);
    assert_int_equal(MAKE(&id, .name = "vast"), 0);
    assert_described(id, "3.50 GiB, aligned to 1.00 GiB, mapped shared in pieces of 1.00 GiB");
    machine_fail(MACHINE_MADVISE, 0, 1000, EINVAL, MADV_POPULATE_WRITE);
    p = berth__window_carve(id, 5 * gib, gib);
    assert_non_null(p);
    assert_int_equal(berth__tier(id)->ops->map(berth__tier(id), p, 5 * gib), 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(commit(id, p + i * gib + 7 * PAGE, PAGE), 0);
        memset(p + i * gib + 7 * PAGE, 1, PAGE);
        assert_all(p + (i + 1) * gib - PAGE, 0, PAGE);
    }
    assert_int_equal(commit(id, p + 3 * gib, PAGE), -ENOSPC);
    assert_int_equal(commit(id, p + gib, PAGE), 0);
    assert_int_equal(decommit(id, p + gib, PAGE), 0);
    assert_int_equal(decommit(id, p + gib + 7 * PAGE, PAGE), 0);
    /* One piece is free again, and serves where none was. */
    assert_int_equal(commit(id, p + 3 * gib, PAGE), 0);
    assert_all(p + 3 * gib, 0, PAGE);
    assert_int_equal(commit(id, p + gib, PAGE), -ENOSPC);
}

static void an_alignment_that_no_window_has_is_refused(void **state)
{
    berth_tier_id id;

    (void)state;
    plug(4 * MIB, CHUNK);
    machine_file("dev/char/0:0/size", "%zu\n", ((size_t)1 << 46) + 1);
    machine_file("dev/char/0:0/align", "%zu\n", (size_t)1 << 46);
    assert_true(MAKE(&id, .name = "beyond") < 0);
}

static void small_alignments_are_mapped_in_large_pieces(void **state)
{
    berth_tier_id id;

    (void)state;
    plug(4 * MIB, 4096);
    assert_int_equal(MAKE(&id, .name = "fine"), 0);
    assert_described(id, "aligned to 4.00 KiB, node 3, mapped shared in pieces of 2.00 MiB");
    assert_int_equal(commit(id, carve(id, CHUNK), PAGE), 0);
}

/* Who holds a lock on the device from another process until it is told to end. */
static pid_t hold(int *ret_end, bool as_store)
{
    int ready[2], end[2];
    pid_t pid;
    char byte = 0;

    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(end), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct flock range = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1};
        int fd = open(device, O_RDWR | O_CLOEXEC);

        close(end[1]);
        if (as_store ? fcntl(fd, F_OFD_SETLK, &range) < 0 : flock(fd, LOCK_EX) < 0)
            _exit(1);
        if (write(ready[1], &byte, 1) == 1 && read(end[0], &byte, 1) >= 0)
            _exit(0);
        _exit(1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    close(end[0]);
    *ret_end = end[1];
    return pid;
}

static void release(pid_t pid, int end)
{
    int status;

    close(end);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void a_device_has_one_user_and_it_is_named(void **state)
{
    char expected[64];
    struct berth_tier *tier;
    berth_tier_id id;
    int end, fd;
    pid_t pid;

    (void)state;
    plug(4 * MIB, CHUNK);
    pid = hold(&end, false);
    fd = open(device, O_RDWR | O_CLOEXEC);
    assert_int_equal(berth__file_lock(fd, why, sizeof(why)), -EBUSY);
    snprintf(expected, sizeof(expected), "process %d uses it", pid);
    assert_string_equal(why, expected);
    /* The tier can be made: nobody knows yet whether a block will lie in it. */
    assert_int_equal(MAKE(&id, .name = "late"), 0);
    tier = berth__tier(id);
    assert_int_equal(tier->ops->map(tier, (void *)berth__window_base(id), PAGE), -EBUSY);
    assert_described(id, "not to be had");
    release(pid, end);
    pid = hold(&end, true);
    assert_int_equal(berth__file_lock(fd, why, sizeof(why)), -EBUSY);
    assert_non_null(strstr(why, "persistent store"));
    release(pid, end);
    assert_int_equal(berth__file_lock(fd, why, sizeof(why)), 0);
    assert_int_equal(MAKE(&id, .name = "second"), 0);
    tier = berth__tier(id);
    assert_int_equal(tier->ops->map(tier, (void *)berth__window_base(id), PAGE), -EBUSY);
    close(fd);
    /* A lock that cannot be had for another reason. */
    assert_int_equal(MAKE(&id, .name = "third"), 0);
    tier = berth__tier(id);
    machine_fail(MACHINE_FLOCK, 0, 1, ENOLCK, 0);
    assert_int_equal(tier->ops->map(tier, (void *)berth__window_base(id), PAGE), -ENOLCK);
}

static void closing_descriptors_unlocks_nothing(void **state)
{
    berth_tier_id id;
    char *p;
    int fd;

    (void)state;
    plug(4 * MIB, CHUNK);
    assert_int_equal(MAKE(&id, .name = "closed"), 0);
    p = carve(id, 4 * MIB);
    assert_int_equal(commit(id, p, PAGE), 0);
    memset(p, 9, PAGE);
    close(berth__tier_file(id)->fd);
    assert_int_equal(commit(id, p + CHUNK, PAGE), -EBADF);
    assert_int_equal(commit(id, p + PAGE, PAGE), 0);
    assert_all(p, 9, PAGE);
    assert_int_equal(decommit(id, p, 2 * PAGE), 0);
    fd = open(device, O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), -1);
    close(fd);
}

static void calls_that_fail_are_seen_at_commit(void **state)
{
    berth_tier_id id;
    char *p;

    (void)state;
    plug(8 * MIB, CHUNK);
    assert_int_equal(MAKE(&id, .name = "failing"), 0);
    p = carve(id, 8 * MIB);
    machine_fail(MACHINE_MMAP, 0, 1, ENOMEM, MAP_SHARED);
    assert_int_equal(commit(id, p, 6 * MIB), -ENOMEM);
    assert_true(is_reserved(p) && is_reserved(p + 4 * MIB));
    machine_fail(MACHINE_MADVISE, 0, 1, EFAULT, MADV_POPULATE_WRITE);
    assert_int_equal(commit(id, p, 6 * MIB), -EFAULT);
    assert_true(is_reserved(p) && !is_readable(p));
    /* Before Linux 5.14. */
    machine_fail(MACHINE_MADVISE, 0, 1, EINVAL, MADV_POPULATE_WRITE);
    assert_int_equal(commit(id, p, 6 * MIB), 0);
    memset(p, 3, 6 * MIB);
    /* A chunk that cannot be taken away stays, and is clean when it is used again. */
    machine_fail(MACHINE_MMAP, 1, 1, ENOMEM, MAP_FIXED);
    assert_int_equal(decommit(id, p, 6 * MIB), 0);
    assert_int_equal(machine_failures(MACHINE_MMAP), 1);
    assert_int_equal(commit(id, p, 6 * MIB), 0);
    assert_all(p, 0, 6 * MIB);
    assert_int_equal(commit(id, p + 6 * MIB, 2 * MIB), 0);
}

static void without_huge_pages_no_block_is_handed_out(void **state)
{
    berth_tier_id id;
    char *p;

    (void)state;
    plug(4 * MIB, CHUNK);
    assert_int_equal(MAKE(&id, .name = "thp"), 0);
    p = carve(id, 4 * MIB);
    if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) < 0)
        skip();
    assert_int_equal(commit(id, p, PAGE), -EPERM);
    prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
    assert_int_equal(commit(id, p, PAGE), 0);
}

static void pages_that_come_and_go_keep_what_is_theirs(void **state)
{
    enum { CHUNKS = 12, PIECE = 64, PIECES = CHUNKS * (int)(CHUNK / PAGE) / PIECE };
    static unsigned char live[PIECES];
    unsigned random = 12345, refused = 0;
    berth_tier_id id;
    char *p;

    (void)state;
    plug(4 * CHUNK, CHUNK);
    assert_int_equal(MAKE(&id, .name = "churn"), 0);
    p = carve(id, CHUNKS * CHUNK);
    for (int round = 1; round < 4000; round++) {
        unsigned i = (random = random * 1103515245 + 12345) / 65536 % PIECES;
        char *piece = p + (size_t)i * PIECE * PAGE;

        if (live[i]) {
            assert_all(piece, live[i], PIECE * PAGE);
            assert_int_equal(decommit(id, piece, PIECE * PAGE), 0);
            live[i] = 0;
        } else if (commit(id, piece, PIECE * PAGE) == 0) {
            assert_all(piece, 0, PIECE * PAGE);
            live[i] = (unsigned char)(1 + round % 200);
            memset(piece, live[i], PIECE * PAGE);
        } else {
            refused++;
        }
    }
    assert_true(refused > 0);
    for (int i = 0; i < PIECES; i++)
        if (live[i])
            assert_int_equal(decommit(id, p + (size_t)i * PIECE * PAGE, PIECE * PAGE), 0);
    assert_described(id, "8.00 MiB free");
}

static void a_child_has_a_copy_in_memory(void **state)
{
    const size_t size = 3 * MIB;
    berth_tier_id id;
    char *block, *other;
    int status;
    pid_t pid;

    (void)state;
    plug(16 * MIB, CHUNK);
    assert_int_equal(MAKE(&id, .name = "forked", .decay_ms = 0), 0);
    block = berth__arena_alloc(id, size, 1, false);
    assert_non_null(block);
    memset(block, 1, size);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        bool right = true;

        for (size_t i = 0; i < size; i++)
            right &= block[i] == 1;
        memset(block, 2, size);
        other = berth__arena_alloc(id, size, 1, true);
        right &= other != NULL && other[size - 1] == 0;
        if (other)
            memset(other, 3, size);
        _exit(right ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_all(block, 1, size);
    other = berth__arena_alloc(id, size, 1, true);
    assert_non_null(other);
    assert_all(other, 0, size);
    berth__arena_free(id, other, berth__arena_held(other));
    berth__arena_free(id, block, berth__arena_held(block));
}

static _Atomic bool stop;

/* Blocks of many sizes, each filled and verified, none given back before the next. */
static void *churn(void *argument)
{
    berth_tier_id id = *(berth_tier_id *)argument;
    char *last = NULL;
    size_t last_size = 0;
    bool right = true;

    for (unsigned round = 0; !stop || round < 50; round++) {
        size_t size = 16384 + round * 7919 % (3 * MIB);
        char *p = berth__arena_alloc(id, size, 1, true);

        if (p) {
            for (size_t i = 0; i < size; i += 1024)
                right &= p[i] == 0;
            memset(p, 1 + (int)round % 100, size);
        }
        if (last) {
            for (size_t i = 0; i < last_size; i += 1024)
                right &= last[i] == last[0];
            berth__arena_free(id, last, berth__arena_held(last));
        }
        last = p;
        last_size = size;
    }
    if (last)
        berth__arena_free(id, last, berth__arena_held(last));
    return (void *)(uintptr_t)right;
}

static void forks_amid_churn_have_whole_copies(void **state)
{
    enum { THREADS = 3, FORKS = 12 };
    pthread_t threads[THREADS];
    berth_tier_id id;
    char *block;

    (void)state;
#ifdef __SANITIZE_THREAD__
    print_message("a fork copies what other threads are writing, as the kernel's own does\n");
    skip();
#endif
    plug(32 * MIB, CHUNK);
    assert_int_equal(MAKE(&id, .name = "busy", .decay_ms = 0), 0);
    block = berth__arena_alloc(id, 5 * MIB, 1, false);
    assert_non_null(block);
    memset(block, 1, 5 * MIB);
    stop = false;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, &id), 0);
    for (int i = 0; i < FORKS; i++) {
        pid_t pid = fork();
        int status;

        assert_true(pid >= 0);
        if (pid == 0) {
            bool right = true;

            for (size_t at = 0; at < 5 * MIB; at += 512)
                right &= block[at] == 1;
            memset(block, 2, 5 * MIB);
            _exit(right ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    stop = true;
    for (int i = 0; i < THREADS; i++) {
        void *right;

        assert_int_equal(pthread_join(threads[i], &right), 0);
        assert_non_null(right);
    }
    assert_all(block, 1, 5 * MIB);
    berth__arena_free(id, block, berth__arena_held(block));
}

static void a_child_that_shares_takes_nothing_new(void **state)
{
    berth_tier_id id;
    int status;
    pid_t pid;
    char *p;

    (void)state;
    plug(8 * MIB, CHUNK);
    assert_int_equal(MAKE(&id, .name = "shared", .fork = BERTH_FORK_SHARE), 0);
    p = carve(id, 8 * MIB);
    assert_int_equal(commit(id, p, PAGE), 0);
    memset(p, 4, PAGE);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(p[0] == 4 && commit(id, p + PAGE, PAGE) == -EPERM &&
                      commit(id, p + CHUNK, PAGE) == -EPERM && decommit(id, p, PAGE) == -EPERM
                  ? 0
                  : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_all(p, 4, PAGE);
    assert_int_equal(commit(id, p + PAGE, PAGE), 0);
}

#define TEST(name) cmocka_unit_test_teardown(name, unplug)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_no_device_is_refused),
        TEST(what_the_kernel_tells_is_told),
        TEST(a_device_holds_a_store_or_blocks),
        TEST(memory_reads_as_zero_each_time),
        TEST(nothing_beyond_the_end_is_touched),
        TEST(large_alignments_keep_to_the_device),
        TEST(an_alignment_that_no_window_has_is_refused),
        TEST(small_alignments_are_mapped_in_large_pieces),
        TEST(a_device_has_one_user_and_it_is_named),
        TEST(closing_descriptors_unlocks_nothing),
        TEST(calls_that_fail_are_seen_at_commit),
        TEST(without_huge_pages_no_block_is_handed_out),
        TEST(pages_that_come_and_go_keep_what_is_theirs),
        TEST(a_child_has_a_copy_in_memory),
        TEST(forks_amid_churn_have_whole_copies),
        TEST(a_child_that_shares_takes_nothing_new),
    };

    return cmocka_run_group_tests(tests, start, NULL);
}
