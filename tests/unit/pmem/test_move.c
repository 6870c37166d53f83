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
#include "tests/unit/pmem/move_fixture.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void a_block_moves_and_keeps_its_address_and_contents(void **state)
{
    const size_t sizes[] = {4096, 20000, 100000, 3 * MIB + 5, 64 * MIB};

    (void)state;
    fixture_needs_live();
    fixture_policy("dram");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint64_t dram = fixture_held(BERTH_TIER_DRAM), file = fixture_held(tier_shm);
        unsigned char *p = fixture_get(sizes[i]);
        size_t held = berth_je_sallocx(p, 0);

        assert_true(berth__is_movable(p));
        fixture_fill(p, sizes[i], 1);
        assert_int_equal(fixture_held(BERTH_TIER_DRAM), dram + held);
        assert_int_equal(fixture_move(p, tier_shm, false), BERTH_MOVE_MOVED);
        assert_true(fixture_is_filled(p, sizes[i], 1));
        assert_true(fixture_is_mapped_shared(p) && fixture_is_mapped_shared(p + held - 1));
        assert_string_equal(fixture_tier_of(p + sizes[i] - 1), "shm");
        assert_int_equal(fixture_held(BERTH_TIER_DRAM), dram);
        assert_int_equal(fixture_held(tier_shm), file + held);
        assert_true(fixture_reserved(tier_shm) >= held);
        fixture_fill(p, sizes[i], 2);
        assert_int_equal(fixture_move(p, tier_shm, false), BERTH_MOVE_THERE);
        assert_int_equal(fixture_move(p, BERTH_TIER_DRAM, false), BERTH_MOVE_MOVED);
        assert_true(fixture_is_filled(p, sizes[i], 2));
        assert_false(fixture_is_mapped_shared(p));
        assert_string_equal(fixture_tier_of(p), "dram");
        assert_int_equal(fixture_held(tier_shm), file);
        assert_int_equal(fixture_held(BERTH_TIER_DRAM), dram + held);
        assert_int_equal(fixture_move(p, tier_shm, false), BERTH_MOVE_MOVED);
        berth__host_free(p);
        assert_int_equal(fixture_held(tier_shm), file);
        assert_int_equal(fixture_held(BERTH_TIER_DRAM), dram);
        assert_true(fixture_reserved(BERTH_TIER_DRAM) >= dram);
    }
}

static void a_block_may_begin_in_a_file(void **state)
{
    struct berth_host_request zeroed = {.size = 3 * MIB, .alignment = 64 * KIB, .zero = true};
    uint64_t file = fixture_held(tier_shm);
    bool placed;

    (void)state;
    fixture_policy("shm");
    for (int i = 0; i < 20; i++) {
        unsigned char *p = berth__host_alloc(&zeroed, &placed);

        assert_true(berth__is_movable(p) && fixture_is_mapped_shared(p));
        assert_int_equal((uintptr_t)p % (64 * KIB), 0);
        for (size_t j = 0; j < zeroed.size; j++)
            assert_int_equal(p[j], 0);
        assert_string_equal(fixture_tier_of(p), "shm");
        fixture_fill(p, zeroed.size, 3);
        p = fixture_change(p, 5 * MIB);
        assert_string_equal(fixture_tier_of(p), "shm");
        assert_true(berth__is_movable(p) && fixture_is_filled(p, zeroed.size, 3));
        berth__host_free(p);
        assert_int_equal(fixture_held(tier_shm), file);
    }
    fixture_policy("dram");
}

/* The addresses of a block that was moved away are home again: zero where that is asked for. */
static void home_is_restored_before_reuse(void **state)
{
    struct berth_host_request zeroed = {.size = 1 * MIB, .alignment = 1, .zero = true};
    bool placed;

    (void)state;
    fixture_needs_live();
    for (int i = 0; i < 50; i++) {
        unsigned char *p = berth__host_alloc(&zeroed, &placed);

        for (size_t j = 0; j < zeroed.size; j++)
            assert_int_equal(p[j], 0);
        fixture_fill(p, zeroed.size, 4);
        assert_int_equal(fixture_move(p, tier_shm, false), BERTH_MOVE_MOVED);
        fixture_fill(p, zeroed.size, 5);
        if (i % 2)
            assert_int_equal(fixture_move(p, BERTH_TIER_DRAM, false), BERTH_MOVE_MOVED);
        berth__host_free(p);
        assert_false(fixture_is_mapped_shared(p));
    }
}

static void a_moved_block_is_resized_by_a_copy(void **state)
{
    unsigned char *p = fixture_get(1 * MIB);

    (void)state;
    fixture_needs_live();
    fixture_fill(p, 1 * MIB, 6);
    assert_int_equal(fixture_move(p, tier_shm, false), BERTH_MOVE_MOVED);
    assert_int_equal(berth__host_resize(p, 4 * MIB, 0, 0), berth_je_sallocx(p, 0));
    p = fixture_change(p, 4 * MIB);
    assert_true(fixture_is_filled(p, 1 * MIB, 6));
    assert_true(berth__is_movable(p));
    assert_string_equal(fixture_tier_of(p), "shm");
    p = fixture_change(p, 100 * KIB);
    assert_true(fixture_is_filled(p, 100 * KIB, 6));
    berth__host_free(p);
}

static void what_was_registered_with_a_driver_stays(void **state)
{
    unsigned char *p = fixture_get(2 * MIB);

    (void)state;
    berth__held_range_add(p + 100 * KIB, 5);
    assert_int_equal(fixture_move(p, tier_shm, true), BERTH_MOVE_PINNED);
    assert_true(berth__held_range_overlaps(p, 2 * MIB));
    berth__held_range_remove(p + 100 * KIB);
    assert_int_equal(fixture_move(p, tier_shm, true), BERTH_MOVE_MOVED);
    /* A second registration at the same address, which the driver refuses, takes nothing away. */
    berth__held_range_add(p, 1 * MIB);
    berth__held_range_add(p, 4096);
    berth__held_range_undo(p, 4096);
    assert_true(berth__held_range_overlaps(p + 8192, 1));
    berth__held_range_remove(p);
    assert_false(berth__held_range_overlaps(p, 2 * MIB));
    /* However many there are elsewhere, each is known. */
    for (uintptr_t i = 0; i < 20000; i++)
        berth__held_range_add((void *)(4096 + i), 1);
    assert_int_equal(fixture_move(p, BERTH_TIER_DRAM, true), BERTH_MOVE_MOVED);
    berth__held_range_add(p + 7, 1);
    assert_int_equal(fixture_move(p, tier_shm, true), BERTH_MOVE_PINNED);
    for (uintptr_t i = 0; i < 20000; i++)
        berth__held_range_remove((void *)(4096 + i));
    assert_true(berth__held_range_overlaps(p, 8));
    berth__held_range_remove(p + 7);
    assert_false(berth__held_range_overlaps(p, 8));
    assert_false(berth__held_range_overlaps((void *)4096, 20000));
    assert_string_equal(fixture_tier_of(p), "dram");
    berth__host_free(p);
}

static void a_full_tier_refuses(void **state)
{
    unsigned char *p = fixture_get(2 * MIB);
    uint64_t held = fixture_held(tier_small);

    (void)state;
    fixture_needs_live();
    fixture_fill(p, 2 * MIB, 7);
    assert_int_equal(fixture_move(p, tier_small, false), BERTH_MOVE_NO_ROOM);
    assert_true(fixture_is_filled(p, 2 * MIB, 7));
    assert_string_equal(fixture_tier_of(p), "dram");
    assert_int_equal(fixture_held(tier_small), held);
    assert_int_equal(fixture_move(p, BERTH_TIER_PINNED, false), BERTH_MOVE_KIND);
    berth__host_free(p);
}

/* Each block that has moved has a mapping of its own, and the program needs some, too. */
static void blocks_that_have_moved_leave_the_program_mappings(void **state)
{
    uint64_t before = berth__residency_remapped_count();
    unsigned char *p[3];

    (void)state;
    fixture_needs_live();
    assert_true(berth__movable_may_remap());
    assert_true(atomic_load(&berth__movable_remapped_max) >= 1000);
    atomic_store(&berth__movable_remapped_max, berth__residency_remapped_count() + 2);
    for (int i = 0; i < 3; i++) {
        p[i] = fixture_get(20000);
        fixture_fill(p[i], 20000, 9);
        assert_int_equal(fixture_move(p[i], tier_shm, false),
                         i < 2 ? BERTH_MOVE_MOVED : BERTH_MOVE_NO_ROOM);
    }
    /* One that is born there cannot move. */
    fixture_policy("shm");
    berth__host_free(p[2]);
    p[2] = fixture_get(20000);
    assert_string_equal(fixture_tier_of(p[2]), "shm");
    assert_false(berth__is_movable(p[2]));
    fixture_policy("dram");
    /* Back in ordinary memory, it still has its own; until it is freed. */
    assert_int_equal(fixture_move(p[0], BERTH_TIER_DRAM, false), BERTH_MOVE_MOVED);
    assert_false(berth__movable_may_remap());
    assert_int_equal(fixture_move(p[0], tier_shm, false), BERTH_MOVE_MOVED);
    for (int i = 0; i < 3; i++)
        berth__host_free(p[i]);
    assert_int_equal(berth__residency_remapped_count(), before);
    atomic_store(&berth__movable_remapped_max, 0);
}

/* As on a kernel that tells of mappings as text alone. */
static int inject_no_query(enum berth_move_call call)
{
    return call == BERTH_CALL_QUERY ? -ENOSYS : 0;
}

static void locked_and_protected_blocks_are_refused(void **state)
{
    unsigned char *p = fixture_get(1 * MIB);

    (void)state;
    fixture_needs_live();
    fixture_fill(p, 1 * MIB, 8);
    /* The sanitizers' mlock() locks nothing. */
    if (syscall(SYS_mlock, p + 64 * KIB, 4 * KIB) == 0) {
        assert_int_equal(fixture_move(p, tier_shm, false), BERTH_MOVE_LOCKED);
        syscall(SYS_munlock, p + 64 * KIB, 4 * KIB);
    }
    assert_int_equal(mprotect(p + 128 * KIB, 4 * KIB, PROT_NONE), 0);
    assert_int_equal(fixture_move(p, tier_shm, false), BERTH_MOVE_MAPPING);
    assert_int_equal(fixture_move(p, tier_shm, true), BERTH_MOVE_MAPPING);
    /* Code that the program has put there would run no more. */
    if (mprotect(p + 128 * KIB, 4 * KIB, PROT_READ | PROT_WRITE | PROT_EXEC) == 0) {
        assert_int_equal(fixture_move(p, tier_shm, false), BERTH_MOVE_MAPPING);
        berth__move_inject = inject_no_query;
        assert_int_equal(fixture_move(p, tier_shm, true), BERTH_MOVE_MAPPING);
        berth__move_inject = NULL;
    }
    assert_int_equal(mprotect(p + 128 * KIB, 4 * KIB, PROT_READ | PROT_WRITE), 0);
    assert_true(fixture_is_filled(p, 1 * MIB, 8));
    assert_int_equal(fixture_move(p, tier_shm, false), BERTH_MOVE_MOVED);
    assert_true(fixture_is_filled(p, 1 * MIB, 8));
    berth__host_free(p);
}

/* The kernel then keeps the block as several mappings. */
static void a_block_whose_parts_have_advice_moves(void **state)
{
    unsigned char *p = fixture_get(8 * MIB);

    (void)state;
    fixture_needs_live();
    fixture_fill(p, 8 * MIB, 21);
    assert_int_equal(madvise(p + 16 * KIB, 3 * MIB, MADV_NOHUGEPAGE), 0);
    assert_int_equal(madvise(p + 5 * MIB + 4 * KIB, 4 * KIB, MADV_RANDOM), 0);
    assert_int_equal(madvise(p + 7 * MIB, 1 * MIB - 12 * KIB, MADV_SEQUENTIAL), 0);
    assert_int_equal(fixture_move(p, tier_shm, false), BERTH_MOVE_MOVED);
    assert_true(fixture_is_filled(p, 8 * MIB, 21));
    berth__host_free(p);
}

/* What the program does at the last moment. */
static struct {
    unsigned char *p;
    bool locks, old_kernel;
    int status;
} late;

static int change_late(enum berth_move_call call)
{
    if (call == BERTH_CALL_UFFD_OFFER && late.old_kernel)
        return -1;
    if (call == BERTH_CALL_SWAP)
        late.status = late.locks ? (int)syscall(SYS_mlock2, late.p, 4 * KIB, 1 /* on fault */)
                                 : mprotect(late.p, 4 * KIB, PROT_READ);
    return 0;
}

static void what_is_protected_or_locked_meanwhile_stays(void **state)
{
    (void)state;
    fixture_needs_live();
    for (int i = 0; i < 4; i++) {
        unsigned char *p = fixture_get(1 * MIB);
        enum berth_move_result result;

        fixture_fill(p, 1 * MIB, 22);
        late.p = p + 64 * KIB;
        late.locks = i % 2;
        late.old_kernel = i / 2;
        berth__move_inject = change_late;
        result = fixture_move(p, tier_shm, false);
        berth__move_inject = NULL;
        if (late.status == 0)
            assert_int_equal(result, late.locks ? BERTH_MOVE_LOCKED : BERTH_MOVE_MAPPING);
        assert_true(fixture_is_filled(p, 1 * MIB, 22));
        syscall(SYS_munlock, late.p, 4 * KIB);
        assert_int_equal(mprotect(late.p, 4 * KIB, PROT_READ | PROT_WRITE), 0);
        fixture_fill(p, 1 * MIB, 23);
        berth__host_free(p);
    }
}

static void a_file_on_disk_is_left_only_quietly(void **state)
{
    unsigned char *p = fixture_get(1 * MIB);

    (void)state;
    if (!fixture_disk() || fixture_live_why)
        skip();
    fixture_fill(p, 1 * MIB, 9);
    assert_int_equal(fixture_move(p, tier_disk, false), BERTH_MOVE_MOVED);
    assert_true(fixture_is_filled(p, 1 * MIB, 9));
    assert_int_equal(fixture_move(p, tier_shm, false), BERTH_MOVE_QUIET);
    assert_string_equal(fixture_tier_of(p), "disk");
    assert_int_equal(fixture_move(p, tier_shm, true), BERTH_MOVE_MOVED);
    assert_int_equal(fixture_move(p, tier_disk, true), BERTH_MOVE_MOVED);
    assert_int_equal(fixture_move(p, BERTH_TIER_DRAM, true), BERTH_MOVE_MOVED);
    assert_true(fixture_is_filled(p, 1 * MIB, 9));
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
    unsigned char *p = fixture_get(1 * MIB);
    int ring;

    (void)state;
    if (fixture_live_why || !fixture_sees_pins)
        skip();
    fixture_fill(p, 1 * MIB, 10);
    ring = pin(p + 512 * KIB, 4 * KIB);
    if (ring < 0) {
        print_message("io_uring cannot pin memory here: %s\n", strerror(errno));
        skip();
    }
    assert_int_equal(fixture_move(p, tier_shm, false), BERTH_MOVE_PINNED);
    assert_true(fixture_is_filled(p, 1 * MIB, 10));
    assert_string_equal(fixture_tier_of(p), "dram");
    close(ring);
    /* The kernel lets go of the pages some time after the ring is closed. */
    while (fixture_move(p, tier_shm, false) == BERTH_MOVE_PINNED)
        sched_yield();
    assert_string_equal(fixture_tier_of(p), "shm");
    assert_true(fixture_is_filled(p, 1 * MIB, 10));
    berth__host_free(p);
}

/* What a forked child shares by copy on write is no pin. */
static void blocks_of_a_program_that_has_forked_move(void **state)
{
    unsigned char *p = fixture_get(1 * MIB);
    int to_child[2];
    int status;
    pid_t child;

    (void)state;
    fixture_needs_live();
    fixture_fill(p, 1 * MIB, 11);
    assert_int_equal(pipe(to_child), 0);
    child = fork();
    if (child == 0) {
        char byte;

        close(to_child[1]); /* so that it ends with its parent */
        if (read(to_child[0], &byte, 1) != 1 || !fixture_is_filled(p, 1 * MIB, 11))
            _exit(1);
        _exit(0);
    }
    assert_int_equal(fixture_move(p, tier_shm, false), BERTH_MOVE_MOVED);
    fixture_fill(p, 1 * MIB, 12);
    assert_int_equal(write(to_child[1], "x", 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(fixture_is_filled(p, 1 * MIB, 12));
    close(to_child[0]);
    close(to_child[1]);
    berth__host_free(p);
}

/* The child has pages of its own at the address of a block that was moved to a file. */
static void a_child_has_its_own_copy_of_a_moved_block(void **state)
{
    unsigned char *p = fixture_get(1 * MIB);
    struct berth_fork attempt;
    int status;
    pid_t child;

    (void)state;
    fixture_needs_live();
    fixture_fill(p, 1 * MIB, 13);
    assert_int_equal(fixture_move(p, tier_shm, false), BERTH_MOVE_MOVED);
    fixture_fill(p, 1 * MIB, 14);
    assert_int_equal(berth__fork_begin(&attempt), 0);
    child = fork();
    berth__fork_end(&attempt, child);
    if (child == 0) {
        bool right = fixture_is_filled(p, 1 * MIB, 14);

        fixture_fill(p, 1 * MIB, 15);
        berth__host_free(p);
        _exit(right ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(fixture_is_filled(p, 1 * MIB, 14));
    assert_int_equal(fixture_move(p, BERTH_TIER_DRAM, false), BERTH_MOVE_MOVED);
    assert_true(fixture_is_filled(p, 1 * MIB, 14));
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
    const char *before = fixture_tier_of(p);
    berth_tier_id from = berth__tier_find(before);
    uint64_t held = fixture_held(from), held_there = fixture_held(to);
    int failures = 0;

    for (int call = 0; call < BERTH_CALL_COUNT; call++) {
        for (int nth = 0; nth < 20; nth++) {
            enum berth_move_result result;

            fault.call = (enum berth_move_call)call;
            fault.count = 0;
            fault.fail_at = nth;
            fault.error = call == BERTH_CALL_UFFD_TAKE ? -EBUSY : -ENOMEM;
            berth__move_inject = inject;
            result = fixture_move(p, to, quiet);
            berth__move_inject = NULL;
            assert_true(fixture_is_filled(p, size, 20));
            if (fault.count <= nth) { /* it is not called that often: the move has succeeded */
                assert_int_equal(result, BERTH_MOVE_MOVED);
                assert_int_equal(fixture_move(p, from, true), BERTH_MOVE_MOVED);
                break;
            }
            failures += can_fail(result);
            if (result == BERTH_MOVE_MOVED) { /* the second attempt has done it */
                assert_int_equal(fixture_move(p, from, true), BERTH_MOVE_MOVED);
                continue;
            }
            assert_string_equal(fixture_tier_of(p), before);
            assert_int_equal(fixture_held(from), held);
            assert_int_equal(fixture_held(to), held_there);
            fixture_fill(p, size, 20);
        }
    }
    assert_true(failures >= (quiet ? 4 : 6));
}

static void a_move_that_fails_leaves_the_block_as_it_was(void **state)
{
    unsigned char *p = fixture_get(2 * MIB + 100);

    (void)state;
    fixture_needs_live();
    fixture_fill(p, 2 * MIB + 100, 20);
    try_faults(p, 2 * MIB + 100, tier_shm, false);
    assert_int_equal(fixture_move(p, tier_shm, false), BERTH_MOVE_MOVED);
    try_faults(p, 2 * MIB + 100, BERTH_TIER_DRAM, false);
    assert_int_equal(fixture_move(p, BERTH_TIER_DRAM, false), BERTH_MOVE_MOVED);
    fault.old_kernel = true;
    try_faults(p, 2 * MIB + 100, tier_shm, false);
    fault.old_kernel = false;
    if (fixture_disk())
        try_faults(p, 2 * MIB + 100, tier_disk, true);
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
    unsigned char *p = fixture_get(size);
    struct writer writers[2] = {{.p = p, .size = size}, {.p = p, .size = size, .first = 4096}};
    pthread_t threads[2];
    int moved = 0;

    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_all, &writers[i]), 0);
    for (int i = 0; i < 40; i++) {
        enum berth_move_result result = fixture_move(p, i % 2 ? BERTH_TIER_DRAM : tier_shm, false);

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
    fixture_needs_live();
    move_under_writers();
}

static void writers_go_on_where_pages_cannot_be_taken(void **state)
{
    (void)state;
    fixture_needs_live();
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
    struct writer writer = {.p = fixture_get(4 * MIB), .size = 4 * MIB};
    pthread_t thread;
    void *answer;

    (void)state;
    fixture_needs_live();
    assert_int_equal(pthread_create(&thread, NULL, read_into, &writer), 0);
    for (int i = 0; i < 40; i++)
        fixture_move(writer.p, i % 2 ? BERTH_TIER_DRAM : tier_shm, false);
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
    uint64_t dram = fixture_held(BERTH_TIER_DRAM), file = fixture_held(tier_shm);

    (void)state;
    fixture_needs_live();
    for (int i = 0; i < 20; i++) {
        unsigned char *p = fixture_get(1 * MIB);

        fixture_fill(p, 1 * MIB, 30);
        to_free = p;
        berth__move_inject = free_meanwhile;
        assert_int_equal(fixture_move(p, tier_shm, false), BERTH_MOVE_GONE);
        berth__move_inject = NULL;
        assert_int_equal(fixture_held(BERTH_TIER_DRAM), dram);
        assert_int_equal(fixture_held(tier_shm), file);
        assert_false(fixture_is_mapped_shared(p));
    }
    assert_int_equal(fixture_move(fixture_get(1 * MIB), tier_shm, false), BERTH_MOVE_MOVED);
}

static int inject_no_privilege(enum berth_move_call call)
{
    return call == BERTH_CALL_UFFD_OPEN ? -EPERM : 0;
}

static void an_ordinary_user_moves_at_quiescent_steps(void **state)
{
    unsigned char *p = fixture_get(1 * MIB);

    (void)state;
    if (!fixture_is_tmpfs("/dev/shm"))
        skip();
    fixture_fill(p, 1 * MIB, 40);
    berth__move_inject = inject_no_privilege;
    assert_int_equal(fixture_move(p, tier_shm, false), BERTH_MOVE_PRIVILEGE);
    assert_string_equal(fixture_tier_of(p), "dram");
    assert_int_equal(fixture_move(p, tier_shm, true), BERTH_MOVE_MOVED);
    assert_int_equal(fixture_move(p, BERTH_TIER_DRAM, false), BERTH_MOVE_PRIVILEGE);
    assert_int_equal(fixture_move(p, BERTH_TIER_DRAM, true), BERTH_MOVE_MOVED);
    berth__move_inject = NULL;
    assert_true(fixture_is_filled(p, 1 * MIB, 40));
    berth__host_free(p);
}

static void wait_for_job(struct berth_move_state *ret)
{
    berth__move_door->run(NULL);
    berth__move_door->read(ret);
    assert_false(ret->is_running);
}

static int opens;

static int count_opens(enum berth_move_call call)
{
    opens += call == BERTH_CALL_UFFD_OPEN;
    return 0;
}

static void a_job_moves_what_the_policy_wants(void **state)
{
    struct berth_move_order order = {.from = BERTH_TIER_NONE, .to = BERTH_TIER_NONE};
    struct berth_move_state result;
    unsigned char *blocks[20];
    uint64_t number;

    (void)state;
    if (!fixture_disk() || fixture_live_why)
        skip();
    fixture_policy("dram");
    for (int i = 0; i < 20; i++) {
        blocks[i] = fixture_get(100000);
        fixture_fill(blocks[i], 100000, (unsigned)i);
    }
    fixture_policy("disk");
    assert_int_equal(berth__move_door->start(&order, &number), 0);
    assert_int_equal(berth__move_door->start(&order, &number), -EBUSY);
    berth__move_inject = count_opens;
    wait_for_job(&result);
    berth__move_inject = NULL;
    /* The kernel looks at all mappings when such a descriptor is closed: not once for each block.
     */
    assert_int_equal(opens, 1);
    assert_true(result.result[BERTH_MOVE_MOVED].blocks >= 20);
    assert_true(result.into[tier_disk].blocks >= 20);
    for (int i = 0; i < 20; i++) {
        assert_string_equal(fixture_tier_of(blocks[i]), "disk");
        assert_true(fixture_is_filled(blocks[i], 100000, (unsigned)i));
    }
    fixture_policy("shm");
    assert_int_equal(berth__move_door->start(&order, &number), 0);
    wait_for_job(&result);
    assert_true(result.result[BERTH_MOVE_QUIET].blocks >= 20 && result.waits_for_quiet);
    assert_string_equal(fixture_tier_of(blocks[0]), "disk");
    assert_true(berth__move_door->quiet() >= 20);
    assert_int_equal(berth__move_door->quiet(), 0);
    for (int i = 0; i < 20; i++) {
        assert_string_equal(fixture_tier_of(blocks[i]), "shm");
        assert_true(fixture_is_filled(blocks[i], 100000, (unsigned)i));
        berth__host_free(blocks[i]);
    }
    fixture_policy("dram");
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
        cmocka_unit_test(a_block_whose_parts_have_advice_moves),
        cmocka_unit_test(what_is_protected_or_locked_meanwhile_stays),
        cmocka_unit_test(blocks_that_have_moved_leave_the_program_mappings),
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

    return cmocka_run_group_tests(tests, fixture_start, NULL);
}
