/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: parts of ordinary memory's windows are opened by one thread at a time, so that nothing the
 * program does to its blocks is undone; parts in which nothing lies go back when the program limits
 * its addresses, and come again.
 * Method: the tier's verbs on addresses of its window; a thread is held in the middle of
 * mprotect(), and what is known of parts finds no memory (--wrap, meson.build). Each test is a
 * process of its own.
 */
#include "alloc/tier_ops.h"
#include "pmem/gate.h"
#include "pmem/host.h"
#include "pmem/overcommit.h"
#include "pmem/sysfs.h"
#include "pmem/window.h"
#include "tests/unit/pmem/child_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static char *carve(size_t size)
{
    struct berth_tier *dram = berth__tier(BERTH_TIER_DRAM);
    char *p;

    CHECK(berth__window_ready(BERTH_TIER_DRAM));
    p = berth__window_carve(BERTH_TIER_DRAM, size, 2 * MIB);
    CHECK(p && dram->ops->map(dram, p, size) == 0);
    return p;
}

static int commit(char *p, size_t size)
{
    struct berth_tier *dram = berth__tier(BERTH_TIER_DRAM);

    return dram->ops->commit(dram, p, size);
}

/* The kernel answers instead of a signal. */
static bool can_be_written(char *p)
{
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    bool r = read(zero, p, 1) == 1;

    close(zero);
    return r;
}

/* One thread's next mprotect() waits until it may go on. */
static __thread bool is_held;
static atomic_bool is_there, may_go;
static atomic_int other; /* the second thread's number; -1 once it is done */

int __real_mprotect(void *address, size_t size, int protection);
int __wrap_mprotect(void *address, size_t size, int protection);

int __wrap_mprotect(void *address, size_t size, int protection)
{
    if (is_held) {
        is_held = false;
        atomic_store(&is_there, true);
        while (!atomic_load(&may_go))
            sched_yield();
    }
    return __real_mprotect(address, size, protection);
}

/* No memory that is not to be reserved, which is what is known of parts; and how often it was
 * asked. */
static bool refuses;
static unsigned refusals;

void *__real_mmap64(void *p, size_t size, int protection, int flags, int fd, off64_t offset);
void *__wrap_mmap64(void *p, size_t size, int protection, int flags, int fd, off64_t offset);

void *__wrap_mmap64(void *p, size_t size, int protection, int flags, int fd, off64_t offset)
{
    if (!refuses || !(flags & MAP_NORESERVE))
        return __real_mmap64(p, size, protection, flags, fd, offset);
    refusals++;
    errno = ENOMEM;
    return MAP_FAILED;
}

static void *commit_held(void *p)
{
    is_held = true;
    CHECK(commit(p, MIB) == 0);
    return NULL;
}

static void *commit_and_protect(void *context)
{
    char *p = context;

    atomic_store(&other, gettid());
    CHECK(commit(p, MIB) == 0);
    CHECK(__real_mprotect(p, MIB, PROT_READ) == 0);
    atomic_store(&other, -1);
    return NULL;
}

/* Whether the other thread is done, or waits. */
static bool has_come(void)
{
    int thread = atomic_load(&other);
    char path[64], text[256] = "";
    const char *state;
    int fd;

    if (thread <= 0)
        return thread < 0;
    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return true;
    if (read(fd, text, sizeof(text) - 1) < 0)
        text[0] = '\0';
    close(fd);
    state = strrchr(text, ')');
    return !state || state[1] == '\0' || state[2] == 'S';
}

static void check_two_at_once(void)
{
    char *p = carve(8 * MIB);
    pthread_t first, second;

    CHECK(pthread_create(&first, NULL, commit_held, p) == 0);
    while (!atomic_load(&is_there))
        sched_yield();
    CHECK(pthread_create(&second, NULL, commit_and_protect, p + MIB) == 0);
    while (!has_come())
        sched_yield();
    atomic_store(&may_go, true);
    CHECK(pthread_join(first, NULL) == 0 && pthread_join(second, NULL) == 0);
    CHECK(can_be_written(p) && can_be_written(p + MIB - 1));
    CHECK(!can_be_written(p + MIB) && !can_be_written(p + 2 * MIB - 1));
}

static void what_is_protected_while_others_open_the_part_stays_so(void **state)
{
    (void)state;
    in_host_child(check_two_at_once);
}

static void *map_at(char *p, size_t size)
{
    return mmap(p, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
                -1, 0);
}

static void check_limited(void)
{
    char *p = carve(64 * MIB);

    CHECK(commit(p, MIB) == 0);
    memset(p, 1, MIB);
    CHECK(berth__gate_owns(p + 32 * MIB));
    berth__window_limit((uint64_t)1 << 30);
    CHECK(p[MIB - 1] == 1 && berth__gate_owns(p));
    CHECK(!berth__gate_owns(p + 32 * MIB) && !berth__gate_owns(p + 64 * MIB - 1));
    /* Somebody else's now, and left alone. */
    CHECK(map_at(p + 32 * MIB, MIB) == p + 32 * MIB);
    p[32 * MIB] = 2;
    CHECK(commit(p + 31 * MIB, 2 * MIB) == -ENOMEM);
    CHECK(p[32 * MIB] == 2 && !berth__gate_owns(p + 32 * MIB));
    /* What is still free comes again. */
    CHECK(commit(p + 40 * MIB, 3 * MIB) == 0);
    CHECK(berth__gate_owns(p + 40 * MIB) && berth__gate_owns(p + 43 * MIB - 1));
    memset(p + 40 * MIB, 3, 3 * MIB);
    CHECK(!berth__gate_owns(p + 50 * MIB));
    berth__window_limit((uint64_t)1 << 30);
    CHECK(p[40 * MIB] == 3 && berth__gate_owns(p + 40 * MIB));
}

static void addresses_where_nothing_lies_go_back_and_come_again(void **state)
{
    (void)state;
    in_host_child(check_limited);
}

/* What lies in a part that is open or was opened in pieces stays, to the last byte. */
static void check_pieces(void)
{
    char *p = carve(3 * MIB);

    /* The second part is not carved whole. */
    CHECK(commit(p + 2 * MIB, 4096) == 0);
    p[2 * MIB] = 4;
    berth__window_limit((uint64_t)1 << 30);
    CHECK(p[2 * MIB] == 4 && !can_be_written(p + 2 * MIB + 4096));
    CHECK(berth__gate_owns(p + 2 * MIB) && !berth__gate_owns(p + 3 * MIB));
    CHECK(commit(p + 2 * MIB + 4096, 4096) == 0 && p[2 * MIB] == 4);
    p[2 * MIB + 4096] = 5;
}

static void parts_that_were_opened_in_pieces_stay(void **state)
{
    (void)state;
    in_host_child(check_pieces);
}

/* What was opened whole, as nothing could be known of parts, stays when there is memory again. */
static void check_unknown(void)
{
    struct berth_tier *dram = berth__tier(BERTH_TIER_DRAM);
    char *p, *q;

    CHECK(berth__window_ready(BERTH_TIER_DRAM));
    p = berth__window_carve(BERTH_TIER_DRAM, 8 * MIB, 2 * MIB);
    CHECK(p);
    refuses = true;
    CHECK(dram->ops->map(dram, p, 8 * MIB) == 0 && refusals == 1);
    refuses = false;
    CHECK(commit(p, MIB) == 0);
    memset(p, 1, MIB);
    q = carve(8 * MIB);
    CHECK(commit(q, MIB) == 0);
    memset(q, 2, MIB);
    CHECK(mprotect(p + MIB, MIB, PROT_READ) == 0);
    CHECK(commit(p + 3 * MIB, MIB) == 0 && !can_be_written(p + MIB));
    berth__window_limit((uint64_t)1 << 30);
    CHECK(berth__gate_owns(p) && can_be_written(p) && p[MIB - 1] == 1 && q[MIB - 1] == 2);
    CHECK(can_be_written(p + 3 * MIB));
}

static void what_was_opened_whole_stays(void **state)
{
    (void)state;
    in_host_child(check_unknown);
}

/* A machine on which the kernel counts whatever can be written, as its files say. */
static void count_all(void)
{
    static char root[] = "/tmp/berth-dram-XXXXXX", sys[64];
    char rule[] = "proc/sys/vm/overcommit_memory", path[96];
    int fd;

    CHECK(mkdtemp(root));
    for (char *end = strchr(rule, '/'); end; end = strchr(end + 1, '/')) {
        snprintf(path, sizeof(path), "%s/%.*s", root, (int)(end - rule), rule);
        CHECK(mkdir(path, 0700) == 0);
    }
    snprintf(path, sizeof(path), "%s/%s", root, rule);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, "2\n", 2) == 2 && close(fd) == 0);
    snprintf(sys, sizeof(sys), "%s/sys", root);
    CHECK(mkdir(sys, 0700) == 0);
    berth__sysfs_root = sys;
    CHECK(berth__overcommit_is_strict());
    CHECK(unlink(path) == 0 && rmdir(sys) == 0);
    for (char *end = strrchr(rule, '/'); end; end = strrchr(rule, '/')) {
        *end = '\0';
        snprintf(path, sizeof(path), "%s/%s", root, rule);
        CHECK(rmdir(path) == 0);
    }
    CHECK(rmdir(root) == 0);
}

static void check_counted(void)
{
    struct berth_tier *dram = berth__tier(BERTH_TIER_DRAM);
    char *p;

    count_all();
    p = carve(8 * MIB);
    CHECK(!can_be_written(p));
    CHECK(commit(p, MIB) == 0 && commit(p + 3 * MIB, MIB) == 0);
    memset(p, 1, MIB);
    memset(p + 3 * MIB, 2, MIB);
    CHECK(!can_be_written(p + MIB) && !can_be_written(p + 4 * MIB));
    CHECK(dram->ops->decommit(dram, p, MIB / 2) == 0);
    CHECK(!can_be_written(p) && !can_be_written(p + MIB / 2 - 1));
    CHECK(p[MIB / 2] == 1 && p[MIB - 1] == 1 && p[3 * MIB] == 2);
    CHECK(commit(p, MIB / 2) == 0 && p[0] == 0 && can_be_written(p + MIB / 2 - 1));
    berth__window_limit((uint64_t)1 << 30);
    CHECK(p[MIB - 1] == 1 && !berth__gate_owns(p + 6 * MIB));
    CHECK(commit(p + 6 * MIB, MIB) == 0 && can_be_written(p + 7 * MIB - 1));
    CHECK(!can_be_written(p + 7 * MIB));
}

static void only_what_is_needed_can_be_written_where_that_is_counted(void **state)
{
    (void)state;
    in_host_child(check_counted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_protected_while_others_open_the_part_stays_so),
        cmocka_unit_test(addresses_where_nothing_lies_go_back_and_come_again),
        cmocka_unit_test(parts_that_were_opened_in_pieces_stay),
        cmocka_unit_test(what_was_opened_whole_stays),
        cmocka_unit_test(only_what_is_needed_can_be_written_where_that_is_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
