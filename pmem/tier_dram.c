/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/tier_dram.h"

#include "pmem/arena.h"
#include "pmem/huge_advice.h"
#include "pmem/overcommit.h"
#include "pmem/tier_huge.h"
#include "pmem/window.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * One growth step becomes readable and writable at once, so that neighbours stay one kernel
 * mapping however they are committed and decommitted. Its blocks belong in a core dump.
 */
static int dram_map(struct berth_tier *tier, void *address, size_t size)
{
    if (!berth__overcommit_allows(size))
        return -ENOMEM;
    if (mprotect(address, size, PROT_READ | PROT_WRITE) < 0)
        return -errno;
    madvise(address, size, MADV_DODUMP);
    if (tier->huge_pages != BERTH_HUGE_NEVER)
        berth__huge_advise(address, size);
    return 0;
}

static int dram_commit(struct berth_tier *tier, void *address, size_t size)
{
    (void)tier;
    (void)address;
    (void)size;
    return 0;
}

static int dram_decommit(struct berth_tier *tier, void *address, size_t size)
{
    int saved_errno = errno;
    int r = 0;

    (void)tier;
    if (madvise(address, size, MADV_DONTNEED) < 0) {
        r = -errno;
        errno = saved_errno;
    }
    return r;
}

static void dram_describe(const struct berth_tier *tier, char *text, size_t text_size)
{
    snprintf(text, text_size, "ordinary memory%s%s",
             tier->huge_pages == BERTH_HUGE_NEVER ? "" : "; ",
             tier->huge_pages == BERTH_HUGE_NEVER ? "" : berth__huge_advice_text());
}

static const struct berth_tier_ops dram_ops = {
    .map = dram_map,
    .commit = dram_commit,
    .decommit = dram_decommit,
    .describe = dram_describe,
};

static int make_dram(struct berth_tier *tier, berth_tier_id id,
                     const struct berth_tier_config *config, char *why, size_t why_size)
{
    uint64_t want = config->capacity;
    int r;

    if (config->huge_pages == BERTH_HUGE_ALWAYS) {
        if (berth__tier_huge_make(tier, id, config, NULL, why, why_size) == 0)
            return 0;
        berth__tier_huge_say_without(tier, why);
    }
    if (want == 0)
        want = (uint64_t)sysconf(_SC_PHYS_PAGES) << BERTH_OS_PAGE_SHIFT;
    r = berth__window_open(id, want);
    if (r < 0) {
        snprintf(why, why_size, "no addresses are left for it in this process");
        return r;
    }
    berth__arena_set_decay(id, config->decay_ms);
    tier->sides = BERTH_SIDE_HOST;
    tier->ops = &dram_ops;
    return 0;
}

void berth__tier_dram_register(void)
{
    berth__tier(BERTH_TIER_DRAM)->ops = &dram_ops;
    berth__tier_set_maker(BERTH_KIND_DRAM, make_dram);
}
