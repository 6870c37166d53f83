/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/host.h"

#include "alloc/birth.h"
#include "alloc/describe.h"
#include "alloc/log.h"
#include "alloc/options.h"
#include "alloc/site_account.h"
#include "alloc/stats.h"
#include "alloc/thread.h"
#include "alloc/tier_ops.h"
#include "pmem/arena.h"
#include "pmem/gate.h"
#include "pmem/glance.h"
#include "pmem/host_class.h"
#include "pmem/jemalloc.h"
#include "pmem/movable.h"
#include "pmem/move_job.h"
#include "pmem/overcommit.h"
#include "pmem/persist.h"
#include "pmem/record.h"
#include "pmem/relief.h"
#include "pmem/table.h"
#include "pmem/tier_dax.h"
#include "pmem/tier_dram.h"
#include "pmem/tier_file.h"
#include "pmem/tier_numa.h"
#include "pmem/window.h"

#include <errno.h>
#include <string.h>

/* jemalloc's first size class that has pages of its own: 16 KiB. */
#define SMALL_HELD_MAX ((size_t)16 << 10)

static void fill_totals(struct berth_host_totals *ret);

/*
 * The allocator registers its fork handlers when it is first used, which is to be before the
 * table's are. Not by malloc() and free(): those may be the program's own, which are not always of
 * use before its main (GCL's free() is not).
 */
static void use_allocator(void)
{
    berth_je_free(berth_je_malloc(1));
}

void berth__host_register(void)
{
    use_allocator();
    berth__overcommit_see_limits();
    berth__arena_register();
    berth__tier_dram_register();
    berth__tier_file_register();
    berth__tier_dax_register();
    berth__tier_numa_register();
    berth__move_job_register();
    berth__persist_register();
    berth__host_totals = fill_totals;
    berth__host_tend = berth__arena_tend;
    berth__table_plain = berth__plain_renew;
    berth__describe_host = berth__host_describe;
    berth__detail_host = berth__host_detail;
}

static size_t at_least_one(size_t size)
{
    return size ? size : 1;
}

static size_t plain_size(size_t size)
{
    return size > BERTH_BLOCK_MIN ? size : BERTH_BLOCK_MIN;
}

static int plain_flags(const struct berth_host_request *request)
{
    int flags = request->zero ? MALLOCX_ZERO : 0;

    if (request->alignment > 1)
        flags |= MALLOCX_LG_ALIGN(__builtin_ctzl(request->alignment));
    return flags;
}

void *berth__host_plain(const struct berth_host_request *request)
{
    return berth_je_mallocx(plain_size(request->size), plain_flags(request));
}

/* A block of some MiB comes from an arena that has nothing else: the thread's own has what it had
 * mapped before there was a limit. */
void *berth__host_plain_again(const struct berth_host_request *request)
{
    unsigned arena;
    size_t size = sizeof(arena);
    void *p;

    if (!berth__relief_try(request->size))
        return NULL;
    p = berth__host_plain(request);
    if (p || berth_je_mallctl("thread.arena", &arena, &size, NULL, 0) != 0)
        return p;
    return berth_je_mallocx(plain_size(request->size),
                            plain_flags(request) | MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE);
}

static struct berth_site_block site_block(berth_tier_id tier, const struct berth_record *record,
                                          size_t held)
{
    return (struct berth_site_block){record->site,      tier, record->tag,
                                     record->requested, held, record->sample};
}

/* Enters the block in its site's account, if that is known. */
static void count_at_site(berth_tier_id tier, struct berth_record *record, size_t held)
{
    const struct berth_site_block block = site_block(tier, record, held);

    if (record->site != 0 && !berth__site_account_alloc(&block))
        record->site = 0;
}

static void count_off_site(berth_tier_id tier, const struct berth_record *record, size_t held)
{
    const struct berth_site_block block = site_block(tier, record, held);

    if (record->site != 0)
        berth__site_account_free(&block, berth__birth_now() - record->birth);
}

static void count_free(berth_tier_id tier, const struct berth_record *record, size_t held)
{
    berth__stats_free(tier, record->tag, record->requested, held);
    count_off_site(tier, record, held);
    berth__host_class_died(record);
}

static void count_resize(berth_tier_id tier, const struct berth_record *old, size_t old_held,
                         size_t requested, size_t held)
{
    const struct berth_site_block block = site_block(tier, old, old_held);

    berth__stats_resize(tier, old->tag, old->requested, old_held, requested, held);
    if (old->site != 0)
        berth__site_account_resize(&block, requested, held);
    berth__host_class_resized(old, requested, held);
}

static struct berth_record new_record(const struct berth_host_request *request,
                                      const struct berth_decision *decision)
{
    return (struct berth_record){
        .requested = request->size,
        .site = request->site,
        .rule = decision->rule,
        .version = decision->version,
        .tag = decision->tag,
        .tagged_by = decision->tagged_by,
        .birth = berth__birth_now(),
    };
}

static void record_block(berth_tier_id tier, void *p, const struct berth_host_request *request,
                         const struct berth_decision *decision)
{
    struct berth_record record = new_record(request, decision);
    size_t held = berth__arena_held(p);

    count_at_site(tier, &record, held);
    berth__host_class_born(request, p, held, &record);
    if (berth__record_set(p, held, &record) == 0) {
        berth__stats_alloc(tier, record.tag, record.requested, held);
        return;
    }
    berth__host_class_died(&record);
    count_off_site(tier, &record, held);
}

static void record_sample(void *p, const struct berth_host_request *request,
                          const struct berth_decision *decision)
{
    struct berth_record record = new_record(request, decision);
    size_t held = berth__arena_held(p);

    record.site = request->sample_site;
    record.sample = request->sample;
    count_at_site(BERTH_TIER_DRAM, &record, held);
    if (berth__record_set(p, held, &record) == 0)
        berth__stats_alloc(BERTH_TIER_DRAM, record.tag, record.requested, held);
    else
        count_off_site(BERTH_TIER_DRAM, &record, held);
}

static void *alloc_in(berth_tier_id tier, const struct berth_host_request *request,
                      const struct berth_decision *decision)
{
    void *p = NULL;

    if (BERTH_UNLIKELY(decision->movable))
        p = berth__movable_alloc(tier, request->size, request->alignment, request->zero);
    if (BERTH_LIKELY(!p))
        p = berth__arena_alloc(tier, request->size, request->alignment, request->zero);
    /*
     * jemalloc serves dying threads, and calls that it causes itself (its background threads'
     * pthread_create), from its first arena, whatever arena is named: such a block is as plain as
     * any, and counted in total only.
     */
    if (p && BERTH_LIKELY(berth__gate_owns(p)))
        record_block(tier, p, request, decision);
    return p;
}

static bool is_placed(const struct berth_decision *decision)
{
    return decision->rule != BERTH_RULE_NONE && decision->place_count > 0;
}

/* The plain path, at the expense of what is only reserved if it must be. */
static void *alloc_last(const struct berth_host_request *request)
{
    void *p = berth__host_plain(request);

    return p || !berth__window_shed(request->size) ? p : berth__host_plain(request);
}

/* Once for each tier: what was to lie in it goes on, for no reason that the policy knows of. */
static __attribute__((noinline)) void tell_refusal(berth_tier_id id, int error)
{
    const struct berth_tier *tier = berth__tier(id);
    int saved_errno = errno;

    berth__log_once(&berth__tier_stats[id].refusal_told,
                    berth__table_was_told(tier->name) ? BERTH_LOG_INFO : BERTH_LOG_WARNING,
                    BERTH_TOPIC_TIER,
                    "tier %s: %s gave no more space: %s; blocks go to the next place while that is "
                    "so",
                    tier->name, tier->path, strerrordesc_np(error));
    errno = saved_errno;
}

static void count_spill(const struct berth_decision *decision, berth_tier_id tier, size_t size)
{
    int error = atomic_load_explicit(&berth__tier_stats[tier].last_refusal, memory_order_relaxed);

    berth__table_count_spill(decision, tier, size);
    berth__stats_spill(tier, size);
    if (BERTH_UNLIKELY(error != 0))
        tell_refusal(tier, error);
}

/* The places in order, then dram, then the plain path. `skip` was found full already. */
static void *alloc_decided(const struct berth_host_request *request,
                           const struct berth_decision *decision, berth_tier_id skip)
{
    bool dram_tried = false;
    void *p;

    for (unsigned i = 0; i < decision->place_count; i++) {
        berth_tier_id tier = decision->places[i];

        dram_tried |= tier == BERTH_TIER_DRAM;
        p = tier == skip ? NULL : alloc_in(tier, request, decision);
        if (p)
            return p;
        count_spill(decision, tier, request->size);
    }
    p = dram_tried ? NULL : alloc_in(BERTH_TIER_DRAM, request, decision);
    return p ? p : alloc_last(request);
}

/*
 * A small block that no rule speaks of: jemalloc's, or a sample, which lies where any recorded
 * block of ordinary memory does.
 */
static void *alloc_small(const struct berth_host_request *request,
                         const struct berth_decision *decision)
{
    void *p = NULL;

    if (BERTH_UNLIKELY(request->sample != 0))
        p = berth__arena_alloc_apart(BERTH_TIER_DRAM, request->size, request->alignment,
                                     request->zero);
    if (p && berth__gate_owns(p))
        record_sample(p, request, decision);
    return p ? p : berth__host_plain(request);
}

static void decide(const struct berth_host_request *request, enum berth_tag tag,
                   struct berth_decision *ret)
{
    struct berth_request question = {
        .side = BERTH_SIDE_HOST,
        .size = request->size,
        .tag = tag,
        .site = request->site,
        .sequence = berth__thread.sequence,
    };

    /* Smaller blocks are looked at only where a rule wants them; they do not count. */
    if (request->size >= berth__option(BERTH_OPTION_RECORD_THRESHOLD))
        berth__thread.sequence++;
    berth__host_class_guess(request, &question);
    berth__table_decide(&question, ret);
}

/* Whether the block is none that is looked at one by one: small, and no rule speaks of it. */
static bool is_plain(const struct berth_host_request *request,
                     const struct berth_decision *decision)
{
    return decision->rule == BERTH_RULE_NONE &&
           request->size < berth__option(BERTH_OPTION_RECORD_THRESHOLD);
}

void *berth__host_alloc(const struct berth_host_request *request, bool *ret_placed)
{
    struct berth_decision decision;
    void *p;

    decide(request, berth__host_class_told(), &decision);
    *ret_placed = is_placed(&decision);
    if (is_plain(request, &decision))
        return alloc_small(request, &decision);
    p = alloc_decided(request, &decision, BERTH_TIER_NONE);
    berth__host_class_tend();
    return p;
}

/* Of a block that the caller owns. */
static berth_tier_id tier_of(const void *p)
{
    return BERTH_UNLIKELY(berth__is_movable(p)) ? berth__residence_tier(p) : berth__window_tier(p);
}

static void free_movable(void *p)
{
    size_t held = berth__arena_held(p);
    berth_tier_id tier = berth__movable_hold(p);
    struct berth_record record;

    if (berth__record_clear(p, held, &record))
        count_free(tier, &record, held);
    berth__movable_free(p, held);
}

static void free_block(void *p)
{
    berth_tier_id tier = berth__window_tier(p);
    struct berth_record record;
    bool is_recorded;
    size_t held;

    if (BERTH_UNLIKELY(berth__is_movable(p))) {
        free_movable(p);
        return;
    }
    held = berth__arena_held(p);
    is_recorded = berth__record_clear(p, held, &record);
    if (is_recorded)
        count_free(tier, &record, held);
    if (is_recorded && record.sample != 0)
        berth__arena_free_apart(p, held);
    else
        berth__arena_free(tier, p, held);
}

void berth__host_free(void *p)
{
    if (berth__persist_owns(p))
        berth__persist_free(p);
    else
        free_block(p);
}

size_t berth__host_usable(const void *p)
{
    if (berth__gate_owns(p) && berth__persist_owns(p))
        return berth__persist_size(p);
    return berth_je_malloc_usable_size((void *)p);
}

/*
 * Changes the block's size where it lies. Its record and the account follow; the record is taken
 * away meanwhile, so that nobody gives the block another tag that the account does not know of.
 */
static bool resize_here(berth_tier_id tier, void *p, size_t old_held, size_t size)
{
    size_t held = berth__arena_resize(p, size);
    struct berth_record record, old;

    if (held < size)
        return false;
    if (!berth__record_clear(p, old_held, &old))
        return true;
    record = old;
    record.requested = size;
    if (berth__record_set(p, held, &record) == 0)
        count_resize(tier, &old, old_held, size, held);
    else
        count_free(tier, &old, old_held);
    return true;
}

/* The same; a block that may move is held meanwhile, and only resized while it is at home. */
static bool resize_in_place(void *p, size_t old_held, size_t size)
{
    berth_tier_id tier;
    bool done;

    if (BERTH_LIKELY(!berth__is_movable(p)))
        return resize_here(berth__window_tier(p), p, old_held, size);
    tier = berth__movable_hold(p);
    done = berth__movable_can_resize(p) && resize_here(tier, p, old_held, size);
    berth__movable_resized(p, berth__arena_held(p));
    berth__movable_let_go(p);
    return done;
}

/* Only large blocks shrink where they lie; a small one moves rather than waste half of itself. */
static bool fits_in_place(size_t held, size_t size)
{
    return held >= SMALL_HELD_MAX || size > held / 2;
}

static void *move_block(void *p, size_t old_size, void *to, size_t size)
{
    memcpy(to, p, old_size < size ? old_size : size);
    if (berth__gate_owns(p))
        berth__host_free(p);
    else
        berth_je_free(p);
    return to;
}

/*
 * Where a block of a window is to live at its new size: where it is, unless no rule put it there
 * and a rule speaks of it now.
 */
static bool stays(berth_tier_id tier, const struct berth_record *record,
                  const struct berth_decision *decision)
{
    return record->rule != BERTH_RULE_NONE || decision->place_count == 0 ||
           decision->places[0] == tier;
}

/* Below the threshold a block of dram or of a rule's tier goes back to the plain path. */
static void *realloc_below(void *p, const struct berth_host_request *request,
                           const struct berth_decision *decision)
{
    size_t held = berth__arena_held(p);
    void *to = alloc_small(request, decision);

    return to ? move_block(p, held, to, request->size) : NULL;
}

/* What was a sample is one no more, unless this call of realloc() is one, too. */
static void *realloc_sample(void *p, const struct berth_host_request *request, bool *ret_placed)
{
    struct berth_decision decision;
    void *to;

    decide(request, berth__host_class_told(), &decision);
    if (is_plain(request, &decision))
        return realloc_below(p, request, &decision);
    *ret_placed = is_placed(&decision);
    to = alloc_decided(request, &decision, BERTH_TIER_NONE);
    return to ? move_block(p, berth__arena_held(p), to, request->size) : NULL;
}

static void *realloc_in_window(void *p, const struct berth_host_request *request, bool *ret_placed)
{
    berth_tier_id tier = tier_of(p);
    size_t held = berth__arena_held(p);
    struct berth_record record = {.rule = BERTH_RULE_NONE, .tag = BERTH_TAG_UNTAGGED};
    bool recorded = berth__record_get(p, held, &record);
    struct berth_decision decision;
    void *to = NULL;
    bool stay;

    if (record.sample != 0)
        return realloc_sample(p, request, ret_placed);
    decide(request, berth__thread.tag_depth ? berth__tag_current() : record.tag, &decision);
    if (!berth__thread.tag_depth && record.tag != BERTH_TAG_UNTAGGED)
        decision.tagged_by = record.tagged_by;
    stay = stays(tier, &record, &decision);
    *ret_placed = !stay && is_placed(&decision);
    if (stay) {
        if (recorded && fits_in_place(held, request->size) &&
            resize_in_place(p, held, request->size))
            return p;
        decision.movable = berth__is_movable(p);
        decision.rule = record.rule;
        decision.version = record.version;
        if (!berth__thread.tag_depth) {
            decision.tag = record.tag;
            decision.tagged_by = record.tagged_by;
        }
        to = alloc_in(tier, request, &decision);
    }
    if (!to)
        to = alloc_decided(request, &decision, stay ? tier : BERTH_TIER_NONE);
    return to ? move_block(p, held, to, request->size) : NULL;
}

/* A block of a name stays in its tier, where others find it; the program goes on with a copy. */
static void *realloc_persistent(void *p, const struct berth_host_request *request, bool *ret_placed)
{
    void *to = berth__host_alloc(request, ret_placed);

    return to ? move_block(p, berth__persist_size(p), to, request->size) : NULL;
}

void *berth__host_realloc(void *p, const struct berth_host_request *request, bool *ret_placed)
{
    size_t threshold = atomic_load_explicit(&berth__gate.threshold, memory_order_relaxed);
    struct berth_decision decision;
    void *to;

    *ret_placed = false;
    if (berth__gate_owns(p) && berth__persist_owns(p))
        return realloc_persistent(p, request, ret_placed);
    if (berth__gate_owns(p) && request->size >= threshold)
        return realloc_in_window(p, request, ret_placed);
    decide(request, berth__host_class_told(), &decision);
    if (berth__gate_owns(p))
        return realloc_below(p, request, &decision);
    if (is_plain(request, &decision) && request->sample == 0)
        return berth_je_rallocx(p, plain_size(request->size), 0);
    if (is_plain(request, &decision)) {
        to = alloc_small(request, &decision);
    } else {
        *ret_placed = is_placed(&decision);
        to = alloc_decided(request, &decision, BERTH_TIER_NONE);
        berth__host_class_tend();
    }
    return to ? move_block(p, berth_je_malloc_usable_size(p), to, request->size) : NULL;
}

static size_t resize_as_asked(void *p, size_t size, size_t extra, int flags)
{
    berth_tier_id tier = tier_of(p);
    size_t old_held = berth__arena_held(p);
    size_t held = berth_je_xallocx(p, at_least_one(size), extra, flags);
    struct berth_record record, old;

    if (held == old_held || !berth__record_clear(p, old_held, &old))
        return held;
    record = old;
    record.requested = size > held ? held : size;
    if (berth__record_set(p, held, &record) == 0)
        count_resize(tier, &old, old_held, record.requested, held);
    else
        count_free(tier, &old, old_held);
    return held;
}

size_t berth__host_resize(void *p, size_t size, size_t extra, int flags)
{
    size_t held;

    if (berth__persist_owns(p))
        return berth__persist_size(p);
    if (BERTH_LIKELY(!berth__is_movable(p)))
        return resize_as_asked(p, size, extra, flags);
    berth__movable_hold(p);
    held = berth__movable_can_resize(p) ? resize_as_asked(p, size, extra, flags)
                                        : berth__arena_held(p);
    berth__movable_resized(p, held);
    berth__movable_let_go(p);
    return held;
}

/* The newest version of a table that has the low bits of a record's. */
static uint64_t whole_version(const struct berth_record *record)
{
    uint64_t version = berth__table_version();

    return version - ((version - record->version) & BERTH_RECORD_VERSION_MASK);
}

int berth__host_detail(const void *p, struct berth_block_detail *ret)
{
    struct berth_record record;
    const void *base;
    size_t held;

    if (berth__gate_owns(p) && berth__persist_owns(p))
        return berth__persist_detail(p, ret);
    if (!berth__gate_owns(p) || !berth__window_carved(p) || !berth__record_find(p, &base, &record))
        return -ENOENT;
    held = berth__arena_held(base);
    if ((const char *)p >= (const char *)base + held)
        return -ENOENT;
    *ret = (struct berth_block_detail){
        .base = (uintptr_t)base,
        .requested = record.requested,
        .held = held,
        .side = BERTH_SIDE_HOST,
        .tier = tier_of(base),
        .tag = record.tag,
        .tagged_by = record.tagged_by,
        .site = record.site,
        .rule = record.rule,
        .version = whole_version(&record),
        .sample = record.sample,
        .age_ns = berth__birth_now() - record.birth,
        .offset = (uintptr_t)base - berth__window_base(berth__window_home(base)),
        .class_number = (uint32_t)record.state,
    };
    return 0;
}

int berth__host_describe(const void *p, struct berth_block_info *ret)
{
    struct berth_block_detail detail;
    int r = berth__host_detail(p, &detail);

    if (r < 0)
        return r;
    berth__table_describe(&detail, ret);
    return 0;
}

static uint64_t read_total(const char *name)
{
    size_t value = 0;
    size_t size = sizeof(value);

    berth_je_mallctl(name, &value, &size, NULL, 0);
    return value;
}

static uint64_t minus(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* Of a tier's own arenas; ordinary memory is also behind the addresses of blocks that may move. */
static void read_arenas(berth_tier_id tier, struct berth_arena_totals *ret)
{
    struct berth_arena_totals more;

    berth__arena_totals((berth_home_id)tier, ret);
    if (tier != BERTH_TIER_DRAM || !berth__residency_is_open())
        return;
    berth__arena_totals(BERTH_HOME_MOVABLE, &more);
    ret->allocated += more.allocated;
    ret->resident += more.resident;
    ret->dirty += more.dirty;
}

static void fill_totals(struct berth_host_totals *ret)
{
    unsigned tiers = berth__tier_count();
    uint64_t epoch = 1;
    uint64_t allocated, resident;

    berth__thread.inside++;
    berth_je_mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));
    allocated = read_total("stats.allocated");
    resident = read_total("stats.resident");
    ret->metadata = read_total("stats.metadata");
    for (unsigned id = 0; id < tiers; id++) {
        struct berth_arena_totals totals;

        if (!berth__window_base((berth_tier_id)id))
            continue;
        read_arenas((berth_tier_id)id, &totals);
        allocated = minus(allocated, totals.allocated);
        resident = minus(resident, totals.resident);
        atomic_store_explicit(&berth__tier_stats[id].cached, totals.dirty, memory_order_relaxed);
    }
    ret->small_held = allocated;
    ret->small_resident = minus(resident, ret->metadata);
    berth__thread.inside--;
}
