/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/account.h"

#include "alloc/pool.h"
#include "alloc/pool_lazy.h"
#include "alloc/pool_stream.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"
#include "ipc/json.h"

#include <errno.h>
#include <string.h>

struct tier_reading {
    struct berth_cell_reading cell[BERTH_TAG_COUNT], sum;
    uint64_t reserved, cached, overhead;
    uint64_t spilled_blocks, spilled_bytes, refusals, backend_allocs, backend_frees;
    int last_refusal;
};

static uint64_t load(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void add_cell(struct berth_cell_reading *sum, const struct berth_cell_reading *cell)
{
    sum->requested += cell->requested;
    sum->held += cell->held;
    sum->blocks += cell->blocks;
    sum->peak_held += cell->peak_held;
    sum->allocs += cell->allocs;
    sum->frees += cell->frees;
}

/*
 * The counters are read one after the other while the program goes on, and `cached` is what
 * jemalloc last said: of two that contradict each other, what was reserved is right. The tier has
 * that much, and never more than its capacity.
 */
static void make_consistent(struct tier_reading *reading)
{
    if (reading->reserved < reading->sum.held)
        reading->reserved = reading->sum.held;
    if (reading->cached > reading->reserved - reading->sum.held)
        reading->cached = reading->reserved - reading->sum.held;
    reading->overhead = reading->reserved - reading->sum.held - reading->cached;
}

static void read_tier(berth_tier_id id, struct tier_reading *ret)
{
    const struct berth_tier_stats *stats = &berth__tier_stats[id];

    *ret = (struct tier_reading){0};
    for (unsigned tag = 0; tag < BERTH_TAG_COUNT; tag++) {
        berth__stats_read(id, (enum berth_tag)tag, &ret->cell[tag]);
        add_cell(&ret->sum, &ret->cell[tag]);
    }
    ret->cached = berth__stats_cached(id);
    ret->reserved = load(&stats->reserved);
    make_consistent(ret);
    ret->spilled_blocks = load(&stats->spilled_blocks);
    ret->spilled_bytes = load(&stats->spilled_bytes);
    ret->refusals = load(&stats->refusals);
    ret->last_refusal = atomic_load_explicit(&stats->last_refusal, memory_order_relaxed);
    ret->backend_allocs = load(&stats->backend_allocs);
    ret->backend_frees = load(&stats->backend_frees);
}

static json_int_t number(uint64_t value)
{
    return (json_int_t)value;
}

static json_t *cell_json(unsigned tag, const struct berth_cell_reading *cell)
{
    return json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:I}", "tag", berth__tag_name(tag), "requested",
                     number(cell->requested), "held", number(cell->held), "blocks",
                     number(cell->blocks), "peak", number(cell->peak_held), "allocs",
                     number(cell->allocs), "frees", number(cell->frees));
}

static json_t *tags_json(const struct tier_reading *reading)
{
    json_t *array = json_array();

    for (unsigned tag = 0; array && tag < BERTH_TAG_COUNT; tag++) {
        const struct berth_cell_reading *cell = &reading->cell[tag];

        if (cell->allocs > 0 && json_array_append_new(array, cell_json(tag, cell)) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *refusal_json(int error)
{
    const char *text = error ? strerrordesc_np(error) : NULL;

    return text ? json_string(text) : json_null();
}

static json_t *tier_json(const struct berth_tier *tier, const struct tier_reading *reading)
{
    uint64_t capacity = atomic_load_explicit(&tier->capacity, memory_order_relaxed);
    char description[256] = "";

    if (tier->ops && tier->ops->describe)
        tier->ops->describe(tier, description, sizeof(description));
    return json_pack("{s:s,s:s,s:o,s:o,s:o,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:I,s:I,"
                     "s:o}",
                     "name", tier->name, "kind", berth__kind_name(tier->kind), "path",
                     berth__json_text(tier->path), "description", berth__json_text(description),
                     "capacity", capacity ? json_integer(number(capacity)) : json_null(),
                     "reserved", number(reading->reserved), "cached", number(reading->cached),
                     "overhead", number(reading->overhead), "requested",
                     number(reading->sum.requested), "held", number(reading->sum.held), "blocks",
                     number(reading->sum.blocks), "allocs", number(reading->sum.allocs), "frees",
                     number(reading->sum.frees), "spilled_blocks", number(reading->spilled_blocks),
                     "spilled_bytes", number(reading->spilled_bytes), "refusals",
                     number(reading->refusals), "last_refusal", refusal_json(reading->last_refusal),
                     "backend_allocs", number(reading->backend_allocs), "backend_frees",
                     number(reading->backend_frees), "tags", tags_json(reading));
}

/* Host memory that is not accounted block by block; null where the malloc side is not loaded. */
static json_t *host_json(uint64_t *ret_small)
{
    struct berth_host_totals totals = {0};

    *ret_small = 0;
    if (!berth__host_totals)
        return json_null();
    berth__host_totals(&totals);
    *ret_small = totals.small_held;
    return json_pack("{s:I,s:I,s:I}", "small_held", number(totals.small_held), "small_resident",
                     number(totals.small_resident), "metadata", number(totals.metadata));
}

/* The tiers' array, the sums over all of them, and how much of that is somebody else's. */
static json_t *tiers_json(struct tier_reading *ret_total, uint64_t *ret_borrowed)
{
    json_t *array = json_array();
    unsigned count = berth__tier_count();

    *ret_total = (struct tier_reading){0};
    *ret_borrowed = 0;
    for (unsigned id = 0; array && id < count; id++) {
        struct tier_reading reading;

        read_tier((berth_tier_id)id, &reading);
        add_cell(&ret_total->sum, &reading.sum);
        ret_total->reserved += reading.reserved;
        ret_total->cached += reading.cached;
        ret_total->overhead += reading.overhead;
        if (berth__tier((berth_tier_id)id)->kind == BERTH_KIND_SHARED)
            *ret_borrowed += reading.reserved;
        if (json_array_append_new(array, tier_json(berth__tier((berth_tier_id)id), &reading)) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

/* What waits for work on a device, and how blocks went from stream to stream. */
static json_t *order_json(void)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I}", "waiting",
                     number(berth__lazy_waiting(BERTH_POOL_ALL_DEVICES)), "points",
                     number(load(&berth__lazy_counts.points)), "waits",
                     number(load(&berth__lazy_counts.waits)), "idle_reuses",
                     number(load(&berth__stream_counts.idle_reuses)), "waiting_reuses",
                     number(load(&berth__stream_counts.waiting_reuses)));
}

/*
 * What the devices have given to others than the tiers: to the driver itself, for code, contexts
 * and stacks, to graphs, and to other processes. null where the driver does not say.
 */
static json_t *device_json(void)
{
    uint64_t free_size, total_size, used, reserved = 0;

    if (!berth__pool_room(&free_size, &total_size))
        return json_null();
    for (unsigned id = 0; id < berth__tier_count(); id++)
        if (berth__tier((berth_tier_id)id)->kind == BERTH_KIND_DEVICE)
            reserved += load(&berth__tier_stats[id].reserved);
    used = total_size - free_size;
    return json_pack("{s:I,s:I,s:I}", "total", number(total_size), "free", number(free_size),
                     "others", number(used > reserved ? used - reserved : 0));
}

int berth__account_add(json_t *object)
{
    struct tier_reading total;
    uint64_t small = 0, borrowed;
    json_t *sums;

    /* First of all: it brings the tiers' counters of cached bytes up to date. */
    if (json_object_set_new(object, "host", host_json(&small)) < 0 ||
        json_object_set_new(object, "tiers", tiers_json(&total, &borrowed)) < 0 ||
        json_object_set_new(object, "order", order_json()) < 0 ||
        json_object_set_new(object, "device", device_json()) < 0)
        return -ENOMEM;
    sums = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "requested", number(total.sum.requested),
                     "held", number(total.sum.held), "blocks", number(total.sum.blocks), "reserved",
                     number(total.reserved), "cached", number(total.cached), "overhead",
                     number(total.overhead), "borrowed", number(borrowed), "held_with_small",
                     number(total.sum.held + small));
    return json_object_set_new(object, "totals", sums) < 0 ? -ENOMEM : 0;
}
