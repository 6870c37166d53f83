/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what a store flushes reaches libpmem, or msync(), whole and before it is drained; and a
 * file that is written without the page cache is mapped and kept so that flushing caches is enough.
 * Method: the program's own pmem_flush() and pmem_drain() stand in for the library's, and the calls
 * of the C library are written down. An ordinary file says that it can be mapped with MAP_SYNC.
 */
#include "persist_fixture.h"

#include "alloc/private_library.h"
#include "pmem/persist_media.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define CALLS_MAX 4096

enum call_kind { FLUSH, DRAIN, MSYNC, MAP, FDATASYNC };

static struct call {
    enum call_kind kind;
    uintptr_t start;
    size_t size;
    int flags;
} calls[CALLS_MAX];
static size_t call_count;
/* 0, or the error that msync() fails with. */
static int msync_error;
static bool is_direct;

static void note(enum call_kind kind, const void *start, size_t size, int flags)
{
    assert_true(call_count < CALLS_MAX);
    calls[call_count++] = (struct call){kind, (uintptr_t)start, size, flags};
}

/* Found by dlsym() in the program, as in the library. */
void pmem_flush(const void *p, size_t size);
void pmem_drain(void);

void pmem_flush(const void *p, size_t size)
{
    note(FLUSH, p, size, 0);
}

void pmem_drain(void)
{
    note(DRAIN, NULL, 0, 0);
}

void *__wrap_berth__private_library_open(const char *name, int flags, char *why, size_t why_size);

void *__wrap_berth__private_library_open(const char *name, int flags, char *why, size_t why_size)
{
    (void)flags;
    (void)why;
    (void)why_size;
    assert_string_equal(name, "libpmem.so.1");
    return dlopen(NULL, RTLD_NOW);
}

int __wrap_msync(void *p, size_t size, int flags);

int __wrap_msync(void *p, size_t size, int flags)
{
    note(MSYNC, p, size, flags);
    errno = msync_error;
    return msync_error ? -1 : 0;
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

int __wrap_fdatasync(int fd)
{
    note(FDATASYNC, NULL, 0, 0);
    return __real_fdatasync(fd);
}

void *__real_mmap64(void *p, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *p, size_t size, int protection, int flags, int fd, off_t offset);

/* As a file system on persistent memory does, which this machine need not have. */
void *__wrap_mmap64(void *p, size_t size, int protection, int flags, int fd, off_t offset)
{
    void *at;

    if (is_direct && (flags & MAP_SYNC))
        at = __real_mmap64(p, size, protection, (flags & MAP_FIXED) | MAP_SHARED, fd, offset);
    else
        at = __real_mmap64(p, size, protection, flags, fd, offset);
    if (fd >= 0 && at != MAP_FAILED)
        note(MAP, at, size, flags);
    return at;
}

static int begin(void **state)
{
    call_count = 0;
    msync_error = 0;
    is_direct = false;
    return fixture_clear(state);
}

static void libpmem_flushes_all_and_then_drains(void **state)
{
    const struct berth_persist_media *media = berth__persist_media_pmem();
    char bytes[300];

    (void)state;
    assert_non_null(media);
    assert_int_equal(berth__persist_media_persist(media, bytes + 7, 251), 0);
    assert_int_equal(call_count, 2);
    assert_int_equal(calls[0].kind, FLUSH);
    assert_int_equal(calls[0].start, (uintptr_t)bytes + 7);
    assert_int_equal(calls[0].size, 251);
    assert_int_equal(calls[1].kind, DRAIN);
}

/* From the page that it begins in, to its last byte at least; and it waits for the disk. */
static void expect_synced(const char *p, size_t size)
{
    call_count = 0;
    assert_int_equal(berth__persist_media_persist(berth__persist_media_msync(), p, size), 0);
    assert_int_equal(call_count, 1);
    assert_int_equal(calls[0].kind, MSYNC);
    assert_int_equal(calls[0].flags, MS_SYNC);
    assert_int_equal(calls[0].start, (uintptr_t)p & ~(uintptr_t)(PAGE - 1));
    assert_true(calls[0].start + calls[0].size >= (uintptr_t)p + size);
}

static void msync_has_every_page_and_waits(void **state)
{
    static _Alignas(4096) char bytes[4 * PAGE];

    (void)state;
    expect_synced(bytes, PAGE);
    expect_synced(bytes + PAGE + 1, 8);
    expect_synced(bytes + PAGE - 1, 2);
    expect_synced(bytes + 100, 3 * PAGE - 50);
    msync_error = EIO;
    assert_int_equal(berth__persist_media_persist(berth__persist_media_msync(), bytes, 1), -EIO);
}

/* The last call of a kind that reaches into the block's memory, or call_count. */
static size_t last_call(enum call_kind kind, const struct berth_persist_block *block)
{
    uintptr_t start = (uintptr_t)block->p;
    size_t i = call_count;

    while (i-- > 0)
        if (calls[i].kind == kind && calls[i].start < start + block->held &&
            start < calls[i].start + calls[i].size)
            return i;
    return call_count;
}

static size_t count_of(enum call_kind kind, int flags)
{
    size_t count = 0;

    for (size_t i = 0; i < call_count; i++)
        count += calls[i].kind == kind && (calls[i].flags & flags) == flags;
    return count;
}

/* Without MAP_SYNC, or where its size is not on the medium, a file loses what was only flushed. */
static void a_file_without_a_cache_keeps_what_is_flushed(void **state)
{
    struct berth_persist_block *block = NULL;
    struct berth_persist_store *store;

    (void)state;
    is_direct = true;
    store = fixture_open(true, 0);
    call_count = 0;
    assert_int_equal(berth__persist_store_create(store, "a", 3 * PAGE + 5, false, &block), 0);
    assert_int_equal(count_of(FDATASYNC, 0), 1);
    assert_true(last_call(MAP, block) < call_count);
    assert_int_equal(count_of(MAP, 0), count_of(MAP, MAP_SYNC));
    fixture_fill(block, 1);
    call_count = 0;
    assert_int_equal(berth__persist_store_commit(store, block), 0);
    assert_int_equal(count_of(MSYNC, 0), 0);
    assert_true(last_call(FLUSH, block) < call_count);
    assert_int_equal(calls[last_call(FLUSH, block) + 1].kind, DRAIN);
    berth__persist_store_close(store);
}

static void a_file_in_the_page_cache_is_synced(void **state)
{
    struct berth_persist_block *block = NULL;
    struct berth_persist_store *store;

    (void)state;
    store = fixture_open(true, 0);
    assert_int_equal(berth__persist_store_create(store, "a", 3 * PAGE + 5, false, &block), 0);
    fixture_fill(block, 1);
    call_count = 0;
    assert_int_equal(berth__persist_store_commit(store, block), 0);
    assert_int_equal(count_of(FLUSH, 0), 0);
    assert_true(last_call(MSYNC, block) < call_count);
    assert_int_equal(count_of(MSYNC, 0), count_of(MSYNC, MS_SYNC));
    berth__persist_store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(libpmem_flushes_all_and_then_drains, begin),
        cmocka_unit_test_setup(msync_has_every_page_and_waits, begin),
        cmocka_unit_test_setup(a_file_without_a_cache_keeps_what_is_flushed, begin),
        cmocka_unit_test_setup(a_file_in_the_page_cache_is_synced, begin),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_finish);
}
