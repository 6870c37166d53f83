/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: where a program may have little data (RLIMIT_DATA), or fewer addresses than it has
 * (RLIMIT_AS), freed blocks that were elsewhere lose neither their tier's memory nor their
 * addresses, and take the program no further than its limit.
 * Method: more of them than the limit come and go, of changing sizes. Each test is a process.
 */
#include "pmem/owed.h"

#include "alloc/stats.h"
#include "pmem/host.h"
#include "pmem/mapping.h"
#include "pmem/overcommit.h"
#include "pmem/residency.h"
#include "pmem/window.h"
#include "tests/unit/pmem/child_fixture.h"
#include "tests/unit/pmem/table_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
/* Beyond what the process has at first. */
#define ROOM (32 * MIB)
enum { COUNT = 96, ROUNDS = 5 };

static berth_tier_id use_tier(void)
{
    struct berth_table_draft *draft = berth__draft_new();

    draft_tier(draft, TIER(.name = "far", .kind = BERTH_KIND_FILE,
                           .path = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
                           .fork_copy_max = UINT64_MAX, .decay_ms = 0));
    draft_rule(draft, RULE(.name = "all", .side = BERTH_SIDE_HOST, .movable = true), "far", NULL);
    draft_install(draft);
    return berth__tier_find("far");
}

static unsigned char *get(size_t size, bool zero)
{
    struct berth_host_request request = {.size = size, .alignment = 1, .zero = zero};
    bool placed;

    return berth__host_alloc(&request, &placed);
}

static size_t data_size(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    size_t size = 0;
    char line[256];

    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "VmData: %zu kB", &size) == 1)
            break;
    if (file)
        fclose(file);
    return size << 10;
}

static void set_limit(rlim_t bytes)
{
    struct rlimit limit;

    CHECK(getrlimit(RLIMIT_DATA, &limit) == 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
    berth__overcommit_see_limits();
}

static bool is_zero(const unsigned char *p, size_t size)
{
    return p[0] == 0 && memcmp(p, p + 1, size - 1) == 0;
}

/* Blocks of 1 MiB on average, three times as many as there is room for at home. */
static void fill_and_free(unsigned round, rlim_t limit)
{
    unsigned char *p[COUNT];
    size_t size[COUNT];
    struct berth_block_info info;

    for (unsigned i = 0; i < COUNT; i++) {
        size[i] = 512 * KIB + (i * 7 + round * 3) % 9 * 128 * KIB;
        p[i] = get(size[i], i % 2);
        CHECK(p[i] && (i % 2 == 0 || is_zero(p[i], size[i])));
        CHECK(berth__host_describe(p[i], &info) == 0 && strcmp(info.tier, "far") == 0);
        memset(p[i], (int)(i + 1), size[i]);
    }
    CHECK(data_size() <= limit);
    for (unsigned i = 0; i < COUNT; i++) {
        CHECK(p[i][0] == i + 1 && p[i][size[i] - 1] == i + 1);
        berth__host_free(p[i]);
    }
    CHECK(data_size() <= limit);
}

static void check_little_data(void)
{
    berth_tier_id tier = use_tier();
    uint64_t owed;
    unsigned char *p;
    rlim_t limit;

    berth__host_free(get(MIB, false));
    limit = data_size() + ROOM;
    set_limit(limit);
    for (unsigned round = 0; round < ROUNDS; round++) {
        fill_and_free(round, limit);
        CHECK(berth__tier_stats[tier].reserved <= 8 * MIB);
    }
    owed = berth__owed_bytes();
    CHECK(owed > 0);
    set_limit(RLIM_INFINITY);
    p = get(64 * KIB, true);
    CHECK(p && is_zero(p, 64 * KIB));
    CHECK(berth__owed_bytes() == 0 || berth__overcommit_data_limit() != SIZE_MAX);
    fill_and_free(ROUNDS, RLIM_INFINITY);
    CHECK(berth__owed_bytes() <= owed);
    CHECK(berth__tier_stats[BERTH_TIER_DRAM].reserved <= 8 * COUNT * MIB);
}

static void nothing_is_lost_where_there_may_be_little_data(void **state)
{
    (void)state;
    in_host_child(check_little_data);
}

static void limit_addresses(rlim_t bytes)
{
    struct rlimit limit;

    CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
}

/* The kernel answers instead of a signal. */
static bool can_be_read(const unsigned char *p)
{
    int ends[2];
    bool r;

    CHECK(pipe(ends) == 0);
    r = write(ends[1], p, 1) == 1;
    CHECK(r || errno == EFAULT);
    close(ends[0]);
    close(ends[1]);
    return r;
}

/* All blocks go while nothing can be mapped. */
static void free_all(unsigned char **p)
{
    struct berth_block_info info;
    int said[2], saved = dup(2);
    char byte;

    CHECK(pipe2(said, O_NONBLOCK) == 0 && dup2(said[1], 2) == 2);
    limit_addresses(BERTH_OS_PAGE);
    for (unsigned i = 0; i < COUNT; i++) {
        berth__host_free(p[i]);
        CHECK(!can_be_read(p[i]) && berth__host_describe(p[i], &info) < 0);
    }
    CHECK(dup2(saved, 2) == 2);
    CHECK(read(said[0], &byte, 1) == -1 && errno == EAGAIN);
}

static void check_few_addresses(void)
{
    berth_tier_id tier = use_tier();
    unsigned char *p[COUNT], *q;
    uint64_t home;

    for (unsigned i = 0; i < COUNT; i++) {
        p[i] = get(MIB, false);
        CHECK(p[i] && berth__is_movable(p[i]));
        memset(p[i], (int)i + 1, MIB);
    }
    home = berth__window_used(BERTH_HOME_MOVABLE);
    free_all(p);
    CHECK(berth__owed_bytes() >= COUNT * MIB);
    CHECK(berth__tier_stats[tier].reserved <= 8 * MIB);
    /* What cannot be had now takes nothing more away. */
    for (unsigned i = 0; i < COUNT; i++) {
        q = get(MIB, true);
        CHECK(!q || (!berth__is_movable(q) && is_zero(q, MIB)));
    }
    CHECK(berth__owed_bytes() < (COUNT + 2) * MIB);
    CHECK(!berth__owed_settle());
    limit_addresses(RLIM_INFINITY);
    CHECK(berth__owed_settle() && berth__owed_bytes() == 0);
    for (unsigned i = 0; i < COUNT; i++)
        CHECK(berth__mapping_check(p[i], MIB, false) == 0 && is_zero(p[i], MIB));
    fill_and_free(0, RLIM_INFINITY);
    CHECK(berth__owed_bytes() == 0);
    CHECK(berth__window_used(BERTH_HOME_MOVABLE) <= home + 128 * MIB);
}

static void nothing_is_lost_where_there_may_be_no_addresses(void **state)
{
    (void)state;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    print_message("a sanitizer needs more addresses than the test allows\n");
    skip();
#endif
    in_host_child(check_few_addresses);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_where_there_may_be_little_data),
        cmocka_unit_test(nothing_is_lost_where_there_may_be_no_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
