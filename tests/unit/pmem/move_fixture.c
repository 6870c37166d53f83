/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/pmem/move_fixture.h"

#include "alloc/stats.h"
#include "alloc/tier_ops.h"
#include "pmem/host.h"
#include "pmem/uffd.h"
#include "tests/unit/pmem/table_fixture.h"

#include <linux/magic.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cmocka.h>

berth_tier_id tier_shm, tier_disk, tier_small;
const char *fixture_live_why; /* why nothing can move live here, or NULL */
bool fixture_sees_pins;

bool fixture_is_tmpfs(const char *path)
{
    struct statfs fs;

    return statfs(path, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

/* A directory that is on a disk, or NULL. */
const char *fixture_disk(void)
{
    static const char *const candidates[] = {"/var/tmp", "/tmp", "."};

    for (int i = 0; i < 3; i++)
        if (access(candidates[i], W_OK) == 0 && !fixture_is_tmpfs(candidates[i]))
            return candidates[i];
    return NULL;
}

void fixture_policy(const char *first)
{
    struct berth_table_draft *draft = berth__draft_new();

    draft_tier(draft, TIER(.name = "shm", .kind = BERTH_KIND_FILE, .path = "/dev/shm"));
    draft_tier(draft, TIER(.name = "small", .kind = BERTH_KIND_FILE, .path = "/dev/shm",
                           .capacity = 1 * MIB));
    if (fixture_disk())
        draft_tier(draft, TIER(.name = "disk", .kind = BERTH_KIND_FILE, .path = fixture_disk(),
                               .decay_ms = 10000));
    draft_rule(draft, RULE(.name = "rule", .side = BERTH_SIDE_HOST, .movable = true), first, NULL);
    draft_install(draft);
}

int fixture_start(void **state)
{
    static char why[BERTH_UFFD_WHY_MAX];

    (void)state;
    berth__host_register();
    fixture_policy("dram");
    tier_shm = berth__tier_find("shm");
    tier_small = berth__tier_find("small");
    tier_disk = berth__tier_find("disk");
    if (berth__move_door->probe(&fixture_sees_pins, why, sizeof(why)) < 0)
        fixture_live_why = why;
    else if (!fixture_is_tmpfs("/dev/shm"))
        fixture_live_why = "/dev/shm is no tmpfs";
    if (fixture_live_why)
        print_message("nothing moves live here: %s\n", fixture_live_why);
    return 0;
}

unsigned char *fixture_get(size_t size)
{
    struct berth_host_request request = {.size = size, .alignment = 1};
    bool placed;

    return berth__host_alloc(&request, &placed);
}

unsigned char *fixture_change(void *p, size_t size)
{
    struct berth_host_request request = {.size = size, .alignment = 1};
    bool placed;

    return berth__host_realloc(p, &request, &placed);
}

/* Millions of bytes, none of which another thread looks at. */
#define UNTRACED __attribute__((no_sanitize("thread")))

UNTRACED void fixture_fill(unsigned char *p, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        p[i] = (unsigned char)(i * 7 + i / 4096 + seed);
}

UNTRACED bool fixture_is_filled(const unsigned char *p, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        if (p[i] != (unsigned char)(i * 7 + i / 4096 + seed))
            return false;
    return true;
}

enum berth_move_result fixture_move(void *p, berth_tier_id to, bool quiet)
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

const char *fixture_tier_of(const void *p)
{
    struct berth_block_info info;

    assert_int_equal(berth__host_describe(p, &info), 0);
    return info.tier;
}

uint64_t fixture_held(berth_tier_id tier)
{
    struct berth_cell_reading reading;

    berth__stats_read(tier, BERTH_TAG_UNTAGGED, &reading);
    return reading.held;
}

uint64_t fixture_reserved(berth_tier_id tier)
{
    return atomic_load(&berth__tier_stats[tier].reserved);
}

/* Whether the page at `p` is that of a file mapping. */
bool fixture_is_mapped_shared(const void *p)
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

void fixture_needs_live(void)
{
    if (fixture_live_why)
        skip();
}
