/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/snapshot_data.h"

#include "tools/berth/tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A device's number; a higher one is a mistake. */
#define DEVICE_MAX 1024

struct reader {
    const unsigned char *at, *end;
    char *why;
};

static int fail(const struct reader *reader, const char *what)
{
    snprintf(reader->why, BERTH_SNAPSHOT_WHY_MAX, "the snapshot was not understood: %s", what);
    return -EINVAL;
}

static int take(struct reader *reader, void *ret, size_t size)
{
    if ((size_t)(reader->end - reader->at) < size)
        return fail(reader, "it ends too early");
    memcpy(ret, reader->at, size);
    reader->at += size;
    return 0;
}

/* Room for one more element. */
static void *reserve(void *array, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return array;
    *room = *room * 2 + 64;
    return berth__tool_realloc(array, *room * size);
}

bool berth__snapshot_has_kind(const struct berth_trace_record *record)
{
    return record->kind == BERTH_TRACE_DEVICE || record->kind == BERTH_TRACE_PITCH ||
           record->kind == BERTH_TRACE_ASYNC || record->kind == BERTH_TRACE_FROM_POOL;
}

/* Whether the blocks lie one after the other, and fill the segment. */
static bool is_tiled(const struct berth_snapshot_segment *segment)
{
    uint64_t at = segment->row.base;

    for (uint32_t i = 0; i < segment->row.blocks; i++) {
        const struct berth_block_row *block = &segment->block[i];

        if (block->address != at || block->size > segment->row.base + segment->row.size - at ||
            block->requested > block->size || block->tag >= BERTH_TAG_COUNT)
            return false;
        at += block->size;
    }
    return at == segment->row.base + segment->row.size;
}

static int read_segment(struct reader *reader, struct berth_snapshot *snapshot)
{
    struct berth_snapshot_segment segment = {0};
    uint64_t end;
    size_t size;

    if (take(reader, &segment.row, sizeof(segment.row)) < 0)
        return -EINVAL;
    size = segment.row.blocks * sizeof(*segment.block);
    if (size != (size_t)(reader->end - reader->at) || segment.row.device >= DEVICE_MAX ||
        __builtin_add_overflow(segment.row.base, segment.row.size, &end))
        return fail(reader, "a segment contradicts itself");
    segment.block = berth__tool_realloc(NULL, size + 1);
    memcpy(segment.block, reader->at, size);
    if (!is_tiled(&segment)) {
        free(segment.block);
        return fail(reader, "blocks do not fill their segment");
    }
    snapshot->segment = reserve(snapshot->segment, snapshot->segments, &snapshot->segment_room,
                                sizeof(*snapshot->segment));
    snapshot->segment[snapshot->segments++] = segment;
    return 0;
}

static int read_history(struct reader *reader, struct berth_snapshot *snapshot)
{
    size_t count = (size_t)(reader->end - reader->at) / sizeof(struct berth_trace_record);

    if (count * sizeof(*snapshot->record) != (size_t)(reader->end - reader->at))
        return fail(reader, "half a record");
    snapshot->record = berth__tool_realloc(snapshot->record, (snapshot->records + count + 1) *
                                                                 sizeof(*snapshot->record));
    for (size_t i = 0; i < count; i++) {
        struct berth_trace_record *record = &snapshot->record[snapshot->records];

        take(reader, record, sizeof(*record));
        if (record->device >= DEVICE_MAX)
            return fail(reader, "a record of a device that cannot be");
        /* Only what a snapshot has a word for. */
        if (berth__snapshot_has_kind(record) &&
            ((record->action == BERTH_TRACE_ALLOCATE || record->action == BERTH_TRACE_FREE)
                 ? record->address != 0
                 : record->action == BERTH_TRACE_FAILURE))
            snapshot->records++;
    }
    return 0;
}

static int read_frame(struct reader *reader, struct berth_snapshot_name *ret)
{
    struct berth_snapshot_frame frame;
    const char *module, *symbol;

    if (take(reader, &frame, sizeof(frame)) < 0)
        return -EINVAL;
    if (frame.module_length > (size_t)(reader->end - reader->at) ||
        frame.symbol_length > (size_t)(reader->end - reader->at) - frame.module_length)
        return fail(reader, "a name is longer than the snapshot");
    module = (const char *)reader->at;
    symbol = module + frame.module_length;
    reader->at += frame.module_length + frame.symbol_length;
    ret->module = berth__tool_format("%.*s", (int)frame.module_length, module);
    ret->function = berth__tool_format("%.*s+0x%llx", (int)frame.symbol_length, symbol,
                                       (unsigned long long)frame.offset);
    return 0;
}

static int read_site(struct reader *reader, struct berth_snapshot *snapshot)
{
    struct berth_snapshot_site site;
    struct berth_snapshot_path *path;
    int r = 0;

    if (take(reader, &site, sizeof(site)) < 0)
        return -EINVAL;
    if (site.frames > (size_t)(reader->end - reader->at) / sizeof(struct berth_snapshot_frame) ||
        (snapshot->paths > 0 && site.site <= snapshot->path[snapshot->paths - 1].site))
        return fail(reader, "a call path contradicts the others");
    snapshot->path =
        reserve(snapshot->path, snapshot->paths, &snapshot->path_room, sizeof(*snapshot->path));
    path = &snapshot->path[snapshot->paths++];
    *path = (struct berth_snapshot_path){.site = site.site};
    path->frame = berth__tool_realloc(NULL, (site.frames + 1) * sizeof(*path->frame));
    for (uint32_t i = 0; r == 0 && i < site.frames; i++) {
        r = read_frame(reader, &path->frame[i]);
        path->count += r == 0;
    }
    return r;
}

static int read_option(struct reader *reader, struct berth_snapshot *snapshot)
{
    size_t size = (size_t)(reader->end - reader->at);
    const char *name = (const char *)reader->at;
    size_t length = strnlen(name, size);

    if (length + 2 > size || strnlen(name + length + 1, size - length - 1) != size - length - 2)
        return fail(reader, "an option has no end");
    snapshot->setting = reserve(snapshot->setting, snapshot->settings, &snapshot->setting_room,
                                sizeof(*snapshot->setting));
    snapshot->setting[snapshot->settings++] = (struct berth_snapshot_setting){
        berth__tool_strdup(name), berth__tool_strdup(name + length + 1)};
    return 0;
}

static int by_address(const void *a, const void *b)
{
    const struct berth_snapshot_segment *one = a, *other = b;

    return one->row.base < other->row.base ? -1 : one->row.base > other->row.base;
}

/* Memory whose device the process does not know is where the history says, else on the first. */
static void find_devices(struct berth_snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot->records; i++) {
        const struct berth_trace_record *record = &snapshot->record[i];
        struct berth_snapshot_segment *segment =
            (struct berth_snapshot_segment *)berth__snapshot_find(snapshot, record->address);

        if (segment && segment->row.device < 0 && segment->row.base == record->address)
            segment->row.device = record->device;
        if (record->device >= snapshot->devices)
            snapshot->devices = record->device + 1u;
    }
    for (size_t i = 0; i < snapshot->segments; i++) {
        if (snapshot->segment[i].row.device < 0)
            snapshot->segment[i].row.device = 0;
        if ((unsigned)snapshot->segment[i].row.device >= snapshot->devices)
            snapshot->devices = (unsigned)snapshot->segment[i].row.device + 1;
    }
}

static int read_chunks(struct reader *all, struct berth_snapshot *snapshot)
{
    static int (*const readers[])(struct reader *, struct berth_snapshot *) = {
        [BERTH_SNAPSHOT_SEGMENT] = read_segment,
        [BERTH_SNAPSHOT_HISTORY] = read_history,
        [BERTH_SNAPSHOT_SITE] = read_site,
        [BERTH_SNAPSHOT_OPTION] = read_option,
    };

    for (;;) {
        struct berth_snapshot_chunk chunk;
        struct reader part;

        if (take(all, &chunk, sizeof(chunk)) < 0)
            return -EINVAL;
        if (chunk.type == BERTH_SNAPSHOT_END)
            return 0;
        if (chunk.type >= BERTH_SNAPSHOT_TYPE_COUNT || chunk.size > (uint64_t)(all->end - all->at))
            return fail(all, "a chunk is longer than the whole, or of an unknown type");
        part = (struct reader){all->at, all->at + chunk.size, all->why};
        all->at += chunk.size;
        if (readers[chunk.type](&part, snapshot) < 0)
            return -EINVAL;
    }
}

int berth__snapshot_parse(const void *bytes, size_t size, struct berth_snapshot *ret,
                          char why[BERTH_SNAPSHOT_WHY_MAX])
{
    struct reader reader = {bytes, (const unsigned char *)bytes + size, why};
    int r;

    memset(ret, 0, sizeof(*ret));
    ret->devices = 1;
    if (take(&reader, &ret->header, sizeof(ret->header)) < 0)
        return -EINVAL;
    if (memcmp(ret->header.magic, BERTH_SNAPSHOT_MAGIC, sizeof(BERTH_SNAPSHOT_MAGIC)) != 0)
        return fail(&reader, "it is of another version of berth");
    r = read_chunks(&reader, ret);
    if (r < 0)
        return r;
    if (ret->segments > 0)
        qsort(ret->segment, ret->segments, sizeof(*ret->segment), by_address);
    find_devices(ret);
    return 0;
}

void berth__snapshot_done(struct berth_snapshot *snapshot)
{
    for (size_t i = 0; i < snapshot->segments; i++)
        free(snapshot->segment[i].block);
    for (size_t i = 0; i < snapshot->paths; i++) {
        for (uint32_t j = 0; j < snapshot->path[i].count; j++) {
            free(snapshot->path[i].frame[j].function);
            free(snapshot->path[i].frame[j].module);
        }
        free(snapshot->path[i].frame);
    }
    for (size_t i = 0; i < snapshot->settings; i++) {
        free(snapshot->setting[i].name);
        free(snapshot->setting[i].value);
    }
    free(snapshot->segment);
    free(snapshot->record);
    free(snapshot->path);
    free(snapshot->setting);
    memset(snapshot, 0, sizeof(*snapshot));
}

const struct berth_snapshot_segment *berth__snapshot_find(const struct berth_snapshot *snapshot,
                                                          uint64_t address)
{
    size_t low = 0, high = snapshot->segments;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct berth_segment_row *row = &snapshot->segment[middle].row;

        if (address < row->base)
            high = middle;
        else if (address - row->base >= row->size)
            low = middle + 1;
        else
            return &snapshot->segment[middle];
    }
    return NULL;
}

size_t berth__snapshot_find_path(const struct berth_snapshot *snapshot, uint32_t site)
{
    size_t low = 0, high = snapshot->paths;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (snapshot->path[middle].site == site)
            return middle;
        if (snapshot->path[middle].site < site)
            low = middle + 1;
        else
            high = middle;
    }
    return SIZE_MAX;
}
