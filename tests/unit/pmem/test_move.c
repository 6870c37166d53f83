/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that move: contents, addresses, the account, and every way in which a move is refused or
 * fails. What depends on the kernel or the user is skipped with the reason.
 */
#include "pmem/move.h"

#include "alloc/held_range.h"
#include "alloc/stats.h"
#include "alloc/thread.h"
#include "alloc/tier_ops.h"
#include "pmem/fork.h"
#include "pmem/gate.h"
#include "pmem/host.h"
#include "pmem/jemalloc.h"
#include "pmem/movable.h"
#include "pmem/move_fault.h"
#include "tests/unit/pmem/table_fixture.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static berth_tier_id shm, disk, small;
static const char *live_why; /* why nothing can move live here, or NULL */
static bool sees_pins;

static bool is_tmpfs(const char *path)
{
    struct statfs fs;

    return statfs(path, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

/* A directory that is on a disk, or NULL. */
static const char *disk_directory(void)
{
    static const char *const candidates[] = {"/var/tmp", "/tmp", "."};

    for (int i = 0; i < 3; i++)
        if (access(candidates[i], W_OK) == 0 && !is_tmpfs(candidates[i]))
            return candidates[i];
    return NULL;
}

static void use_policy(const char *first)
{
    struct berth_table_draft *draft = berth__draft_new();

    draft_tier(draft, TIER(.name = "shm", .kind = BERTH_KIND_FILE, .path = "/dev/shm"));
    draft_tier(draft, TIER(.name = "small", .kind = BERTH_KIND_FILE, .path = "/dev/shm",
                           .capacity = 1 * MIB));
    if (disk_directory())
        draft_tier(draft, TIER(.name = "disk", .kind = BERTH_KIND_FILE, .path = disk_directory()));
    draft_rule(draft, RULE(.name = "rule", .side = BERTH_SIDE_HOST, .movable = true), first, NULL);
    draft_install(draft);
}

static int start(void **state)
{
    static char why[BERTH_UFFD_WHY_MAX];

    (void)state;
    berth__host_register();
    use_policy("dram");
    shm = berth__tier_find("shm");
    small = berth__tier_find("small");
    disk = berth__tier_find("disk");
    if (berth__move_door->probe(&sees_pins, why, sizeof(why)) < 0)
        live_why = why;
    else if (!is_tmpfs("/dev/shm"))
        live_why = "/dev/shm is no tmpfs";
    if (live_why)
        print_message("nothing moves live here: %s\n", live_why);
    return 0;
}

static unsigned char *get(size_t size)
{
    struct berth_host_request request = {.size = size, .alignment = 1};
    bool placed;

    return berth__host_alloc(&request, &placed);
}

static unsigned char *change(void *p, size_t size)
{
    struct berth_host_request request = {.size = size, .alignment = 1};
    bool placed;

    return berth__host_realloc(p, &request, &placed);
}

/* Millions of bytes, none of which another thread looks at. */
#define UNTRACED __attribute__((no_sanitize("thread")))

UNTRACED static void fill(unsigned char *p, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        p[i] = (unsigned char)(i * 7 + i / 4096 + seed);
}

UNTRACED static bool is_filled(const unsigned char *p, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        if (p[i] != (unsigned char)(i * 7 + i / 4096 + seed))
            return false;
    return true;
}

static enum berth_move_result move_to(void *p, berth_tier_id to, bool quiet)
{
    struct berth_mover mover = {.quiet = quiet, .rule = BERTH_RULE_NONE};
    enum berth_move_result result;

    berth__move_begin(true);
    result = berth__move_block(&mover, p, to);
    berth__move_end();
    if (mover.why[0])
        print_message("%s: %s\n", berth__move_result_info[result].code, mover.why);
    return result;
}

static const char *tier_of(const void *p)
{
    struct berth_block_info info;

    assert_int_equal(berth__host_describe(p, &info), 0);
    return info.tier;
}

static uint64_t held_in(berth_tier_id tier)
{
    struct berth_cell_reading reading;

    berth__stats_read(tier, BERTH_TAG_UNTAGGED, &reading);
    return reading.held;
}

static uint64_t reserved_in(berth_tier_id tier)
{
    return atomic_load(&berth__tier_stats[tier].reserved);
}

/* Whether the page at `p` is that of a file mapping. */
static bool is_mapped_shared(const void *p)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    bool shared = false;

    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps)) {
        unsigned long from, to;
        char flags[8];

        if (sscanf(line, "%lx-%lx %7s", &from, &to, flags) == 3 && (uintptr_t)p >= from &&
            (uintptr_t)p < to)
            shared = flags[3] == 's';
    }
    fclose(maps);
    return shared;
}

static void needs_live(void)
{
    if (live_why)
        skip();
}

static void a_block_moves_and_keeps_its_address_and_contents(void **state)
{
    const size_t sizes[] = {4096, 20000, 100000, 3 * MIB + 5, 64 * MIB};

    (void)state;
    needs_live();
    use_policy("dram");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint64_t dram = held_in(BERTH_TIER_DRAM), file = held_in(shm);
        unsigned char *p = get(sizes[i]);
        size_t held = berth_je_sallocx(p, 0);

        assert_true(berth__is_movable(p));
        fill(p, sizes[i], 1);
        assert_int_equal(held_in(BERTH_TIER_DRAM), dram + held);
        assert_int_equal(move_to(p, shm, false), BERTH_MOVE_MOVED);
        assert_true(is_filled(p, sizes[i], 1));
        assert_true(is_mapped_shared(p) && is_mapped_shared(p + held - 1));
        assert_string_equal(tier_of(p + sizes[i] - 1), "shm");
        assert_int_equal(held_in(BERTH_TIER_DRAM), dram);
        assert_int_equal(held_in(shm), file + held);
        assert_true(reserved_in(shm) >= held);
        fill(p, sizes[i], 2);
        assert_int_equal(move_to(p, shm, false), BERTH_MOVE_THERE);
        assert_int_equal(move_to(p, BERTH_TIER_DRAM, false), BERTH_MOVE_MOVED);
        assert_true(is_filled(p, sizes[i], 2));
        assert_false(is_mapped_shared(p));
        assert_string_equal(tier_of(p), "dram");
        assert_int_equal(held_in(shm), file);
        assert_int_equal(held_in(BERTH_TIER_DRAM), dram + held);
        assert_int_equal(move_to(p, shm, false), BERTH_MOVE_MOVED);
        berth__host_free(p);
        assert_int_equal(held_in(shm), file);
        assert_int_equal(held_in(BERTH_TIER_DRAM), dram);
        assert_true(reserved_in(BERTH_TIER_DRAM) >= dram);
    }
}

static void a_block_may_begin_in_a_file(void **state)
{
    struct berth_host_request zeroed = {.size = 3 * MIB, .alignment = 64 * KIB, .zero = true};
    uint64_t file = held_in(shm);
    bool placed;

    (void)state;
    use_policy("shm");
    for (int i = 0; i < 20; i++) {
        unsigned char *p = berth__host_alloc(&zeroed, &placed);

        assert_true(berth__is_movable(p) && is_mapped_shared(p));
        assert_int_equal((uintptr_t)p % (64 * KIB), 0);
        for (size_t j = 0; j < zeroed.size; j++)
            assert_int_equal(p[j], 0);
        assert_string_equal(tier_of(p), "shm");
        fill(p, zeroed.size, 3);
        p = change(p, 5 * MIB);
        assert_string_equal(tier_of(p), "shm");
        assert_true(berth__is_movable(p) && is_filled(p, zeroed.size, 3));
        berth__host_free(p);
        assert_int_equal(held_in(shm), file);
    }
    use_policy("dram");
}

/* The addresses of a block that was moved away are home again: zero where that is asked for. */
static void home_is_restored_before_reuse(void **state)
{
    struct berth_host_request zeroed = {.size = 1 * MIB, .alignment = 1, .zero = true};
    bool placed;

    (void)state;
    needs_live();
    for (int i = 0; i < 50; i++) {
        unsigned char *p = berth__host_alloc(&zeroed, &placed);

        for (size_t j = 0; j < zeroed.size; j++)
            assert_int_equal(p[j], 0);
        fill(p, zeroed.size, 4);
        assert_int_equal(move_to(p, shm, false), BERTH_MOVE_MOVED);
        fill(p, zeroed.size, 5);
        if (i % 2)
            assert_int_equal(move_to(p, BERTH_TIER_DRAM, false), BERTH_MOVE_MOVED);
        berth__host_free(p);
        assert_false(is_mapped_shared(p));
    }
}

static void a_moved_block_is_resized_by_a_copy(void **state)
{
    unsigned char *p = get(1 * MIB);

    (void)state;
    needs_live();
    fill(p, 1 * MIB, 6);
    assert_int_equal(move_to(p, shm, false), BERTH_MOVE_MOVED);
    assert_int_equal(berth__host_resize(p, 4 * MIB, 0, 0), berth_je_sallocx(p, 0));
    p = change(p, 4 * MIB);
    assert_true(is_filled(p, 1 * MIB, 6));
    assert_true(berth__is_movable(p));
    assert_string_equal(tier_of(p), "shm");
    p = change(p, 100 * KIB);
    assert_true(is_filled(p, 100 * KIB, 6));
    berth__host_free(p);
}

static void what_was_registered_with_a_driver_stays(void **state)
{
    unsigned char *p = get(2 * MIB);

    (void)state;
    berth__held_range_add(p + 100 * KIB, 5);
    assert_int_equal(move_to(p, shm, true), BERTH_MOVE_PINNED);
    assert_true(berth__held_range_overlaps(p, 2 * MIB));
    berth__held_range_remove(p + 100 * KIB);
    assert_int_equal(move_to(p, shm, true), BERTH_MOVE_MOVED);
    for (int i = 0; i <= BERTH_HELD_RANGES_MAX; i++)
        berth__held_range_add(p + i, 1);
    assert_int_equal(move_to(p, BERTH_TIER_DRAM, true), BERTH_MOVE_PINNED);
    assert_string_equal(tier_of(p), "shm");
    berth__host_free(p);
}

static void a_full_tier_refuses(void **state)
{
    unsigned char *p = get(2 * MIB);
    uint64_t held = held_in(small);

    (void)state;
    needs_live();
    fill(p, 2 * MIB, 7);
    assert_int_equal(move_to(p, small, false), BERTH_MOVE_NO_ROOM);
    assert_true(is_filled(p, 2 * MIB, 7));
    assert_string_equal(tier_of(p), "dram");
    assert_int_equal(held_in(small), held);
    assert_int_equal(move_to(p, BERTH_TIER_PINNED, false), BERTH_MOVE_KIND);
    berth__host_free(p);
}

static void locked_and_protected_blocks_are_refused(void **state)
{
    unsigned char *p = get(1 * MIB);

    (void)state;
    needs_live();
    fill(p, 1 * MIB, 8);
    /* The sanitizers' mlock() locks nothing. */
    if (syscall(SYS_mlock, p + 64 * KIB, 4 * KIB) == 0) {
        assert_int_equal(move_to(p, shm, false), BERTH_MOVE_LOCKED);
        syscall(SYS_munlock, p + 64 * KIB, 4 * KIB);
    }
    assert_int_equal(mprotect(p + 128 * KIB, 4 * KIB, PROT_NONE), 0);
    assert_int_equal(move_to(p, shm, false), BERTH_MOVE_MAPPING);
    assert_int_equal(move_to(p, shm, true), BERTH_MOVE_MAPPING);
    assert_int_equal(mprotect(p + 128 * KIB, 4 * KIB, PROT_READ | PROT_WRITE), 0);
    assert_true(is_filled(p, 1 * MIB, 8));
    assert_int_equal(move_to(p, shm, false), BERTH_MOVE_MOVED);
    assert_true(is_filled(p, 1 * MIB, 8));
    berth__host_free(p);
}

static void a_file_on_disk_is_left_only_quietly(void **state)
{
    unsigned char *p = get(1 * MIB);

    (void)state;
    if (!disk_directory() || live_why)
        skip();
    fill(p, 1 * MIB, 9);
    assert_int_equal(move_to(p, disk, false), BERTH_MOVE_MOVED);
    assert_true(is_filled(p, 1 * MIB, 9));
    assert_int_equal(move_to(p, shm, false), BERTH_MOVE_QUIET);
    assert_string_equal(tier_of(p), "disk");
    assert_int_equal(move_to(p, shm, true), BERTH_MOVE_MOVED);
    assert_int_equal(move_to(p, disk, true), BERTH_MOVE_MOVED);
    assert_int_equal(move_to(p, BERTH_TIER_DRAM, true), BERTH_MOVE_MOVED);
    assert_true(is_filled(p, 1 * MIB, 9));
    berth__host_free(p);
}

/* Registers the range with an io_uring, which pins it. The ring's descriptor, or -1. */
static int pin(void *p, size_t size)
{
    struct io_uring_params parameters = {0};
    struct iovec range = {p, size};
    int ring = (int)syscall(SYS_io_uring_setup, 1, &parameters);

    if (ring >= 0 && syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &range, 1) < 0) {
        close(ring);
        ring = -1;
    }
    return ring;
}

static void pinned_pages_are_seen(void **state)
{
    unsigned char *p = get(1 * MIB);
    int ring;

    (void)state;
    if (live_why || !sees_pins)
        skip();
    fill(p, 1 * MIB, 10);
    ring = pin(p + 512 * KIB, 4 * KIB);
    if (ring < 0) {
        print_message("io_uring cannot pin memory here: %s\n", strerror(errno));
        skip();
    }
    assert_int_equal(move_to(p, shm, false), BERTH_MOVE_PINNED);
    assert_true(is_filled(p, 1 * MIB, 10));
    assert_string_equal(tier_of(p), "dram");
    close(ring);
    /* The kernel lets go of the pages some time after the ring is closed. */
    while (move_to(p, shm, false) == BERTH_MOVE_PINNED)
        sched_yield();
    assert_string_equal(tier_of(p), "shm");
    assert_true(is_filled(p, 1 * MIB, 10));
    berth__host_free(p);
}

/* What a forked child shares by copy on write is no pin. */
static void blocks_of_a_program_that_has_forked_move(void **state)
{
    unsigned char *p = get(1 * MIB);
    int to_child[2];
    int status;
    pid_t child;

    (void)state;
    needs_live();
    fill(p, 1 * MIB, 11);
    assert_int_equal(pipe(to_child), 0);
    child = fork();
    if (child == 0) {
        char byte;

        close(to_child[1]); /* so that it ends with its parent */
        if (read(to_child[0], &byte, 1) != 1 || !is_filled(p, 1 * MIB, 11))
            _exit(1);
        _exit(0);
    }
    assert_int_equal(move_to(p, shm, false), BERTH_MOVE_MOVED);
    fill(p, 1 * MIB, 12);
    assert_int_equal(write(to_child[1], "x", 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(is_filled(p, 1 * MIB, 12));
    close(to_child[0]);
    close(to_child[1]);
    berth__host_free(p);
}

/* The child has pages of its own at the address of a block that was moved to a file. */
static void a_child_has_its_own_copy_of_a_moved_block(void **state)
{
    unsigned char *p = get(1 * MIB);
    struct berth_fork attempt;
    int status;
    pid_t child;

    (void)state;
    needs_live();
    fill(p, 1 * MIB, 13);
    assert_int_equal(move_to(p, shm, false), BERTH_MOVE_MOVED);
    fill(p, 1 * MIB, 14);
    assert_int_equal(berth__fork_begin(&attempt), 0);
    child = fork();
    berth__fork_end(&attempt, child);
    if (child == 0) {
        bool right = is_filled(p, 1 * MIB, 14);

        fill(p, 1 * MIB, 15);
        berth__host_free(p);
        _exit(right ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(is_filled(p, 1 * MIB, 14));
    assert_int_equal(move_to(p, BERTH_TIER_DRAM, false), BERTH_MOVE_MOVED);
    assert_true(is_filled(p, 1 * MIB, 14));
    berth__host_free(p);
}

/* Which call fails, and how. */
static struct {
    enum berth_move_call call;
    int error;
    int count; /* how often it was asked; -1: every time */
    int fail_at;
    bool old_kernel;
} fault;

/* As on a kernel that cannot take pages out, nor tell of one mapping. */
static int inject_old_kernel(enum berth_move_call call)
{
    return call == BERTH_CALL_UFFD_OFFER || call == BERTH_CALL_QUERY ? -ENOSYS : 0;
}

static int inject(enum berth_move_call call)
{
    if (fault.old_kernel && inject_old_kernel(call) < 0)
        return -ENOSYS;
    if (call != fault.call)
        return 0;
    return fault.count++ == fault.fail_at ? fault.error : 0;
}

static bool can_fail(enum berth_move_result result)
{
    return result != BERTH_MOVE_MOVED;
}

/* Each system call fails, the first time, the second time, ...: the block stays as it was. */
static void try_faults(unsigned char *p, size_t size, berth_tier_id to, bool quiet)
{
    const char *before = tier_of(p);
    berth_tier_id from = berth__tier_find(before);
    uint64_t held = held_in(from), held_there = held_in(to);
    int failures = 0;

    for (int call = 0; call < BERTH_CALL_COUNT; call++) {
        for (int nth = 0; nth < 20; nth++) {
            enum berth_move_result result;

            fault.call = (enum berth_move_call)call;
            fault.count = 0;
            fault.fail_at = nth;
            fault.error = call == BERTH_CALL_UFFD_TAKE ? -EBUSY : -ENOMEM;
            berth__move_inject = inject;
            result = move_to(p, to, quiet);
            berth__move_inject = NULL;
            assert_true(is_filled(p, size, 20));
            if (fault.count <= nth) { /* it is not called that often: the move has succeeded */
                assert_int_equal(result, BERTH_MOVE_MOVED);
                assert_int_equal(move_to(p, from, true), BERTH_MOVE_MOVED);
                break;
            }
            failures += can_fail(result);
            if (result == BERTH_MOVE_MOVED) { /* the second attempt has done it */
                assert_int_equal(move_to(p, from, true), BERTH_MOVE_MOVED);
                continue;
            }
            assert_string_equal(tier_of(p), before);
            assert_int_equal(held_in(from), held);
            assert_int_equal(held_in(to), held_there);
            fill(p, size, 20);
        }
    }
    assert_true(failures >= (quiet ? 4 : 6));
}

static void a_move_that_fails_leaves_the_block_as_it_was(void **state)
{
    unsigned char *p = get(2 * MIB + 100);

    (void)state;
    needs_live();
    fill(p, 2 * MIB + 100, 20);
    try_faults(p, 2 * MIB + 100, shm, false);
    assert_int_equal(move_to(p, shm, false), BERTH_MOVE_MOVED);
    try_faults(p, 2 * MIB + 100, BERTH_TIER_DRAM, false);
    assert_int_equal(move_to(p, BERTH_TIER_DRAM, false), BERTH_MOVE_MOVED);
    fault.old_kernel = true;
    try_faults(p, 2 * MIB + 100, shm, false);
    fault.old_kernel = false;
    if (disk_directory())
        try_faults(p, 2 * MIB + 100, disk, true);
    berth__host_free(p);
}

/* Two threads write all the time; what they have written is there, wherever the block is. */
struct writer {
    unsigned char *p;
    size_t size;
    unsigned first;
    atomic_bool stop;
    uint64_t rounds;
};

static void *write_all(void *context)
{
    struct writer *writer = context;
    unsigned round = 0;

    while (!atomic_load(&writer->stop)) {
        for (size_t i = writer->first; i < writer->size; i += 2 * 4096)
            for (size_t j = 0; j < 4096; j += 512)
                writer->p[i + j] = (unsigned char)(round + i / 4096);
        for (size_t i = writer->first; i < writer->size; i += 2 * 4096)
            for (size_t j = 0; j < 4096; j += 512)
                if (writer->p[i + j] != (unsigned char)(round + i / 4096))
                    return (void *)"a byte is not what was written";
        round++;
    }
    writer->rounds = round;
    return NULL;
}

static void move_under_writers(void)
{
    const size_t size = 8 * MIB;
    unsigned char *p = get(size);
    struct writer writers[2] = {{.p = p, .size = size}, {.p = p, .size = size, .first = 4096}};
    pthread_t threads[2];
    int moved = 0;

    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_all, &writers[i]), 0);
    for (int i = 0; i < 40; i++) {
        enum berth_move_result result = move_to(p, i % 2 ? BERTH_TIER_DRAM : shm, false);

        assert_true(result == BERTH_MOVE_MOVED || result == BERTH_MOVE_THERE ||
                    result == BERTH_MOVE_BUSY);
        moved += result == BERTH_MOVE_MOVED;
    }
    for (int i = 0; i < 2; i++) {
        void *answer;

        atomic_store(&writers[i].stop, true);
        assert_int_equal(pthread_join(threads[i], &answer), 0);
        assert_null(answer);
    }
    print_message("moved %d times, while written to %llu + %llu times\n", moved,
                  (unsigned long long)writers[0].rounds, (unsigned long long)writers[1].rounds);
    assert_true(moved >= 30);
    berth__host_free(p);
}

static void writers_go_on_while_a_block_moves(void **state)
{
    (void)state;
    needs_live();
    move_under_writers();
}

static void writers_go_on_where_pages_cannot_be_taken(void **state)
{
    (void)state;
    needs_live();
    berth__move_inject = inject_old_kernel;
    move_under_writers();
    berth__move_inject = NULL;
}

/* A system call that writes to the block meanwhile neither fails nor loses a byte. */
static void *read_into(void *context)
{
    struct writer *writer = context;
    int ends[2];
    char from[4096], round = 0;

    if (pipe(ends) < 0)
        return (void *)"pipe";
    while (!atomic_load(&writer->stop)) {
        round++;
        memset(from, round, sizeof(from));
        for (size_t i = 0; i < writer->size; i += 64 * KIB) {
            if (write(ends[1], from, sizeof(from)) != (ssize_t)sizeof(from) ||
                read(ends[0], writer->p + i, sizeof(from)) != (ssize_t)sizeof(from))
                return (void *)"read() has failed";
            if (memcmp(writer->p + i, from, sizeof(from)) != 0)
                return (void *)"read() has lost something";
        }
    }
    close(ends[0]);
    close(ends[1]);
    return NULL;
}

static void system_calls_may_write_while_a_block_moves(void **state)
{
    struct writer writer = {.p = get(4 * MIB), .size = 4 * MIB};
    pthread_t thread;
    void *answer;

    (void)state;
    needs_live();
    assert_int_equal(pthread_create(&thread, NULL, read_into, &writer), 0);
    for (int i = 0; i < 40; i++)
        move_to(writer.p, i % 2 ? BERTH_TIER_DRAM : shm, false);
    atomic_store(&writer.stop, true);
    assert_int_equal(pthread_join(thread, &answer), 0);
    assert_null(answer);
    berth__host_free(writer.p);
}

/* Frees the block as soon as its move has begun. */
static unsigned char *to_free;

static int free_meanwhile(enum berth_move_call call)
{
    if (call == BERTH_CALL_READ && to_free) {
        unsigned char *p = to_free;

        to_free = NULL;
        berth__host_free(p);
    }
    return 0;
}

static void a_block_may_be_freed_while_it_moves(void **state)
{
    uint64_t dram = held_in(BERTH_TIER_DRAM), file = held_in(shm);

    (void)state;
    needs_live();
    for (int i = 0; i < 20; i++) {
        unsigned char *p = get(1 * MIB);

        fill(p, 1 * MIB, 30);
        to_free = p;
        berth__move_inject = free_meanwhile;
        assert_int_equal(move_to(p, shm, false), BERTH_MOVE_GONE);
        berth__move_inject = NULL;
        assert_int_equal(held_in(BERTH_TIER_DRAM), dram);
        assert_int_equal(held_in(shm), file);
        assert_false(is_mapped_shared(p));
    }
    assert_int_equal(move_to(get(1 * MIB), shm, false), BERTH_MOVE_MOVED);
}

static int inject_no_privilege(enum berth_move_call call)
{
    return call == BERTH_CALL_UFFD_OPEN ? -EPERM : 0;
}

static void an_ordinary_user_moves_at_quiescent_steps(void **state)
{
    unsigned char *p = get(1 * MIB);

    (void)state;
    if (!is_tmpfs("/dev/shm"))
        skip();
    fill(p, 1 * MIB, 40);
    berth__move_inject = inject_no_privilege;
    assert_int_equal(move_to(p, shm, false), BERTH_MOVE_PRIVILEGE);
    assert_string_equal(tier_of(p), "dram");
    assert_int_equal(move_to(p, shm, true), BERTH_MOVE_MOVED);
    assert_int_equal(move_to(p, BERTH_TIER_DRAM, false), BERTH_MOVE_PRIVILEGE);
    assert_int_equal(move_to(p, BERTH_TIER_DRAM, true), BERTH_MOVE_MOVED);
    berth__move_inject = NULL;
    assert_true(is_filled(p, 1 * MIB, 40));
    berth__host_free(p);
}

static void wait_for_job(struct berth_move_state *ret)
{
    berth__move_door->run(NULL);
    berth__move_door->read(ret);
    assert_false(ret->is_running);
}

static void a_job_moves_what_the_policy_wants(void **state)
{
    struct berth_move_order order = {.from = BERTH_TIER_NONE, .to = BERTH_TIER_NONE};
    struct berth_move_state result;
    unsigned char *blocks[20];
    uint64_t number;

    (void)state;
    if (!disk_directory() || live_why)
        skip();
    use_policy("dram");
    for (int i = 0; i < 20; i++) {
        blocks[i] = get(100000);
        fill(blocks[i], 100000, (unsigned)i);
    }
    use_policy("disk");
    assert_int_equal(berth__move_door->start(&order, &number), 0);
    assert_int_equal(berth__move_door->start(&order, &number), -EBUSY);
    wait_for_job(&result);
    assert_true(result.result[BERTH_MOVE_MOVED].blocks >= 20);
    assert_true(result.into[disk].blocks >= 20);
    for (int i = 0; i < 20; i++) {
        assert_string_equal(tier_of(blocks[i]), "disk");
        assert_true(is_filled(blocks[i], 100000, (unsigned)i));
    }
    use_policy("shm");
    assert_int_equal(berth__move_door->start(&order, &number), 0);
    wait_for_job(&result);
    assert_true(result.result[BERTH_MOVE_QUIET].blocks >= 20 && result.waits_for_quiet);
    assert_string_equal(tier_of(blocks[0]), "disk");
    assert_true(berth__move_door->quiet() >= 20);
    assert_int_equal(berth__move_door->quiet(), 0);
    for (int i = 0; i < 20; i++) {
        assert_string_equal(tier_of(blocks[i]), "shm");
        assert_true(is_filled(blocks[i], 100000, (unsigned)i));
        berth__host_free(blocks[i]);
    }
    use_policy("dram");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_moves_and_keeps_its_address_and_contents),
        cmocka_unit_test(a_block_may_begin_in_a_file),
        cmocka_unit_test(home_is_restored_before_reuse),
        cmocka_unit_test(a_moved_block_is_resized_by_a_copy),
        cmocka_unit_test(a_full_tier_refuses),
        cmocka_unit_test(locked_and_protected_blocks_are_refused),
        cmocka_unit_test(a_file_on_disk_is_left_only_quietly),
        cmocka_unit_test(pinned_pages_are_seen),
        cmocka_unit_test(blocks_of_a_program_that_has_forked_move),
        cmocka_unit_test(a_child_has_its_own_copy_of_a_moved_block),
        cmocka_unit_test(a_move_that_fails_leaves_the_block_as_it_was),
        cmocka_unit_test(writers_go_on_while_a_block_moves),
        cmocka_unit_test(writers_go_on_where_pages_cannot_be_taken),
        cmocka_unit_test(system_calls_may_write_while_a_block_moves),
        cmocka_unit_test(a_block_may_be_freed_while_it_moves),
        cmocka_unit_test(an_ordinary_user_moves_at_quiescent_steps),
        cmocka_unit_test(a_job_moves_what_the_policy_wants),
        cmocka_unit_test(
            what_was_registered_with_a_driver_stays), /* the last: it fills the table */
    };

    return cmocka_run_group_tests(tests, start, NULL);
}
