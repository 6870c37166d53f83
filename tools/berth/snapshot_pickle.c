/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/snapshot_pickle.h"

#include "tools/berth/pickle.h"
#include "tools/berth/tool.h"

#include <stdlib.h>
#include <string.h>

#define NOT_KEPT UINT32_MAX

struct writer {
    struct berth_pickle pickle;
    const struct berth_snapshot *snapshot;
    uint32_t *path;      /* the number of each path's list of frames, once it was written */
    uint32_t empty_path; /* that of the empty one */
};

static void key_integer(struct writer *writer, const char *key, int64_t value)
{
    berth__pickle_word(&writer->pickle, key);
    berth__pickle_integer(&writer->pickle, value);
}

static void key_word(struct writer *writer, const char *key, const char *word)
{
    berth__pickle_word(&writer->pickle, key);
    berth__pickle_word(&writer->pickle, word);
}

static void key_bool(struct writer *writer, const char *key, bool value)
{
    berth__pickle_word(&writer->pickle, key);
    berth__pickle_bool(&writer->pickle, value);
}

static void put_path(struct writer *writer, const struct berth_snapshot_path *path)
{
    struct berth_pickle *pickle = &writer->pickle;

    berth__pickle_list(pickle);
    berth__pickle_open(pickle);
    for (uint32_t i = 0; path && i < path->count; i++) {
        berth__pickle_dict(pickle);
        berth__pickle_open(pickle);
        key_word(writer, "name", path->frame[i].function);
        key_word(writer, "filename", path->frame[i].module);
        key_integer(writer, "line", 0);
        berth__pickle_close_dict(pickle);
    }
    berth__pickle_close_list(pickle);
}

/* The frames of a site: the same list for all that name it. */
static void key_frames(struct writer *writer, uint32_t site)
{
    size_t index = berth__snapshot_find_path(writer->snapshot, site);
    uint32_t *kept = index == SIZE_MAX ? &writer->empty_path : &writer->path[index];

    berth__pickle_word(&writer->pickle, "frames");
    if (*kept != NOT_KEPT) {
        berth__pickle_kept(&writer->pickle, *kept);
        return;
    }
    put_path(writer, index == SIZE_MAX ? NULL : &writer->snapshot->path[index]);
    *kept = berth__pickle_keep(&writer->pickle);
}

static const char *state_name(unsigned use)
{
    switch (use) {
    case BERTH_USE_LIVE:
        return "active_allocated";
    case BERTH_USE_WAITING:
        return "active_pending_free";
    default:
        return "inactive";
    }
}

static void put_block(struct writer *writer, const struct berth_block_row *block)
{
    berth__pickle_dict(&writer->pickle);
    berth__pickle_open(&writer->pickle);
    key_integer(writer, "address", (int64_t)block->address);
    key_integer(writer, "size", (int64_t)block->size);
    key_integer(writer, "requested_size", (int64_t)block->requested);
    key_word(writer, "state", state_name(block->use));
    key_word(writer, "tag", berth__tag_name(block->tag));
    key_frames(writer, block->site);
    berth__pickle_close_dict(&writer->pickle);
}

static void put_sums(struct writer *writer, const struct berth_snapshot_segment *segment)
{
    uint64_t allocated = 0, active = 0, requested = 0;

    for (uint32_t i = 0; i < segment->row.blocks; i++) {
        const struct berth_block_row *block = &segment->block[i];

        if (block->use != BERTH_USE_FREE)
            active += block->size;
        if (block->use != BERTH_USE_LIVE)
            continue;
        allocated += block->size;
        requested += block->requested;
    }
    key_integer(writer, "allocated_size", (int64_t)allocated);
    key_integer(writer, "active_size", (int64_t)active);
    key_integer(writer, "requested_size", (int64_t)requested);
}

/* Which pool of Berth's it is of, in the words of the page: it draws these apart. */
static int pool_of(const struct berth_segment_row *row)
{
    return row->use == BERTH_USE_STREAM ? 1 : row->use == BERTH_USE_FOREIGN ? 2 : 0;
}

static bool has_many_blocks(const struct berth_segment_row *row)
{
    return row->use == BERTH_USE_SHARED || row->use == BERTH_USE_RANGE ||
           row->use == BERTH_USE_BORROWED;
}

static void put_segment(struct writer *writer, const struct berth_snapshot_segment *segment)
{
    static const char *const uses[] = {"shared", "whole", "stream", "driver", "range", "borrowed"};
    struct berth_pickle *pickle = &writer->pickle;
    const struct berth_segment_row *row = &segment->row;

    berth__pickle_dict(pickle);
    berth__pickle_open(pickle);
    key_integer(writer, "device", row->device);
    key_integer(writer, "address", (int64_t)row->base);
    key_integer(writer, "total_size", (int64_t)row->size);
    put_sums(writer, segment);
    key_integer(writer, "stream", 0);
    key_word(writer, "segment_type", has_many_blocks(row) ? "small" : "large");
    berth__pickle_word(pickle, "segment_pool_id");
    berth__pickle_integer(pickle, 0);
    berth__pickle_integer(pickle, pool_of(row));
    berth__pickle_pair(pickle);
    key_bool(writer, "is_expandable", row->use == BERTH_USE_RANGE);
    key_word(writer, "use", row->use < 6 ? uses[row->use] : "shared");
    key_frames(writer, has_many_blocks(row) ? 0 : segment->block[0].site);
    berth__pickle_word(pickle, "blocks");
    berth__pickle_list(pickle);
    berth__pickle_open(pickle);
    for (uint32_t i = 0; i < row->blocks; i++) {
        berth__pickle_next(pickle, i);
        put_block(writer, &segment->block[i]);
    }
    berth__pickle_close_list(pickle);
    berth__pickle_close_dict(pickle);
}

/* Host memory that the driver pins is in the account, and not on a device. */
static bool is_on_device(const struct berth_segment_row *row)
{
    return row->blocks > 0 && !(row->use == BERTH_USE_FOREIGN && row->tier == BERTH_TIER_PINNED);
}

static void put_segments(struct writer *writer)
{
    const struct berth_snapshot *snapshot = writer->snapshot;
    uint64_t count = 0;

    berth__pickle_list(&writer->pickle);
    berth__pickle_open(&writer->pickle);
    for (size_t i = 0; i < snapshot->segments; i++) {
        if (!is_on_device(&snapshot->segment[i].row))
            continue;
        berth__pickle_next(&writer->pickle, count++);
        put_segment(writer, &snapshot->segment[i]);
    }
    berth__pickle_close_list(&writer->pickle);
}

static void put_event(struct writer *writer, const char *action, uint64_t address, uint64_t size,
                      uint64_t stream, uint32_t site, uint64_t time_ns)
{
    const struct berth_snapshot_header *header = &writer->snapshot->header;
    uint64_t age = header->time_ns > time_ns ? header->time_ns - time_ns : 0;
    bool is_refused = strcmp(action, "oom") == 0;

    berth__pickle_dict(&writer->pickle);
    berth__pickle_open(&writer->pickle);
    key_word(writer, "action", action);
    key_integer(writer, is_refused ? "device_free" : "addr", (int64_t)address);
    key_integer(writer, "size", (int64_t)size);
    key_integer(writer, "stream", (int64_t)stream);
    key_integer(writer, "time_us", (int64_t)((header->time_real_ns - age) / 1000));
    key_frames(writer, site);
    berth__pickle_close_dict(&writer->pickle);
}

/*
 * Memory that went back to the driver while the history was kept: the page goes back in time, and
 * then looks for the segment of each block that it meets. Events outside today's segments get one,
 * as long as what they speak of.
 */
struct former {
    uint64_t base, end;
    size_t first, last; /* records that speak of it */
};

static int by_base(const void *a, const void *b)
{
    const struct former *one = a, *other = b;

    return one->base < other->base ? -1 : one->base > other->base;
}

/* The former segments of a device's history, by address, apart from each other; how many. */
static size_t find_formers(const struct berth_snapshot *snapshot, unsigned device,
                           struct former **ret)
{
    struct former *former = berth__tool_realloc(NULL, (snapshot->records + 1) * sizeof(*former));
    size_t count = 0, joined = 0;

    for (size_t i = 0; i < snapshot->records; i++) {
        const struct berth_trace_record *record = &snapshot->record[i];
        const struct berth_snapshot_segment *segment =
            berth__snapshot_find(snapshot, record->address);

        if (record->device != device || record->action == BERTH_TRACE_FAILURE ||
            (segment && is_on_device(&segment->row)))
            continue;
        former[count++] = (struct former){record->address,
                                          record->address + (record->held        ? record->held
                                                             : record->requested ? record->requested
                                                                                 : 1),
                                          i, i};
    }
    qsort(former, count, sizeof(*former), by_base);
    for (size_t i = 0; i < count; i++) {
        struct former *last = joined ? &former[joined - 1] : NULL;

        if (!last || former[i].base >= last->end) {
            former[joined++] = former[i];
            continue;
        }
        if (former[i].end > last->end)
            last->end = former[i].end;
        if (former[i].first < last->first)
            last->first = former[i].first;
        if (former[i].last > last->last)
            last->last = former[i].last;
    }
    *ret = former;
    return joined;
}

static struct former *former_of(struct former *former, size_t count, uint64_t address)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (address < former[middle].base)
            high = middle;
        else if (address >= former[middle].end)
            low = middle + 1;
        else
            return &former[middle];
    }
    return NULL;
}

/* The events that one record stands for; how many. */
static unsigned put_record(struct writer *writer, size_t index, const struct former *former)
{
    const struct berth_trace_record *record = &writer->snapshot->record[index];
    unsigned events = 0;

    if (record->action == BERTH_TRACE_FAILURE) {
        put_event(writer, "oom", record->held, record->requested, record->stream, record->site,
                  record->time_ns);
        return 1;
    }
    if (former && former->first == index && record->action == BERTH_TRACE_ALLOCATE) {
        put_event(writer, "segment_alloc", former->base, former->end - former->base, 0, 0,
                  record->time_ns);
        events++;
    }
    if (record->action == BERTH_TRACE_ALLOCATE) {
        put_event(writer, "alloc", record->address, record->requested, record->stream, record->site,
                  record->time_ns);
        events++;
    } else {
        put_event(writer, "free_requested", record->address, record->requested, record->stream,
                  record->site, record->time_ns);
        put_event(writer, "free_completed", record->address, record->requested, record->stream,
                  record->site, record->time_ns);
        events += 2;
    }
    if (former && former->last == index) {
        put_event(writer, "segment_free", former->base, former->end - former->base, 0, 0,
                  record->time_ns);
        events++;
    }
    return events;
}

static void put_trace(struct writer *writer, unsigned device)
{
    const struct berth_snapshot *snapshot = writer->snapshot;
    struct former *former = NULL;
    size_t formers = find_formers(snapshot, device, &former);
    uint64_t part = 0;

    berth__pickle_list(&writer->pickle);
    berth__pickle_open(&writer->pickle);
    for (size_t i = 0; i < snapshot->records; i++) {
        if (snapshot->record[i].device != device)
            continue;
        /* A record stands for up to four events: parts are counted in records. */
        berth__pickle_next(&writer->pickle, part++);
        put_record(writer, i, former_of(former, formers, snapshot->record[i].address));
    }
    berth__pickle_close_list(&writer->pickle);
    free(former);
}

static void put_traces(struct writer *writer)
{
    berth__pickle_list(&writer->pickle);
    berth__pickle_open(&writer->pickle);
    for (unsigned device = 0; device < writer->snapshot->devices; device++)
        put_trace(writer, device);
    berth__pickle_close_list(&writer->pickle);
}

static bool setting_is(const struct berth_snapshot *snapshot, const char *name, const char *value)
{
    for (size_t i = 0; i < snapshot->settings; i++)
        if (strcmp(snapshot->setting[i].name, name) == 0)
            return strcmp(snapshot->setting[i].value, value) == 0;
    return false;
}

/* What PyTorch's allocator would say of settings that mean the same; and Berth's own. */
static void put_settings(struct writer *writer)
{
    const struct berth_snapshot *snapshot = writer->snapshot;
    struct berth_pickle *pickle = &writer->pickle;

    berth__pickle_dict(pickle);
    berth__pickle_open(pickle);
    key_word(writer, "PYTORCH_CUDA_ALLOC_CONF", "");
    key_integer(writer, "max_split_size", -1);
    berth__pickle_word(pickle, "garbage_collection_threshold");
    berth__pickle_real(pickle, 0.0);
    key_bool(writer, "expandable_segments", setting_is(snapshot, "segments", "expandable"));
    key_integer(writer, "pinned_num_register_threads", 1);
    key_bool(writer, "release_lock_on_cudamalloc", true);
    key_bool(writer, "pinned_use_cuda_host_register", false);
    berth__pickle_word(pickle, "roundup_power2_divisions");
    berth__pickle_dict(pickle);
    berth__pickle_word(pickle, "berth");
    berth__pickle_dict(pickle);
    berth__pickle_open(pickle);
    for (size_t i = 0; i < snapshot->settings; i++)
        key_word(writer, snapshot->setting[i].name, snapshot->setting[i].value);
    berth__pickle_close_dict(pickle);
    berth__pickle_close_dict(pickle);
}

void berth__snapshot_pickle(const struct berth_snapshot *snapshot, FILE *out)
{
    struct writer writer = {.snapshot = snapshot, .empty_path = NOT_KEPT};

    writer.path = berth__tool_realloc(NULL, (snapshot->paths + 1) * sizeof(*writer.path));
    for (size_t i = 0; i < snapshot->paths; i++)
        writer.path[i] = NOT_KEPT;
    berth__pickle_begin(&writer.pickle, out);
    berth__pickle_dict(&writer.pickle);
    berth__pickle_open(&writer.pickle);
    berth__pickle_word(&writer.pickle, "segments");
    put_segments(&writer);
    berth__pickle_word(&writer.pickle, "device_traces");
    put_traces(&writer);
    berth__pickle_word(&writer.pickle, "allocator_settings");
    put_settings(&writer);
    berth__pickle_close_dict(&writer.pickle);
    berth__pickle_end(&writer.pickle);
    free(writer.path);
}
