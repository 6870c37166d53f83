/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a store on a dax device of any alignment and size keeps to the device, and processes that
 * find it blank at the same moment all come to use the one store that is made.
 * Method: a sparse file that says it is a character device, and a directory for what /sys tells of
 * it (machine_fixture.h). The file ends where the device does: what is touched beyond is a SIGBUS.
 */
#include "pmem/dax_device.h"
#include "pmem/persist_store.h"
#include "tests/unit/pmem/machine_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define PROCESSES 5
#define ROUNDS 10

static char device[] = "/tmp/berth-pdevice-XXXXXX";
static ino_t device_inode;
static char why[BERTH_PERSIST_WHY_MAX];

int __real_berth__fstat(int fd, struct stat *st);
int __wrap_berth__fstat(int fd, struct stat *st);

int __wrap_berth__fstat(int fd, struct stat *st)
{
    int r = __real_berth__fstat(fd, st);

    if (r == 0 && st->st_ino == device_inode)
        st->st_mode = S_IFCHR | 0600;
    return r;
}

static void plug(uint64_t size, uint64_t alignment, const char *node)
{
    struct stat st;
    int fd;

    machine_begin();
    machine_link("dev/char/0:0/subsystem", "../../../bus/dax");
    machine_file("dev/char/0:0/size", "%llu\n", (unsigned long long)size);
    machine_file("dev/char/0:0/align", "%llu\n", (unsigned long long)alignment);
    machine_file("dev/char/0:0/target_node", "%s\n", node);
    strcpy(device + sizeof(device) - 7, "XXXXXX");
    fd = mkstemp(device);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    assert_int_equal(stat(device, &st), 0);
    device_inode = st.st_ino;
    close(fd);
}

static int unplug(void **state)
{
    (void)state;
    if (device_inode) {
        unlink(device);
        machine_end();
    }
    device_inode = 0;
    return 0;
}

static int open_device(bool create, struct berth_persist_store **ret_store)
{
    const struct berth_persist_options options = {
        .path = device,
        .name = "weights",
        .create = create,
        .media = berth__persist_media_msync(),
    };

    return berth__persist_store_open(&options, ret_store, why, sizeof(why));
}

static int put(struct berth_persist_store *store, const char *name, uint64_t size)
{
    struct berth_persist_block *block = NULL;
    int r = berth__persist_store_create(store, name, size, false, &block);

    if (r < 0)
        return r;
    memset(block->p, name[0], size < 4096 ? size : 4096);
    ((char *)block->p)[size - 1] = name[0];
    r = berth__persist_store_commit(store, block);
    berth__persist_store_detach(store, block);
    return r;
}

static void expect_within(struct berth_persist_store *store, uint64_t size, uint64_t alignment)
{
    const struct berth_persist_directory *directory;

    assert_int_equal(berth__persist_store_list(store, &directory), 0);
    for (size_t i = 0; i < directory->count; i++)
        for (size_t k = 0; k < directory->entries[i].extent_count; k++) {
            const struct berth_persist_extent *extent = &directory->entries[i].extents[k];

            assert_int_equal(extent->offset % alignment, 0);
            assert_int_equal(extent->size % alignment, 0);
            assert_true(extent->offset + extent->size <= size);
        }
}

/* Small blocks until there is no room, in pieces of the alignment; all of it is found again. */
static void fill_and_find(uint64_t size, uint64_t alignment, const char *node)
{
    uint64_t whole = size & ~(alignment - 1);
    struct berth_persist_store *store = NULL;
    struct berth_persist_block *block = NULL;
    unsigned count = 0;
    char name[2] = "a";
    int r;

    plug(size, alignment, node);
    assert_int_equal(open_device(true, &store), 0);
    while ((r = put(store, name, 100 + count)) == 0 && count < 25) {
        name[0]++;
        count++;
    }
    assert_true(count > 0);
    if (whole / alignment < 25)
        assert_int_equal(r, -ENOSPC);
    expect_within(store, size, alignment);
    assert_true(berth__persist_store_create(store, "large", whole, false, &block) == -ENOSPC);
    berth__persist_store_close(store);
    assert_int_equal(open_device(false, &store), 0);
    for (name[0] = 'a'; name[0] < (char)('a' + count); name[0]++) {
        assert_int_equal(berth__persist_store_find(store, name, true, &block), 0);
        assert_int_equal(*(char *)block->p, name[0]);
        berth__persist_store_detach(store, block);
    }
    berth__persist_store_close(store);
    unplug(NULL);
}

static void every_alignment_keeps_to_the_device(void **state)
{
    (void)state;
    fill_and_find(16 * MIB, 4096, "-1");
    fill_and_find(16 * MIB + 4096, 2 * MIB, "1");
    fill_and_find(64 * MIB - 4096, 2 * MIB, "-1");
    fill_and_find(192 * MIB, 64 * MIB, "0");
    fill_and_find(160 * MIB + 4096, 64 * MIB, "-1");
}

static void a_device_without_room_for_a_block_is_refused(void **state)
{
    struct berth_persist_store *store = NULL;

    (void)state;
    plug(GIB, GIB, "-1");
    assert_int_equal(open_device(true, &store), -ENOSPC);
    assert_non_null(strstr(why, "the device is too small"));
    unplug(NULL);
    plug(2 * GIB - 4096, GIB, "-1");
    assert_int_equal(open_device(true, &store), -ENOSPC);
}

/* Opens when all are there, and puts a block in, as soon as it may. */
static int open_with_others(int begin, char number)
{
    struct berth_persist_store *store = NULL;
    char name[2] = {number, '\0'};
    char byte;
    int r;

    if (read(begin, &byte, 1) != 0)
        return EIO;
    r = open_device(true, &store);
    if (r < 0)
        return -r;
    do
        r = put(store, name, 1000);
    while (r == -EBUSY);
    berth__persist_store_close(store);
    return -r;
}

static void those_who_find_it_blank_share_the_store(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        const struct berth_persist_directory *directory;
        struct berth_persist_store *store = NULL;
        pid_t children[PROCESSES];
        int begin[2], status;

        plug(64 * MIB, 2 * MIB, "-1");
        assert_int_equal(pipe(begin), 0);
        for (int i = 0; i < PROCESSES; i++) {
            children[i] = fork();
            if (children[i] == 0) {
                close(begin[1]);
                _exit(open_with_others(begin[0], (char)('a' + i)));
            }
        }
        close(begin[0]);
        close(begin[1]);
        for (int i = 0; i < PROCESSES; i++) {
            assert_int_equal(waitpid(children[i], &status, 0), children[i]);
            assert_int_equal(status, 0);
        }
        assert_int_equal(open_device(false, &store), 0);
        assert_int_equal(berth__persist_store_list(store, &directory), 0);
        assert_int_equal(directory->count, PROCESSES);
        berth__persist_store_close(store);
        unplug(NULL);
    }
}

#define TEST(name) cmocka_unit_test_teardown(name, unplug)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_alignment_keeps_to_the_device),
        TEST(a_device_without_room_for_a_block_is_refused),
        TEST(those_who_find_it_blank_share_the_store),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
