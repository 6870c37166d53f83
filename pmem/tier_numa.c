/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/tier_numa.h"

#include "alloc/clock.h"
#include "alloc/log.h"
#include "alloc/quantity.h"
#include "alloc/sandbox.h"
#include "alloc/stats.h"
#include "pmem/arena.h"
#include "pmem/huge_advice.h"
#include "pmem/memory_limit.h"
#include "pmem/mempolicy.h"
#include "pmem/node_memory.h"
#include "pmem/overcommit.h"
#include "pmem/table.h"
#include "pmem/tier_huge.h"
#include "pmem/window.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* Pages are taken in such pieces, and what is left is looked at before each: others take, too. */
#define PIECE ((size_t)64 << 20)

/*
 * What stays free of a node: 16 MiB and 1/64 of it, for the kernel's own watermarks and for those
 * who take memory at the same moment; no more than 1 GiB.
 */
#define MARGIN_MIN ((uint64_t)16 << 20)
#define MARGIN_MAX ((uint64_t)1 << 30)
#define MARGIN_SHARE_SHIFT 6

/*
 * To read what a node has left costs some 20 us. After each reading, an eighth of it may be taken
 * within 50 ms without another.
 */
#define CREDIT_SHARE_SHIFT 3
#define CREDIT_MS 50

struct numa_tier {
    struct berth_node_choice choice;
    bool policy_works; /* else the choice is all there is */
    bool strict;       /* full nodes are seen at commit */
    bool first_only;
    uint64_t total;
    _Atomic uint64_t taking; /* bytes that threads are about to take */
    /* What may be taken without another reading, and until when. */
    _Atomic int64_t credit;
    _Atomic int64_t credit_end_ms;
};

static struct numa_tier numa_tiers[BERTH_TIER_MAX];

static uint64_t margin_of(const struct numa_tier *numa)
{
    uint64_t margin = MARGIN_MIN + (numa->total >> MARGIN_SHARE_SHIFT);

    return margin < MARGIN_MAX ? margin : MARGIN_MAX;
}

/* What the nodes have, or what the process may have, whichever is less. */
static void read_left(const struct numa_tier *numa, struct berth_node_memory *ret)
{
    uint64_t left = berth__memory_limit_left();

    berth__node_memory_read(&numa->choice.nodes, ret);
    if (left < ret->available)
        ret->available = left;
}

/* Whether the nodes have room for `size` bytes, which are counted in `taking` already. */
static bool has_room(struct numa_tier *numa, size_t size)
{
    uint64_t need = margin_of(numa) + atomic_load(&numa->taking);
    struct berth_node_memory memory;

    if (berth__clock_tick_ms() < atomic_load(&numa->credit_end_ms) &&
        atomic_fetch_sub(&numa->credit, (int64_t)size) >= (int64_t)size)
        return true;
    read_left(numa, &memory);
    if (memory.available < need) {
        atomic_store(&numa->credit_end_ms, 0);
        return false;
    }
    atomic_store(&numa->credit, (int64_t)((memory.available - need) >> CREDIT_SHARE_SHIFT));
    atomic_store(&numa->credit_end_ms, berth__clock_tick_ms() + CREDIT_MS);
    return true;
}

/* Before Linux 5.14: as a program would, which has not been given the pages yet. */
static void touch(char *p, size_t size)
{
    for (size_t at = 0; at < size; at += BERTH_OS_PAGE)
        *(volatile char *)(p + at) = 0;
}

static int take_piece(char *p, size_t size)
{
#ifdef MADV_POPULATE_WRITE
    if (madvise(p, size, MADV_POPULATE_WRITE) == 0)
        return 0;
    if (errno != EINVAL)
        return errno == EFAULT ? -ENOMEM : -errno;
#endif
    touch(p, size);
    return 0;
}

/* What is about to be taken is counted while it is not yet missing from what the nodes have left.
 */
static int take_one(struct numa_tier *numa, char *p, size_t size)
{
    int r;

    atomic_fetch_add(&numa->taking, size);
    r = has_room(numa, size) ? take_piece(p, size) : -ENOMEM;
    atomic_fetch_sub(&numa->taking, size);
    return r;
}

/* Of much too much, not even the first page is taken. */
static bool is_hopeless(const struct numa_tier *numa, size_t size)
{
    struct berth_node_memory memory;

    read_left(numa, &memory);
    return memory.available < margin_of(numa) + size;
}

static int take_pages(struct numa_tier *numa, char *p, size_t size)
{
    int r = size > PIECE && is_hopeless(numa, size) ? -ENOMEM : 0;

    for (size_t at = 0; r == 0 && at < size; at += PIECE)
        r = take_one(numa, p + at, size - at < PIECE ? size - at : PIECE);
    if (r < 0)
        madvise(p, size, MADV_DONTNEED);
    return r;
}

static void say_policy_fails(const struct berth_tier *tier, int error)
{
    static _Atomic int said;

    berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_TIER,
                    "tier %s grows no more: its memory cannot be kept to node %s: %s", tier->name,
                    tier->nodes, strerrordesc_np(-error));
}

/* Makes a range writable, with its pages on the tier's nodes. May change errno. */
static int open_range(const struct berth_tier *tier, void *address, size_t size)
{
    const struct numa_tier *numa = tier->state;
    bool first_only;
    int r = 0;

    if (numa->policy_works)
        r = berth__mempolicy_set(address, size, &numa->choice.nodes, tier->numa, &first_only);
    if (r < 0 && !numa->choice.all) {
        say_policy_fails(tier, r);
        return r;
    }
    if (mprotect(address, size, PROT_READ | PROT_WRITE) < 0)
        return -errno;
    madvise(address, size, MADV_DODUMP);
    if (tier->huge_pages != BERTH_HUGE_NEVER)
        berth__huge_advise(address, size);
    return 0;
}

/* Where whatever can be written is counted, a range is opened when it is needed. */
static int numa_commit(struct berth_tier *tier, void *address, size_t size)
{
    struct numa_tier *numa = tier->state;
    bool opens = berth__overcommit_counts_writable();
    int saved_errno = errno;
    int r = opens ? open_range(tier, address, size) : 0;

    if (r < 0)
        goto out;
    /* The window's addresses are nobody's memory yet: the kernel has counted none of it. */
    if (numa->strict)
        r = take_pages(numa, address, size);
    else if (!berth__overcommit_allows(size))
        r = -ENOMEM;
    if (r < 0 && opens)
        berth__window_clear(address, size);
out:
    errno = saved_errno;
    return r;
}

static int numa_decommit(struct berth_tier *tier, void *address, size_t size)
{
    int saved_errno = errno;
    int r = -1;

    if (berth__overcommit_counts_writable())
        r = berth__window_clear(address, size);
    if (r < 0)
        r = madvise(address, size, MADV_DONTNEED) < 0 ? -errno : 0;

    (void)tier;
    errno = saved_errno;
    return r;
}

static int numa_map(struct berth_tier *tier, void *address, size_t size)
{
    int saved_errno = errno;
    int r = berth__overcommit_counts_writable() ? 0 : open_range(tier, address, size);

    errno = saved_errno;
    return r;
}

static void numa_describe(const struct berth_tier *tier, char *text, size_t text_size)
{
    const struct numa_tier *numa = tier->state;
    struct berth_node_memory memory;
    char nodes[64], missing[64];
    char total[BERTH_QUANTITY_TEXT_MAX], left[BERTH_QUANTITY_TEXT_MAX];
    size_t used;

    berth__node_set_text(&numa->choice.nodes, nodes, sizeof(nodes));
    berth__node_set_text(&numa->choice.missing, missing, sizeof(missing));
    berth__node_memory_read(&numa->choice.nodes, &memory);
    used =
        (size_t)snprintf(text, text_size, "private memory of node %s, %s%s: %s, %s left", nodes,
                         tier->numa == BERTH_NUMA_BIND ? "bound" : "preferred",
                         numa->first_only ? " (the first alone: Linux 5.15 prefers several)" : "",
                         berth__quantity_format(memory.total, total),
                         berth__quantity_format(memory.available, left));
    if (missing[0] && used < text_size)
        used += (size_t)snprintf(text + used, text_size - used, "; not on %s, which is not there",
                                 missing);
    if (!numa->policy_works && used < text_size)
        used += (size_t)snprintf(text + used, text_size - used,
                                 "; the kernel keeps no policy, and there is no other node");
    if (tier->huge_pages != BERTH_HUGE_NEVER && used < text_size)
        snprintf(text + used, text_size - used, "; %s", berth__huge_advice_text());
}

static const struct berth_tier_ops numa_ops = {
    .map = numa_map,
    .commit = numa_commit,
    .decommit = numa_decommit,
    .describe = numa_describe,
};

/* Whether the kernel takes the policy, asked of an OS page of its own. */
static int try_policy(const struct berth_node_set *nodes, enum berth_numa_mode mode,
                      bool *ret_first_only)
{
    void *p = mmap(NULL, BERTH_OS_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int r;

    if (p == MAP_FAILED)
        return -errno;
    r = berth__mempolicy_set(p, BERTH_OS_PAGE, nodes, mode, ret_first_only);
    munmap(p, BERTH_OS_PAGE);
    return r;
}

static void say_missing(const struct berth_tier *tier, const struct numa_tier *numa)
{
    char nodes[64], missing[64];

    if (berth__node_set_text(&numa->choice.missing, missing, sizeof(missing)) == 0)
        return;
    berth__node_set_text(&numa->choice.nodes, nodes, sizeof(nodes));
    berth__log(berth__table_was_told(tier->name) ? BERTH_LOG_INFO : BERTH_LOG_WARNING,
               BERTH_TOPIC_TIER,
               "tier %s: node %s has no memory for this process; the tier is on node %s",
               tier->name, missing, nodes);
}

static int make_numa(struct berth_tier *tier, berth_tier_id id,
                     const struct berth_tier_config *config, char *why, size_t why_size)
{
    struct numa_tier *numa = &numa_tiers[id];
    struct berth_node_memory memory;
    char text[256];
    int r;

    r = berth__node_choose(config->nodes ? config->nodes : "", &numa->choice, why, why_size);
    if (r < 0)
        return r;
    r = try_policy(&numa->choice.nodes, config->numa, &numa->first_only);
    if (r < 0 && !numa->choice.all) {
        snprintf(why, why_size, "the kernel keeps no memory to node %.60s: %s", config->nodes,
                 strerrordesc_np(-r));
        return r;
    }
    numa->policy_works = r == 0;
    numa->strict = config->numa == BERTH_NUMA_BIND && !numa->choice.all;
    berth__node_memory_read(&numa->choice.nodes, &memory);
    numa->total = memory.total;
    say_missing(tier, numa);
    if (config->huge_pages == BERTH_HUGE_ALWAYS) {
        r = berth__tier_huge_make(tier, id, config, &numa->choice, why, why_size);
        if (r == 0)
            return 0;
        berth__tier_huge_say_without(tier, why);
    }
    r = berth__window_open(id, config->capacity ? config->capacity : memory.total);
    if (r < 0) {
        snprintf(why, why_size, "no addresses are left for it in this process");
        return r;
    }
    berth__arena_set_decay(id, config->decay_ms);
    tier->sides = BERTH_SIDE_HOST;
    tier->state = numa;
    tier->ops = &numa_ops;
    numa_describe(tier, text, sizeof(text));
    berth__log(BERTH_LOG_INFO, BERTH_TOPIC_TIER, "tier %s: %s", tier->name, text);
    return 0;
}

static bool is_strict(const struct berth_tier *tier)
{
    return tier->ops == &numa_ops && ((const struct numa_tier *)tier->state)->strict;
}

bool berth__tier_numa_keeps(const struct berth_tier *tier)
{
    return tier->ops != &numa_ops || ((const struct numa_tier *)tier->state)->policy_works;
}

int berth__tier_numa_expect(const struct berth_tier *tier, size_t size)
{
    struct numa_tier *numa = tier->state;

    if (!is_strict(tier))
        return 0;
    atomic_fetch_add(&numa->taking, size);
    if (has_room(numa, size))
        return 0;
    atomic_fetch_sub(&numa->taking, size);
    return -ENOMEM;
}

void berth__tier_numa_arrived(const struct berth_tier *tier, size_t size)
{
    if (is_strict(tier))
        atomic_fetch_sub(&((struct numa_tier *)tier->state)->taking, size);
}

int berth__tier_numa_take_rest(const struct berth_tier *tier, void *address, size_t size)
{
#ifdef MADV_POPULATE_WRITE
    /* Kernels before Linux 5.14 take them when they are touched. */
    if (is_strict(tier) && madvise(address, size, MADV_POPULATE_WRITE) < 0 && errno != EINVAL)
        return errno == EFAULT ? -ENOMEM : -errno;
#endif
    return 0;
}

/* The nodes still come first. */
static void let_go_elsewhere(const struct berth_tier *tier, berth_tier_id id)
{
    const struct numa_tier *numa = tier->state;
    bool first_only;

    if (berth__window_used(id) > 0)
        berth__mempolicy_set((void *)berth__window_base(id), berth__window_used(id),
                             &numa->choice.nodes, BERTH_NUMA_PREFERRED, &first_only);
}

/* In a sandbox neither is the node asked for its room, nor where pages are to lie changed. */
void berth__tier_numa_before_fork(void)
{
    static _Atomic int said;

    if (berth__sandbox_is_on())
        return;
    for (unsigned i = 0; i < berth__tier_count(); i++) {
        const struct berth_tier *tier = berth__tier((berth_tier_id)i);
        uint64_t reserved =
            atomic_load_explicit(&berth__tier_stats[i].reserved, memory_order_relaxed);
        struct berth_node_memory memory;

        if (!is_strict(tier) || reserved == 0)
            continue;
        berth__node_memory_read(&((struct numa_tier *)tier->state)->choice.nodes, &memory);
        if (memory.available >= margin_of(tier->state) + reserved)
            continue;
        let_go_elsewhere(tier, (berth_tier_id)i);
        berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_FORK,
                        "tier %s: node %s has no room for what a child copies; such pages lie "
                        "elsewhere",
                        tier->name, tier->nodes);
    }
}

void berth__tier_numa_in_child(void)
{
    if (berth__sandbox_is_on())
        return;
    for (unsigned i = 0; i < berth__tier_count(); i++)
        if (is_strict(berth__tier((berth_tier_id)i)))
            let_go_elsewhere(berth__tier((berth_tier_id)i), (berth_tier_id)i);
}

void berth__tier_numa_register(void)
{
    berth__tier_set_maker(BERTH_KIND_NUMA, make_numa);
}
