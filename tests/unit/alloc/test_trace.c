/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: every record of a trace is there once and whole, whoever writes at the same time; a file
 * that cannot grow ends the trace and nothing else; a forked child writes nothing.
 * Method: threads that write numbered records into a memory file and a ring, which are read back
 * by the layout in trace_record.h.
 */
#include "alloc/trace.h"

#include "alloc/log.h"
#include "alloc/site.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define THREADS 4
#define PER_THREAD 50000 /* together more than two pieces of the file */
#define RING 4           /* small, so that writers overtake each other by whole turns */

static int memory_file(void)
{
    int fd = memfd_create("trace", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    return fd;
}

static void start(int fd)
{
    char why[128] = "";

    if (berth__trace_start(fd, false, why, sizeof(why)) != 0)
        fail_msg("%s", why);
}

static uint64_t stop(bool *ret_truncated)
{
    uint64_t records = 0;

    assert_int_equal(berth__trace_stop(&records, ret_truncated), 0);
    return records;
}

/* The file's records, as many as it has room for. */
static struct berth_trace_record *read_file(int fd, size_t *ret_places)
{
    struct stat st;
    char *bytes;

    assert_int_equal(fstat(fd, &st), 0);
    bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(bytes != MAP_FAILED);
    assert_memory_equal(bytes, BERTH_TRACE_MAGIC, sizeof(BERTH_TRACE_MAGIC));
    *ret_places =
        ((size_t)st.st_size - BERTH_TRACE_HEADER_SIZE) / sizeof(struct berth_trace_record);
    return (struct berth_trace_record *)(void *)(bytes + BERTH_TRACE_HEADER_SIZE);
}

static void write_one(uint64_t address, uint64_t requested, berth_site_id site)
{
    const struct berth_trace_call call = {.action = BERTH_TRACE_ALLOCATE,
                                          .kind = BERTH_TRACE_DEVICE,
                                          .address = address,
                                          .requested = requested,
                                          .held = requested * 2,
                                          .stream = requested * 3,
                                          .site = site};

    berth__trace_record(&call);
}

static void *write_many(void *context)
{
    uint64_t thread = (uintptr_t)context;

    for (uint64_t i = 1; i <= PER_THREAD; i++)
        write_one(thread, i, 0);
    return NULL;
}

static void run_threads(void)
{
    pthread_t thread[THREADS];

    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, write_many, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
}

static void threads_lose_and_tear_no_record(void **state)
{
    uint64_t last[THREADS + 1] = {0};
    struct berth_trace_record *record;
    bool truncated = true;
    size_t places;
    int fd = memory_file();

    (void)state;
    start(fd);
    run_threads();
    assert_int_equal(stop(&truncated), THREADS * PER_THREAD);
    assert_false(truncated);
    record = read_file(fd, &places);
    assert_true(places >= THREADS * PER_THREAD);
    for (size_t i = 0; i < THREADS * PER_THREAD; i++) {
        assert_int_equal(record[i].stamp, i + 1);
        assert_in_range(record[i].address, 1, THREADS);
        /* Each thread's own records are in its own order, and none is missing. */
        assert_int_equal(record[i].requested, last[record[i].address] + 1);
        assert_int_equal(record[i].held, record[i].requested * 2);
        assert_int_equal(record[i].stream, record[i].requested * 3);
        last[record[i].address]++;
    }
    for (size_t i = THREADS * PER_THREAD; i < places; i++)
        assert_int_equal(record[i].stamp, 0);
    close(fd);
}

static void a_file_that_cannot_grow_ends_the_trace(void **state)
{
    struct berth_trace_header *header;
    struct berth_trace_record *record;
    bool truncated = false;
    size_t places;
    int fd = memory_file();

    (void)state;
    start(fd);
    write_one(1, 1, 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
    run_threads();
    assert_false(berth__trace_on());
    write_one(1, 1, 0);
    stop(&truncated);
    assert_true(truncated);
    record = read_file(fd, &places);
    header = (struct berth_trace_header *)(void *)((char *)record - BERTH_TRACE_HEADER_SIZE);
    assert_int_equal(header->is_truncated, 1);
    for (size_t i = 0; i < places; i++)
        assert_int_equal(record[i].stamp, i + 1);
    /* The next trace is none the worse. */
    close(fd);
    fd = memory_file();
    start(fd);
    write_one(1, 1, 0);
    assert_int_equal(stop(&truncated), 1);
    assert_false(truncated);
    close(fd);
}

static void a_limit_of_file_sizes_kills_nobody(void **state)
{
    struct rlimit before, limit;
    bool truncated = false;
    int fd = memory_file();

    (void)state;
    start(fd);
    write_one(1, 1, 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 5 << 20;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    run_threads();
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    stop(&truncated);
    assert_true(truncated);
    close(fd);
}

static void a_descriptor_that_the_program_closed_is_not_used(void **state)
{
    char path[64];
    bool truncated = false;
    struct stat other, st;
    int fd = memory_file(), kept = -1, program;

    (void)state;
    start(fd);
    write_one(1, 1, 0);
    assert_int_equal(fstat(fd, &st), 0);
    for (int i = 3; i < 4096 && kept < 0; i++)
        if (i != fd && fstat(i, &other) == 0 && other.st_ino == st.st_ino &&
            other.st_dev == st.st_dev)
            kept = i;
    assert_true(kept >= 0);
    close(kept);
    program = memory_file();
    if (program != kept) {
        assert_int_equal(dup2(program, kept), kept);
        close(program);
    }
    run_threads();
    stop(&truncated);
    assert_true(truncated);
    assert_int_equal(fstat(kept, &other), 0);
    assert_int_equal(other.st_size, 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", kept);
    assert_int_equal(access(path, F_OK), 0);
    close(kept);
    close(fd);
}

static void only_an_empty_regular_file_is_taken(void **state)
{
    char why[128];
    bool truncated;
    uint64_t records;
    int fd = memory_file(), pipes[2];

    (void)state;
    assert_int_equal(write(fd, "x", 1), 1);
    assert_int_equal(berth__trace_start(fd, false, why, sizeof(why)), -EINVAL);
    assert_non_null(strstr(why, "no empty regular file"));
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(berth__trace_start(pipes[1], false, why, sizeof(why)), -EINVAL);
    assert_true(berth__trace_start(-1, false, why, sizeof(why)) < 0);
    assert_false(berth__trace_on());
    assert_int_equal(berth__trace_stop(&records, &truncated), -ENOENT);
    close(fd);
    fd = memory_file();
    start(fd);
    assert_int_equal(berth__trace_start(fd, false, why, sizeof(why)), -EBUSY);
    stop(&truncated);
    close(fd);
    close(pipes[0]);
    close(pipes[1]);
}

static void a_forked_child_writes_nothing(void **state)
{
    struct berth_trace_record *record;
    bool truncated;
    size_t places;
    int fd = memory_file(), status;
    pid_t pid;

    (void)state;
    start(fd);
    write_one(1, 1, 0);
    pid = fork();
    if (pid == 0) {
        write_one(2, 2, 0);
        _exit(berth__trace_stop(&(uint64_t){0}, &truncated) == -ENOENT ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    write_one(3, 3, 0);
    assert_int_equal(stop(&truncated), 2);
    record = read_file(fd, &places);
    assert_int_equal(record[0].address, 1);
    assert_int_equal(record[1].address, 3);
    close(fd);
}

static void each_site_is_named_once(void **state)
{
    const void *frames[] = {(const char *)qsort + 4, (const char *)bsearch + 8};
    berth_site_id site = berth__site_intern(frames, 2);
    char name[512] = "", expected[512];
    struct berth_trace_record *record;
    unsigned pieces = 0, calls = 0;
    bool truncated;
    size_t places;
    int fd = memory_file();

    (void)state;
    berth__site_text(site, expected, sizeof(expected));
    start(fd);
    for (int i = 0; i < 10; i++)
        write_one(1, 1, site);
    stop(&truncated);
    record = read_file(fd, &places);
    for (size_t i = 0; i < places && record[i].stamp != 0; i++) {
        assert_int_equal(record[i].site, site);
        calls += record[i].action == BERTH_TRACE_ALLOCATE;
        if (record[i].action != BERTH_TRACE_SITE)
            continue;
        pieces++;
        memcpy(name + record[i].address, record[i].text,
               strnlen(record[i].text, sizeof(record[i].text)));
    }
    assert_int_equal(calls, 10);
    assert_int_equal(pieces, (strlen(expected) + BERTH_TRACE_TEXT - 1) / BERTH_TRACE_TEXT);
    assert_string_equal(name, expected);
    close(fd);
}

/* Whether this process has a mapping of the file, by its number. */
static bool is_mapped(ino_t inode)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    unsigned long found;
    char line[512];
    bool mapped = false;

    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps))
        mapped |= sscanf(line, "%*s %*s %*s %*s %lu", &found) == 1 && found == inode;
    fclose(maps);
    return mapped;
}

static void a_trace_that_has_ended_lets_its_file_go(void **state)
{
    const struct berth_trace_call call = {.action = BERTH_TRACE_FREE, .address = 1};
    struct berth_trace_place late;
    bool truncated;
    struct stat st;
    int fd = memory_file();

    (void)state;
    assert_int_equal(fstat(fd, &st), 0);
    start(fd);
    run_threads();
    assert_true(is_mapped(st.st_ino));
    berth__trace_take(&late);
    stop(&truncated);
    assert_false(is_mapped(st.st_ino));
    /* A late writer finds memory, even where the file has none any more. */
    assert_int_equal(ftruncate(fd, 0), 0);
    berth__trace_write(&late, &call);
    close(fd);
}

static void a_late_record_is_not_the_next_traces(void **state)
{
    const struct berth_trace_call call = {.action = BERTH_TRACE_FREE, .address = 7};
    struct berth_trace_record *record;
    struct berth_trace_place late;
    bool truncated;
    size_t places;
    int fd = memory_file(), next = memory_file();

    (void)state;
    start(fd);
    berth__trace_take(&late);
    stop(&truncated);
    start(next);
    write_one(1, 1, 0);
    berth__trace_write(&late, &call);
    assert_int_equal(stop(&truncated), 1);
    record = read_file(next, &places);
    assert_int_equal(record[0].address, 1);
    assert_int_equal(record[1].stamp, 0);
    close(fd);
    close(next);
}

static void a_free_has_its_place_before_it_happens(void **state)
{
    const struct berth_trace_call call = {.action = BERTH_TRACE_FREE, .address = 1};
    struct berth_trace_record *record;
    struct berth_trace_place place;
    bool truncated;
    size_t places;
    int fd = memory_file();

    (void)state;
    start(fd);
    berth__trace_take(&place);
    write_one(1, 1, 0);
    berth__trace_write(&place, &call);
    stop(&truncated);
    record = read_file(fd, &places);
    assert_int_equal(record[0].action, BERTH_TRACE_FREE);
    assert_int_equal(record[1].action, BERTH_TRACE_ALLOCATE);
    close(fd);
}

static atomic_bool readers_stop;

/* Reads the ring while it turns: each record that is seen is whole. */
static void *read_history(void *context)
{
    struct berth_trace_record record[RING];

    (void)context;
    while (!atomic_load(&readers_stop)) {
        size_t count = berth__trace_history(record, RING);

        for (size_t i = 0; i < count; i++)
            if (record[i].held != record[i].requested * 2 ||
                record[i].stream != record[i].requested * 3 ||
                (i > 0 && record[i].stamp <= record[i - 1].stamp))
                return &readers_stop;
    }
    return NULL;
}

static void the_history_has_the_newest_records(void **state)
{
    struct berth_trace_record record[RING];
    void *torn = NULL;
    pthread_t reader;
    size_t count;

    (void)state;
    assert_int_equal(berth__trace_history(record, RING), 0);
    assert_int_equal(berth__trace_keep_history(RING), 0);
    assert_int_equal(berth__trace_keep_history(RING * 2), 0);
    assert_int_equal(berth__trace_history_room(), RING);
    for (uint64_t i = 1; i < RING; i++)
        write_one(1, i, 0);
    assert_int_equal(berth__trace_history(record, RING), RING - 1);
    assert_int_equal(record[RING - 2].requested, RING - 1);
    assert_int_equal(pthread_create(&reader, NULL, read_history, NULL), 0);
    run_threads();
    atomic_store(&readers_stop, true);
    pthread_join(reader, &torn);
    assert_null(torn);
    /* Without others in the way nothing is lost. */
    for (uint64_t i = 1; i <= RING; i++)
        write_one(1, i, 0);
    count = berth__trace_history(record, RING);
    assert_int_equal(count, RING);
    for (uint64_t i = 0; i < RING; i++) {
        assert_int_equal(record[i].requested, i + 1);
        assert_int_equal(record[i].stamp, THREADS * PER_THREAD + RING - 1 + i + 1);
    }
}

static void a_writer_that_the_ring_has_overtaken_is_lost(void **state)
{
    const struct berth_trace_call call = {.action = BERTH_TRACE_FREE, .address = 1};
    struct berth_trace_record record[RING];
    struct berth_trace_place late;

    (void)state;
    berth__trace_take(&late);
    for (uint64_t i = 1; i <= RING; i++)
        write_one(1, i, 0);
    berth__trace_write(&late, &call);
    assert_int_equal(berth__trace_history(record, RING), RING);
    for (uint64_t i = 0; i < RING; i++)
        assert_int_equal(record[i].requested, i + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_lose_and_tear_no_record),
        cmocka_unit_test(a_file_that_cannot_grow_ends_the_trace),
        cmocka_unit_test(a_limit_of_file_sizes_kills_nobody),
        cmocka_unit_test(a_descriptor_that_the_program_closed_is_not_used),
        cmocka_unit_test(only_an_empty_regular_file_is_taken),
        cmocka_unit_test(a_forked_child_writes_nothing),
        cmocka_unit_test(each_site_is_named_once),
        cmocka_unit_test(a_trace_that_has_ended_lets_its_file_go),
        cmocka_unit_test(a_late_record_is_not_the_next_traces),
        cmocka_unit_test(a_free_has_its_place_before_it_happens),
        cmocka_unit_test(the_history_has_the_newest_records),
        cmocka_unit_test(a_writer_that_the_ring_has_overtaken_is_lost),
    };

    berth__log_configure("none");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
