/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever the bytes of a trace, a recording or a snapshot are, they are refused with a
 * reason or they are safe to use, and what is written again of them is good.
 * Method: valid files with seeded random damage; what is accepted is read whole, written and read
 * once more. LLVMFuzzerTestOneInput is libFuzzer's entry; built with -DBERTH_LIBFUZZER, main is
 * left to it. `fuzz_trace ROUNDS [SEED]`.
 */
#include "tests/random_numbers.h"
#include "tools/berth/snapshot_pickle.h"
#include "tools/berth/trace_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static unsigned accepted[3];

/* Every index is in range, and matches are mutual. */
static void check_log(const struct berth_trace_log *log)
{
    uint64_t sum = 0;

    must(log->site_count > 0 && log->site[0][0] == '\0');
    for (uint32_t i = 0; i < log->count; i++) {
        const struct berth_trace_event *event = &log->event[i];

        must(event->site < log->site_count);
        must(event->tag < BERTH_TAG_COUNT && event->kind < BERTH_TRACE_KIND_COUNT);
        must(event->action < BERTH_TRACE_EXISTING);
        must(event->match == BERTH_TRACE_NONE || event->match < log->count);
        if (event->action == BERTH_TRACE_FREE && event->match != BERTH_TRACE_NONE) {
            must(event->match < i && log->event[event->match].match == i);
            must(log->event[event->match].action == BERTH_TRACE_ALLOCATE);
        }
        sum += event->action == BERTH_TRACE_ALLOCATE ? event->size : 0;
    }
    must(log->max_live <= sum);
    must(log->leftovers <= log->allocations && log->allocations <= log->count);
}

/* What is written is read again, line for line. */
static void check_written(const struct berth_trace_log *log)
{
    char *text = NULL, why[BERTH_TRACE_WHY_MAX] = "";
    struct berth_trace_log again;
    uint32_t lines = 0;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    must(out);
    berth__trace_csv_write(log, 1, out);
    must(fclose(out) == 0);
    for (uint32_t i = 0; i < log->count; i++) {
        const struct berth_trace_event *event = &log->event[i];

        lines += event->action != BERTH_TRACE_NOTHING;
    }
    if (berth__trace_csv_parse("again", text, size, &again, why) != 0) {
        fprintf(stderr, "%s\n%.*s\n", why, (int)size, text);
        abort();
    }
    must(again.count == lines && again.max_live == log->max_live);
    check_log(&again);
    berth__trace_log_done(&again);
    free(text);
}

static void try_log(int is_recording, const uint8_t *data, size_t size)
{
    char why[BERTH_TRACE_WHY_MAX] = "";
    struct berth_trace_log log;
    uint64_t started = 0;
    int r = is_recording ? berth__trace_recording_parse("fuzz", data, size, &log, &started, why)
                         : berth__trace_csv_parse("fuzz", (const char *)data, size, &log, why);

    if (r == 0) {
        accepted[is_recording]++;
        check_log(&log);
        check_written(&log);
    } else {
        must(strlen(why) > 0 && strlen(why) < sizeof(why));
    }
    berth__trace_log_done(&log);
}

static void try_snapshot(const uint8_t *data, size_t size)
{
    char why[BERTH_SNAPSHOT_WHY_MAX] = "", *bytes = NULL;
    struct berth_snapshot snapshot;
    size_t length = 0;
    FILE *out;

    if (berth__snapshot_parse(data, size, &snapshot, why) == 0) {
        accepted[2]++;
        out = open_memstream(&bytes, &length);
        must(out);
        berth__snapshot_pickle(&snapshot, out);
        must(fclose(out) == 0);
        must(length > 4 && memcmp(bytes, "\x80\x02}(", 4) == 0 && bytes[length - 1] == '.');
        free(bytes);
    } else {
        must(strlen(why) > 0);
    }
    berth__snapshot_done(&snapshot);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1);

    must(copy);
    /* A copy of just that size: what lies behind it is the sanitizer's. */
    copy = realloc(copy, size ? size : 1);
    memcpy(copy, data, size);
    if (berth__trace_is_recording(copy, size))
        try_log(1, copy, size);
    else if (size > 8 && memcmp(copy, BERTH_SNAPSHOT_MAGIC, 8) == 0)
        try_snapshot(copy, size);
    else
        try_log(0, copy, size);
    free(copy);
    return 0;
}

#ifndef BERTH_LIBFUZZER

#define ROOM 131072

static size_t put(uint8_t *to, size_t at, const void *bytes, size_t size)
{
    must(at + size <= ROOM);
    memcpy(to + at, bytes, size);
    return at + size;
}

static size_t make_text(uint8_t *to)
{
    static const char *const heads[] = {
        "Thread,Time,Action,Pointer,Size,Stream,Tag,Site,Device,Kind\n",
        "thread,time_us,action,pointer,size,stream,tag,site,device,kind\n"};
    size_t at = 0, head = random_below(2);
    char line[256];

    at = put(to, at, heads[head], strlen(heads[head]));
    for (size_t i = 0; i < 12; i++) {
        int n = snprintf(line, sizeof(line),
                         "%zu,%zu.%zu,%s,0x%zx,%zu,0x%zx,weight,\"a,b\"\"%zu\",%zu,async\r\n",
                         random_below(3), i, random_below(1000),
                         random_below(3) ? "allocate" : "free", 1 + random_below(6) * 4096,
                         1 + random_below(9999), random_below(4), random_below(3), random_below(2));

        at = put(to, at, line, (size_t)n);
    }
    return at;
}

static struct berth_trace_record make_record(uint64_t number)
{
    struct berth_trace_record record = {
        .stamp = number + 1,
        .time_ns = number * 1000,
        .address = 4096 * (1 + random_below(8)),
        .requested = 1 + random_below(5000),
        .held = 8192,
        .site = (uint32_t)random_below(4),
        .action = (uint8_t)(1 + random_below(BERTH_TRACE_ACTION_COUNT - 1)),
        .tag = (uint8_t)random_below(BERTH_TAG_COUNT),
        .kind = (uint8_t)random_below(BERTH_TRACE_KIND_COUNT),
    };

    if (record.action == BERTH_TRACE_SITE) {
        memcpy(record.text, "module!function+0x12>mo", 24);
        record.address = random_below(3) * 24;
    }
    return record;
}

static size_t make_recording(uint8_t *to)
{
    struct berth_trace_header header = {.magic = BERTH_TRACE_MAGIC,
                                        .header_size = BERTH_TRACE_HEADER_SIZE,
                                        .record_size = sizeof(struct berth_trace_record)};
    size_t at = BERTH_TRACE_HEADER_SIZE;

    memset(to, 0, at);
    put(to, 0, &header, sizeof(header));
    for (uint64_t i = 0; i < 24; i++) {
        struct berth_trace_record record = make_record(i);

        at = put(to, at, &record, sizeof(record));
    }
    return at;
}

static size_t put_chunk(uint8_t *to, size_t at, uint32_t type, const void *bytes, size_t size)
{
    const struct berth_snapshot_chunk chunk = {.type = type, .size = size};

    at = put(to, at, &chunk, sizeof(chunk));
    return put(to, at, bytes, size);
}

static size_t make_snapshot(uint8_t *to)
{
    const struct berth_snapshot_header header = {.magic = BERTH_SNAPSHOT_MAGIC, .time_ns = 99999};
    struct {
        struct berth_segment_row row;
        struct berth_block_row block[3];
    } segment = {.row = {.blocks = 3, .size = 3072, .device = (int)random_below(3) - 1}};
    struct {
        struct berth_snapshot_site site;
        struct berth_snapshot_frame frame;
        char names[12];
    } site = {{1, 1}, {7, 6, 6}, "modulesymbol"};
    size_t at = put(to, 0, &header, sizeof(header));

    for (uint64_t s = 0; s < 2; s++) {
        segment.row.base = 65536 * (s + 1);
        segment.row.use = (uint8_t)random_below(4);
        for (uint64_t i = 0; i < 3; i++)
            segment.block[i] = (struct berth_block_row){.address = segment.row.base + 1024 * i,
                                                        .size = 1024,
                                                        .requested = random_below(1024),
                                                        .site = (uint32_t)random_below(3),
                                                        .use = (uint8_t)random_below(3)};
        at = put_chunk(to, at, BERTH_SNAPSHOT_SEGMENT, &segment, sizeof(segment));
    }
    for (uint64_t i = 0; i < 9; i++) {
        struct berth_trace_record record = make_record(i);

        at = put_chunk(to, at, BERTH_SNAPSHOT_HISTORY, &record, sizeof(record));
    }
    at = put_chunk(to, at, BERTH_SNAPSHOT_SITE, &site, sizeof(site));
    at = put_chunk(to, at, BERTH_SNAPSHOT_OPTION, "history\0001000", 13);
    return put_chunk(to, at, BERTH_SNAPSHOT_END, "", 0);
}

/* One damage behind `first`; the new size. */
static size_t damage(uint8_t *bytes, size_t first, size_t size)
{
    size_t at = first + random_below(size - first), n = random_below(32);

    switch (random_below(5)) {
    case 0:
        bytes[at] = (uint8_t)random_next();
        return size;
    case 1:
        bytes[at] ^= (uint8_t)(1U << random_below(8));
        return size;
    case 2:
        return at;
    case 3:
        n = n < size - at ? n : size - at;
        memmove(bytes + at, bytes + at + n, size - at - n);
        return size - n;
    default:
        memset(bytes + at, random_below(2) ? 0xff : ',', n < size - at ? n : size - at);
        return size;
    }
}

int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 20000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 20260101;
    static size_t (*const makers[])(uint8_t *) = {make_text, make_recording, make_snapshot};
    uint8_t *bytes = malloc(ROOM);

    must(bytes);
    printf("seed %llu, %lu rounds\n", (unsigned long long)seed, rounds);
    random_start(seed);
    for (unsigned long i = 0; i < rounds; i++) {
        size_t size = makers[i % 3](bytes);
        /* A recording's header is mostly not looked at. */
        size_t first = i % 3 == 1 && random_below(20) ? BERTH_TRACE_HEADER_SIZE : 0;

        for (size_t n = random_below(4); n > 0 && size > first + 1; n--)
            size = damage(bytes, first, size);
        LLVMFuzzerTestOneInput(bytes, size);
    }
    free(bytes);
    printf("accepted: %u texts, %u recordings, %u snapshots\n", accepted[0], accepted[1],
           accepted[2]);
    return accepted[0] && accepted[1] && accepted[2] ? 0 : 1;
}

#endif
