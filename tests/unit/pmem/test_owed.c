/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: where a program may have little data (RLIMIT_DATA), freed blocks that were elsewhere lose
 * neither their tier's memory nor their addresses, and take the program no further than its limit.
 * Method: more of them than the limit come and go, of changing sizes. Each test is a process.
 */
#include "pmem/owed.h"

#include "alloc/stats.h"
#include "pmem/host.h"
#include "pmem/overcommit.h"
#include "pmem/window.h"
#include "tests/unit/pmem/child_fixture.h"
#include "tests/unit/pmem/table_fixture.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_where_there_may_be_little_data),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
