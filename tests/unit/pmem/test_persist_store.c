/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store in the small: what is committed is found again, what is not is gone, and others who
 * have it open are respected.
 */
#include "persist_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)

static void a_committed_block_outlives_the_store(void **state)
{
    struct berth_persist_store *store = fixture_open(true, 0);

    (void)state;
    fixture_put(store, "a", 3 * MIB + 5, 1);
    fixture_put(store, "b/with a space", 1, 2);
    fixture_put(store, "empty", 0, 3);
    berth__persist_store_close(store);
    store = fixture_open(false, 0);
    fixture_expect(store, "a", 3 * MIB + 5, 1);
    fixture_expect(store, "b/with a space", 1, 2);
    fixture_expect(store, "empty", 0, 3);
    fixture_expect_none(store, "c");
    berth__persist_store_close(store);
}

static void a_new_block_is_zero_also_where_another_was(void **state)
{
    static const unsigned char zeros[64 * KIB];
    struct berth_persist_store *store = fixture_open(true, 0);
    struct berth_persist_block *block = NULL;

    (void)state;
    fixture_put(store, "a", sizeof(zeros), 1);
    fixture_put(store, "b", sizeof(zeros), 2);
    assert_int_equal(berth__persist_store_remove(store, "a"), 0);
    assert_int_equal(berth__persist_store_create(store, "c", sizeof(zeros), false, &block), 0);
    assert_memory_equal(block->p, zeros, sizeof(zeros));
    assert_int_equal(block->extents[0].offset, 2 * MIB); /* where a was */
    berth__persist_store_close(store);
}

static void what_was_not_committed_is_gone(void **state)
{
    struct berth_persist_store *store = fixture_open(true, 0);
    struct berth_persist_block *block = NULL;
    struct stat before, after;

    (void)state;
    fixture_put(store, "a", MIB, 1);
    assert_int_equal(stat(fixture_path, &before), 0);
    assert_int_equal(berth__persist_store_create(store, "b", MIB, false, &block), 0);
    fixture_fill(block, 2);
    assert_int_equal(berth__persist_store_find(store, "b", false, &block), -EBUSY);
    assert_int_equal(berth__persist_store_create(store, "b", MIB, false, &block), -EBUSY);
    berth__persist_store_close(store);
    assert_int_equal(stat(fixture_path, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    store = fixture_open(false, 0);
    fixture_expect_none(store, "b");
    fixture_expect(store, "a", MIB, 1);
    berth__persist_store_close(store);
}

static void a_replacement_comes_with_its_commit(void **state)
{
    struct berth_persist_store *store = fixture_open(true, 0);
    struct berth_persist_block *block = NULL, *old = NULL, *same = NULL;

    (void)state;
    fixture_put(store, "a", MIB, 1);
    assert_int_equal(berth__persist_store_create(store, "a", MIB, false, &block), -EEXIST);
    assert_int_equal(berth__persist_store_find(store, "a", false, &old), 0);
    assert_int_equal(berth__persist_store_create(store, "a", 2 * MIB, true, &block), 0);
    fixture_fill(block, 2);
    assert_int_equal(berth__persist_store_find(store, "a", false, &same), 0);
    assert_ptr_equal(same, old);
    berth__persist_store_detach(store, same);
    assert_int_equal(berth__persist_store_commit(store, block), 0);
    assert_int_equal(berth__persist_store_commit(store, block), 0);
    assert_true(fixture_holds(old, MIB, 1)); /* until it is let go */
    assert_int_equal(berth__persist_store_find(store, "a", true, &same), 0);
    assert_ptr_equal(same, block);
    berth__persist_store_detach(store, same);
    berth__persist_store_detach(store, block);
    fixture_put(store, "c", 4 * MIB, 3);
    assert_true(fixture_holds(old, MIB, 1));
    berth__persist_store_detach(store, old);
    fixture_expect(store, "a", 2 * MIB, 2);
    berth__persist_store_close(store);
}

static void a_mapped_block_is_not_removed(void **state)
{
    struct berth_persist_store *store = fixture_open(true, 0);
    struct berth_persist_block *block = NULL;

    (void)state;
    fixture_put(store, "a", MIB, 1);
    assert_int_equal(berth__persist_store_find(store, "a", false, &block), 0);
    assert_int_equal(berth__persist_store_remove(store, "a"), -EBUSY);
    berth__persist_store_detach(store, block);
    assert_int_equal(berth__persist_store_remove(store, "a"), 0);
    assert_int_equal(berth__persist_store_remove(store, "a"), -ENOENT);
    fixture_expect_none(store, "a");
    berth__persist_store_close(store);
}

static void contents_are_verified_on_demand(void **state)
{
    struct berth_persist_store *store = fixture_open(true, 0);
    const struct berth_persist_directory *directory = NULL;
    struct berth_persist_block *block = NULL;
    int fd;

    (void)state;
    fixture_put(store, "a", 100 * KIB, 1);
    fixture_put(store, "b", 100 * KIB, 2);
    fd = open(fixture_path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "x", 1, (off_t)(2 * MIB + 99 * KIB)), 1);
    close(fd);
    assert_int_equal(berth__persist_store_find(store, "a", true, &block), -EBADMSG);
    assert_int_equal(berth__persist_store_find(store, "a", false, &block), 0);
    berth__persist_store_detach(store, block);
    assert_int_equal(berth__persist_store_list(store, &directory), 0);
    assert_int_equal(directory->count, 2);
    assert_int_equal(berth__persist_store_check(store, &directory->entries[0]), -EBADMSG);
    assert_int_equal(berth__persist_store_check(store, &directory->entries[1]), 0);
    fixture_put(store, "a", 100 * KIB, 3);
    fixture_expect(store, "a", 100 * KIB, 3);
    berth__persist_store_close(store);
}

static void a_capacity_is_kept_and_filled_to_the_last_granule(void **state)
{
    struct berth_persist_store *store = fixture_open(true, 64 * KIB);
    struct berth_persist_block *block = NULL;
    char name[8];

    (void)state;
    for (int i = 0; i < 16; i++) {
        snprintf(name, sizeof(name), "%d", i);
        fixture_put(store, name, 4 * KIB, (uint64_t)i);
    }
    assert_int_equal(berth__persist_store_create(store, "x", 1, false, &block), -ENOSPC);
    for (int i = 0; i < 16; i += 2) {
        snprintf(name, sizeof(name), "%d", i);
        assert_int_equal(berth__persist_store_remove(store, name), 0);
    }
    fixture_put(store, "pieces", 31 * KIB, 99);
    assert_int_equal(berth__persist_store_create(store, "x", 1, false, &block), -ENOSPC);
    berth__persist_store_close(store);
    store = fixture_open(false, 32 * KIB); /* less than there is */
    fixture_expect(store, "pieces", 31 * KIB, 99);
    fixture_expect(store, "15", 4 * KIB, 15);
    assert_int_equal(berth__persist_store_create(store, "x", 1, false, &block), -ENOSPC);
    berth__persist_store_close(store);
}

static void a_directory_that_is_full_says_so_and_keeps_all(void **state)
{
    struct berth_persist_store *store = fixture_open(true, 64 * KIB); /* 4 KiB of directory */
    struct berth_persist_block *block = NULL;
    char name[201];
    int r = 0, count = 0;

    (void)state;
    for (; r == 0; count++) {
        memset(name, 'a' + count, sizeof(name) - 1);
        name[sizeof(name) - 1] = '\0';
        r = berth__persist_store_create(store, name, 1, false, &block);
        assert_int_equal(r, 0);
        r = berth__persist_store_commit(store, block);
        if (r < 0)
            ((unsigned char *)block->p)[0] = 1; /* still writable */
        berth__persist_store_detach(store, block);
    }
    assert_int_equal(r, -ENOSPC);
    assert_int_equal(count, 15);
    berth__persist_store_close(store);
    store = fixture_open(false, 0);
    assert_int_equal(berth__persist_store_remove(store, name), -ENOENT);
    name[0] = '\0';
    memset(name, 'a', sizeof(name) - 1);
    assert_int_equal(berth__persist_store_remove(store, name), 0);
    berth__persist_store_close(store);
}

static void names_that_cannot_be_are_refused(void **state)
{
    struct berth_persist_store *store = fixture_open(true, 0);
    struct berth_persist_block *block = NULL;
    char name[BERTH_PERSIST_NAME_MAX + 2];

    (void)state;
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(berth__persist_store_create(store, "", 1, false, &block), -EINVAL);
    assert_int_equal(berth__persist_store_create(store, "a\nb", 1, false, &block), -EINVAL);
    assert_int_equal(berth__persist_store_create(store, name, 1, false, &block), -EINVAL);
    name[BERTH_PERSIST_NAME_MAX] = '\0';
    fixture_put(store, name, 1, 1);
    assert_int_equal(berth__persist_store_create(store, "huge", UINT64_MAX, false, &block),
                     -ENOSPC);
    berth__persist_store_close(store);
    store = fixture_open(false, 0);
    fixture_expect(store, name, 1, 1);
    berth__persist_store_close(store);
}

/* How often space was asked for: the linker puts this in the place of the C library's. */
static unsigned allocations;
static off_t interrupted_from; /* larger ones are, by a signal; 0: none is */

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t size);
int __real_fallocate64(int fd, int mode, off_t offset, off_t size);

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t size)
{
    allocations += mode == 0;
    if (mode == 0 && interrupted_from > 0 && size > interrupted_from) {
        errno = EINTR;
        return -1;
    }
    return __real_fallocate64(fd, mode, offset, size);
}

/* What was made durable ('f' a file, 'd' a folder), and named ('n'), in order. */
static char steps[16];

static void note(char step)
{
    size_t length = strlen(steps);

    if (length + 1 < sizeof(steps))
        steps[length] = step;
}

int __wrap_fsync(int fd);
int __real_fsync(int fd);
int __wrap_linkat(int from, const char *path, int to, const char *name, int flags);
int __real_linkat(int from, const char *path, int to, const char *name, int flags);

int __wrap_fsync(int fd)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    note(S_ISDIR(st.st_mode) ? 'd' : 'f');
    return __real_fsync(fd);
}

int __wrap_linkat(int from, const char *path, int to, const char *name, int flags)
{
    note('n');
    return __real_linkat(from, path, to, name, flags);
}

/* A power cut leaves no name without a store behind it. */
static void a_store_has_its_name_when_it_is_durable(void **state)
{
    (void)state;
    memset(steps, 0, sizeof(steps));
    berth__persist_store_close(fixture_open(true, 0));
    assert_string_equal(steps, "fnd");
}

/* Others would find the filesystem full until it is seen that the request is too large. */
static void what_is_larger_than_the_filesystem_takes_nothing_of_it(void **state)
{
    struct berth_persist_store *store = fixture_open(true, 0);
    struct berth_persist_block *block = NULL;

    (void)state;
    fixture_put(store, "a", MIB, 1);
    assert_true(allocations > 0);
    allocations = 0;
    assert_int_equal(berth__persist_store_create(store, "b", (uint64_t)1 << 60, false, &block),
                     -ENOSPC);
    assert_int_equal(allocations, 0);
    fixture_expect(store, "a", MIB, 1);
    berth__persist_store_close(store);
}

/* Some filesystems begin anew after each signal. */
static void space_is_had_in_a_program_with_a_fast_timer(void **state)
{
    struct berth_persist_store *store = fixture_open(true, 0);

    (void)state;
    interrupted_from = 256 << 10;
    alarm(60); /* rather than try for ever */
    fixture_put(store, "a", 3 * MIB, 1);
    alarm(0);
    interrupted_from = 0;
    fixture_expect(store, "a", 3 * MIB, 1);
    berth__persist_store_close(store);
}

#define COLD_SIZE ((size_t)4 * MIB)

/* How many pages of the block are in memory. */
static unsigned count_resident(const void *block)
{
    static unsigned char resident[COLD_SIZE / 4096];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned count = 0;

    assert_int_equal(mincore((void *)((uintptr_t)block & ~(page - 1)), COLD_SIZE / 2, resident), 0);
    for (size_t i = 0; i < COLD_SIZE / 2 / page; i++)
        count += resident[i] & 1;
    return count;
}

static void forget_pages(void)
{
    int fd = open(fixture_path, O_RDWR | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(__real_fsync(fd), 0);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

/* A page for each wait would be a small share of what a disk gives. */
static void a_block_on_a_disk_is_read_ahead(void **state)
{
    struct berth_persist_store *store = fixture_open(true, 0);
    struct berth_persist_block *block = NULL;
    unsigned before, after;

    (void)state;
    fixture_put(store, "a", COLD_SIZE, 1);
    berth__persist_store_close(store);
    forget_pages();
    store = fixture_open(false, 0);
    assert_int_equal(berth__persist_store_find(store, "a", false, &block), 0);
    before = count_resident(block->p);
    *(volatile char *)block->p;
    after = count_resident(block->p);
    berth__persist_store_detach(store, block);
    berth__persist_store_close(store);
    if (before > 0) {
        print_message("what is in memory already is not read from a disk\n");
        skip();
    }
    assert_true(after > 4);
}

static void a_full_filesystem_is_told_when_a_block_is_created(void **state)
{
    char path[80], directory[] = "/tmp/berth-persist-full-XXXXXX";
    struct berth_persist_options options = {.path = path, .name = "", .create = true};
    struct berth_persist_store *store = NULL;
    struct berth_persist_block *block = NULL;

    (void)state;
    assert_non_null(mkdtemp(directory));
    if (mount("tmpfs", directory, "tmpfs", 0, "size=4m") < 0) {
        rmdir(directory);
        skip();
    }
    snprintf(path, sizeof(path), "%s/w", directory);
    assert_int_equal(berth__persist_store_open(&options, &store, fixture_why, sizeof(fixture_why)),
                     0);
    fixture_put(store, "a", MIB, 1);
    assert_int_equal(berth__persist_store_create(store, "b", 3 * MIB, false, &block), -ENOSPC);
    fixture_put(store, "c", 512 * KIB, 2);
    fixture_expect(store, "a", MIB, 1);
    fixture_expect(store, "c", 512 * KIB, 2);
    berth__persist_store_close(store);
    umount2(directory, MNT_DETACH);
    rmdir(directory);
}

/* What another process does with the store meanwhile; its exit status is the answer. */
static int elsewhere(int (*act)(struct berth_persist_store *store))
{
    int status = 0;
    pid_t child = fork();

    if (child == 0)
        _exit(act(fixture_open(false, 0)));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int finds_a(struct berth_persist_store *store)
{
    struct berth_persist_block *block = NULL;

    return berth__persist_store_find(store, "a", true, &block) == 0 && fixture_holds(block, MIB, 1)
               ? 0
               : 1;
}

static int puts_b(struct berth_persist_store *store)
{
    struct berth_persist_block *block = NULL;
    int r = berth__persist_store_create(store, "b", MIB, false, &block);

    if (r < 0)
        return -r;
    fixture_fill(block, 2);
    return -berth__persist_store_commit(store, block);
}

static int replaces_a(struct berth_persist_store *store)
{
    struct berth_persist_block *block = NULL;
    int r = berth__persist_store_create(store, "a", MIB, true, &block);

    return r < 0 ? -r : -berth__persist_store_commit(store, block);
}

static int removes_a(struct berth_persist_store *store)
{
    return -berth__persist_store_remove(store, "a");
}

static void processes_share_what_is_there(void **state)
{
    struct berth_persist_store *store = fixture_open(true, 0);
    struct berth_persist_block *block = NULL, *mine = NULL;

    (void)state;
    fixture_put(store, "a", MIB, 1);
    assert_int_equal(berth__persist_store_find(store, "a", false, &block), 0);
    assert_int_equal(elsewhere(finds_a), 0);
    assert_int_equal(elsewhere(puts_b), 0);
    fixture_expect(store, "b", MIB, 2); /* seen without opening it again */
    assert_int_equal(elsewhere(removes_a), EBUSY);
    assert_int_equal(elsewhere(replaces_a), EBUSY);
    assert_true(fixture_holds(block, MIB, 1));
    assert_int_equal(berth__persist_store_create(store, "m", MIB, false, &mine), 0);
    assert_int_equal(elsewhere(puts_b), EBUSY); /* one writer at a time */
    assert_int_equal(elsewhere(finds_a), 0);
    berth__persist_store_close(store);
    store = fixture_open(false, 0);
    assert_int_equal(berth__persist_store_remove(store, "b"), 0);
    fixture_expect(store, "a", MIB, 1);
    berth__persist_store_close(store);
}

static void a_lock_outlives_the_programs_descriptors_and_not_the_process(void **state)
{
    struct berth_persist_store *mine = fixture_open(true, 0);
    int ready[2], status = 0;
    pid_t child;
    char byte;

    (void)state;
    fixture_put(mine, "a", MIB, 1);
    berth__persist_store_close(mine);
    assert_int_equal(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        struct berth_persist_store *store = fixture_open(false, 0);
        struct berth_persist_block *block = NULL;

        if (berth__persist_store_find(store, "a", false, &block) < 0)
            _exit(1);
        for (int fd = 3; fd < 2000; fd++)
            if (fd != ready[1])
                close(fd);
        if (write(ready[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(elsewhere(removes_a), EBUSY);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    assert_int_equal(elsewhere(removes_a), 0);
    close(ready[0]);
    close(ready[1]);
}

static void an_existing_store_is_opened_under_its_name_only(void **state)
{
    struct berth_persist_options options = {.path = fixture_path, .name = "others", .create = true};
    struct berth_persist_store *store = NULL;

    (void)state;
    assert_int_equal(fixture_try(fixture_path, false, false), -ENOENT);
    assert_non_null(strstr(fixture_why, "cannot be opened: No such file"));
    berth__persist_store_close(fixture_open(true, 0));
    assert_int_equal(berth__persist_store_open(&options, &store, fixture_why, sizeof(fixture_why)),
                     -EINVAL);
    assert_non_null(strstr(fixture_why, "it is the store 'weights'; expected 'others'"));
    assert_int_equal(fixture_try("/tmp", false, true), -EINVAL);
    assert_int_equal(fixture_try("/dev/null", false, true), -EINVAL);
    assert_non_null(strstr(fixture_why, "neither a regular file nor a dax device"));
    assert_int_equal(fixture_try("/nonexistent/x", true, false), -ENOENT);
    assert_non_null(strstr(fixture_why, "no file can be made in its directory"));
}

static void a_reader_changes_nothing(void **state)
{
    const struct berth_persist_options options = {
        .path = fixture_path, .name = "", .read_only = true};
    struct berth_persist_store *store = fixture_open(true, 0);
    struct berth_persist_block *block = NULL;

    (void)state;
    fixture_put(store, "a", MIB, 1);
    berth__persist_store_close(store);
    assert_int_equal(chmod(fixture_path, 0400), 0);
    assert_int_equal(berth__persist_store_open(&options, &store, fixture_why, sizeof(fixture_why)),
                     0);
    fixture_expect(store, "a", MIB, 1);
    assert_int_equal(berth__persist_store_create(store, "b", 1, false, &block), -EROFS);
    assert_int_equal(berth__persist_store_remove(store, "a"), -EROFS);
    berth__persist_store_close(store);
}

/* A medium whose flushes fail from the `failing`th on. */
static int flushes, failing;

static void plain_store(void *context, void *to, const void *from, size_t size)
{
    (void)context;
    memcpy(to, from, size);
}

static int failing_flush(void *context, const void *p, size_t size)
{
    (void)context;
    (void)p;
    (void)size;
    return ++flushes < failing ? 0 : -EIO;
}

static void no_drain(void *context)
{
    (void)context;
}

static const struct berth_persist_media failing_media = {
    .name = "failing", .store = plain_store, .flush = failing_flush, .drain = no_drain};

/* The first flush of a commit is the contents', the second the directory's, the third the record's:
 * after that one nobody knows what is there, and nothing is built on it. */
static void a_medium_that_fails_is_told(void **state)
{
    const struct berth_persist_options options = {
        .path = fixture_path, .name = "weights", .media = &failing_media};
    struct berth_persist_store *store = fixture_open(true, 0);

    (void)state;
    fixture_put(store, "a", MIB, 1);
    berth__persist_store_close(store);
    for (int nth = 1; nth <= 3; nth++) {
        struct berth_persist_block *block = NULL;

        assert_int_equal(
            berth__persist_store_open(&options, &store, fixture_why, sizeof(fixture_why)), 0);
        assert_int_equal(berth__persist_store_create(store, "b", MIB, false, &block), 0);
        fixture_fill(block, 2);
        flushes = 0;
        failing = nth;
        assert_int_equal(berth__persist_store_commit(store, block), -EIO);
        fixture_fill(block, 3); /* still writable */
        failing = 1000;
        assert_int_equal(berth__persist_store_commit(store, block), nth < 3 ? 0 : -EIO);
        berth__persist_store_close(store);
        store = fixture_open(false, 0);
        fixture_expect(store, "a", MIB, 1);
        /* What was written after the error is in no block that may have been committed. */
        if (nth < 3)
            fixture_expect(store, "b", MIB, 3);
        else if (berth__persist_store_find(store, "b", true, &block) != -ENOENT)
            assert_true(fixture_holds(block, MIB, 2));
        berth__persist_store_close(store);
        store = fixture_open(false, 0);
        berth__persist_store_remove(store, "b");
        berth__persist_store_close(store);
    }
}

static void a_block_is_read_only_once_committed(void **state)
{
    struct berth_persist_store *store = fixture_open(true, 0);
    struct berth_persist_block *block = NULL;
    int status = 0;
    pid_t child;

    (void)state;
    assert_int_equal(berth__persist_store_create(store, "a", 4096, false, &block), 0);
    assert_int_equal(berth__persist_store_commit(store, block), 0);
    child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        *(volatile char *)block->p = 1;
        _exit(0);
    }
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
    berth__persist_store_close(store);
}

#define TEST(name) cmocka_unit_test_teardown(name, fixture_clear)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_committed_block_outlives_the_store),
        TEST(a_new_block_is_zero_also_where_another_was),
        TEST(what_was_not_committed_is_gone),
        TEST(a_replacement_comes_with_its_commit),
        TEST(a_mapped_block_is_not_removed),
        TEST(contents_are_verified_on_demand),
        TEST(a_capacity_is_kept_and_filled_to_the_last_granule),
        TEST(a_directory_that_is_full_says_so_and_keeps_all),
        TEST(names_that_cannot_be_are_refused),
        TEST(what_is_larger_than_the_filesystem_takes_nothing_of_it),
        TEST(a_store_has_its_name_when_it_is_durable),
        TEST(space_is_had_in_a_program_with_a_fast_timer),
        TEST(a_block_on_a_disk_is_read_ahead),
        TEST(a_full_filesystem_is_told_when_a_block_is_created),
        TEST(processes_share_what_is_there),
        TEST(a_lock_outlives_the_programs_descriptors_and_not_the_process),
        TEST(an_existing_store_is_opened_under_its_name_only),
        TEST(a_reader_changes_nothing),
        TEST(a_medium_that_fails_is_told),
        TEST(a_block_is_read_only_once_committed),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_finish);
}
