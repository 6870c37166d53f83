/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors of the kernel in the persistence path. One call of a whole run (a store is made, blocks
 * are put, replaced and removed) fails, each in its turn, for one reason and another: the medium's
 * error, no space, no memory. A step that said it failed has changed all or nothing, one that said
 * it came to its end has changed all; later steps and the next start find just that; nothing is
 * left open.
 */
#include "persist_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

#define CAPACITY ((uint64_t)1 << 20)
#define NAMES 3
#define ABSENT 0

static struct {
    bool is_on;
    size_t calls;   /* so far */
    size_t fail_at; /* the first is 1; 0 = none */
    int error;
} faults;

static bool fails(void)
{
    if (!faults.is_on || ++faults.calls != faults.fail_at)
        return false;
    errno = faults.error;
    return true;
}

/* A function in front of the C library's. */
#define WRAP(result, failure, name, parameters, arguments)                                         \
    result __real_##name parameters;                                                               \
    result __wrap_##name parameters;                                                               \
    result __wrap_##name parameters                                                                \
    {                                                                                              \
        return fails() ? (failure) : __real_##name arguments;                                      \
    }

WRAP(int, -1, ftruncate64, (int fd, off_t size), (fd, size))
WRAP(int, -1, fallocate64, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size))
WRAP(int, -1, mprotect, (void *p, size_t size, int protection), (p, size, protection))
WRAP(int, -1, linkat, (int from_fd, const char *from, int to_fd, const char *to, int flags),
     (from_fd, from, to_fd, to, flags))
WRAP(ssize_t, -1, pread64, (int fd, void *to, size_t size, off_t at), (fd, to, size, at))
WRAP(void *, MAP_FAILED, mmap64,
     (void *p, size_t size, int protection, int flags, int fd, off_t at),
     (p, size, protection, flags, fd, at))

/* No power is cut here: what would go to the disk need not. */
#define WRAP_SYNC(name, parameters)                                                                \
    int __wrap_##name parameters;                                                                  \
    int __wrap_##name parameters                                                                   \
    {                                                                                              \
        return fails() ? -1 : 0;                                                                   \
    }

WRAP_SYNC(fsync, (int fd))
WRAP_SYNC(fdatasync, (int fd))
WRAP_SYNC(msync, (void *p, size_t size, int flags))

/* What a name may stand for: one seed, or one of two where a step has failed; ABSENT for none. */
struct known {
    uint64_t seed[2];
};

static struct known known[NAMES];
static const char *const names[NAMES] = {"a", "b", "c"};

static uint64_t size_of(uint64_t seed)
{
    return 3000 * seed + 17;
}

static void learn(int name, int r, uint64_t seed)
{
    if (r == 0)
        known[name] = (struct known){{seed, seed}};
    else if (known[name].seed[0] == known[name].seed[1])
        known[name].seed[1] = seed;
}

/* Whether the store has the block as it may be, which from then on is known. */
static bool expect(struct berth_persist_store *store, int name)
{
    for (int i = 0; i < 2; i++) {
        uint64_t seed = known[name].seed[i];
        struct berth_persist_block *block = NULL;
        int r = berth__persist_store_find(store, names[name], true, &block);
        bool same =
            seed == ABSENT ? r == -ENOENT : r == 0 && fixture_holds(block, size_of(seed), seed);

        if (r == 0)
            berth__persist_store_detach(store, block);
        if (same) {
            known[name] = (struct known){{seed, seed}};
            return true;
        }
    }
    return false;
}

static int put(struct berth_persist_store *store, int name, uint64_t seed)
{
    struct berth_persist_block *block = NULL;
    int r = berth__persist_store_create(store, names[name], size_of(seed), true, &block);

    if (r < 0)
        return r; /* nothing can have changed */
    for (uint64_t i = 0; i < block->size; i++)
        assert_int_equal(((const unsigned char *)block->p)[i], 0);
    fixture_fill(block, seed);
    r = berth__persist_store_commit(store, block);
    learn(name, r, seed);
    assert_true(fixture_holds(block, size_of(seed), seed));
    berth__persist_store_detach(store, block);
    return r;
}

static int take_away(struct berth_persist_store *store, int name)
{
    int r = berth__persist_store_remove(store, names[name]);

    if (r != -ENOENT)
        learn(name, r, ABSENT);
    return r;
}

static int open_store(struct berth_persist_store **ret)
{
    const struct berth_persist_options options = {.path = fixture_path,
                                                  .name = "weights",
                                                  .create = true,
                                                  .capacity = CAPACITY,
                                                  .media = berth__persist_media_msync()};

    return berth__persist_store_open(&options, ret, fixture_why, sizeof(fixture_why));
}

/* A run of a program: what fails is borne, and what comes after is tried nonetheless. */
static void run_once(uint64_t seed)
{
    struct berth_persist_store *store = NULL;

    if (open_store(&store) < 0)
        return;
    put(store, 0, seed);
    put(store, 1, seed + 1);
    put(store, 0, seed + 2);
    take_away(store, 1);
    put(store, 2, seed + 3);
    take_away(store, 2);
    put(store, 1, seed + 4);
    berth__persist_store_close(store);
}

static size_t count_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    size_t count = 0;

    assert_non_null(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

/* With the call of this number failing; how many there were. */
static size_t try_fault(size_t fail_at, int error)
{
    size_t before = count_descriptors();
    struct berth_persist_store *store = NULL;

    memset(known, 0, sizeof(known));
    faults.fail_at = fail_at;
    faults.error = error;
    faults.calls = 0;
    faults.is_on = true;
    run_once(1);
    run_once(6);
    faults.is_on = false;
    assert_int_equal(count_descriptors(), before);
    if (open_store(&store) < 0)
        fail_msg("call %zu, error %d: %s", fail_at, error, fixture_why);
    for (int i = 0; i < NAMES; i++)
        if (!expect(store, i))
            fail_msg("call %zu, error %d: block %s is neither as it was nor as it was to be",
                     fail_at, error, names[i]);
    berth__persist_store_close(store);
    run_once(11);
    assert_int_equal(known[0].seed[0], 13);
    assert_int_equal(known[1].seed[1], 15);
    unlink(fixture_path);
    return faults.calls;
}

static void an_error_leaves_all_or_nothing(void **state)
{
    static const int errors[] = {EIO, ENOSPC, EINTR};
    size_t calls = try_fault(0, 0);

    (void)state;
    assert_true(calls > 60);
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        for (size_t call = 1; call <= calls; call++)
            (void)try_fault(call, errors[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(an_error_leaves_all_or_nothing, fixture_clear),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_finish);
}
